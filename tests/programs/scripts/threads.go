// Goroutines on several threads, with channels, a timer and a garbage collector; prints what they came to.
package main

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"time"
)

func main() {
	runtime.GOMAXPROCS(4)
	jobs, results := make(chan int, 16), make(chan [32]byte, 16)
	var workers sync.WaitGroup
	for range [8]int{} {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for job := range jobs {
				block := make([]byte, 4096+job%1000)
				for i := range block {
					block[i] = byte(i * job)
				}
				sum := sha256.Sum256(block)
				for range [200]int{} {
					sum = sha256.Sum256(append(block, sum[:]...))
				}
				results <- sum
			}
		}()
	}
	go func() {
		for job := 0; job < 1500; job++ {
			jobs <- job
		}
		close(jobs)
		workers.Wait()
		close(results)
	}()
	ticker, ticks := time.NewTicker(10*time.Millisecond), 0
	var all [32]byte
	for count := 0; ; {
		select {
		case <-ticker.C:
			ticks++
		case sum, open := <-results:
			if !open {
				fmt.Printf("%d %x %v\n", count, all, ticks > 0)
				return
			}
			count++
			for i := range all {
				all[i] ^= sum[i]
			}
		}
	}
}

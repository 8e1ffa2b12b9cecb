"""Threads with a queue, a pool, locks, timers and events between them. Prints what they came to."""

import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

ROUNDS = int(sys.argv[1])

numbers, results = queue.Queue(maxsize=8), queue.Queue()


def worker():
    while (number := numbers.get()) is not None:
        results.put((number, sum(i * i % 7 for i in range(number))))


workers = [threading.Thread(target=worker) for _ in range(4)]
for thread in workers:
    thread.start()
for number in range(20 * ROUNDS):
    numbers.put(number * 5)
for _ in workers:
    numbers.put(None)
for thread in workers:
    thread.join()
print(sorted(results.get() for _ in range(results.qsize()))[-1], results.qsize())

with ThreadPoolExecutor(max_workers=3) as pool:
    print(sum(pool.map(lambda n: len(str(3**n)), range(ROUNDS * 10))))

counter, lock = 0, threading.Lock()


def count():
    global counter
    for _ in range(200 * ROUNDS):
        with lock:
            counter += 1


counters = [threading.Thread(target=count) for _ in range(3)]
for thread in counters:
    thread.start()
for thread in counters:
    thread.join()
print(counter == 600 * ROUNDS)

rung = threading.Event()
timer = threading.Timer(0.3, rung.set)
timer.start()
print(rung.wait(20))

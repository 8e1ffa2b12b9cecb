//! The worker: the process that is moved.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::memory::{self, Memory, exact};
use super::{Answer, number, since, unknown};

/// What new memory the mixed work asks for, bytes.
const FRESH_BYTES: usize = 4 << 20;
const PAGE_BYTES: usize = 4096;

/// A process with memory, which does whatever is measured.
#[derive(Debug)]
pub(super) struct Worker {
    memory: Memory,
    /// For files; kept, so that only the first use of it costs page faults.
    buffer: Vec<u8>,
}

impl Worker {
    pub(super) fn new(mebibytes: &str) -> io::Result<Self> {
        Ok(Worker { memory: Memory::new(number(mebibytes)?), buffer: Vec::new() })
    }

    pub(super) fn obey(&mut self, words: &[&str]) -> Answer {
        match *words {
            ["spin", milliseconds] => Ok(memory::spin(Duration::from_millis(number(milliseconds)?)).to_vec()),
            ["write-all"] => {
                self.memory.write();
                Ok(Vec::new())
            }
            ["walk", passes] => Ok(pair(self.memory.walk(number(passes)?))),
            ["compute", rounds] => Ok(pair(memory::compute(number(rounds)?))),
            ["compute", rounds, threads] => compute_by_threads(number(rounds)?, number(threads)?),
            ["calls", count] => Ok(vec![calls(number(count)?)]),
            ["read", path, block] => self.read(path, number(block)?),
            ["write", path, block, bytes] => self.write(path, number(block)?, number(bytes)?),
            ["grow", mebibytes, rate, seconds] => {
                Ok(vec![memory::grow(number(mebibytes)?, number(rate)?, number(seconds)?)])
            }
            ["mixed", rounds] => self.mixed(number(rounds)?),
            _ => Err(unknown(words)),
        }
    }

    /// Reads a whole file. Answers with the time, the bytes, and what the last block comes to.
    fn read(&mut self, path: &str, block: usize) -> Answer {
        let mut file = File::open(path)?;
        self.buffer.resize(block, 0);
        let (mut bytes, mut last) = (0, 0);
        let start = Instant::now();
        loop {
            match file.read(&mut self.buffer)? {
                0 => break,
                count => (bytes, last) = (bytes + count, count),
            }
        }
        let time = since(start);
        let content = self.buffer[..last].chunks_exact(8).fold(0u64, |state, word| {
            state.rotate_left(7) ^ u64::from_le_bytes(word.try_into().unwrap_or_default())
        });
        Ok(vec![time, bytes as f64, exact(content)])
    }

    /// Writes over the beginning of a file that exists. Answers with the time.
    fn write(&mut self, path: &str, block: usize, bytes: usize) -> Answer {
        let mut file = File::options().write(true).open(path)?;
        self.buffer.resize(block, 0);
        let start = Instant::now();
        let mut left = bytes;
        while left > 0 {
            let count = left.min(block);
            file.write_all(&self.buffer[..count])?;
            left -= count;
        }
        Ok(vec![since(start)])
    }

    /// A little of everything: memory, computing, calls, new memory.
    fn mixed(&mut self, rounds: u64) -> Answer {
        let start = Instant::now();
        let mut all = 0.0;
        for _ in 0..rounds {
            self.memory.write();
            all += self.memory.walk(1).1 + memory::compute(200_000).1;
            calls(2_000);
            let mut fresh = vec![0u8; FRESH_BYTES];
            fresh.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
            black_box(&fresh);
        }
        Ok(vec![since(start), black_box(all)])
    }
}

fn pair((time, content): (f64, f64)) -> Vec<f64> {
    vec![time, content]
}

/// The same by several threads at the same time, each as much. Answers with the time from the first one's beginning to the last one's
/// end, and what each came to.
fn compute_by_threads(rounds: u64, threads: usize) -> Answer {
    let all_are_there = Barrier::new(threads);
    let one = || {
        all_are_there.wait();
        let start = Instant::now();
        let (_, content) = memory::compute(rounds);
        (start, Instant::now(), content)
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let begun: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        begun.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let first = done.iter().map(|(start, ..)| *start).min();
    let last = done.iter().map(|(_, end, _)| *end).max();
    let (Some(first), Some(last)) = (first, last) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let content = done[0].2;
    if done.len() < threads || done.iter().any(|(.., other)| *other != content) {
        return Err(io::Error::other("threads came to different results"));
    }
    Ok(vec![(last - first).as_secs_f64() * 1e6, content])
}

/// Asks for the parent's PID, by a system call each time.
fn calls(count: u64) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        black_box(rustix::process::getppid());
    }
    since(start)
}

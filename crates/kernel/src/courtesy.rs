//! Threads that give way to whoever wants a processor, and those that may take one that nobody wants.
//!
//! For a thread that works in the background being nice is not enough where processors are few: the scheduler looks again
//! once a tick, which is up to four milliseconds, and whoever computes stands still that long however nice the other is. A
//! thread that works for a moment at a time and sleeps in between keeps nobody waiting longer than that moment; and when it
//! wakes it is put on a processor that is free, if there is one, where a thread that never sleeps stays on one that it has
//! to share.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The nice value of work that nobody waits for: a third of what others get on the same processor.
const NICE: i32 = 5;

/// How long to sleep when there are not enough processors. A piece of work between two looks takes about as long.
const NAP: Duration = Duration::from_micros(200);

/// How long to sleep when there may be enough, so that who waits for this very processor has it: one that runs may share a
/// processor for milliseconds beside an idle one. With less than this the time is over before the thread has begun to
/// sleep: then it goes on, and nobody else has run.
const BLINK: Duration = Duration::from_micros(20);

/// How long it may run before that: a quarter of a millisecond costs a stream of pages a fifth of its speed.
const GAZE: Duration = Duration::from_millis(1);

/// How late the thread may be woken, in nanoseconds, instead of 50 µs.
const SLACK_NS: libc::c_ulong = 1000;

/// The calling thread's manners. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Courtesy {
    machine: Machine,
    slept: Instant,
}

impl Courtesy {
    /// Makes the calling thread a nice one.
    #[must_use]
    pub fn of_this_thread() -> Self {
        // An absolute value: the thread may have been given a rude one by who started it. Refused, it takes its turn.
        // SAFETY: the call takes three numbers; Linux sets the calling thread only.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        // SAFETY: the option takes a number and concerns the calling thread only.
        let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
        Self { machine: Machine::new(), slept: Instant::now() }
    }

    /// To be called between two pieces of work of a fraction of a millisecond each: sleeps for a moment if others want to
    /// run, for a longer one if these are more than there are processors for.
    pub fn give_way(&mut self) {
        let pause = match self.machine.runnable() {
            Some(count) if count > self.machine.processors => NAP,
            Some(2..) if self.slept.elapsed() >= GAZE => BLINK,
            _ => return,
        };
        std::thread::sleep(pause);
        self.slept = Instant::now();
    }
}

/// Lets all threads of this program's process group be nice ones, when what is left to do is to tidy up: whoever waited for
/// what has been done goes on first. Not if all of them are as nice already.
pub fn nothing_is_left_to_do() {
    // Refused, they take their turn.
    // SAFETY: the calls take numbers only.
    unsafe {
        let group = libc::PRIO_PGRP;
        if libc::getpriority(group, 0) < NICE {
            let _ = libc::setpriority(group, 0, NICE);
        }
    }
}

/// Whether somebody may wait without giving its processor up: two others at least had nothing to do a moment ago.
pub fn processors_to_spare() -> bool {
    /// How long an answer is good for, in microseconds.
    const GOOD_FOR_US: u64 = 2000;
    const FEWEST: usize = 3;
    static MACHINE: OnceLock<(Machine, Instant)> = OnceLock::new();
    static LOOKED_US: AtomicU64 = AtomicU64::new(0);
    static SPARE: AtomicBool = AtomicBool::new(false);
    let (machine, began) = MACHINE.get_or_init(|| (Machine::new(), Instant::now()));
    if machine.processors < FEWEST {
        return false;
    }
    let now_us = began.elapsed().as_micros() as u64 + GOOD_FOR_US;
    if now_us - LOOKED_US.load(Ordering::Relaxed).min(now_us) >= GOOD_FOR_US {
        LOOKED_US.store(now_us, Ordering::Relaxed);
        let spare = machine.runnable().is_some_and(|count| count + 2 <= machine.processors);
        SPARE.store(spare, Ordering::Relaxed);
    }
    SPARE.load(Ordering::Relaxed)
}

/// How many want how many processors.
#[derive(Debug)]
struct Machine {
    /// `/proc/loadavg`; none where it cannot be read.
    load: Option<File>,
    processors: usize,
}

impl Machine {
    fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { load: File::open("/proc/loadavg").ok(), processors }
    }

    /// How many tasks of the machine run or wait for a processor, the caller included.
    fn runnable(&self) -> Option<usize> {
        let mut line = [0; 80];
        let count = self.load.as_ref()?.read_at(&mut line, 0).ok()?;
        runnable(std::str::from_utf8(&line[..count]).ok()?)
    }
}

/// The number before the slash in the fourth field (proc_loadavg(5)).
fn runnable(line: &str) -> Option<usize> {
    line.split_ascii_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_run_is_counted_at_this_moment() {
        assert_eq!(runnable("0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(runnable("0.20 0.18 0.12\n"), None);
        // This thread runs, at least.
        assert!(Courtesy::of_this_thread().machine.runnable().is_some_and(|count| count >= 1));
    }
}

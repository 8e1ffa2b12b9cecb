//! The stressors behind `docs/stress.md`: stress-ng as it runs alone, and moved all the while it runs.
//!
//! | module | what |
//! |---|---|
//! | [`report`] | what stress-ng says of a run |
//! | [`table`] | the page: what a run adds to it, and what stays |

pub mod report;
pub mod table;

use std::time::Duration;

use crate::program::{Program, Run};
use crate::shaken::{Shaken, Tally};
use crate::survey::INTERVAL;
use report::Report;

/// How long one runs alone: that is for the exit status and the rate.
const ALONE: Duration = Duration::from_secs(4);

/// How much longer than it was told to a stressor may take. Some clear away thousands of processes at their end.
const GRACE: Duration = Duration::from_secs(120);

/// The stressors, by stress-ng's names. Two instances of each run at a time.
pub const STRESSORS: [&str; 66] = [
    // What computes.
    "cpu",
    "matrix",
    "qsort",
    "str",
    "memcpy",
    "vecmath",
    "stack",
    // Memory.
    "vm",
    "vm-rw",
    "mmap",
    "mmapfork",
    "mremap",
    "mprotect",
    "mlock",
    "madvise",
    "brk",
    "malloc",
    "bigheap",
    "memfd",
    "shm",
    "shm-sysv",
    // Processes and threads.
    "fork",
    "vfork",
    "clone",
    "pthread",
    "exec",
    "spawn",
    "wait",
    "zombie",
    "session",
    "futex",
    "switch",
    "yield",
    "pidfd",
    "affinity",
    // Signals and time.
    "signal",
    "sigq",
    "sigrt",
    "sigfd",
    "sigpending",
    "sigsuspend",
    "kill",
    "timer",
    "timerfd",
    "itimer",
    "nanosleep",
    "clock",
    // What processes tell each other.
    "pipe",
    "eventfd",
    "epoll",
    "poll",
    "sock",
    "sockpair",
    "udp",
    "sem",
    "sem-sysv",
    "msg",
    "mq",
    "pty",
    // Files.
    "dup",
    "fcntl",
    "lockf",
    "inotify",
    "sendfile",
    "procfs",
    "hdd",
];

/// How a stressor fared.
#[derive(Debug)]
pub struct Outcome {
    alone: Report,
    moved: Report,
    tally: Tally,
    /// For how long it was moved about.
    time: Duration,
    /// What the nodes' daemons, deputies and hosts logged.
    pub logs: String,
}

impl Outcome {
    /// What is wrong with the run that was moved, if anything is.
    pub fn difference(&self) -> Option<String> {
        let (alone, moved) = (&self.alone, &self.moved);
        if moved.status != alone.status {
            return Some(format!("**status {}**, alone {}", moved.status, alone.status));
        }
        (moved.failures.len() > alone.failures.len()).then(|| format!("**{}**", moved.failures[0]))
    }

    /// What stress-ng said when it was moved.
    pub fn output(&self) -> &str {
        &self.moved.output
    }
}

/// Runs a stressor alone and, for this time, moved about.
pub fn run(stressor: &str, time: Duration) -> Outcome {
    let alone = program(stressor, ALONE).natively();
    let Shaken { run, tally, logs } = program(stressor, time).shaken();
    Outcome { alone: reported(&alone, stressor), moved: reported(&run, stressor), tally, time, logs }
}

fn program(stressor: &str, time: Duration) -> Program {
    let seconds = time.as_secs().to_string();
    let option = format!("--{stressor}");
    let words =
        ["stress-ng", option.as_str(), "2", "--timeout", seconds.as_str(), "--verify", "--metrics-brief"];
    Program::new(words).every(INTERVAL).within(time + GRACE)
}

fn reported(run: &Run, stressor: &str) -> Report {
    let output = [run.output(), run.errors()].concat();
    Report::new(run.status, stressor, &String::from_utf8_lossy(&output))
}

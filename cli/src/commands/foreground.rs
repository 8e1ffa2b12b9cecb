//! Signals while a program of the user's runs in the foreground.
//!
//! What is typed at a terminal reaches this program and the user's alike, and it is the user's to decide
//! what it means. What is sent to this program alone, to end it, is passed on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// While this lives, signals are the program's that it watches over.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: Handle,
    pid: Arc<AtomicI32>,
}

impl Foreground {
    /// From now on this program no longer ends at an interrupt.
    pub(super) fn hand_over() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let pid = Arc::new(AtomicI32::new(0));
        let watched = Arc::clone(&pid);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let signal = match signal {
                    SIGTERM => Signal::TERM,
                    SIGHUP => Signal::HUP,
                    _ => continue,
                };
                if let Some(pid) = Pid::from_raw(watched.load(Ordering::Relaxed)) {
                    // Fails only when the program has just ended, and then so will this one.
                    let _ = kill_process(pid, signal);
                }
            }
        });
        Ok(Foreground { signals: handle, pid })
    }

    /// The program to which signals are passed on.
    pub(super) fn watch_over(&self, pid: u32) {
        self.pid.store(i32::try_from(pid).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.signals.close();
    }
}

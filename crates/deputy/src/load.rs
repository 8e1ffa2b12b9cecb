//! A program that is sent away at its `execve` is loaded at home first.
//!
//! ```text
//!  execve ──► the loader: opens, reads and maps libraries, some dozen calls ──► the program's entry ──► away
//! ```
//!
//! Natively that takes half a millisecond. Away each of those calls would be made at home all the same, and each page that
//! the loader writes would come from here, a round trip each. So it goes where it ends, at the entry point that the kernel
//! tells in the auxiliary vector, where a debug register stops the program; nothing in its memory says so.

use crate::fault::{Fault, Result};
use minka_kernel::procfs::{self, Status};
use minka_kernel::ptrace::{Stop, Stopped, Waited};
use minka_kernel::spawn::{SignalQueue, wait_readable};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long loading may take; what is not loaded by then goes as it is.
const LIMIT: Duration = Duration::from_millis(100);

/// `AT_ENTRY`, of the auxiliary vector.
const ENTRY: u64 = 9;

const SIGTRAP: i32 = 5;

/// Lets a program in the stop after its `execve` run until it is loaded. `news` tells that it has stopped. `None`: it has
/// ended.
pub(crate) fn load(task: Stopped, news: &SignalQueue) -> Result<Option<Stopped>> {
    if !would_stop(&task) {
        return Ok(Some(task));
    }
    let (mut until, mut told) = (Instant::now() + LIMIT, false);
    let mut running = task.resume(0).map_err(Fault::Trace)?;
    loop {
        running = match running.try_wait().map_err(Fault::Trace)? {
            Waited::Still(task) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() && !told {
                    // If it has ended, that is news by itself.
                    let _ = task.interrupt();
                    told = true;
                }
                let wait = if told { LIMIT } else { left };
                wait_readable(&[news.as_fd()], Some(wait)).map_err(|error| Fault::Io("wait", error))?;
                while news.next_arrived().is_some() {}
                task
            }
            Waited::Stopped(task, Stop::Signal(SIGTRAP)) if task.is_at_break().map_err(Fault::Trace)? => {
                return loaded(task);
            }
            Waited::Stopped(task, Stop::Interrupt) if told => return loaded(task),
            Waited::Stopped(task, Stop::Signal(signal)) => task.resume(signal).map_err(Fault::Trace)?,
            Waited::Stopped(task, Stop::Group(_)) => {
                (until, told) = (Instant::now() + LIMIT, false);
                task.listen().map_err(Fault::Trace)?
            }
            // Another image, for which the kernel has forgotten the entry of the one before.
            Waited::Stopped(task, Stop::Exec) if !would_stop(&task) => return Ok(Some(task)),
            Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
            Waited::Gone(_) => return Ok(None),
        };
    }
}

fn loaded(task: Stopped) -> Result<Option<Stopped>> {
    task.clear_break().map_err(Fault::Trace)?;
    Ok(Some(task))
}

/// Has the program stop at its entry point; says whether it will. Where SIGTRAP is blocked or ignored it must not be raised:
/// the kernel would take that back.
fn would_stop(task: &Stopped) -> bool {
    let bit = 1 << (SIGTRAP - 1);
    let is_free = task.mask().is_ok_and(|mask| mask & bit == 0)
        && Status::read(task.tid()).is_ok_and(|status| status.ignored & bit == 0);
    let entry = procfs::auxv(task.tid()).ok().and_then(|auxv| entry(&auxv));
    is_free && entry.is_some_and(|entry| task.break_at(entry).is_ok())
}

/// The program's entry point; for one that has no loader, where it is already.
fn entry(auxv: &[u8]) -> Option<u64> {
    let words: Vec<u64> =
        auxv.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))).collect();
    words.chunks_exact(2).find(|pair| pair[0] == ENTRY).map(|pair| pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    /// A program in the stop after the last of so many `execve`.
    fn begun(words: &[&str], times: usize) -> (Stopped, Child) {
        let mut gate = Command::new("sh");
        gate.args(["-c", "echo; read go; exec \"$@\"", "sh"]).args(words);
        let mut child = gate.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
        // Else its own `execve` might still be on its way.
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("it has begun");
        let mut running = crate::tracee::seize(child.id().cast_signed()).expect("seize");
        child.stdin.take().expect("a pipe").write_all(b"\n").expect("open the gate");
        let mut left = times;
        loop {
            running = match running.wait().expect("wait") {
                Waited::Stopped(task, Stop::Exec) if left == 1 => return (task, child),
                Waited::Stopped(task, stop) => {
                    left -= usize::from(stop == Stop::Exec);
                    task.resume(0).expect("resume")
                }
                other => panic!("{other:?}"),
            };
        }
    }

    fn loaded_at(words: &[&str], times: usize) -> (u64, bool) {
        let news = SignalQueue::new(&[17]).expect("a queue");
        let (task, mut child) = begun(words, times);
        let pid = task.tid();
        let task = load(task, &news).expect("load").expect("it has not ended");
        let rip = task.registers().expect("registers").rip;
        let entry = entry(&procfs::auxv(pid).expect("auxv")).expect("an entry point");
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        task.detach(0).expect("detach");
        assert!(child.wait().expect("reap").success(), "it has ended otherwise than by itself");
        (rip.wrapping_sub(entry), maps.contains("/libc"))
    }

    #[test]
    fn a_program_stops_where_it_is_loaded_and_goes_on() {
        assert_eq!(loaded_at(&["true"], 1), (0, true));
    }

    #[test]
    fn who_ignores_sigtrap_is_not_stopped_by_it() {
        let words = ["sh", "-c", "trap '' TRAP; exec sh -c 'kill -TRAP $$'"];
        let (from_entry, has_library) = loaded_at(&words, 2);
        assert!(from_entry != 0 && !has_library);
    }

    #[test]
    fn who_ends_while_it_is_loaded_has_ended() {
        let news = SignalQueue::new(&[17]).expect("a queue");
        let (task, child) = begun(&["env", "LD_TRACE_LOADED_OBJECTS=1", "true"], 2);
        assert!(load(task, &news).expect("load").is_none());
        // Its status has been taken by its tracer, which is its parent here.
        drop(child);
    }

    #[test]
    fn what_is_not_loaded_in_time_goes_as_it_is() {
        let news = SignalQueue::new(&[17]).expect("a queue");
        // The loader waits for somebody to write there, who never comes.
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let preload = format!("LD_PRELOAD={}", fifo.display());
        let (task, mut child) = begun(&["env", &preload, "true"], 2);
        let task = load(task, &news).expect("load").expect("it has not ended");
        let registers = task.registers().expect("registers");
        assert_ne!(registers.orig_rax as i64, -1, "it is in a call");
        task.detach(0).expect("detach");
        drop(std::fs::File::options().write(true).open(&fifo).expect("the loader reads"));
        assert!(child.wait().expect("reap").success());
    }
}

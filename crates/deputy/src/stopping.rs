//! Giving a SIGSTOP back that was taken from a process, when it is let go.
//!
//! It cannot be made pending again, and sent anew it would take a SIGCONT away that has come since. The kernel knows that
//! case: who stands before a signal, and is told to take SIGSTOP instead, is not stopped if a SIGCONT has come meanwhile
//! (`JOBCTL_STOP_DEQUEUED` in `kernel/signal.c`). So the thread is brought before another signal first; a SIGCONT that came
//! before that is pending, and of one that comes later the kernel knows.

use crate::fault::{Fault, Result};
use crate::tracee::{self, BLOCK_ALL, forget_stop, libc_signal as signal};
use minka_kernel::process::queue_signal;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{SIGINFO_SIZE, Stop, Stopped};

/// Signals before which a thread may be brought. Programs seldom have them, and none of them takes others away.
const BEFORE: [i32; 5] = [signal::URG, signal::WINCH, signal::XCPU, signal::XFSZ, signal::CHLD];

/// What ours carries (`siginfo_t::si_value`).
const MARK: u64 = 0x6d69_6e6b_6173_746f;

/// Takes from `held` the SIGSTOP that a thread is to take when it goes on; gives it with the thread, or 0 if there is none,
/// or if it could not be brought before a signal: then it is left in `held`, to be sent anew.
/// All threads of the process are stopped and have all signals blocked. The thread is to be detached with what is
/// given, and before that it may be given its registers and its mask.
pub(crate) fn take_back(task: Stopped, pid: i32, held: &mut Vec<i32>) -> Result<(Stopped, i32)> {
    if !held.contains(&signal::STOP) {
        return Ok((task, 0));
    }
    let (task, stands) = stand_before_signal(task, pid, held)?;
    if is_pending(pid, signal::CONT) {
        forget_stop(signal::CONT, held);
    }
    if !stands || !held.contains(&signal::STOP) {
        return Ok((task, 0));
    }
    held.retain(|held| *held != signal::STOP);
    Ok((task, signal::STOP))
}

/// Says whether it stands before one; it does not where all of them are pending already, or it may not be signalled.
fn stand_before_signal(task: Stopped, pid: i32, held: &mut Vec<i32>) -> Result<(Stopped, bool)> {
    let mut task = task;
    for before in BEFORE {
        if is_pending(pid, before) {
            continue;
        }
        let tid = task.tid();
        task.set_mask(BLOCK_ALL & !(1 << (before - 1))).map_err(Fault::Trace)?;
        if queue_signal(pid, tid, before, &ours(before)).is_err() {
            break;
        }
        let stopped = loop {
            let (stopped, stop) = tracee::stop_of(task.resume(0).map_err(Fault::Trace)?)?;
            task = match stop {
                Stop::Signal(signal) => break (stopped, signal),
                Stop::Exit => {
                    stopped.leave_ending();
                    return Err(Fault::Ending);
                }
                _ => stopped,
            };
        };
        task = match stopped {
            (stopped, found) if found == before && is_ours(&stopped.signal_info().map_err(Fault::Trace)?) => {
                return Ok((stopped, true));
            }
            // Somebody else's came first.
            (stopped, found) => tracee::halt(tracee::postpone(stopped, found, held)?, held)?,
        };
    }
    Ok((task, false))
}

/// One that is gone has none.
fn is_pending(pid: i32, signal: i32) -> bool {
    Status::read(pid).is_ok_and(|status| (status.pending | status.pending_for_any) & 1 << (signal - 1) != 0)
}

/// `struct siginfo_t { si_signo: i32, si_errno: i32, si_code: i32, …, si_value: u64 at 24 }`.
fn ours(signal: i32) -> [u8; SIGINFO_SIZE] {
    const SI_QUEUE: i32 = -1;
    let mut info = [0; SIGINFO_SIZE];
    info[..4].copy_from_slice(&signal.to_ne_bytes());
    info[8..12].copy_from_slice(&SI_QUEUE.to_ne_bytes());
    info[24..32].copy_from_slice(&MARK.to_ne_bytes());
    info
}

/// Whether it is ours. A kernel that may queue no more signals for the user leaves out what they carry.
fn is_ours(info: &[u8; SIGINFO_SIZE]) -> bool {
    let (code, value) = (&info[8..12], &info[24..32]);
    value == MARK.to_ne_bytes() || (code == [0; 4] && value == [0; 8])
}

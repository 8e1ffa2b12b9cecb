//! Signals that are pending in the guest.
//!
//! Codes that only the kernel may use cannot be sent from outside, so a mark is sent and exchanged for the original
//! when the guest stops for it.

use crate::fault::{Fault, Result};
use crate::guest::GuestThread;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::SIGINFO_SIZE;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Those that were queued and have not been delivered.
#[derive(Debug, Default)]
pub(crate) struct Queued {
    /// By their marks.
    signals: BTreeMap<u32, Signal>,
    last_mark: u32,
}

#[derive(Debug)]
struct Signal {
    /// The thread that it is for.
    tid: i32,
    number: i32,
    /// The original information.
    info: [u8; SIGINFO_SIZE],
    /// Nothing is pending: it comes when the call has been begun that its thread is about to make.
    is_put_off: bool,
}

impl Queued {
    /// Makes a signal pending for a thread of the guest.
    pub(crate) fn put(&mut self, guest: i32, taker: &GuestThread, signal: i32, info: Vec<u8>) -> Result<()> {
        const FIRST_REAL_TIME: i32 = 32;
        let info: [u8; SIGINFO_SIZE] =
            info.try_into().map_err(|_| Fault::Said("the home sent half a signal".to_owned()))?;
        if !(1..=64).contains(&signal) {
            return Err(Fault::Said(format!("the home sent signal {signal}")));
        }
        let tid = taker.tid;
        let is_the_same = |queued: &Signal| (queued.tid, queued.number) == (tid, signal);
        let comes_later = self.signals.values().any(|queued| queued.tid == tid && queued.is_put_off);
        if signal < FIRST_REAL_TIME && self.signals.values().any(is_the_same) {
            // It is pending already, and is not queued twice; unless the guest ignored it in between, which forgets it.
            if self.signals.values().any(|queued| is_the_same(queued) && queued.is_put_off) {
                return Ok(());
            }
            if Status::read(tid).is_ok_and(|status| status.pending >> (signal - 1) & 1 == 1) {
                return Ok(());
            }
            let before = self.signals.len();
            self.signals.retain(|_, queued| !is_the_same(queued));
            taker.undelivered.fetch_sub(before - self.signals.len(), Ordering::SeqCst);
        }
        let mark = self.last_mark + 1;
        if !comes_later {
            send(guest, tid, signal, mark)?;
        }
        self.signals.insert(mark, Signal { tid, number: signal, info, is_put_off: comes_later });
        self.last_mark = mark;
        taker.undelivered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// The original information of a signal for which the guest has stopped; none if it was not queued here.
    pub(crate) fn take(&mut self, found: &[u8; SIGINFO_SIZE]) -> Option<[u8; SIGINFO_SIZE]> {
        self.signals.remove(&mark_of(found)?).map(|signal| signal.info)
    }

    /// Has a signal come later for which the guest has stopped, after those that were put off before; false if it was not
    /// queued here.
    pub(crate) fn put_off(&mut self, found: &[u8; SIGINFO_SIZE]) -> bool {
        let signal = mark_of(found).and_then(|mark| self.signals.get_mut(&mark));
        signal.map(|signal| signal.is_put_off = true).is_some()
    }

    /// Makes those pending again that were put off for a thread.
    pub(crate) fn send_put_off(&mut self, guest: i32, tid: i32) -> Result<()> {
        for (mark, signal) in self.signals.iter_mut().filter(|(_, signal)| signal.tid == tid) {
            if std::mem::take(&mut signal.is_put_off) {
                send(guest, tid, signal.number, *mark)?;
            }
        }
        Ok(())
    }

    /// All that are still pending for a thread, in their order.
    pub(crate) fn take_all(&mut self, tid: i32) -> Vec<(i32, Vec<u8>)> {
        let of_thread = self.signals.extract_if(.., |_, signal| signal.tid == tid);
        of_thread.map(|(_, signal)| (signal.number, signal.info.to_vec())).collect()
    }
}

fn send(guest: i32, tid: i32, signal: i32, mark: u32) -> Result<()> {
    minka_kernel::process::queue_signal(guest, tid, signal, &marked(signal, mark))
        .map_err(|error| Fault::Io("queue a signal to the guest", error))
}

const SI_QUEUE: i32 = -1;

/// `{ si_signo, si_errno, si_code = SI_QUEUE, pad, si_pid, si_uid, si_value = mark }`.
fn marked(signal: i32, mark: u32) -> [u8; SIGINFO_SIZE] {
    let mut info = [0; SIGINFO_SIZE];
    info[..4].copy_from_slice(&signal.to_le_bytes());
    info[8..12].copy_from_slice(&SI_QUEUE.to_le_bytes());
    info[24..28].copy_from_slice(&mark.to_le_bytes());
    info
}

fn mark_of(info: &[u8; SIGINFO_SIZE]) -> Option<u32> {
    let word = |at: usize| i32::from_le_bytes(info[at..at + 4].try_into().expect("four bytes"));
    (word(8) == SI_QUEUE).then(|| word(24) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::process::Thread;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        assert_eq!(mark_of(&marked(10, 0x8000_0001)), Some(0x8000_0001));
        assert_eq!(mark_of(&[0; SIGINFO_SIZE]), None);
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        let mut queued = Queued::default();
        let taker = GuestThread::new(0, &Thread::new(0));
        assert!(queued.put(0, &taker, 65, vec![0; SIGINFO_SIZE]).is_err());
        assert!(queued.put(0, &taker, 10, vec![0; 12]).is_err());
        assert!(queued.take_all(0).is_empty());
    }
}

//! Lookups that the guest is going to make in vain: they are made at once, and their results go with that of the one before.
//!
//! They are made by the process itself, so in its own directory, with its rights. What is foretold was true when the call
//! before it was answered, and counts only as long as the guest hears nothing from anywhere: natively it could not tell
//! whether it had looked before or after that. Only a process with one thread and no shared memory hears by calls and signals
//! alone.

use crate::agents::Agent;
use crate::fault::Result;
use crate::session::{Shared, lock};
use minka_kernel::ring::Slot;
use minka_syscalls::foretell::{self, Foreteller, Lookup, There};
use minka_wire::frame::Header;
use minka_wire::message::{TRUE_MASK, TRUE_SHIFT};
use std::sync::atomic::Ordering;

/// What has been learnt of a process, and foretold to its host at last.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    foreteller: Foreteller,
    foretold: Vec<(Lookup, i64)>,
}

impl Ahead {
    /// A call has come. It says how much of what was foretold has come true.
    pub(crate) fn heard(&mut self, call: &Header) {
        let count = (call.flags >> TRUE_SHIFT & TRUE_MASK) as usize;
        for (lookup, result) in self.foretold.drain(..).take(count) {
            self.foreteller.looked_up(&lookup, result);
        }
    }

    /// Something else has been asked for than a lookup.
    pub(crate) fn forget_last(&mut self) {
        self.foreteller.forget_last();
    }

    /// What has been asked for has this result. Says whether it was a lookup.
    pub(crate) fn done(&mut self, request: &[u8], result: i64) -> bool {
        match Lookup::of(request) {
            Some(lookup) => self.foreteller.looked_up(&lookup, result),
            None => {
                self.foreteller.forget_last();
                return false;
            }
        }
        true
    }
}

/// A call has been made, with this result; `request` is what it was asked for with. Returns what is foretold with it, as it
/// travels.
pub(crate) fn foretell(
    shared: &Shared,
    agent: &Agent,
    slot: &mut Slot,
    request: &[u8],
    result: i64,
) -> Result<Vec<u8>> {
    let mut ahead = lock(&shared.ahead);
    let looked_up = ahead.done(request, result);
    let alone = shared.agents.count() == 1 && shared.kin.is_none() && shared.sole.is_empty();
    // Whoever looks at calls is to see all of them.
    let quiet = !shared.recalling.load(Ordering::SeqCst)
        && !shared.tracing.load(Ordering::Relaxed)
        && !agent.is_signalled();
    let mut told = Vec::new();
    if looked_up && alone && quiet {
        let foretold = ahead.foreteller.foretell(|path, follow| look(slot, path, follow))?;
        foretell::encode(&foretold, &mut told);
        ahead.foretold = foretold;
    }
    Ok(told)
}

/// What the process finds at a path.
fn look(slot: &mut Slot, path: &[u8], follow: bool) -> Result<There> {
    const NEWFSTATAT: u64 = 262;
    const AT_FDCWD: u64 = -100i64 as u64;
    const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    const ENOENT: i64 = -2;
    /// Behind the longest path.
    const STAT: usize = 4096;
    /// `struct stat { st_dev: u64, st_ino: u64, st_nlink: u64, st_mode: u32, … }`
    const MODE: usize = STAT + 24;
    let data = slot.data();
    data[..path.len()].copy_from_slice(path);
    data[path.len()] = 0;
    let address = slot.data_address();
    let flags = if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
    let result = slot.call(NEWFSTATAT, [AT_FDCWD, address, address + STAT as u64, flags, 0, 0])?;
    let mode = u32::from_le_bytes(slot.data()[MODE..MODE + 4].try_into().expect("four bytes"));
    Ok(match result {
        ENOENT => There::Nothing,
        0 if mode & 0o170_000 == 0o120_000 => There::Link,
        0 => There::Something,
        _ => There::Unknown,
    })
}

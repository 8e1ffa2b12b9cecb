//! The table and its sub-tables.

mod calls;
mod commands;
mod ioctl;

pub use calls::CALLS;
pub(crate) use commands::{
    FCNTL, FSCONFIG, KEYCTL, LANDLOCK, MSGCTL, NAME_TO_HANDLE, PRCTL, RECVFROM_TRUNCATED, RECVMMSG_TRUNCATED,
    RECVMSG_TRUNCATED, SEMCTL, SHMCTL,
};
pub(crate) use ioctl::{IOCTL, IOCTL_INPUT, IOCTL_SIZED};

use crate::spec::Spec;

/// One more than the highest number in the table, rounded up.
const NUMBERS: usize = 512;

/// For every number, one more than its line in [`CALLS`], or 0.
static LINES: [u16; NUMBERS] = {
    let mut lines = [0; NUMBERS];
    let mut line = 0;
    while line < CALLS.len() {
        lines[CALLS[line].number as usize] = line as u16 + 1;
        line += 1;
    }
    lines
};

/// The line of a call.
#[must_use]
pub fn lookup(number: u64) -> Option<&'static Spec> {
    let line = *LINES.get(usize::try_from(number).ok()?)?;
    CALLS.get(usize::from(line).checked_sub(1)?)
}

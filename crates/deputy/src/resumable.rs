//! Calls that the kernel can go on with after an interruption.

use crate::fault::Result;
use crate::kept::Kept;
use crate::session::Shared;
use minka_image::PAGE;
use minka_kernel::ring::Slot;
use minka_syscalls::marshal::Placed;

/// A call that the kernel can go on with after an interruption, and for which it then remembers where one of the
/// program's buffers is: poll, nanosleep, clock_nanosleep. That must be the program's own address and not one in
/// the ring, because the call may be gone on with after the ring has gone.
#[derive(Debug)]
pub(crate) struct Resumable {
    /// Whose call it is.
    tid: i32,
    argument: usize,
    /// The program's buffer.
    own: u64,
    /// The same in the slot's data.
    offset: usize,
    length: usize,
}

impl Resumable {
    pub(crate) fn of(tid: i32, placed: &Placed, body: &[u8], area: u64, kept: &Kept) -> Option<Self> {
        const TIMESPEC: usize = 16;
        const POLLFD: u64 = 8;
        let (argument, length) = match placed.number() {
            7 => (0, placed.arguments()[1].checked_mul(POLLFD)? as usize),
            35 => (1, TIMESPEC),
            230 => (3, TIMESPEC),
            _ => return None,
        };
        let at = 8 + argument * 8;
        let own = u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?);
        let offset = usize::try_from(placed.arguments()[argument].checked_sub(area)?).ok()?;
        let inside = offset.checked_add(length)? <= minka_kernel::ring::DATA_PER_SLOT;
        (kept.allows(own, length as u64) && inside).then_some(Self { tid, argument, own, offset, length })
    }

    /// Has the call use the program's own buffer at home, if it can be had. Its content there is not needed: the
    /// guest has the page.
    pub(crate) fn move_home(
        &self,
        arguments: &mut [u64; 6],
        shared: &Shared,
        slot: &mut Slot,
    ) -> Result<bool> {
        let content = slot.data()[self.offset..self.offset + self.length].to_vec();
        shared.lent.lend(self.tid, self.own, self.length as u64);
        if shared.memory.write(self.own, &content) < content.len() {
            // New memory of the guest's that home does not have yet; on the way home it is mapped properly.
            const PRIVATE_ANONYMOUS_FIXED_NOREPLACE: u64 = 0x02 | 0x20 | 0x10_0000;
            const READ_WRITE: u64 = 3;
            let start = self.own & !(PAGE - 1);
            let length = (self.own + self.length as u64).next_multiple_of(PAGE) - start;
            let map = [start, length, READ_WRITE, PRIVATE_ANONYMOUS_FIXED_NOREPLACE, u64::MAX, 0];
            slot.call(crate::parked::call::MMAP, map)?;
            if shared.memory.write(self.own, &content) < content.len() {
                shared.lent.take_back(self.tid);
                return Ok(false);
            }
        }
        arguments[self.argument] = self.own;
        Ok(true)
    }

    pub(crate) fn bring_back(&self, shared: &Shared, slot: &mut Slot) {
        shared.memory.read(self.own, &mut slot.data()[self.offset..self.offset + self.length]);
        shared.lent.take_back(self.tid);
    }
}

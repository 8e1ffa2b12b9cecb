//! The host's first step: reading a call's input from the guest's memory.

use super::carrier::UNMAPPED;
use super::vectors::count_messages;
use super::{Block, Carrier, Location, Memory, Output, Patch, REQUEST_HEAD, alignment, load, store, walk};
use crate::spec::{Place, Spec};

/// What [`gather`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Set when the request covers only a part of the data.
    pub capped: Option<Capped>,
}

/// A request that covers only a part of the data.
///
/// A write, and a read from a regular file, is to be carried on until a transfer ends short or fails: gather the
/// next part with [`gather_after`], and answer the guest with the sum (or with the error, if the first part
/// failed). Any other read ends with what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capped {
    /// Bytes of data that this request covers.
    pub covered: u64,
}

/// Why a call is not carried to the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is to be answered with this error number at once.
    Errno(i32),
    /// The guest must go home and make the call there.
    Homeward(Reason),
}

/// Why a call can only be made at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The table says so.
    #[error("{0} can only be performed natively")]
    Native(&'static str),
    /// Its buffers are larger than what can be carried at once.
    #[error("{0} has more data than one transfer carries")]
    TooLarge(&'static str),
    /// Its input ends in memory that cannot be read, and the kernel would perform a part of it.
    #[error("{0} has input that can be read only in part")]
    PartlyReadable(&'static str),
    /// Its input changes while it is read.
    #[error("{0} has input that another thread changes meanwhile")]
    Unsteady(&'static str),
}

/// Appends the request for a call to `out`.
///
/// `limit` is the size in bytes of the area it will be placed in. On a refusal `out` is as it was.
pub fn gather(
    spec: &Spec,
    args: &[u64; 6],
    memory: &impl Memory,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<Gathered, Refusal> {
    gather_after(spec, args, 0, memory, limit, out)
}

/// Like [`gather`], for what remains of a read or write of which `done` bytes are behind us.
pub fn gather_after(
    spec: &Spec,
    args: &[u64; 6],
    done: u64,
    memory: &impl Memory,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<Gathered, Refusal> {
    let (spec, place) = spec.settle(args);
    if matches!(place, Place::Here | Place::Homeward) {
        return Err(Refusal::Homeward(Reason::Native(spec.name)));
    }
    if spec.marks.absent {
        const ENOSYS: i32 = 38;
        return Err(Refusal::Errno(ENOSYS));
    }
    let start = out.len();
    out.extend_from_slice(&spec.call.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for argument in args {
        out.extend_from_slice(&argument.to_le_bytes());
    }
    let mut gatherer = Gatherer { name: spec.name, memory, out, start, used: 0, limit, done, capped: None };
    match walk(spec, args, &mut gatherer) {
        Ok(()) => Ok(Gathered { capped: gatherer.capped }),
        Err(reason) => {
            out.truncate(start);
            Err(Refusal::Homeward(reason))
        }
    }
}

struct Gatherer<'g, M> {
    name: &'static str,
    memory: &'g M,
    out: &'g mut Vec<u8>,
    /// Where the request begins in `out`.
    start: usize,
    /// What the blocks so far take of the area at most, wherever it begins.
    used: usize,
    limit: usize,
    done: u64,
    capped: Option<Capped>,
}

impl<M: Memory> Gatherer<'_, M> {
    /// Takes room in the area for a block.
    fn reserve(&mut self, room: usize) -> Result<(), Reason> {
        let used = self.used.saturating_add(room).saturating_add(alignment(room));
        if used > self.limit {
            return Err(Reason::TooLarge(self.name));
        }
        self.used = used;
        Ok(())
    }

    /// Appends bytes of the guest's memory and returns how many there were.
    fn append(&mut self, guest: u64, length: usize) -> usize {
        self.memory.append(guest, length, self.out)
    }
}

impl<M: Memory> Carrier for Gatherer<'_, M> {
    type Stop = Reason;

    fn block(&mut self, patch: Patch, block: &Block) -> Result<Option<Location>, Reason> {
        self.reserve(block.room)?;
        let content = self.out.len();
        let sent = self.append(block.guest, block.sent);
        if sent < block.sent {
            if sent > 0 && block.divisible {
                return Err(Reason::PartlyReadable(self.name));
            }
            self.out.truncate(content);
            self.point(patch, UNMAPPED);
            return Ok(None);
        }
        Ok(Some(Location { content, area: 0, sent }))
    }

    fn string(&mut self, patch: Patch, guest: u64, most: usize) -> Result<(), Reason> {
        let content = self.out.len();
        let mut length = 0;
        while length < most {
            // Never beyond the page that holds the next byte, nor much further than most strings reach.
            let at = guest.saturating_add(length as u64);
            let wanted = (4096 - (at % 4096) as usize).min(256.max(length)).min(most - length);
            let read = self.append(at, wanted);
            let fresh = &self.out[content + length..];
            if let Some(end) = fresh.iter().position(|&byte| byte == 0) {
                length += end + 1;
                break;
            }
            length += read;
            if read < wanted {
                self.out.truncate(content);
                self.point(patch, UNMAPPED);
                return Ok(());
            }
        }
        self.out.truncate(content + length);
        self.reserve(length + 1)
    }

    fn pointers(&mut self, patch: Patch, guest: u64) -> Result<Option<Location>, Reason> {
        let prefix = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let content = prefix + 4;
        let mut sent = 0;
        loop {
            let at = guest.saturating_add(sent as u64);
            let wanted = ((4096 - (at % 4096) as usize) & !7).max(8);
            if sent + wanted > self.limit {
                return Err(Reason::TooLarge(self.name));
            }
            let whole = self.append(at, wanted) & !7;
            let fresh = self.out[content + sent..].as_chunks::<8>().0;
            if let Some(end) = fresh.iter().position(|pointer| *pointer == [0; 8]) {
                sent += 8 * (end + 1);
                break;
            }
            sent += whole;
            if whole < wanted {
                self.out.truncate(prefix);
                self.point(patch, UNMAPPED);
                return Ok(None);
            }
        }
        self.out.truncate(content + sent);
        self.out[prefix..content].copy_from_slice(&(sent as u32).to_le_bytes());
        self.reserve(sent)?;
        Ok(Some(Location { content, area: 0, sent }))
    }

    fn peek(&mut self, guest: u64) -> u32 {
        let mut word = [0; 4];
        if self.memory.read(guest, &mut word) < 4 { 0 } else { u32::from_le_bytes(word) }
    }

    fn load(&self, location: Location, offset: usize) -> u64 {
        load(&self.out[..location.content + location.sent], location.content + offset)
    }

    fn output(&mut self, _: Output) -> Result<(), Reason> {
        Ok(())
    }

    fn point(&mut self, patch: Patch, address: u64) {
        let offset = match patch {
            Patch::Argument(index) => self.start + REQUEST_HEAD - 48 + 8 * index,
            Patch::Inside(location, offset) => location.content + offset,
        };
        store(self.out, offset, address);
    }

    fn point_nowhere(&mut self, _: Patch) {}

    fn done(&self) -> u64 {
        self.done
    }

    fn fits(&self, wanted: usize) -> usize {
        let free = self.limit - self.used;
        if wanted.saturating_add(alignment(wanted)) <= free {
            return wanted;
        }
        // Whole pages, so that the next part begins with the alignment of this one.
        let cut = free.saturating_sub(4096);
        if cut >= 4096 { cut & !4095 } else { cut }.min(wanted)
    }

    fn messages_that_fit(&mut self, guest: u64, count: usize) -> usize {
        count_messages(self.memory, guest, count, self.limit - self.used)
    }

    fn writable(&self, guest: u64, length: usize) -> usize {
        self.memory.writable(guest, length)
    }

    fn store(&mut self, location: Location, offset: usize, number: u64) {
        store(self.out, location.content + offset, number);
    }

    fn argument(&mut self, index: usize, number: u64) {
        self.point(Patch::Argument(index), number);
    }

    fn capped(&mut self, covered: u64) {
        self.capped = Some(Capped { covered });
    }

    fn too_large(&self) -> Reason {
        Reason::TooLarge(self.name)
    }

    fn unsteady(&self) -> Reason {
        Reason::Unsteady(self.name)
    }
}

//! The window as bytes.
//!
//! ```text
//!  0      1      2             4              6                     all numbers with the highest byte first
//! ┌──────┬──────┬─────────────┬──────────────┬─────────────────────┬─────
//! │ 2    │ 'W'  │ sender      │ entries      │ entry, 43 bytes     │ …
//! └──────┴──────┴─────────────┴──────────────┴─────────────────────┴─────
//! ```
//!
//! Who sent it is known from the channel that it came by, and has to be what it says. Everything else is looked at
//! here: its length is exactly that of its entries, of which there are few; they are sorted, of different nodes, and
//! their figures possible. Windows of another version are refused.
//!
//! Accelerators take six bytes of an entry, all of which are 255 if nobody has looked for any: for each kind four bits with
//! how many there are and four with how many of them are free (15: not known), then for each kind four bits with how many
//! are drained.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::vector::{Entry, WINDOW_MAX};
use crate::NodeId;
use crate::load::{Devices, Flags, Info, Load, Speed};

/// The version of windows.
const VERSION: u8 = 2;

/// Tells windows from what else comes in datagrams.
pub(crate) const WINDOW: u8 = b'W';

/// Bytes before the entries.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = size_of::<Line>();

/// Bytes of the largest datagram.
pub const DATAGRAM_BYTES_MAX: usize = HEADER_BYTES + WINDOW_MAX * ENTRY_BYTES;

/// No information is this old; a week.
const AGE_MAX_MS: u32 = 7 * 24 * 3600 * 1000;

/// Nobody has more processors.
const CPUS_MAX: u16 = 8192;

/// The largest number of three bytes. No load (in hundredths), speed or memory (in MiB) that is told is larger.
const THREE_MAX: u32 = 0xff_ffff;

/// Accelerators of which nothing is known.
const DEVICES_UNKNOWN: [u8; 6] = [0xff; 6];

/// The number of free devices where it is not known.
const FREE_UNKNOWN: u8 = 15;

/// A tenth of a task, in hundredths.
const RUNNING_UNIT: u32 = 10;

const BLOCKED: u8 = 1;
const STAYS: u8 = 2;
const SERVER: u8 = 4;
const LEAVING: u8 = 8;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: u8,
    kind: u8,
    sender: U16,
    entries: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Line {
    node: U16,
    sequence: [u8; 6],
    age_ms: U32,
    load: Three,
    /// In tenths of a task.
    running: U16,
    haste: Three,
    speed: Three,
    cpus: U16,
    memory_mib: Three,
    free_mib: Three,
    available_mib: Three,
    utilisation: u8,
    io_stall: u8,
    flags: u8,
    devices: [u8; 6],
}

/// A number of three bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
struct Three([u8; 3]);

impl Three {
    /// The number, or the largest that there is.
    fn new(number: u32) -> Self {
        let [_, a, b, c] = number.min(THREE_MAX).to_be_bytes();
        Three([a, b, c])
    }

    fn get(self) -> u32 {
        let Three([a, b, c]) = self;
        u32::from_be_bytes([0, a, b, c])
    }
}

/// Why a datagram is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Not even the beginning is there.
    #[error("find a whole header")]
    Short,
    /// It is of another version, or something else.
    #[error("know the kind of datagram")]
    Unknown,
    /// It is not as long as its entries are.
    #[error("find as many entries as it says")]
    Length,
    /// It has more entries than anybody sends.
    #[error("accept so many entries")]
    TooMany,
    /// A node has no number, or there are two entries of one.
    #[error("tell the nodes apart")]
    Node,
    /// An entry is older than the one after it, or older than anything is.
    #[error("accept the entries' ages")]
    Age,
    /// A figure that no node has.
    #[error("believe the figures of a node")]
    Figures,
}

/// A window on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub sender: NodeId,
    /// Newest first.
    pub entries: Vec<Entry>,
}

impl Datagram {
    /// Writes a window to `bytes`, whose former content is lost. More than [`WINDOW_MAX`] entries are left out.
    pub fn write(sender: NodeId, entries: impl IntoIterator<Item = Entry>, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        let mut count = 0;
        for entry in entries.into_iter().take(WINDOW_MAX) {
            bytes.extend_from_slice(Line::from(&entry).as_bytes());
            count += 1;
        }
        let header =
            Header { version: VERSION, kind: WINDOW, sender: sender.get().into(), entries: U16::new(count) };
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// Reads what [`Self::write`] has written.
    pub fn read(bytes: &[u8]) -> Result<Self, DatagramError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| DatagramError::Short)?;
        if (header.version, header.kind) != (VERSION, WINDOW) {
            return Err(DatagramError::Unknown);
        }
        let count = usize::from(header.entries.get());
        if count > WINDOW_MAX {
            return Err(DatagramError::TooMany);
        }
        let lines = <[Line]>::ref_from_bytes_with_elems(rest, count).map_err(|_| DatagramError::Length)?;
        let sender = NodeId::new(header.sender.get()).ok_or(DatagramError::Node)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for line in lines {
            let entry = line.entry()?;
            if entries.iter().any(|other| other.node == entry.node) {
                return Err(DatagramError::Node);
            }
            if entries.last().is_some_and(|last| last.age_ms > entry.age_ms) {
                return Err(DatagramError::Age);
            }
            entries.push(entry);
        }
        Ok(Self { sender, entries })
    }
}

impl From<&Entry> for Line {
    fn from(entry: &Entry) -> Self {
        let info = &entry.info;
        let [_, _, a, b, c, d, e, f] = entry.sequence.to_be_bytes();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(info.flags.blocked, BLOCKED)
            | flag(info.flags.stays, STAYS)
            | flag(info.flags.server, SERVER)
            | flag(info.flags.leaving, LEAVING);
        Line {
            node: entry.node.get().into(),
            sequence: [a, b, c, d, e, f],
            age_ms: entry.age_ms.min(AGE_MAX_MS).into(),
            load: Three::new(info.load.0),
            running: u16::try_from(info.running.0 / RUNNING_UNIT).unwrap_or(u16::MAX).into(),
            haste: Three::new(info.haste.0),
            speed: Three::new(info.speed.get()),
            cpus: info.cpus.clamp(1, CPUS_MAX).into(),
            memory_mib: Three::new(info.memory_mib),
            free_mib: Three::new(info.free_mib.min(info.memory_mib)),
            available_mib: Three::new(info.available_mib.min(info.memory_mib)),
            utilisation: info.utilisation.min(100),
            io_stall: info.io_stall.min(100),
            flags,
            devices: info.devices.map_or(DEVICES_UNKNOWN, |devices| devices_as_bytes(&devices)),
        }
    }
}

impl Line {
    fn entry(&self) -> Result<Entry, DatagramError> {
        let node = NodeId::new(self.node.get()).ok_or(DatagramError::Node)?;
        let age_ms = self.age_ms.get();
        if age_ms > AGE_MAX_MS {
            return Err(DatagramError::Age);
        }
        let [a, b, c, d, e, f] = self.sequence;
        let sequence = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let possible = (1..=CPUS_MAX).contains(&self.cpus.get())
            && self.free_mib.get() <= self.memory_mib.get()
            && self.available_mib.get() <= self.memory_mib.get()
            && self.utilisation <= 100
            && self.io_stall <= 100
            && self.flags <= (BLOCKED | STAYS | SERVER | LEAVING);
        let devices = match self.devices {
            DEVICES_UNKNOWN => None,
            bytes => Some(devices_of_bytes(bytes).ok_or(DatagramError::Figures)?),
        };
        let speed = Speed::new(self.speed.get()).filter(|_| possible).ok_or(DatagramError::Figures)?;
        let info = Info {
            load: Load(self.load.get()),
            running: Load(u32::from(self.running.get()) * RUNNING_UNIT),
            haste: Load(self.haste.get()),
            cpus: self.cpus.get(),
            speed,
            utilisation: self.utilisation,
            io_stall: self.io_stall,
            memory_mib: self.memory_mib.get(),
            free_mib: self.free_mib.get(),
            available_mib: self.available_mib.get(),
            flags: Flags {
                blocked: self.flags & BLOCKED != 0,
                stays: self.flags & STAYS != 0,
                server: self.flags & SERVER != 0,
                leaving: self.flags & LEAVING != 0,
            },
            devices,
        };
        Ok(Entry { node, sequence, age_ms, info })
    }
}

fn devices_as_bytes(devices: &[Devices; 4]) -> [u8; 6] {
    let counts = devices.map(|kind| kind.total() << 4 | kind.free().unwrap_or(FREE_UNKNOWN));
    let [intel, nvidia, amd, mic] = devices.map(Devices::drained);
    let [a, b, c, d] = counts;
    [a, b, c, d, intel << 4 | nvidia, amd << 4 | mic]
}

/// None if no node can have these.
fn devices_of_bytes(bytes: [u8; 6]) -> Option<[Devices; 4]> {
    let [counts @ .., first, second] = bytes;
    let drained = [first >> 4, first & 15, second >> 4, second & 15];
    let mut all = [Devices::default(); 4];
    for ((devices, count), drained) in all.iter_mut().zip(counts).zip(drained) {
        let free = Some(u16::from(count & 15)).filter(|free| *free != u16::from(FREE_UNKNOWN));
        *devices = Devices::new((count >> 4).into(), free, drained.into());
    }
    (devices_as_bytes(&all) == bytes).then_some(all)
}

#[cfg(test)]
mod tests;

//! Claims and answers as bytes, each in a datagram of its own.
//!
//! ```text
//!  claim   1 'C' sender process(8) tasks haste memory limit unknown        all numbers with the highest byte first,
//!  answer  1 'A' sender process(8) outcome cpus speed tasks haste memory used    four bytes where nothing else is said
//! ```
//!
//! Numbers of tasks and costs are in thousandths, memory in KiB of claims and MiB of rooms.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::candidate::ProcessId;
use super::cost::{Demand, Room};
use super::ledger::{Answer, Claim, Refused};
use crate::NodeId;
use crate::gossip::DatagramError;
use crate::load::Speed;

/// The version of claims and answers.
const VERSION: u8 = 1;

pub(crate) const CLAIM: u8 = b'C';
pub(crate) const ANSWER: u8 = b'A';

/// A limit that says: at any cost.
const ANY_COST: u32 = u32::MAX;

/// No process uses more processors, in thousandths.
const TASKS_MAX: u32 = 8_192_000;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ClaimLine {
    version: u8,
    kind: u8,
    sender: U16,
    process: U64,
    tasks: U32,
    haste: U32,
    memory_kib: U64,
    limit: U32,
    unknown: u8,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AnswerLine {
    version: u8,
    kind: u8,
    sender: U16,
    process: U64,
    outcome: u8,
    cpus: U16,
    speed: U32,
    tasks: U32,
    haste: U32,
    memory_mib: U32,
    used_mib: U32,
}

/// The refusals, in the order of their numbers, which begin with 1; 0 is agreement.
const REFUSALS: [Refused; 5] =
    [Refused::Closed, Refused::Memory, Refused::Cost, Refused::Busy, Refused::Unmeasured];

fn thousandths(value: f64) -> U32 {
    // Saturates.
    U32::new((value * 1000.0).round() as u32)
}

fn value(thousandths: U32) -> f64 {
    f64::from(thousandths.get()) / 1000.0
}

/// Reads a line that has to be all there is.
fn line<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> Result<&T, DatagramError> {
    T::ref_from_bytes(bytes).map_err(|_| DatagramError::Length)
}

impl Claim {
    /// As bytes.
    pub fn write(&self, sender: NodeId) -> Vec<u8> {
        let line = ClaimLine {
            version: VERSION,
            kind: CLAIM,
            sender: sender.get().into(),
            process: self.process.0.into(),
            tasks: thousandths(self.demand.tasks),
            haste: thousandths(self.demand.haste),
            memory_kib: U64::new((self.demand.memory_mib * 1024.0).round() as u64),
            limit: if self.limit.is_finite() { thousandths(self.limit) } else { U32::new(ANY_COST) },
            unknown: u8::from(self.unknown),
        };
        line.as_bytes().to_vec()
    }

    /// Reads what [`Self::write`] has written.
    pub fn read(bytes: &[u8]) -> Result<(NodeId, Self), DatagramError> {
        let line: &ClaimLine = line(bytes)?;
        if (line.version, line.kind) != (VERSION, CLAIM) {
            return Err(DatagramError::Unknown);
        }
        let sender = NodeId::new(line.sender.get()).ok_or(DatagramError::Node)?;
        let possible = line.tasks.get() <= TASKS_MAX
            && line.haste.get() <= line.tasks.get()
            && line.memory_kib.get() < 1 << 42
            && line.unknown <= 1;
        if !possible {
            return Err(DatagramError::Figures);
        }
        let limit = if line.limit.get() == ANY_COST { f64::INFINITY } else { value(line.limit) };
        let demand = Demand {
            tasks: value(line.tasks),
            haste: value(line.haste),
            memory_mib: line.memory_kib.get() as f64 / 1024.0,
        };
        let process = ProcessId(line.process.get());
        Ok((sender, Claim { process, demand, unknown: line.unknown == 1, limit }))
    }
}

impl Answer {
    /// As bytes.
    pub fn write(&self, sender: NodeId) -> Vec<u8> {
        let refusal = |refused: Refused| {
            REFUSALS.iter().position(|it| *it == refused).map_or(u8::MAX, |position| position as u8 + 1)
        };
        let line = AnswerLine {
            version: VERSION,
            kind: ANSWER,
            sender: sender.get().into(),
            process: self.process.0.into(),
            outcome: self.outcome.err().map_or(0, refusal),
            cpus: U16::new(self.room.cpus as u16),
            speed: Speed::of_relative(self.room.speed).get().into(),
            tasks: thousandths(self.room.tasks),
            haste: thousandths(self.room.haste),
            memory_mib: U32::new(self.room.memory_mib as u32),
            used_mib: U32::new(self.room.used_mib.ceil() as u32),
        };
        line.as_bytes().to_vec()
    }

    /// Reads what [`Self::write`] has written.
    pub fn read(bytes: &[u8]) -> Result<(NodeId, Self), DatagramError> {
        let line: &AnswerLine = line(bytes)?;
        if (line.version, line.kind) != (VERSION, ANSWER) {
            return Err(DatagramError::Unknown);
        }
        let sender = NodeId::new(line.sender.get()).ok_or(DatagramError::Node)?;
        let outcome = match line.outcome {
            0 => Ok(()),
            number => {
                let refusal = REFUSALS.get(usize::from(number) - 1);
                Err(*refusal.ok_or(DatagramError::Figures)?)
            }
        };
        let speed = Speed::new(line.speed.get()).ok_or(DatagramError::Figures)?;
        if line.cpus.get() == 0 {
            return Err(DatagramError::Figures);
        }
        let room = Room {
            cpus: f64::from(line.cpus.get()),
            speed: speed.relative(),
            tasks: value(line.tasks),
            haste: value(line.haste),
            memory_mib: f64::from(line.memory_mib.get()),
            used_mib: f64::from(line.used_mib.get()),
        };
        Ok((sender, Answer { process: ProcessId(line.process.get()), outcome, room }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: Room =
        Room { cpus: 4.0, speed: 1.5, tasks: 2.25, haste: 0.125, memory_mib: 8000.0, used_mib: 123.0 };

    fn node() -> NodeId {
        NodeId::new(258).unwrap()
    }

    #[test]
    fn the_bytes_are_these() {
        let demand = Demand { tasks: 1.0, haste: 0.5, memory_mib: 3.0 };
        let claim = Claim { process: ProcessId(5), demand, unknown: true, limit: 2.0 };
        let expected = [
            &[1, b'C', 1, 2, 0, 0, 0, 0, 0, 0, 0, 5][..],
            &[0, 0, 3, 232, 0, 0, 1, 244],
            &[0, 0, 0, 0, 0, 0, 12, 0],
            &[0, 0, 7, 208, 1],
        ];
        assert_eq!(claim.write(node()), expected.concat());
        let answer = Answer { process: ProcessId(5), outcome: Err(Refused::Cost), room: ROOM };
        let expected = [
            &[1, b'A', 1, 2, 0, 0, 0, 0, 0, 0, 0, 5, 3][..],
            &[0, 4, 0, 0, 0x3a, 0x98],
            &[0, 0, 8, 202, 0, 0, 0, 125, 0, 0, 31, 64, 0, 0, 0, 123],
        ];
        assert_eq!(answer.write(node()), expected.concat());
    }

    #[test]
    fn what_was_written_is_read() {
        for outcome in REFUSALS.map(Err).into_iter().chain([Ok(())]) {
            let answer = Answer { process: ProcessId(u64::MAX), outcome, room: ROOM };
            assert_eq!(Answer::read(&answer.write(node())), Ok((node(), answer)));
        }
        for limit in [0.0, 12.5, f64::INFINITY] {
            let demand = Demand { tasks: 1.0, haste: 0.5, memory_mib: 3.5 };
            let claim = Claim { process: ProcessId(7), demand, unknown: false, limit };
            assert_eq!(Claim::read(&claim.write(node())), Ok((node(), claim)));
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_could_have_been_sent(
            kind in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..60)
        ) {
            let kind = if kind { CLAIM } else { ANSWER };
            let length = if kind == CLAIM { size_of::<ClaimLine>() } else { size_of::<AnswerLine>() };
            let mut bytes = [&[1, kind][..], &bytes].concat();
            bytes.resize(length, 0);
            if let Ok((sender, claim)) = Claim::read(&bytes) {
                prop_assert!(claim.demand.haste <= claim.demand.tasks && claim.limit >= 0.0);
                prop_assert_eq!(claim.write(sender), bytes);
            } else if let Ok((sender, answer)) = Answer::read(&bytes) {
                prop_assert_eq!(answer.write(sender), bytes);
            }
        }
    }
}

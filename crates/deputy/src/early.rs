//! The data of a long write, put where the call is going to find them while the rest of them is still arriving.
//!
//! They go to the slot of the agent that the frame's header names, with that slot's lock held. When the whole request is
//! there it is placed as always, less what has been done; if the slot was used in between, all of it is.

use crate::agents::{Agent, Agents};
use minka_kernel::ring::Slot;
use minka_syscalls::marshal::Started;
use minka_wire::frame::Header;
use minka_wire::message::kind;
use std::sync::Arc;

/// What of a request is in the data of a slot.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Whose slot that is. As long as it is held here, no other thread gets the slot.
    agent: Option<Arc<Agent>>,
    started: Started,
    /// The slot's uses after that: with any other number they may be gone.
    uses: u64,
}

impl Early {
    /// Takes in the beginning of a request.
    pub(crate) fn arrived(&mut self, agents: &Agents, header: &Header, begin: &[u8]) {
        if header.kind != kind::CALL {
            return;
        }
        let Some(agent) = self.agent.take().or_else(|| agents.caller(header)) else { return };
        let mut slot = agent.slot();
        let address = slot.data_address();
        self.started = if slot.uses() == self.uses { self.started } else { Started::default() };
        self.started.arrived(begin, header.length as usize, slot.data(), address);
        self.uses = slot.uses();
        drop(slot);
        self.agent = Some(agent);
    }

    /// What of it is still there, for a call of this agent.
    pub(crate) fn valid(&self, agent: &Arc<Agent>, slot: &Slot) -> Started {
        let same = self.agent.as_ref().is_some_and(|begun| Arc::ptr_eq(begun, agent));
        if same && slot.uses() == self.uses { self.started } else { Started::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_kernel::ring::Ring;
    use std::os::fd::AsFd;

    const ADDRESS: u64 = 0x7000_0000_0000;

    fn agents() -> Agents {
        let memfd = minka_kernel::shared::memfd(c"ring", 0).expect("a memfd");
        let agents = Agents::new(Ring::create(memfd.as_fd(), ADDRESS, 2).expect("a ring"));
        assert!(agents.add(10).is_some() && agents.add(11).is_some());
        agents
    }

    /// The frame of a write of `count` bytes that are all 7.
    fn frame(tid: u64, count: usize) -> (Header, Vec<u8>) {
        const WRITE: u64 = 1;
        let arguments = [WRITE, 3, 0x10_0000, count as u64, 0, 0, 0];
        let mut body: Vec<u8> = arguments.iter().flat_map(|word| word.to_le_bytes()).collect();
        body.resize(body.len() + count, 7);
        let header = Header::new(kind::CALL, tid).with_length(body.len()).expect("not too long");
        (header, body)
    }

    fn touched(agents: &Agents, tid: i32) -> bool {
        agents.of(tid).expect("an agent").slot().data().iter().any(|byte| *byte != 0)
    }

    #[test]
    fn data_go_to_the_caller_alone_and_are_valid_until_its_slot_is_used() {
        let agents = agents();
        let (header, body) = frame(11, 200_000);
        let mut early = Early::default();
        early.arrived(&agents, &header, &body[..100_000]);
        early.arrived(&agents, &header, &body[..190_000]);
        let [other, caller] = [10, 11].map(|tid| agents.of(tid).expect("an agent"));
        assert_ne!(early.valid(&caller, &caller.slot()), Started::default());
        assert_eq!(early.valid(&other, &other.slot()), Started::default());
        assert!(touched(&agents, 11) && !touched(&agents, 10));
        assert_eq!(early.valid(&caller, &caller.slot()), Started::default(), "somebody else had the data");
    }

    #[test]
    fn what_has_been_used_by_others_is_begun_anew() {
        let agents = agents();
        let (header, body) = frame(10, 300_000);
        let mut early = Early::default();
        early.arrived(&agents, &header, &body[..100_000]);
        let agent = agents.of(10).expect("an agent");
        agent.slot().data().fill(0);
        early.arrived(&agents, &header, &body[..200_000]);
        assert_ne!(early.valid(&agent, &agent.slot()), Started::default());
        assert_eq!(agent.slot().data().iter().filter(|byte| **byte == 7).count(), 200_000 - 56);
    }

    #[test]
    fn a_slot_that_has_data_is_nobody_elses_as_long_as_they_are_waited_for() {
        let agents = agents();
        let (header, body) = frame(10, 200_000);
        let mut early = Early::default();
        early.arrived(&agents, &header, &body[..150_000]);
        agents.remove(10);
        assert!(agents.add(12).is_none());
        drop(early);
        assert!(agents.add(12).is_some());
    }

    #[test]
    fn nothing_is_written_for_a_thread_that_is_not_there_or_a_frame_that_will_be_refused() {
        let agents = agents();
        let (good, body) = frame(10, 200_000);
        let refuse = |header: Header, body: &[u8]| {
            let mut early = Early::default();
            early.arrived(&agents, &header, &body[..150_000]);
            assert!(!touched(&agents, 10) && !touched(&agents, 11), "{header:?}");
        };
        for unknown in [12, 10 + (1 << 32), u64::MAX] {
            refuse(Header { correlation: unknown, ..good }, &body);
        }
        refuse(Header { kind: kind::SPECIAL, ..good }, &body);
        // Its count is not what the frame brings.
        refuse(Header { length: good.length + 1, ..good }, &body);
        for (word, wrong) in [(0, 2u64), (0, 1 << 32 | 1), (2, u64::MAX - 5), (2, 0), (3, u64::MAX), (3, 100)]
        {
            let mut body = body.clone();
            body[word * 8..word * 8 + 8].copy_from_slice(&wrong.to_le_bytes());
            refuse(good, &body);
        }
    }
}

//! What the nodes of a cluster tell each other, and what each decides from it by itself. Pure.
//!
//! There is no clock, socket, thread or source of chance in here: time, figures, datagrams and random numbers are
//! passed in, and what is to be done is returned. The daemon and the simulator run the same code.
//!
//! Reading order: [`load`] (what a node knows of itself), [`gossip`] (how the others come to know it, and how old
//! what they know is), [`balance`] (who
//! should compute where), [`membership`] (who is there), [`node`] (all of it together).

pub mod balance;
pub mod gossip;
pub mod load;
pub mod membership;
pub mod node;

use serde::{Deserialize, Serialize};

/// The number of a node, unique in its cluster; openMosix's node ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(std::num::NonZeroU16);

impl NodeId {
    /// A node's number; `None` for 0, which names nobody.
    pub const fn new(id: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// The number as an index.
    pub(crate) fn index(self) -> usize {
        usize::from(self.get())
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

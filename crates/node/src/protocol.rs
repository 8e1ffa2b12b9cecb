//! What the tools and the node daemon say to each other over the control socket.
//!
//! One JSON value per line, at most [`LINE_MAX`] bytes with its line feed, each wrapped in a [`Message`]
//! that carries the protocol's version:
//!
//! ```text
//! tool                                    daemon
//!  │ {"version":1,"body":{"migrate":…}} ───►│
//!  │◄─── {"version":1,"body":{"migrated":…}}│   one answer,
//!  │ {"version":1,"body":{"ps":…}} ────────►│
//!  │◄─── {"version":1,"body":{"process":…}} │   or a list of items closed by `end`,
//!  │◄─── {"version":1,"body":"end"}         │
//!  │ {"version":1,"body":{"trace":…}} ─────►│
//!  │◄─── {"version":1,"body":{"event":…}}   │   or events until either side closes.
//! ```
//!
//! A connection serves any number of requests, one after the other. Lists are sent item by item so that
//! no line grows with the size of the cluster.

mod refusal;
mod view;

use minka_image::cpu::Features;
pub use minka_wire::local::{DeviceKind, FreeDevice, GuestMemory};
pub use minka_wire::start::Unstarted;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::refusal::{NoDevice, Refusal};
pub use self::view::{
    Closed, DeviceFigures, Event, Figures, Migrated, Node, Pool, PoolKind, Process, State, Status,
};
pub use crate::advice::{Advice, Job, Overheads, Pace, Part};

/// The version of this protocol that this build speaks.
pub const VERSION: u32 = 1;

/// So many nodes are asked for one [`Request::Processors`] at most.
pub const NODES_MAX: usize = 32;

/// Longest line in either direction, its line feed included, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// One line: a version and what is said in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<T> {
    /// Protocol version of the sender.
    pub version: u32,
    /// What is said.
    pub body: T,
}

/// What a tool asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What this node is and what it is doing. Answered by [`Answer::Status`].
    Status,
    /// The processes that this node knows. Answered by [`Answer::Process`] items and [`Answer::End`].
    Ps {
        /// Also the processes that have never moved (the caller's own; root sees everybody's).
        all: bool,
    },
    /// Move a process. Answered by [`Answer::Migrated`], or [`Answer::Armed`] when `at_exec` is set.
    Migrate {
        /// The process, as this node counts.
        pid: i32,
        /// A node's name, `home` or `best`.
        to: String,
        /// Wait for the process's next `execve` and move it then.
        at_exec: bool,
    },
    /// Follow the calls that a process forwards. Answered by [`Answer::Event`]s until the process ends.
    Trace {
        /// The process, as this node counts.
        pid: i32,
    },
    /// The nodes of the cluster. Answered by [`Answer::Node`] items and [`Answer::End`].
    Nodes,
    /// Change how the node takes part in the cluster; for root. Answered by [`Answer::Done`].
    Steer {
        /// What to change.
        what: Steering,
    },
    /// Promise a device of this node's that nobody uses to the process that asks, of a kind if that matters. Answered by
    /// [`Answer::Device`].
    Device {
        /// The kind.
        kind: Option<DeviceKind>,
    },
    /// Start a program on another node that has a device that nobody uses, of a kind if that matters. Answered by
    /// [`Answer::Starting`], after which both sides speak as [`minka_wire::start`] says.
    Start {
        /// The kind.
        kind: Option<DeviceKind>,
    },
    /// What this node's processor and those of other nodes can do. Answered by [`Answer::Processors`].
    Processors {
        /// The other nodes, at most [`NODES_MAX`].
        nodes: Vec<String>,
    },
    /// A node has been heard of at an address, where it is looked for; for root. Answered by [`Answer::Done`].
    Found {
        /// Its name.
        node: String,
        /// Its address.
        address: std::net::SocketAddr,
    },
    /// Why a process cannot move. Answered by [`Answer::Reasons`].
    Reasons {
        /// The process, as this node counts.
        pid: i32,
    },
    /// One process. Answered by [`Answer::Process`].
    Process {
        /// The process, as this node counts.
        pid: i32,
    },
    /// Tell the balancer something about a process. Answered by [`Answer::Done`].
    Advise {
        /// The process, as this node counts.
        pid: i32,
        /// What is said.
        advice: Advice,
    },
    /// As if this user asked; for root. Answered as the request is.
    For {
        /// The user.
        uid: u32,
        /// What they ask.
        request: Box<Request>,
    },
}

/// How a node is to take part in the cluster from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Steering {
    /// Whether its processes stay unless their users move them.
    Stay {
        /// They do.
        on: bool,
    },
    /// Whether it refuses guests that others' balancers would send.
    Block {
        /// It does.
        on: bool,
    },
    /// It sends its guests home, and refuses others.
    Expel,
    /// It fetches its own processes home, and they stay.
    Bring,
    /// The speed of its processors is this; 10000 is the standard processor's.
    Speed {
        /// The speed.
        speed: u32,
    },
    /// What it knows of processes is forgotten like this.
    Decay(Decay),
    /// It tells loads in those of a processor of this speed.
    Yard {
        /// The speed.
        speed: u32,
    },
}

/// How fast a node forgets what it knows of processes: each interval a part of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    /// The interval, in seconds.
    pub interval_s: u16,
    /// The part that is kept, of a thousand.
    pub slow: u16,
    /// The part that is kept of those that asked for the fast pace, of a thousand.
    pub fast: u16,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// See [`Request::Status`].
    Status(Status),
    /// An item of a list of processes.
    Process(Process),
    /// An item of a list of nodes.
    Node(Node),
    /// It is done, or begun.
    Done,
    /// The list is complete, or the events are over.
    End,
    /// The process is where it was asked to be.
    Migrated(Migrated),
    /// The process will move at its next `execve`.
    Armed,
    /// Something happened to a process that is being traced.
    Event(Event),
    /// The device that has been promised.
    Device(FreeDevice),
    /// The node where the program is to be started, and the device that has been promised there.
    Starting {
        /// The node.
        node: String,
        /// The device.
        device: FreeDevice,
    },
    /// What processors can do.
    Processors {
        /// This node's.
        own: Features,
        /// All of them: this is what they have in common.
        common: Features,
    },
    /// Why the process cannot move; empty when it can.
    Reasons(Vec<String>),
    /// The request was not carried out.
    Refused(Refusal),
}

#[cfg(test)]
mod tests;

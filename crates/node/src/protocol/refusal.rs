//! Why something is not done.

use serde::{Deserialize, Serialize};

use super::{DeviceKind, Unstarted};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The request was not understood; the connection is closed after it.
    #[error("the request was not understood: {detail}")]
    BadRequest {
        /// What is wrong with it.
        detail: String,
    },
    /// The request speaks another version of the protocol.
    #[error("the daemon speaks version {supported} of the protocol, not {version}")]
    Version {
        /// Version of the request.
        version: u32,
        /// Version that the daemon speaks.
        supported: u32,
    },
    /// Only root may do that.
    #[error("only root may steer a node")]
    NotRoot,
    /// The node takes no part in a cluster, or the figure is none that a node can have.
    #[error("the node cannot be steered like that")]
    NotSteered,
    /// Too many clients, or too many of this user.
    #[error("the daemon has too many clients")]
    TooManyClients,
    /// The caller does not own the process.
    #[error("process {pid} belongs to another user")]
    NotPermitted {
        /// The process.
        pid: i32,
    },
    /// There is no such process (any more).
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The process.
        pid: i32,
    },
    /// No node has that name, or no other node can be reached.
    #[error("there is no node {name}")]
    NoSuchNode {
        /// The name asked for.
        name: String,
    },
    /// The node does not answer.
    #[error("node {node} does not answer")]
    Silent {
        /// The node.
        node: String,
    },
    /// The process cannot move.
    #[error("process {pid} cannot move: {}", reasons.join("; "))]
    CannotMove {
        /// The process.
        pid: i32,
        /// Why, at least one reason.
        reasons: Vec<String>,
    },
    /// The move was tried and did not succeed; the process is where `at` says.
    #[error("process {pid} did not move: {reason}")]
    NotMoved {
        /// The process.
        pid: i32,
        /// The node where it is.
        at: String,
        /// Why it did not move.
        reason: String,
    },
    /// Another order for the process is being carried out.
    #[error("process {pid} is being moved already")]
    Busy {
        /// The process.
        pid: i32,
    },
    /// The order was given and has not been answered in time.
    #[error("process {pid} has not moved within {seconds} s")]
    TimedOut {
        /// The process.
        pid: i32,
        /// How long the daemon waited.
        seconds: u64,
    },
    /// The daemon is at one of its limits.
    #[error("the node already takes care of {limit} processes")]
    TooManyProcesses {
        /// The limit.
        limit: usize,
    },
    /// There is no such device here that nobody uses.
    #[error("no free device")]
    NoDevice {
        /// The kind that was asked for.
        kind: Option<DeviceKind>,
        /// Why there is none.
        why: NoDevice,
        /// Other nodes that say that they have one.
        elsewhere: Vec<String>,
    },
    /// No other node starts the program.
    #[error("no other node starts it")]
    NotStarted {
        /// Those that were asked, and why not.
        nodes: Vec<(String, Unstarted)>,
    },
    /// The daemon is ending.
    #[error("the node daemon is ending")]
    Ending,
}

/// Why there is no free device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoDevice {
    /// Nobody looks after this node's accelerators.
    NotWatched,
    /// The node has none.
    None,
    /// Others use them.
    InUse,
    /// They are to get no work.
    Drained,
    /// It is not known whether somebody uses them.
    NotKnown,
}

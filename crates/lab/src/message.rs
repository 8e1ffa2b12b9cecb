//! What the processes of a lab say to each other.
//!
//! ```text
//! caller ── Plan ──────► supervisor ── NodePlan ──► init     at the start
//!                                   ── Go ───────►           when the node's cable is plugged in
//!                                   ◄─ NodeEvent ──          the node has joined the network
//!                                   ── Go ───────►           when all nodes have
//!                                   ◄─ NodeEvent ──          daemon started, daemon ended, or a failure
//! caller ◄─ Startup ────                                     when all daemons answer, or none ever will
//! anyone ── Request ───► supervisor                          on lab.sock
//! anyone ◄─ Reply ──────
//! caller ◄─ ProgramEvent ── enter                            a program started in a node, and its end
//! ```

use std::net::Ipv4Addr;
use std::path::PathBuf;

use minka_link::BalanceMode;
use serde::{Deserialize, Serialize};

use crate::description::Description;

/// Everything the supervisor needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) description: Description,
    pub(crate) node_command: Vec<String>,
    pub(crate) lenient: bool,
    pub(crate) balance: BalanceMode,
    pub(crate) attached: bool,
    pub(crate) start_timeout_ms: u64,
}

/// What became of the start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Startup {
    Up(Description),
    /// A text that continues "failed to …".
    Failed(String),
}

/// Everything a node's init needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) run_directory: PathBuf,
}

/// The node's interface is there; or, after that, those of all nodes are up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Go;

/// What a node's init has to tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum NodeEvent {
    /// The node can be reached by those that have joined before.
    Joined,
    /// The daemon runs, with this PID in the node.
    Started(u32),
    /// The daemon ended with this status, as `wait` gives it.
    Ended(i32),
    /// A text that continues "failed to …".
    Failed(String),
}

/// What can be asked of a running lab.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status,
    Kill(u32),
    Cut(u32),
    Deafen(u32),
    Heal(u32),
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Status(Vec<NodeStatus>),
    NoSuchNode,
    NodeDead,
    /// A text that continues "failed to …".
    Failed(String),
}

/// How a program in a node fares.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ProgramEvent {
    /// It runs, with these PIDs.
    Started { pid: u32, pid_in_node: u32 },
    /// It could not be started.
    Refused { step: String, errno: i32 },
    /// It ended with this status, as `wait` gives it.
    Ended(i32),
}

/// How a node fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number, from 1.
    pub number: u32,
    /// Its host name.
    pub name: String,
    /// Its address in the lab's network.
    pub address: Ipv4Addr,
    /// Whether its init lives, and with it the node.
    pub alive: bool,
    /// Whether its cable is plugged in.
    pub connected: bool,
    /// How its daemon fares.
    pub daemon: DaemonState,
}

/// How the daemon of a node fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// It is being started.
    Starting,
    /// It runs, with this PID in the node.
    Running(u32),
    /// It ended by itself, with this status as a shell gives it (128 + signal), while the node went on.
    Ended(u8),
    /// It died with its node.
    Killed,
}

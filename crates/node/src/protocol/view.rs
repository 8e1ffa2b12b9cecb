//! What is told of nodes and processes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Decay, DeviceKind, GuestMemory, Part};

/// What a node is and what it is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Minka's version.
    pub release: String,
    /// PID of the daemon.
    pub pid: i32,
    /// Address at which it accepts guests.
    pub listen: String,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Processes of this node that are away.
    pub away: usize,
    /// Guests of other nodes that compute here.
    pub guests: usize,
    /// How fast it forgets what it knows of processes; none where it takes no part in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// How it shares with the others; none where it takes no part in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Its part in the cluster, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// How a node shares with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// What its configuration says.
    pub kind: PoolKind,
    /// Why it takes no guests at the moment; none if it takes some.
    pub closed: Option<Closed>,
    /// Seconds since somebody used the machine's own keyboard, mouse or screens; none if nobody ever did, or it does not
    /// matter to this node.
    pub idle_s: Option<u64>,
}

/// The kinds of pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// All nodes are for everybody.
    Single,
    /// It computes for the others.
    Server,
    /// It sends its own work away, and takes none.
    Client,
    /// It takes part now and then.
    Adaptive,
}

/// Why a node takes no guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Somebody said so (`mosctl block`).
    Blocked,
    /// It is a client.
    Client,
    /// It is not the time for it.
    Time,
    /// Somebody uses the machine.
    Used,
}

/// Where a process is in its travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// At home.
    Home,
    /// Computing on another node.
    Away,
    /// An order to move it is being carried out.
    Moving,
    /// Of another node, computing here.
    Guest,
    /// Over; kept for its reason.
    Ended,
}

/// One process as `minka ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// PID as this node counts.
    pub pid: i32,
    /// Real user id of its owner; for a guest it is unknown here.
    pub uid: Option<u32>,
    /// Command name, as in `/proc/PID/comm`.
    pub command: String,
    /// Name of its home node.
    pub home: String,
    /// PID at its home node.
    pub home_pid: i32,
    /// Name of the node where it computes.
    pub at: String,
    /// Where it is in its travels.
    pub state: State,
    /// How many times it arrived somewhere, coming home included.
    pub moves: u64,
    /// Where its user placed it (a node's name or `best`), while that holds.
    pub wanted: Option<String>,
    /// Length of its last freeze, from the stop to running again, in microseconds.
    pub freeze_us: Option<u64>,
    /// Why it last came home by itself, or why it ended.
    pub reason: Option<String>,
    /// Why it cannot move; empty when it can or when it was not asked for.
    pub cantmove: Vec<String>,
    /// How a guest's memory came here; none before all of it has, and of processes that are no guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub memory: Option<GuestMemory>,
    /// Whether it stays where it is unless its user moves it; none where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
}

/// A node of the cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it accepts guests.
    pub address: String,
    /// Whether this is the node that answers.
    pub this: bool,
    /// Whether the last connection to it succeeded.
    pub reachable: bool,
    /// Processes of this node that compute there.
    pub guests: usize,
    /// Its number, as openMosix's tools name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// Whether it has joined the cluster and is up, as far as is known here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub member: bool,
    /// What it told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// What a node told of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// Runnable tasks, on average: rises at once and falls slowly.
    pub load: f64,
    /// Runnable tasks in the last second.
    pub running: f64,
    /// The load per processor, as a standard processor would have it, in hundredths.
    pub standard_load: u32,
    /// Processors.
    pub cpus: u16,
    /// Of one of them; 10000 is the standard processor's.
    pub speed: u32,
    /// Processor time in use, in percent.
    pub utilisation: u8,
    /// Time in which somebody waited for a disk, in percent.
    pub io_stall: u8,
    /// Memory that Linux has, in MiB.
    pub memory_mib: u32,
    /// Memory that Linux calls free, in MiB.
    pub free_mib: u32,
    /// Memory that processes can have, in MiB.
    pub available_mib: u32,
    /// It takes no guests.
    pub blocked: bool,
    /// Its own processes do not leave it by themselves.
    pub stays: bool,
    /// It is being emptied.
    pub leaving: bool,
    /// The kinds of accelerators that it has; none if it does not look for any.
    #[serde(default)]
    pub devices: Option<Vec<DeviceFigures>>,
}

/// How many accelerators of a kind a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceFigures {
    /// Which kind: `intel`, `nvidia`, `amd` or `mic`.
    #[schema(value_type = String)]
    pub kind: DeviceKind,
    /// All of them; 15 stands for more, too.
    pub total: u8,
    /// Those that nobody uses and that are not drained, 14 at most; null where that is not known.
    pub free: Option<u8>,
    /// Those that are to get no work.
    pub drained: u8,
}

/// Where a process is after a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Migrated {
    /// The process, as this node counts.
    pub pid: i32,
    /// Name of the node where it is now.
    pub at: String,
    /// Whether it moved; false when it was there already.
    pub moved: bool,
    /// How long it stood still, in microseconds.
    pub freeze_us: u64,
    /// The processes that were moved with it, as they share memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<i32>,
}

/// What happens to a process that is being traced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A call it forwarded, as `strace` would print it.
    Call {
        /// The line, without a line feed.
        line: String,
    },
    /// Lines were left out because the reader was too slow.
    Lost {
        /// How many.
        lines: u64,
    },
    /// It arrived at a node.
    Arrived {
        /// The node's name.
        at: String,
        /// Whether that is its home.
        home: bool,
        /// Why, when it came home by itself.
        reason: Option<String>,
        /// How long it stood still, in microseconds.
        freeze_us: u64,
    },
    /// It is over.
    Ended {
        /// Why, when that was a fault.
        reason: Option<String>,
    },
}

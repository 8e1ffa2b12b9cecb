//! What the node daemon and its three kinds of children say to each other, on one node.
//!
//! The daemon starts one `deputy` program per process that it moves away, one `host` program per
//! guest that it takes in, and one `xpu` program that looks after the node's accelerators. Each child has a UNIX `SOCK_SEQPACKET` socket as descriptor
//! [`CHILD_SOCKET`]; every packet is one JSON value of the types below, at most [`PACKET_MAX`] bytes.
//!
//! ```text
//! minkad ──DeputyOrder──► deputy     minkad ──HostOrder (+ a TCP descriptor)──► host
//!        ◄─DeputyReport──                    ◄─HostReport──
//!
//! minkad ──XpuOrder──► xpu
//!        ◄─XpuReport──
//! ```

use serde::{Deserialize, Serialize};

/// What the kernel shows as the command name of a deputy or host program that waits for a move.
pub const NAME_IN_WAITING: &std::ffi::CStr = c"minka-waiting";

/// The descriptor at which a child program finds its socket to the daemon.
pub const CHILD_SOCKET: i32 = 3;

/// How deputies name what they leave in the run directory for a rescue: the PID follows.
pub const RECORD_PREFIX: &str = "parked-";

/// Largest packet between the daemon and a child, in bytes.
pub const PACKET_MAX: usize = 64 * 1024;

/// What the daemon asks of the zygote, a program that becomes deputies and hosts by forking itself: to become one of
/// these. The packet carries the descriptor that is to be the new child's [`CHILD_SOCKET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZygoteOrder {
    /// A deputy program.
    Deputy,
    /// A host program.
    Host,
}

/// What the zygote answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZygoteReport {
    /// The new program has this PID, and waits for its first order.
    Made {
        /// As the node counts.
        pid: i32,
    },
    /// There is none.
    Failed {
        /// Why not, for people.
        reason: String,
    },
}

/// A family: processes that share memory and move together. Each deputy of one is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// Names this move of it, and no other one.
    pub id: FamilyId,
    /// Its members, in an order that is the same for all.
    pub members: Vec<i32>,
}

/// Names a move of a family. It is random.
pub type FamilyId = [u8; 16];

/// How the ledgers of families are named in the run directory: the family's id follows, in hexadecimal.
pub const LEDGER_PREFIX: &str = "family-";

impl Family {
    /// The name of its ledger.
    pub fn ledger(&self) -> String {
        self.id.iter().fold(LEDGER_PREFIX.to_owned(), |name, byte| name + &format!("{byte:02x}"))
    }
}

/// What the daemon asks of a deputy program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeputyOrder {
    /// There is nothing to do yet: read what is going to be needed.
    Ready {
        /// Path of the node's `node.toml`.
        config: String,
    },
    /// The first packet, but for that: which process this deputy is for, and where the node's configuration is.
    Start {
        /// Process to take care of, as this node counts.
        pid: i32,
        /// Path of the node's `node.toml`.
        config: String,
    },
    /// Move the process to a node (from home, or from another node).
    Move {
        /// Name of the target node.
        to: String,
        /// Wait for the process's next `execve` and move it then.
        at_exec: bool,
        /// The process moves with others, each of which has a deputy with the same order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family: Option<Family>,
        /// Whatever it was started to do without, it needs all features of this node's processor.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        needs_all: bool,
    },
    /// Where a node is reached at present; told before an order to move there.
    Address {
        /// The node.
        node: String,
        /// Its address.
        address: std::net::SocketAddr,
    },
    /// This node is short of memory: while the process is away, keep nothing of its memory here that its host has.
    GiveBack,
    /// Bring the process home and leave it there.
    Home,
    /// Send (or stop sending) a [`DeputyReport::Trace`] per forwarded call.
    Trace {
        /// Whether to send them.
        on: bool,
    },
    /// Put right a process that a killed deputy left behind, from the record that deputy kept.
    Rescue {
        /// The process.
        pid: i32,
        /// Path of the node's `node.toml`.
        config: String,
        /// The family with which it was moved last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family: Option<Family>,
    },
}

/// What a deputy program tells the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeputyReport {
    /// Seized and waiting for the next `execve` (answers `Move { at_exec: true }`).
    Armed,
    /// The process has arrived at a node.
    Arrived {
        /// Name of the node, or `None` for home.
        at: Option<String>,
        /// Why, when the process came home by itself.
        reason: Option<String>,
        /// Time from the stop to running again, microseconds.
        freeze_us: u64,
        /// Calls that were forwarded for it since it last arrived anywhere.
        calls: u64,
    },
    /// The process was at an instruction that its host's processor did not know: it needs all features of its home's.
    NeedsAll,
    /// An order could not be carried out; the process is where it was.
    Refused {
        /// Why not, for people.
        reason: String,
        /// It shares memory with others, with whom it would have to move.
        #[serde(default)]
        shares: bool,
    },
    /// A forwarded call, as `strace` would print it.
    Trace {
        /// The line, without a line feed.
        line: String,
    },
    /// Trace lines that were left out because the reader was too slow.
    TraceLost {
        /// How many.
        lines: u64,
    },
    /// The process has ended, or is home for good: the deputy program ends now.
    Ended {
        /// Why, when it ended through a fault (host lost, …).
        reason: Option<String>,
        /// Calls that were forwarded for it since it last arrived anywhere.
        #[serde(default)]
        calls: u64,
    },
}

/// What the daemon tells a host program. A [`HostOrder::Channel`] carries a TCP descriptor, a [`HostOrder::Objects`] one of
/// memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostOrder {
    /// The first packet: where the node's configuration is.
    Start {
        /// Path of the node's `node.toml`.
        config: String,
    },
    /// A connection for this session; its preamble has been read.
    Channel {
        /// The preamble's bytes.
        preamble: Vec<u8>,
    },
    /// Send the guest home.
    Expel,
    /// The memory in which all guests of a family here have what they share (answers [`HostReport::Family`]).
    Objects,
}

/// How a guest's memory came to its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemory {
    /// Pages that it missed: it touched them before they had come.
    pub faults: u64,
    /// Bytes that were fetched for it because of that.
    pub fetched_bytes: u64,
    /// Bytes that came by themselves.
    pub streamed_bytes: u64,
    /// Time from the image's arrival until all memory was here, microseconds.
    pub stream_us: u64,
}

/// What a host program tells the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostReport {
    /// A guest computes here.
    Guest {
        /// Name of its home node.
        home: String,
        /// Its PID at home.
        pid: i32,
        /// Its PID as this node counts.
        local_pid: i32,
        /// Its command name.
        command: String,
    },
    /// The guest is going to share memory with others.
    Family {
        /// Name of its home node.
        home: String,
        /// The name of the family there.
        family: FamilyId,
    },
    /// All of the guest's memory is here.
    Memory(GuestMemory),
    /// So many calls have been forwarded since it came; once a second at most, and only after it has made one.
    Calls(u64),
    /// The guest has left or ended: the host program ends now.
    Ended {
        /// Why, when it was a fault.
        reason: Option<String>,
    },
}

/// What the daemon tells the program that looks after accelerators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XpuOrder {
    /// The first packet: where the node's configuration is.
    Start {
        /// Path of the node's `node.toml`.
        config: String,
    },
}

/// What the program that looks after accelerators tells the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XpuReport {
    /// The node's accelerators now; said again when that changes.
    Devices {
        /// How many there are.
        counts: Accelerators,
        /// Which of them are free, [`FREE_DEVICES_MAX`] at most.
        free: Vec<FreeDevice>,
    },
}

/// Most free devices that are named.
pub const FREE_DEVICES_MAX: usize = 64;

/// A kind of accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Intel's GPUs.
    Intel,
    /// NVIDIA's GPUs.
    Nvidia,
    /// AMD's GPUs.
    Amd,
    /// Xeon Phis.
    Mic,
}

impl DeviceKind {
    /// Its name, as it is said on command lines, too.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Intel => "intel",
            DeviceKind::Nvidia => "nvidia",
            DeviceKind::Amd => "amd",
            DeviceKind::Mic => "mic",
        }
    }
}

/// A device that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeDevice {
    /// Its kind.
    pub kind: DeviceKind,
    /// What tells it from all others on its machine: its PCI address.
    pub address: String,
    /// Its vendor's or driver's own name for it.
    pub uuid: String,
}

/// How many accelerators a node has, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerators {
    /// Intel's GPUs.
    pub intel: DeviceCount,
    /// NVIDIA's GPUs.
    pub nvidia: DeviceCount,
    /// AMD's GPUs.
    pub amd: DeviceCount,
    /// Xeon Phis.
    pub mic: DeviceCount,
}

/// How many devices of a kind there are, and how many of them can be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCount {
    /// All of them.
    pub total: u16,
    /// Those that nobody uses and that are not drained; none if that is not known.
    pub free: Option<u16>,
    /// Those that are to get no work.
    pub drained: u16,
}

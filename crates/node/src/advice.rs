//! What users tell the balancer about their processes, and what the balancer goes by.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a user says of a process; it holds for what the process starts from then on, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Advice {
    /// Whether it stays where it is unless its user moves it.
    Lock {
        /// It does.
        on: bool,
    },
    /// What it mostly does.
    Job {
        /// This.
        kind: Job,
    },
    /// How fast its calls are forgotten.
    Decay {
        /// At this pace.
        pace: Pace,
    },
    /// What is known of its calls is forgotten at once.
    Clear,
}

/// What a process mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// It computes: the calls that it makes do not draw it home.
    Cpu,
    /// It reads and writes: it is drawn home as if it made many calls, also where it has not yet.
    Io,
}

/// How fast what is known of a process is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// As that of all others.
    Slow,
    /// Faster.
    Fast,
    /// Not at all.
    Never,
}

/// A node's part in the cluster, as it has been set; what nodes tell each other of it follows a second later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Its number, as openMosix's tools name it.
    pub number: u16,
    /// Its own processes do not leave it by themselves.
    pub stays: bool,
    /// It takes no guests.
    pub blocked: bool,
    /// The speed of its processors; 10000 is the standard processor's.
    pub speed: u32,
    /// The speed of the processor in whose loads it tells loads.
    pub yard: u32,
    /// What it thinks that moving costs.
    pub overheads: Overheads,
}

/// What a node thinks that moving costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overheads {
    /// Moving any process, in microseconds.
    pub move_us: u64,
    /// Memory that follows in a second, in MiB.
    pub move_mib_s: u64,
    /// What a forwarded call takes longer than one at home, in nanoseconds.
    pub call_ns: u64,
    /// Whether these figures were measured; otherwise they are assumed.
    pub measured: bool,
}

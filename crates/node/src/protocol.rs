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

pub use minka_wire::local::{DeviceKind, FreeDevice, GuestMemory};
pub use minka_wire::start::Unstarted;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use crate::advice::{Advice, Job, Overheads, Pace, Part};

/// The version of this protocol that this build speaks.
pub const VERSION: u32 = 1;

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
    /// Why the process cannot move; empty when it can.
    Reasons(Vec<String>),
    /// The request was not carried out.
    Refused(Refusal),
}

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

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// What is said, and the line that says it, in both directions.
    fn pinned<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T, line: &str) {
        let message = Message { version: VERSION, body };
        assert_eq!(serde_json::to_string(&message).unwrap(), line);
        assert_eq!(serde_json::from_str::<Message<T>>(line).unwrap(), message);
    }

    #[test]
    fn requests_are_pinned() {
        pinned(Request::Status, r#"{"version":1,"body":"status"}"#);
        pinned(Request::Ps { all: true }, r#"{"version":1,"body":{"ps":{"all":true}}}"#);
        pinned(
            Request::Migrate { pid: 7, to: "b".into(), at_exec: false },
            r#"{"version":1,"body":{"migrate":{"pid":7,"to":"b","at_exec":false}}}"#,
        );
        pinned(Request::Trace { pid: 7 }, r#"{"version":1,"body":{"trace":{"pid":7}}}"#);
        pinned(Request::Nodes, r#"{"version":1,"body":"nodes"}"#);
        pinned(
            Request::Start { kind: Some(DeviceKind::Amd) },
            r#"{"version":1,"body":{"start":{"kind":"amd"}}}"#,
        );
        pinned(
            Request::Steer { what: Steering::Stay { on: true } },
            r#"{"version":1,"body":{"steer":{"what":{"stay":{"on":true}}}}}"#,
        );
        pinned(
            Request::Steer { what: Steering::Bring },
            r#"{"version":1,"body":{"steer":{"what":"bring"}}}"#,
        );
        pinned(
            Request::Device { kind: Some(DeviceKind::Amd) },
            r#"{"version":1,"body":{"device":{"kind":"amd"}}}"#,
        );
        pinned(
            Request::Found { node: "a".to_owned(), address: "10.0.0.1:1".parse().unwrap() },
            r#"{"version":1,"body":{"found":{"node":"a","address":"10.0.0.1:1"}}}"#,
        );
        pinned(Request::Reasons { pid: 7 }, r#"{"version":1,"body":{"reasons":{"pid":7}}}"#);
        pinned(Request::Process { pid: 7 }, r#"{"version":1,"body":{"process":{"pid":7}}}"#);
        let request = Request::Advise { pid: 7, advice: Advice::Lock { on: true } };
        pinned(
            Request::For { uid: 9, request: Box::new(request) },
            r#"{"version":1,"body":{"for":{"uid":9,"request":{"advise":{"pid":7,"advice":{"lock":{"on":true}}}}}}}"#,
        );
        pinned(
            Request::Advise { pid: 7, advice: Advice::Job { kind: Job::Cpu } },
            r#"{"version":1,"body":{"advise":{"pid":7,"advice":{"job":{"kind":"cpu"}}}}}"#,
        );
    }

    #[test]
    fn answers_are_pinned() {
        pinned(Answer::End, r#"{"version":1,"body":"end"}"#);
        pinned(Answer::Armed, r#"{"version":1,"body":"armed"}"#);
        let device = FreeDevice { kind: DeviceKind::Amd, address: "0".into(), uuid: "u".into() };
        let line = r#"{"version":1,"body":{"starting":{"node":"b","device":{"kind":"amd","address":"0","uuid":"u"}}}}"#;
        pinned(Answer::Starting { node: "b".into(), device }, line);
        let refused = Refusal::NotStarted { nodes: vec![("b".into(), Unstarted::NotOffered)] };
        let line = r#"{"version":1,"body":{"refused":{"not_started":{"nodes":[["b","not_offered"]]}}}}"#;
        pinned(Answer::Refused(refused), line);
        let migrated = Migrated { pid: 7, at: "b".into(), moved: true, freeze_us: 2310 };
        let line = r#"{"version":1,"body":{"migrated":{"pid":7,"at":"b","moved":true,"freeze_us":2310}}}"#;
        pinned(Answer::Migrated(migrated), line);
        let event = Event::Arrived { at: "a".into(), home: true, reason: Some("fork".into()), freeze_us: 9 };
        let line = r#"{"version":1,"body":{"event":{"arrived":{"at":"a","home":true,"reason":"fork","freeze_us":9}}}}"#;
        pinned(Answer::Event(event), line);
        let line = r#"{"version":1,"body":{"event":{"call":{"line":"getppid() = 1"}}}}"#;
        pinned(Answer::Event(Event::Call { line: "getppid() = 1".into() }), line);
        let refusal = Refusal::NotMoved { pid: 7, at: "a".into(), reason: "no room".into() };
        let line = r#"{"version":1,"body":{"refused":{"not_moved":{"pid":7,"at":"a","reason":"no room"}}}}"#;
        pinned(Answer::Refused(refusal), line);
        let device =
            FreeDevice { kind: DeviceKind::Nvidia, address: "0000:01:00.0".into(), uuid: "GPU-7".into() };
        let line =
            r#"{"version":1,"body":{"device":{"kind":"nvidia","address":"0000:01:00.0","uuid":"GPU-7"}}}"#;
        pinned(Answer::Device(device), line);
        let refusal = Refusal::NoDevice { kind: None, why: NoDevice::InUse, elsewhere: vec!["b".into()] };
        let line = r#"{"version":1,"body":{"refused":{"no_device":{"kind":null,"why":"in_use","elsewhere":["b"]}}}}"#;
        pinned(Answer::Refused(refusal), line);
        pinned(Answer::Reasons(vec!["x".into()]), r#"{"version":1,"body":{"reasons":["x"]}}"#);
        let node = Node {
            number: None,
            member: false,
            figures: None,
            name: "a".into(),
            address: "a:1".into(),
            this: true,
            reachable: true,
            guests: 0,
        };
        let line = r#"{"version":1,"body":{"node":{"name":"a","address":"a:1","this":true,"reachable":true,"guests":0}}}"#;
        pinned(Answer::Node(node), line);
    }

    #[test]
    fn a_request_with_more_than_is_known_is_refused() {
        let more = r#"{"version":1,"body":{"migrate":{"pid":7,"to":"b","at_exec":false,"force":true}}}"#;
        assert!(serde_json::from_str::<Message<Request>>(more).is_err());
    }
}

//! What can go wrong, what people are told, and the exit status that scripts see.

mod membership;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use minka_accel::config::ConfigError;
use minka_accel_firmware::FirmwareError;
use minka_accel_service::settings::SettingsError;
use minka_accel_service::state::StateError;
use minka_enroll::client::EnrollError;
use minka_lab::LabError;
use minka_link::roster::RosterError;
use minka_node::client::ClientError;
use minka_node::protocol::{DeviceKind, NoDevice, Refusal, Unstarted};

use crate::commands::MapError;
use crate::text::Text;

/// The exit statuses of Minka's own failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Failure = 1,
    Usage = 2,
    NotPermitted = 3,
    NotFound = 4,
    Refused = 5,
    /// As shells have it, of a command that cannot be executed.
    NotExecutable = 126,
    /// As shells have it, of a command that is not found.
    CommandNotFound = 127,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Serve(#[from] minka_node::ServeError),
    #[error(transparent)]
    Api(#[from] minka_api::ApiError),
    #[error(transparent)]
    Cluster(#[from] minka_node::ClusterError),
    #[error(transparent)]
    Config(#[from] minka_link::ConfigError),
    #[error(transparent)]
    Roster(#[from] RosterError),
    #[error(transparent)]
    Keys(#[from] minka_link::KeyError),
    #[error("install {}", path.display())]
    Install {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("install {}: another one is there, so this machine is another node already", path.display())]
    OtherNode { path: PathBuf },
    #[error("have systemd do: systemctl {words}")]
    Systemd { words: String },
    #[error(transparent)]
    Service(#[from] minka_enroll::service::ServiceError),
    #[error(transparent)]
    Discovery(#[from] minka_node::discovery::DiscoveryError),
    #[error(transparent)]
    Enroll(#[from] minka_enroll::client::EnrollError),
    #[error(transparent)]
    JoinToken(#[from] minka_enroll::token::TokenError),
    #[error("read the token from {}", path.display())]
    ReadToken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("join without a token: it goes into the variable MINKA_TOKEN, or a file (--token-file)")]
    NoToken,
    #[error("find the service of the cluster's authority: say where it is (--service ADDRESS)")]
    NoService,
    #[error("empty this node first: {away} of its processes are still away, and {guests} guests still here")]
    NotEmpty { away: usize, guests: usize },
    #[error("renew the certificates of all nodes")]
    NotRenewed { nodes: Vec<String> },
    #[error("listen at {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("name a node {name:?}: the word has a meaning of its own")]
    ReservedName { name: String },
    #[error(transparent)]
    Lab(#[from] minka_lab::LabError),
    #[error(transparent)]
    Bench(#[from] minka_bench::BenchError),
    #[error(transparent)]
    AccelBench(#[from] minka_accel_service::bench::BenchError),
    #[error(transparent)]
    XpuServe(#[from] minka_accel_service::ServeError),
    #[error(transparent)]
    Token(#[from] minka_access::TokenError),
    #[error(transparent)]
    XpuLimits(#[from] minka_accel::limits::LimitsError),
    #[error(transparent)]
    XpuState(#[from] minka_accel_service::state::StateError),
    #[error(transparent)]
    XpuSettings(#[from] SettingsError),
    /// Firmware is not known or not updated.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    #[error("{operation}: {reason}")]
    XpuNotOffered { operation: &'static str, reason: &'static str },
    #[error("ask the service at {url}: {reason}")]
    XpuService { url: String, reason: String },
    #[error("find the device {device}")]
    NoSuchXpu { device: String },
    #[error("find the token {name}")]
    NoSuchToken { name: String },
    #[error("understand {name:?}: there is no such field or format")]
    NoSuchField { name: String },
    #[error("set a speed: a number is missing, as 10000")]
    Speed,
    #[error(
        "set the decay: expected the interval in seconds, and two parts of a thousand or none, as 1 975 926"
    )]
    Decay,
    #[error("read the map {}", path.display())]
    ReadMap {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write the map {}", path.display())]
    WriteMap {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("understand the map {}", path.display())]
    Map {
        path: PathBuf,
        #[source]
        source: MapError,
    },
    #[error("take the cluster from {}: it is another one", path.display())]
    OtherMap { path: PathBuf, differences: Vec<String> },
    #[error("tell figures of {node}: it has not told any")]
    Unknown { node: String },
    #[error("understand {list:?}: expected numbers of nodes, as 1-3,7")]
    List { list: String },
    #[error("write the output")]
    Output(#[source] io::Error),
    #[error("start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("find node {node} in the lab")]
    NoSuchLabNode { node: String },
    #[error("write {}", path.display())]
    Report {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("prepare the demonstration")]
    Demo(#[source] io::Error),
    #[error("prepare for signals and the start of programs")]
    Prepare(#[source] io::Error),
    #[error("run the program on node {node}")]
    Elsewhere { node: String, source: io::Error },
}

impl Failure {
    /// The exit status that it gives.
    pub(crate) fn status(&self) -> Status {
        match self {
            Failure::Client(ClientError::Refused(refusal)) => match refusal {
                Refusal::NotPermitted { .. } | Refusal::NotRoot => Status::NotPermitted,
                Refusal::NoSuchProcess { .. } | Refusal::NoSuchNode { .. } => Status::NotFound,
                Refusal::CannotMove { .. }
                | Refusal::NotMoved { .. }
                | Refusal::Busy { .. }
                | Refusal::NoDevice { .. }
                | Refusal::NotStarted { .. } => Status::Refused,
                _ => Status::Failure,
            },
            Failure::Lab(LabError::Program { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Status::CommandNotFound
            }
            Failure::Lab(LabError::Program { .. }) => Status::NotExecutable,
            Failure::Lab(LabError::NoSuchNode { .. }) | Failure::NoSuchLabNode { .. } => Status::NotFound,
            Failure::Roster(RosterError::NoSuchNode { .. }) => Status::NotFound,
            Failure::NoSuchXpu { .. } | Failure::NoSuchToken { .. } => Status::NotFound,
            Failure::XpuState(StateError::NoSuchGroup(_)) => Status::NotFound,
            Failure::XpuState(StateError::Interval(_) | StateError::Name) => Status::Usage,
            Failure::Enroll(EnrollError::Refused { .. })
            | Failure::NotEmpty { .. }
            | Failure::NotRenewed { .. } => Status::Refused,
            Failure::NoSuchField { .. }
            | Failure::NoToken
            | Failure::NoService
            | Failure::JoinToken(minka_enroll::token::TokenError::Malformed)
            | Failure::Speed
            | Failure::Decay
            | Failure::Map { .. }
            | Failure::List { .. } => Status::Usage,
            Failure::Firmware(error) => match error {
                FirmwareError::Refused { .. }
                | FirmwareError::OfOthers
                | FirmwareError::Unsigned
                | FirmwareError::Controller
                | FirmwareError::NotUpdatable(_) => Status::Refused,
                FirmwareError::Image(_) => Status::Usage,
                _ => Status::Failure,
            },
            Failure::XpuSettings(SettingsError::State(error)) => match error {
                StateError::NoSuchPolicy(_) => Status::NotFound,
                StateError::Policy(_) | StateError::Address(_) => Status::Usage,
                _ => Status::Failure,
            },
            Failure::OtherMap { .. }
            | Failure::XpuNotOffered { .. }
            | Failure::XpuSettings(SettingsError::InUse(_)) => Status::Refused,
            Failure::XpuSettings(SettingsError::Config(error)) => match error {
                ConfigError::NotOffered { .. } | ConfigError::Reset(_) | ConfigError::Vgpu(_) => {
                    Status::Refused
                }
                ConfigError::OutOfRange { .. } | ConfigError::Senseless { .. } => Status::Usage,
                ConfigError::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                    Status::NotPermitted
                }
                _ => Status::Failure,
            },
            _ => Status::Failure,
        }
    }

    /// What failed.
    fn first(&self, text: &Text) -> String {
        let operation = membership::operation(self, text).unwrap_or_else(|| self.to_string());
        text.with("error-failed", &[("operation", operation.into())])
    }

    /// What people are told: the first line, and lines of explanation and help.
    pub(crate) fn lines(&self, text: &Text) -> Vec<String> {
        match self {
            Failure::Client(ClientError::Refused(refusal)) => refusal_lines(refusal, text),
            Failure::Client(ClientError::Connect { path, source }) => {
                let path = path.display().to_string();
                let first = text.with("error-connect", &[("path", path.into())]);
                let reason = text.with("error-because", &[("reason", source.to_string().into())]);
                vec![first, reason, text.get("error-connect-help")]
            }
            Failure::OtherMap { path, differences } => {
                let path = path.display().to_string();
                let first = text.with("setpe-other", &[("path", path.into())]);
                let help = text.get("setpe-other-help");
                std::iter::once(first).chain(differences.iter().cloned()).chain([help]).collect()
            }
            Failure::NotRenewed { nodes } => {
                let first = self.first(text);
                let because = |node: &String| text.with("error-because", &[("reason", node.clone().into())]);
                let help = text.get("cluster-not-renewed-help");
                std::iter::once(first).chain(nodes.iter().map(because)).chain([help]).collect()
            }
            Failure::NoSuchLabNode { node } => {
                vec![
                    text.with("error-no-node", &[("node", node.clone().into())]),
                    text.get("lab-no-node-help"),
                ]
            }
            Failure::Lab(LabError::NotRunning(directory)) => {
                let directory = directory.display().to_string();
                let first = text.with("lab-not-running", &[("directory", directory.into())]);
                vec![first, text.get("lab-not-running-help")]
            }
            other => {
                let mut lines = vec![self.first(text)];
                let mut source = std::error::Error::source(other);
                while let Some(cause) = source {
                    lines.push(text.with("error-because", &[("reason", cause.to_string().into())]));
                    source = cause.source();
                }
                lines.extend(matches!(other, Failure::OtherNode { .. }).then(|| text.get("other-node-help")));
                lines
            }
        }
    }
}

/// An error and its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn refusal_lines(refusal: &Refusal, text: &Text) -> Vec<String> {
    let pid = |pid: &i32| ("pid", pid.to_string().into());
    let because = |reason: &String| text.with("error-because", &[("reason", reason.clone().into())]);
    match refusal {
        Refusal::NotPermitted { pid: of } => vec![text.with("error-not-permitted", &[pid(of)])],
        Refusal::NoSuchProcess { pid: of } => vec![text.with("error-no-process", &[pid(of)])],
        Refusal::NoSuchNode { name } if name == "best" => vec![text.get("error-no-best")],
        Refusal::NoSuchNode { name } => {
            vec![text.with("error-no-node", &[("node", name.clone().into())]), text.get("error-no-node-help")]
        }
        Refusal::Silent { node } => vec![text.with("error-silent-node", &[("node", node.clone().into())])],
        Refusal::CannotMove { pid: of, reasons } => {
            let first = text.with("error-cannot-move", &[pid(of)]);
            std::iter::once(first).chain(reasons.iter().map(because)).collect()
        }
        Refusal::NotMoved { pid: of, at, reason } => {
            let first = text.with("error-not-moved", &[pid(of), ("node", at.clone().into())]);
            vec![first, because(reason)]
        }
        Refusal::Busy { pid: of } => vec![text.with("error-busy", &[pid(of)])],
        Refusal::TimedOut { pid: of, seconds } => {
            vec![text.with("error-timed-out", &[pid(of), ("seconds", (*seconds).into())])]
        }
        Refusal::NoDevice { kind, why, elsewhere } => {
            no_device(kind.map_or("any", DeviceKind::name), *why, elsewhere, text)
        }
        Refusal::NotStarted { nodes } => not_started(nodes, text),
        Refusal::NotRoot => vec![text.get("error-not-root")],
        Refusal::NotSteered => vec![text.get("error-not-steered")],
        Refusal::TooManyClients => vec![text.get("error-too-many-clients")],
        Refusal::TooManyProcesses { limit } => {
            vec![text.with("error-too-many-processes", &[("limit", (*limit).into())])]
        }
        Refusal::Ending => vec![text.get("error-ending")],
        Refusal::BadRequest { .. } | Refusal::Version { .. } => {
            vec![text.get("error-version"), because(&refusal.to_string())]
        }
    }
}

fn not_started(nodes: &[(String, Unstarted)], text: &Text) -> Vec<String> {
    let why = |why: &Unstarted| match why {
        Unstarted::NotOffered => "not-started-not-offered",
        Unstarted::NoSuchUser => "not-started-no-such-user",
        Unstarted::Root => "not-started-root",
        Unstarted::NoDevice => "not-started-no-device",
        Unstarted::Full => "not-started-full",
        Unstarted::Silent => "not-started-silent",
    };
    let reasons = nodes.iter().map(|(node, reason)| {
        let reason = format!("{node}: {}", text.get(why(reason)));
        text.with("error-because", &[("reason", reason.into())])
    });
    std::iter::once(text.get("error-not-started")).chain(reasons).collect()
}

fn no_device(kind: &str, why: NoDevice, elsewhere: &[String], text: &Text) -> Vec<String> {
    let why = match why {
        NoDevice::NotWatched => "no-device-not-watched",
        NoDevice::None => "no-device-none",
        NoDevice::InUse => "no-device-in-use",
        NoDevice::Drained => "no-device-drained",
        NoDevice::NotKnown => "no-device-not-known",
    };
    let reason = text.with("error-because", &[("reason", text.get(why).into())]);
    let mut lines = vec![text.with("error-no-device", &[("kind", kind.to_owned().into())]), reason];
    if !elsewhere.is_empty() {
        lines.push(text.with("error-no-device-help", &[("nodes", elsewhere.join(", ").into())]));
    }
    lines
}

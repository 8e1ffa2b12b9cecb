//! A node as its supervisor sees it.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use minka_kernel::namespace::Namespaces;
use minka_kernel::spawn::{Launch, ProcessHandle, wait_readable};

use crate::channel::Channel;
use crate::description::{NodeDescription, ProcessIdentity};
use crate::error::LabError;
use crate::message::{DaemonState, Go, NodeEvent, NodePlan};
use crate::network::Hub;
use crate::options::OWN_PROGRAM;
use crate::program::shell_code;
use crate::{INTERNAL_COMMAND, init};

/// What every node has of its own. The user namespace, if there is one, is the lab's.
pub(crate) const NODE_NAMESPACES: Namespaces = Namespaces::PID
    .union(Namespaces::NETWORK)
    .union(Namespaces::MOUNT)
    .union(Namespaces::HOST_NAME)
    .union(Namespaces::IPC);

/// How long a killed node may take to be gone. It takes longer only if a program in it has a stopped parent
/// outside.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a failed daemon's last words is shown, in bytes.
const LAST_WORDS_LENGTH_MAX: usize = 2000;

/// A node that has been started.
#[derive(Debug)]
pub(crate) struct Node {
    number: u32,
    socket: PathBuf,
    log: PathBuf,
    process: ProcessHandle,
    /// None once the init has closed its end.
    channel: Option<Channel>,
    alive: bool,
    joined: bool,
    answering: bool,
    daemon: DaemonState,
    /// Why its init gave up, as in "failed to …".
    failure: Option<String>,
}

impl Node {
    /// Makes the node's namespaces and its init, and connects it with the hub.
    pub(crate) fn start(
        description: &NodeDescription,
        command: &[String],
        hub: &mut Hub,
    ) -> Result<Self, LabError> {
        let channel_failed = "talk to a new node";
        let (channel, theirs) = Channel::pair().map_err(LabError::system(channel_failed))?;
        let log = File::options().create(true).append(true).open(description.log());
        let log: OwnedFd = log.map_err(LabError::file("open", description.log()))?.into();
        let null = File::open("/dev/null").map_err(LabError::file("open", "/dev/null"))?;
        let duplicate = log.try_clone().map_err(LabError::system("duplicate a descriptor"))?;
        let process = Launch::new(OWN_PROGRAM, ["minka", INTERNAL_COMMAND, init::ROLE])
            .namespaces(NODE_NAMESPACES)
            .standard(null.into(), log, duplicate)
            .keep(theirs.into())
            .start()?;
        let plan = NodePlan {
            number: description.number,
            name: description.name.clone(),
            command: [command, &["--config".to_owned(), description.configuration().display().to_string()]]
                .concat(),
            run_directory: description.run_directory(),
        };
        channel.send(&plan).map_err(LabError::system(channel_failed))?;
        hub.connect(description.number, process.pid())?;
        channel.send(&Go).map_err(LabError::system(channel_failed))?;
        Ok(Self {
            number: description.number,
            socket: description.socket(),
            log: description.log(),
            process,
            channel: Some(channel),
            alive: true,
            joined: false,
            answering: false,
            daemon: DaemonState::Starting,
            failure: None,
        })
    }

    /// The init, as the lab's maker will find it.
    pub(crate) fn identity(&self) -> Result<ProcessIdentity, LabError> {
        ProcessIdentity::of_handle(&self.process).map_err(LabError::system("find the PID of a node's init"))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    pub(crate) fn daemon(&self) -> DaemonState {
        self.daemon
    }

    /// Whether the node is on the network, and the hub passes on what it sends.
    pub(crate) fn has_joined(&self, hub: &mut Hub) -> bool {
        self.joined && hub.is_ready(self.number)
    }

    /// Lets the node start its daemon.
    pub(crate) fn begin(&self) {
        if let Some(channel) = &self.channel {
            // An init that is gone is noticed anyway.
            let _ = channel.send(&Go);
        }
    }

    /// Whether the daemon has ever accepted a connection; tries it if not.
    pub(crate) fn is_answering(&mut self) -> bool {
        if !self.answering && matches!(self.daemon, DaemonState::Running(_)) {
            self.answering = UnixStream::connect(&self.socket).is_ok();
        }
        self.answering
    }

    /// What to wait for: [`Node::attend`] has something to do when one of them can be read.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let process = self.alive.then(|| self.process.as_fd());
        self.channel.as_ref().map(AsFd::as_fd).into_iter().chain(process)
    }

    /// Takes note of what has happened in the node.
    pub(crate) fn attend(&mut self) -> Result<(), LabError> {
        if let Some(channel) = &self.channel
            && wait_readable(&[channel.as_fd()], Some(Duration::ZERO))
                .map_err(LabError::system("look for news from a node"))?[0]
        {
            match channel.receive().map_err(LabError::system("understand a node"))? {
                Some(NodeEvent::Joined) => self.joined = true,
                Some(NodeEvent::Started(pid)) => self.daemon = DaemonState::Running(pid),
                Some(NodeEvent::Ended(status)) => {
                    self.daemon = DaemonState::Ended(shell_code(ExitStatus::from_raw(status)));
                }
                Some(NodeEvent::Failed(text)) => self.failure = Some(text),
                None => self.channel = None,
            }
        }
        if self.alive && self.process.has_ended() {
            self.bury();
        }
        Ok(())
    }

    /// Fails if the daemon will never answer, with its last words.
    pub(crate) fn check_hope(&self) -> Result<(), LabError> {
        if let Some(text) = &self.failure {
            return Err(LabError::Reported(format!("start node {}: failed to {text}", self.number)));
        }
        match self.daemon {
            DaemonState::Ended(code) => Err(self.last_words(&format!("its daemon ended with status {code}"))),
            _ if !self.alive => Err(self.last_words("its first process died")),
            DaemonState::Starting | DaemonState::Running(_) | DaemonState::Killed => Ok(()),
        }
    }

    /// An error that tells what is wrong with the node, with its last words.
    pub(crate) fn last_words(&self, what: &str) -> LabError {
        let words = fs::read(&self.log).unwrap_or_default();
        let words = &words[words.len().saturating_sub(LAST_WORDS_LENGTH_MAX)..];
        let words = String::from_utf8_lossy(words);
        let words = words.trim();
        let separator = if words.is_empty() { "" } else { "; it said:\n" };
        LabError::Reported(format!("start node {}: {what}{separator}{words}", self.number))
    }

    /// Kills everything in the node.
    pub(crate) fn kill(&self) {
        if self.alive {
            // Fails only for a process that is gone already.
            let _ = self.process.signal(libc::SIGKILL);
        }
    }

    /// Waits until everything in the killed node is gone, but not beyond `deadline`, and says whether it is.
    pub(crate) fn wait_for_end(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.alive && matches!(self.process.wait_for_end(Some(left)), Ok(true)) {
            self.bury();
        }
        !self.alive
    }

    fn bury(&mut self) {
        // It has ended and is our child, so this neither waits nor fails.
        let _ = self.process.reap();
        self.alive = false;
        if !matches!(self.daemon, DaemonState::Ended(_)) {
            self.daemon = DaemonState::Killed;
        }
    }
}

//! The tools' side of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minka_image::cpu::Features;

use crate::lines::{LineError, Lines};
use crate::protocol::{
    Advice, Answer, DeviceKind, FreeDevice, Migrated, Node, Process, Refusal, Request, Status, Steering,
    VERSION,
};

/// How long the daemon may take to answer. Longer than it itself allows for a move.
const ANSWER: Duration = Duration::from_secs(90);
const LINE: Duration = Duration::from_secs(5);

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon serves the socket.
    #[error("connect to the node daemon at {}", path.display())]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The connection failed.
    #[error("talk with the node daemon")]
    Talk(#[from] LineError),
    /// The daemon refused.
    #[error("carry out the request")]
    Refused(#[source] Refusal),
    /// The daemon's answer does not belong to the request.
    #[error("understand the node daemon: its answer is to another question, or of version {version}")]
    Unexpected {
        /// Version of the answer.
        version: u32,
    },
}

/// A connection to the daemon of this node.
#[derive(Debug)]
pub struct Client {
    lines: Lines,
    limit: Duration,
    /// For whom it asks, if that is not who it is.
    user: Option<u32>,
}

/// What came of an order to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The process is there.
    Migrated(Migrated),
    /// It will move at its next `execve`.
    Armed,
}

impl Client {
    /// Connects to the control socket in a directory.
    ///
    /// # Errors
    /// When no daemon serves it.
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let path = run_dir.join(crate::settings::SOCKET_NAME);
        let stream = UnixStream::connect(&path).map_err(|source| ClientError::Connect { path, source })?;
        Ok(Client { lines: Lines::new(stream), limit: ANSWER, user: None })
    }

    /// Waits no longer than this for an answer.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Client { limit, ..self }
    }

    /// Asks as if it were this user; for root.
    #[must_use]
    pub fn on_behalf_of(self, uid: u32) -> Self {
        Client { user: Some(uid), ..self }
    }

    fn ask(&mut self, request: Request) -> Result<(), ClientError> {
        let request = match self.user {
            Some(uid) => Request::For { uid, request: Box::new(request) },
            None => request,
        };
        Ok(self.lines.write(&request, LINE)?)
    }

    /// Asks for something that is only to be done.
    fn order(&mut self, request: Request) -> Result<(), ClientError> {
        self.ask(request)?;
        match self.answer(self.limit)? {
            Answer::Done => Ok(()),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    fn answer(&mut self, limit: Duration) -> Result<Answer, ClientError> {
        let message = self.lines.read::<Answer>(limit, LINE)?;
        match message.body {
            Answer::Refused(refusal) => Err(ClientError::Refused(refusal)),
            _ if message.version != VERSION => Err(ClientError::Unexpected { version: message.version }),
            answer => Ok(answer),
        }
    }

    /// What the node is and what it is doing.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.ask(Request::Status)?;
        match self.answer(self.limit)? {
            Answer::Status(status) => Ok(status),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// The processes that the node knows; with `all`, also those that never moved.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn ps(&mut self, all: bool) -> Result<Vec<Process>, ClientError> {
        self.ask(Request::Ps { all })?;
        self.items(|answer| if let Answer::Process(process) = answer { Some(process) } else { None })
    }

    /// The nodes of the cluster, this one first.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn nodes(&mut self) -> Result<Vec<Node>, ClientError> {
        self.ask(Request::Nodes)?;
        self.items(|answer| if let Answer::Node(node) = answer { Some(node) } else { None })
    }

    fn items<T>(&mut self, item: impl Fn(Answer) -> Option<T>) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        loop {
            match self.answer(self.limit)? {
                Answer::End => return Ok(items),
                answer => items.push(item(answer).ok_or(ClientError::Unexpected { version: VERSION })?),
            }
        }
    }

    /// Moves a process to a node, `home` or `best`.
    ///
    /// # Errors
    /// As [`ClientError`] says; mostly [`ClientError::Refused`].
    pub fn migrate(&mut self, pid: i32, to: &str, at_exec: bool) -> Result<Outcome, ClientError> {
        self.ask(Request::Migrate { pid, to: to.to_owned(), at_exec })?;
        match self.answer(self.limit)? {
            Answer::Migrated(migrated) => Ok(Outcome::Migrated(migrated)),
            Answer::Armed => Ok(Outcome::Armed),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// Tells the daemon that a node was heard of at an address.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn found(&mut self, node: &str, address: std::net::SocketAddr) -> Result<(), ClientError> {
        self.order(Request::Found { node: node.to_owned(), address })
    }

    /// Changes how the node takes part in the cluster.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn steer(&mut self, what: Steering) -> Result<(), ClientError> {
        self.order(Request::Steer { what })
    }

    /// One process, whether it has ever moved or not.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn process(&mut self, pid: i32) -> Result<Process, ClientError> {
        self.ask(Request::Process { pid })?;
        match self.answer(self.limit)? {
            Answer::Process(process) => Ok(process),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// Has a device that nobody uses promised to this process, of a kind if that matters.
    ///
    /// # Errors
    /// As [`ClientError`] says; mostly [`ClientError::Refused`].
    pub fn device(&mut self, kind: Option<DeviceKind>) -> Result<FreeDevice, ClientError> {
        self.ask(Request::Device { kind })?;
        match self.answer(self.limit)? {
            Answer::Device(device) => Ok(device),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// What this node's processor can do, and what of that the processors of other nodes can do, too.
    ///
    /// # Errors
    /// As [`ClientError`] says; mostly [`ClientError::Refused`].
    pub fn processors(&mut self, nodes: &[String]) -> Result<(Features, Features), ClientError> {
        self.ask(Request::Processors { nodes: nodes.to_vec() })?;
        match self.answer(self.limit)? {
            Answer::Processors { own, common } => Ok((own, common)),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// Has a program started on another node that has a device that nobody uses: the node, the device, and what to speak
    /// through, as [`minka_wire::start`] says.
    ///
    /// # Errors
    /// As [`ClientError`] says; mostly [`ClientError::Refused`].
    pub fn start(
        mut self,
        kind: Option<DeviceKind>,
    ) -> Result<(String, FreeDevice, UnixStream), ClientError> {
        self.ask(Request::Start { kind })?;
        match self.answer(self.limit)? {
            Answer::Starting { node, device } => Ok((node, device, self.lines.into_stream()?)),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// Tells the balancer something about a process.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn advise(&mut self, pid: i32, advice: Advice) -> Result<(), ClientError> {
        self.order(Request::Advise { pid, advice })
    }

    /// Why a process cannot move; empty when it can.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn reasons(&mut self, pid: i32) -> Result<Vec<String>, ClientError> {
        self.ask(Request::Reasons { pid })?;
        match self.answer(self.limit)? {
            Answer::Reasons(reasons) => Ok(reasons),
            _ => Err(ClientError::Unexpected { version: VERSION }),
        }
    }

    /// Follows a process; `each` gets every event until the process ends or `each` returns false.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn trace(
        mut self,
        pid: i32,
        mut each: impl FnMut(crate::protocol::Event) -> bool,
    ) -> Result<(), ClientError> {
        self.ask(Request::Trace { pid })?;
        loop {
            match self.answer(Duration::from_secs(u64::from(u32::MAX)))? {
                Answer::Event(event) => {
                    if !each(event) {
                        return Ok(());
                    }
                }
                Answer::End => return Ok(()),
                _ => return Err(ClientError::Unexpected { version: VERSION }),
            }
        }
    }
}

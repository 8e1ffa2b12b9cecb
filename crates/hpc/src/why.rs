//! Why something cannot be read or written, and the error number that a program gets for it.

use minka_node::client::ClientError;
use minka_node::lines::LineError;
use minka_node::protocol::Refusal;

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is no such place.
    #[error("there is no such file")]
    Nowhere,
    /// The process has ended.
    #[error("there is no such process")]
    Gone,
    /// It is only written to, or only read.
    #[error("the file is not for that")]
    WrongWay,
    /// What was written means nothing here.
    #[error("what was written is not understood")]
    NotUnderstood,
    /// There is no such node.
    #[error("there is no such node")]
    NoSuchNode,
    /// It is for others to do.
    #[error("it is another user's")]
    NotPermitted,
    /// Nobody knows, or not yet.
    #[error("it is not known")]
    Unknown,
    /// The process cannot move; `cantmove` says why.
    #[error("the process cannot move")]
    CannotMove,
    /// It is being moved already.
    #[error("the process is being moved already")]
    Busy,
    /// There are too many of them.
    #[error("too much is being done already")]
    Full,
    /// It was tried and did not succeed.
    #[error("the process did not move")]
    NotMoved,
    /// No daemon answers.
    #[error("no node daemon answers")]
    Silent,
    /// It does not answer in time.
    #[error("the node daemon takes too long")]
    TooSlow,
    /// It answers something else.
    #[error("the node daemon is not understood")]
    Strange,
}

impl Why {
    /// The error number.
    pub fn errno(self) -> rustix::io::Errno {
        use rustix::io::Errno;
        match self {
            Why::Nowhere => Errno::NOENT,
            Why::Gone => Errno::SRCH,
            Why::WrongWay => Errno::ACCESS,
            Why::NotUnderstood => Errno::INVAL,
            Why::NoSuchNode => Errno::NXIO,
            Why::NotPermitted => Errno::PERM,
            Why::Unknown => Errno::NODATA,
            Why::CannotMove => Errno::OPNOTSUPP,
            Why::Busy => Errno::BUSY,
            Why::Full => Errno::AGAIN,
            Why::NotMoved => Errno::CANCELED,
            Why::Silent => Errno::HOSTDOWN,
            Why::TooSlow => Errno::TIMEDOUT,
            Why::Strange => Errno::PROTO,
        }
    }
}

impl From<ClientError> for Why {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect { .. } => Why::Silent,
            ClientError::Talk(LineError::TooSlow) => Why::TooSlow,
            ClientError::Talk(_) => Why::Silent,
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unexpected { .. } => Why::Strange,
        }
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotRoot | Refusal::NotPermitted { .. } => Why::NotPermitted,
            Refusal::NotSteered => Why::NotUnderstood,
            Refusal::TooManyClients | Refusal::TooManyProcesses { .. } => Why::Full,
            Refusal::NoSuchProcess { .. } => Why::Gone,
            Refusal::NoSuchNode { .. } => Why::NoSuchNode,
            Refusal::CannotMove { .. } => Why::CannotMove,
            Refusal::NotMoved { .. } => Why::NotMoved,
            Refusal::Busy { .. } => Why::Busy,
            Refusal::TimedOut { .. } => Why::TooSlow,
            Refusal::Ending | Refusal::Silent { .. } => Why::Silent,
            // Nobody asks for a device here.
            Refusal::BadRequest { .. }
            | Refusal::Version { .. }
            | Refusal::NoDevice { .. }
            | Refusal::NotStarted { .. } => Why::Strange,
        }
    }
}

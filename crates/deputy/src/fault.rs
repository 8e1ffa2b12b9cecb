//! What can go wrong for a deputy.

use crate::eligible::Reason;
use minka_kernel::inject::InjectError;
use minka_kernel::ptrace::End;
use minka_link::ChannelError;
use minka_wire::message::MessageError;
use std::io;

/// Why a step failed. What it means for the process depends on the step: see [`crate::deputy`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("trace the process")]
    Trace(#[source] io::Error),
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    #[error("make a call in the process")]
    Inject(#[from] InjectError),
    #[error("talk to the host")]
    Channel(#[from] ChannelError),
    #[error("understand the host")]
    Message(#[from] MessageError),
    #[error(transparent)]
    CannotMove(#[from] Reason),
    #[error("{node} refused: {reason}")]
    Refused { node: String, reason: String },
    #[error("{0}")]
    Said(String),
    /// The process has been ended, for this reason.
    #[error("{0}")]
    Lost(String),
    #[error("the process waits in the kernel for something that cannot be interrupted")]
    CannotStop,
    #[error("the process ended meanwhile ({0:?})")]
    Gone(End),
    /// It is in the stop at the beginning of its end, where it stays until it is seen out ([`crate::ends`]).
    #[error("the process is about to end")]
    Ending,
    #[error("understand a forwarded call")]
    Malformed(#[source] minka_syscalls::marshal::Malformed),
    #[error("go on: the process has ended or replaced its image")]
    Over,
    #[error("go on: the thread has ended")]
    ThreadOver,
    #[error("rearrange memory at home: {what} gave {result}")]
    Rearrange { what: String, result: i64 },
}

impl Fault {
    /// What a host says when it does not take a process.
    pub(crate) fn refused(node: &str, reason: &str) -> Self {
        Self::Refused { node: node.to_owned(), reason: minka_wire::tidy(reason) }
    }
}

impl From<minka_kernel::ring::Ended> for Fault {
    fn from(ended: minka_kernel::ring::Ended) -> Self {
        match ended {
            minka_kernel::ring::Ended::Process => Self::Over,
            minka_kernel::ring::Ended::Thread => Self::ThreadOver,
        }
    }
}

pub(crate) use minka_wire::chain;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

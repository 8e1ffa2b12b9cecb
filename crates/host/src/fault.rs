//! What can go wrong for a host program.

use minka_kernel::inject::InjectError;
use minka_kernel::ptrace::End;
use minka_link::ChannelError;
use minka_wire::message::MessageError;
use std::io;

/// Why a step failed. The guest ends with it; what that means for the process is the home's to say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    #[error("make a call in the guest")]
    Inject(#[from] InjectError),
    #[error("talk to the home")]
    Channel(#[from] ChannelError),
    #[error("understand the home")]
    Message(#[from] MessageError),
    #[error("understand the result of a call")]
    Malformed(#[from] minka_syscalls::marshal::Malformed),
    #[error("{0}")]
    Said(String),
    #[error("build the guest: {what} gave {result}")]
    Build { what: String, result: i64 },
    #[error("the guest ended here ({0:?})")]
    Gone(End),
}

pub(crate) use minka_wire::chain;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

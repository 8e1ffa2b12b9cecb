//! What can keep a benchmark from giving its figures.

use std::io;
use std::time::Duration;

use minka_lab::LabError;
use minka_node::client::ClientError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The lab could not be brought up, or a program not be started in it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A node's daemon did not do what was asked of it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file or a socket of the benchmark's own.
    #[error("{operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A probe ended, or closed its output.
    #[error("hear the probe after it was told to {order:?}: it ended")]
    ProbeEnded {
        /// What it was told.
        order: String,
    },
    /// A probe answered nothing.
    #[error("hear the probe after it was told to {order:?}: no answer in {} s", limit.as_secs())]
    ProbeSilent {
        /// What it was told.
        order: String,
        /// How long was waited.
        limit: Duration,
    },
    /// A probe answered something else than numbers.
    #[error("understand the probe: it answered {answer:?} to {order:?}")]
    ProbeAnswer {
        /// What it was told.
        order: String,
        /// What it answered.
        answer: String,
    },
    /// The program that was moved computed something wrong: no figure is worth that.
    #[error("trust the figures: the probe computed {found} where {expected} is right")]
    Wrong {
        /// What it computed.
        found: f64,
        /// What is right.
        expected: f64,
    },
    /// The nodes of a lab never all knew each other.
    #[error("wait until all nodes know each other: they did not in {} s", limit.as_secs())]
    Apart {
        /// How long was waited.
        limit: Duration,
    },
    /// The process never came to be where the figure needs it.
    #[error("measure a move: {0}")]
    Move(String),
    /// A source package could not be compiled, or not as it has to be.
    #[error("{0}")]
    Farm(String),
}

impl BenchError {
    /// For `map_err` of input and output.
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| BenchError::Io { operation, source }
    }
}

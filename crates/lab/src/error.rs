//! What can go wrong with a lab.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use minka_kernel::netlink::NetlinkError;
use minka_kernel::spawn::SpawnError;
use minka_link::keys::KeyError;

use crate::network::NODES_MAX;
use crate::share::{MEMORY_MIN_MIB, SHARE_MIN};

/// Why something could not be done with a lab. Every text continues "failed to …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A name that is not fit for a directory.
    #[error("use {0:?} as a lab's name: 1 to 32 letters, digits, hyphens and underscores")]
    Name(String),
    /// No nodes, or more than the network has addresses for.
    #[error("make a lab of {0} nodes: there can be 1 to {NODES_MAX}")]
    NodeCount(u32),
    /// A path that a socket's address or the lab's description cannot hold.
    #[error("use the path {}: {why}", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is the matter with it.
        why: &'static str,
    },
    /// A share of the processors that no node can have, or not one for each node.
    #[error(
        "give {nodes} nodes these shares of the processors: one of at least {SHARE_MIN}, or as many as nodes"
    )]
    Shares {
        /// How many nodes there are.
        nodes: u32,
    },
    /// A node's memory that is none, or not one for each node.
    #[error("give {nodes} nodes this memory: one of at least {MEMORY_MIN_MIB} MiB, or as many as nodes")]
    Memory {
        /// How many nodes there are.
        nodes: u32,
    },
    /// Shares cannot be given here.
    #[error(
        "limit a node: this system has no control groups for {what}, neither of version 1 nor of version 2"
    )]
    NoShares {
        /// Of what.
        what: &'static str,
    },
    /// There is a running lab in this directory.
    #[error("start the lab in {}: it is running already", .0.display())]
    Running(PathBuf),
    /// There is no running lab in this directory.
    #[error("find a running lab in {}", .0.display())]
    NotRunning(PathBuf),
    /// The directory holds something, but no lab.
    #[error("use the directory {}: it is not empty and holds no lab", .0.display())]
    ForeignDirectory(PathBuf),
    /// Somebody else could write where labs are kept.
    #[error("keep a lab in {}: it must be a directory of this user that is closed to all others", .0.display())]
    UnsafeDirectory(PathBuf),
    /// A file or a directory of the lab.
    #[error("{operation} {}", .path.display())]
    File {
        /// What was to be done with it.
        operation: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The description of a lab is not one, or of another version.
    #[error("understand {}", .path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The keys of the cluster.
    #[error("make the lab's keys")]
    Keys(#[from] KeyError),
    /// A process of the lab.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The lab's network.
    #[error(transparent)]
    Network(#[from] NetlinkError),
    /// A plain call to the system.
    #[error("{operation}")]
    System {
        /// What was to be done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A process of the lab did not say what it was asked.
    #[error("{operation}: the lab's process ended instead of answering")]
    Silence {
        /// What was to be done.
        operation: &'static str,
    },
    /// A process of the lab could not do what it was asked.
    #[error("{0}")]
    Reported(String),
    /// There is no such node.
    #[error("find node {node}: the lab has nodes 1 to {nodes}")]
    NoSuchNode {
        /// The number asked for.
        node: u32,
        /// How many there are.
        nodes: u32,
    },
    /// The node was killed.
    #[error("use node {0}: it is dead")]
    NodeDead(u32),
    /// A program could not be started in a node.
    #[error("start a program in node {node}: {step}")]
    Program {
        /// The number of the node.
        node: u32,
        /// What was being done.
        step: String,
        /// What the system said.
        source: io::Error,
    },
    /// Processes of a node did not go away.
    #[error("end node {0}: some of its processes are still there; does somebody hold them stopped?")]
    NodeLingering(u32),
    /// The system lets users have user namespaces, but not use them.
    #[error(
        "use a user namespace: the system restricts them (see kernel.apparmor_restrict_unprivileged_userns); \
         root needs none"
    )]
    Restricted(#[source] io::Error),
    /// The system does not let users have user namespaces.
    #[error(
        "make a user namespace: the system does not let users have them (see user.max_user_namespaces and \
         kernel.unprivileged_userns_clone); root needs none"
    )]
    Forbidden(#[source] SpawnError),
    /// Processes did not go away.
    #[error("end the lab in {}: its processes are still there; does somebody hold them stopped?", .0.display())]
    Lingering(PathBuf),
    /// The program does not fit to itself.
    #[error("{0}")]
    Internal(&'static str),
}

impl LabError {
    /// For `map_err`: a failed operation on the file or directory at `path`.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err`: a failed call to the system.
    pub(crate) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { operation, source }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

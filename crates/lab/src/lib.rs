//! A whole cluster on one machine: every node in namespaces of its own, without configuration and without any
//! other program.
//!
//! ```text
//! caller          supervisor: PID 1 of the lab, lives in the hub's network, without terminal
//! Lab::up ──────► ┌──────────────────────────────────────────────────────────────────┐
//!   keys, plan    │   bridge 10.77.0.0/24                                            │
//!                 │      │            │            │                                 │
//! Lab::status ──► │   ┌──┴──────┐  ┌──┴──────┐  ┌──┴──────┐   a node: its own PIDs,  │
//!   cut, heal…    │   │ node1   │  │ node2   │  │ node3   │   network, mounts, host  │
//!                 │   │ init    │  │ init    │  │ init    │   name and IPC           │
//! Lab::start ───► │   │ daemon  │  │ daemon  │  │ daemon  │                          │
//!   a program     │   └─────────┘  └─────────┘  └─────────┘                          │
//!   in a node     └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Ends whole.** Every process of a lab lives in PID namespaces inside the supervisor's own. When the
//! supervisor goes, in whatever way, the kernel kills all of them, and namespaces, interfaces and mounts go
//! with the last process. What can stay behind after `kill -9` is the lab's directory; whoever comes next
//! removes it ([`Lab::down`], [`Lab::up`]).
//!
//! **Privilege.** Root needs nothing else. Others get all of it inside one user namespace whose only user,
//! root, is the caller, where the system allows that.
//!
//! **What nodes have.** As much of the machine's processors and memory as [`LabOptions::cpus`] and
//! [`LabOptions::memory_mib`] say, where the system has control groups for that and they may be made; otherwise all share
//! all of it.
//!
//! **What nodes share.** Processors, memory and the file system, so that a program finds its files and its
//! working directory in every node. Abstract sockets, ports and System V IPC are their own; `/dev/shm` and
//! `/tmp` are not.
//!
//! **The network** of a lab is a world of its own: two labs use the same addresses and do not meet, and
//! neither reaches anything outside. Node n has 10.77.0.n, is called `noden`, and knows the others by name.
//!
//! # The program's part
//!
//! A process that may have threads must not run Rust code between clone and exec. So what has to happen there
//! is done by the program itself, executed anew with [`INTERNAL_COMMAND`] as its first argument, which it
//! must hand to [`internal_main`] before it does anything else:
//!
//! ```no_run
//! # use std::process::ExitCode;
//! fn main() -> ExitCode {
//!     let mut arguments = std::env::args_os().skip(1).peekable();
//!     if arguments.next_if(|first| first == minka_lab::INTERNAL_COMMAND).is_some() {
//!         return minka_lab::internal_main(arguments);
//!     }
//!     ExitCode::SUCCESS // what the program is for
//! }
//! ```
//!
//! # Modules
//!
//! `lab`, `options` and `program` are what callers use; `supervisor`, `node`, `init` and `enter` run in the
//! processes that are executed anew; `channel` and `message` are what these say to each other; `directory`,
//! `description`, `material` and `network` are what they share.

mod channel;
mod description;
mod directory;
mod enter;
mod error;
mod init;
mod lab;
mod material;
mod message;
mod network;
mod node;
mod options;
mod program;
mod share;
mod supervisor;

use std::ffi::OsString;
use std::process::ExitCode;

pub use description::{Description, NodeDescription, ProcessIdentity};
pub use error::LabError;
pub use lab::Lab;
pub use message::{DaemonState, NodeStatus};
pub use minka_link::BalanceMode;
pub use network::{NETWORK, NODE_PORT, NODES_MAX, PREFIX_LENGTH, node_address, node_name};
pub use options::{LabOptions, Lifetime};
pub use program::{Program, Running, shell_code};

/// The first argument by which the program finds that it is to call [`internal_main`].
pub const INTERNAL_COMMAND: &str = "__lab";

/// Runs one of the processes of a lab; `arguments` are those after [`INTERNAL_COMMAND`].
///
/// Must be called with no other thread running.
pub fn internal_main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let role = arguments.next().unwrap_or_default();
    let result = match role.to_str() {
        Some(supervisor::ROLE) => supervisor::main(arguments),
        Some(init::ROLE) => init::main(arguments),
        Some(enter::ROLE) => enter::main(arguments),
        _ => Err(LabError::Internal("know which part of a lab to be")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minka lab: failed to {}", error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

//! The node daemon: arranges moves, answers the tools, keeps the records.
//!
//! It computes nothing and forwards nothing itself: for each process that is to move it starts a *deputy*
//! program, for each guest that arrives a *host* program, and those two talk directly. The daemon can
//! therefore be small, and a fault of one migrated process stays that process's own.
//!
//! * [`protocol`] and [`lines`]: what the tools say over the control socket; [`client`] is their side.
//! * [`ask`]: what may be asked, and by whom; the control socket and the HTTP interface ask there.
//! * `book`: the rules, pure. `daemon`: carries them out.
//! * `control`, `incoming`, `peers`: the daemon's three doors to the world.
//! * `accelerators`: the program that looks after them, and who gets one (`reservations`). `tree`: the one that shows the
//!   node as files.
//! * [`discovery`]: nodes that find each other by multicast.
//! * `roster`: the list of nodes, which may change at any time.
//! * [`start`]: programs that are started on another node because a device is there.
//! * `cluster`: the node's load and that of the others, and moves that nobody has asked for.

mod accelerators;
mod advice;
pub mod ask;
mod book;
mod child;
pub mod client;
mod cluster;
mod control;
mod daemon;
pub mod discovery;
mod families;
mod incoming;
pub mod lines;
mod peers;
mod pending;
pub mod places;
pub mod processes;
mod processor;
pub mod protocol;
mod reservations;
mod roster;
mod serve;
mod settings;
mod spare;
pub mod start;
pub mod tree;
mod trust;
mod zygote;

pub use cluster::{
    ClusterError, ClusterSettings, DECAY_VARIABLE, JOB_VARIABLE, LOCKED_VARIABLE, STARTED_VARIABLE,
};
pub use daemon::{Daemon, Eligibility};
pub use serve::ServeError;
pub use settings::{API_SOCKET_NAME, RUN_DIR, RUN_DIR_VARIABLE, SOCKET_NAME, Settings, run_dir};

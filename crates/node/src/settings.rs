//! What the daemon is told at its start.

use std::ffi::OsString;
use std::path::PathBuf;

use minka_link::Tuning;

use crate::cluster::ClusterSettings;
use crate::tree::Tree;

/// The directory of the control socket when nothing else is said.
pub const RUN_DIR: &str = "/run/minka";

/// The environment variable that names another directory for the control socket.
pub const RUN_DIR_VARIABLE: &str = "MINKA_DIR";

/// Name of the control socket in that directory.
pub const SOCKET_NAME: &str = "node.sock";

/// Name of the socket of the HTTP interface in that directory.
pub const API_SOCKET_NAME: &str = "api.sock";

/// What the daemon is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Address and port at which other nodes' connections are accepted.
    pub listen: String,
    /// The other nodes: names and addresses.
    pub peers: Vec<(String, String)>,
    /// How long connections may take to say what they are for.
    pub tuning: Tuning,
    /// The node's configuration file, which deputy and host programs read for themselves.
    pub config: PathBuf,
    /// What it takes to exchange loads with the others and to move processes by itself; without, the node does neither.
    pub cluster: Option<ClusterSettings>,
    /// Directory of the control socket; made when it is missing.
    pub run_dir: PathBuf,
    /// The tree that shows this node, if there is to be one.
    pub tree: Option<Tree>,
    /// The deputy program and its arguments.
    pub deputy: Vec<OsString>,
    /// The host program and its arguments.
    pub host: Vec<OsString>,
    /// The program that looks after accelerators and its arguments; empty: nobody does.
    pub xpu: Vec<OsString>,
    /// For which users of other nodes programs are started here, by name; `*` for all ordinary ones.
    pub start: Vec<String>,
    /// A program and its arguments that becomes either by forking itself; empty for none, and both are started anew.
    pub zygote: Vec<OsString>,
}

impl Settings {
    /// Path of the control socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET_NAME)
    }

    /// Path of the socket of the HTTP interface.
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir.join(API_SOCKET_NAME)
    }
}

/// The directory of the control socket, as the environment says.
pub fn run_dir() -> PathBuf {
    std::env::var_os(RUN_DIR_VARIABLE)
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| RUN_DIR.into())
        .into()
}

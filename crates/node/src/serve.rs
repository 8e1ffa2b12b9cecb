//! The daemon's beginning and end.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_wire::local::RECORD_PREFIX;
use tracing::info;

use crate::cluster::Cluster;
use crate::daemon::Daemon;

/// How often an ending daemon looks whether everybody is home.
const POLL: Duration = Duration::from_millis(10);

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The run directory cannot be made.
    #[error("make the directory {}", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another daemon serves the control socket.
    #[error("serve {}: another daemon does already", path.display())]
    Taken {
        /// The control socket.
        path: PathBuf,
    },
    /// The control socket cannot be made.
    #[error("make the control socket {}", path.display())]
    Control {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The address for other nodes cannot be used.
    #[error("listen at {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Daemon {
    /// Opens the daemon's sockets and starts to serve them, in threads of its own.
    ///
    /// # Errors
    /// When a socket cannot be opened; nothing has been started then.
    pub fn start(self: &Arc<Self>) -> Result<(), ServeError> {
        let address = &self.settings.listen;
        let nodes = self
            .settings
            .tuning
            .listen(address)
            .map_err(|source| ServeError::Listen { address: address.clone(), source })?;
        if let Some(settings) = &self.settings.cluster {
            let cluster = Cluster::open(settings.clone());
            let cluster =
                cluster.map_err(|source| ServeError::Listen { address: address.clone(), source })?;
            // A daemon is started once.
            let _ = self.cluster.set(Arc::new(cluster));
        }
        let run_dir = &self.settings.run_dir;
        fs::create_dir_all(run_dir).map_err(|source| ServeError::RunDir { path: run_dir.clone(), source })?;
        let control = bind_control(&self.settings.socket())?;
        self.zygote.start();
        self.keep_spares();
        self.in_a_thread(move |daemon| daemon.serve_control(&control));
        self.in_a_thread(move |daemon| daemon.serve_nodes(&nodes));
        self.look_for_records();
        self.in_a_thread(Daemon::keep_time);
        self.in_a_thread(Daemon::look_after_peers);
        if let Some(cluster) = self.cluster() {
            let discovery = self.settings.cluster.as_ref().map(|settings| settings.discovery.clone());
            if let Some(discovery) = discovery.filter(|discovery| discovery.multicast) {
                self.in_a_thread(move |daemon| daemon.discover(&discovery));
            }
            let listed = Arc::clone(&cluster);
            self.in_a_thread(move |daemon| daemon.keep_roster(&listed));
            self.in_a_thread(move |daemon| daemon.take_part(&cluster));
        }
        if !self.settings.xpu.is_empty() {
            self.in_a_thread(Daemon::look_after_accelerators);
        }
        if let Some(tree) = self.settings.tree.clone() {
            self.in_a_thread(move |daemon| daemon.keep_tree(&tree));
        }
        info!(node = self.settings.node, listen = address, socket = %self.settings.socket().display(), "serving");
        Ok(())
    }

    /// Has those processes put right whose deputies died together with the daemon before this one: each has left a
    /// record in the run directory.
    fn look_for_records(self: &Arc<Self>) {
        let Ok(entries) = fs::read_dir(&self.settings.run_dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(RECORD_PREFIX)?.parse().ok());
            match pid.map(|pid| self.processes.look(pid)) {
                // Whether it is the process that was meant is for the rescuer to say, who reads the record.
                Some(Some(process)) => self.tell(|state| state.book.left_behind(process)),
                Some(None) => {
                    info!(record = %entry.path().display(), "its process is gone");
                    // If it cannot be removed, the next daemon will try.
                    let _ = fs::remove_file(entry.path());
                }
                None => {}
            }
        }
    }

    fn in_a_thread(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let daemon = Arc::clone(self);
        std::thread::spawn(move || work(&daemon));
    }

    /// Brings this node's processes home and sends its guests to theirs, for at most `limit`, and takes the
    /// control socket away. Returns whether everybody got home.
    pub fn end(self: &Arc<Self>, limit: Duration) -> bool {
        info!("ending");
        // The file first: a daemon that starts now makes its own.
        let _ = fs::remove_file(self.settings.socket());
        self.dismiss_keeper();
        self.leave_cluster();
        self.tell(|state| state.book.end());
        let deadline = Instant::now() + limit;
        loop {
            if self.lock().book.is_at_rest() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Makes the control socket, in place of one that a dead daemon left behind.
fn bind_control(path: &Path) -> Result<UnixListener, ServeError> {
    let error = |source| ServeError::Control { path: path.to_owned(), source };
    if UnixStream::connect(path).is_ok() {
        return Err(ServeError::Taken { path: path.to_owned() });
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    // Anybody may ask; the kernel says who they are.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(error)?;
    Ok(listener)
}

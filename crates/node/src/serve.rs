//! The daemon's beginning and end.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use crate::daemon::Daemon;

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
        let nodes = TcpListener::bind(address)
            .map_err(|source| ServeError::Listen { address: address.clone(), source })?;
        let run_dir = &self.settings.run_dir;
        fs::create_dir_all(run_dir).map_err(|source| ServeError::RunDir { path: run_dir.clone(), source })?;
        let control = bind_control(&self.settings.socket())?;
        let threads: [(&str, Box<dyn FnOnce(Arc<Daemon>) + Send>); 4] = [
            ("control", Box::new(move |daemon| daemon.serve_control(&control))),
            ("nodes", Box::new(move |daemon| daemon.serve_nodes(&nodes))),
            ("time", Box::new(|daemon| daemon.keep_time())),
            ("peers", Box::new(|daemon| daemon.look_after_peers())),
        ];
        for (_, thread) in threads {
            let daemon = Arc::clone(self);
            std::thread::spawn(move || thread(daemon));
        }
        info!(node = self.settings.node, listen = address, socket = %self.settings.socket().display(), "serving");
        Ok(())
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

//! Mounts the tree, and takes it away when the daemon has gone.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuser::{Config, MountOption, Session, SessionACL};
use minka_kernel::mountpoint::MountPoint;
use minka_node::tree::{CANNOT, NOT_NOW};
use minka_wire::chain;
use minka_wire::local::CHILD_SOCKET;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{RecvFlags, recv};
use tracing::{info, warn};

use crate::asker::Daemon;
use crate::files::Files;

/// What the kernel shows as the command name of this program.
pub const NAME: &CStr = c"minka-hpc";

/// Threads that answer; each may wait for a move for a moment.
const THREADS: usize = 4;

const DEVICE: &str = "/dev/fuse";

/// Why the tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE, or not for this user.
    #[error("open {DEVICE}")]
    Device(#[source] io::Error),
    /// Only root may mount for everybody.
    #[error("mount for everybody: only root may")]
    NotRoot,
    /// There is no directory for it.
    #[error("make the directory {}", path.display())]
    Point {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something else is mounted there: perhaps another node's tree.
    #[error("mount on {}: something is mounted there already", .0.display())]
    Taken(PathBuf),
    /// The kernel refuses.
    #[error("mount on {}", path.display())]
    Mount {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Whether it may be otherwise a moment later.
    fn may_pass(&self) -> bool {
        matches!(self, MountError::Mount { .. } | MountError::Taken(_))
    }
}

/// Whether this program could mount a tree, as far as that can be told without doing so.
///
/// # Errors
/// When it could not.
pub fn try_out() -> Result<(), MountError> {
    File::options().read(true).write(true).open(DEVICE).map_err(MountError::Device)?;
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(MountError::NotRoot) }
}

/// The program: where to mount, and the run directory of the daemon, are its arguments, its socket to the daemon is
/// inherited.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let daemon = minka_kernel::process::inherited(CHILD_SOCKET);
    let (Some(point), Some(run_dir), Some(daemon)) = (arguments.next(), arguments.next(), daemon) else {
        tracing::error!("this is started by the node daemon, not by hand");
        return ExitCode::FAILURE;
    };
    let point = PathBuf::from(point);
    match serve(&point, Path::new(&run_dir), daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            warn!(error = %chain(&error), "there is no tree {}", point.display());
            ExitCode::from(if error.may_pass() { NOT_NOW } else { CANNOT })
        }
    }
}

/// Mounts the tree and answers until it is unmounted.
fn serve(path: &Path, run_dir: &Path, daemon: OwnedFd) -> Result<(), MountError> {
    try_out()?;
    clear(path)?;
    let point = MountPoint::take(path);
    let point = point.map_err(|source| MountError::Point { path: path.to_owned(), source })?;
    let failed = |source| MountError::Mount { path: path.to_owned(), source };
    let session = Session::new(Files::new(Daemon::new(run_dir)), path, &options());
    let session = match session {
        Ok(session) => session,
        Err(source) => {
            point.give_back();
            return Err(failed(source));
        }
    };
    info!(path = %path.display(), "the tree is mounted");
    std::thread::spawn(move || {
        wait_for_end(&daemon);
        // Fails only if somebody has unmounted it meanwhile.
        let _ = unmount(point.path(), UnmountFlags::DETACH);
        point.give_back();
        // Who has a file of it open keeps the session, but not this program: from now on they get errors.
        std::process::exit(0);
    });
    // Somebody else may unmount it, and then wants it away. The directory goes with the daemon.
    session.run().map_err(failed)
}

/// Takes away what is left of a tree whose program was killed.
fn clear(path: &Path) -> Result<(), MountError> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        match rustix::fs::stat(path) {
            Err(Errno::NOTCONN) => {
                let cleared = unmount(path, UnmountFlags::DETACH);
                cleared.map_err(|error| MountError::Mount { path: path.to_owned(), source: error.into() })?;
            }
            _ if is_mounted(path) => return Err(MountError::Taken(path.to_owned())),
            _ => return Ok(()),
        }
    }
    Err(MountError::Taken(path.to_owned()))
}

/// Whether something is mounted on a directory.
fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field; blanks in it are written otherwise, and then it is not this path.
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == path)
}

fn options() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("minka".to_owned()),
        MountOption::Subtype("hpc".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config
}

/// Waits until the daemon has gone: it never says anything.
fn wait_for_end(daemon: &OwnedFd) {
    let mut byte = [0u8; 1];
    loop {
        match recv(daemon, &mut byte[..], RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok((count, _)) if count > 0 => {}
            _ => return,
        }
    }
}

//! The directory of a lab, and whose it is.
//!
//! Whoever holds the lock on the directory itself (flock) owns it: first the process that makes the lab,
//! then, by inheritance, its supervisor for as long as it lives. So a directory that can be locked is
//! nobody's, however its lab ended.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use minka_kernel::namespace::effective_user;

use crate::description;
use crate::error::LabError;
use crate::options::check_name;

/// For the lab's directories: keys lie there, and sockets that give the caller's privileges to whoever can
/// connect.
const MODE_PRIVATE: u32 = 0o700;
/// For what lies above them in /run, where the node daemon of the machine itself has a place too.
const MODE_PUBLIC: u32 = 0o755;
/// Bits of a mode by which others than the owner have access.
const MODE_OTHERS: u32 = 0o077;

/// Where the lab of this name lies unless it is told otherwise: in `/run/minka/lab` for root, else in
/// `$XDG_RUNTIME_DIR/minka/lab` or, without that, `/tmp/minka-UID/lab`.
pub(crate) fn default_directory(name: &str) -> Result<PathBuf, LabError> {
    check_name(name)?;
    let user = effective_user();
    let run = Path::new("/run");
    let base = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        _ if user == 0 && run.is_dir() => run.join("minka"),
        Some(directory) if directory.is_absolute() && directory.is_dir() => directory.join("minka"),
        _ => Path::new("/tmp").join(format!("minka-{user}")),
    };
    Ok(base.join("lab").join(name))
}

/// A lab's directory that is locked by this process.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    lock: File,
}

impl Claim {
    /// Makes the directory if it is not there, and locks it. What an earlier lab has left is still in it.
    pub(crate) fn make(path: &Path) -> Result<Self, LabError> {
        if let Some(parent) = path.parent() {
            make_parents(parent)?;
        }
        loop {
            match DirBuilder::new().mode(MODE_PRIVATE).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(LabError::file("make the directory", path)(error));
                }
                _ => {}
            }
            if let Some(claim) = Self::take(path)? {
                check_private(path)?;
                return Ok(claim);
            }
        }
    }

    /// Locks the directory. `None` if there is none (any more).
    pub(crate) fn take(path: &Path) -> Result<Option<Self>, LabError> {
        let failed = || LabError::file("lock the directory", path);
        let lock = match File::open(path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed()(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LabError::Running(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        if fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink()) {
            return Err(LabError::UnsafeDirectory(path.to_owned()));
        }
        let claim = Self { path: path.to_owned(), lock };
        Ok(claim.is_current().map_err(failed())?.then_some(claim))
    }

    /// Whether the path still leads to what was locked: the directory may have been removed, and even made
    /// anew.
    fn is_current(&self) -> io::Result<bool> {
        let locked = self.lock.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The directory whose lock was handed on to this process.
    pub(crate) fn inherited(path: &Path, lock: File) -> Self {
        Self { path: path.to_owned(), lock }
    }

    /// The lock, to be handed on.
    pub(crate) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Removes what an earlier lab has left, but nothing else.
    pub(crate) fn clear(&self) -> Result<(), LabError> {
        let failed = || LabError::file("clear the directory", &self.path);
        let mut entries = fs::read_dir(&self.path).map_err(failed())?.peekable();
        if entries.peek().is_some() && !self.path.join(description::FILE_NAME).exists() {
            return Err(LabError::ForeignDirectory(self.path.clone()));
        }
        for entry in entries {
            let entry = entry.map_err(failed())?;
            // By this name it is known as a lab's: last, so that an interrupted removal can be taken up
            // again.
            if entry.file_name() != description::FILE_NAME {
                remove(&entry.path()).map_err(failed())?;
            }
        }
        match fs::remove_file(self.path.join(description::FILE_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed()(error)),
            _ => Ok(()),
        }
    }

    /// Removes the directory with all that a lab has left in it, unless another owner has done so already.
    pub(crate) fn remove(self) -> Result<(), LabError> {
        if !self.is_current().map_err(LabError::file("look at the directory", &self.path))? {
            return Ok(());
        }
        self.clear()?;
        fs::remove_dir(&self.path).map_err(LabError::file("remove the directory", &self.path))
    }
}

/// Makes the directories for a lab's parts.
pub(crate) fn make_private(path: &Path) -> Result<(), LabError> {
    let result = DirBuilder::new().mode(MODE_PRIVATE).create(path);
    result.map_err(LabError::file("make the directory", path))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed =
        if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes what lies above a lab's directory; only the ones that are not there yet.
fn make_parents(path: &Path) -> Result<(), LabError> {
    let failed = || LabError::file("make the directory", path);
    if path.is_dir() {
        // Below /tmp somebody else may have been quicker.
        return if path.starts_with("/tmp") && path.ends_with("lab") { check_private(path) } else { Ok(()) };
    }
    let mode = if path.starts_with("/run") && !path.ends_with("lab") { MODE_PUBLIC } else { MODE_PRIVATE };
    if let Some(parent) = path.parent() {
        make_parents(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed()(error)),
        _ => Ok(()),
    }
}

/// Refuses directories in which others than the caller could put something.
fn check_private(path: &Path) -> Result<(), LabError> {
    let metadata = fs::symlink_metadata(path).map_err(LabError::file("look at the directory", path))?;
    let private =
        metadata.is_dir() && metadata.uid() == effective_user() && metadata.mode() & MODE_OTHERS == 0;
    if private { Ok(()) } else { Err(LabError::UnsafeDirectory(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_can_claim_a_directory() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lab");
        assert!(Claim::take(&path).unwrap().is_none());
        let claim = Claim::make(&path).unwrap();
        assert!(matches!(Claim::make(&path), Err(LabError::Running(_))));
        let inherited = claim.lock().unwrap();
        drop(claim);
        assert!(matches!(Claim::make(&path), Err(LabError::Running(_))));
        drop(inherited);
        Claim::make(&path).unwrap().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn directories_of_somebody_else_are_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("letters");
        make_private(&path).unwrap();
        fs::write(path.join("letter"), "dear").unwrap();
        let claim = Claim::make(&path).unwrap();
        assert!(matches!(claim.remove(), Err(LabError::ForeignDirectory(_))));
        assert_eq!(fs::read_to_string(path.join("letter")).unwrap(), "dear");
    }

    #[test]
    fn directories_open_to_others_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("open");
        DirBuilder::new().mode(0o755).create(&path).unwrap();
        assert!(matches!(Claim::make(&path), Err(LabError::UnsafeDirectory(_))));
        let link = base.path().join("link");
        let target = base.path().join("target");
        make_private(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(Claim::make(&link), Err(LabError::UnsafeDirectory(_))));
    }

    #[test]
    fn the_default_directory_is_below_the_users_own() {
        let path = default_directory("x").unwrap();
        assert!(path.ends_with("lab/x") && path.is_absolute(), "{}", path.display());
        assert!(default_directory("../x").is_err());
    }
}

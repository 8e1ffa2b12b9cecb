//! Directories that are made to be mounted on, and are taken away by the last who used them.
//!
//! Several nodes of a lab see the same directory and mount on it, each in its own mount namespace. Removing it would
//! take the mounts of all others away (the kernel unmounts what lies on a directory that is removed elsewhere). So whoever
//! uses it holds a lock on it, which ends with its process, however that ends; and only who gets it alone removes it.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tells those that were made here from those that somebody else has made: nothing can be put into it.
const MODE: u32 = 0o555;

/// How often it is tried while somebody else removes it.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// A directory that can be mounted on, in use as long as this is kept.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    directory: File,
}

impl MountPoint {
    /// Takes a directory into use, and makes it if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is none.
    pub fn take(path: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            match DirBuilder::new().mode(MODE).create(path) {
                Ok(()) => fs::set_permissions(path, Permissions::from_mode(MODE))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match Self::hold(path) {
                Ok(Some(point)) => return Ok(point),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// `None` if somebody is about to remove it, or has.
    fn hold(path: &Path) -> io::Result<Option<Self>> {
        let directory = File::open(path)?;
        let opened = directory.metadata()?;
        if !opened.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match directory.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let now = fs::symlink_metadata(path)?;
        let same = (now.dev(), now.ino()) == (opened.dev(), opened.ino());
        Ok(same.then(|| MountPoint { path: path.to_owned(), directory }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it back, and removes it if it was made here and nobody else uses it.
    pub fn give_back(self) {
        drop(self.directory);
        remove_unused(&self.path);
    }
}

/// Removes a directory that was made here and that nobody uses.
pub fn remove_unused(path: &Path) {
    let Ok(directory) = File::open(path) else { return };
    let made_here = |metadata: fs::Metadata| metadata.is_dir() && metadata.mode() & 0o7777 == MODE;
    if directory.metadata().is_ok_and(made_here) && directory.try_lock().is_ok() {
        // Fails if something is mounted on it here, or it is not empty after all.
        let _ = fs::remove_dir(path);
    }
}

/// Takes FUSE mounts of this `source` away from `path` in the mount namespace of the calling process, which must not
/// show its mounts to others: it has them from whoever was there before it.
///
/// # Errors
/// When the kernel does not allow it.
pub fn leave_outside(path: &Path, source: &str) -> io::Result<()> {
    const MOUNTS_MAX: usize = 64;
    for _ in 0..MOUNTS_MAX {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        if !mounts.lines().any(|line| is_mount_of(line, path, source)) {
            return Ok(());
        }
        let point = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the path is a text that ends in a zero and outlives the call.
        if unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Whether a line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`) is of such a mount there.
fn is_mount_of(line: &str, path: &Path, source: &str) -> bool {
    let Some((place, what)) = line.split_once(" - ") else { return false };
    let mut what = what.split(' ');
    let is_fuse = what.next().is_some_and(|kind| kind == "fuse" || kind.starts_with("fuse."));
    let is_there = place.split(' ').nth(4).is_some_and(|point| Path::new(point) == path);
    is_fuse && what.next() == Some(source) && is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trees_of_that_source_at_that_place_are_left_outside() {
        let line = |point: &str, kind: &str, source: &str| {
            format!("66 27 0:50 / {point} rw,nosuid shared:7 - {kind} {source} rw,user_id=0")
        };
        let is_left = |line: &str| is_mount_of(line, Path::new("/hpc"), "minka");
        assert!(is_left(&line("/hpc", "fuse", "minka")) && is_left(&line("/hpc", "fuse.hpc", "minka")));
        for other in [
            line("/hpc2", "fuse", "minka"),
            line("/hpc", "fuse", "host:"),
            line("/hpc", "nfs", "minka"),
            String::new(),
        ] {
            assert!(!is_left(&other), "{other}");
        }
        leave_outside(Path::new("/no/such"), "minka").unwrap();
    }

    #[test]
    fn the_last_who_used_it_takes_it_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("point");
        let points = [MountPoint::take(&path).unwrap(), MountPoint::take(&path).unwrap()];
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        let [one, other] = points;
        remove_unused(&path);
        one.give_back();
        assert!(path.exists(), "the other is there");
        other.give_back();
        assert!(!path.exists());
        drop(MountPoint::take(&path).unwrap());
        assert!(path.exists(), "its process was killed");
        remove_unused(&path);
        assert!(!path.exists());
    }

    #[test]
    fn what_somebody_else_has_made_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own");
        fs::create_dir(&path).unwrap();
        MountPoint::take(&path).unwrap().give_back();
        assert!(path.exists());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(MountPoint::take(&file).is_err());
        remove_unused(&file);
        assert!(file.exists());
        assert!(MountPoint::take(&directory.path().join("no/such")).is_err());
    }
}

//! Which files can be written behind: those whose writes cannot fail as long as there is room.

use crate::readahead::shares_descriptors;
use crate::shorten::is_mapped;
use minka_kernel::process::limit;
use minka_wire::message::WINDOW;
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;

/// What has to be free in a file system, bytes.
const ROOM: u64 = 64 * WINDOW;

/// How far a file may reach, bytes: every file system that is written behind takes that, and ext2 and ext3 with smaller blocks than
/// four KiB take the smaller one.
pub(super) const LENGTH_MAX: u64 = 1 << 40;
const LENGTH_MAX_SMALL_BLOCKS: u64 = 1 << 33;

const RLIMIT_FSIZE: u32 = 1;

/// Whether a file can be written behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    No,
    /// Every write as it was made.
    Whole,
    /// A long one in pieces, too: where who reads the file sees a write in pieces anyway.
    InPieces,
}

/// Whether a descriptor is of a file whose writes cannot fail as long as there is room.
pub(super) fn fit(pid: i32, descriptor: i32) -> io::Result<Fit> {
    let file = get(pid, descriptor)?;
    let status = rustix::fs::fstat(&file)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    let system = rustix::fs::fstatfs(&file)?.f_type as u64;
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let is_fit = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
        && !flags.intersects(OFlags::DIRECT | OFlags::SYNC | OFlags::DSYNC | OFlags::PATH)
        // Memory without a name may be sealed.
        && (status.st_nlink > 0 || system != TMPFS)
        && [EXT, XFS, F2FS, TMPFS].contains(&system)
        && !has_quotas(&std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?, status.st_dev)
        && limit(pid, RLIMIT_FSIZE)?.0 == u64::MAX
        && !shares_descriptors(pid)?
        && !is_mapped(pid, &std::fs::metadata(path)?);
    Ok(match (is_fit, system) {
        (false, _) => Fit::No,
        (true, EXT | TMPFS) => Fit::InPieces,
        (true, _) => Fit::Whole,
    })
}

/// File systems that say how much room they have, and where a write takes no more than its bytes (magic numbers of `statfs(2)`).
const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const F2FS: u64 = 0xf2f5_2010;
const TMPFS: u64 = 0x0102_1994;

/// Whether what may be written depends on more than the room that is free.
pub(super) fn has_room(pid: i32, descriptor: i32) -> io::Result<bool> {
    let file = get(pid, descriptor)?;
    let system = rustix::fs::fstatvfs(&file)?;
    let length = rustix::fs::fstat(&file)?.st_size.unsigned_abs();
    let position = rustix::fs::seek(&file, SeekFrom::Current(0))?;
    let is_free = |blocks: u64| blocks.saturating_mul(system.f_frsize) >= ROOM;
    let most = if system.f_bsize < 4096 { LENGTH_MAX_SMALL_BLOCKS } else { LENGTH_MAX };
    Ok(is_free(system.f_bavail) && length.max(position) < most)
}

pub(super) fn is_same_file(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let [one, other] = [rustix::fs::fstat(one)?, rustix::fs::fstat(other)?];
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The process's own opening.
pub(super) fn get(pid: i32, descriptor: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?)
}

/// Whether a file system has quotas, by the lines of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`) of its device; one that
/// is not mounted here may have.
fn has_quotas(mounts: &str, device: u64) -> bool {
    let name = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut lines = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(&name)).peekable();
    let is_quota = |option: &str| option.contains("quota") && option != "noquota";
    lines.peek().is_none()
        || lines.any(|line| line.rsplit(' ').next().is_some_and(|all| all.split(',').any(is_quota)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
31 29 8:2 / /home rw shared:2 - xfs /dev/sda2 rw,attr2,usrquota
33 29 8:3 / /srv rw - xfs /dev/sda3 rw,attr2,inode64,noquota
35 29 0:40 / /tmp rw - tmpfs tmpfs rw,size=1024k";

    #[test]
    fn quotas_are_seen_by_device() {
        let has = |major, minor| has_quotas(MOUNTS, rustix::fs::makedev(major, minor));
        assert!(!has(8, 1) && has(8, 2) && !has(8, 3) && !has(0, 40));
        assert!(has(8, 4), "nobody knows");
    }
}

//! Files that are mapped shared and to be written, as long as their only holders are those who move: what is peculiar to them.
//!
//! ```text
//!  which       in memory, or on a disk of this machine, where all pages have room: [`examine`]
//!  truncate    is the one way to change a file without opening it: inotify tells before that call returns ([`Watch`])
//!  the end     the file outlives its process: what was written comes home before that ends ([`crate::ends`])
//! ```

use crate::eligible::Reason;
use minka_image::PAGE;
use minka_image::maps::Mapping;
use minka_kernel::spawn::wait_readable;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, SeekFrom, StatxFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TMPFS: i64 = 0x0102_1994;

/// File systems of a disk that nobody but this kernel changes: ext2, ext3, ext4, and XFS.
const DISKS: [i64; 2] = [0xef53, 0x5846_5342];

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    InMemory,
    OnDisk,
}

impl Lies {
    /// By the magic number of its file system; nowhere that it could be away from.
    pub(super) fn on(system: i64) -> Option<Self> {
        match system {
            TMPFS => Some(Self::InMemory),
            system if DISKS.contains(&system) => Some(Self::OnDisk),
            _ => None,
        }
    }
}

/// Whether what a mapping shows of a file on a disk can be written wherever it comes home: each page has its room there. In memory
/// there mostly is room, and where there is none natively the program ends, too.
pub(super) fn has_room(file: &File, path: &str, mapping: &Mapping) -> Result<(), Reason> {
    let size = file.metadata().map_err(super::because)?.len();
    let end = size.min(mapping.offset.saturating_add(mapping.length()));
    let mut at = mapping.offset;
    while at < end {
        match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(hole) if hole >= end => return Ok(()),
            // There is nothing behind that.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            // The last page may be there in part.
            Ok(hole) if hole.next_multiple_of(PAGE) >= end && !hole.is_multiple_of(PAGE) => return Ok(()),
            Ok(hole) if hole > at && !hole.is_multiple_of(PAGE) => at = hole.next_multiple_of(PAGE),
            _ => return Err(Reason::SharedHoles(path.to_owned())),
        }
    }
    Ok(())
}

/// Whether mapping a file shows the disk itself (DAX): what is written there is safe at once.
pub(super) fn is_direct(file: &File) -> bool {
    /// `STATX_ATTR_DAX`
    const DAX: u64 = 0x20_0000;
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    found.is_ok_and(|found| found.stx_attributes.bits() & DAX != 0)
}

/// The least size that a file has been seen to have since its process left.
pub(super) type Least = Arc<AtomicU64>;

/// Tells of files that become another size without having been opened.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    files: Vec<(File, Least)>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { inotify, files: Vec::new() })
    }

    pub(super) fn add(&mut self, file: File, least: Least) -> io::Result<()> {
        // The file itself, whatever it is called by now.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&self.inotify, link, WatchFlags::MODIFY)?;
        self.files.push((file, least));
        Ok(())
    }

    /// Whether any has. It stays so.
    pub(super) fn has_changed(&self) -> bool {
        let news = wait_readable(&[self.inotify.as_fd()], Some(Duration::ZERO));
        let changed = news.is_ok_and(|news| news.first() == Some(&true));
        if changed {
            self.look_at_sizes();
        }
        changed
    }

    /// Notes how long the files are by now.
    pub(super) fn look_at_sizes(&self) {
        for (file, least) in &self.files {
            if let Ok(data) = file.metadata() {
                least.fetch_min(data.len(), Ordering::SeqCst);
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::maps::Backing;
    use std::io::{Seek, Write};

    fn on_disk(pages: u64) -> File {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        file.set_len(pages * PAGE).expect("its length");
        file
    }

    #[test]
    fn only_files_of_this_machine_may_go() {
        let lies = |path: &str| Lies::on(rustix::fs::statfs(path).expect("look").f_type);
        assert_eq!(lies("/proc"), None);
        assert_eq!(lies("/dev/shm"), Some(Lies::InMemory));
        const NFS: i64 = 0x6969;
        const BTRFS: i64 = 0x9123_683e;
        assert_eq!([NFS, BTRFS, 0x794c_7630].map(Lies::on), [None; 3]);
        assert_eq!(DISKS.map(Lies::on), [Some(Lies::OnDisk); 2]);
    }

    #[test]
    fn what_has_no_room_on_the_disk_stays() {
        let mut file = on_disk(4);
        let mapping = |offset: u64, pages: u64| Mapping {
            start: 0x10_0000,
            end: 0x10_0000 + pages * PAGE,
            protection: 3,
            shared: true,
            offset,
            device: 0,
            inode: 1,
            backing: Backing::Anonymous,
        };
        let check = |file: &File, offset, pages| has_room(file, "x", &mapping(offset, pages));
        let holes = || Err(Reason::SharedHoles("x".to_owned()));
        assert_eq!(check(&file, 0, 4), holes());
        file.write_all(&[1; 2 * PAGE as usize]).expect("write two pages");
        assert_eq!(
            [check(&file, 0, 2), check(&file, 0, 3), check(&file, PAGE, 1)],
            [Ok(()), holes(), Ok(())]
        );
        file.seek(io::SeekFrom::Start(2 * PAGE)).expect("go there");
        file.write_all(&[1; 2 * PAGE as usize]).expect("write the others");
        assert_eq!(check(&file, 0, 4), Ok(()));
        file.set_len(3 * PAGE + 7).expect("cut it");
        assert_eq!(check(&file, 0, 4), Ok(()));
        assert!(!is_direct(&file));
    }

    #[test]
    fn who_cuts_a_file_short_by_its_name_is_noticed_before_that_is_over() {
        let named = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
        named.as_file().set_len(4 * PAGE).expect("its length");
        let least = Least::new(AtomicU64::new(4 * PAGE));
        let mut watch = Watch::new().expect("a watch");
        watch.add(named.reopen().expect("open it"), Arc::clone(&least)).expect("watch it");
        assert!(!watch.has_changed());
        let truncate = |length: u64| {
            let line = format!("import os; os.truncate('{}', {length})", named.path().display());
            let status = std::process::Command::new("python3").args(["-c", &line]).status();
            assert!(status.expect("start python").success());
        };
        truncate(PAGE + 9);
        assert!(watch.has_changed());
        truncate(4 * PAGE);
        assert!(watch.has_changed() && watch.has_changed());
        assert_eq!(least.load(Ordering::SeqCst), PAGE + 9);
    }
}

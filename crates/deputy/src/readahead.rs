//! Reading ahead: what a program is going to read of a file next is read while it works on what it has.
//!
//! ```text
//!  host    read ──►            ◄── data      read ──►        ◄── data
//!  home           reads, sends      reads on        sends       reads on
//! ```
//!
//! It is exact by two promises. A **read lease** on the file: nobody has it open for writing, and whoever wants to waits until
//! the lease is given up, so what was read under it is what the file holds as long as the kernel says that it is unbroken.
//! And the descriptor was **opened by the process itself** while it was away ([`Opened`]), so its position is nobody else's, and
//! is moved here, by a descriptor of the same opening. The call takes place when the lease is looked at. Whatever is not so, or
//! not read yet, is left to the process itself, as any call: the end of the file, errors, files that are not in memory.

#[cfg(test)]
mod tests;

use crate::session::lock;
use minka_kernel::lease;
use minka_kernel::process::{share_description, share_descriptors};
use minka_syscalls::marshal::Read;
use minka_syscalls::opened::{Opened, opens_to_write_at_once};
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

/// So many bytes are read in order before any are read ahead.
const BEGIN: u64 = 1 << 20;
/// What is read ahead at least, bytes.
const LEAST: usize = 128 << 10;
/// And at most: as much as one call may carry.
const MOST: usize = minka_kernel::ring::DATA_PER_SLOT;
/// Files that are read ahead at a time.
const STREAMS_MAX: usize = 4;

/// The leases under which is read ahead.
#[derive(Debug, Default)]
pub(crate) struct Promises(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    /// None is to be taken any more.
    closed: bool,
    leases: Vec<Weak<File>>,
}

impl Promises {
    fn take(&self, file: &Arc<File>) -> io::Result<()> {
        let mut given = lock(&self.0);
        if given.closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
        lease::take(file)?;
        given.leases.retain(|lease| lease.strong_count() > 0);
        given.leases.push(Arc::downgrade(file));
        Ok(())
    }

    /// Gives those up that somebody waits for.
    pub(crate) fn yield_to_writers(&self) {
        let given = lock(&self.0);
        given
            .leases
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|file| lease::is_breaking(file))
            .for_each(|file| lease::give_up(&file));
    }

    /// Gives all up, and takes none until [`Promises::open`].
    pub(crate) fn close(&self) {
        let mut given = lock(&self.0);
        given.closed = true;
        given.leases.drain(..).filter_map(|lease| lease.upgrade()).for_each(|file| lease::give_up(&file));
    }

    /// Leases may be taken again.
    pub(crate) fn open(&self) {
        lock(&self.0).closed = false;
    }
}

/// What is read ahead for a process.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    opened: Opened,
    /// By descriptor; none of one where it cannot be done.
    streams: BTreeMap<i32, Option<Stream>>,
}

impl ReadAhead {
    /// A call is about to be made, for this request: what it may change is given up before.
    pub(crate) fn before(&mut self, request: &[u8]) {
        self.opened.before(request);
        let Self { opened, streams } = self;
        streams.retain(|descriptor, _| opened.bytes_read(*descriptor).is_some());
        // Who waits for a lease is let go on; who does not is not to find one of his own deputy's.
        if opens_to_write_at_once(request) {
            streams.clear();
        }
    }

    /// It has been made, with this result.
    pub(crate) fn after(&mut self, request: &[u8], result: i64) {
        self.opened.after(request, result);
        // Another file may have got a descriptor's number.
        let Self { opened, streams } = self;
        streams.retain(|descriptor, _| opened.bytes_read(*descriptor).is_some_and(|bytes| bytes > 0));
    }

    /// Nothing is known of any descriptor any more.
    pub(crate) fn forget(&mut self) {
        self.opened.forget();
        self.streams.clear();
    }

    /// Makes a call, if it is a read whose data are there.
    pub(crate) fn read(&mut self, pid: i32, request: &[u8]) -> Option<&[u8]> {
        let Read { descriptor, count } = Read::of(request)?;
        let entry = self.streams.get_mut(&descriptor)?;
        match entry.as_mut()?.find(pid, descriptor, count) {
            Ok(Some(position)) => {
                let stream = entry.as_ref()?;
                stream.move_to(position + count as u64).ok()?;
                stream.buffer.get((position - stream.from) as usize..)?.get(..count)
            }
            Ok(None) => None,
            Err(_) => {
                *entry = None;
                None
            }
        }
    }

    /// Reads on behind a read that has been answered.
    pub(crate) fn go_on(&mut self, pid: i32, request: &[u8], promises: &Promises) {
        let Some(Read { descriptor, count }) = Read::of(request) else { return };
        let Some(bytes) = self.opened.bytes_read(descriptor) else { return };
        let may_begin = bytes >= BEGIN && self.streams.len() < STREAMS_MAX;
        let entry = match self.streams.entry(descriptor) {
            std::collections::btree_map::Entry::Vacant(vacant) if may_begin => {
                vacant.insert(Stream::begin(pid, descriptor, promises).ok())
            }
            std::collections::btree_map::Entry::Vacant(_) => return,
            std::collections::btree_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if entry.as_mut().is_some_and(|stream| stream.fill(count).is_err()) {
            *entry = None;
        }
    }
}

/// A file that is being read.
#[derive(Debug)]
struct Stream {
    /// The process's own opening, whose position the program sees.
    description: OwnedFd,
    /// An opening of ours, with the lease.
    file: Arc<File>,
    size: u64,
    /// Where in the file the data begin that are there.
    from: u64,
    buffer: Vec<u8>,
}

impl Stream {
    fn begin(pid: i32, descriptor: i32, promises: &Promises) -> io::Result<Self> {
        let refused = || io::Error::from(io::ErrorKind::Unsupported);
        let process = pidfd_open(Pid::from_raw(pid).ok_or_else(refused)?, PidfdFlags::empty())?;
        let description = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
        let status = rustix::fs::fstat(&description)?;
        let flags = rustix::fs::fcntl_getfl(&description)?;
        let is_plain = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            && !flags.intersects(OFlags::ACCMODE | OFlags::DIRECT | OFlags::PATH)
            // A lease on memory without a name proves nothing.
            && status.st_nlink > 0
            && keeps_leases(rustix::fs::fstatfs(&description)?.f_type as u64);
        if !is_plain || shares_descriptors(pid)? {
            return Err(refused());
        }
        let file = Arc::new(File::open(format!("/proc/{pid}/fd/{descriptor}"))?);
        promises.take(&file)?;
        let held = rustix::fs::fstat(&*file)?;
        if (held.st_dev, held.st_ino) != (status.st_dev, status.st_ino) {
            return Err(refused());
        }
        let size = held.st_size.unsigned_abs();
        Ok(Self { description, file, size, from: 0, buffer: Vec::new() })
    }

    fn position(&self) -> io::Result<u64> {
        Ok(rustix::fs::seek(&self.description, SeekFrom::Current(0))?)
    }

    fn move_to(&self, position: u64) -> io::Result<()> {
        rustix::fs::seek(&self.description, SeekFrom::Start(position))?;
        Ok(())
    }

    /// Where so many bytes are read from now, if they are there; an error if that will never be known again.
    fn find(&self, pid: i32, descriptor: i32, count: usize) -> io::Result<Option<u64>> {
        let own = (std::process::id().cast_signed(), self.description.as_raw_fd());
        if !share_description((pid, descriptor), own)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let position = self.position()?;
        if lease::is_breaking(&self.file) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let end = self.from + self.buffer.len() as u64;
        let is_there =
            position >= self.from && position.checked_add(count as u64).is_some_and(|to| to <= end);
        Ok(is_there.then_some(position))
    }

    /// Sees to it that a read of so many bytes finds its data. What would have to come from a disk is left to the read.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        let position = self.position()?;
        let end = self.from + self.buffer.len() as u64;
        let wanted = position.saturating_add(count as u64);
        if (position >= self.from && wanted <= end) || wanted > self.size || count > MOST {
            return Ok(());
        }
        if lease::is_breaking(&self.file) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = (count.max(LEAST) as u64).min(self.size - position) as usize;
        self.from = position;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let read = read_at_once(&self.file, &mut self.buffer[..length], position)?;
        self.buffer.truncate(read);
        Ok(())
    }
}

/// Reads as much as is in memory.
fn read_at_once(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let mut part = [IoSliceMut::new(&mut into[done..])];
        match rustix::io::preadv2(file, &mut part, position + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Whether files of such a file system change by nobody who has not opened them here (magic numbers of `statfs(2)`): not from
/// another machine, and not by themselves.
fn keeps_leases(file_system: u64) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const F2FS: u64 = 0xf2f5_2010;
    const TMPFS: u64 = 0x0102_1994;
    [EXT, XFS, BTRFS, F2FS, TMPFS].contains(&file_system)
}

/// Whether somebody has the table of descriptors in common with a process.
pub(crate) fn shares_descriptors(pid: i32) -> io::Result<bool> {
    for entry in std::fs::read_dir("/proc")? {
        let other = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(other) = other.filter(|other| *other != pid)
            && share_descriptors(pid, other).unwrap_or(false)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

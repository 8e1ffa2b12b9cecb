//! The tree as FUSE asks for it. What is said in each file is in [`crate::content`] and [`crate::order`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::asker::{Asker, Daemon};
use crate::content::{Facts, content};
use crate::order::order;
use crate::place::{Kind, Place};
use crate::why::Why;

/// Files that are open at a time, by all together.
const OPEN_MAX: usize = 4096;

/// Longest write, in bytes; the kernel asks in pages.
const WRITE_BYTES_MAX: u32 = 4096;

/// How long the kernel may go by what it was told. Processes come and go, and their numbers are given again.
const LASTING: Duration = Duration::from_secs(1);
const FLEETING: Duration = Duration::ZERO;

/// In the numbers by which a listing is gone on with, those of nodes and processes come after the fixed names.
const NUMBERED: u64 = 1 << 32;

/// The tree.
#[derive(Debug)]
pub(crate) struct Files {
    daemon: Daemon,
    /// Files that are open, and what has been read of each from its beginning.
    open: Mutex<HashMap<u64, Option<Arc<str>>>>,
    opened: AtomicU64,
    since: SystemTime,
}

impl Files {
    pub(crate) fn new(daemon: Daemon) -> Self {
        Files { daemon, open: Mutex::default(), opened: AtomicU64::new(1), since: SystemTime::now() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<Arc<str>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self, request: &Request) -> Asker {
        self.daemon.asked_by(request.uid())
    }

    /// The attributes of a place, if there is something in it.
    fn attributes(&self, place: Place) -> Result<FileAttr, Why> {
        let uid = match place.process() {
            Some(pid) => Asker::owner(pid).ok_or(Why::Nowhere)?,
            None => 0,
        };
        let kind = match place.kind() {
            Kind::Directory => FileType::Directory,
            Kind::File => FileType::RegularFile,
            Kind::Link => FileType::Symlink,
        };
        Ok(FileAttr {
            ino: INodeNo(place.inode()),
            size: 0,
            blocks: 0,
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind,
            perm: place.mode(),
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn find(&self, request: &Request, parent: INodeNo, name: &OsStr) -> Result<Place, Why> {
        let directory = Place::of_inode(parent.0).ok_or(Why::Nowhere)?;
        let place = name.to_str().and_then(|name| directory.child(name)).ok_or(Why::Nowhere)?;
        let is_there = match place {
            Place::Node(number) => self.asker(request).is_node(number)?,
            Place::Guest(pid) => self.asker(request).guests()?.contains(&pid),
            _ => true,
        };
        if is_there { Ok(place) } else { Err(Why::Nowhere) }
    }

    /// What a file says; from its beginning on it is made anew.
    fn text(
        &self,
        request: &Request,
        place: Place,
        handle: FileHandle,
        offset: u64,
    ) -> Result<Arc<str>, Why> {
        let before = self.lock().get(&handle.0).cloned().flatten();
        if let Some(text) = before.filter(|_| offset > 0) {
            return Ok(text);
        }
        let text: Arc<str> = content(place, &self.asker(request))?.into();
        if let Some(kept) = self.lock().get_mut(&handle.0) {
            *kept = Some(Arc::clone(&text));
        }
        Ok(text)
    }

    fn open_file(&self, place: Place, flags: OpenFlags) -> Result<u64, Errno> {
        // Root may do all, but nobody reads what is only written.
        let mode = place.mode();
        let allowed = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => mode & 0o444 != 0,
            OpenAccMode::O_WRONLY => mode & 0o222 != 0,
            OpenAccMode::O_RDWR => mode & 0o444 != 0 && mode & 0o222 != 0,
        };
        if !allowed || place.kind() != Kind::File {
            return Err(errno(Why::WrongWay));
        }
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return Err(Errno::ENFILE);
        }
        let handle = self.opened.fetch_add(1, Ordering::Relaxed);
        open.insert(handle, None);
        Ok(handle)
    }

    /// The names in a directory, with the number by which a listing goes on after each.
    fn list(&self, request: &Request, directory: Place) -> Result<Vec<(u64, String)>, Why> {
        let fixed = directory.names().into_iter().enumerate();
        // The first two are the directory itself and the one above it.
        let fixed = fixed.map(|(at, name)| (at as u64 + 3, name.to_owned()));
        let numbers: Vec<i64> = match directory {
            Place::Nodes => {
                let nodes = self.asker(request).nodes()?;
                nodes.iter().filter_map(|node| node.number.map(i64::from)).collect()
            }
            Place::Remote => self.asker(request).guests()?.into_iter().map(i64::from).collect(),
            Place::Proc => Asker::processes().into_iter().map(i64::from).collect(),
            _ => Vec::new(),
        };
        let mut numbers: Vec<u64> = numbers.into_iter().filter_map(|number| number.try_into().ok()).collect();
        numbers.sort_unstable();
        let numbered = numbers.into_iter().map(|number| (NUMBERED + number, number.to_string()));
        Ok(fixed.chain(numbered).collect())
    }
}

fn errno(why: Why) -> Errno {
    Errno::from_i32(why.errno().raw_os_error())
}

fn ttl(place: Place) -> &'static Duration {
    match place {
        Place::Process(_) | Place::ProcessFile(..) | Place::Guest(_) | Place::GuestFile(..) => &FLEETING,
        _ => &LASTING,
    }
}

/// The process of a thread: FUSE says which thread asks.
fn process_of(request: &Request) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", request.pid())).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What it does not take instead is near enough.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.find(request, parent, name);
        match found.and_then(|place| Ok((place, self.attributes(place)?))) {
            Ok((place, attributes)) => reply.entry(ttl(place), &attributes, Generation(0)),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let place = Place::of_inode(inode.0).ok_or(Why::Nowhere);
        match place.and_then(|place| Ok((place, self.attributes(place)?))) {
            Ok((place, attributes)) => reply.attr(ttl(place), &attributes),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // A shell cuts a file before it writes to it; that means nothing here. Owners and modes are what they are.
        if mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Errno::EPERM);
        }
        self.getattr(request, inode, handle, reply);
    }

    fn readlink(&self, request: &Request, _: INodeNo, reply: ReplyData) {
        // There is one link only.
        match process_of(request) {
            Some(pid) => reply.data(pid.to_string().as_bytes()),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let place = Place::of_inode(inode.0).ok_or(Errno::ENOENT);
        match place.and_then(|place| self.open_file(place, flags)) {
            // Past the kernel's cache: what a file says changes, and nobody knows its size.
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let place = Place::of_inode(inode.0).ok_or(Why::Nowhere);
        match place.and_then(|place| self.text(request, place, handle, offset)) {
            Ok(text) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let to = from.saturating_add(size as usize).min(text.len());
                reply.data(&text.as_bytes()[from..to]);
            }
            Err(why) => reply.error(errno(why)),
        }
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Each write is an order of its own, wherever in the file it is.
        let writer = process_of(request);
        let ordered = Place::of_inode(inode.0)
            .ok_or(Why::Nowhere)
            .and_then(|place| order(place, data, writer))
            .and_then(|order| self.asker(request).carry_out(order, writer));
        match ordered {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(why) => reply.error(errno(why)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.lock().remove(&handle.0);
        reply.ok();
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(directory) = Place::of_inode(inode.0).filter(|place| place.kind() == Kind::Directory) else {
            return reply.error(Errno::ENOTDIR);
        };
        let listed = match self.list(request, directory) {
            Ok(listed) => listed,
            Err(why) => return reply.error(errno(why)),
        };
        let above = [(1, ".", directory), (2, "..", directory.parent())];
        let above = above.map(|(next, name, place)| (next, name.to_owned(), Some(place)));
        let listed = listed.into_iter().map(|(next, name)| {
            let place = directory.child(&name);
            (next, name, place)
        });
        for (next, name, place) in above.into_iter().chain(listed).filter(|(next, ..)| *next > offset) {
            let Some(place) = place else { continue };
            let kind = match place.kind() {
                Kind::Directory => FileType::Directory,
                Kind::File => FileType::RegularFile,
                Kind::Link => FileType::Symlink,
            };
            if reply.add(INodeNo(place.inode()), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

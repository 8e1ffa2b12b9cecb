//! A door before files: whoever opens one of them waits until it is let in (fanotify(7), `FAN_OPEN_PERM`).
//!
//! ```text
//!  somebody ── open ──► waits ── event ──► Door::next ──► Visitor::let_in ──► goes on
//!                         └──────────── the door is gone (also by its owner's end) ──► goes on
//! ```
//!
//! It needs `CAP_SYS_ADMIN`. An opening by `/proc/PID/fd` and `/proc/PID/map_files` comes to it as any other.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// A door before some files.
#[derive(Debug)]
pub struct Door(OwnedFd);

/// Somebody who wants to open one, and waits.
#[derive(Debug)]
pub struct Visitor {
    /// The process, or 0 if it cannot be seen from here.
    pub pid: i32,
    file: OwnedFd,
}

impl Door {
    /// Makes one that is before nothing yet.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: no pointers.
        let made = unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC) as u32) };
        let made = check(i64::from(made))?;
        // SAFETY: just created, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(made as i32) }))
    }

    /// From now on it is before this file, too, by whatever name that is opened.
    pub fn put_before(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let (door, file) = (self.0.as_raw_fd(), file.as_raw_fd());
        // SAFETY: no pointer but an empty one, by which the descriptor itself is meant.
        let marked = unsafe {
            libc::fanotify_mark(door, libc::FAN_MARK_ADD, libc::FAN_OPEN_PERM, file, std::ptr::null())
        };
        check(i64::from(marked)).map(drop)
    }

    /// The next one who waits, if there is one.
    pub fn next(&self) -> io::Result<Option<Visitor>> {
        const LENGTH: usize = size_of::<libc::fanotify_event_metadata>();
        let mut event = MaybeUninit::<libc::fanotify_event_metadata>::uninit();
        // SAFETY: as many bytes as there are; the kernel gives whole events only.
        let length = unsafe { libc::read(self.0.as_raw_fd(), event.as_mut_ptr().cast(), LENGTH) };
        match check(length as i64) {
            Ok(length) if length as usize == LENGTH => {}
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: filled by the kernel, and plain data.
        let event = unsafe { event.assume_init() };
        if event.vers != libc::FANOTIFY_METADATA_VERSION || event.fd < 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: made for us with the event, and known to nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(event.fd) };
        Ok(Some(Visitor { pid: event.pid, file }))
    }

    /// Lets one in.
    pub fn let_in(&self, visitor: Visitor) -> io::Result<()> {
        self.answer(visitor, libc::FAN_ALLOW)
    }

    /// Turns one away: it is not permitted to open it (EPERM).
    pub fn turn_away(&self, visitor: Visitor) -> io::Result<()> {
        self.answer(visitor, libc::FAN_DENY)
    }

    fn answer(&self, visitor: Visitor, response: u32) -> io::Result<()> {
        let response = libc::fanotify_response { fd: visitor.file.as_raw_fd(), response };
        let from = (&raw const response).cast();
        // SAFETY: as many bytes as there are.
        let written = unsafe { libc::write(self.0.as_raw_fd(), from, size_of_val(&response)) };
        check(written as i64).map(drop)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::memfd;
    use std::fs::File;
    use std::sync::mpsc;
    use std::time::Duration;

    fn next(door: &Door) -> Visitor {
        for _ in 0..1000 {
            if let Some(visitor) = door.next().expect("look who waits") {
                return visitor;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nobody came");
    }

    #[test]
    fn whoever_opens_memory_waits_until_it_is_let_in() {
        let memory = memfd(c"door", 4096).expect("a memfd");
        let door = match Door::new() {
            Ok(door) => door,
            Err(error) => return println!("not made, as this system does not allow it: {error}"),
        };
        door.put_before(memory.as_fd()).expect("put it before the memory");
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let (done, is_done) = mpsc::channel();
        let open = |path: String, done: mpsc::Sender<bool>| {
            std::thread::spawn(move || done.send(File::open(path).is_ok()))
        };
        open(path.clone(), done.clone());
        let visitor = next(&door);
        assert_eq!(visitor.pid, std::process::id().cast_signed());
        assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err(), "it waits");
        door.let_in(visitor).expect("let it in");
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(true));
        // Or turned away.
        open(path.clone(), done.clone());
        door.turn_away(next(&door)).expect("turn it away");
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(false));
        // Without the door it need not wait any more.
        open(path, done);
        let _visitor = next(&door);
        drop(door);
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}

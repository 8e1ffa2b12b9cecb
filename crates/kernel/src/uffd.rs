//! userfaultfd: serving another process's page faults (`userfaultfd(2)`).

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How it is known which pages a process has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// The kernel resolves the first write to a protected page by itself (Linux 6.7).
    ByKernel,
    /// It is told as a fault, and who serves the faults takes the protection away.
    ByFaults,
    /// The kernel marks pages that are written since all marks were cleared (`CONFIG_MEM_SOFT_DIRTY`).
    BySoftDirty,
}

impl Tracking {
    /// What this kernel offers for that mode.
    fn of(mode: Mode) -> Self {
        match mode {
            _ if crate::pagemap::scans() => Tracking::ByKernel,
            Mode::Serve => Tracking::ByFaults,
            // The kernel's own writes to the process's memory would fail.
            Mode::Track => Tracking::BySoftDirty,
        }
    }
}

const API: u64 = 0xaa;
const FEATURE_EVENT_REMAP: u64 = 1 << 2;
const FEATURE_EVENT_REMOVE: u64 = 1 << 3;
const FEATURE_EVENT_UNMAP: u64 = 1 << 6;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
/// Write protection that the kernel resolves by itself, only remembering that a page was written (Linux 6.7).
const FEATURE_WP_ASYNC: u64 = 1 << 15;

const REGISTER_MODE_MISSING: u64 = 1 << 0;
const REGISTER_MODE_WP: u64 = 1 << 1;
const COPY_MODE_WP: u64 = 1 << 1;
const PAGEFAULT_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

/// `_IO(0xAA, 0)` on `/dev/userfaultfd`.
pub const USERFAULTFD_IOC_NEW: u64 = 0xaa00;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_WAKE: u64 = 0x8010_aa02;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;

/// What a guest's memory reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A missing page was touched.
    Fault {
        /// The address.
        address: u64,
    },
    /// A protected page was written to ([`Tracking::ByFaults`]).
    Write {
        /// The address.
        address: u64,
    },
    /// `munmap`, or what a move left behind.
    Unmap {
        /// First address.
        start: u64,
        /// Address after the last byte.
        end: u64,
    },
    /// `madvise(MADV_DONTNEED)` and its kin.
    Remove {
        /// First address.
        start: u64,
        /// Address after the last byte.
        end: u64,
    },
    /// `mremap` to another place.
    Remap {
        /// Old address.
        from: u64,
        /// New address.
        to: u64,
        /// Bytes (the old length).
        length: u64,
    },
}

/// How much a [`Userfault::copy`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Pages put in place.
    pub placed: u64,
    /// Pages that were there already.
    pub present: u64,
    /// Pages whose area is gone.
    pub gone: u64,
    /// Bytes dealt with, in one of these ways. Fewer than asked for: the address space is changing at this moment,
    /// and somebody has to read the event before the rest can be tried again.
    pub done: u64,
}

/// The descriptor that serves a process's faults.
#[derive(Debug)]
pub struct Userfault {
    fd: OwnedFd,
    mode: Mode,
    tracking: Tracking,
}

/// What a userfaultfd may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Missing pages are served, also those that the kernel itself touches.
    Serve,
    /// Writes are tracked and changes reported: all that an unprivileged descriptor (`UFFD_USER_MODE_ONLY`) is good
    /// for here, since nobody could serve the kernel's own faults.
    Track,
}

/// `struct uffd_msg`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    arguments: [u64; 3],
}

const _: () = assert!(std::mem::size_of::<Message>() == 32);

/// Most messages read at once.
const BATCH: usize = 16;

impl Userfault {
    /// Takes over a userfaultfd that was made inside the process to be served, and agrees on the features.
    pub fn new(fd: OwnedFd, mode: Mode) -> io::Result<Self> {
        let features =
            FEATURE_EVENT_REMAP | FEATURE_EVENT_REMOVE | FEATURE_EVENT_UNMAP | FEATURE_PAGEFAULT_FLAG_WP;
        let tracking = Tracking::of(mode);
        if tracking == Tracking::BySoftDirty && !crate::pagemap::has_soft_dirty() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel marks no written pages (soft-dirty)",
            ));
        }
        let features = if tracking == Tracking::ByKernel { features | FEATURE_WP_ASYNC } else { features };
        let mut api = [API, features, 0];
        // SAFETY: `struct uffdio_api` is three words, which live over the call.
        check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) }))?;
        Ok(Self { fd, mode, tracking })
    }

    /// Makes one for this program, only to see whether the kernel has what is needed and gives it to this user.
    pub fn try_out(mode: Mode) -> io::Result<()> {
        Self::of_this_program(mode).map(drop)
    }

    fn of_this_program(mode: Mode) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let descriptor = match mode {
            Mode::Serve => {
                let device = std::fs::File::open("/dev/userfaultfd")?;
                // SAFETY: the request takes plain flags.
                unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) }.into()
            }
            // SAFETY: the call takes plain flags.
            Mode::Track => unsafe { libc::syscall(USERFAULTFD, flags as u64 | USER_MODE_ONLY) },
        };
        let descriptor = check(descriptor)?;
        // SAFETY: the kernel has just made it, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        Self::new(fd, mode)
    }

    /// What it may be used for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How it is known which pages were written.
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// The descriptor, to be polled for reading.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// Serves faults on missing pages of `[start, start + length)` (if it may) and tracks writes to them.
    pub fn register(&self, start: u64, length: u64) -> io::Result<()> {
        let missing = if self.mode == Mode::Serve { REGISTER_MODE_MISSING } else { 0 };
        let mut register = [start, length, missing | REGISTER_MODE_WP, 0];
        // SAFETY: `struct uffdio_register` is four words, which live over the call.
        check(i64::from(unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) }))
            .map(drop)
    }

    /// Reads what is waiting, without blocking. A message's sender goes on as soon as it has been read.
    pub fn read(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut messages = [Message::default(); BATCH];
        let size = std::mem::size_of_val(&messages);
        // SAFETY: the kernel fills at most `size` bytes of `messages`; any bytes are a valid `Message`.
        let got = match check(unsafe {
            libc::read(self.fd.as_raw_fd(), messages.as_mut_ptr().cast(), size) as i64
        }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        for message in &messages[..got as usize / std::mem::size_of::<Message>()] {
            let [a, b, c] = message.arguments;
            events.push(match message.event {
                // { u64 flags; u64 address; u32 ptid; }
                0x12 if a & PAGEFAULT_WP != 0 => Event::Write { address: b },
                0x12 => Event::Fault { address: b },
                0x14 => Event::Remap { from: a, to: b, length: c },
                0x15 => Event::Remove { start: a, end: b },
                0x16 => Event::Unmap { start: a, end: b },
                other => return Err(io::Error::other(format!("unexpected userfaultfd event {other:#x}"))),
            });
        }
        Ok(())
    }

    /// Puts `content` (whole pages) at `address`, protected where that tracks writes, and wakes who waits for it.
    /// Pages that exist already keep their content. The kernel takes nothing that reaches over the end of a mapping, also where
    /// another one follows; so a piece that it does not take is tried with less and less of it before its first page counts as gone.
    pub fn copy(&self, address: u64, content: &[u8]) -> io::Result<Copied> {
        let protected = if self.tracking == Tracking::BySoftDirty { 0 } else { COPY_MODE_WP };
        let mut copied = Copied::default();
        let (mut done, mut most) = (0u64, u64::MAX);
        while done < content.len() as u64 {
            let source = content[done as usize..].as_ptr() as u64;
            let length = most.min(content.len() as u64 - done);
            // struct uffdio_copy { dst, src, len, mode, copy }
            let mut copy = [address + done, source, length, protected, 0];
            // SAFETY: the five words live over the call; the source range is within `content`.
            let result =
                check(i64::from(unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_COPY, copy.as_mut_ptr()) }));
            let moved = (copy[4] as i64).max(0) as u64;
            done += moved;
            copied.done = done;
            copied.placed += moved / minka_image::PAGE;
            let Err(error) = result else {
                most = u64::MAX;
                continue;
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) if moved > 0 => {}
                Some(libc::EAGAIN) => return Ok(copied),
                Some(libc::EEXIST) => {
                    self.wake(address + done, minka_image::PAGE)?;
                    copied.present += 1;
                    done += minka_image::PAGE;
                }
                Some(libc::ENOENT | libc::EINVAL) if length > minka_image::PAGE => {
                    most = (length / 2).next_multiple_of(minka_image::PAGE);
                }
                Some(libc::ENOENT | libc::EINVAL) => {
                    copied.gone += 1;
                    done += minka_image::PAGE;
                }
                _ => return Err(error),
            }
            copied.done = done;
        }
        Ok(copied)
    }

    /// Wakes the threads that wait for pages of `[start, start + length)`.
    pub fn wake(&self, start: u64, length: u64) -> io::Result<()> {
        let mut range = [start, length];
        // SAFETY: `struct uffdio_range` is two words, which live over the call.
        check(i64::from(unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WAKE, range.as_mut_ptr()) }))
            .map(drop)
    }

    /// Whether the address space is being changed at this moment: the layout may be another already, and the event that
    /// tells of it has not been dealt with. Whatever was read of the layout or the memory before an answer of `false` is
    /// what the events told so far say.
    pub fn is_changing(&self) -> bool {
        // Nothing is ever mapped in the first page, so nothing is done; but a change is noticed before that.
        let mut protect = [0, minka_image::PAGE, WRITEPROTECT_MODE_WP];
        // SAFETY: `struct uffdio_writeprotect` is three words, which live over the call.
        let result = check(i64::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WRITEPROTECT, protect.as_mut_ptr())
        }));
        matches!(result, Err(error) if error.raw_os_error() == Some(libc::EAGAIN))
    }

    /// Has all pages of `[start, start + length)` count as written, and who waits to write there go on.
    pub fn unprotect(&self, start: u64, length: u64) -> io::Result<()> {
        let mut protect = [start, length, 0];
        // SAFETY: `struct uffdio_writeprotect` is three words, which live over the call.
        check(i64::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WRITEPROTECT, protect.as_mut_ptr())
        }))
        .map(drop)
    }

    /// Tracks writes to `[start, start + length)` afresh, where that can be done range by range.
    pub fn protect(&self, start: u64, length: u64) -> io::Result<()> {
        if self.tracking == Tracking::BySoftDirty {
            return Ok(());
        }
        let mut protect = [start, length, WRITEPROTECT_MODE_WP];
        // SAFETY: `struct uffdio_writeprotect` is three words, which live over the call.
        check(i64::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WRITEPROTECT, protect.as_mut_ptr())
        }))
        .map(drop)
    }
}

/// Number of `userfaultfd(2)` and its flag for what everybody may do.
pub const USERFAULTFD: i64 = libc::SYS_userfaultfd;
/// `UFFD_USER_MODE_ONLY`.
pub const USER_MODE_ONLY: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::PAGE;

    #[test]
    fn pages_are_put_into_mappings_that_follow_one_another() {
        const PAGES: u64 = 16;
        let length = (PAGES * PAGE) as usize;
        // Writes are tracked by this kernel, or there is nothing to try.
        let Ok(memory) = Userfault::of_this_program(Mode::Track) else { return };
        // SAFETY: new memory without an address, that nobody else has.
        let start = unsafe {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let address = start as u64;
        memory.register(address, length as u64).expect("it is served");
        // One mapping becomes four: 1, 4, 1 and 10 pages.
        for page in [0, 5] {
            let at = (address + page * PAGE) as *mut libc::c_void;
            // SAFETY: within the mapping of this test; its content stays.
            assert_eq!(unsafe { libc::madvise(at, PAGE as usize, libc::MADV_DONTFORK) }, 0);
        }
        let content: Vec<u8> = (0..length).map(|at| (at / PAGE as usize) as u8 + 1).collect();
        let copied = memory.copy(address, &content).expect("it can be copied to");
        assert_eq!((copied.done, copied.placed, copied.gone), (length as u64, PAGES, 0));
        // SAFETY: all of the mapping can be read, and nobody writes to it.
        let found = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
        assert!(found == content);
        // Where nothing is mapped any more the rest is put in place all the same.
        let hole = address + 3 * PAGE;
        std::thread::scope(|scope| {
            // SAFETY: nobody uses this page any more. The call waits until its event has been read.
            let unmapping =
                scope.spawn(move || unsafe { libc::munmap(hole as *mut libc::c_void, PAGE as usize) });
            let mut events = Vec::new();
            while !unmapping.is_finished() {
                memory.read(&mut events).expect("events");
            }
        });
        let again = memory.copy(address, &content).expect("it can be copied to");
        assert_eq!((again.done, again.present, again.gone), (length as u64, PAGES - 1, 1));
        drop(memory);
        // SAFETY: nobody uses it any more.
        unsafe { libc::munmap(start, length) };
    }
}

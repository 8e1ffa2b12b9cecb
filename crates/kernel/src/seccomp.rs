//! Seccomp user notification: the calls of a guest that its filter does not allow arrive here.

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// One call of a guest's thread.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// Names the call until it is answered.
    pub id: u64,
    /// The thread, as the reader's PID namespace counts.
    pub tid: i32,
    /// `AUDIT_ARCH_*` of the entry used.
    pub arch: u32,
    /// Number of the call.
    pub call: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// `AUDIT_ARCH_X86_64`.
pub const ARCH_X86_64: u32 = 0xc000_003e;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Raw {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const _: () = assert!(std::mem::size_of::<Raw>() == 80 && std::mem::size_of::<Response>() == 24);
const _: () = assert!(std::mem::size_of::<AddDescriptor>() == 24);

const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ADD_DESCRIPTOR: u64 = 0x4018_2103;
const SET_FLAGS: u64 = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;
const FLAG_CONTINUE: u32 = 1;

/// Flags of `seccomp(SECCOMP_SET_MODE_FILTER)`: for all threads, or fail with ESRCH; make a listener; and only fatal
/// signals interrupt a call that has been received (Linux 5.19).
pub const FILTER_FLAGS: u64 = 1 << 0 | 1 << 4 | 1 << 3 | 1 << 5;

/// The receiving end of a filter.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

/// What receiving gave.
#[derive(Debug)]
pub enum Received {
    /// A call.
    Call(Notification),
    /// The caller went away before it was read, or somebody else has it; try again.
    Nothing,
    /// No task uses the filter any more.
    Closed,
}

impl Listener {
    /// Wraps the descriptor that `seccomp` returned in the guest; asks for synchronous wake-ups where the
    /// kernel has them (Linux 6.6).
    pub fn new(fd: OwnedFd) -> Self {
        // SAFETY: the flag is passed by value; a kernel without it returns EINVAL, which costs only speed.
        unsafe { libc::ioctl(fd.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        Self { fd }
    }

    /// Waits for a call.
    pub fn receive(&self) -> io::Result<Received> {
        let mut raw = Raw::default();
        // SAFETY: `raw` is a zeroed `struct seccomp_notif` that lives over the call, as the request demands.
        match check(i64::from(unsafe { libc::ioctl(self.fd.as_raw_fd(), RECV, &raw mut raw) })) {
            Ok(_) => Ok(Received::Call(Notification {
                id: raw.id,
                tid: raw.pid as i32,
                arch: raw.arch,
                call: raw.nr as u32 as u64,
                arguments: raw.args,
            })),
            Err(error) => match error.raw_os_error() {
                // After the last task died RECV returns ENOENT at once, for ever; only poll tells the difference.
                Some(libc::ENOENT) if self.hung_up() => Ok(Received::Closed),
                Some(libc::ENOENT | libc::EINTR) => Ok(Received::Nothing),
                _ => Err(error),
            },
        }
    }

    fn hung_up(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) };
        poll.revents & libc::POLLHUP != 0
    }

    /// Answers a call with its result (−errno for a failure; −512 … −516 only while a signal or a stop is
    /// pending for the thread). `Ok(false)`: the caller is gone.
    pub fn answer(&self, id: u64, result: i64) -> io::Result<bool> {
        let (val, error) = if (-4095..0).contains(&result) { (0, result as i32) } else { (result, 0) };
        self.send(Response { id, val, error, flags: 0 })
    }

    /// Lets the call run natively in the guest.
    pub fn pass(&self, id: u64) -> io::Result<bool> {
        self.send(Response { id, val: 0, error: 0, flags: FLAG_CONTINUE })
    }

    /// Gives the caller of a call that waits for its answer a copy of a descriptor, and returns its number there
    /// (Linux 5.9).
    pub fn give(&self, id: u64, descriptor: BorrowedFd<'_>) -> io::Result<i32> {
        let source = descriptor.as_raw_fd().cast_unsigned();
        let request = AddDescriptor { id, flags: 0, source, target: 0, target_flags: libc::O_CLOEXEC as u32 };
        // SAFETY: `request` is a `struct seccomp_notif_addfd` that lives over the call, which only reads it.
        let number = unsafe { libc::ioctl(self.fd.as_raw_fd(), ADD_DESCRIPTOR, &raw const request) };
        check(i64::from(number)).map(|number| number as i32)
    }

    fn send(&self, mut response: Response) -> io::Result<bool> {
        // SAFETY: `response` is a `struct seccomp_notif_resp` that lives over the call.
        match check(i64::from(unsafe { libc::ioctl(self.fd.as_raw_fd(), SEND, &raw mut response) })) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

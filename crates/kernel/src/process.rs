//! Small requests about other processes (limits, comparisons, signals), clocks, and a bell for threads.

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The robust futex list of a task: head address and length of the head.
pub fn robust_list(tid: i32) -> io::Result<(u64, u64)> {
    let (mut head, mut length) = (0u64, 0u64);
    // SAFETY: two words that live over the call.
    check(unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut length) })?;
    Ok((head, length))
}

/// Whether two processes share their address space; an error where the kernel has no `kcmp`.
pub fn share_memory(one: i32, other: i32) -> io::Result<bool> {
    const KCMP_VM: i32 = 1;
    are_the_same(one, other, KCMP_VM)
}

/// Whether two tasks share their table of descriptors.
pub fn share_descriptors(one: i32, other: i32) -> io::Result<bool> {
    const KCMP_FILES: i32 = 2;
    are_the_same(one, other, KCMP_FILES)
}

/// Whether descriptors of two processes, each with its number, are of the same open file description.
pub fn share_description(one: (i32, i32), other: (i32, i32)) -> io::Result<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_FILE, one.1, other.1) })
        .map(|order| order == 0)
}

fn are_the_same(one: i32, other: i32, what: i32) -> io::Result<bool> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one, other, what, 0, 0) }).map(|order| order == 0)
}

/// Queues a signal with its `siginfo_t` for one thread. The kernel refuses codes that only it may use
/// (`si_code >= 0`, `SI_TKILL`) unless the thread is the caller's own: pass those as `SI_QUEUE` and put the
/// original back with [`crate::ptrace::Stopped::set_signal_info`].
pub fn queue_signal(
    pid: i32,
    tid: i32,
    signal: i32,
    info: &[u8; crate::ptrace::SIGINFO_SIZE],
) -> io::Result<()> {
    // SAFETY: `info` is a whole siginfo_t, read during the call only.
    check(unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, info.as_ptr()) }).map(drop)
}

/// The soft and hard limit of another process (`RLIMIT_*`).
pub fn limit(pid: i32, resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives over the call; nothing is set.
    check(i64::from(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit) }))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft limit of another process, no higher than its hard one.
pub fn set_soft_limit(pid: i32, resource: u32, soft: u64) -> io::Result<()> {
    let (_, hard) = limit(pid, resource)?;
    let limit = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
    // SAFETY: `limit` is only read.
    check(i64::from(unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) }))
        .map(drop)
}

/// Monotonic and boot-time clocks of this machine, nanoseconds.
pub fn clocks() -> (i64, i64) {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` lives over the call; both clocks exist on every kernel we run on.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    (read(libc::CLOCK_MONOTONIC), read(libc::CLOCK_BOOTTIME))
}

/// CPU time that all threads of a process have used since it began.
pub fn cpu_time(pid: i32) -> io::Result<Duration> {
    // How the kernel numbers the clocks of processes (`clock_getcpuclockid(3)`): CPUCLOCK_SCHED is 2.
    read_clock((!pid << 3) | 2)
}

/// CPU time that one thread has used since it began.
pub fn thread_cpu_time(tid: i32) -> io::Result<Duration> {
    // As above, with CPUCLOCK_PERTHREAD_MASK, 4.
    read_clock((!tid << 3) | 4 | 2)
}

fn read_clock(clock: i32) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives over the call.
    check(i64::from(unsafe { libc::clock_gettime(clock, &raw mut time) }))?;
    Ok(Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32))
}

/// A descriptor that one thread makes readable for another.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(i64::from(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }))?;
        // SAFETY: just created, owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd as i32) } })
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // SAFETY: writes eight bytes from a live word.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const ONE).cast(), 8) };
    }

    /// Makes it silent again.
    pub fn quiet(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a live word.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

static ONE: u64 = 1;

/// Takes over a descriptor that this program was started with; `None` if there is none of that number.
pub fn inherited(number: i32) -> Option<OwnedFd> {
    // SAFETY: asks only for flags.
    check(i64::from(unsafe { libc::fcntl(number, libc::F_GETFD) })).ok()?;
    // SAFETY: the descriptor is open, and it is this program's contract that nothing else in it uses that number.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Fills `bytes` from the kernel's random number generator.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: at most the slice's length is written; up to 256 bytes the call is never short.
    let got = check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as i64)?;
    if got as usize == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

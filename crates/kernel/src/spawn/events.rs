//! Signals and descriptors as events to wait for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Signals that arrive as events instead of interrupting the program (a signalfd).
///
/// Reliable only in a program with one thread, or if it is made before other threads are: signals are blocked
/// for the thread that makes it and those it starts. They stay blocked when it is dropped.
#[derive(Debug)]
pub struct SignalQueue {
    descriptor: OwnedFd,
    before: SavedMask,
}

impl SignalQueue {
    /// Blocks these signals and queues them from now on.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        if signals.contains(&libc::SIGCHLD) {
            // Programs may be started with it ignored, and then the kernel would take the status of their
            // children.
            // SAFETY: the default disposition has no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        }
        let (set, before) = block(signals)?;
        // SAFETY: `set` outlives the call; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened and nothing else knows of it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor, before })
    }

    /// Lets the program that `command` starts have the signals blocked that were so before this queue was
    /// made. Else it would inherit the ones that are blocked now.
    pub fn unblock_in(&self, command: &mut Command) {
        let before = self.before;
        let restore = move || {
            before.restore();
            Ok(())
        };
        // SAFETY: setting the signal mask is async-signal-safe and allocates nothing.
        unsafe { command.pre_exec(restore) };
    }

    /// Takes the next signal that has arrived, without waiting.
    pub fn next_arrived(&self) -> Option<i32> {
        // SAFETY: all-zero bytes are a valid `signalfd_siginfo`.
        let mut information: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let length = size_of_val(&information);
        // SAFETY: pointer and length are those of `information`.
        let read = unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut information).cast(), length) };
        (read == length.cast_signed()).then_some(information.ssi_signo.cast_signed())
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until at least one of the descriptors can be read, has reached its end or failed, or the time is
/// over (none: for ever). Says which: all false means that the time was over.
pub fn wait_readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let request = |descriptor: &BorrowedFd<'_>| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<_> = descriptors.iter().map(request).collect();
    loop {
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            libc::timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let left_pointer = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = polled.len() as libc::nfds_t;
        // SAFETY: pointer and count are those of `polled`; the time is null or outlives the call; no mask is
        // given.
        let result = unsafe { libc::ppoll(polled.as_mut_ptr(), count, left_pointer, std::ptr::null()) };
        if result >= 0 {
            return Ok(polled.iter().map(|polled| polled.revents != 0).collect());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The signal mask as it was before some were blocked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedMask(libc::sigset_t);

impl SavedMask {
    pub(crate) fn restore(self) {
        // SAFETY: the set was filled in by `pthread_sigmask`. Setting a valid mask cannot fail.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Blocks these signals for this thread, and those that it makes until they are restored.
pub(crate) fn block_signals(signals: &[i32]) -> io::Result<SavedMask> {
    block(signals).map(|(_, before)| before)
}

fn block(signals: &[i32]) -> io::Result<(libc::sigset_t, SavedMask)> {
    let mut set = empty_set();
    for &signal in signals {
        // SAFETY: `set` is initialised and outlives the call.
        if unsafe { libc::sigaddset(&raw mut set, signal) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut before = empty_set();
    // SAFETY: both sets are initialised and outlive the call.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
    if error == 0 { Ok((set, SavedMask(before))) } else { Err(io::Error::from_raw_os_error(error)) }
}

pub(super) fn block_all_signals() -> io::Result<SavedMask> {
    let mut all = empty_set();
    let mut before = empty_set();
    // SAFETY: both sets are initialised and outlive the calls.
    let error = unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before)
    };
    if error == 0 { Ok(SavedMask(before)) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Async-signal-safe.
pub(super) fn unblock_all_signals() {
    let none = empty_set();
    // SAFETY: `none` outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// Async-signal-safe.
pub(super) fn empty_set() -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid `sigset_t`, and `sigemptyset` makes it one portably.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_descriptors_with_something_to_read_are_reported() {
        use std::io::Write;
        let (idle, _idle_writer) = io::pipe().unwrap();
        let (full, mut writer) = io::pipe().unwrap();
        let (ended, _) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let ready = wait_readable(&[idle.as_fd(), full.as_fd(), ended.as_fd()], None).unwrap();
        assert_eq!(ready, [false, true, true]);
    }

    #[test]
    fn time_runs_out() {
        let (idle, _writer) = io::pipe().unwrap();
        let start = Instant::now();
        let ready = wait_readable(&[idle.as_fd()], Some(Duration::from_millis(20))).unwrap();
        assert_eq!(ready, [false]);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn programs_are_started_without_the_queues_signals_blocked() {
        std::thread::spawn(|| {
            let queue = SignalQueue::new(&[libc::SIGTERM]).unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "kill -TERM $$"]);
            queue.unblock_in(&mut command);
            assert_eq!(command.status().unwrap().signal(), Some(libc::SIGTERM));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn queued_signals_do_not_interrupt() {
        // In a thread of its own: the mask stays, and a signal sent to the thread is taken by no other.
        std::thread::spawn(|| {
            let queue = SignalQueue::new(&[libc::SIGUSR1]).unwrap();
            assert_eq!(queue.next_arrived(), None);
            // SAFETY: `pthread_self` is the calling thread, which runs.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
            assert_eq!(wait_readable(&[queue.as_fd()], None).unwrap(), [true]);
            assert_eq!(queue.next_arrived(), Some(libc::SIGUSR1));
            assert_eq!(queue.next_arrived(), None);
        })
        .join()
        .unwrap();
    }
}

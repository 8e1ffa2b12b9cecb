//! Read leases (`fcntl(2)`, `F_SETLEASE`): as long as one is held nobody has the file open for writing, and whoever wants
//! to must wait until it is given up. This process hears of that by SIGIO.

use crate::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Grants a read lease on an open file description, or says why not.
pub fn take(file: &File) -> io::Result<()> {
    let fcntl = |command, argument: i32| {
        // SAFETY: no pointers.
        check(i64::from(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }))
    };
    // Left to itself the kernel would name the thread that takes it, and no signal comes if that is not the main one.
    fcntl(libc::F_SETOWN, std::process::id().cast_signed())?;
    fcntl(libc::F_SETLEASE, libc::F_RDLCK).map(drop)
}

/// Whether a lease is held no longer, or somebody waits for it to be given up.
pub fn is_breaking(file: &File) -> bool {
    // SAFETY: no pointers. While a lease is being broken the kernel tells what it is to become.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) != libc::F_RDLCK }
}

/// Gives a lease up; whoever waits for that goes on.
pub fn give_up(file: &File) {
    // SAFETY: no pointers. It fails only if there is no lease.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "content").expect("a file");
        (directory, path)
    }

    #[test]
    fn a_lease_is_had_only_while_nobody_writes() {
        let (_directory, path) = sample();
        let writer = File::options().write(true).open(&path).expect("a writer");
        let reader = File::open(&path).expect("a reader");
        assert!(take(&reader).is_err() && is_breaking(&reader));
        drop(writer);
        take(&reader).expect("a lease");
        assert!(!is_breaking(&reader));
        give_up(&reader);
        assert!(is_breaking(&reader));
    }

    static TOLD: AtomicBool = AtomicBool::new(false);

    extern "C" fn told(_: i32) {
        TOLD.store(true, Ordering::SeqCst);
    }

    #[test]
    fn this_process_is_told_that_somebody_wants_to_write_whichever_thread_took_the_lease() {
        // SAFETY: the handler does nothing but store to a word.
        unsafe { libc::signal(libc::SIGIO, told as extern "C" fn(i32) as libc::sighandler_t) };
        let (_directory, path) = sample();
        let reader = File::open(&path).expect("a reader");
        std::thread::scope(|scope| scope.spawn(|| take(&reader)).join().expect("no panic")).expect("a lease");
        let write = || File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(write().expect_err("a lease").kind(), io::ErrorKind::WouldBlock);
        let until = Instant::now() + Duration::from_secs(5);
        while !TOLD.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "nobody was told");
            std::thread::yield_now();
        }
        assert!(is_breaking(&reader));
        give_up(&reader);
        write().expect("nobody waits for anything any more");
    }
}

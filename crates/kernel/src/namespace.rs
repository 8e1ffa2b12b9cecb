//! Namespaces: which there are, how to enter those of a running process, and what to do first inside new
//! ones.
//!
//! New ones are made together with the process that is to live in them: see [`crate::spawn::Launch`]. To
//! enter those of another process is for programs with a single thread: the kernel refuses a user namespace
//! to any other, and a mount namespace to threads that share their working directory.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

bitflags::bitflags! {
    /// A set of kinds of namespaces (`CLONE_NEW…`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Namespaces: u32 {
        /// User and group numbers, and with them privileges.
        const USER = libc::CLONE_NEWUSER as u32;
        /// Process numbers. Holds for children: a process never changes its own.
        const PID = libc::CLONE_NEWPID as u32;
        /// Network interfaces, addresses, routes, ports and abstract sockets.
        const NETWORK = libc::CLONE_NEWNET as u32;
        /// What is mounted where.
        const MOUNT = libc::CLONE_NEWNS as u32;
        /// The host's name.
        const HOST_NAME = libc::CLONE_NEWUTS as u32;
        /// System V IPC and POSIX message queues.
        const IPC = libc::CLONE_NEWIPC as u32;
    }
}

/// Enters all the given namespaces of a process at once: either all are entered or none. Needs Linux 5.8.
///
/// The user namespace must not be among them if it is the caller's own already (`EINVAL`).
pub fn enter(process: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: `setns` takes no pointers.
    check(unsafe { libc::setns(process.as_raw_fd(), namespaces.bits().cast_signed()) })
}

/// A new network namespace, in which nothing is up and nobody is. The calling thread stays where it is, but if it cannot
/// go back (which does not happen to one that could leave) it fails and is nowhere.
pub fn empty_network() -> io::Result<OwnedFd> {
    let own = File::open(OWN_NETWORK)?;
    // SAFETY: `unshare` takes no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let made = File::open(OWN_NETWORK);
    enter_network(own.as_fd())?;
    Ok(made?.into())
}

/// Takes the calling thread into a network namespace.
pub fn enter_network(network: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `setns` takes no pointers.
    check(unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// The network namespace of whichever thread opens it.
const OWN_NETWORK: &str = "/proc/thread-self/ns/net";

/// Makes sure that nothing mounted from now on in this mount namespace is seen outside.
///
/// What the outside mounts and unmounts is still seen here (`MS_SLAVE`, not `MS_PRIVATE`): a namespace that
/// held on to its copies of the mounts of a removable disk would keep it from being removed.
pub fn keep_mounts_inside() -> io::Result<()> {
    mount(None, c"/", None, libc::MS_REC | libc::MS_SLAVE)
}

/// Mounts the process file system for the calling process's own PID namespace at `/proc`, over what is there.
pub fn mount_proc() -> io::Result<()> {
    mount(Some(c"proc"), c"/proc", Some(c"proc"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

/// Shows the file `source` in the place of the existing file `target` too.
pub fn bind_file(source: &Path, target: &Path) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    mount(Some(&text(source)?), &text(target)?, None, libc::MS_BIND)
}

/// Gives the host its name, as the calling process's UTS namespace sees it.
pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of `name`; no final zero is needed.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
}

/// The effective user of the calling process, as its user namespace counts.
pub fn effective_user() -> u32 {
    // SAFETY: `geteuid` only returns a number.
    unsafe { libc::geteuid() }
}

fn mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null where `mount` allows it or a text that ends in a zero and outlives the
    // call.
    check(unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, std::ptr::null()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_network_is_another_one_and_one_stays_in_ones_own() {
        let own = || std::fs::read_link(OWN_NETWORK).unwrap();
        let before = own();
        // Without the right to make one there is nothing to see.
        let Ok(empty) = empty_network() else { return };
        assert_eq!(own(), before);
        std::thread::spawn(move || {
            enter_network(empty.as_fd()).unwrap();
            assert_ne!(own(), before);
            let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            // Two lines of headings, and the loopback interface, which is down.
            assert_eq!(interfaces.lines().count(), 3, "{interfaces}");
        })
        .join()
        .unwrap();
    }
}

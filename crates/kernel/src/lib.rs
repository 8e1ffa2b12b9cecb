//! Everything that talks to the kernel with unsafe code: ptrace, userfaultfd, seccomp, namespaces.
//!
//! The only crate of the workspace where `unsafe` is allowed; what it offers is safe. Its neighbours below are
//! plain data (`minka-image`).
//!
//! | module | what |
//! |---|---|
//! | [`ptrace`] | tasks as a typestate: running, stopped |
//! | [`inject`], [`site`] | one system call made by a stopped task; the place where that is safe |
//! | [`workbench`] | batches of system calls made by a guest that is being built |
//! | [`ring`] | system calls made by the original process while its guest is away |
//! | [`shell`] | the namespaces and the empty process in which a guest is built |
//! | [`rseq`], [`vdso`] | ending a restartable sequence, and a function of the vDSO |
//! | [`seccomp`] | a guest's calls as notifications |
//! | [`uffd`], [`pagemap`], [`memory`], [`shared`] | memory: faults, written pages, reading and writing, sharing |
//! | [`holders`], [`door`] | who has a file that has no name, as the kernel counts; a door before files, at which who opens them waits |
//! | [`drm`], [`perf`] | what graphics drivers tell of their devices, and counters of events |
//! | [`sysman`], [`compute`] | vendors' libraries, for a process that has nothing to lose |
//! | [`faultpoint`] | where a test can have a program fail |
//! | [`process`], [`procfs`], [`futex`], [`cpu`] | small requests |
//! | [`courtesy`] | threads that give way to others |
//! | [`namespace`], [`netlink`], [`spawn`] | what a lab is made of |
//! | [`mountpoint`] | directories that are there as long as somebody mounts on them |

#![allow(unsafe_code)]

pub mod compute;
pub mod courtesy;
pub mod cpu;
pub mod crew;
pub mod door;
pub mod drm;
pub mod faultpoint;
pub mod futex;
pub mod holders;
pub mod inject;
pub mod lease;
mod library;
pub mod memory;
pub mod mountpoint;
pub mod namespace;
pub mod netlink;
pub mod pagemap;
pub mod perf;
pub mod process;
pub mod procfs;
pub mod ptrace;
pub mod ring;
pub mod rseq;
pub mod seccomp;
pub mod shared;
pub mod shell;
pub mod site;
pub mod spawn;
pub mod sysman;
pub mod uffd;
pub mod vdso;
pub mod workbench;

/// The result of a C library call as a `Result`.
pub(crate) fn check(result: i64) -> std::io::Result<i64> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

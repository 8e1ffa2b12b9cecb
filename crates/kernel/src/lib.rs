//! Everything that talks to the kernel with unsafe code: ptrace, userfaultfd, seccomp, namespaces.

pub mod namespace;
pub mod netlink;
pub mod spawn;

//! Everything that talks to the kernel with unsafe code: ptrace, userfaultfd, seccomp, namespaces.

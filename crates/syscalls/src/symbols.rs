//! Names of the numbers that programs pass, for people.

#![allow(non_upper_case_globals)]

/// Names for the values of one kind of argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Symbols {
    /// Bits that hold one of several values rather than flags.
    pub field: u32,
    /// Names of the values of the field. Without a field, the name of zero.
    pub values: &'static [(u32, &'static str)],
    /// Names of the flags outside the field; those of several bits come before those of their parts.
    pub flags: &'static [(u32, &'static str)],
    /// How what has no name is shown.
    pub rest: Rest,
}

/// How a number without a name is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// As a signed decimal number.
    Decimal,
    /// In hexadecimal.
    Hexadecimal,
    /// In octal, as file modes are.
    Octal,
}

macro_rules! symbols {
    ($($name:ident: $rest:ident, field $field:literal [$($value:literal $value_name:ident)*]
       flags [$($flag:literal $flag_name:ident)*];)*) => {
        $( pub(crate) static $name: Symbols = Symbols {
            field: $field,
            values: &[$(($value, stringify!($value_name))),*],
            flags: &[$(($flag, stringify!($flag_name))),*],
            rest: Rest::$rest,
        }; )*
    };
}

symbols! {
    open_flags: Hexadecimal, field 3 [0 O_RDONLY 1 O_WRONLY 2 O_RDWR 3 O_ACCMODE]
        flags [0o20200000 O_TMPFILE 0o4010000 O_SYNC 0o100 O_CREAT 0o200 O_EXCL 0o400 O_NOCTTY 0o1000 O_TRUNC
               0o2000 O_APPEND 0o4000 O_NONBLOCK 0o10000 O_DSYNC 0o20000 O_ASYNC 0o40000 O_DIRECT
               0o100000 O_LARGEFILE 0o200000 O_DIRECTORY 0o400000 O_NOFOLLOW 0o1000000 O_NOATIME
               0o2000000 O_CLOEXEC 0o10000000 O_PATH];
    mode: Octal, field 0 [] flags [];
    access_mode: Hexadecimal, field 0 [0 F_OK] flags [4 R_OK 2 W_OK 1 X_OK];
    whence: Decimal, field 0xffffffff [0 SEEK_SET 1 SEEK_CUR 2 SEEK_END 3 SEEK_DATA 4 SEEK_HOLE] flags [];
    protection: Hexadecimal, field 0 [0 PROT_NONE]
        flags [1 PROT_READ 2 PROT_WRITE 4 PROT_EXEC 0x01000000 PROT_GROWSDOWN 0x02000000 PROT_GROWSUP];
    map_flags: Hexadecimal, field 0xf [1 MAP_SHARED 2 MAP_PRIVATE 3 MAP_SHARED_VALIDATE 8 MAP_DROPPABLE]
        flags [0x10 MAP_FIXED 0x20 MAP_ANONYMOUS 0x40 MAP_32BIT 0x100 MAP_GROWSDOWN 0x800 MAP_DENYWRITE
               0x1000 MAP_EXECUTABLE 0x2000 MAP_LOCKED 0x4000 MAP_NORESERVE 0x8000 MAP_POPULATE
               0x10000 MAP_NONBLOCK 0x20000 MAP_STACK 0x40000 MAP_HUGETLB 0x80000 MAP_SYNC
               0x100000 MAP_FIXED_NOREPLACE];
    advice: Decimal, field 0xffffffff
        [0 MADV_NORMAL 1 MADV_RANDOM 2 MADV_SEQUENTIAL 3 MADV_WILLNEED 4 MADV_DONTNEED 8 MADV_FREE 9 MADV_REMOVE
         10 MADV_DONTFORK 11 MADV_DOFORK 12 MADV_MERGEABLE 13 MADV_UNMERGEABLE 14 MADV_HUGEPAGE 15 MADV_NOHUGEPAGE
         16 MADV_DONTDUMP 17 MADV_DODUMP 18 MADV_WIPEONFORK 19 MADV_KEEPONFORK 20 MADV_COLD 21 MADV_PAGEOUT
         22 MADV_POPULATE_READ 23 MADV_POPULATE_WRITE 25 MADV_COLLAPSE 102 MADV_GUARD_INSTALL
         103 MADV_GUARD_REMOVE] flags [];
    how: Decimal, field 0xffffffff [0 SIG_BLOCK 1 SIG_UNBLOCK 2 SIG_SETMASK] flags [];
    signal: Decimal, field 0xffffffff
        [1 SIGHUP 2 SIGINT 3 SIGQUIT 4 SIGILL 5 SIGTRAP 6 SIGABRT 7 SIGBUS 8 SIGFPE 9 SIGKILL 10 SIGUSR1 11 SIGSEGV
         12 SIGUSR2 13 SIGPIPE 14 SIGALRM 15 SIGTERM 16 SIGSTKFLT 17 SIGCHLD 18 SIGCONT 19 SIGSTOP 20 SIGTSTP
         21 SIGTTIN 22 SIGTTOU 23 SIGURG 24 SIGXCPU 25 SIGXFSZ 26 SIGVTALRM 27 SIGPROF 28 SIGWINCH 29 SIGIO
         30 SIGPWR 31 SIGSYS 32 SIGRT_0 33 SIGRT_1 34 SIGRT_2] flags [];
    clock: Decimal, field 0xffffffff
        [0 CLOCK_REALTIME 1 CLOCK_MONOTONIC 2 CLOCK_PROCESS_CPUTIME_ID 3 CLOCK_THREAD_CPUTIME_ID
         4 CLOCK_MONOTONIC_RAW 5 CLOCK_REALTIME_COARSE 6 CLOCK_MONOTONIC_COARSE 7 CLOCK_BOOTTIME
         8 CLOCK_REALTIME_ALARM 9 CLOCK_BOOTTIME_ALARM 11 CLOCK_TAI] flags [];
    domain: Decimal, field 0xffffffff
        [0 AF_UNSPEC 1 AF_UNIX 2 AF_INET 10 AF_INET6 16 AF_NETLINK 17 AF_PACKET 38 AF_ALG 40 AF_VSOCK 44 AF_XDP] flags [];
    socket_type: Decimal, field 0xf
        [1 SOCK_STREAM 2 SOCK_DGRAM 3 SOCK_RAW 4 SOCK_RDM 5 SOCK_SEQPACKET] flags [0o4000 SOCK_NONBLOCK 0o2000000 SOCK_CLOEXEC];
    socket_flags: Hexadecimal, field 0 [] flags [0o4000 SOCK_NONBLOCK 0o2000000 SOCK_CLOEXEC];
    socket_level: Decimal, field 0xffffffff
        [0 SOL_IP 1 SOL_SOCKET 6 SOL_TCP 17 SOL_UDP 41 SOL_IPV6 255 SOL_RAW 263 SOL_PACKET 270 SOL_NETLINK
         279 SOL_ALG 282 SOL_TLS] flags [];
    message_flags: Hexadecimal, field 0 []
        flags [1 MSG_OOB 2 MSG_PEEK 4 MSG_DONTROUTE 8 MSG_CTRUNC 0x20 MSG_TRUNC 0x40 MSG_DONTWAIT 0x80 MSG_EOR
               0x100 MSG_WAITALL 0x800 MSG_CONFIRM 0x2000 MSG_ERRQUEUE 0x4000 MSG_NOSIGNAL 0x8000 MSG_MORE
               0x10000 MSG_WAITFORONE 0x2000000 MSG_SOCK_DEVMEM 0x4000000 MSG_ZEROCOPY 0x20000000 MSG_FASTOPEN
               0x40000000 MSG_CMSG_CLOEXEC];
    at_flags: Hexadecimal, field 0 []
        flags [0x100 AT_SYMLINK_NOFOLLOW 0x200 AT_REMOVEDIR 0x400 AT_SYMLINK_FOLLOW 0x800 AT_NO_AUTOMOUNT
               0x1000 AT_EMPTY_PATH 0x2000 AT_STATX_FORCE_SYNC 0x4000 AT_STATX_DONT_SYNC 0x8000 AT_RECURSIVE];
    wait_options: Hexadecimal, field 0 []
        flags [1 WNOHANG 2 WUNTRACED 4 WEXITED 8 WCONTINUED 0x1000000 WNOWAIT 0x20000000 __WNOTHREAD 0x40000000 __WALL
               0x80000000 __WCLONE];
    poll_events: Hexadecimal, field 0 []
        flags [1 POLLIN 2 POLLPRI 4 POLLOUT 8 POLLERR 0x10 POLLHUP 0x20 POLLNVAL 0x40 POLLRDNORM 0x80 POLLRDBAND
               0x100 POLLWRNORM 0x200 POLLWRBAND 0x400 POLLMSG 0x2000 POLLRDHUP];
    epoll_events: Hexadecimal, field 0 []
        flags [1 EPOLLIN 2 EPOLLPRI 4 EPOLLOUT 8 EPOLLERR 0x10 EPOLLHUP 0x40 EPOLLRDNORM 0x80 EPOLLRDBAND
               0x100 EPOLLWRNORM 0x200 EPOLLWRBAND 0x400 EPOLLMSG 0x2000 EPOLLRDHUP 0x10000000 EPOLLEXCLUSIVE
               0x20000000 EPOLLWAKEUP 0x40000000 EPOLLONESHOT 0x80000000 EPOLLET];
    epoll_operation: Decimal, field 0xffffffff [1 EPOLL_CTL_ADD 2 EPOLL_CTL_DEL 3 EPOLL_CTL_MOD] flags [];
    futex_operation: Hexadecimal, field 0x7f
        [0 FUTEX_WAIT 1 FUTEX_WAKE 3 FUTEX_REQUEUE 4 FUTEX_CMP_REQUEUE 5 FUTEX_WAKE_OP 6 FUTEX_LOCK_PI
         7 FUTEX_UNLOCK_PI 8 FUTEX_TRYLOCK_PI 9 FUTEX_WAIT_BITSET 10 FUTEX_WAKE_BITSET 11 FUTEX_WAIT_REQUEUE_PI
         12 FUTEX_CMP_REQUEUE_PI 13 FUTEX_LOCK_PI2] flags [0x80 FUTEX_PRIVATE_FLAG 0x100 FUTEX_CLOCK_REALTIME];
}

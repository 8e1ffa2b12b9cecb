//! The table: one line per call, ascending. [`notation`](crate::notation) explains how to read it.
//!
//! To add a call: write its line, run the tests (the kernel of the machine checks arity and pointers when tracefs
//! can be read), and give it a loopback test. Where the kernel keeps an address after the call has returned, or
//! follows addresses inside a structure that the notation cannot express, the place is `homeward`.

use crate::notation::syscalls;

syscalls! {
    /// Every known call by number.
    pub static CALLS of itself;

      0 read (fd: Fd, buf: out[u8; ret <= count], count: usize) = home blocks short;
      1 write (fd: Fd, buf: in[u8; count], count: usize) = home blocks short;
      2 open (path: Str, flags: open_flags, mode: mode) -> Fd = home blocks;
      3 close (fd: Fd) = home blocks;
      4 stat (path: Str, stat: out[stat]) = home;
      5 fstat (fd: Fd, stat: out[stat]) = home;
      6 lstat (path: Str, stat: out[stat]) = home;
      7 poll (fds: inout[pollfd; nfds] on always, nfds: u32, timeout: i32) = home blocks;
      8 lseek (fd: Fd, offset: i64, whence: whence) = home;
      9 mmap (addr: hex, len: usize, prot: protection, flags: map_flags, fd: Fd, offset: hex)
            = [flags & 0x4202f == 0x22 => here] own "private anonymous memory that is neither locked nor huge: here";
     10 mprotect (addr: hex, len: usize, prot: protection) = here;
     11 munmap (addr: hex, len: usize) = here;
     12 brk (addr: hex) = here;
     13 rt_sigaction (signal: signal, act: in[sigaction], old: out[sigaction], size: usize) = both;
     14 rt_sigprocmask (how: how, set: sigset[size], old: out[sigset], size: usize) = both;
     15 rt_sigreturn () = own "the mask that it restores must be known at home";
     16 ioctl (fd: Fd, command: hex32, argument: hex)
            = [command by IOCTL] [command & 0xc000ff00 by IOCTL_INPUT] [command & 0xc000fff0 by IOCTL_SIZED] homeward
              "forwarded for the listed commands; others may hide addresses";
     17 pread64 (fd: Fd, buf: out[u8; ret <= count], count: usize, offset: position) = home blocks short;
     18 pwrite64 (fd: Fd, buf: in[u8; count], count: usize, offset: position) = home blocks short;
     19 readv (fd: Fd, vector: vector_out[count], count: usize) = home blocks short;
     20 writev (fd: Fd, vector: vector_in[count], count: usize) = home blocks short;
     21 access (path: Str, mode: access_mode) = home;
     22 pipe (fds: out[i32; 2]) = home;
     23 select (n: i32, read: bits[n], write: bits[n], except: bits[n], timeout: inout[timeval] on always) = home blocks;
     24 sched_yield () = here;
     25 mremap (addr: hex, old_len: usize, new_len: usize, flags: hex, new_addr: hex) = own
            "of several threads, one at a time";
     26 msync (addr: hex, len: usize, flags: i32) = own "shared file mappings are written back into the home's mapping";
     27 mincore (addr: hex, len: usize, residency: Address) = here;
     28 madvise (addr: hex, len: usize, advice: advice)
            = [advice in (4, 8, 24) => own] [advice in (9, 10, 11, 18, 19, 100, 101) => homeward] here
              "what is discarded of a file mapping must be read afresh at home; marks for fork are kept at home";
     29 shmget (key: i32, size: usize, flags: i32) = home;
     30 shmat (id: i32, addr: Address, flags: i32) = own;
     31 shmctl (id: i32, command: i32, buf: Address) = [command by SHMCTL] homeward;
     32 dup (fd: Fd) -> Fd = home;
     33 dup2 (old: Fd, new: Fd) -> Fd = home;
     34 pause () = home blocks;
     35 nanosleep (request: in[timespec], remaining: out[timespec] on interrupted) = home blocks;
     36 getitimer (which: i32, value: out[itimerval]) = [which == 0 => home] own "CPU-time timers run with the CPU";
     37 alarm (seconds: u32) = home;
     38 setitimer (which: i32, value: in[itimerval], old: out[itimerval])
            = [which == 0 => home] own "CPU-time timers run with the CPU";
     39 getpid () = here;
     40 sendfile (out: Fd, source: Fd, offset: inout[i64], count: usize) = home blocks;
     41 socket (domain: domain, kind: socket_type, protocol: i32) -> Fd = home;
     42 connect (fd: Fd, address: in[u8; len, most 128], len: i32) = home blocks;
     43 accept (fd: Fd, address: out[u8; *len, most 128], len: inout[u32]) -> Fd = home blocks;
     44 sendto (fd: Fd, buf: in[u8; len], len: usize, flags: message_flags, address: in[u8; address_len, most 128],
            address_len: i32)
            = [flags & 0x4000000 == 0x4000000 => homeward] home blocks short "MSG_ZEROCOPY keeps the address";
     45 recvfrom (fd: Fd, buf: out[u8; ret <= len], len: usize, flags: message_flags,
            address: out[u8; *address_len, most 128], address_len: inout[u32])
            = [flags & 0x20 by RECVFROM_TRUNCATED] home blocks short;
     46 sendmsg (fd: Fd, message: message_in, flags: message_flags)
            = [flags & 0x4000000 == 0x4000000 => homeward] home blocks short "MSG_ZEROCOPY keeps the address";
     47 recvmsg (fd: Fd, message: message_out, flags: message_flags)
            = [flags & 0x2000000 == 0x2000000 => homeward] [flags & 0x20 by RECVMSG_TRUNCATED] home blocks short;
     48 shutdown (fd: Fd, how: i32) = home;
     49 bind (fd: Fd, address: in[u8; len, most 128], len: i32) = home;
     50 listen (fd: Fd, backlog: i32) = home;
     51 getsockname (fd: Fd, address: out[u8; *len, most 128], len: inout[u32]) = home;
     52 getpeername (fd: Fd, address: out[u8; *len, most 128], len: inout[u32]) = home;
     53 socketpair (domain: domain, kind: socket_type, protocol: i32, fds: out[i32; 2]) = home;
     54 setsockopt (fd: Fd, level: socket_level, option: i32, value: in[u8; len], len: i32)
            = [level == 1, option in (26, 51) => homeward] [level in (1, 6, 17, 255, 270, 279, 282) => home]
              [level in (0, 41), option & 0xffffffc0 == 0 => home] homeward
              "options that carry addresses (filters, tables, registered memory) go home";
     55 getsockopt (fd: Fd, level: socket_level, option: i32, value: inout[u8; *len], len: inout[u32] on always)
            = [level == 1, option == 26 => homeward] [level == 6, option == 35 => homeward]
              [level in (1, 6, 17, 255, 270, 282) => home] [level in (0, 41), option & 0xffffffc0 == 0 => home] homeward
              "options that carry addresses or map memory go home";
     56 clone (flags: hex, stack: hex, parent_tid: Address, child_tid: Address, tls: hex) = own;
     57 fork () = own;
     58 vfork () = own;
     59 execve (path: Str, argv: Strings, envp: Strings) = own;
     60 exit (status: i32) = own;
     61 wait4 (pid: i32, status: out[i32] on positive, options: wait_options, usage: out[rusage] on positive) = home blocks;
     62 kill (pid: i32, signal: signal) = home;
     63 uname (name: out[utsname]) = cached;
     64 semget (key: i32, count: i32, flags: i32) = home;
     65 semop (id: i32, operations: in[sembuf; count], count: u32) = home blocks;
     66 semctl (id: i32, index: i32, command: i32, argument: hex) = [command by SEMCTL] homeward;
     67 shmdt (addr: Address) = own;
     68 msgget (key: i32, flags: i32) = home;
     69 msgsnd (id: i32, message: in[u8; 8 + size], size: usize, flags: i32) = home blocks;
     70 msgrcv (id: i32, message: out[u8; 8 + ret <= size], size: usize, kind: i64, flags: i32) = home blocks;
     71 msgctl (id: i32, command: i32, buf: Address) = [command by MSGCTL] homeward;
     72 fcntl (fd: Fd, command: u32, argument: hex) = [command by FCNTL] homeward;
     73 flock (fd: Fd, operation: i32) = home blocks;
     74 fsync (fd: Fd) = home blocks;
     75 fdatasync (fd: Fd) = home blocks;
     76 truncate (path: Str, len: i64) = home;
     77 ftruncate (fd: Fd, len: i64) = home;
     78 getdents (fd: Fd, entries: out[u8; ret <= count], count: u32) = home short;
     79 getcwd (buf: out[u8; ret <= size, most 4096], size: usize) = home;
     80 chdir (path: Str) = home;
     81 fchdir (fd: Fd) = home;
     82 rename (old: Str, new: Str) = home;
     83 mkdir (path: Str, mode: mode) = home;
     84 rmdir (path: Str) = home;
     85 creat (path: Str, mode: mode) -> Fd = home;
     86 link (old: Str, new: Str) = home;
     87 unlink (path: Str) = home;
     88 symlink (target: Str, link: Str) = home;
     89 readlink (path: Str, buf: out[u8; ret <= size, most 65536], size: i32) = home;
     90 chmod (path: Str, mode: mode) = home;
     91 fchmod (fd: Fd, mode: mode) = home;
     92 chown (path: Str, user: u32, group: u32) = home;
     93 fchown (fd: Fd, user: u32, group: u32) = home;
     94 lchown (path: Str, user: u32, group: u32) = home;
     95 umask (mask: mode) = home;
     96 gettimeofday (time: Address, zone: Address) = here;
     97 getrlimit (resource: u32, limit: out[rlimit]) = home;
     98 getrusage (who: i32, usage: out[rusage]) = own "the times of both sides are added";
     99 sysinfo (info: out[sysinfo]) = home;
    100 times (times: out[tms]) = own "the times of both sides are added";
    101 ptrace (request: i64, pid: i64, addr: hex, data: hex) = own;
    102 getuid () = cached;
    103 syslog (kind: i32, buf: inout[u8; len], len: i32) = home;
    104 getgid () = cached;
    105 setuid (user: u32) = home;
    106 setgid (group: u32) = home;
    107 geteuid () = cached;
    108 getegid () = cached;
    109 setpgid (pid: i32, group: i32) = home;
    110 getppid () = home;
    111 getpgrp () = home;
    112 setsid () = home;
    113 setreuid (real: u32, effective: u32) = home;
    114 setregid (real: u32, effective: u32) = home;
    115 getgroups (size: i32, groups: out[u32; ret <= size, most 262144]) = cached;
    116 setgroups (size: i32, groups: in[u32; size, most 262144]) = home;
    117 setresuid (real: u32, effective: u32, saved: u32) = home;
    118 getresuid (real: out[u32], effective: out[u32], saved: out[u32]) = cached;
    119 setresgid (real: u32, effective: u32, saved: u32) = home;
    120 getresgid (real: out[u32], effective: out[u32], saved: out[u32]) = cached;
    121 getpgid (pid: i32) = home;
    122 setfsuid (user: u32) = home;
    123 setfsgid (group: u32) = home;
    124 getsid (pid: i32) = home;
    125 capget (header: inout[capability_header] on always, data: inout[capability_data]) = home;
    126 capset (header: inout[capability_header] on always, data: in[capability_data]) = home;
    127 rt_sigpending (set: out[u8; size, most 8], size: usize) = home;
    128 rt_sigtimedwait (set: sigset[size], info: out[siginfo], timeout: in[timespec], size: usize) = home blocks;
    129 rt_sigqueueinfo (pid: i32, signal: signal, info: in[siginfo]) = home;
    130 rt_sigsuspend (sigmask: sigset[size], size: usize) = home blocks;
    131 sigaltstack (new: Address, old: Address) = own "both sides keep it";
    132 utime (path: Str, times: in[utimbuf]) = home;
    133 mknod (path: Str, mode: mode, device: u32) = home;
    134 uselib () = home absent;
    135 personality (persona: u32) = [persona == 0xffffffff => home] homeward "it changes how memory is mapped";
    136 ustat (device: u32, buf: out[ustat]) = home;
    137 statfs (path: Str, buf: out[statfs]) = home;
    138 fstatfs (fd: Fd, buf: out[statfs]) = home;
    139 sysfs (option: i32, first: hex, second: hex) = homeward;
    140 getpriority (which: i32, who: i32) = home;
    141 setpriority (which: i32, who: i32, nice: i32) = home;
    142 sched_setparam (pid: i32, param: in[sched_param]) = home;
    143 sched_getparam (pid: i32, param: out[sched_param]) = home;
    144 sched_setscheduler (pid: i32, policy: i32, param: in[sched_param]) = home;
    145 sched_getscheduler (pid: i32) = home;
    146 sched_get_priority_max (policy: i32) = home;
    147 sched_get_priority_min (policy: i32) = home;
    148 sched_rr_get_interval (pid: i32, interval: out[timespec]) = home;
    149 mlock (addr: hex, len: usize) = own;
    150 munlock (addr: hex, len: usize) = own;
    151 mlockall (flags: i32) = own;
    152 munlockall () = own;
    153 vhangup () = home;
    154 modify_ldt (function: i32, data: Address, size: usize) = homeward "segments belong to the processor state";
    155 pivot_root (new: Str, put_old: Str) = home;
    156 _sysctl () = home absent;
    157 prctl (option: i32, second: hex, third: hex, fourth: hex, fifth: hex) = [option by PRCTL] homeward;
    158 arch_prctl (option: i32, argument: hex) = [option in (0x1001, 0x1002, 0x1003, 0x1004) => here] homeward
            "the segment bases: here; CPUID faulting, tile data and shadow stacks: at home";
    159 adjtimex (state: inout[timex]) = home;
    160 setrlimit (resource: u32, limit: in[rlimit]) = home;
    161 chroot (path: Str) = home;
    162 sync () = home blocks;
    163 acct (path: Str) = home;
    164 settimeofday (time: in[timeval], zone: in[timezone]) = homeward;
    165 mount (source: Str, target: Str, kind: Str, flags: hex, data: Address) = homeward;
    166 umount2 (target: Str, flags: i32) = home blocks;
    167 swapon (path: Str, flags: i32) = home;
    168 swapoff (path: Str) = home blocks;
    169 reboot (magic: i32, magic2: i32, command: u32, argument: Address) = homeward;
    170 sethostname (name: in[u8; len, most 4096], len: i32) = home;
    171 setdomainname (name: in[u8; len, most 4096], len: i32) = home;
    172 iopl (level: u32) = homeward;
    173 ioperm (from: usize, count: usize, on: i32) = homeward;
    174 create_module () = home absent;
    175 init_module (image: Address, len: usize, parameters: Address) = homeward;
    176 delete_module (name: Str, flags: u32) = home;
    177 get_kernel_syms () = home absent;
    178 query_module () = home absent;
    179 quotactl (command: u32, device: Str, id: u32, addr: Address) = homeward;
    180 nfsservctl () = home absent;
    181 getpmsg () = home absent;
    182 putpmsg () = home absent;
    183 afs_syscall () = home absent;
    184 tuxcall () = home absent;
    185 security () = home absent;
    186 gettid () = here;
    187 readahead (fd: Fd, offset: i64, count: usize) = home;
    188 setxattr (path: Str, name: Str, value: in[u8; size, most 65537], size: usize, flags: i32) = home;
    189 lsetxattr (path: Str, name: Str, value: in[u8; size, most 65537], size: usize, flags: i32) = home;
    190 fsetxattr (fd: Fd, name: Str, value: in[u8; size, most 65537], size: usize, flags: i32) = home;
    191 getxattr (path: Str, name: Str, value: out[u8; ret <= size, most 65536], size: usize) = home;
    192 lgetxattr (path: Str, name: Str, value: out[u8; ret <= size, most 65536], size: usize) = home;
    193 fgetxattr (fd: Fd, name: Str, value: out[u8; ret <= size, most 65536], size: usize) = home;
    194 listxattr (path: Str, list: out[u8; ret <= size, most 65536], size: usize) = home;
    195 llistxattr (path: Str, list: out[u8; ret <= size, most 65536], size: usize) = home;
    196 flistxattr (fd: Fd, list: out[u8; ret <= size, most 65536], size: usize) = home;
    197 removexattr (path: Str, name: Str) = home;
    198 lremovexattr (path: Str, name: Str) = home;
    199 fremovexattr (fd: Fd, name: Str) = home;
    200 tkill (tid: i32, signal: signal) = home;
    201 time (time: Address) = here;
    202 futex (word: Address, operation: futex_operation, value: u32, timeout: Address, second: Address, third: u32) = here;
    203 sched_setaffinity (pid: i32, len: u32, mask: in[u8; len, most 1024]) = home;
    204 sched_getaffinity (pid: i32, len: u32, mask: out[u8; ret <= len, most 8192]) = home;
    205 set_thread_area () = home absent;
    206 io_setup (events: u32, context: Address) = homeward "the ring is mapped, and requests keep addresses";
    207 io_destroy (context: hex) = homeward;
    208 io_getevents (context: hex, least: i64, most: i64, events: Address, timeout: Address) = homeward;
    209 io_submit (context: hex, count: i64, requests: Address) = homeward;
    210 io_cancel (context: hex, request: Address, result: Address) = homeward;
    211 get_thread_area () = home absent;
    212 lookup_dcookie (cookie: u64, buf: out[u8; ret <= len, most 4096], len: usize) = home;
    213 epoll_create (size: i32) -> Fd = home;
    214 epoll_ctl_old () = home absent;
    215 epoll_wait_old () = home absent;
    216 remap_file_pages (start: hex, size: usize, prot: hex, offset: usize, flags: hex) = own;
    217 getdents64 (fd: Fd, entries: out[u8; ret <= count], count: u32) = home short;
    218 set_tid_address (tid: Address) = own "kept for the way home";
    219 restart_syscall () = own blocks "it belongs to the side whose call was interrupted";
    220 semtimedop (id: i32, operations: in[sembuf; count], count: u32, timeout: in[timespec]) = home blocks;
    221 fadvise64 (fd: Fd, offset: i64, len: i64, advice: i32) = home;
    222 timer_create (clock: clock, event: in[sigevent], timer: out[i32])
            = [clock in (0, 1, 7, 8, 9, 11) => home] own "CPU-time timers run with the CPU";
    223 timer_settime (timer: i32, flags: i32, value: in[itimerspec], old: out[itimerspec]) = home;
    224 timer_gettime (timer: i32, value: out[itimerspec]) = home;
    225 timer_getoverrun (timer: i32) = home;
    226 timer_delete (timer: i32) = home;
    227 clock_settime (clock: clock, time: in[timespec]) = homeward;
    228 clock_gettime (clock: clock, time: out[timespec])
            = [clock in (0, 1, 4, 5, 6, 7, 11) => here] [clock in (2, 3) => own] [clock & 0x80000000 == 0x80000000 => own]
              home "CPU clocks: the times of both sides are added";
    229 clock_getres (clock: clock, resolution: out[timespec]) = [clock in (0, 1, 4, 5, 6, 7, 11) => here] home;
    230 clock_nanosleep (clock: clock, flags: i32, request: in[timespec], remaining: out[timespec] on interrupted)
            = [clock in (0, 1, 7, 8, 9, 11) => home] own blocks "CPU clocks stand still at home";
    231 exit_group (status: i32) = own;
    232 epoll_wait (epoll: Fd, events: out[epoll_event; ret <= most], most: i32, timeout: i32) = home blocks;
    233 epoll_ctl (epoll: Fd, operation: epoll_operation, fd: Fd, event: in[epoll_event]) = home;
    234 tgkill (pid: i32, tid: i32, signal: signal) = home;
    235 utimes (path: Str, times: in[timeval; 2]) = home;
    236 vserver () = home absent;
    237 mbind (addr: hex, len: usize, mode: hex, nodes: Address, most: usize, flags: u32) = own;
    238 set_mempolicy (mode: i32, nodes: Address, most: usize) = own;
    239 get_mempolicy (mode: Address, nodes: Address, most: usize, addr: hex, flags: hex) = own;
    240 mq_open (name: Str, flags: open_flags, mode: mode, attributes: in[mq_attr]) -> Fd = home;
    241 mq_unlink (name: Str) = home;
    242 mq_timedsend (queue: Fd, message: in[u8; len], len: usize, priority: u32, timeout: in[timespec]) = home blocks;
    243 mq_timedreceive (queue: Fd, message: out[u8; ret <= len], len: usize, priority: out[u32], timeout: in[timespec])
            = home blocks;
    244 mq_notify (queue: Fd, event: Address) = [event == 0 => home] homeward "a SIGEV_THREAD cookie lies behind an address";
    245 mq_getsetattr (queue: Fd, new: in[mq_attr], old: out[mq_attr]) = home;
    246 kexec_load (entry: hex, count: usize, segments: Address, flags: hex) = homeward;
    247 waitid (which: i32, pid: i32, info: inout[siginfo] on always, options: wait_options, usage: inout[rusage]) = home blocks;
    248 add_key (kind: Str, description: Str, payload: in[u8; len], len: usize, keyring: i32) = home;
    249 request_key (kind: Str, description: Str, callout: Str, keyring: i32) = home blocks;
    250 keyctl (option: i32, second: hex, third: hex, fourth: hex, fifth: hex) = [option by KEYCTL] homeward;
    251 ioprio_set (which: i32, who: i32, priority: i32) = home;
    252 ioprio_get (which: i32, who: i32) = home;
    253 inotify_init () -> Fd = home;
    254 inotify_add_watch (fd: Fd, path: Str, mask: u32) = home;
    255 inotify_rm_watch (fd: Fd, watch: i32) = home;
    256 migrate_pages (pid: i32, most: usize, old: Address, new: Address) = homeward;
    257 openat (directory: dirfd, path: Str, flags: open_flags, mode: mode) -> Fd = home blocks;
    258 mkdirat (directory: dirfd, path: Str, mode: mode) = home;
    259 mknodat (directory: dirfd, path: Str, mode: mode, device: u32) = home;
    260 fchownat (directory: dirfd, path: Str, user: u32, group: u32, flags: at_flags) = home;
    261 futimesat (directory: dirfd, path: Str, times: in[timeval; 2]) = home;
    262 newfstatat (directory: dirfd, path: Str, stat: out[stat], flags: at_flags) = home;
    263 unlinkat (directory: dirfd, path: Str, flags: at_flags) = home;
    264 renameat (old_directory: dirfd, old: Str, new_directory: dirfd, new: Str) = home;
    265 linkat (old_directory: dirfd, old: Str, new_directory: dirfd, new: Str, flags: at_flags) = home;
    266 symlinkat (target: Str, directory: dirfd, link: Str) = home;
    267 readlinkat (directory: dirfd, path: Str, buf: out[u8; ret <= size, most 65536], size: i32) = home;
    268 fchmodat (directory: dirfd, path: Str, mode: mode) = home;
    269 faccessat (directory: dirfd, path: Str, mode: access_mode) = home;
    270 pselect6 (n: i32, read: bits[n], write: bits[n], except: bits[n], timeout: inout[timespec] on always,
            sigmask: MaskPair) = home blocks;
    271 ppoll (fds: inout[pollfd; nfds] on always, nfds: u32, timeout: inout[timespec] on always, sigmask: sigset[size],
            size: usize) = home blocks;
    272 unshare (flags: hex) = homeward "children would be born in other namespaces";
    273 set_robust_list (head: Address, len: usize) = own "kept for the way home";
    274 get_robust_list (pid: i32, head: out[u64], len: out[u64]) = [pid == 0 => here] own;
    275 splice (source: Fd, source_offset: inout[i64], out: Fd, out_offset: inout[i64], len: usize, flags: hex32) = home blocks;
    276 tee (source: Fd, out: Fd, len: usize, flags: hex32) = home blocks;
    277 sync_file_range (fd: Fd, offset: i64, len: i64, flags: hex32) = home blocks;
    278 vmsplice (fd: Fd, vector: Address, count: usize, flags: hex32) = homeward "a pipe refers to the pages themselves";
    279 move_pages (pid: i32, count: usize, pages: Address, nodes: Address, status: Address, flags: i32) = homeward;
    280 utimensat (directory: dirfd, path: Str, times: in[timespec; 2], flags: at_flags) = home;
    281 epoll_pwait (epoll: Fd, events: out[epoll_event; ret <= most], most: i32, timeout: i32, sigmask: sigset[size],
            size: usize) = home blocks;
    282 signalfd (fd: Fd, mask: sigset[size], size: usize) -> Fd = home;
    283 timerfd_create (clock: clock, flags: open_flags) -> Fd = home;
    284 eventfd (value: u32) -> Fd = home;
    285 fallocate (fd: Fd, mode: hex32, offset: i64, len: i64) = home blocks;
    286 timerfd_settime (fd: Fd, flags: i32, value: in[itimerspec], old: out[itimerspec]) = home;
    287 timerfd_gettime (fd: Fd, value: out[itimerspec]) = home;
    288 accept4 (fd: Fd, address: out[u8; *len, most 128], len: inout[u32], flags: socket_flags) -> Fd = home blocks;
    289 signalfd4 (fd: Fd, mask: sigset[size], size: usize, flags: open_flags) -> Fd = home;
    290 eventfd2 (value: u32, flags: open_flags) -> Fd = home;
    291 epoll_create1 (flags: open_flags) -> Fd = home;
    292 dup3 (old: Fd, new: Fd, flags: open_flags) -> Fd = home;
    293 pipe2 (fds: out[i32; 2], flags: open_flags) = home;
    294 inotify_init1 (flags: open_flags) -> Fd = home;
    295 preadv (fd: Fd, vector: vector_out[count], count: usize, offset: position, high: hex) = home blocks short;
    296 pwritev (fd: Fd, vector: vector_in[count], count: usize, offset: position, high: hex) = home blocks short;
    297 rt_tgsigqueueinfo (pid: i32, tid: i32, signal: signal, info: in[siginfo]) = home;
    298 perf_event_open (attributes: Address, pid: i32, cpu: i32, group: Fd, flags: hex) -> Fd = homeward
            "it counts on the CPU of the caller, and its ring is mapped";
    299 recvmmsg (fd: Fd, messages: messages_out[count], count: u32, flags: message_flags, timeout: inout[timespec])
            = [flags & 0x2000000 == 0x2000000 => homeward] [flags & 0x20 by RECVMMSG_TRUNCATED] home blocks short;
    300 fanotify_init (flags: hex32, event_flags: open_flags) -> Fd = home;
    301 fanotify_mark (fanotify: Fd, flags: hex32, mask: hex, directory: dirfd, path: Str) = home;
    302 prlimit64 (pid: i32, resource: u32, new: in[rlimit], old: out[rlimit]) = home;
    303 name_to_handle_at (directory: dirfd, path: Str, handle: counted_inout[8, 8, 136] on always,
            mount: inout[i32] on always, flags: at_flags)
            = [flags & 1 by NAME_TO_HANDLE] home;
    304 open_by_handle_at (mount: Fd, handle: counted_in[8, 8, 136], flags: open_flags) -> Fd = home blocks;
    305 clock_adjtime (clock: clock, state: inout[timex]) = home;
    306 syncfs (fd: Fd) = home blocks;
    307 sendmmsg (fd: Fd, messages: messages_in[count], count: u32, flags: message_flags)
            = [flags & 0x4000000 == 0x4000000 => homeward] home blocks short "MSG_ZEROCOPY keeps the address";
    308 setns (fd: Fd, kinds: i32) = homeward "children would be born in other namespaces";
    309 getcpu (cpu: Address, node: Address, unused: Address) = here;
    310 process_vm_readv (pid: i32, local: Address, local_count: usize, remote: Address, remote_count: usize, flags: hex) = own;
    311 process_vm_writev (pid: i32, local: Address, local_count: usize, remote: Address, remote_count: usize, flags: hex) = own;
    312 kcmp (first: i32, second: i32, kind: i32, left: hex, right: hex)
            = [kind == 7 => homeward] home "KCMP_EPOLL_TFD follows an address";
    313 finit_module (fd: Fd, parameters: Str, flags: i32) = homeward;
    314 sched_setattr (pid: i32, attributes: counted_inout[0, 48, 4096] on always, flags: u32) = home;
    315 sched_getattr (pid: i32, attributes: sized_inout[size], size: u32, flags: u32) = home;
    316 renameat2 (old_directory: dirfd, old: Str, new_directory: dirfd, new: Str, flags: hex32) = home;
    317 seccomp (operation: u32, flags: hex32, argument: Address) = own;
    318 getrandom (buf: Address, count: usize, flags: hex32) = here "random bytes are as good here";
    319 memfd_create (name: Str, flags: hex32) -> Fd = home;
    320 kexec_file_load (kernel: Fd, initrd: Fd, len: usize, line: Address, flags: hex) = homeward;
    321 bpf (command: i32, attributes: Address, size: u32) = homeward "its structures are full of addresses";
    322 execveat (directory: dirfd, path: Str, argv: Strings, envp: Strings, flags: at_flags) = own;
    323 userfaultfd (flags: hex32) -> Fd = own;
    324 membarrier (command: i32, flags: u32, cpu: i32) = here;
    325 mlock2 (addr: hex, len: usize, flags: i32) = own;
    326 copy_file_range (source: Fd, source_offset: inout[i64], out: Fd, out_offset: inout[i64], len: usize, flags: hex32)
            = home blocks;
    327 preadv2 (fd: Fd, vector: vector_out[count], count: usize, offset: position, high: hex, flags: hex32) = home blocks short;
    328 pwritev2 (fd: Fd, vector: vector_in[count], count: usize, offset: position, high: hex, flags: hex32) = home blocks short;
    329 pkey_mprotect (addr: hex, len: usize, prot: protection, key: i32) = homeward "not every CPU has protection keys";
    330 pkey_alloc (flags: hex, rights: hex) = homeward "not every CPU has protection keys";
    331 pkey_free (key: i32) = homeward "not every CPU has protection keys";
    332 statx (directory: dirfd, path: Str, flags: at_flags, mask: hex32, statx: out[statx]) = home;
    333 io_pgetevents (context: hex, least: i64, most: i64, events: Address, timeout: Address, sigmask: Address) = homeward;
    334 rseq (area: Address, len: u32, flags: i32, signature: hex32) = here;
    335 uretprobe () = homeward;
    336 uprobe () = homeward;
    424 pidfd_send_signal (pidfd: Fd, signal: signal, info: in[siginfo], flags: hex32) = home;
    425 io_uring_setup (entries: u32, parameters: Address) -> Fd = own;
    426 io_uring_enter (fd: Fd, submit: u32, complete: u32, flags: hex32, argument: Address, size: usize) = own;
    427 io_uring_register (fd: Fd, operation: u32, argument: Address, count: u32) = own;
    428 open_tree (directory: dirfd, path: Str, flags: hex32) -> Fd = home;
    429 move_mount (old_directory: dirfd, old: Str, new_directory: dirfd, new: Str, flags: hex32) = home;
    430 fsopen (name: Str, flags: hex32) -> Fd = home;
    431 fsconfig (fd: Fd, command: u32, key: Str, value: Address, extra: i32) = [command by FSCONFIG] homeward;
    432 fsmount (fd: Fd, flags: hex32, attributes: hex32) -> Fd = home;
    433 fspick (directory: dirfd, path: Str, flags: hex32) -> Fd = home;
    434 pidfd_open (pid: i32, flags: open_flags) -> Fd = home;
    435 clone3 (arguments: sized[size], size: usize) = own;
    436 close_range (first: u32, last: u32, flags: hex32) = home;
    437 openat2 (directory: dirfd, path: Str, how: sized[size], size: usize) -> Fd = home blocks;
    438 pidfd_getfd (pidfd: Fd, fd: Fd, flags: hex32) -> Fd = home;
    439 faccessat2 (directory: dirfd, path: Str, mode: access_mode, flags: at_flags) = home;
    440 process_madvise (pidfd: Fd, vector: Address, count: usize, advice: advice, flags: hex32) = homeward;
    441 epoll_pwait2 (epoll: Fd, events: out[epoll_event; ret <= most], most: i32, timeout: in[timespec], sigmask: sigset[size],
            size: usize) = home blocks;
    442 mount_setattr (directory: dirfd, path: Str, flags: at_flags, attributes: sized[size], size: usize) = home;
    443 quotactl_fd (fd: Fd, command: u32, id: u32, addr: Address) = homeward;
    444 landlock_create_ruleset (attributes: sized[size], size: usize, flags: hex32) -> Fd = home;
    445 landlock_add_rule (ruleset: Fd, kind: i32, rule: Address, flags: hex32) = [kind by LANDLOCK] homeward;
    446 landlock_restrict_self (ruleset: Fd, flags: hex32) = home;
    447 memfd_secret (flags: open_flags) -> Fd = own;
    448 process_mrelease (pidfd: Fd, flags: hex32) = home;
    449 futex_waitv (waiters: Address, count: u32, flags: hex32, timeout: Address, clock: clock) = here;
    450 set_mempolicy_home_node (start: hex, len: usize, node: usize, flags: hex) = own;
    451 cachestat (fd: Fd, range: in[cachestat_range], stat: out[cachestat], flags: hex32) = home;
    452 fchmodat2 (directory: dirfd, path: Str, mode: mode, flags: at_flags) = home;
    453 map_shadow_stack (addr: hex, size: usize, flags: hex32) = homeward "not every CPU has shadow stacks";
    454 futex_wake (word: Address, mask: hex, count: i32, flags: hex32) = here;
    455 futex_wait (word: Address, value: hex, mask: hex, flags: hex32, timeout: Address, clock: clock) = here;
    456 futex_requeue (waiters: Address, flags: hex32, wake: i32, requeue: i32) = here;
    457 statmount (request: counted_in[0, 24, 4096], buf: inout[u8; size], size: usize, flags: hex32) = home;
    458 listmount (request: counted_in[0, 24, 4096], mounts: out[u64; ret <= count], count: usize, flags: hex32) = home;
    459 lsm_get_self_attr (attribute: u32, context: inout[u8; *size], size: inout[u32] on always, flags: hex32) = home;
    460 lsm_set_self_attr (attribute: u32, context: sized[size], size: u32, flags: hex32) = home;
    461 lsm_list_modules (modules: inout[u8; *size], size: inout[u32] on always, flags: hex32) = home;
    462 mseal (start: hex, len: usize, flags: hex) = homeward "sealed memory could not be taken down again here";
    463 setxattrat (directory: dirfd, path: Str, flags: at_flags, name: Str, value: Address, size: usize) = homeward;
    464 getxattrat (directory: dirfd, path: Str, flags: at_flags, name: Str, value: Address, size: usize) = homeward;
    465 listxattrat (directory: dirfd, path: Str, flags: at_flags, list: out[u8; ret <= size, most 65536], size: usize) = home;
    466 removexattrat (directory: dirfd, path: Str, flags: at_flags, name: Str) = home;
    467 open_tree_attr (directory: dirfd, path: Str, flags: hex32, attributes: sized[size], size: usize) -> Fd = home;
    468 file_getattr (directory: dirfd, path: Str, attributes: sized_inout[size], size: usize, flags: at_flags) = home;
    469 file_setattr (directory: dirfd, path: Str, attributes: sized[size], size: usize, flags: at_flags) = home;
}

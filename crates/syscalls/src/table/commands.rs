//! Calls that are many calls: what their commands take.

use crate::notation::syscalls;

syscalls! {
    /// fcntl, by command.
    pub(crate) static FCNTL of 72;

       0 F_DUPFD (fd: Fd, command: u32, least: i32) -> Fd = home;
       1 F_GETFD (fd: Fd, command: u32) = home;
       2 F_SETFD (fd: Fd, command: u32, flags: i32) = home;
       3 F_GETFL (fd: Fd, command: u32) = home;
       4 F_SETFL (fd: Fd, command: u32, flags: open_flags) = home;
       5 F_GETLK (fd: Fd, command: u32, lock: inout[flock]) = home;
       6 F_SETLK (fd: Fd, command: u32, lock: in[flock]) = home;
       7 F_SETLKW (fd: Fd, command: u32, lock: in[flock]) = home blocks;
       8 F_SETOWN (fd: Fd, command: u32, owner: i32) = home;
       9 F_GETOWN (fd: Fd, command: u32) = home;
      10 F_SETSIG (fd: Fd, command: u32, signal: signal) = home;
      11 F_GETSIG (fd: Fd, command: u32) = home;
      15 F_SETOWN_EX (fd: Fd, command: u32, owner: in[owner_ex]) = home;
      16 F_GETOWN_EX (fd: Fd, command: u32, owner: out[owner_ex]) = home;
      17 F_GETOWNER_UIDS (fd: Fd, command: u32, users: out[u32; 2]) = home;
      36 F_OFD_GETLK (fd: Fd, command: u32, lock: inout[flock]) = home;
      37 F_OFD_SETLK (fd: Fd, command: u32, lock: in[flock]) = home;
      38 F_OFD_SETLKW (fd: Fd, command: u32, lock: in[flock]) = home blocks;
    1024 F_SETLEASE (fd: Fd, command: u32, kind: i32) = home;
    1025 F_GETLEASE (fd: Fd, command: u32) = home;
    1026 F_NOTIFY (fd: Fd, command: u32, events: hex) = home;
    1027 F_DUPFD_QUERY (fd: Fd, command: u32, other: Fd) = home;
    1028 F_CREATED_QUERY (fd: Fd, command: u32) = home;
    1030 F_DUPFD_CLOEXEC (fd: Fd, command: u32, least: i32) -> Fd = home;
    1031 F_SETPIPE_SZ (fd: Fd, command: u32, size: u32) = home;
    1032 F_GETPIPE_SZ (fd: Fd, command: u32) = home;
    1033 F_ADD_SEALS (fd: Fd, command: u32, seals: hex32) = home;
    1034 F_GET_SEALS (fd: Fd, command: u32) = home;
    1035 F_GET_RW_HINT (fd: Fd, command: u32, hint: out[u64]) = home;
    1036 F_SET_RW_HINT (fd: Fd, command: u32, hint: in[u64]) = home;
    1037 F_GET_FILE_RW_HINT (fd: Fd, command: u32, hint: out[u64]) = home;
    1038 F_SET_FILE_RW_HINT (fd: Fd, command: u32, hint: in[u64]) = home;
}

syscalls! {
    /// prctl, by option. What changes how the processor or the memory behaves is not here, so it goes home.
    pub(crate) static PRCTL of 157;

             1 PR_SET_PDEATHSIG (option: i32, signal: signal) = home;
             2 PR_GET_PDEATHSIG (option: i32, signal: out[i32]) = home;
             3 PR_GET_DUMPABLE (option: i32) = home;
             4 PR_SET_DUMPABLE (option: i32, value: hex) = home;
             7 PR_GET_KEEPCAPS (option: i32) = home;
             8 PR_SET_KEEPCAPS (option: i32, value: hex) = home;
            15 PR_SET_NAME (option: i32, name: Str) = both;
            16 PR_GET_NAME (option: i32, name: out[u8; 16]) = home;
            21 PR_GET_SECCOMP (option: i32) = own;
            22 PR_SET_SECCOMP (option: i32, mode: hex, filter: Address) = own;
            23 PR_CAPBSET_READ (option: i32, capability: hex) = home;
            24 PR_CAPBSET_DROP (option: i32, capability: hex) = home;
            27 PR_GET_SECUREBITS (option: i32) = home;
            28 PR_SET_SECUREBITS (option: i32, bits: hex) = home;
            29 PR_SET_TIMERSLACK (option: i32, nanoseconds: usize) = home;
            30 PR_GET_TIMERSLACK (option: i32) = home;
            36 PR_SET_CHILD_SUBREAPER (option: i32, value: hex) = home;
            37 PR_GET_CHILD_SUBREAPER (option: i32, value: out[i32]) = home;
            38 PR_SET_NO_NEW_PRIVS (option: i32, value: hex, third: hex, fourth: hex, fifth: hex) = home;
            39 PR_GET_NO_NEW_PRIVS (option: i32, second: hex, third: hex, fourth: hex, fifth: hex) = home;
            40 PR_GET_TID_ADDRESS (option: i32, address: Address) = here;
            41 PR_SET_THP_DISABLE (option: i32, value: hex, third: hex, fourth: hex, fifth: hex) = both;
            42 PR_GET_THP_DISABLE (option: i32, second: hex, third: hex, fourth: hex, fifth: hex) = home;
            47 PR_CAP_AMBIENT (option: i32, operation: hex, capability: hex, fourth: hex, fifth: hex) = home;
            57 PR_SET_IO_FLUSHER (option: i32, value: hex, third: hex, fourth: hex, fifth: hex) = home;
            58 PR_GET_IO_FLUSHER (option: i32, second: hex, third: hex, fourth: hex, fifth: hex) = home;
    0x53564d41 PR_SET_VMA (option: i32, attribute: hex, start: hex, len: usize, value: Address) = here;
    0x59616d61 PR_SET_PTRACER (option: i32, pid: i64) = home;
}

syscalls! {
    /// shmctl, by command.
    pub(crate) static SHMCTL of 31;

     0 IPC_RMID (id: i32, command: i32) = home;
     1 IPC_SET (id: i32, command: i32, buf: in[shmid_ds]) = home;
     2 IPC_STAT (id: i32, command: i32, buf: out[shmid_ds]) = home;
     3 IPC_INFO (id: i32, command: i32, buf: out[shminfo]) = home;
    11 SHM_LOCK (id: i32, command: i32) = home;
    12 SHM_UNLOCK (id: i32, command: i32) = home;
    13 SHM_STAT (id: i32, command: i32, buf: out[shmid_ds]) = home;
    14 SHM_INFO (id: i32, command: i32, buf: out[shm_info]) = home;
    15 SHM_STAT_ANY (id: i32, command: i32, buf: out[shmid_ds]) = home;
}

syscalls! {
    /// semctl, by command. GETALL and SETALL are not here: only the kernel knows how long their array is.
    pub(crate) static SEMCTL of 66;

     0 IPC_RMID (id: i32, index: i32, command: i32) = home;
     1 IPC_SET (id: i32, index: i32, command: i32, buf: in[semid_ds]) = home;
     2 IPC_STAT (id: i32, index: i32, command: i32, buf: out[semid_ds]) = home;
     3 IPC_INFO (id: i32, index: i32, command: i32, buf: out[seminfo]) = home;
    11 GETPID (id: i32, index: i32, command: i32) = home;
    12 GETVAL (id: i32, index: i32, command: i32) = home;
    14 GETNCNT (id: i32, index: i32, command: i32) = home;
    15 GETZCNT (id: i32, index: i32, command: i32) = home;
    16 SETVAL (id: i32, index: i32, command: i32, value: i32) = home;
    18 SEM_STAT (id: i32, index: i32, command: i32, buf: out[semid_ds]) = home;
    19 SEM_INFO (id: i32, index: i32, command: i32, buf: out[seminfo]) = home;
    20 SEM_STAT_ANY (id: i32, index: i32, command: i32, buf: out[semid_ds]) = home;
}

syscalls! {
    /// msgctl, by command.
    pub(crate) static MSGCTL of 71;

     0 IPC_RMID (id: i32, command: i32) = home;
     1 IPC_SET (id: i32, command: i32, buf: in[msqid_ds]) = home;
     2 IPC_STAT (id: i32, command: i32, buf: out[msqid_ds]) = home;
     3 IPC_INFO (id: i32, command: i32, buf: out[msginfo]) = home;
    11 MSG_STAT (id: i32, command: i32, buf: out[msqid_ds]) = home;
    12 MSG_INFO (id: i32, command: i32, buf: out[msginfo]) = home;
    13 MSG_STAT_ANY (id: i32, command: i32, buf: out[msqid_ds]) = home;
}

syscalls! {
    /// keyctl, by option.
    pub(crate) static KEYCTL of 250;

     0 KEYCTL_GET_KEYRING_ID (option: i32, key: i32, create: i32) = home;
     1 KEYCTL_JOIN_SESSION_KEYRING (option: i32, name: Str) = home;
     2 KEYCTL_UPDATE (option: i32, key: i32, payload: in[u8; len], len: usize) = home;
     3 KEYCTL_REVOKE (option: i32, key: i32) = home;
     4 KEYCTL_CHOWN (option: i32, key: i32, user: u32, group: u32) = home;
     5 KEYCTL_SETPERM (option: i32, key: i32, permissions: hex32) = home;
     6 KEYCTL_DESCRIBE (option: i32, key: i32, buf: inout[u8; ret <= len], len: usize) = home;
     7 KEYCTL_CLEAR (option: i32, keyring: i32) = home;
     8 KEYCTL_LINK (option: i32, key: i32, keyring: i32) = home;
     9 KEYCTL_UNLINK (option: i32, key: i32, keyring: i32) = home;
    10 KEYCTL_SEARCH (option: i32, keyring: i32, kind: Str, description: Str, destination: i32) = home;
    11 KEYCTL_READ (option: i32, key: i32, buf: inout[u8; ret <= len], len: usize) = home;
    13 KEYCTL_NEGATE (option: i32, key: i32, timeout: u32, keyring: i32) = home;
    14 KEYCTL_SET_REQKEY_KEYRING (option: i32, keyring: i32) = home;
    15 KEYCTL_SET_TIMEOUT (option: i32, key: i32, timeout: u32) = home;
    16 KEYCTL_ASSUME_AUTHORITY (option: i32, key: i32) = home;
    17 KEYCTL_GET_SECURITY (option: i32, key: i32, buf: inout[u8; ret <= len], len: usize) = home;
    18 KEYCTL_SESSION_TO_PARENT (option: i32) = home;
    19 KEYCTL_REJECT (option: i32, key: i32, timeout: u32, error: u32, keyring: i32) = home;
    21 KEYCTL_INVALIDATE (option: i32, key: i32) = home;
    22 KEYCTL_GET_PERSISTENT (option: i32, user: u32, keyring: i32) = home;
}

syscalls! {
    /// fsconfig, by command.
    pub(crate) static FSCONFIG of 431;

    0 FSCONFIG_SET_FLAG (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    1 FSCONFIG_SET_STRING (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    2 FSCONFIG_SET_BINARY (fd: Fd, command: u32, key: Str, value: in[u8; extra], extra: i32) = home;
    3 FSCONFIG_SET_PATH (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    4 FSCONFIG_SET_PATH_EMPTY (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    5 FSCONFIG_SET_FD (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    6 FSCONFIG_CMD_CREATE (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    7 FSCONFIG_CMD_RECONFIGURE (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
    8 FSCONFIG_CMD_CREATE_EXCL (fd: Fd, command: u32, key: Str, value: Str, extra: i32) = home;
}

syscalls! {
    /// landlock_add_rule, by kind of rule.
    pub(crate) static LANDLOCK of 445;

    1 LANDLOCK_RULE_PATH_BENEATH (ruleset: Fd, kind: i32, rule: in[path_beneath_rule], flags: hex32) = home;
    2 LANDLOCK_RULE_NET_PORT (ruleset: Fd, kind: i32, rule: in[net_port_rule], flags: hex32) = home;
}

syscalls! {
    /// name_to_handle_at with AT_HANDLE_MNT_ID_UNIQUE: the mount is told by 64 bits.
    pub(crate) static NAME_TO_HANDLE of 303;

    1 name_to_handle_at (directory: dirfd, path: Str, handle: counted_inout[8, 8, 136] on always,
            mount: inout[u64] on always, flags: at_flags) = home;
}

// With MSG_TRUNC a result may count bytes that were thrown away and never written (TCP does so), so the buffers
// travel both ways: what the kernel leaves alone stays as it was.

syscalls! {
    /// recvfrom with MSG_TRUNC.
    pub(crate) static RECVFROM_TRUNCATED of 45;

    0x20 recvfrom (fd: Fd, buf: inout[u8; ret <= len], len: usize, flags: message_flags,
            address: out[u8; *address_len, most 128], address_len: inout[u32]) = home blocks short;
}

syscalls! {
    /// recvmsg with MSG_TRUNC.
    pub(crate) static RECVMSG_TRUNCATED of 47;

    0x20 recvmsg (fd: Fd, message: message_inout, flags: message_flags) = home blocks short;
}

syscalls! {
    /// recvmmsg with MSG_TRUNC.
    pub(crate) static RECVMMSG_TRUNCATED of 299;

    0x20 recvmmsg (fd: Fd, messages: messages_inout[count], count: u32, flags: message_flags, timeout: inout[timespec])
            = home blocks short;
}

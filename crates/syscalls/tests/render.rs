//! The text of calls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::marshal::{self, Memory};
use minka_syscalls::{lookup, render};

/// A guest of 64 KiB at this address.
const BASE: u64 = 0x10_0000;

struct Guest(Vec<u8>);

impl Guest {
    fn new() -> Self {
        Self(vec![0; 64 * 1024])
    }

    fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn words(self, offset: usize, words: &[u64]) -> Self {
        self.with(offset, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }
}

impl Memory for Guest {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let Some(from) = address.checked_sub(BASE).map(|from| from as usize) else { return 0 };
        let length = self.0.len().saturating_sub(from).min(into.len());
        into[..length].copy_from_slice(&self.0[from..from + length]);
        length
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        let at = (address - BASE) as usize;
        self.0[at..at + from.len()].copy_from_slice(from);
        from.len()
    }
}

/// The text of a call that the kernel answers so; `wrote` is done to the area of the placed call, by argument.
fn text(number: i64, args: &[u64], guest: &Guest, result: i64, wrote: &[(usize, &[u8])]) -> String {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let spec = lookup(number as u64).unwrap();
    let mut body = Vec::new();
    marshal::gather(spec, &all, guest, 1 << 16, &mut body).unwrap();
    let mut area = vec![0; 1 << 16];
    let placed = marshal::place(&body, &mut area, 0x7000_0000)
        .or_else(|_| marshal::place_own(&body, &mut area, 0x7000_0000))
        .unwrap();
    for (argument, bytes) in wrote {
        let at = (placed.arguments()[*argument] - 0x7000_0000) as usize;
        area[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let mut reply = Vec::new();
    marshal::collect(&placed, result, &area).append_to(&mut reply);
    let text = render::call(placed.spec(), &body, &placed, result, &area);
    assert_eq!(render::exchange(&body, &reply), text, "both sides show the same");
    text
}

const AT_FDCWD: u64 = -100_i64 as u64;

#[test]
fn strings_and_flags() {
    let guest = Guest::new().with(0, b"a \"file\"\n\x01\x021\0");
    let show = |args: &[u64], result| text(libc::SYS_openat, args, &guest, result, &[]);
    assert_eq!(
        show(&[AT_FDCWD, BASE, 0o2000101, 0o644], 3),
        r#"openat(AT_FDCWD, "a \"file\"\n\1\0021", O_WRONLY|O_CREAT|O_CLOEXEC, 0644) = 3"#
    );
    assert_eq!(show(&[5, BASE, 0, 0], -2), r#"openat(5, "a \"file\"\n\1\0021", O_RDONLY, 00) = -1 ENOENT"#);
    assert_eq!(show(&[5, 8, 0, 0], -14), "openat(5, 0x8, O_RDONLY, 00) = -1 EFAULT");
    assert_eq!(
        text(libc::SYS_access, &[BASE, 6], &guest, 0, &[]),
        r#"access("a \"file\"\n\1\0021", R_OK|W_OK) = 0"#
    );
    assert_eq!(text(libc::SYS_kill, &[5, 15], &guest, 0, &[]), "kill(5, SIGTERM) = 0");
    assert_eq!(text(libc::SYS_lseek, &[5, u64::MAX, 2], &guest, 10, &[]), "lseek(5, -1, SEEK_END) = 10");
    assert_eq!(text(libc::SYS_getppid, &[], &guest, 10, &[]), "getppid() = 10");
    assert_eq!(text(libc::SYS_pause, &[], &guest, -514, &[]), "pause() = ? ERESTARTNOHAND");
}

#[test]
fn buffers_are_cut() {
    let guest = Guest::new().with(0, b"0123456789012345678901234567890123456789");
    let long = r#"write(1, "01234567890123456789012345678901"..., 40) = 40"#;
    assert_eq!(text(libc::SYS_write, &[1, BASE, 40], &guest, 40, &[]), long);
    let show = |result, bytes: &[u8]| text(libc::SYS_read, &[3, BASE, 4096], &guest, result, &[(1, bytes)]);
    assert_eq!(show(3, b"abc"), r#"read(3, "abc", 4096) = 3"#);
    assert_eq!(show(0, b"abc"), "read(3, 0x100000, 4096) = 0");
    assert_eq!(show(-11, b"abc"), "read(3, 0x100000, 4096) = -1 EAGAIN");
}

#[test]
fn structures() {
    let guest = Guest::new().words(0, &[5, 500]).words(64, &[0x0001_0000_0003, 0x0005_0000_0004]);
    assert_eq!(
        text(libc::SYS_nanosleep, &[BASE, BASE + 32], &guest, -4, &[(1, &[2, 0, 0, 0])]),
        "nanosleep({tv_sec=5, tv_nsec=500}, {tv_sec=2, tv_nsec=0}) = -1 EINTR"
    );
    assert_eq!(
        text(libc::SYS_nanosleep, &[BASE, 0], &guest, 0, &[]),
        "nanosleep({tv_sec=5, tv_nsec=500}, NULL) = 0"
    );
    assert_eq!(
        text(libc::SYS_poll, &[BASE + 64, 2, 100], &guest, 1, &[(0, &[3, 0, 0, 0, 1, 0, 0x10, 0])]),
        "poll([{fd=3, events=POLLIN, revents=POLLHUP}, {fd=4, events=POLLIN|POLLOUT}], 2, 100) = 1"
    );
    assert_eq!(text(libc::SYS_pipe, &[BASE], &guest, 0, &[(0, &[3, 0, 0, 0, 4])]), "pipe([3, 4]) = 0");
    let mut status = [0; 144];
    status[24..28].copy_from_slice(&0o100_644_u32.to_le_bytes());
    status[48] = 99;
    assert_eq!(
        text(libc::SYS_fstat, &[3, BASE], &guest, 0, &[(1, &status)]),
        "fstat(3, {st_mode=S_IFREG|0644, st_size=99, ...}) = 0"
    );
    let mask = Guest::new().words(0, &[0x0001_0000_0003]);
    assert_eq!(
        text(libc::SYS_rt_sigprocmask, &[0, BASE, 0, 8], &mask, 0, &[]),
        "rt_sigprocmask(SIG_BLOCK, [HUP INT RT_1], NULL, 8) = 0"
    );
    assert_eq!(
        text(libc::SYS_select, &[40, BASE, 0, 0, 0], &mask, 1, &[]),
        "select(40, [0 1 32], NULL, NULL, NULL) = 1"
    );
}

#[test]
fn commands() {
    let guest = Guest::new();
    assert_eq!(
        text(libc::SYS_ioctl, &[1, 0x5413, BASE], &guest, 0, &[(2, &[24, 0, 80, 0])]),
        "ioctl(1, TIOCGWINSZ, {ws_row=24, ws_col=80, ...}) = 0"
    );
    assert_eq!(text(libc::SYS_fcntl, &[1, 1030, 10], &guest, 12, &[]), "fcntl(1, F_DUPFD_CLOEXEC, 10) = 12");
    assert_eq!(
        text(libc::SYS_fcntl, &[1, 4, 0o4000], &guest, 0, &[]),
        "fcntl(1, F_SETFL, O_RDONLY|O_NONBLOCK) = 0"
    );
    let name = Guest::new().with(0, b"thread\0");
    assert_eq!(text(libc::SYS_prctl, &[15, BASE], &name, 0, &[]), r#"prctl(PR_SET_NAME, "thread") = 0"#);
}

#[test]
fn sockets() {
    let address = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let guest = Guest::new().with(0, &address).words(64, &[28]);
    assert_eq!(
        text(libc::SYS_connect, &[3, BASE, 16], &guest, -111, &[]),
        r#"connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 ECONNREFUSED"#
    );
    assert_eq!(
        text(libc::SYS_accept, &[3, BASE + 128, BASE + 64], &guest, 4, &[(1, &address), (2, &[16])]),
        r#"accept(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, [28 => 16]) = 4"#
    );
    assert_eq!(
        text(libc::SYS_socket, &[1, 0o2000001, 0], &guest, 4, &[]),
        "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 4"
    );
}

#[test]
fn vectors_and_messages() {
    let guest = Guest::new()
        .with(1000, b"hello world")
        .words(0, &[BASE + 1000, 5, BASE + 1005, 6])
        .words(64, &[BASE + 2000, 9, BASE, 2, 0, 0, 0])
        .with(2000, b"\x01\0/a/path");
    assert_eq!(
        text(libc::SYS_writev, &[1, BASE, 2], &guest, 11, &[]),
        r#"writev(1, [{iov_base="hello", iov_len=5}, {iov_base=" world", iov_len=6}], 2) = 11"#
    );
    assert_eq!(
        text(libc::SYS_sendmsg, &[1, BASE + 64, 0x4000], &guest, 11, &[]),
        concat!(
            r#"sendmsg(1, {msg_name={sa_family=AF_UNIX, sun_path="/a/path"}, "#,
            r#"msg_iov=[{iov_base="hello", iov_len=5}, {iov_base=" world", iov_len=6}], msg_flags=0}, MSG_NOSIGNAL) = 11"#
        )
    );
    let received = text(libc::SYS_recvmsg, &[1, BASE + 64, 0], &guest, 7, &[]);
    assert!(received.starts_with("recvmsg(1, {msg_name={"), "{received}");
    assert!(
        received.contains(r#"iov_base="\0\0\0\0\0", iov_len=5}, {iov_base="\0\0", iov_len=6}"#),
        "{received}"
    );
    let messages = Guest::new()
        .with(1000, b"hello world")
        .words(0, &[BASE + 1000, 5, BASE + 1005, 6])
        .words(64, &[0, 0, BASE, 1, 0, 0, 0, 0, 0, 0, BASE + 16, 1, 0, 0, 0, 0]);
    assert_eq!(
        text(libc::SYS_sendmmsg, &[1, BASE + 64, 2, 0], &messages, 2, &[(1, &[0; 56])]),
        concat!(
            r#"sendmmsg(1, [{msg_hdr={msg_name=NULL, msg_iov=[{iov_base="hello", iov_len=5}], msg_flags=0}, msg_len=0}, "#,
            r#"{msg_hdr={msg_name=NULL, msg_iov=[{iov_base=" world", iov_len=6}], msg_flags=0}, msg_len=0}], 2, 0) = 2"#
        )
    );
}

#[test]
fn programs() {
    let guest = Guest::new()
        .with(0, b"/bin/true\0true\0--help\0")
        .words(64, &[BASE + 10, BASE + 15, 0])
        .words(128, &[0]);
    assert_eq!(
        text(libc::SYS_execve, &[BASE, BASE + 64, BASE + 128], &guest, 0, &[]),
        r#"execve("/bin/true", ["true", "--help"], []) = 0"#
    );
}

#[test]
fn damaged_messages_are_shown_as_far_as_they_go() {
    let guest = Guest::new().with(0, b"name\0").words(64, &[BASE, 5]);
    let calls = [
        (libc::SYS_openat, [AT_FDCWD, BASE, 0, 0, 0, 0]),
        (libc::SYS_writev, [1, BASE + 64, 1, 0, 0, 0]),
        (libc::SYS_poll, [BASE, 2, 0, 0, 0, 0]),
        (libc::SYS_execve, [BASE, BASE + 64, BASE + 128, 0, 0, 0]),
    ];
    for (number, args) in calls {
        let mut body = Vec::new();
        marshal::gather(lookup(number as u64).unwrap(), &args, &guest, 1 << 16, &mut body).unwrap();
        for end in 0..body.len() {
            for reply in [&[][..], &[1; 3], &[1; 16], &[0xff; 40]] {
                assert!(render::exchange(&body[..end], reply).contains(" = "));
            }
        }
    }
    assert!(render::exchange(&[0xff; 60], &[0; 16]).starts_with("call_4294967295("));
}

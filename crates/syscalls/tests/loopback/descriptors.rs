//! Descriptors: made, copied, asked and told; terminals; moving data between descriptors.

use crate::world::{SIZE, Scene};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Takes charge of the descriptors that a pair of calls made.
#[allow(unsafe_code)]
pub(crate) fn own((direct, forwarded): (i32, i32)) -> [OwnedFd; 2] {
    assert!(direct >= 0 && forwarded >= 0, "{direct} {forwarded}");
    // SAFETY: both were made by calls of this test, and nothing else refers to them.
    unsafe { [OwnedFd::from_raw_fd(direct), OwnedFd::from_raw_fd(forwarded)] }
}

/// Two pipes: reading and writing ends for each way.
pub(crate) fn pipes() -> [[OwnedFd; 2]; 2] {
    let outcome = Scene::new(libc::SYS_pipe2).at(0).value(libc::O_NONBLOCK).run();
    assert_eq!((outcome.direct, outcome.forwarded), (0, 0));
    assert_eq!(outcome.direct_memory[8..], outcome.forwarded_memory[8..]);
    let number = |memory: &[u8], at: usize| i32::from_le_bytes(memory[at..at + 4].try_into().unwrap());
    [0, 4].map(|at| own((number(&outcome.direct_memory, at), number(&outcome.forwarded_memory, at))))
}

fn each(scene: Scene, [one, other]: &[OwnedFd; 2]) -> Scene {
    scene.each(one.as_raw_fd(), other.as_raw_fd())
}

#[test]
fn made_by_all_calls_that_make_them() {
    own(Scene::new(libc::SYS_dup).value(1).agree_on_descriptors());
    own(Scene::new(libc::SYS_eventfd).value(3).agree_on_descriptors());
    own(Scene::new(libc::SYS_eventfd2).value(3).value(libc::EFD_CLOEXEC).agree_on_descriptors());
    own(Scene::new(libc::SYS_epoll_create).value(3).agree_on_descriptors());
    own(Scene::new(libc::SYS_epoll_create1).value(0).agree_on_descriptors());
    own(Scene::new(libc::SYS_inotify_init).agree_on_descriptors());
    own(Scene::new(libc::SYS_timerfd_create).value(1).value(0).agree_on_descriptors());
    own(Scene::new(libc::SYS_memfd_create).input(8, b"name\0").value(0).agree_on_descriptors());
    Scene::new(libc::SYS_memfd_create).input(8, &[b'x'; 4000]).value(0).agree_on_descriptors();
    own(Scene::new(libc::SYS_socket)
        .value(libc::AF_UNIX)
        .value(libc::SOCK_STREAM)
        .value(0)
        .agree_on_descriptors());
    own(Scene::new(libc::SYS_pidfd_open).value(std::process::id()).value(0).agree_on_descriptors());
    own(Scene::new(libc::SYS_signalfd4)
        .value(-1)
        .long(8, 1 << 20)
        .at(8)
        .value(8)
        .value(0)
        .agree_on_descriptors());
    Scene::new(libc::SYS_signalfd4).value(-1).at(8).value(7).value(0).agree();
    Scene::new(libc::SYS_signalfd).value(-1).at(SIZE - 4).value(8).agree();
    let pair = |kind: i32| Scene::new(libc::SYS_socketpair).value(libc::AF_UNIX).value(kind).value(0);
    assert_eq!(pair(libc::SOCK_STREAM).at(64).blurred(64..72).agree(), 0);
    assert_eq!(pair(99).at(64).agree(), -i64::from(libc::EINVAL));
    assert_eq!(pair(libc::SOCK_STREAM).at(SIZE).agree(), -i64::from(libc::EFAULT));
    assert_eq!(Scene::new(libc::SYS_pipe).at(SIZE).agree(), -i64::from(libc::EFAULT));
    let made = own(Scene::new(libc::SYS_dup).value(1).agree_on_descriptors());
    each(each(Scene::new(libc::SYS_dup2), &made), &made).run();
    each(each(Scene::new(libc::SYS_dup3), &made), &made).value(0).agree();
    assert_eq!(Scene::new(libc::SYS_close).value(-1).agree(), -i64::from(libc::EBADF));
    assert_eq!(Scene::new(libc::SYS_close_range).value(90_000).value(90_001).value(0).agree(), 0);
}

#[test]
fn commands_of_fcntl() {
    let files = [(); 2].map(|()| OwnedFd::from(tempfile::tempfile().unwrap()));
    let fcntl = |command: i32| each(Scene::new(libc::SYS_fcntl), &files).value(command);
    own(fcntl(libc::F_DUPFD).value(50).agree_on_descriptors());
    for command in [libc::F_GETFD, libc::F_GETFL, libc::F_GETOWN, 11, libc::F_GETLEASE, libc::F_GET_SEALS] {
        fcntl(command).agree();
    }
    fcntl(libc::F_SETFD).value(libc::FD_CLOEXEC).agree();
    fcntl(libc::F_SETFL).value(libc::O_NONBLOCK).agree();
    fcntl(libc::F_SETOWN).value(std::process::id()).agree();
    fcntl(16).at(100).agree();
    fcntl(15).with(100, &[1, 0, 0, 0, 1, 0, 0, 0]).at(100).agree();
    fcntl(1035).at(100).agree();
    fcntl(1036).long(100, 2).at(100).agree();
    // struct flock: type, whence, start, length, pid.
    let lock = |kind: u64| [kind, 10, 20, 0].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    for command in [libc::F_GETLK, libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_GETLK, libc::F_OFD_SETLK] {
        for kind in [0, 1, 2, 9] {
            fcntl(command).with(100, &lock(kind)).at(100).agree();
        }
        fcntl(command).at(SIZE - 8).agree_unless_homeward();
        fcntl(command).value(0).agree();
    }
    let [_, writing] = pipes();
    each(Scene::new(libc::SYS_fcntl), &writing).value(libc::F_GETPIPE_SZ).agree();
    each(Scene::new(libc::SYS_fcntl), &writing).value(libc::F_SETPIPE_SZ).value(8192).agree();
    each(Scene::new(libc::SYS_flock), &files).value(libc::LOCK_EX).agree();
}

#[test]
fn terminals() {
    let open = || File::options().read(true).write(true).open("/dev/ptmx");
    let (Ok(one), Ok(other)) = (open(), open()) else {
        eprintln!("skipped: no pseudo-terminals here");
        return;
    };
    let masters = [one, other].map(OwnedFd::from);
    let ioctl = |command: u64| each(Scene::new(libc::SYS_ioctl), &masters).raw_value(command);
    ioctl(libc::TIOCSPTLCK).word(64, 0).at(64).agree();
    ioctl(libc::TIOCGPTN).at(64).blurred(64..68).agree();
    ioctl(libc::TIOCGPTLCK).at(64).agree();
    let slaves = own(ioctl(0x5441).value(libc::O_RDWR | libc::O_NOCTTY).agree_on_descriptors());
    for terminals in [&masters, &slaves] {
        let ioctl = |command: u64| each(Scene::new(libc::SYS_ioctl), terminals).raw_value(command);
        let (result, memory) = ioctl(libc::TCGETS).at(64).direct();
        assert_eq!(result, 0);
        let settings = &memory[64..100];
        for command in
            [libc::TCGETS, libc::TCGETA, libc::TCGETS2, libc::TIOCGWINSZ, libc::TIOCOUTQ, libc::FIONREAD]
        {
            ioctl(command).at(64).agree();
            // The kernel may write the two bytes before it fails: only the error counts.
            ioctl(command).blurred(SIZE - 2..SIZE).at(SIZE - 2).agree_unless_homeward();
        }
        for command in [libc::TCSETS, libc::TCSETSW, libc::TCSETSF] {
            assert_eq!(ioctl(command).input(64, settings).agree(), 0);
        }
        ioctl(libc::TIOCSWINSZ).input(64, &[24, 0, 80, 0, 0, 0, 0, 0]).agree();
        ioctl(libc::TIOCGWINSZ).at(64).agree();
        ioctl(libc::TCFLSH).value(2).agree();
        ioctl(libc::TCSBRK).value(1).agree();
        ioctl(libc::TIOCEXCL).agree();
        ioctl(libc::TIOCNXCL).agree();
        ioctl(libc::TIOCGETD).at(64).agree();
        ioctl(libc::TIOCGPGRP).at(64).agree();
        ioctl(libc::TIOCGSID).at(64).agree();
        ioctl(libc::FIONBIO).word(64, 1).at(64).agree();
        ioctl(libc::FIOCLEX).agree();
    }
    each(Scene::new(libc::SYS_write), &masters).input(0, b"a line\n").value(7).agree();
    for slave in &slaves {
        // What was written comes through the line discipline a little later.
        let waited = Scene::new(libc::SYS_poll)
            .word(0, slave.as_raw_fd() as u32)
            .word(4, 1)
            .at(0)
            .value(1)
            .value(5000);
        assert_eq!(waited.direct().0, 1);
    }
    each(Scene::new(libc::SYS_ioctl), &slaves).raw_value(libc::FIONREAD).at(64).agree();
    assert_eq!(each(Scene::new(libc::SYS_read), &slaves).at(64).value(100).agree(), 7);
}

#[test]
fn ioctls_of_files_and_sockets() {
    let (directory, socket) =
        (tempfile::tempdir().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let file = File::create(directory.path().join("file")).unwrap();
    let file = |command: u64| Scene::new(libc::SYS_ioctl).value(file.as_raw_fd()).raw_value(command);
    for command in
        [2, 0x8008_6601, 0x8008_7601, 0x801c_581f, 0x8100_9431, 0x5460, 0x541b, 0x1260, 0x8008_1272]
    {
        file(command).at(64).agree();
    }
    let socket = |command: u64| Scene::new(libc::SYS_ioctl).value(socket.as_raw_fd()).raw_value(command);
    for command in [0x8905, 0x8906, 0x8907, 0x541b, 0x5411, 0x8903, 0x8904] {
        socket(command).at(64).agree();
    }
    for command in [0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x8921, 0x8927, 0x8933, 0x8942] {
        for name in ["lo", "no-such-link"] {
            let mut request = [0x55; 40];
            request[..16].fill(0);
            request[..name.len()].copy_from_slice(name.as_bytes());
            socket(command).with(64, &request).at(64).agree();
        }
    }
    socket(0x8910).with(64, &[0; 16]).word(80, 1).at(64).agree();
    let namespace = File::open("/proc/self/ns/uts").unwrap();
    let namespace =
        |command: u64| Scene::new(libc::SYS_ioctl).value(namespace.as_raw_fd()).raw_value(command);
    namespace(0xb703).agree();
    namespace(0xb701).agree_on_descriptors();
}

#[test]
fn data_between_descriptors() {
    let sources = [(); 2].map(|()| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[3; 9000]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        OwnedFd::from(file)
    });
    let targets = [(); 2].map(|()| OwnedFd::from(tempfile::tempfile().unwrap()));
    let between = |number| each(each(Scene::new(number), &targets), &sources);
    assert_eq!(between(libc::SYS_sendfile).value(0).value(100).agree(), 100);
    assert_eq!(between(libc::SYS_sendfile).long(64, 50).at(64).value(100).agree(), 100);
    between(libc::SYS_sendfile).long(64, u64::MAX).at(64).value(100).agree();
    between(libc::SYS_sendfile).at(SIZE - 1).value(100).agree_unless_homeward();
    let copy = |from: u64, to: u64| {
        let scene = each(Scene::new(libc::SYS_copy_file_range), &sources).long(64, from).at(64);
        each(scene, &targets).long(128, to).at(128).value(500).value(0).agree()
    };
    assert_eq!(copy(10, 20), 500);
    copy(8900, 20);
    copy(20_000, 0);
    let ([reading, writing], [other_reading, other_writing]) = (pipes(), pipes());
    let scene = each(Scene::new(libc::SYS_splice), &sources).long(64, 7).at(64);
    assert_eq!(each(scene, &writing).value(0).value(300).value(0).agree(), 300);
    let scene = each(each(Scene::new(libc::SYS_tee), &reading), &other_writing);
    assert_eq!(scene.value(1000).value(0).agree(), 300);
    let scene = each(Scene::new(libc::SYS_splice), &other_reading).value(0);
    assert_eq!(each(scene, &targets).long(64, 3).at(64).value(1000).value(0).agree(), 300);
    for number in [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs] {
        each(Scene::new(number), &targets).agree();
    }
    each(Scene::new(libc::SYS_fallocate), &targets).value(0).value(0).value(50_000).agree();
    each(Scene::new(libc::SYS_ftruncate), &targets).value(40_000).agree();
    for (offset, whence) in [(0, 2), (-1, 0), (10, 1), (0, 3), (0, 4), (0, 9)] {
        each(Scene::new(libc::SYS_lseek), &targets).value(offset).value(whence).agree();
    }
    each(Scene::new(libc::SYS_fadvise64), &targets).value(0).value(100).value(4).agree();
    each(Scene::new(libc::SYS_readahead), &targets).value(0).value(100).agree();
    each(Scene::new(libc::SYS_sync_file_range), &targets).value(0).value(100).value(2).agree();
}

#[test]
fn watches() {
    let directory = tempfile::tempdir().unwrap();
    let watchers = own(Scene::new(libc::SYS_inotify_init1).value(libc::O_NONBLOCK).agree_on_descriptors());
    let watch = each(Scene::new(libc::SYS_inotify_add_watch), &watchers).path(10, directory.path());
    assert_eq!(watch.value(libc::IN_CREATE).agree(), 1);
    std::fs::write(directory.path().join("born"), b"").unwrap();
    for count in [8, 1000] {
        each(Scene::new(libc::SYS_read), &watchers).at(64).value(count).agree();
    }
    each(Scene::new(libc::SYS_inotify_rm_watch), &watchers).value(1).agree();
}

//! Sockets: names, options, data with addresses, and everything in the wrong state.

use crate::descriptors::own;
use crate::world::{SIZE, Scene};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, OwnedFd};

pub(crate) fn each(scene: Scene, [one, other]: &[OwnedFd; 2]) -> Scene {
    scene.each(one.as_raw_fd(), other.as_raw_fd())
}

/// A connected pair of UNIX sockets for each way.
pub(crate) fn pairs(kind: i32) -> [[OwnedFd; 2]; 2] {
    let make =
        Scene::new(libc::SYS_socketpair).value(libc::AF_UNIX).value(kind | libc::SOCK_NONBLOCK).value(0);
    let outcome = make.at(0).run();
    let number = |memory: &[u8], at: usize| i32::from_le_bytes(memory[at..at + 4].try_into().unwrap());
    [0, 4].map(|at| own((number(&outcome.direct_memory, at), number(&outcome.forwarded_memory, at))))
}

fn made(domain: i32, kind: i32) -> [OwnedFd; 2] {
    own(Scene::new(libc::SYS_socket)
        .value(domain)
        .value(kind | libc::SOCK_NONBLOCK)
        .value(0)
        .agree_on_descriptors())
}

/// `struct sockaddr_in` on the loopback, with any port.
const ANY_PORT: [u8; 16] = [2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A bound datagram socket and its address.
fn receiver() -> (std::net::UdpSocket, Vec<u8>) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut address = ANY_PORT.to_vec();
    address[2..4].copy_from_slice(&socket.local_addr().unwrap().port().to_be_bytes());
    (socket, address)
}

#[test]
fn names() {
    let sockets = made(libc::AF_INET, libc::SOCK_STREAM);
    let bind = each(Scene::new(libc::SYS_bind), &sockets).input(100, &ANY_PORT);
    for length in [-1, 0, 2, 15, 129, 1000] {
        assert!(bind.clone().value(length).agree() < 0);
    }
    assert_eq!(bind.value(16).agree(), 0);
    for number in [libc::SYS_getsockname, libc::SYS_getpeername] {
        for room in [0_u32, 1, 7, 16, 100, 5000, 1 << 31, u32::MAX] {
            // The ports differ.
            each(Scene::new(number), &sockets).at(100).word(300, room).at(300).blurred(102..104).agree();
        }
        each(Scene::new(number), &sockets).at(100).value(0).agree();
        each(Scene::new(number), &sockets).value(0).word(300, 16).at(300).agree();
        each(Scene::new(number), &sockets).at(SIZE).word(300, 16).at(300).agree();
        each(Scene::new(number), &sockets).at(100).at(SIZE).agree();
    }
    for number in [libc::SYS_accept, libc::SYS_accept4] {
        each(Scene::new(number), &sockets).at(100).word(300, 16).at(300).value(0).agree();
    }
    assert_eq!(each(Scene::new(libc::SYS_listen), &sockets).value(5).agree(), 0);
    each(Scene::new(libc::SYS_accept), &sockets).at(100).word(300, 16).at(300).agree();
    each(Scene::new(libc::SYS_shutdown), &sockets).value(2).agree();
}

#[test]
fn connections_are_made_and_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let address = |name: &str| {
        let mut bytes = vec![1, 0];
        bytes.extend(directory.path().join(name).into_os_string().into_encoded_bytes());
        bytes.push(0);
        bytes
    };
    let (one, other) = (address("one"), address("two"));
    let servers = made(libc::AF_UNIX, libc::SOCK_STREAM);
    let length = one.len();
    let bind = each(Scene::new(libc::SYS_bind), &servers).each_input(100, &one, &other);
    assert_eq!(bind.value(length).agree(), 0);
    each(Scene::new(libc::SYS_listen), &servers).value(5).agree();
    for room in [0_u32, 2, 110] {
        let clients = made(libc::AF_UNIX, libc::SOCK_STREAM);
        let connect = each(Scene::new(libc::SYS_connect), &clients).each_input(100, &one, &other);
        assert_eq!(connect.value(length).agree(), 0);
        let accept = each(Scene::new(libc::SYS_accept4), &servers).at(100).word(300, room).at(300);
        let accepted = own(accept.value(libc::SOCK_CLOEXEC).agree_on_descriptors());
        for number in [libc::SYS_getsockname, libc::SYS_getpeername] {
            let blurred = 102..100 + length;
            each(Scene::new(number), &accepted).at(100).word(300, room).at(300).blurred(blurred).agree();
        }
    }
    let clients = made(libc::AF_UNIX, libc::SOCK_STREAM);
    let absent = address("absent");
    let connect = each(Scene::new(libc::SYS_connect), &clients).input(100, &absent).value(absent.len());
    assert_eq!(connect.agree(), -i64::from(libc::ENOENT));
}

#[test]
fn options() {
    let kinds = [
        (libc::AF_INET, libc::SOCK_STREAM),
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_STREAM),
    ];
    for (domain, kind) in kinds {
        let sockets = made(domain, kind);
        for level in [0, 1, 6, 17, 41, 255] {
            for option in 1..60 {
                let homeward = matches!((level, option), (1, 26) | (6, 35));
                // Numbers of sockets and clocks differ.
                let differs = matches!((level, option), (1, 49 | 56 | 57 | 71 | 77) | (6, 24)) || homeward;
                if differs {
                    continue;
                }
                for room in [0_u32, 3, 600] {
                    let get = each(Scene::new(libc::SYS_getsockopt), &sockets).value(level).value(option);
                    get.at(100).word(1000, room).at(1000).agree();
                }
            }
        }
        let set = |level: i32, option: i32| {
            each(Scene::new(libc::SYS_setsockopt), &sockets).value(level).value(option)
        };
        for option in
            [libc::SO_REUSEADDR, libc::SO_SNDBUF, libc::SO_RCVBUF, libc::SO_RCVTIMEO, libc::SO_LINGER, 9999]
        {
            for length in [-1, 0, 3, 4, 8, 16, 100] {
                set(libc::SOL_SOCKET, option)
                    .with(100, &[1, 0, 0, 0, 0, 0, 0, 0])
                    .at(100)
                    .value(length)
                    .agree();
            }
            set(libc::SOL_SOCKET, option).at(SIZE).value(4).agree();
            set(libc::SOL_SOCKET, option).value(0).value(4).agree();
            let get = each(Scene::new(libc::SYS_getsockopt), &sockets).value(libc::SOL_SOCKET).value(option);
            get.at(100).word(1000, 100).at(1000).agree();
        }
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY).word(100, 1).at(100).value(4).agree();
        set(libc::IPPROTO_IP, libc::IP_TTL).word(100, 9).at(100).value(4).agree();
    }
    let get = Scene::new(libc::SYS_getsockopt).value(0).value(1).value(4);
    assert_eq!(get.at(100).word(1000, 4).at(1000).agree(), -i64::from(libc::ENOTSOCK));
    let pair = &pairs(libc::SOCK_STREAM)[0];
    for option in [libc::SO_PEERCRED, libc::SO_PEERSEC, 59] {
        for room in [0_u32, 1, 12, 400] {
            let get = each(Scene::new(libc::SYS_getsockopt), pair).value(libc::SOL_SOCKET).value(option);
            get.at(100).word(1000, room).at(1000).agree();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn streams(sent in prop::collection::vec((0..SIZE - 30_000, 0..30_000_usize), 1..5),
               rooms in prop::collection::vec((0..SIZE, 0..50_000_usize), 1..8)) {
        let [ours, theirs] = pairs(libc::SOCK_STREAM);
        for (at, length) in sent {
            each(Scene::new(libc::SYS_sendto), &ours).at(at).value(length).value(libc::MSG_NOSIGNAL).value(0).value(0).agree();
        }
        for (at, room) in rooms {
            let receive = |flags: i32| {
                let scene = each(Scene::new(libc::SYS_recvfrom), &theirs).at(at).value(room).value(flags);
                scene.value(0).value(0)
            };
            // A faulting buffer may have taken bytes from the queue or not: only whole ones are compared.
            if at + room <= SIZE {
                receive(libc::MSG_PEEK).agree();
                receive(0).agree();
                receive(libc::MSG_TRUNC | libc::MSG_DONTWAIT).agree();
            }
        }
    }

    #[test]
    fn datagrams(length in 0..3000_usize, room in 0..4000_usize, address_room in 0..200_u32, flags in 0..4_usize) {
        let flags = [0, libc::MSG_PEEK, libc::MSG_TRUNC, libc::MSG_TRUNC | libc::MSG_PEEK][flags];
        let receivers = [receiver(), receiver()];
        let senders = made(libc::AF_INET, libc::SOCK_DGRAM);
        let [one, other] = receivers.each_ref().map(|(_, address)| address);
        let send = each(Scene::new(libc::SYS_sendto), &senders).at(5000).value(length).value(0);
        prop_assert_eq!(send.each_input(100, one, other).value(16).agree(), length as i64);
        let receivers = receivers.map(|(socket, _)| OwnedFd::from(socket));
        let receive = each(Scene::new(libc::SYS_recvfrom), &receivers).at(5000).value(room).value(flags);
        // The senders' ports differ.
        receive.at(100).blurred(102..104).word(300, address_room).at(300).agree();
    }
}

#[test]
fn sending_to_bad_addresses() {
    let (_keep, address) = receiver();
    let senders = made(libc::AF_INET, libc::SOCK_DGRAM);
    let send = || each(Scene::new(libc::SYS_sendto), &senders).at(5000).value(10).value(0);
    for length in [-1, 0, 1, 15, 16, 128, 129] {
        send().input(100, &address).value(length).agree();
    }
    send().at(SIZE).value(16).agree();
    send().value(0).value(16).agree();
    let scene = each(Scene::new(libc::SYS_sendto), &senders).at(SIZE).value(10).value(0).input(100, &address);
    assert_eq!(scene.value(16).agree(), -i64::from(libc::EFAULT));
    let large =
        each(Scene::new(libc::SYS_sendto), &senders).at(0).value(100_000).value(0).input(200_000, &address);
    assert_eq!(large.value(16).agree(), -i64::from(libc::EMSGSIZE));
}

#[test]
fn what_tcp_throws_away_is_not_written() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connections = [(); 2].map(|()| {
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[7; 100]).unwrap();
        (client, OwnedFd::from(listener.accept().unwrap().0))
    });
    let servers = connections.each_ref().map(|(_, server)| server.try_clone().unwrap());
    let receive = |flags: i32| {
        let scene = each(Scene::new(libc::SYS_recvfrom), &servers).at(64).value(40).value(flags);
        scene.value(0).value(0).agree()
    };
    assert_eq!(receive(libc::MSG_PEEK), 40);
    assert_eq!(receive(libc::MSG_TRUNC), 40);
    assert_eq!(receive(0), 40);
    assert_eq!(receive(libc::MSG_DONTWAIT), 20);
    assert_eq!(receive(libc::MSG_DONTWAIT), -i64::from(libc::EAGAIN));
}

//! `struct msghdr` and its kin: names, vectors, control data, descriptors that travel.

use crate::sockets::{each, pairs};
use crate::world::{SIZE, Scene};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Where things are: header, vector, control data, name, buffers.
const HEADER: usize = 64;
const VECTOR: usize = 4096;
const CONTROL: usize = 8192 + 8;
const NAME: usize = 12_288;

/// A message whose parts lie at the usual places, shifted.
fn message(
    scene: Scene,
    shift: usize,
    header: usize,
    buffers: &[(usize, usize)],
    control: Option<usize>,
) -> Scene {
    let mut scene = scene.long(header, 0).long(header + 8, 0).long(header + 48, 0x5555_5555_0000_0000);
    scene = scene.link(header + 16, VECTOR + shift).long(header + 24, buffers.len() as u64);
    scene = match control {
        Some(room) => scene.link(header + 32, CONTROL + shift).long(header + 40, room as u64),
        None => scene.long(header + 32, 0).long(header + 40, 0),
    };
    for (index, (at, length)) in buffers.iter().enumerate() {
        let element = VECTOR + shift + 16 * index;
        scene = scene.link(element, *at).long(element + 8, *length as u64);
    }
    scene
}

/// SCM_RIGHTS control data.
fn rights(descriptors: &[i32]) -> Vec<u8> {
    let mut control = Vec::new();
    control.extend((16 + 4 * descriptors.len() as u64).to_le_bytes());
    control.extend(libc::SOL_SOCKET.to_le_bytes());
    control.extend(libc::SCM_RIGHTS.to_le_bytes());
    control.extend(descriptors.iter().flat_map(|descriptor| descriptor.to_le_bytes()));
    control.resize(control.len().next_multiple_of(8), 0);
    control
}

fn buffers() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((20_000..SIZE - 5000, 0..4000_usize), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn one_message(
        kind in prop::sample::select(&[libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET][..]),
        sent in buffers(), received in buffers(), count in 0..4_usize, room in 0..80_usize, flags in 0..4_usize,
    ) {
        let flags = [0, libc::MSG_PEEK, libc::MSG_TRUNC, libc::MSG_CMSG_CLOEXEC][flags];
        let [ours, theirs] = pairs(kind);
        let file = tempfile::tempfile().unwrap();
        let control = rights(&vec![file.as_raw_fd(); count]);
        let mut send = message(each(Scene::new(libc::SYS_sendmsg), &ours), 0, HEADER, &sent, None);
        if count > 0 {
            send = message(each(Scene::new(libc::SYS_sendmsg), &ours), 0, HEADER, &sent, Some(16 + 4 * count));
            send = send.with(CONTROL, &control);
        }
        send.at(HEADER).value(libc::MSG_NOSIGNAL).agree();
        let receive = message(each(Scene::new(libc::SYS_recvmsg), &theirs), 0, HEADER, &received, Some(room));
        let receive = receive.at(HEADER).value(flags);
        // The numbers of received descriptors differ; `taken` looks at them.
        let outcome = receive.clone().blurred(CONTROL + 16..CONTROL + 16 + 4 * count).run();
        prop_assert_eq!(outcome.direct, outcome.forwarded);
        if outcome.direct >= 0 {
            let length = |memory: &[u8]| memory[HEADER + 40..HEADER + 56].to_vec();
            prop_assert_eq!(length(&outcome.direct_memory), length(&outcome.forwarded_memory));
        }
        prop_assert!(outcome.direct_memory == outcome.forwarded_memory);
    }

    #[test]
    fn several_messages(
        lengths in prop::collection::vec(0..3000_usize, 1..8), rooms in prop::collection::vec(0..3000_usize, 1..8),
        truncate in any::<bool>(),
    ) {
        let [ours, theirs] = pairs(libc::SOCK_DGRAM);
        let all = |number, sockets: &[OwnedFd; 2], lengths: &[usize]| {
            let mut scene = each(Scene::new(number), sockets);
            for (index, length) in lengths.iter().enumerate() {
                let buffers = [(30_000 + 4000 * index, length / 2), (70_000 + 4001 * index, length - length / 2)];
                scene = message(scene, 64 * index, HEADER + 64 * index, &buffers, None);
            }
            scene.at(HEADER).value(lengths.len())
        };
        all(libc::SYS_sendmmsg, &ours, &lengths).value(0).agree();
        let flags = libc::MSG_DONTWAIT | if truncate { libc::MSG_TRUNC } else { 0 };
        all(libc::SYS_recvmmsg, &theirs, &rooms).value(flags).value(0).agree();
        all(libc::SYS_recvmmsg, &theirs, &rooms).value(flags).long(8, 1).long(16, 0).at(8).blurred(8..24).agree();
    }
}

#[test]
#[allow(unsafe_code)]
fn descriptors_travel() {
    let [ours, theirs] = pairs(libc::SOCK_STREAM);
    let file = tempfile::tempfile().unwrap();
    let control = rights(&[file.as_raw_fd(), file.as_raw_fd()]);
    let send = message(each(Scene::new(libc::SYS_sendmsg), &ours), 0, HEADER, &[(20_000, 5)], Some(24));
    assert_eq!(send.with(CONTROL, &control).at(HEADER).value(0).agree(), 5);
    let receive =
        message(each(Scene::new(libc::SYS_recvmsg), &theirs), 0, HEADER, &[(20_000, 100)], Some(64));
    let outcome = receive.at(HEADER).value(0).run();
    assert_eq!((outcome.direct, outcome.forwarded), (5, 5));
    for memory in [&outcome.direct_memory, &outcome.forwarded_memory] {
        assert_eq!(memory[HEADER + 40..HEADER + 48], 24_u64.to_le_bytes());
        for at in [16, 20] {
            let number = i32::from_le_bytes(memory[CONTROL + at..CONTROL + at + 4].try_into().unwrap());
            // SAFETY: the kernel has just made it for this test.
            let received = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(number) });
            use std::os::unix::fs::MetadataExt;
            assert_eq!(received.metadata().unwrap().ino(), file.metadata().unwrap().ino());
        }
        assert_eq!(memory[CONTROL + 24..CONTROL + 64], outcome.direct_memory[CONTROL + 24..CONTROL + 64]);
    }
}

#[test]
fn names_of_senders() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = std::os::unix::net::UnixDatagram::bind(directory.path().join("receiver")).unwrap();
    let sender = std::os::unix::net::UnixDatagram::bind(directory.path().join("sender")).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let mut address = vec![1, 0];
    address.extend(directory.path().join("receiver").into_os_string().into_encoded_bytes());
    for room in [0_u32, 1, 20, 110, 128, 200, 1 << 31] {
        let send =
            message(Scene::new(libc::SYS_sendmsg).value(sender.as_raw_fd()), 0, HEADER, &[(20_000, 5)], None);
        let send = send.link(HEADER, NAME).word(HEADER + 8, address.len() as u32).with(NAME, &address);
        assert_eq!(send.at(HEADER).value(0).agree(), 5);
        let receive = Scene::new(libc::SYS_recvmsg).value(receiver.as_raw_fd());
        let receive =
            message(receive, 0, HEADER, &[(20_000, 3)], None).link(HEADER, NAME).word(HEADER + 8, room);
        receive.at(HEADER).value(0).agree();
    }
    // An address longer than any: the kernel cuts it. A negative length it refuses.
    for length in [129_u32, 1000, u32::MAX] {
        let send =
            message(Scene::new(libc::SYS_sendmsg).value(sender.as_raw_fd()), 0, HEADER, &[(20_000, 5)], None);
        let send = send.link(HEADER, NAME).word(HEADER + 8, length).with(NAME, &address);
        send.at(HEADER).value(0).agree();
    }
}

#[test]
fn broken_messages() {
    for number in [libc::SYS_sendmsg, libc::SYS_recvmsg] {
        let [ours, _theirs] = pairs(libc::SOCK_DGRAM);
        let whole =
            || message(each(Scene::new(number), &ours), 0, HEADER, &[(20_000, 5), (21_000, 5)], Some(64));
        each(Scene::new(number), &ours).value(0).value(0).agree();
        each(Scene::new(number), &ours).at(SIZE).value(0).agree();
        each(Scene::new(number), &ours).at(SIZE - 30).value(0).agree_unless_homeward();
        for count in [1025, 1 << 40, u64::MAX] {
            whole().long(HEADER + 24, count).at(HEADER).value(0).agree();
        }
        for address in [0, 8, 1 << 47, u64::MAX] {
            whole().long(HEADER + 64, 0).at(HEADER).value(0).agree();
            let scene = message(each(Scene::new(number), &ours), 0, 2048, &[(20_000, 5)], None);
            let scene = scene.long(2048 + 24, 1).at(2048).value(0);
            scene.clone().long(2048, address).long(2048 + 8, 16).agree();
            scene.clone().long(2048 + 32, address).long(2048 + 40, 64).agree();
        }
        for room in [1 << 20, 1 << 31, u64::MAX] {
            let refused = whole().long(HEADER + 40, room).at(HEADER).value(0);
            match refused.forward() {
                Ok((result, ..)) => assert_eq!(result, refused.direct().0),
                Err(refusal) => assert!(matches!(refusal, minka_syscalls::marshal::Refusal::Homeward(_))),
            }
        }
    }
    for number in [libc::SYS_sendmmsg, libc::SYS_recvmmsg] {
        let [ours, _theirs] = pairs(libc::SOCK_DGRAM);
        for count in [0, 1, 1025, 1 << 31] {
            each(Scene::new(number), &ours).at(SIZE).value(count).value(libc::MSG_DONTWAIT).value(0).agree();
            each(Scene::new(number), &ours).value(0).value(count).value(libc::MSG_DONTWAIT).value(0).agree();
        }
    }
}

#[test]
fn arrays_of_messages_that_end_in_bad_memory() {
    for readable in [0, 1, 2] {
        let [ours, _theirs] = pairs(libc::SOCK_DGRAM);
        let at = SIZE - 64 * readable;
        let mut send = each(Scene::new(libc::SYS_sendmmsg), &ours);
        for index in 0..readable {
            send = message(send, 64 * index, at + 64 * index, &[(30_000, 100)], None);
        }
        let result = send.at(at).value(3).value(0).agree();
        assert_eq!(result, if readable == 0 { -i64::from(libc::EFAULT) } else { readable as i64 });
    }
}

#[test]
fn more_messages_than_any_vector_has() {
    let [ours, theirs] = pairs(libc::SOCK_DGRAM);
    for _ in 0..3 {
        each(Scene::new(libc::SYS_write), &ours).at(100).value(30).agree();
    }
    let mut receive = each(Scene::new(libc::SYS_recvmmsg), &theirs).with(HEADER + 1500 * 64, &[0; 64]);
    for index in 0..1500 {
        // All refer to the same buffer, which lies where no header is.
        receive = receive.with(HEADER + 64 * index, &[0; 64]).link(HEADER + 64 * index + 16, 200_000);
        receive = receive.long(HEADER + 64 * index + 24, 1);
    }
    let receive = receive.link(200_000, 210_000).long(200_008, 100).at(HEADER).value(1500);
    assert_eq!(receive.value(libc::MSG_DONTWAIT).value(0).agree(), 3);
}

#[test]
fn as_many_messages_as_fit() {
    let [ours, theirs] = pairs(libc::SOCK_DGRAM);
    for _ in 0..4 {
        each(Scene::new(libc::SYS_write), &ours).at(100).value(3000).agree();
    }
    let mut receive = each(Scene::new(libc::SYS_recvmmsg), &theirs);
    for index in 0..4 {
        receive =
            message(receive, 64 * index, HEADER + 64 * index, &[(30_000 + 50_000 * index, 50_000)], None);
    }
    let receive = receive.at(HEADER).value(4).value(libc::MSG_DONTWAIT).value(0);
    let (result, memory, requests) = receive.clone().area(150_000).forward().unwrap();
    assert_eq!((result, requests), (2, 1), "two messages fit");
    assert_eq!(memory[HEADER + 56..HEADER + 60], 3000_u32.to_le_bytes());
    assert_eq!(receive.direct().0, 4);
}

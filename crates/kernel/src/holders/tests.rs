use super::*;
use crate::shared::{Shared, memfd};
use minka_image::holders::{Look, is_all};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

const PAGE: usize = 4096;

/// What there is of this process, if the kernel lets us count.
fn look() -> Option<Look> {
    let holders = match holders() {
        Ok(holders) => holders,
        Err(error) => {
            println!("not looked at, as this system does not allow it: {error:?}");
            return None;
        }
    };
    let own = std::process::id().cast_signed();
    let mappings = holders.mappings(own).expect("mappings");
    let descriptors = holders.descriptors(own).expect("descriptors");
    Some(Look { mappings, descriptors, again: holders.mappings(own).expect("mappings once more") })
}

fn inode_at(look: &Look, start: usize) -> u64 {
    look.mappings.iter().find(|mapped| mapped.start == start as u64).expect("the mapping").held.inode
}

fn start_of(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("its maps");
    let line = maps.lines().find(|line| line.contains(name)).expect("the mapping");
    usize::from_str_radix(line.split('-').next().expect("an address"), 16).expect("an address")
}

/// Puts a descriptor under way.
fn send(socket: &UnixStream, descriptor: i32) {
    let mut byte = [1u8];
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 3];
    // SAFETY: `msghdr` is plain data, all of whose pointers lead to what lives over the call; the control data is one
    // header of eight-byte alignment with one descriptor.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(descriptor);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, 1);
}

#[test]
fn every_holder_is_counted() {
    let memory = memfd(c"holders", PAGE).expect("a memfd");
    let _shared = Shared::map(memory.as_fd(), PAGE).expect("map it");
    let start = start_of("memfd:holders");
    let Some(found) = look() else { return };
    let inode = inode_at(&found, start);
    assert!(is_all(&found, inode, 0));
    // One more descriptor, one more mapping, and another opening: all of them seen.
    let _copy = memory.try_clone().expect("a copy");
    let _again = Shared::map(memory.as_fd(), PAGE).expect("map it again");
    let _other = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).expect("open it again");
    assert!(look().is_some_and(|found| is_all(&found, inode, 0)));
    // Whoever watches has the inode.
    if let Ok(door) = crate::door::Door::new() {
        door.put_before(memory.as_fd()).expect("put a door before it");
        let with_door = look().expect("who has it");
        assert!(is_all(&with_door, inode, 1) && !is_all(&with_door, inode, 0));
    }
    // In a socket nobody sees it.
    let (one, other) = UnixStream::pair().expect("sockets");
    send(&one, memory.as_raw_fd());
    assert!(look().is_some_and(|found| !is_all(&found, inode, 0)));
    drop((one, other));
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        look().is_some_and(|found| is_all(&found, inode, 0))
    });
    assert!(gone, "what was under way is gone with the sockets");
}

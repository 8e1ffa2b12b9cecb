use super::*;
use crate::shared::{Shared, memfd};
use minka_image::holders::{Besides, Look, is_all};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

const PAGE: usize = 4096;

const NONE: Besides = Besides { watchers: 0, is_in_memory: false };

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
    assert!(is_all(&found, inode, NONE));
    // One more descriptor, one more mapping, and another opening: all of them seen.
    let _copy = memory.try_clone().expect("a copy");
    let _again = Shared::map(memory.as_fd(), PAGE).expect("map it again");
    let _other = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).expect("open it again");
    assert!(look().is_some_and(|found| is_all(&found, inode, NONE)));
    // Whoever watches has the inode.
    if let Ok(door) = crate::door::Door::new() {
        door.put_before(memory.as_fd()).expect("put a door before it");
        let with_door = look().expect("who has it");
        assert!(
            is_all(&with_door, inode, Besides { watchers: 1, ..NONE }) && !is_all(&with_door, inode, NONE)
        );
    }
    // In a socket nobody sees it.
    let (one, other) = UnixStream::pair().expect("sockets");
    send(&one, memory.as_raw_fd());
    assert!(look().is_some_and(|found| !is_all(&found, inode, NONE)));
    drop((one, other));
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        look().is_some_and(|found| is_all(&found, inode, NONE))
    });
    assert!(gone, "what was under way is gone with the sockets");
}

/// A file with a name, mapped by us and nobody else.
fn check_named(directory: &std::path::Path, is_in_memory: bool) {
    let path = directory.join(format!("minka-holders-{}", std::process::id()));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    let file = options.open(&path).expect("make a file");
    file.set_len(PAGE as u64).expect("as long as a page");
    let _shared = Shared::map(file.as_fd(), PAGE).expect("map it");
    let start = start_of(path.to_str().expect("text"));
    let besides = Besides { is_in_memory, ..NONE };
    let is_ours = |besides| look().is_none_or(|found| is_all(&found, inode_at(&found, start), besides));
    let is_known = is_ours(besides);
    let again = File::open(&path).expect("open it again");
    let is_known_twice = is_ours(besides);
    let (one, other) = UnixStream::pair().expect("sockets");
    send(&one, again.as_raw_fd());
    drop(again);
    let is_not_known = look().is_none_or(|found| !is_all(&found, inode_at(&found, start), besides));
    drop((one, other));
    std::fs::remove_file(&path).expect("take its name away");
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        is_ours(besides)
    });
    assert!(is_known && is_known_twice && is_not_known && gone, "{}", path.display());
}

#[test]
fn holders_of_what_has_a_name_are_counted() {
    check_named(std::path::Path::new("/dev/shm"), true);
    // Which lies on a disk.
    check_named(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), false);
}

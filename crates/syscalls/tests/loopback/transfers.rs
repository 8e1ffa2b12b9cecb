//! Reads and writes of all kinds, whole, in pieces and with bad buffers.

use crate::world::{AREA, SIZE, Scene};
use proptest::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

/// Two files with the same content, one for each way.
fn twins(content: &[u8]) -> [File; 2] {
    [(); 2].map(|()| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    })
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn whole(file: &mut File) -> (u64, Vec<u8>) {
    let position = file.stream_position().unwrap();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (position, bytes)
}

fn assert_same([one, other]: &mut [File; 2]) {
    assert!(whole(one) == whole(other), "files differ afterwards");
}

/// One element of an I/O vector: where it is and how long.
fn element() -> impl Strategy<Value = (usize, u64)> {
    prop_oneof![
        8 => (0..SIZE - 40_000, 0..20_000_u64),
        2 => (0..SIZE, Just(0_u64)),
        // Up to the edge, across it, and beyond it.
        1 => (SIZE - 9000..SIZE + 4000, 0..20_000_u64),
        1 => (Just(SIZE + 64), 1..5_000_u64),
    ]
}

fn with_vector(mut scene: Scene, at: usize, elements: &[(usize, u64)]) -> Scene {
    for (index, (offset, length)) in elements.iter().enumerate() {
        scene = scene.link(at + 16 * index, *offset).long(at + 16 * index + 8, *length);
    }
    scene
}

/// Whether an element reaches over the edge of the usable memory: then the kernel may do a part, and the guest is
/// sent home rather than approximated.
fn crosses((offset, length): &(usize, u64)) -> bool {
    *offset < SIZE && *offset + *length as usize > SIZE
}

/// The array of elements lies here, out of the way of random buffers.
const VECTOR: usize = SIZE - 20_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn read(size in 0..50_000_usize, start in 0..60_000_u64, count in 0..80_000_u64, at in 0..SIZE + 100) {
        let mut files = twins(&content(size));
        for file in &mut files {
            file.seek(SeekFrom::Start(start)).unwrap();
        }
        let [one, other] = [&files[0], &files[1]].map(AsRawFd::as_raw_fd);
        Scene::new(libc::SYS_read).each(one, other).at(at).raw_value(count).agree();
        assert_same(&mut files);
    }

    #[test]
    fn pread(size in 0..50_000_usize, start in -5..60_000_i64, count in 0..80_000_u64, at in 0..SIZE + 100) {
        let files = twins(&content(size));
        Scene::new(libc::SYS_pread64).value(files[0].as_raw_fd()).at(at).raw_value(count).value(start).agree();
    }

    #[test]
    fn write(count in 0..80_000_u64, at in 0..SIZE - 80_000, start in 0..100_u64) {
        let mut files = twins(&content(10));
        for file in &mut files {
            file.seek(SeekFrom::Start(start)).unwrap();
        }
        let [one, other] = [&files[0], &files[1]].map(AsRawFd::as_raw_fd);
        Scene::new(libc::SYS_write).each(one, other).at(at).raw_value(count).agree();
        Scene::new(libc::SYS_pwrite64).each(one, other).at(at).raw_value(count).raw_value(start * 3).agree();
        assert_same(&mut files);
    }

    #[test]
    fn pieces(size in 0..200_000_usize, area in 12_000..60_000_usize, start in 0..1000_u64, count in 0..200_000_u64) {
        let mut files = twins(&content(size));
        let [one, other] = [&files[0], &files[1]].map(AsRawFd::as_raw_fd);
        let scene = |number| Scene::new(number).each(one, other).at(77).raw_value(count).area(area).continued();
        scene(libc::SYS_read).agree();
        scene(libc::SYS_pread64).raw_value(start).agree();
        scene(libc::SYS_write).agree();
        scene(libc::SYS_pwrite64).raw_value(start).agree();
        assert_same(&mut files);
    }

    #[test]
    fn vectors(
        size in 0..50_000_usize,
        elements in prop::collection::vec(element(), 0..12),
        start in 0..60_000_i64,
        area in prop_oneof![Just(AREA), 12_000..60_000_usize],
    ) {
        let mut files = twins(&content(size));
        let [one, other] = [&files[0], &files[1]].map(AsRawFd::as_raw_fd);
        let scene = |number| {
            let scene = with_vector(Scene::new(number), VECTOR, &elements).each(one, other);
            scene.at(VECTOR).value(elements.len()).area(area).continued()
        };
        scene(libc::SYS_readv).agree();
        scene(libc::SYS_preadv).value(start).agree();
        scene(libc::SYS_preadv2).value(start).value(0).value(0).agree();
        scene(libc::SYS_preadv2).value(-1).value(0).value(0).agree();
        if !elements.iter().any(crosses) {
            scene(libc::SYS_writev).agree();
            scene(libc::SYS_pwritev).value(start).agree();
            scene(libc::SYS_pwritev2).value(start).value(0).value(0).agree();
            scene(libc::SYS_pwritev2).value(-1).value(0).value(0).agree();
        }
        assert_same(&mut files);
    }
}

#[test]
fn large_read_takes_several_requests() {
    let files = twins(&content(200_000));
    let scene = Scene::new(libc::SYS_pread64).value(files[0].as_raw_fd()).at(5).value(200_000).value(0);
    let outcome = scene.area(64 * 1024).continued().run();
    assert_eq!((outcome.direct, outcome.forwarded, outcome.requests), (200_000, 200_000, 4));
    assert!(outcome.direct_memory == outcome.forwarded_memory);
}

#[test]
fn bad_descriptors_and_bad_buffers_fail_in_the_kernels_order() {
    let wild = [0, 1, 0x7fff_ffff_f000, 1 << 47, 1 << 63, u64::MAX];
    for number in [libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev] {
        let file = tempfile::tempfile().unwrap();
        for fd in [-1, file.as_raw_fd()] {
            for address in wild {
                for count in [0, 1, 5000] {
                    Scene::new(number).value(fd).raw_value(address).value(count).agree();
                }
            }
            Scene::new(number).value(fd).at(SIZE).value(1).agree();
        }
    }
    for number in [libc::SYS_readv, libc::SYS_writev] {
        let file = tempfile::tempfile().unwrap();
        for count in [1025, u64::MAX, 1 << 33] {
            Scene::new(number).value(file.as_raw_fd()).at(0).raw_value(count).agree();
        }
        for count in [1, 2] {
            let scene =
                Scene::new(number).value(file.as_raw_fd()).at(0).value(count).link(0, 64).link(16, 64);
            scene.clone().long(8, 3).long(24, u64::MAX).agree();
            scene.clone().long(8, u64::MAX).long(24, 3).agree();
            if number == libc::SYS_readv {
                scene.clone().long(8, 1 << 40).long(24, 3).agree();
                scene.clone().long(8, i64::MAX as u64).long(24, 3).agree();
            }
        }
    }
    Scene::new(libc::SYS_read).value(-1).at(0).raw_value(u64::MAX).agree();
}

#[test]
fn a_read_into_unwritable_memory_leaves_the_pipe_full() {
    let mut ends = [0; 2];
    let (result, memory) = Scene::new(libc::SYS_pipe).at(0).direct();
    assert_eq!(result, 0);
    for (end, bytes) in ends.iter_mut().zip(memory.chunks(4)) {
        *end = i32::from_le_bytes(bytes.try_into().unwrap());
    }
    assert_eq!(Scene::new(libc::SYS_write).value(ends[1]).input(0, b"kept").value(4).direct().0, 4);
    let (result, ..) = Scene::new(libc::SYS_read).value(ends[0]).at(SIZE).value(4).forward().unwrap();
    assert_eq!(result, -i64::from(libc::EFAULT));
    let (result, memory, _) = Scene::new(libc::SYS_read).value(ends[0]).at(8).value(100).forward().unwrap();
    assert_eq!((result, &memory[8..12]), (4, &b"kept"[..]));
}

#[test]
fn input_that_ends_in_bad_memory_sends_the_guest_home() {
    use minka_syscalls::marshal::{Reason, Refusal};
    let file = tempfile::tempfile().unwrap();
    let refusal = Scene::new(libc::SYS_write).value(file.as_raw_fd()).at(SIZE - 10).value(20).forward();
    assert_eq!(refusal.unwrap_err(), Refusal::Homeward(Reason::PartlyReadable("write")));
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn direct_io_sees_the_alignment_of_the_guest() {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, content(16384)).unwrap();
    let Ok(file) = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path) else {
        eprintln!("skipped: no direct I/O on this file system");
        return;
    };
    for offset in [0, 512, 4096, 4096 + 512, 100, 1] {
        for count in [512, 4096, 8192, 100] {
            Scene::new(libc::SYS_pread64).value(file.as_raw_fd()).at(offset).value(count).value(0).agree();
        }
    }
}

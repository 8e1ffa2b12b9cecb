//! What files are asked and told: status, times, extended attributes, directory entries, handles.

use crate::world::{SIZE, Scene};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![7; 12_345]).unwrap();
    std::os::unix::fs::symlink("some/where/else", directory.path().join("link")).unwrap();
    (directory, path)
}

#[test]
fn status() {
    let (directory, path) = directory();
    let file = File::open(&path).unwrap();
    let parent = File::open(directory.path()).unwrap();
    for name in ["file", "link", "missing", ""] {
        let path = directory.path().join(name);
        assert!(Scene::new(libc::SYS_stat).path(10, &path).at(5000).agree() <= 0);
        Scene::new(libc::SYS_lstat).path(10, &path).at(5000).agree();
        // Free blocks and files move.
        Scene::new(libc::SYS_statfs).path(10, &path).at(5000).blurred(5024..5056).agree();
        let at = |number| {
            let bytes = [name.as_bytes(), b"\0"].concat();
            Scene::new(number).value(parent.as_raw_fd()).input(10, &bytes)
        };
        for flags in [0, libc::AT_SYMLINK_NOFOLLOW, libc::AT_EMPTY_PATH, 1] {
            at(libc::SYS_newfstatat).at(5000).value(flags).agree();
            at(libc::SYS_statx).value(flags).value(libc::STATX_BASIC_STATS).at(5000).agree();
            at(libc::SYS_statx).value(flags).value(0xfff).at(5001).agree();
            at(libc::SYS_faccessat2).value(libc::R_OK).value(flags).agree();
        }
        at(libc::SYS_faccessat).value(libc::X_OK).agree();
        for size in [-1, 0, 1, 5, 15, 16, 4096, 1_000_000] {
            at(libc::SYS_readlinkat).at(5000).value(size).agree();
            Scene::new(libc::SYS_readlink).path(10, &path).at(6000).value(size).agree();
        }
    }
    Scene::new(libc::SYS_fstat).value(file.as_raw_fd()).at(5000).agree();
    Scene::new(libc::SYS_fstat).value(file.as_raw_fd()).at(SIZE - 20).agree();
    Scene::new(libc::SYS_fstat).value(-1).at(SIZE).agree();
    Scene::new(libc::SYS_fstat).value(file.as_raw_fd()).value(0).agree();
    Scene::new(libc::SYS_fstatfs).value(file.as_raw_fd()).at(5000).blurred(5024..5056).agree();
}

#[test]
fn times() {
    let (_directory, path) = directory();
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let times = words(&[1_000_000, 500, 2_000_000, 600]);
    let told = || {
        let data = path.metadata().unwrap();
        (data.atime(), data.atime_nsec(), data.mtime(), data.mtime_nsec())
    };
    let reset =
        || Scene::new(libc::SYS_utimensat).value(libc::AT_FDCWD).path(10, &path).value(0).value(0).direct();
    for nanoseconds in [500_000_000, 1_000_000_000, libc::UTIME_OMIT as u64] {
        reset();
        let times = words(&[1_000_000, nanoseconds, 2_000_000, 600]);
        Scene::new(libc::SYS_utimensat)
            .value(libc::AT_FDCWD)
            .path(10, &path)
            .input(6000, &times)
            .value(0)
            .agree();
        if nanoseconds < 1_000_000_000 {
            assert_eq!(told(), (1_000_000, nanoseconds as i64, 2_000_000, 600));
        }
    }
    reset();
    assert_eq!(Scene::new(libc::SYS_utimes).path(10, &path).input(6000, &times).agree(), 0);
    assert_eq!(told(), (1_000_000, 500_000, 2_000_000, 600_000));
    reset();
    assert_eq!(Scene::new(libc::SYS_futimesat).value(-100).path(10, &path).input(6000, &times).agree(), 0);
    assert_eq!(told(), (1_000_000, 500_000, 2_000_000, 600_000));
    assert_eq!(Scene::new(libc::SYS_utime).path(10, &path).input(6000, &words(&[77, 88])).agree(), 0);
    assert_eq!(told(), (77, 0, 88, 0));
    Scene::new(libc::SYS_utime).path(10, &path).at(SIZE - 8).agree();
    Scene::new(libc::SYS_utime).path(10, &path).value(0).agree();
}

#[test]
fn extended_attributes() {
    let (_directory, path) = directory();
    let file = File::open(&path).unwrap();
    let name = |scene: Scene, name: &[u8]| scene.input(5000, name);
    let one = b"user.minka\0".as_slice();
    let set =
        name(Scene::new(libc::SYS_setxattr).path(10, &path), one).input(7000, b"a value").value(7).value(0);
    let result = set.agree();
    if result == -i64::from(libc::EOPNOTSUPP) {
        eprintln!("skipped: no user attributes on this file system; only the error was compared");
    }
    for attribute in [one, b"user.missing\0", b"\0", &[b'x'; 300]] {
        for size in [0, 1, 7, 8, 65536, 65537, 1_i64 << 40] {
            let by_path = |number| name(Scene::new(number).path(10, &path), attribute).at(9000).value(size);
            by_path(libc::SYS_getxattr).agree();
            by_path(libc::SYS_lgetxattr).agree();
            let by_file = name(Scene::new(libc::SYS_fgetxattr).value(file.as_raw_fd()), attribute);
            by_file.at(9000).value(size).agree();
        }
    }
    for size in [0, 1, 100, 70_000] {
        Scene::new(libc::SYS_listxattr).path(10, &path).at(9000).value(size).agree();
        Scene::new(libc::SYS_llistxattr).path(10, &path).at(9000).value(size).agree();
        Scene::new(libc::SYS_flistxattr).value(file.as_raw_fd()).at(9000).value(size).agree();
        Scene::new(libc::SYS_listxattr).path(10, &path).value(0).value(size).agree();
    }
    for size in [65_536, 65_537, 1 << 30] {
        name(Scene::new(libc::SYS_fsetxattr).value(file.as_raw_fd()), one)
            .at(100_000)
            .value(size)
            .value(0)
            .agree();
    }
    name(Scene::new(libc::SYS_lsetxattr).path(10, &path), one).input(7000, b"x").value(1).value(99).agree();
    name(Scene::new(libc::SYS_removexattr).path(10, &path), b"user.none\0").agree();
    name(Scene::new(libc::SYS_lremovexattr).path(10, &path), b"user.none\0").agree();
    name(Scene::new(libc::SYS_fremovexattr).value(file.as_raw_fd()), b"user.none\0").agree();
}

/// Blanks what the kernel leaves alone between the end of a name and the next entry: the one place where the
/// marshaller knowingly writes more than the kernel.
fn blank_padding(memory: &mut [u8], at: usize, result: i64, number: i64) {
    let (mut entry, end) = (at, at + usize::try_from(result).unwrap_or(0));
    while entry < end {
        let size = usize::from(u16::from_le_bytes([memory[entry + 16], memory[entry + 17]]));
        let name = entry + if number == libc::SYS_getdents64 { 19 } else { 18 };
        let length = memory[name..].iter().position(|&byte| byte == 0).unwrap() + 1;
        let kind = memory[entry + size - 1];
        memory[name + length..entry + size].fill(0);
        if number == libc::SYS_getdents {
            memory[entry + size - 1] = kind;
        }
        entry += size;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn directory_entries(names in prop::collection::hash_set("[a-z]{1,60}", 0..120), size in 0..6000_i64, at in 0..SIZE - 6000) {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in &names {
            std::fs::write(directory.path().join(name), b"").unwrap();
        }
        for number in [libc::SYS_getdents64, libc::SYS_getdents] {
            let [one, other] = [(); 2].map(|()| File::open(directory.path()).unwrap());
            for _ in 0..3 {
                let mut outcome = Scene::new(number).each(one.as_raw_fd(), other.as_raw_fd()).at(at).value(size).run();
                prop_assert_eq!(outcome.direct, outcome.forwarded);
                blank_padding(&mut outcome.direct_memory, at, outcome.direct, number);
                blank_padding(&mut outcome.forwarded_memory, at, outcome.direct, number);
                prop_assert!(outcome.direct_memory == outcome.forwarded_memory);
            }
        }
    }
}

#[test]
fn handles() {
    let (directory, _) = directory();
    let parent = File::open(directory.path()).unwrap();
    for flags in [0, 1, libc::AT_EMPTY_PATH, 1 << 20] {
        for room in [0, 1, 8, 100, 128, 129, u32::MAX] {
            let scene =
                Scene::new(libc::SYS_name_to_handle_at).value(parent.as_raw_fd()).input(10, b"file\0");
            scene.word(5000, room).at(5000).at(6000).value(flags).agree();
        }
    }
    let scene = Scene::new(libc::SYS_name_to_handle_at).value(parent.as_raw_fd()).input(10, b"file\0");
    let (result, memory) = scene.word(5000, 128).at(5000).at(6000).value(0).direct();
    if result == 0 {
        let opening = Scene::new(libc::SYS_open_by_handle_at).value(parent.as_raw_fd());
        opening.input(5000, &memory[5000..5136]).value(libc::O_RDONLY).agree_on_descriptors();
    }
    Scene::new(libc::SYS_open_by_handle_at).value(-1).word(5000, 1000).at(5000).value(0).agree();
}

#[test]
fn newer_ways_to_ask() {
    let (directory, path) = directory();
    let parent = File::open(directory.path()).unwrap();
    let file = File::open(&path).unwrap();
    for size in [0, 20, 24, 100, 5000] {
        let at = |name| Scene::of(name).value(parent.as_raw_fd()).input(10, b"file\0");
        at("file_getattr").at(5000).value(size).value(0).agree();
        at("openat2").at(5000).value(size).agree();
    }
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let range = words(&[0, 8192]);
    let scene = Scene::of("cachestat").value(file.as_raw_fd()).input(100, &range);
    scene.at(200).value(0).agree();
    Scene::new(libc::SYS_fchmodat2)
        .value(parent.as_raw_fd())
        .input(10, b"file\0")
        .value(0o640)
        .value(0)
        .agree();
    let at = Scene::of("listxattrat").value(parent.as_raw_fd()).input(10, b"file\0").value(0);
    at.at(5000).value(1000).agree();
    let at = Scene::of("removexattrat").value(parent.as_raw_fd()).input(10, b"file\0").value(0);
    at.input(5000, b"user.none\0").agree();
    // The root of the mount tree, by its unique number.
    let (_, memory) =
        Scene::new(libc::SYS_statx).value(-100).input(10, b"/\0").value(0).value(0x4000).at(5000).direct();
    let mount = u64::from_le_bytes(memory[5144..5152].try_into().unwrap());
    for size in [0_u64, 23, 24, 32, 5000] {
        let request = words(&[size, mount, 0x3f, 0]);
        for room in [0, 100, 512, 20_000] {
            Scene::of("statmount").input(100, &request).at(8000).value(room).value(0).agree();
        }
        let request = words(&[size, u64::MAX, 0, 0]);
        for count in [0, 1, 1000] {
            Scene::of("listmount").input(100, &request).at(8000).value(count).value(0).agree();
        }
    }
}

//! What changes directories: random histories in two directories that must stay equal.

use crate::world::{SIZE, Scene};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tempfile::TempDir;

/// Two directories with the same content.
pub(crate) struct Twins {
    directories: [TempDir; 2],
    descriptors: [File; 2],
}

impl Twins {
    pub(crate) fn new() -> Self {
        let directories = [(); 2].map(|()| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        for directory in &directories {
            let path = directory.path();
            std::fs::write(path.join("file"), b"some content").unwrap();
            std::fs::create_dir(path.join("directory")).unwrap();
            std::fs::write(path.join("directory/inner"), b"inner").unwrap();
            std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        }
        let descriptors = directories.each_ref().map(|directory| File::open(directory).unwrap());
        Self { directories, descriptors }
    }

    /// The two directories as descriptors.
    fn each(&self, scene: Scene) -> Scene {
        scene.each(self.descriptors[0].as_raw_fd(), self.descriptors[1].as_raw_fd())
    }

    /// A name inside, as absolute path.
    fn path(&self, scene: Scene, offset: usize, name: &str) -> Scene {
        let [one, other] = self.directories.each_ref().map(|directory| {
            let mut bytes = directory.path().join(name).into_os_string().into_encoded_bytes();
            bytes.push(0);
            bytes
        });
        scene.each_input(offset, &one, &other)
    }

    fn assert_equal(&self) {
        let [one, other] = self.directories.each_ref().map(|directory| picture(directory.path()));
        assert_eq!(one, other);
    }
}

/// Names, kinds, modes, sizes, owners and link counts of everything below.
fn picture(path: &Path) -> Vec<(String, u32, u64, u32, u64)> {
    let mut all = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for name in names {
        let data = name.symlink_metadata().unwrap();
        let shown = name.file_name().unwrap().to_string_lossy().into_owned();
        let size = if data.is_dir() { 0 } else { data.size() };
        all.push((shown, data.mode(), size, data.uid(), data.nlink()));
        if data.is_dir() {
            all.extend(picture(&name));
        }
    }
    all
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "file",
        "directory",
        "directory/inner",
        "link",
        "new",
        "directory/new",
        "missing/new",
        "",
        "file/x",
    ];
    prop_oneof![
        20 => prop::sample::select(NAMES).prop_map(str::to_owned),
        1 => Just("x".repeat(255)),
        1 => Just("x".repeat(256)),
        1 => Just("y/".repeat(2047) + "z"),
        1 => Just("y/".repeat(3000)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    /// A call with one name.
    One(usize, String, u32),
    /// A call with two names.
    Two(usize, String, String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..16_usize, name(), 0..0o777_u32).prop_map(|(which, name, mode)| Step::One(which, name, mode)),
        2 => (0..6_usize, name(), name()).prop_map(|(which, one, other)| Step::Two(which, one, other)),
    ]
}

fn with_name(scene: Scene, offset: usize, name: &str) -> Scene {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    scene.input(offset, &bytes)
}

fn close([direct, forwarded]: [i64; 2]) {
    for descriptor in [direct, forwarded] {
        if descriptor >= 0 {
            Scene::new(libc::SYS_close).value(descriptor).direct();
        }
    }
}

fn make(twins: &Twins, step: &Step) {
    let owner = |scene: Scene| scene.raw_value(u64::from(u32::MAX)).raw_value(u64::from(u32::MAX));
    match step {
        Step::One(which, name, mode) => {
            let at = |number| with_name(twins.each(Scene::new(number)), 100, name);
            let path = |number| twins.path(Scene::new(number), 7000, name);
            let mode = i64::from(*mode);
            let opening = |scene: Scene| {
                let (direct, forwarded) = scene.agree_on_descriptors();
                close([direct.into(), forwarded.into()]);
            };
            match which {
                0 => drop(at(libc::SYS_mkdirat).value(mode | 0o700).agree()),
                1 => drop(path(libc::SYS_mkdir).value(mode | 0o700).agree()),
                2 => drop(at(libc::SYS_unlinkat).value(0).agree()),
                3 => drop(at(libc::SYS_unlinkat).value(libc::AT_REMOVEDIR).agree()),
                4 => drop(path(libc::SYS_unlink).agree()),
                5 => drop(path(libc::SYS_rmdir).agree()),
                6 => drop(at(libc::SYS_fchmodat).value(mode | 0o700).agree()),
                7 => drop(path(libc::SYS_chmod).value(mode | 0o700).agree()),
                8 => drop(owner(at(libc::SYS_fchownat)).value(libc::AT_SYMLINK_NOFOLLOW).agree()),
                9 => drop(owner(path(libc::SYS_lchown)).agree()),
                10 => drop(path(libc::SYS_truncate).value(mode).agree()),
                11 => drop(at(libc::SYS_mknodat).value(i64::from(libc::S_IFIFO) | 0o600).value(0).agree()),
                12 => opening(
                    at(libc::SYS_openat)
                        .value(libc::O_CREAT | libc::O_RDWR | libc::O_NONBLOCK)
                        .value(mode | 0o600),
                ),
                13 => opening(
                    path(libc::SYS_open)
                        .value(libc::O_CREAT | libc::O_EXCL | libc::O_RDWR)
                        .value(mode | 0o600),
                ),
                14 => {
                    let how = [libc::O_RDONLY as u64 | libc::O_NONBLOCK as u64, 0, mode as u64 & 0xf];
                    let bytes: Vec<u8> = how.iter().flat_map(|word| word.to_le_bytes()).collect();
                    opening(at(libc::SYS_openat2).input(16, &bytes).value(24));
                }
                _ => drop(path(libc::SYS_access).value(mode & 7).agree()),
            }
        }
        Step::Two(which, one, other) => {
            let at = |number| {
                let scene = with_name(twins.each(Scene::new(number)), 100, one);
                with_name(twins.each(scene), 8000, other)
            };
            let path = |number| twins.path(twins.path(Scene::new(number), 10_000, one), 20_000, other);
            match which {
                0 => drop(at(libc::SYS_renameat).agree()),
                1 => drop(at(libc::SYS_renameat2).value(libc::RENAME_NOREPLACE).agree()),
                2 => drop(path(libc::SYS_rename).agree()),
                3 => drop(at(libc::SYS_linkat).value(0).agree()),
                4 => drop(path(libc::SYS_link).agree()),
                _ => {
                    let scene = with_name(Scene::new(libc::SYS_symlinkat), 100, one);
                    with_name(twins.each(scene), 8000, other).agree();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn histories_are_the_same(steps in prop::collection::vec(step(), 1..25)) {
        let twins = Twins::new();
        for step in &steps {
            make(&twins, step);
        }
        twins.assert_equal();
    }
}

#[test]
fn paths_at_the_edge_of_memory() {
    for (name, fits) in [("file", true), ("file", false), ("directory/inner", true)] {
        let twins = Twins::new();
        let length = name.len() + usize::from(fits);
        let offset = SIZE - length;
        let scene = twins.each(Scene::new(libc::SYS_unlinkat));
        let bytes = [name.as_bytes(), b"\0"].concat();
        let result = scene.input(offset, &bytes[..length]).value(0).agree();
        assert_eq!(result, if fits { 0 } else { -i64::from(libc::EFAULT) });
        twins.assert_equal();
    }
    for address in [0, 8, 1 << 47, u64::MAX] {
        assert_eq!(Scene::new(libc::SYS_rmdir).raw_value(address).agree(), -i64::from(libc::EFAULT));
        // A bad flag is found before a bad address.
        let scene = Scene::new(libc::SYS_unlinkat).value(-1).raw_value(address).value(1 << 20);
        assert_eq!(scene.agree(), -i64::from(libc::EINVAL));
    }
}

#[test]
fn working_directories() {
    let twins = Twins::new();
    let before = std::env::current_dir().unwrap();
    let path = twins.directories[0].path().canonicalize().unwrap();
    let result = Scene::new(libc::SYS_chdir).path(64, &path).agree();
    assert_eq!(result, 0);
    for size in [0, 1, 10, path.as_os_str().len(), path.as_os_str().len() + 1, 4096, 100_000] {
        Scene::new(libc::SYS_getcwd).at(33).value(size).agree();
    }
    Scene::new(libc::SYS_getcwd).at(SIZE - 3).value(4096).agree();
    assert_eq!(twins.each(Scene::new(libc::SYS_fchdir)).agree(), 0);
    std::env::set_current_dir(before).unwrap();
}

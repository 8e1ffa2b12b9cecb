//! The other tests once more, without privilege, where the system allows it.
#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use support::{FIXTURE_VARIABLE, fixture};

/// The user that owns nothing.
const NOBODY: u32 = 65534;
/// With which the fixture says that user namespaces are forbidden.
const FORBIDDEN: i32 = 77;

/// Runs the tests of a test program beside this one as nobody.
fn run_as_nobody(name: &str) {
    let own = std::env::current_exe().unwrap();
    if minka_kernel::namespace::effective_user() != 0 {
        println!("not root: the other tests run without privilege anyway");
        return;
    }
    // Nobody may not look into every build directory.
    let base = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = |source: &Path| {
        let target = base.path().join(source.file_name().unwrap());
        fs::copy(source, &target).unwrap();
        target
    };
    let tests = copy(&newest(own.parent().unwrap(), name));
    let fixture = copy(Path::new(&fixture()));
    let as_nobody = |program: &Path| {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env_remove("XDG_RUNTIME_DIR");
        // Root's own may lead through directories that are closed to nobody.
        command.env("PATH", "/usr/bin:/bin");
        command
    };
    if as_nobody(&fixture).arg("user-namespace").status().unwrap().code() == Some(FORBIDDEN) {
        println!("this system forbids user namespaces");
        return;
    }
    let status = as_nobody(&tests).env(FIXTURE_VARIABLE, &fixture).arg("--test-threads=2").status().unwrap();
    assert!(status.success());
}

/// The test program of this name that was built last.
fn newest(directory: &Path, name: &str) -> std::path::PathBuf {
    let built = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of_name = built.filter(|path| {
        let stem = path.file_name().and_then(|file| file.to_str()).and_then(|file| file.rsplit_once('-'));
        stem.is_some_and(|(stem, hash)| stem == name && !hash.contains('.'))
    });
    of_name.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap()
}

#[test]
fn labs_need_no_privilege() {
    run_as_nobody("lab");
}

#[test]
fn terminals_need_no_privilege() {
    run_as_nobody("terminal");
}

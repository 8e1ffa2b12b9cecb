//! What the lab's tests share.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use minka_lab::{LabOptions, Lifetime};

/// Where the program that stands in for `minka` was copied to, if it was.
pub(crate) const FIXTURE_VARIABLE: &str = "MINKA_LAB_FIXTURE";

/// The program that stands in for `minka`.
pub(crate) fn fixture() -> String {
    std::env::var(FIXTURE_VARIABLE).unwrap_or_else(|_| env!("CARGO_BIN_EXE_minka-lab-fixture").to_owned())
}

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A place for one lab. Ends the lab that may still be there.
#[derive(Debug)]
pub(crate) struct Place {
    base: tempfile::TempDir,
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Short, as paths of sockets have to be.
        let base = tempfile::Builder::new().prefix("lab").tempdir_in("/tmp").unwrap();
        let directory = base.path().join("lab");
        Self { base, directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A lab of three nodes that ends with its handle.
    pub(crate) fn options(&self) -> LabOptions {
        LabOptions {
            directory: Some(self.directory.clone()),
            helper: fixture().into(),
            lifetime: Lifetime::Attached,
            ..LabOptions::named("test")
        }
    }

    /// No directory, no process that was started for this lab or has anything of it open, no mount.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.directory.exists(), "the directory is still there");
        let needle = self.base.path().display().to_string();
        let mentions = |path: PathBuf| {
            fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&needle))
        };
        for entry in fs::read_dir("/proc").unwrap() {
            let process = entry.unwrap().path();
            if process.file_name().is_some_and(|name| name == &*std::process::id().to_string()) {
                continue;
            }
            assert!(!mentions(process.join("cmdline")), "{} was started for the lab", process.display());
            assert!(!mentions(process.join("environ")), "{} is of the lab", process.display());
            assert!(!mentions(process.join("mountinfo")), "{} has its mounts", process.display());
            let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            for link in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
                assert!(!link.display().to_string().contains(&needle), "{} has {link:?}", process.display());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = minka_lab::Lab::down_in(&self.directory);
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal, by its name without SIG.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success());
}

//! `cargo xtask test`: everything that a change has to pass, the quick things first.
//!
//! ```text
//! packages ─► format ─► rules ─► lints ─► documentation tests ─► tests
//! ```
//!
//! The tests come last so that the runner's own closing lines end the output. What this machine has no tool for is
//! said right before them, and only that is left out.

use std::fs;
use std::path::Path;

use crate::command::{cargo, has_subcommand, program, succeed};
use crate::{Failure, check};

/// Installs what the tests run and the system lacks.
const INSTALLER: &str = "tests/install-packages";

/// The variable by which tests find the `minka` program.
const PROGRAM_VARIABLE: &str = "MINKA_BIN";

/// Runs all of it; the first step that fails is the last.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut absent = Vec::new();
    if root.join(INSTALLER).exists() {
        succeed(&mut program(root.join(INSTALLER), root))?;
    }
    if has_subcommand("fmt", root) {
        succeed(cargo(root).args(["fmt", "--all", "--check"]))?;
    } else {
        absent.push("rustfmt is not installed: the format was not checked");
    }
    check::run(root)?;
    if has_subcommand("clippy", root) {
        succeed(cargo(root).args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    } else {
        absent.push("clippy is not installed: its lints were not checked");
    }
    succeed(cargo(root).args(["test", "--workspace", "--doc"]))?;
    // Built by the runner before any test starts, beside this program.
    let minka = std::env::current_exe()?.with_file_name("minka");
    let mut runner = cargo(root);
    if has_subcommand("nextest", root) {
        runner.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        absent.push("nextest is not installed: `cargo test` runs the tests, without its time limits");
        // The documentation tests have been run, and benchmarks are no tests.
        runner.args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
    }
    absent.iter().for_each(|notice| println!("\nnote: {notice}"));
    let _ungrouped = Ungrouped::where_groups_starve();
    succeed(runner.env(PROGRAM_VARIABLE, minka))
}

/// Sessions are not scheduled as groups, until this is dropped.
///
/// Linux 6.18 before 6.18.45 lets ready threads wait for seconds, and once for a minute, where groups are busy (ARCHITECTURE.md),
/// and tests of several nodes on one machine are.
struct Ungrouped;

impl Ungrouped {
    const SETTING: &str = "/proc/sys/kernel/sched_autogroup_enabled";

    /// None where the kernel is another one, they are none already, or who runs the tests may not say so.
    fn where_groups_starve() -> Option<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let patch = release.strip_prefix("6.18.")?.split(|end: char| !end.is_ascii_digit()).next()?;
        let is_affected = patch.parse().is_ok_and(|patch: u32| patch < 45);
        let has_groups = fs::read_to_string(Self::SETTING).is_ok_and(|setting| setting.trim() == "1");
        if !is_affected || !has_groups || fs::write(Self::SETTING, "0").is_err() {
            return None;
        }
        println!(
            "\nnote: kernel.sched_autogroup_enabled is 0 while the tests run: this kernel lets groups starve"
        );
        Some(Self)
    }
}

impl Drop for Ungrouped {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::SETTING, "1") {
            eprintln!("failed to set kernel.sched_autogroup_enabled to 1 again: {error}");
        }
    }
}

//! What the tests of whole programs share: a program is run as everybody runs it, and again in a lab that moves it
//! and its descendants round the nodes all the while it runs. Exit status and output have to be equal.
//!
//! | module | what |
//! |---|---|
//! | [`program`] | a program to be run, and what came of it |
//! | [`shaken`] | the run in a lab, and what came of the moves |
//! | [`outcome`] | the comparison |
//! | [`data`] | real data of this machine |
//! | [`build`] | programs that are compiled for a test |
//! | [`survey`] | the programs of `docs/programs.md` |
//! | [`stress`] | the stressors of `docs/stress.md` |
//! | [`terminal`] | a conversation with an interactive program |
//!
//! The tests run the `minka` program that was built beside them, or the one that `MINKA_BIN` names. With
//! `MINKA_FULL=1` they take all the data there is room for (200 MB) and all the time that takes; with
//! `MINKA_REPORT=FILE` each adds a line to a table.

pub mod build;
pub mod data;
pub mod outcome;
pub mod program;
pub mod shaken;
pub mod stress;
pub mod survey;
pub mod terminal;

use std::path::PathBuf;
use std::time::Duration;

/// Whether all of the data is to be used.
pub fn is_full() -> bool {
    std::env::var_os("MINKA_FULL").is_some_and(|value| value == "1")
}

/// `short` on an ordinary day, `full` with `MINKA_FULL=1`.
pub fn sized<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

/// How long one run of a program may take.
pub fn limit() -> Duration {
    sized(Duration::from_secs(150), Duration::from_secs(3600))
}

/// A directory of the build for what is made once and used often.
pub fn cache() -> PathBuf {
    let directory = profile_directory().join("minka-programs");
    std::fs::create_dir_all(&directory).expect("make a directory in the target directory");
    directory
}

/// The `minka` program.
pub fn minka() -> PathBuf {
    std::env::var_os("MINKA_BIN").map_or_else(|| profile_directory().join("minka"), PathBuf::from)
}

/// `target/debug`, or the like: tests themselves are in its `deps`.
fn profile_directory() -> PathBuf {
    let program = std::env::current_exe().expect("the program knows where it is");
    let directory = program.parent().expect("it is in a directory");
    if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }.to_owned()
}

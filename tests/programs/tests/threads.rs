//! Programs of several threads, all of which move together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use minka_programs_tests::program::Program;
use minka_programs_tests::{build, data, sized};

/// They are moved often: what threads do to each other takes no time.
const INTERVAL: Duration = Duration::from_millis(100);

#[test]
fn threads_that_work_together() {
    Program::new([build::c_program("threads")]).called("threads").every(INTERVAL).moves().holds();
}

#[test]
fn threads_that_change_their_memory() {
    let file = data::mixed(300_000);
    let program = build::c_program("spaces");
    let rounds = sized("400", "4000");
    Program::new([program.as_os_str(), file.as_os_str(), rounds.as_ref()])
        .called("spaces")
        .every(INTERVAL)
        .moves()
        .holds();
}

#[test]
fn openmp() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("openmp/openmp.c");
    let line = format!(
        "gcc -O2 -fopenmp {} -o openmp && OMP_NUM_THREADS=4 exec ./openmp {}",
        source.display(),
        sized("600", "1200")
    );
    Program::shell(&line).called("openmp").moves().holds();
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

#[test]
fn python_with_threads() {
    let rounds = sized("30", "300");
    Program::new(["/usr/bin/python3".as_ref(), script("threads.py").as_os_str(), rounds.as_ref()])
        .called("python3 with threads")
        .moves()
        .holds();
}

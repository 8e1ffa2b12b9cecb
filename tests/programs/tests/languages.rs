//! Interpreters, a database, a compiler.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use minka_programs_tests::program::Program;
use minka_programs_tests::{cache, data, sized};

/// The interpreter itself: what is found first may be a script that looks for one.
const PYTHON: &str = "/usr/bin/python3";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Python's own tests tell how long they took; all else counts.
fn without_times(output: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(output);
    let is_timed = |line: &&str| {
        ["load avg:", "Total duration", " in ", "Total test files"].iter().any(|word| line.contains(word))
    };
    text.lines().filter(|line| !is_timed(line)).collect::<Vec<_>>().join("\n").into_bytes()
}

fn python_tests(names: &[&str]) -> Program {
    let words = [PYTHON, "-m", "test"].into_iter().chain(names.iter().copied());
    Program::new(words).called(format!("python3 -m test {}", names.join(" ")))
}

#[test]
fn python_tests_of_math_and_json() {
    python_tests(&["test_math", "test_json"]).moves().seen_through(without_times).holds();
}

#[test]
fn python_with_shared_memory_of_its_own() {
    let steps = sized("40000", "400000");
    Program::new([PYTHON.as_ref(), script("memory.py").as_os_str(), steps.as_ref()])
        .called("python3 with shared memory")
        .every(std::time::Duration::from_millis(50))
        .moves()
        .holds();
}

/// Arenas of the heap and semaphores, none of which has a name.
#[test]
fn python_with_processes_that_share_memory() {
    let rounds = sized("120", "2000");
    Program::new([PYTHON.as_ref(), script("arenas.py").as_os_str(), rounds.as_ref()])
        .called("python3 with multiprocessing")
        .every(std::time::Duration::from_millis(50))
        .moves()
        .holds();
}

/// It maps a file in `/tmp` to be written, in which others may look how it does.
#[test]
fn java_with_its_performance_data() {
    if std::process::Command::new("java").arg("-version").output().is_err() {
        return println!("not tried, as there is no Java here");
    }
    Program::new(["java".into(), script("Threads.java")]).called("java").moves().holds();
}

#[test]
fn python_tests_of_re() {
    // One of them wants to be done in a tenth of a second, which a busy machine does not promise.
    python_tests(&["-i", "test_search_anchor_at_beginning", "test_re"])
        .called("python3 -m test test_re")
        .moves()
        .seen_through(without_times)
        .holds();
}

#[test]
fn python_tests_of_io() {
    // Those that wait for alarms all the time take half a minute.
    let short = ["PyBuffered*", "CBuffered*", "CTextIO*", "CIncremental*", "CMisc*", "*read_retry_text"];
    let short: Vec<&str> = short.iter().flat_map(|pattern| ["-m", pattern]).chain(["test_io"]).collect();
    python_tests(sized(&short, &["test_io"]))
        .called("python3 -m test test_io")
        .moves()
        .seen_through(without_times)
        .holds();
}

/// Memory of all kinds, generators, sorting, compression, hashes; the output is a digest of every step.
#[test]
fn python() {
    let rounds = sized("4", "100");
    Program::new([PYTHON.as_ref(), script("compute.py").as_os_str(), rounds.as_ref()])
        .called("python3")
        .moves()
        .holds();
}

#[test]
fn perl() {
    let words = ["perl".into(), script("words.pl").into_os_string()];
    let text = data::text(sized(3_000_000, 200_000_000));
    Program::new(words).with("PERL_HASH_SEED", "0").reads(text).moves().holds();
}

#[test]
fn sqlite3() {
    let rows = sized(60_000, 4_000_000);
    let line = format!("sed s/ROWS/{rows}/ {} | sqlite3 -batch words.db", script("database.sql").display());
    Program::shell(&line).called("sqlite3").makes("words.db").moves().holds();
}

/// A write-ahead log is memory that is shared through a file: such a database stays at home.
#[test]
fn sqlite3_with_a_write_ahead_log() {
    let rows = sized(30_000, 1_000_000);
    let script = script("database.sql");
    let line = format!(
        "(echo 'PRAGMA journal_mode = WAL;'; sed s/ROWS/{rows}/ {}) | sqlite3 -batch words.db",
        script.display()
    );
    Program::shell(&line).called("sqlite3 (WAL)").may_stay().holds();
}

/// One large C file: an interpreter's worth of functions, each with loops, switches and calls of others.
fn large_source() -> PathBuf {
    let functions = sized(70, 4_000);
    let path = cache().join(format!("large-{functions}.c"));
    let mut text = String::from(
        "#include <stdio.h>\n#include <string.h>\n#include <stdint.h>\n\nstatic uint64_t table[256];\n",
    );
    for number in 0..functions {
        let callee = if number == 0 {
            "table[a & 255]".to_owned()
        } else {
            format!("step_{}(b, a ^ {number})", number / 2)
        };
        let _ = write!(
            text,
            "\nstruct state_{number} {{ uint64_t first, second[{}]; char name[{}]; }};\n\
             uint64_t step_{number}(uint64_t a, uint64_t b)\n{{\n    struct state_{number} state = {{ .first = a }};\n\
             \x20   for (unsigned i = 0; i < sizeof state.second / sizeof state.second[0]; i++)\n\
             \x20       state.second[i] = state.first * {} + (b >> (i & 63));\n    switch (a % {}) {{\n",
            number % 13 + 2,
            number % 29 + 8,
            number * 2 + 1,
            number % 7 + 3
        );
        for case in 0..number % 7 + 3 {
            let _ = writeln!(
                text,
                "    case {case}: state.first += state.second[{case} % {}] ^ (b << {}); break;",
                number % 13 + 2,
                case * 3 % 31
            );
        }
        let _ = write!(
            text,
            "    }}\n    snprintf(state.name, sizeof state.name, \"%llx\", (unsigned long long)state.first);\n\
             \x20   return a > 100000 ? state.first + strlen(state.name) : {callee} + state.first;\n}}\n"
        );
    }
    std::fs::write(&path, text).expect("write the source");
    path
}

#[test]
fn gcc() {
    let source = large_source();
    let words = ["gcc".as_ref(), "-O2".as_ref(), "-c".as_ref(), source.as_os_str()];
    let out = ["-o".as_ref(), "large.o".as_ref()];
    Program::new(words.into_iter().chain(out)).called("gcc").makes("large.o").moves().holds();
}

//! Labs as their users meet them, with the real program in the place of the node daemons.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

fn minka(arguments: &[&str]) -> Command {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    minka(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A lab that is taken down with the test.
struct Lab(String);

impl Lab {
    fn up(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let output = run(&["lab", "up", "--nodes", "2", "--name", &name]);
        assert!(output.status.success(), "{}", stderr(&output));
        Lab(name)
    }

    fn exec(&self, node: &str, command: &[&str]) -> Output {
        let words = ["lab", "exec", "--name", &self.0, node, "--"];
        run(&words.into_iter().chain(command.iter().copied()).collect::<Vec<_>>())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["lab", "down", "--name", &self.0]);
    }
}

#[test]
fn a_lab_comes_up_shows_itself_and_goes_down() {
    let lab = Lab::up("tools");
    let output = run(&["lab", "status", "--name", &lab.0]);
    let shown = stdout(&output);
    assert!(shown.contains("10.77.0.2  connected  running, PID "), "{shown}");
    let output = run(&["lab", "status", "--json"]);
    assert!(stdout(&output).contains(&format!("\"name\":\"{}\"", lab.0)));
    let output = lab.exec("node2", &["sh", "-c", "hostname; exit 7"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(7), "node2\n"));
    let output = lab.exec("1", &[MINKA, "nodes"]);
    assert!(stdout(&output).contains("node1  10.77.0.1:4660  this node"), "{}", stdout(&output));
    let output = lab.exec("node9", &["true"]);
    assert_eq!(output.status.code(), Some(4));
    let output = lab.exec("1", &["/nonexistent"]);
    assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
    let output = run(&["lab", "up", "--name", &lab.0]);
    assert_eq!(output.status.code(), Some(1), "it is up already");
    assert!(run(&["lab", "down", "--name", &lab.0]).status.success());
    let output = run(&["lab", "down", "--name", &lab.0]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`minka lab up` makes one"));
}

#[test]
fn a_program_in_a_lab_of_its_own_is_as_if_it_ran_here() {
    let script = "cat; echo err >&2; exit 9";
    let mut command = minka(&["lab", "run", "--nodes", "1", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through\0all\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(output.stdout, b"through\0all\xff");
    assert_eq!(stderr(&output), "err\n");
    let output = run(&["lab", "run", "--nodes", "1", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(output.status.code(), Some(137));
}

#[test]
fn shaking_tells_what_came_of_it_and_leaves_standard_output_alone() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let shake = ["lab", "run", "--shake", "20ms", "--report", report.to_str().unwrap()];
    // It ends before its first move.
    let output = run(&[&shake[..], &["true"]].concat());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
    assert_eq!(stderr(&output), "minka: nothing moved\n");
    let told = read(&report);
    assert_eq!((told["status"].as_u64(), told["shake"]["moves"].as_u64()), (Some(0), Some(0)));
    // Each of the three processes is taken up by itself.
    let output = run(&[&shake[..], &["sh", "-c", "(sleep 0.6; :) & sleep 0.6; wait; echo done"]].concat());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "done\n"));
    let told = read(&report);
    assert!(told["shake"]["processes"].as_u64() >= Some(3), "{told}");
    let refusals = told["shake"]["refusals"].as_object().unwrap().len();
    assert!(told["shake"]["moves"].as_u64() > Some(0) || refusals > 0, "{told}");
}

fn read(report: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

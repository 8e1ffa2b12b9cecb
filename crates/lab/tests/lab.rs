//! Whole labs, with a stand-in for the node daemon.
#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

mod support;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use minka_lab::{DaemonState, Lab, LabError, LabOptions, Lifetime, Program, shell_code};
use support::{Place, fixture};

/// What a program in a node prints.
fn output(lab: &Lab, node: u32, script: &str) -> String {
    let program = Program::new("sh").arguments(["-c", script]).stdout(Stdio::piped());
    let mut running = lab.start(node, program).unwrap();
    let mut text = String::new();
    running.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(0), "{script}: {text}");
    text.trim_end().to_owned()
}

/// Whether a program in one node reaches the daemon of another.
fn reaches(lab: &Lab, from: u32, to: u32) -> bool {
    let address = format!("{}:{}", minka_lab::node_address(to), minka_lab::NODE_PORT);
    let program = Program::new(fixture()).arguments(["connect", &address]);
    let program = program.stdout(Stdio::null()).stderr(Stdio::null());
    lab.exec(from, program).unwrap().success()
}

/// Whether datagrams come through from one node to another.
fn is_heard(lab: &Lab, from: u32, to: u32) -> bool {
    let address = format!("{}:4661", minka_lab::node_address(to));
    let program = |what: &str| Program::new(fixture()).arguments([what, &address]).stderr(Stdio::null());
    let hearer = lab.start(to, program("hear")).unwrap();
    assert!(lab.exec(from, program("say")).unwrap().success());
    hearer.wait().unwrap().success()
}

#[test]
fn nodes_are_machines_of_their_own_that_reach_each_other() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    assert_eq!(output(&lab, 2, "hostname; echo $MINKA_DIR"), {
        format!("node2\n{}/node2/run", place.directory().display())
    });
    // PID 1 is the node's init, and /proc is the node's.
    assert_eq!(output(&lab, 1, "cat /proc/1/comm"), "minka-init");
    let address = format!("{}:{}", minka_lab::node_address(3), minka_lab::NODE_PORT);
    assert_eq!(output(&lab, 1, &format!("{} connect {address}", fixture())), "node3");
    assert_eq!(output(&lab, 1, "getent hosts node2 | tr -s ' '"), "10.77.0.2 node2");
    assert!(reaches(&lab, 2, 1) && reaches(&lab, 2, 2));
    for node in lab.status().unwrap() {
        assert!(node.alive && node.connected, "{node:?}");
        assert!(matches!(node.daemon, DaemonState::Running(pid) if pid > 1), "{node:?}");
    }
    lab.down().unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_program_in_a_node_has_its_callers_surroundings_and_its_status_comes_back() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let status = |script: &str| lab.exec(1, Program::new("sh").arguments(["-c", script])).unwrap();
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 77").code(), Some(77));
    assert_eq!(status("kill -SEGV $$").signal(), Some(libc::SIGSEGV));
    assert_eq!(shell_code(status("kill -KILL $$")), 137);
    assert_eq!(output(&lab, 1, "pwd"), std::env::current_dir().unwrap().display().to_string());

    let program = Program::new("sh").arguments(["-c", "pwd; echo $COLOUR; cat; echo $$ >&2"]);
    let program = program.directory("/usr").environment("COLOUR", "red");
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = lab.start(1, program).unwrap();
    assert!(Path::new(&format!("/proc/{}", running.pid())).exists());
    std::io::Write::write_all(&mut running.take_stdin().unwrap(), b"through the pipe").unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    running.take_stdout().unwrap().read_to_string(&mut stdout).unwrap();
    running.take_stderr().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stdout, "/usr\nred\nthrough the pipe");
    assert_eq!(stderr.trim().parse(), Ok(running.pid_in_node()));
    assert!(running.wait().unwrap().success());
}

#[test]
fn programs_that_cannot_be_started_are_named() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let error = lab.start(1, Program::new("no-such-program")).unwrap_err();
    assert_eq!(error.to_string(), "start a program in node 1: execute no-such-program");
    let LabError::Program { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    let error = lab.start(1, Program::new("true").directory("/no/such/place")).unwrap_err();
    assert_eq!(error.to_string(), "start a program in node 1: enter the directory /no/such/place");
    let error = lab.start(4, Program::new("true")).unwrap_err();
    assert_eq!(error.to_string(), "find node 4: the lab has nodes 1 to 3");
}

#[test]
fn a_program_can_be_watched_while_it_runs() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let mut running = lab.start(2, Program::new("sleep").arguments(["100"])).unwrap();
    assert_eq!(running.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    let from_node = format!("kill -TERM {}", running.pid_in_node());
    output(&lab, 2, &from_node);
    let status = running.wait_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

#[test]
fn a_program_nobody_waits_for_is_hung_up() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let running = lab.start(1, Program::new("sleep").arguments(["100"])).unwrap();
    let path = format!("/proc/{}", running.pid());
    assert!(Path::new(&path).exists());
    drop(running);
    support::eventually("the program ends", || !Path::new(&path).exists());
}

#[test]
fn a_killed_node_takes_its_programs_with_it_and_the_others_go_on() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let mut running = lab.start(2, Program::new("sleep").arguments(["100"])).unwrap();
    lab.kill_node(2).unwrap();
    let status = running.wait_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let nodes = lab.status().unwrap();
    assert!(!nodes[1].alive && nodes[1].daemon == DaemonState::Killed, "{nodes:?}");
    assert!(nodes[0].alive && nodes[2].alive);
    assert!(matches!(lab.start(2, Program::new("true")), Err(LabError::NodeDead(2))));
    assert!(matches!(lab.kill_node(2), Err(LabError::NodeDead(2))));
    assert!(reaches(&lab, 1, 3) && !reaches(&lab, 1, 2));
    lab.down().unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_cut_node_is_unreachable_until_it_is_healed() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    lab.cut(2).unwrap();
    assert!(!reaches(&lab, 1, 2) && !reaches(&lab, 2, 3) && reaches(&lab, 1, 3));
    let connected: Vec<_> = lab.status().unwrap().iter().map(|node| node.connected).collect();
    assert_eq!(connected, [true, false, true]);
    lab.heal(2).unwrap();
    support::eventually("the node is reached again", || reaches(&lab, 1, 2));
    assert!(reaches(&lab, 2, 3));
}

#[test]
fn a_deaf_node_is_heard_but_hears_nothing() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    // Each knows where the other is: it would not hear the answer to that question.
    assert!(reaches(&lab, 1, 2) && reaches(&lab, 2, 1));
    lab.deafen(2).unwrap();
    assert!(!reaches(&lab, 1, 2) && !reaches(&lab, 2, 3) && reaches(&lab, 1, 3));
    assert!(is_heard(&lab, 2, 1) && !is_heard(&lab, 1, 2));
    lab.heal(2).unwrap();
    support::eventually("the node is reached again", || reaches(&lab, 1, 2) && reaches(&lab, 2, 3));
}

#[test]
fn two_labs_do_not_meet() {
    let (one, two) = (Place::new(), Place::new());
    let first = Lab::up(&one.options()).unwrap();
    let second = Lab::up(&two.options()).unwrap();
    first.kill_node(3).unwrap();
    assert!(!reaches(&first, 1, 3) && reaches(&second, 1, 3));
    first.down().unwrap();
    assert!(reaches(&second, 1, 2));
}

#[test]
fn a_lab_can_be_found_again_and_is_there_once() {
    let place = Place::new();
    let options = LabOptions { lifetime: Lifetime::Detached, ..place.options() };
    let lab = Lab::up(&options).unwrap();
    assert!(matches!(Lab::up(&options), Err(LabError::Running(_))));
    drop(lab);
    let lab = Lab::open_in(place.directory()).unwrap().with_helper(fixture());
    assert_eq!(output(&lab, 3, "hostname"), "node3");
    lab.down().unwrap();
    place.assert_nothing_left();
    assert!(matches!(Lab::open_in(place.directory()), Err(LabError::NotRunning(_))));
    assert!(!Lab::down_in(place.directory()).unwrap(), "there was a lab to end");
}

#[test]
fn an_attached_lab_ends_with_its_handle() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    drop(lab);
    place.assert_nothing_left();
}

#[test]
fn a_terminated_supervisor_takes_everything_with_it() {
    for signal in ["TERM", "INT", "HUP"] {
        let place = Place::new();
        let lab = Lab::up(&LabOptions { lifetime: Lifetime::Detached, ..place.options() }).unwrap();
        support::signal(lab.description().supervisor.unwrap().pid, signal);
        support::eventually("the lab is gone", || !place.directory().exists());
        lab.down().unwrap();
        place.assert_nothing_left();
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_running() {
    let place = Place::new();
    let options = LabOptions { lifetime: Lifetime::Detached, ..place.options() };
    let lab = Lab::up(&options).unwrap();
    let mut running = lab.start(1, Program::new("sleep").arguments(["100"])).unwrap();
    support::signal(lab.description().supervisor.unwrap().pid, "KILL");
    let status = running.wait_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    for node in &lab.description().nodes {
        let path = format!("/proc/{}", node.init.unwrap().pid);
        support::eventually("the nodes are gone", || !Path::new(&path).exists());
    }
    // Only the directory is left, and does not hinder the next lab.
    assert!(place.directory().exists());
    let lab = {
        drop(lab);
        Lab::up(&options).unwrap()
    };
    assert!(reaches(&lab, 1, 2));
    support::signal(lab.description().supervisor.unwrap().pid, "KILL");
    assert!(Lab::down_in(place.directory()).unwrap());
    place.assert_nothing_left();
}

#[test]
fn daemons_that_fail_are_quoted_and_nothing_is_left() {
    let place = Place::new();
    let command = |word: &str| Some(vec![fixture().into(), "node".into(), word.into()]);
    let options = LabOptions { node_command: command("fail"), ..place.options() };
    let error = Lab::up(&options).unwrap_err().to_string();
    assert!(error.contains("its daemon ended with status 3; it said:\nno node today"), "{error}");
    place.assert_nothing_left();

    let start_timeout = Duration::from_millis(200);
    let options = LabOptions { node_command: command("sleep"), start_timeout, ..place.options() };
    let error = Lab::up(&options).unwrap_err().to_string();
    assert_eq!(error, "start node 1: its daemon does not answer");
    place.assert_nothing_left();

    let node_command = Some(vec!["/no/such/daemon".into()]);
    let error = Lab::up(&LabOptions { node_command, ..place.options() }).unwrap_err().to_string();
    assert!(error.contains("failed to execute /no/such/daemon: No such file"), "{error}");
    place.assert_nothing_left();
}

#[test]
fn a_lab_is_up_in_an_instant() {
    let place = Place::new();
    let start = Instant::now();
    let lab = Lab::up(&place.options()).unwrap();
    let up = start.elapsed();
    let start = Instant::now();
    lab.down().unwrap();
    println!("up in {up:?}, down in {:?}", start.elapsed());
    // Two busy processors are allowed to take several times as long as it takes alone.
    assert!(up < Duration::from_secs(3), "{up:?}");
}

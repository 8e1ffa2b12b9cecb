//! The tools as scripts meet them: output and exit status, against a daemon that says what it was told to say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use minka_node::protocol::{
    Answer, Closed, DeviceFigures, DeviceKind, Event, Figures, Message, Migrated, Node, Pool, PoolKind,
    Process, Refusal, Request, State, Status, VERSION,
};

/// A daemon that gives prepared answers to whatever it is asked, and remembers the questions.
struct Daemon {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    fn answering(answers: Vec<Answer>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("node.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                let question: Message<Request> = serde_json::from_str(&line).unwrap();
                heard.lock().unwrap().push(question.body);
                for body in &answers {
                    let line = serde_json::to_string(&Message { version: VERSION, body }).unwrap();
                    // The tool may have seen enough.
                    let _ = writeln!(stream, "{line}");
                }
            }
        });
        Daemon { directory, asked }
    }

    fn refusing(refusal: Refusal) -> Self {
        Daemon::answering(vec![Answer::Refused(refusal)])
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        minka(self.directory.path(), arguments).output().unwrap()
    }
}

fn minka(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(arguments).env("MINKA_DIR", directory).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn process() -> Process {
    Process {
        pid: 42,
        uid: Some(0),
        command: "work".into(),
        home: "a".into(),
        home_pid: 42,
        at: "b".into(),
        state: State::Away,
        moves: 2,
        wanted: Some("best".into()),
        freeze_us: Some(2310),
        reason: None,
        cantmove: Vec::new(),
        memory: None,
        locked: None,
    }
}

#[test]
fn each_kind_of_refusal_has_its_exit_status() {
    let reasons = vec!["it uses io_uring".to_owned(), "it runs 32-bit code".to_owned()];
    let not_moved = Refusal::NotMoved { pid: 42, at: "a".into(), reason: "no room".into() };
    let cases = [
        (Refusal::NotPermitted { pid: 42 }, 3, "minka: process 42 belongs to another user\n"),
        (Refusal::NoSuchProcess { pid: 42 }, 4, "minka: there is no process 42\n"),
        (
            Refusal::NoSuchNode { name: "b".into() },
            4,
            "minka: there is no node b\n  help: `minka nodes` lists them\n",
        ),
        (Refusal::NoSuchNode { name: "best".into() }, 4, "minka: no other node can be reached\n"),
        (
            Refusal::CannotMove { pid: 42, reasons },
            5,
            "minka: process 42 cannot move\n  because: it uses io_uring\n  because: it runs 32-bit code\n",
        ),
        (not_moved, 5, "minka: process 42 did not move and is on a\n  because: no room\n"),
        (Refusal::Busy { pid: 42 }, 5, "minka: process 42 is being moved already\n"),
        (Refusal::TooManyClients, 1, "minka: the node daemon has too many clients\n"),
    ];
    for (refusal, status, told) in cases {
        let output = Daemon::refusing(refusal.clone()).run(&["migrate", "42", "b"]);
        assert_eq!((code(&output), stderr(&output).as_str()), (status, told), "{refusal:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn failures_are_json_where_that_is_asked_for() {
    let output = Daemon::refusing(Refusal::NoSuchProcess { pid: 42 }).run(&["--json", "migrate", "42", "b"]);
    assert_eq!(stderr(&output), "{\"error\":{\"lines\":[\"there is no process 42\"],\"status\":4}}\n");
}

#[test]
fn a_missing_daemon_is_explained_in_the_reader_s_language() {
    let directory = tempfile::tempdir().unwrap();
    let output = minka(directory.path(), &["ps"]).env("LC_ALL", "es_PE.UTF-8").output().unwrap();
    assert_eq!(code(&output), 1);
    let told = stderr(&output);
    assert!(told.starts_with("minka: ningún demonio de nodo responde en "), "{told}");
    assert!(told.contains("ayuda: "), "{told}");
}

#[test]
fn wrong_usage_has_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["fly"][..],
        &[],
        &["migrate", "1"],
        &["migrate", "0", "b"],
        &["lab", "run", "--shake", "0s", "true"],
    ] {
        for language in ["C", "es"] {
            let output = minka(directory.path(), arguments).env("LC_ALL", language).output().unwrap();
            assert_eq!((code(&output), stdout(&output).as_str()), (2, ""), "{arguments:?}");
            assert!(!output.stderr.is_empty());
        }
    }
}

#[test]
fn migrate_says_where_the_process_is() {
    let migrated = |moved| Migrated {
        pid: 42,
        at: "b".into(),
        moved,
        freeze_us: if moved { 2310 } else { 0 },
        with: Vec::new(),
    };
    let daemon = Daemon::answering(vec![Answer::Migrated(migrated(true))]);
    let output = daemon.run(&["migrate", "42", "b"]);
    assert_eq!(stdout(&output), "process 42 is on b now; it stood still for 2.31 ms\n");
    assert_eq!(daemon.asked(), [Request::Migrate { pid: 42, to: "b".into(), at_exec: false }]);
    let output = daemon.run(&["migrate", "--json", "42", "b"]);
    assert_eq!(stdout(&output), "{\"pid\":42,\"at\":\"b\",\"moved\":true,\"freeze_us\":2310}\n");
    let output = Daemon::answering(vec![Answer::Migrated(migrated(false))]).run(&["migrate", "42", "b"]);
    assert_eq!(stdout(&output), "process 42 is on b\n");
    let with_others = || Migrated { with: vec![43, 57], ..migrated(true) };
    let output = Daemon::answering(vec![Answer::Migrated(with_others())]).run(&["migrate", "42", "b"]);
    assert!(stdout(&output).ends_with("\nwith it are those that share its memory: 43, 57\n"));
    let output =
        Daemon::answering(vec![Answer::Migrated(with_others())]).run(&["migrate", "--json", "42", "b"]);
    assert!(stdout(&output).ends_with(",\"with\":[43,57]}\n"));
}

#[test]
fn ps_lists_and_its_json_is_one_line() {
    let daemon = Daemon::answering(vec![Answer::Process(process()), Answer::End]);
    let output = daemon.run(&["ps", "--all"]);
    assert_eq!(
        stdout(&output),
        "PID  COMMAND  HOME  WHERE  MOVES  CANTMOVE\n 42  work     a     b          2\n"
    );
    assert_eq!(daemon.asked(), [Request::Ps { all: true }]);
    let output = daemon.run(&["ps", "--json"]);
    let line = stdout(&output);
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(serde_json::from_str::<Vec<Process>>(&line).unwrap(), [process()]);
}

#[test]
fn output_that_nobody_reads_is_no_noise() {
    let daemon = Daemon::answering(vec![Answer::Process(process()), Answer::End]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = minka(daemon.directory.path(), &["ps"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
}

#[test]
fn trace_prints_events_as_lines_until_the_end() {
    let arrived = |home, reason: Option<&str>| Event::Arrived {
        at: if home { "a" } else { "b" }.into(),
        home,
        reason: reason.map(Into::into),
        freeze_us: 900,
    };
    let events = [
        arrived(false, None),
        Event::Call { line: "openat(AT_FDCWD, \"/x\\33\u{1b}\", O_RDONLY) = 3".into() },
        Event::Lost { lines: 2 },
        arrived(true, Some("fork")),
        Event::Ended { reason: None },
    ];
    let answers = events.into_iter().map(Answer::Event).chain([Answer::End]).collect();
    let daemon = Daemon::answering(answers);
    let output = daemon.run(&["trace", "42"]);
    let expected = "=== arrived at b, stood still for 0.90 ms\n\
                    openat(AT_FDCWD, \"/x\\33\\u{1b}\", O_RDONLY) = 3\n\
                    ... 2 lines left out\n\
                    === home again: fork\n\
                    === ended\n";
    assert_eq!((code(&output), stdout(&output).as_str()), (0, expected));
    let output = daemon.run(&["trace", "--json", "42"]);
    assert_eq!(stdout(&output).lines().nth(2), Some("{\"lost\":{\"lines\":2}}"));
}

fn figures() -> Figures {
    Figures {
        age_ms: 700,
        load: 1.5,
        running: 1.0,
        standard_load: 19,
        cpus: 4,
        speed: 20_000,
        utilisation: 40,
        io_stall: 0,
        memory_mib: 8000,
        free_mib: 5000,
        available_mib: 6000,
        blocked: false,
        stays: false,
        leaving: false,
        devices: None,
    }
}

#[test]
fn nodes_and_status() {
    let node = |name: &str, this, reachable| {
        Answer::Node(Node {
            name: name.into(),
            address: format!("{name}:1"),
            this,
            reachable,
            guests: 0,
            number: None,
            member: false,
            figures: (name == "b").then(figures),
        })
    };
    let answers = vec![node("a", true, true), node("b", false, true), node("c", false, false), Answer::End];
    let output = Daemon::answering(answers).run(&["nodes"]);
    let expected = "NODE  ADDRESS  REACHABLE  LOAD  CPUS  SPEED  MEMORY (MiB)  AVAILABLE  OURS THERE\n\
                    a     a:1      this node                                                       0\n\
                    b     b:1      yes        1.50     4  20000          8000       6000           0\n\
                    c     c:1      no                                                              0\n";
    assert_eq!(stdout(&output), expected);
    let devices = |devices| {
        let figures = Figures { devices, ..figures() };
        let Answer::Node(node) = node("b", false, true) else { unreachable!() };
        Answer::Node(Node { figures: Some(figures), ..node })
    };
    let intel = DeviceFigures { kind: DeviceKind::Intel, total: 2, free: Some(1), drained: 1 };
    let nvidia = DeviceFigures { kind: DeviceKind::Nvidia, total: 1, free: None, drained: 0 };
    let answers =
        vec![devices(Some(vec![intel, nvidia])), devices(Some(Vec::new())), devices(None), Answer::End];
    let shown = stdout(&Daemon::answering(answers).run(&["nodes"]));
    let ends = ["OURS THERE  ACCELERATORS FREE", " 0  intel 1/2 (1 drained), nvidia ?/1", " 0", " 0"];
    let right = shown.lines().zip(ends).all(|(line, end)| line.ends_with(end));
    assert!(right && shown.lines().count() == ends.len(), "{shown}");
    let status = Status {
        node: "a".into(),
        release: "0.1.0".into(),
        pid: 7,
        listen: "a:1".into(),
        uptime_s: 130,
        away: 3,
        guests: 1,
        decay: None,
        pool: Some(Pool { kind: PoolKind::Adaptive, closed: Some(Closed::Time), idle_s: None }),
        part: None,
    };
    let output = Daemon::answering(vec![Answer::Status(status)]).run(&["status"]);
    let expected = "node a, Minka 0.1.0, daemon 7, up 2 min\n  listens at a:1\n  3 of its processes away, 1 guests here\n  \
                    adaptive pool: it takes no guests at this time\n";
    assert_eq!(stdout(&output), expected);
}

#[test]
fn an_answer_of_another_kind_or_garbage_is_a_failure() {
    let output = Daemon::answering(vec![Answer::Armed]).run(&["ps"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("another question"), "{}", stderr(&output));
}

#[test]
fn run_places_the_command_and_exits_as_it_does() {
    let daemon = Daemon::answering(vec![Answer::Armed]);
    let output = daemon.run(&["run", "--on", "b", "--", "sh", "-c", "echo out; exit 7"]);
    assert_eq!((code(&output), stdout(&output).as_str(), stderr(&output).as_str()), (7, "out\n", ""));
    let asked = daemon.asked();
    assert!(matches!(&asked[..], [Request::Migrate { to, at_exec: true, .. }] if to == "b"), "{asked:?}");
    let output = daemon.run(&["run", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15), "nobody is in between");
    assert!(matches!(&daemon.asked()[1], Request::Migrate { to, .. } if to == "best"));
    let output = daemon.run(&["run", "/nonexistent/program"]);
    assert_eq!(code(&output), 127);
}

#[test]
fn run_passes_nothing_of_its_own_on_to_the_command() {
    let daemon = Daemon::answering(vec![Answer::Armed]);
    let list = "ls -l /proc/self/fd | grep -c -e pipe -e socket; grep -e SigBlk -e SigIgn /proc/self/status";
    let native = Command::new("sh").args(["-c", list]).stdin(Stdio::null()).output().unwrap();
    let placed = daemon.run(&["run", "sh", "-c", list]);
    assert_eq!(
        without_the_library_s_signals(&stdout(&placed)),
        without_the_library_s_signals(&stdout(&native))
    );
}

/// Signals 32 and 33 are the C library's own: a program that is started from one of several threads may ignore them or not.
fn without_the_library_s_signals(output: &str) -> Vec<String> {
    let masked = |line: &str| match line.split_once(":\t") {
        Some((name, mask)) => {
            format!("{name} {:x}", u64::from_str_radix(mask, 16).expect("a mask") & !(3 << 31))
        }
        None => line.to_owned(),
    };
    output.lines().map(masked).collect()
}

#[test]
fn run_goes_on_at_home_when_it_cannot_be_placed_unless_that_is_forbidden() {
    let daemon = Daemon::refusing(Refusal::NoSuchNode { name: "z".into() });
    let output = daemon.run(&["run", "--on", "z", "echo", "ran"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "ran\n"));
    assert!(stderr(&output).starts_with("minka: running at home: there is no node z"), "{}", stderr(&output));
    let output = daemon.run(&["run", "--strict", "--on", "z", "echo", "ran"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (4, ""));
}

#[test]
fn run_becomes_the_command_which_gets_its_signals() {
    let daemon = Daemon::answering(vec![Answer::Armed]);
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let mut command = minka(daemon.directory.path(), &["run", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(9), None));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = minka(directory.path(), &["completions", shell]).output().unwrap();
        assert!(code(&output) == 0 && stdout(&output).contains("migrate"), "{shell}");
    }
    let output = minka(directory.path(), &["man"]).output().unwrap();
    assert!(stdout(&output).contains(".SH NAME"), "{}", stdout(&output));
    let pages = directory.path().join("pages");
    let output = minka(directory.path(), &["man", "--dir", pages.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&output), 0);
    for page in ["minka.1", "minka-run.1", "minka-lab-demo.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}

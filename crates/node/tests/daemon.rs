//! The daemon as its users meet it, with programs in the place of deputies and hosts that move nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_link::Tuning;
use minka_node::client::{Client, ClientError, Outcome};
use minka_node::processes::{ProcFs, Processes};
use minka_node::protocol::{Event, LINE_MAX, Process, Refusal, State};
use minka_node::{Daemon, Settings};
use minka_wire::preamble::{Lane, Preamble, Purpose, SessionId};

const PEERS: [&str; 9] = ["b", "c", "refuses", "dies", "deaf", "inattentive", "brief", "lost", "talks"];

/// A daemon of a node `a`, and a process to move about.
struct Node {
    daemon: Arc<Daemon>,
    directory: tempfile::TempDir,
    listen: String,
    process: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.daemon.end(Duration::from_secs(5));
    }
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let program = |role: &str| vec![fake_child().into_os_string(), role.into()];
        let settings = Settings {
            node: "a".into(),
            listen: listen.clone(),
            peers: PEERS.map(|name| (name.to_owned(), listen.clone())).to_vec(),
            tuning: Tuning::default(),
            cluster: None,
            config: "/nonexistent/node.toml".into(),
            run_dir: directory.path().join("run"),
            tree: None,
            deputy: program("deputy"),
            host: program("host"),
            xpu: Vec::new(),
            start: Vec::new(),
            zygote: Vec::new(),
        };
        let daemon = Daemon::new(settings, Box::new(ProcFs), Box::new(eligibility));
        daemon.start().unwrap();
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        Node { daemon, directory, listen, process }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(&self.directory.path().join("run")).unwrap()
    }

    fn stream(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("run/node.sock")).unwrap()
    }

    fn migrate(&self, to: &str) -> Result<Outcome, Refusal> {
        match self.client().migrate(self.pid(), to, false) {
            Ok(outcome) => Ok(outcome),
            Err(ClientError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    fn view(&self, pid: i32) -> Option<Process> {
        self.client().ps(false).unwrap().into_iter().find(|process| process.pid == pid)
    }

    /// Waits until the process looks as it should.
    fn until(&self, what: &str, pid: i32, is: impl Fn(&Process) -> bool) -> Process {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let view = self.view(pid);
            if let Some(view) = view.clone().filter(|view| is(view)) {
                return view;
            }
            assert!(Instant::now() < deadline, "never {what}: {view:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The fake child is an example of this crate, built beside the tests.
fn fake_child() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/fake_child")
}

/// What cannot move in these tests: PID 1.
fn eligibility(pid: i32) -> Vec<String> {
    if pid == 1 { vec!["it is the first process".into(), "and more".into()] } else { Vec::new() }
}

fn at(outcome: Result<Outcome, Refusal>) -> String {
    match outcome {
        Ok(Outcome::Migrated(migrated)) => migrated.at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn moves_there_onward_and_home() {
    let node = Node::start();
    assert_eq!(at(node.migrate("b")), "b");
    assert_eq!(at(node.migrate("c")), "c");
    let view = node.view(node.pid()).unwrap();
    assert_eq!((view.state, view.moves, view.command.as_str()), (State::Away, 2, "sleep"));
    assert_eq!(at(node.migrate("home")), "a");
    let view = node.until("home", node.pid(), |view| view.state == State::Home);
    assert_eq!((view.moves, view.freeze_us, view.wanted), (3, Some(30), None));
    assert_eq!(at(node.migrate("b")), "b", "and again, with a new deputy");
}

#[test]
fn refusals_say_why() {
    let node = Node::start();
    let pid = node.pid();
    assert_eq!(node.migrate("nowhere"), Err(Refusal::NoSuchNode { name: "nowhere".into() }));
    let not_moved = |reason: &str| Refusal::NotMoved { pid, at: "a".into(), reason: reason.into() };
    assert_eq!(node.migrate("refuses"), Err(not_moved("no room")));
    assert_eq!(node.migrate("dies"), Err(not_moved("deputy program died")));
    let refusal = |pid, to| match node.client().migrate(pid, to, false) {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(i32::MAX, "b"), Refusal::NoSuchProcess { pid: i32::MAX });
    let own = i32::try_from(std::process::id()).unwrap();
    let part = Refusal::CannotMove { pid: own, reasons: vec!["it is a part of Minka".into()] };
    assert_eq!(refusal(own, "b"), part);
    let reasons = vec!["it is the first process".to_owned(), "and more".to_owned()];
    let may_ask = ProcFs.look(1).is_some_and(|first| first.uid == ProcFs.look(own).unwrap().uid);
    if may_ask || ProcFs.look(own).unwrap().uid == 0 {
        assert_eq!(refusal(1, "b"), Refusal::CannotMove { pid: 1, reasons: reasons.clone() });
        assert_eq!(node.client().reasons(1).unwrap(), reasons);
    } else {
        assert_eq!(refusal(1, "b"), Refusal::NotPermitted { pid: 1 });
    }
}

#[test]
fn a_process_whose_deputy_died_in_time_moves_again() {
    let node = Node::start();
    assert!(node.migrate("dies").is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    // Until its rescuer is done it is busy.
    while node.migrate("b") == Err(Refusal::Busy { pid: node.pid() }) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(node.view(node.pid()).unwrap().at, "b");
}

#[test]
fn what_a_deputy_said_last_is_heard_though_it_left_an_order_unread() {
    let node = Node::start();
    assert_eq!(at(node.migrate("inattentive")), "inattentive");
    assert_eq!(at(node.migrate("home")), "a");
    let view = node.view(node.pid()).unwrap();
    assert_eq!((view.state, view.moves, view.reason), (State::Home, 2, None), "it did not die");
}

#[test]
fn losing_the_deputy_while_away_brings_a_rescuer() {
    let node = Node::start();
    assert_eq!(at(node.migrate("lost")), "lost");
    // This one finds nothing lost.
    let view = node.until("home", node.pid(), |view| view.state == State::Home);
    let reason = view.reason.as_deref();
    assert_eq!(reason, Some("deputy program died while the process was away on lost"));
}

#[test]
fn a_process_that_comes_home_by_itself_keeps_leaving() {
    let node = Node::start();
    assert_eq!(at(node.migrate("brief")), "brief");
    let view = node.until("moved often", node.pid(), |view| view.moves >= 6);
    assert_eq!((view.reason.as_deref(), view.wanted.as_deref()), (Some("fork"), Some("brief")));
    assert_eq!(at(node.migrate("home")), "a");
    let moves = node.view(node.pid()).unwrap().moves;
    // The waits have grown to less than this by now.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(node.view(node.pid()).unwrap().moves, moves, "its user wants it at home");
}

#[test]
fn placed_at_the_next_exec() {
    let node = Node::start();
    assert_eq!(node.client().migrate(node.pid(), "b", true).unwrap(), Outcome::Armed);
    node.until("away", node.pid(), |view| view.at == "b");
}

#[test]
fn the_end_of_a_process_at_home_is_noticed() {
    let mut node = Node::start();
    node.migrate("b").unwrap();
    node.migrate("home").unwrap();
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    node.until("ended", node.pid(), |view| view.state == State::Ended);
}

#[test]
fn a_trace_shows_calls_arrivals_and_the_end() {
    let mut node = Node::start();
    assert_eq!(at(node.migrate("talks")), "talks");
    let (pid, client) = (node.pid(), node.client());
    let follower = std::thread::spawn(move || {
        let mut events = Vec::new();
        client.trace(pid, |event| {
            events.push(event);
            true
        })?;
        Ok::<_, ClientError>(events)
    });
    std::thread::sleep(Duration::from_millis(600));
    node.migrate("home").unwrap();
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    let events = follower.join().unwrap().unwrap();
    let first = Event::Call { line: format!("getppid() = {pid} # 0") };
    assert_eq!(events.first(), Some(&first));
    assert_eq!(events.len(), 12, "{events:?}");
    assert!(matches!(events[10], Event::Arrived { home: true, .. }));
    assert_eq!(events[11], Event::Ended { reason: None });
}

#[test]
fn ps_all_shows_those_that_never_moved_and_why() {
    let node = Node::start();
    assert_eq!(node.view(node.pid()), None);
    let all = node.client().ps(true).unwrap();
    let view = all.iter().find(|process| process.pid == node.pid()).unwrap();
    assert_eq!((view.moves, view.cantmove.is_empty()), (0, true));
    assert!(all.iter().all(|process| process.pid != 1 || process.cantmove.len() == 2));
}

#[test]
fn status_and_nodes_add_up() {
    let node = Node::start();
    node.migrate("b").unwrap();
    let status = node.client().status().unwrap();
    assert_eq!((status.node.as_str(), status.away, status.guests), ("a", 1, 0));
    let nodes = node.client().nodes().unwrap();
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.this, node.guests)).collect();
    assert_eq!(names[..3], [("a", true, 0), ("b", false, 1), ("c", false, 0)]);
}

#[test]
fn a_second_daemon_does_not_take_the_socket() {
    let node = Node::start();
    let settings = Settings {
        node: "a".into(),
        listen: "127.0.0.1:0".into(),
        peers: Vec::new(),
        tuning: Tuning::default(),
        cluster: None,
        config: "/nonexistent/node.toml".into(),
        run_dir: node.directory.path().join("run"),
        tree: None,
        deputy: Vec::new(),
        host: Vec::new(),
        xpu: Vec::new(),
        start: Vec::new(),
        zygote: Vec::new(),
    };
    let second = Daemon::new(settings, Box::new(ProcFs), Box::new(eligibility));
    assert!(second.start().unwrap_err().to_string().contains("another daemon"));
    assert_eq!(node.client().status().unwrap().node, "a");
}

#[test]
fn a_daemon_that_ends_brings_everybody_home() {
    let node = Node::start();
    node.migrate("b").unwrap();
    let mut guest = open(&node, 1);
    assert!(node.daemon.end(Duration::from_secs(10)));
    assert_eq!(guest.read(&mut [0]).unwrap(), 0, "its host program has ended");
    assert!(Client::connect(&node.directory.path().join("run")).is_err());
}

/// Says a raw line and returns the daemon's answer to it.
fn say(node: &Node, line: &[u8]) -> String {
    let mut stream = node.stream();
    // The daemon may hang up before it has read everything.
    let _ = stream.write_all(line);
    let mut answer = String::new();
    let _ = BufReader::new(&stream).read_line(&mut answer);
    answer
}

#[test]
fn hostile_lines_are_refused_and_the_daemon_goes_on() {
    let node = Node::start();
    let check = |line: &[u8], expected: &str| {
        let answer = say(&node, line);
        assert!(
            answer.contains(expected),
            "{:?}: {answer}",
            String::from_utf8_lossy(&line[..line.len().min(80)])
        );
    };
    check(b"garbage\n", "bad_request");
    check(b"\xff\xfe\n", "bad_request");
    check(b"\n", "bad_request");
    check(b"{\"version\":1}\n", "bad_request");
    check(b"{\"version\":1,\"body\":\"fly\"}\n", "bad_request");
    check(b"{\"version\":1,\"body\":{\"migrate\":{\"pid\":1}}}\n", "bad_request");
    check(b"{\"version\":1,\"body\":{\"trace\":{\"pid\":99999999999}}}\n", "bad_request");
    check(b"{\"version\":2,\"body\":{\"whatever\":[]}}\n", "\"supported\":1");
    check(b"{\"version\":1,\"body\":{\"trace\":{\"pid\":-1}}}\n", "no_such_process");
    check(&vec![b'['; LINE_MAX + 1], "longer than");
    let mut deep = b"{\"version\":1,\"body\":".to_vec();
    deep.resize(LINE_MAX - 1, b'[');
    deep.push(b'\n');
    check(&deep, "recursion limit");
    assert_eq!(node.client().status().unwrap().node, "a");
}

#[test]
fn only_so_many_clients_at_a_time() {
    let node = Node::start();
    let mut streams: Vec<UnixStream> = (0..200).map(|_| node.stream()).collect();
    let answered = streams.iter_mut().filter_map(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok().filter(|count| *count > 0).map(|_| answer)
    });
    let answers: Vec<String> = answered.collect();
    assert!(answers.len() >= 200 - 64, "{}", answers.len());
    assert!(answers.iter().all(|answer| answer.contains("too_many_clients")));
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.client().status().is_err() {
        assert!(Instant::now() < deadline, "places are given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Connects as another node would, for a session whose first byte says what the fake host does.
fn connect(node: &Node, kind: u8, purpose: Purpose) -> TcpStream {
    let mut stream = TcpStream::connect(&node.listen).unwrap();
    let mut session = [7; 16];
    session[0] = kind;
    let preamble = Preamble { session: SessionId(session), purpose, lane: Lane::Control, number: 0 };
    stream.write_all(&preamble.encode()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Opens a session and waits until its guest is known.
fn open(node: &Node, kind: u8) -> TcpStream {
    let stream = connect(node, kind, Purpose::Open);
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.client().status().unwrap().guests == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    stream
}

#[test]
fn a_guest_is_shown_and_can_be_expelled() {
    let node = Node::start();
    let mut control = open(&node, 1);
    let mut joined = connect(&node, 1, Purpose::Join);
    let guests = node.client().ps(false).unwrap();
    let guest = guests.iter().find(|process| process.state == State::Guest).unwrap();
    assert_eq!((guest.home.as_str(), guest.home_pid, guest.at.as_str()), ("b", 40, "a"));
    assert!(node.client().migrate(guest.pid, "b", false).is_err());
    let expelled = node.client().migrate(guest.pid, "home", false).unwrap();
    assert!(matches!(expelled, Outcome::Migrated(migrated) if migrated.at == "b"));
    // The fake host held both connections, and they end with it.
    for stream in [&mut control, &mut joined] {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn connections_without_a_place_are_closed() {
    let node = Node::start();
    let mut unknown = connect(&node, 9, Purpose::Join);
    assert_eq!(unknown.read(&mut [0]).unwrap(), 0);
    let mut garbage = TcpStream::connect(&node.listen).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: minka\r\n\r\n").unwrap();
    assert_eq!(garbage.read(&mut [0]).unwrap_or(0), 0);
    let mut dies = connect(&node, 2, Purpose::Open);
    assert_eq!(dies.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(node.client().status().unwrap().guests, 0);
}

#[test]
fn those_who_connect_and_say_nothing_keep_nobody_out() {
    let node = Node::start();
    let silent: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(&node.listen).unwrap()).collect();
    let start = Instant::now();
    let _control = open(&node, 1);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(silent);
}

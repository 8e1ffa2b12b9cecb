//! What strangers and mishaps do to running daemons: replayed datagrams, guessed tokens, crowds of idle clients, a full
//! disk, a clock that is days ahead, a daemon that is stopped for a while.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

/// How long anything may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn minka(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(MINKA);
    command.args(words).current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    command.env_remove("MINKA_DIR").env_remove("MINKA_TOKEN");
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(found) = is() {
        assert!(Instant::now() < deadline, "never {what}: {found}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Two nodes on this machine, whose keys were made by hand.
struct Pair {
    scratch: tempfile::TempDir,
    ports: [u16; 2],
}

const NAMES: [&str; 2] = ["one", "two"];

impl Pair {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let pair = Pair { ports: [free_port(), free_port()], scratch };
        done(&mut minka(pair.path(), &["cluster", "init"]));
        for (name, port) in NAMES.iter().zip(pair.ports) {
            done(&mut minka(pair.path(), &["cluster", "add", name, &format!("127.0.0.1:{port}")]));
        }
        pair
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn run_dir(&self, name: &str) -> PathBuf {
        self.path().join(format!("run-{name}"))
    }

    fn daemon(&self, name: &str) -> Command {
        let config = format!("minka-cluster/{name}/node.toml");
        let log = std::fs::File::create(self.path().join(format!("{name}.log"))).unwrap();
        let mut command = minka(self.path(), &["node", "serve", "--config", &config]);
        command.env("MINKA_DIR", self.run_dir(name)).stderr(log);
        command
    }

    fn start(&self, name: &str) -> Running {
        Running(self.daemon(name).spawn().unwrap())
    }

    fn until_members(&self, at: &str, count: usize) {
        until("all members", || {
            let mut nodes = minka(self.path(), &["--json", "nodes"]);
            let output = nodes.env("MINKA_DIR", self.run_dir(at)).output().unwrap();
            let nodes: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let members = nodes.as_array().into_iter().flatten().filter(|it| it["member"] == true).count();
            if members == count { Ok(()) } else { Err(nodes.to_string()) }
        });
    }
}

/// Something between two nodes that passes on what goes to `behind`, and keeps copies of the datagrams.
fn listen_in(through: SocketAddr, behind: SocketAddr) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let socket = UdpSocket::bind(through).unwrap();
    let captured = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&captured);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], behind);
            kept.lock().unwrap().push(buffer[..length].to_vec());
        }
    });
    let door = TcpListener::bind(through).unwrap();
    std::thread::spawn(move || {
        for near in door.incoming().flatten() {
            let Ok(far) = TcpStream::connect(behind) else { continue };
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    captured
}

#[test]
fn real_datagrams_that_are_sent_again_change_nothing() {
    let pair = Pair::new();
    // Each node believes the other to be where somebody listens in.
    let behind = pair.ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let through = pair.ports.map(|port| SocketAddr::from(([127, 0, 0, 2], port)));
    for (own, other) in [(0, 1), (1, 0)] {
        let map = pair.path().join("minka-cluster").join(NAMES[own]).join("cluster.toml");
        let (here, there) = (behind[own], through[other]);
        let nodes = format!("[nodes]\n{} = \"{here}\"\n{} = \"{there}\"\n", NAMES[own], NAMES[other]);
        std::fs::write(map, format!("{nodes}[ids]\none = 1\ntwo = 2\n")).unwrap();
    }
    let captured = [0, 1].map(|node| listen_in(through[node], behind[node]));
    let _daemons = NAMES.map(|name| pair.start(name));
    pair.until_members("one", 2);
    pair.until_members("two", 2);
    let to_two = || captured[1].lock().unwrap().clone();
    let sealed = |datagram: &Vec<u8>| datagram.starts_with(&[1, b'S']);
    until("captured", || {
        let count = to_two().into_iter().filter(sealed).count();
        if count >= 12 { Ok(()) } else { Err(count.to_string()) }
    });
    let captured = to_two();
    // While both begin, one may not know the other's key yet, and say so.
    let unknown = |datagram: &Vec<u8>| datagram.starts_with(&[1, b'U']);
    assert!(captured.iter().all(|it| sealed(it) || unknown(it)), "sealed, all that say anything");
    // Each a hundred times, in changing order, by somebody else.
    let attacker = UdpSocket::bind("127.0.0.3:0").unwrap();
    for turn in 0..100 {
        for index in 0..captured.len() {
            attacker.send_to(&captured[(index * 7 + turn) % captured.len()], behind[1]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Nobody answers, and nobody is led elsewhere.
    attacker.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(attacker.recv_from(&mut [0; 2048]).is_err(), "somebody has answered");
    pair.until_members("two", 2);
    let log = std::fs::read_to_string(pair.path().join("two.log")).unwrap();
    assert!(!log.contains("another address") && !log.contains("is down"), "{log}");
}

#[test]
fn a_thousand_machines_with_wrong_tokens_stay_out_and_keep_nobody_waiting() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    done(&mut minka(directory, &["cluster", "init"]));
    let listen = format!("0.0.0.0:{}", free_port());
    let service = listen.replace("0.0.0.0", "127.0.0.1");
    let log = std::fs::File::create(directory.join("service.log")).unwrap();
    let words = ["cluster", "serve", "--listen", &listen];
    let _service = Running(minka(directory, &words).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let token = || done(&mut minka(directory, &["cluster", "token"])).trim().to_owned();
    let join = |name: &str, token: &str| {
        let began = Instant::now();
        let port = free_port().to_string();
        let words = ["cluster", "join", &service, "--name", name, "--port", &port];
        let output = minka(directory, &words).env("MINKA_TOKEN", token).output().unwrap();
        (output, began.elapsed())
    };
    until("served", || TcpStream::connect(&service).map(drop).map_err(|error| error.to_string()));
    let usual = (0..4).map(|turn| join(&format!("early{turn}"), &token())).map(|(output, took)| {
        assert!(output.status.success(), "{output:?}");
        took
    });
    let usual = usual.max().unwrap();

    // The right cluster and identifier, and another secret each time.
    let right = token();
    let parts: Vec<&str> = right.split('-').collect();
    let (inside, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let slowest = std::thread::scope(|scope| {
        for guesser in 0..20_u128 {
            let (parts, inside, waited, service) = (&parts, &inside, &waited, &service);
            scope.spawn(move || {
                for guess in 0..50_u128 {
                    let secret = format!("{:032x}", guesser * 1000 + guess + 1);
                    let text = format!("{}-{}-{secret}-{}", parts[0], parts[1], parts[3]);
                    let token = minka_enroll::token::Token::parse(&text).unwrap();
                    let began = Instant::now();
                    let address = service.parse().unwrap();
                    let outcome = minka_enroll::client::join(address, &token, "guesser", &[], 4660);
                    inside.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
                    waited
                        .fetch_add(usize::from(began.elapsed() >= Duration::from_secs(1)), Ordering::Relaxed);
                }
            });
        }
        let late = (0..4).map(|turn| {
            std::thread::sleep(Duration::from_secs(2));
            let (output, took) = join(&format!("late{turn}"), &token());
            assert!(output.status.success(), "{output:?}");
            took
        });
        late.max().unwrap()
    });
    assert_eq!(inside.into_inner(), 0);
    let waited = waited.into_inner();
    assert!(waited >= 900, "only {waited} of a thousand guesses were slowed");
    assert!(slowest < usual * 4 + Duration::from_secs(1), "{slowest:?} instead of {usual:?}");
    // The one that they tried to guess is still good.
    assert!(join("last", &right).0.status.success());
    let listed = done(&mut minka(directory, &["--json", "cluster", "list"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_object().unwrap().len(), 9, "{listed}");
    println!("1000 guesses: {waited} slowed; a right token took {usual:?} before and {slowest:?} meanwhile");
}

#[test]
fn ten_thousand_idle_clients_keep_nobody_from_being_answered() {
    let pair = Pair::new();
    let api = free_port();
    let config = pair.path().join("minka-cluster/one/node.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("[api]\nlisten = \"127.0.0.1:{api}\"\n"));
    std::fs::write(&config, text).unwrap();
    let _daemon = pair.start("one");
    let socket = pair.run_dir("one").join("api.sock");
    let ask = || -> Result<Duration, String> {
        let began = Instant::now();
        let mut stream = UnixStream::connect(&socket).map_err(|error| error.to_string())?;
        stream.write_all(b"GET /v1/node HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        if answer.starts_with("HTTP/1.0 200") { Ok(began.elapsed()) } else { Err(answer) }
    };
    until("an answer", || ask().map(drop));
    let usual = (0..20).map(|_| ask().unwrap()).max().unwrap();
    // Ten thousand in all, of two kinds: they stay until they are sent away.
    let address = SocketAddr::from(([127, 0, 0, 1], api));
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    let mut slowest = Duration::ZERO;
    for round in 0..25 {
        for _ in 0..200 {
            local.push(UnixStream::connect(&socket).unwrap());
            remote.push(TcpStream::connect(address).unwrap());
        }
        slowest = slowest.max(ask().unwrap_or_else(|error| panic!("round {round}: {error}")));
        let surplus = local.len().saturating_sub(300);
        local.drain(..surplus);
        remote.drain(..surplus);
    }
    assert!(slowest < usual * 4 + Duration::from_secs(1), "{slowest:?} instead of {usual:?}");
    println!("10,000 idle clients: an answer took {usual:?} at most before, {slowest:?} meanwhile");
}

#[test]
fn a_full_disk_and_a_clock_that_is_days_ahead_do_not_end_a_daemon() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let run_dir = pair.run_dir("one");
    std::fs::create_dir(&run_dir).unwrap();
    // The daemon's own mounts, with a disk of 64 KiB for its run directory; and a time namespace whose clocks are two days
    // ahead of the other node's.
    let config = "minka-cluster/one/node.toml";
    let script = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--time", "--boottime", "172800", "--monotonic", "172800", "--fork"]);
    unshare.args(["--kill-child", "sh", "-c", script]).arg(&run_dir);
    unshare.args([MINKA, "node", "serve", "--config", config]).current_dir(pair.path());
    unshare.env("MINKA_DIR", &run_dir).env("LC_ALL", "C").stdin(Stdio::null());
    unshare.stderr(std::fs::File::create(pair.path().join("one.log")).unwrap());
    let one = Running(unshare.spawn().unwrap());
    let _two = pair.start("two");
    pair.until_members("two", 2);
    // Inside of the daemon's mounts.
    let inside = |script: &str| -> Output {
        let daemon = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", one.0.id())).unwrap();
        let pid = daemon.split_whitespace().next().unwrap().to_owned();
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &pid, "--mount", "--time", "--", "sh", "-c", script]).arg(&run_dir);
        enter.env("MINKA_DIR", &run_dir).env("MINKA", MINKA).output().unwrap()
    };
    let filled = inside("head -c 1000000 /dev/zero > \"$0\"/filler");
    assert!(!filled.status.success(), "the disk is not full");
    let asked = inside("\"$MINKA\" --json status");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    // A program is to leave: what has to be written down first cannot be, so it stays, unharmed.
    let moved = inside("sleep 60 & \"$MINKA\" migrate $! two; echo $?; kill -0 $! && echo there; kill $!");
    let told = String::from_utf8_lossy(&moved.stdout).into_owned();
    assert!(
        told.contains("there") && !told.starts_with('0'),
        "{told}{}",
        String::from_utf8_lossy(&moved.stderr)
    );
    // And with room again it goes on as before.
    assert!(inside("rm \"$0\"/filler").status.success());
    let moved = inside("sleep 60 & \"$MINKA\" migrate $! two; echo $?; kill $!");
    let told = String::from_utf8_lossy(&moved.stdout).into_owned();
    assert!(told.ends_with("0\n"), "{told}{}", String::from_utf8_lossy(&moved.stderr));
    pair.until_members("two", 2);
}

#[test]
fn a_daemon_that_is_stopped_for_a_while_comes_back() {
    let pair = Pair::new();
    let one = pair.start("one");
    let _two = pair.start("two");
    pair.until_members("two", 2);
    let pid = rustix::process::Pid::from_child(&one.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    pair.until_members("two", 1);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    pair.until_members("two", 2);
    pair.until_members("one", 2);
}

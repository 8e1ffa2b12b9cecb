//! Machines that join a cluster with a token, are removed, get new certificates and leave, while the others' daemons run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn minka(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(words).current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    command.env_remove("MINKA_DIR").env_remove("MINKA_TOKEN");
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which the test has seen.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster whose authority takes machines in.
struct Cluster {
    scratch: tempfile::TempDir,
    service: String,
    _service: Running,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn begin() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        done(&mut minka(scratch.path(), &["cluster", "init"]));
        let words = ["--json", "cluster", "serve", "--listen", "127.0.0.1:0"];
        let mut child = minka(scratch.path(), &words)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(scratch.path().join("service.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let service = told["listen"].as_str().unwrap().to_owned();
        Cluster { scratch, service, _service: Running(child) }
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn token(&self, life: &str) -> String {
        done(&mut minka(self.path(), &["cluster", "token", "--ttl", life])).trim().to_owned()
    }

    fn try_join(&self, name: &str, token: &str) -> Output {
        let port = free_port().to_string();
        let words = ["cluster", "join", &self.service, "--name", name, "--port", &port];
        minka(self.path(), &words).env("MINKA_TOKEN", token).output().unwrap()
    }

    fn join(&self, name: &str) {
        let output = self.try_join(name, &self.token("15m"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn run_dir(&self, name: &str) -> PathBuf {
        self.path().join(format!("run-{name}"))
    }

    fn start(&self, name: &str) -> Running {
        let config = format!("{name}/node.toml");
        let log = std::fs::File::create(self.path().join(format!("{name}.log"))).unwrap();
        let mut command = minka(self.path(), &["node", "serve", "--config", &config]);
        Running(command.env("MINKA_DIR", self.run_dir(name)).stderr(log).spawn().unwrap())
    }

    fn nodes(&self, at: &str) -> Vec<Value> {
        let output =
            minka(self.path(), &["--json", "nodes"]).env("MINKA_DIR", self.run_dir(at)).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until a node sees exactly these as members of the cluster.
    fn until_members(&self, at: &str, expected: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let nodes = self.nodes(at);
            let mut members: Vec<_> =
                nodes.iter().filter(|it| it["member"] == true).filter_map(|it| it["name"].as_str()).collect();
            members.sort_unstable();
            if members == expected {
                return;
            }
            let log = std::fs::read_to_string(self.path().join(format!("{at}.log"))).unwrap_or_default();
            assert!(Instant::now() < deadline, "{at} sees {nodes:?}\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("{name}.log"))).unwrap()
    }
}

#[test]
fn machines_join_are_removed_and_leave_while_the_others_go_on() {
    let cluster = Cluster::begin();
    cluster.join("one");
    let _one = cluster.start("one");
    cluster.join("two");
    let _two = cluster.start("two");
    cluster.until_members("one", &["one", "two"]);
    // The first has never heard of the third before, and is not started anew.
    cluster.join("three");
    let _three = cluster.start("three");
    for at in ["one", "two", "three"] {
        cluster.until_members(at, &["one", "three", "two"]);
    }
    assert!(cluster.log("one").contains("the list of nodes has changed"), "{}", cluster.log("one"));

    // Two gets another key and certificate, and stays; the old ones are refused.
    let old = cluster.path().join("old");
    done(Command::new("cp").args(["-r", "two"]).arg(&old).current_dir(cluster.path()));
    done(&mut minka(cluster.path(), &["cluster", "rotate", "--config", "two/node.toml", "--refuse-old"]));
    let keys = |directory: &Path| std::fs::read(directory.join("keys/node.key")).unwrap();
    assert_ne!(keys(&old), keys(&cluster.path().join("two")));
    let words = ["cluster", "rotate", "--config", "old/node.toml"];
    let output = minka(cluster.path(), &words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(5) && told.contains("its certificate is refused"), "{told}");
    let deadline = Instant::now() + PATIENCE;
    while !cluster.log("two").contains("has another certificate now") {
        assert!(Instant::now() < deadline, "{}", cluster.log("two"));
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.until_members("one", &["one", "three", "two"]);

    // Three is removed by who looks after the cluster: the others forget it, and it knows.
    let told = done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    assert!(told.contains("one, two: know of it"), "{told}");
    cluster.until_members("one", &["one", "two"]);
    cluster.until_members("two", &["one", "two"]);
    assert!(cluster.nodes("one").iter().all(|node| node["name"] != "three"));
    let deadline = Instant::now() + PATIENCE;
    while !cluster.log("three").contains("of its cluster no more") {
        assert!(Instant::now() < deadline, "{}", cluster.log("three"));
        std::thread::sleep(Duration::from_millis(100));
    }
    // It does not come back by being started anew.
    drop(_three);
    let _three = cluster.start("three");
    std::thread::sleep(Duration::from_secs(3));
    cluster.until_members("one", &["one", "two"]);

    // Two leaves by itself.
    let mut leave = minka(cluster.path(), &["cluster", "leave", "--config", "two/node.toml"]);
    done(leave.env("MINKA_DIR", cluster.run_dir("two")));
    cluster.until_members("one", &["one"]);
    let listed: Value =
        serde_json::from_str(&done(&mut minka(cluster.path(), &["--json", "cluster", "list"]))).unwrap();
    assert_eq!(listed.as_object().unwrap().keys().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn a_node_that_was_off_when_somebody_was_removed_learns_of_it() {
    let cluster = Cluster::begin();
    for name in ["one", "two", "three"] {
        cluster.join(name);
    }
    let _one = cluster.start("one");
    let _three = cluster.start("three");
    cluster.until_members("one", &["one", "three"]);
    done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    cluster.until_members("one", &["one"]);
    // Its list of nodes still has all three.
    let _two = cluster.start("two");
    cluster.until_members("two", &["one", "two"]);
    assert!(cluster.nodes("two").iter().all(|node| node["name"] != "three"));
}

#[test]
fn tokens_are_good_once_for_a_while_and_for_their_cluster() {
    let cluster = Cluster::begin();
    let refused = |name: &str, token: &str, status: i32, told: &str| {
        let output = cluster.try_join(name, token);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{errors}");
        assert!(errors.contains(told), "{errors}");
        assert!(!cluster.path().join(name).join("node.toml").exists());
    };
    let token = cluster.token("15m");
    assert!(cluster.try_join("one", &token).status.success());
    refused("two", &token, 5, "the token is wrong, was used or is too old");
    let short = cluster.token("1s");
    std::thread::sleep(Duration::from_millis(1100));
    refused("two", &short, 5, "the token is wrong, was used or is too old");
    refused("two", "", 2, "understand the token");
    // A name that is taken costs no token.
    let token = cluster.token("15m");
    refused("one/..", &token, 1, "lower-case letters");
    let again = minka(cluster.path(), &["cluster", "join", &cluster.service, "--name", "one", "--into", "x"])
        .env("MINKA_TOKEN", &token)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(5), "{again:?}");
    // From standard input, as those do that keep secrets in a file.
    let port = free_port().to_string();
    let words = ["cluster", "join", &cluster.service, "--name", "two", "--port", &port, "--token-file", "-"];
    let mut child = minka(cluster.path(), &words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    // Another cluster's token: the service is not the one that it is for, and does not even get to see it.
    let other = Cluster::begin();
    refused("three", &other.token("15m"), 1, "speak to the cluster's authority");
    assert!(!cluster.log("service").contains(&token) && cluster.log("service").contains("has joined"));
}

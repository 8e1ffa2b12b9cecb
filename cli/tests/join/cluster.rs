//! A cluster whose authority takes machines in, and daemons of its nodes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn minka(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(words).current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    command.env_remove("MINKA_DIR").env_remove("MINKA_TOKEN");
    command
}

pub(crate) fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which the test has seen.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster whose authority takes machines in.
pub(crate) struct Cluster {
    scratch: tempfile::TempDir,
    pub(crate) service: String,
    _service: Running,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    pub(crate) fn begin() -> Self {
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

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn token(&self, life: &str) -> String {
        done(&mut minka(self.path(), &["cluster", "token", "--ttl", life])).trim().to_owned()
    }

    pub(crate) fn try_join(&self, name: &str, token: &str) -> Output {
        let port = free_port().to_string();
        let words = ["cluster", "join", &self.service, "--name", name, "--port", &port];
        minka(self.path(), &words).env("MINKA_TOKEN", token).output().unwrap()
    }

    pub(crate) fn join(&self, name: &str) {
        let output = self.try_join(name, &self.token("15m"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn run_dir(&self, name: &str) -> PathBuf {
        self.path().join(format!("run-{name}"))
    }

    pub(crate) fn start(&self, name: &str) -> Running {
        let config = format!("{name}/node.toml");
        let log = std::fs::File::create(self.path().join(format!("{name}.log"))).unwrap();
        let mut command = minka(self.path(), &["node", "serve", "--config", &config]);
        Running(command.env("MINKA_DIR", self.run_dir(name)).stderr(log).spawn().unwrap())
    }

    pub(crate) fn nodes(&self, at: &str) -> Vec<Value> {
        let output =
            minka(self.path(), &["--json", "nodes"]).env("MINKA_DIR", self.run_dir(at)).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until a node sees exactly these as members of the cluster.
    pub(crate) fn until_members(&self, at: &str, expected: &[&str]) {
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

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("{name}.log"))).unwrap()
    }
}

//! Machines, which are nodes of a lab, with daemons of a cluster of their own.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const MINKA: &str = env!("CARGO_BIN_EXE_minka");

/// How long anything may take on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A lab whose nodes serve as machines. Each is taken down with the test.
pub(crate) struct Machines {
    pub(crate) lab: String,
    scratch: tempfile::TempDir,
    pub(crate) daemons: Vec<Child>,
}

impl Machines {
    pub(crate) fn up(name: &str, nodes: u32) -> Self {
        let lab = format!("{name}-{}", std::process::id());
        let machines = Machines { lab, scratch: tempfile::tempdir().unwrap(), daemons: Vec::new() };
        let up = machines.minka(&["lab", "up", "--nodes", &nodes.to_string(), "--name", &machines.lab]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        machines
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(MINKA);
        command.args(words).current_dir(self.path()).env("LC_ALL", "C").env_remove("MINKA_DIR");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn minka(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Makes a cluster of `one`, `two` and so on, each with its addresses, that listen at all of them.
    pub(crate) fn cluster(&self, addresses: &[&[&str]], settings: &str) {
        assert!(self.minka(&["cluster", "init"]).status.success());
        for (name, addresses) in ["one", "two", "three"].iter().zip(addresses) {
            let added = self.minka(&[&["cluster", "add", name], *addresses].concat());
            let address = addresses[0];
            assert!(added.status.success(), "{added:?}");
            let config = self.path().join(format!("minka-cluster/{name}/node.toml"));
            let text = std::fs::read_to_string(&config).unwrap();
            let text = text.replace(&format!("\"{address}\""), "\"0.0.0.0:4760\"");
            std::fs::write(config, format!("{text}{settings}")).unwrap();
        }
    }

    /// Runs something on a machine.
    pub(crate) fn on(&self, machine: &str, script: &str) -> Command {
        let words = ["lab", "exec", "--name", &self.lab, machine, "--", "sh", "-c", script, MINKA];
        self.command(&words)
    }

    pub(crate) fn start(&mut self, machine: &str, name: &str) {
        let directory = self.path().display().to_string();
        let script = format!(
            "cd {directory} && export MINKA_DIR={directory}/run-{name} && \
             exec \"$0\" node serve --config minka-cluster/{name}/node.toml 2> {name}.log"
        );
        let daemon = self.on(machine, &script).stdout(Stdio::null()).spawn().unwrap();
        self.daemons.push(daemon);
    }

    /// What a node says of the cluster's nodes.
    fn nodes(&self, machine: &str, name: &str) -> Vec<Value> {
        let directory = self.path().display().to_string();
        let script = format!("export MINKA_DIR={directory}/run-{name}; exec \"$0\" --json nodes");
        let output = self.on(machine, &script).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until a node knows another one at an address.
    pub(crate) fn until_other_is_at(&self, machine: &str, name: &str, address: &str) {
        let deadline = Instant::now() + PATIENCE;
        let is_there = |other: &&Value| {
            other["member"] == true && other["address"] == address && other["reachable"] == true
        };
        loop {
            let other = self.nodes(machine, name);
            if other.iter().skip(1).any(|it| is_there(&it)) {
                return;
            }
            let log = std::fs::read_to_string(self.path().join(format!("{name}.log"))).unwrap_or_default();
            assert!(Instant::now() < deadline, "{name} says {other:?}\n{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let _ = self.minka(&["lab", "down", "--name", &self.lab]);
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

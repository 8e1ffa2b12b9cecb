//! A lab whose nodes can be made to fail.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use minka_lab::{Lab, LabOptions, Lifetime, NODE_PORT, Program, Running, node_address};
use minka_node::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{SOON, eventually};

/// Patience with silent peers: short, so that tests of it are.
const LINK: &str = "\n[link]\nconnect_ms = 1000\nhandshake_ms = 2000\ndead_after_ms = 1000\nanswer_ms = 1000\n\
    freeze_ms = 700\n";

const LIMITS: [&str; 5] = ["connect", "handshake", "dead_after", "answer", "freeze"];

/// A lab and what is known of it.
#[derive(Debug)]
pub struct Cluster {
    // In this order they go: the lab before the directory that it lies in.
    lab: Lab,
    /// Each node's configuration without what tests add to it.
    configurations: Vec<String>,
    subject: PathBuf,
    files: AtomicU32,
    directory: TempDir,
}

impl Cluster {
    /// A cluster of that many nodes. `subject` is the path of the program that tests move.
    pub fn up(nodes: u32, subject: &str) -> Self {
        Self::limited(nodes, subject, Vec::new())
    }

    /// The same, with so much memory for the programs and guests of each node, in MiB.
    pub fn limited(nodes: u32, subject: &str, memory_mib: Vec<u32>) -> Self {
        let directory = tempfile::Builder::new().prefix("minka-faults-").tempdir().expect("make a directory");
        let options = LabOptions {
            nodes,
            directory: Some(directory.path().join("lab")),
            helper: minka(),
            memory_mib,
            lifetime: Lifetime::Attached,
            ..LabOptions::named("faults")
        };
        let lab = Lab::up(&options).unwrap_or_else(|error| panic!("bring up a lab: {}", chain(&error)));
        let configurations = lab
            .description()
            .nodes
            .iter()
            .map(|node| fs::read_to_string(node.configuration()).expect("read a configuration") + LINK)
            .collect();
        let cluster =
            Self { lab, configurations, subject: subject.into(), files: AtomicU32::new(0), directory };
        (1..=nodes).for_each(|node| cluster.configure(node, ""));
        cluster
    }

    /// The same, where peers count as dead only after so many seconds of silence, and may take as long for each step.
    pub fn patient(nodes: u32, subject: &str, seconds: u64) -> Self {
        let mut cluster = Self::up(nodes, subject);
        for text in &mut cluster.configurations {
            let (own, _) = text.split_once("\n[link]").expect("limits of a link");
            *text = format!(
                "{own}\n[link]\n{}",
                LIMITS.map(|limit| format!("{limit}_ms = {seconds}000\n")).concat()
            );
        }
        cluster.heal();
        cluster
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn subject(&self) -> &Path {
        &self.subject
    }

    /// A name for a file that nobody else has.
    pub fn new_file(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.directory.path().join(format!("subject-{number}"))
    }

    /// A connection to a node's daemon.
    pub fn client(&self, node: u32) -> Client {
        Client::connect(&self.run_directory(node)).expect("connect to a daemon")
    }

    /// Where a node's daemon has its socket.
    pub fn run_directory(&self, node: u32) -> PathBuf {
        self.lab.description().node(node).expect("a node").run_directory()
    }

    /// Where a node's keys lie.
    pub fn keys(&self, node: u32) -> PathBuf {
        self.lab.description().node(node).expect("a node").directory.join("keys")
    }

    /// Runs the command-line tool against a node's daemon.
    pub fn minka(&self, node: u32, arguments: &[&str]) -> Output {
        self.tool(minka(), node, arguments).output().expect("run minka")
    }

    /// The same as a user who owns nothing; `None` if the tests are not run by root.
    pub fn minka_as_nobody(&self, node: u32, arguments: &[&str]) -> Option<Output> {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        // The daemon lets everybody ask; it is only this lab's directory that is private.
        let run = self.run_directory(node);
        for directory in run.ancestors().take_while(|directory| directory.starts_with(self.directory.path()))
        {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("open a directory");
        }
        // The program may lie where only root can look: so it is passed on as a descriptor.
        let program = fs::File::open(minka()).expect("open minka");
        let inherited = rustix::io::dup(&program).expect("duplicate a descriptor");
        let path = format!("/proc/self/fd/{}", inherited.as_raw_fd());
        let mut command = self.tool(path.into(), node, arguments);
        Some(command.uid(NOBODY).gid(NOBODY).output().expect("run minka"))
    }

    fn tool(&self, program: PathBuf, node: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir("/")
            .env("LC_ALL", "C")
            .env("MINKA_DIR", self.run_directory(node));
        command
    }

    /// Puts lines in front of a node's configuration. Deputy and host programs that start from now on find them.
    pub fn configure(&self, node: u32, lines: &str) {
        self.write_configuration(node, &format!("{lines}\n{}", self.configurations[node as usize - 1]));
    }

    /// Nobody is in a hurry, until [`Cluster::heal`]: what is to succeed may take as long as it does on a busy machine.
    pub fn unhurried(&self) {
        for (node, text) in (1..).zip(&self.configurations) {
            let own = text.split_once("\n[link]").map_or(&text[..], |(own, _)| own);
            self.write_configuration(node, own);
        }
    }

    /// Has all nodes track what is written as on a kernel before Linux 6.7, until [`Cluster::heal`].
    pub fn pretend_old_kernels(&self) {
        (1..=self.configurations.len() as u32).for_each(|node| self.configure(node, "old_kernel = true"));
    }

    /// Has all nodes take each other for machines with other kernels, until [`Cluster::heal`].
    pub fn pretend_other_kernels(&self) {
        (1..=self.configurations.len() as u32).for_each(|node| self.configure(node, "other_kernel = true"));
    }

    /// Has the deputies of node 1 take another port for that of node 2, until [`Cluster::heal`].
    pub fn divert(&self, port: u16) {
        let (own, other) =
            (format!("{}:{NODE_PORT}", node_address(2)), format!("{}:{port}", node_address(2)));
        let text = &self.configurations[0];
        assert!(text.contains(&own), "{text}");
        self.write_configuration(1, &text.replace(&own, &other));
    }

    fn write_configuration(&self, node: u32, text: &str) {
        let path = self.lab.description().node(node).expect("a node").configuration();
        let next = path.with_extension("next");
        fs::write(&next, text).expect("write");
        fs::rename(next, path).expect("put in place");
    }

    /// Has each of a node's deputy and host programs fail at a point; several faults are separated by blanks.
    pub fn fail(&self, node: u32, faults: &str) {
        let faults: Vec<&str> = faults.split(' ').collect();
        self.configure(node, &format!("faults = {faults:?}"));
    }

    /// No program fails any more.
    pub fn heal(&self) {
        (1..=self.configurations.len() as u32).for_each(|node| self.configure(node, ""));
    }

    /// Waits until a point has been reached on a node, so and so often since the lab is up.
    pub fn reached(&self, node: u32, fault: &str, times: usize) {
        let point = fault.split([':', '#', '@']).next().unwrap_or_default();
        let line = format!("fault point {point}:");
        let until = std::time::Instant::now() + SOON;
        while self.log(node).matches(&line).count() < times {
            assert!(std::time::Instant::now() < until, "{point} is not reached\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often a point has been reached on a node.
    pub fn times(&self, node: u32, fault: &str) -> usize {
        let point = fault.split([':', '#', '@']).next().unwrap_or_default();
        self.log(node).matches(&format!("fault point {point}:")).count()
    }

    /// Kills a node's daemon and nothing else.
    pub fn kill_daemon(&self, node: u32) {
        let init = self.lab.description().node(node).expect("a node").init.expect("its init").pid;
        let daemon = children(init)
            .into_iter()
            .find(|pid| name_and_state(*pid).is_some_and(|(name, _)| name == "minkad"));
        let daemon = daemon.and_then(|pid| Pid::from_raw(pid as i32)).expect("a running daemon");
        kill_process(daemon, Signal::KILL).expect("kill a daemon");
    }

    /// Starts another daemon on a node whose own has been killed, until it is dropped. It logs to the same file.
    pub fn start_daemon(&self, node: u32) -> Daemon {
        let description = self.lab.description().node(node).expect("a node");
        let log = || fs::File::options().append(true).open(description.log()).expect("open the log");
        let program = Program::new(minka())
            .arguments(["node", "serve", "--config"])
            .arguments([description.configuration()])
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        let daemon = Daemon(self.lab.start(node, program).expect("start a daemon"));
        eventually(SOON, "the daemon answers", || Client::connect(&self.run_directory(node)).ok());
        daemon
    }

    /// The programs of that name on any node. Not while the one that started them ends: they have two parents then, or none.
    pub fn named(&self, name: &str) -> Vec<Pid> {
        let remains = self.remains();
        let named = remains.iter().filter_map(|remain| remain.split_once(' '));
        named
            .filter(|(_, rest)| rest.starts_with(name))
            .filter_map(|(pid, _)| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    /// Has the programs of that name on any node stopped, or go on: returns how many there are.
    pub fn signal_all(&self, name: &str, signal: Signal) -> usize {
        // One may have ended by itself.
        self.named(name).into_iter().filter(|pid| kill_process(*pid, signal).is_ok()).count()
    }

    /// Kills the guests on a node, as its kernel does when memory is short: returns how many there were.
    pub fn kill_guests(&self, node: u32) -> usize {
        let subject = self.subject.file_name().expect("a name").display().to_string();
        let init = self.lab.description().node(node).expect("a node").init.expect("its init").pid;
        let is_guest = |pid: &u32| name_and_state(*pid).is_some_and(|(name, _)| subject.starts_with(&name));
        let guests: Vec<u32> = descendants([init]).into_iter().filter(is_guest).collect();
        for pid in guests.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
            kill_process(pid, Signal::KILL).expect("kill a guest");
        }
        guests.len()
    }

    /// What a node's daemon and its programs have logged.
    pub fn log(&self, node: u32) -> String {
        let path = self.lab.description().node(node).expect("a node").log();
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The logs of all nodes, and what their programs wait for, for messages of failed tests.
    pub fn logs(&self) -> String {
        let nodes = 1..=self.configurations.len() as u32;
        let logs: String = nodes.map(|node| format!("--- node{node}\n{}", self.log(node))).collect();
        let inits = self.lab.description().nodes.iter().filter_map(|node| node.init).map(|init| init.pid);
        logs + "--- threads\n" + &descendants(inits).into_iter().map(threads).collect::<String>()
    }

    /// Deputy programs, host programs, guests and zombies on any node.
    pub fn remains(&self) -> Vec<String> {
        let inits = self.lab.description().nodes.iter().filter_map(|node| node.init).map(|init| init.pid);
        let is_left = |name: &str, state| name == "minka-deputy" || name == "minka-host" || state == 'Z';
        let described = descendants(inits).into_iter().filter_map(|pid| {
            let (name, state) = name_and_state(pid)?;
            is_left(&name, state).then(|| format!("{pid} {name} {state}"))
        });
        described.collect()
    }

    /// Records that deputies keep for a rescue, and ledgers of families, on the nodes that live.
    fn records(&self) -> Vec<String> {
        let nodes = self.lab.status().expect("ask the lab");
        let living = nodes.iter().filter(|node| node.alive);
        let entries = living
            .flat_map(|node| fs::read_dir(self.run_directory(node.number)).into_iter().flatten().flatten());
        let names = entries.map(|entry| entry.file_name().display().to_string());
        names.filter(|name| name.starts_with("parked-") || name.starts_with("family-")).collect()
    }

    /// Waits until nothing of any move is left on any node.
    pub fn is_quiet(&self) {
        let until = std::time::Instant::now() + SOON;
        loop {
            let left = [self.remains(), self.records()].concat();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < until, "left: {left:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A daemon that was started by hand.
#[derive(Debug)]
pub struct Daemon(Running);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.pid() as i32) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.wait_timeout(SOON);
    }
}

/// The name of a process, and its state as in `/proc/PID/stat`.
fn name_and_state(pid: u32) -> Option<(String, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    Some((stat[start + 1..end].to_owned(), stat[end + 2..].chars().next()?))
}

/// These processes and all that descend from them.
fn descendants(processes: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut found: Vec<u32> = processes.into_iter().collect();
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children(*pid));
        at += 1;
    }
    found
}

/// A line for each thread of a process: its name, its state, and where it waits in the kernel, in which call.
fn threads(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let describe = |task: fs::DirEntry| {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let status = read("status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        let (name, state, tracer) = (field("Name:"), field("State:"), field("TracerPid:"));
        let tid = task.file_name();
        let (place, call) = (read("wchan"), read("syscall"));
        format!("{pid}/{} {name}: {state}, traced by {tracer}, {place}, {}\n", tid.display(), call.trim())
    };
    tasks.map(describe).collect()
}

/// The children of all threads of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The program under test.
///
/// # Panics
/// When it has not been built.
pub fn minka() -> PathBuf {
    if let Some(path) = std::env::var_os("MINKA_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST
    let beside = own.parent().and_then(Path::parent).map(|profile| profile.join("minka"));
    match beside {
        Some(path) if path.exists() => path,
        other => panic!(
            "the program under test is not at {other:?}: build it with `cargo build -p minka` (in the same profile), \
             or name it in MINKA_BIN"
        ),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

//! Nodes and daemons that are lost while work is spread by itself: what computed elsewhere goes on, and nobody else ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

/// A program without any effect.
const COMPUTE: &str = "while :; do :; done";

/// How long anything may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(100);

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command.output().unwrap()
}

/// A lab whose nodes spread their work, and programs on its first node that compute until it is taken down.
struct Lab {
    name: String,
    programs: Vec<Child>,
    daemons: Vec<Child>,
}

impl Lab {
    /// A lab of nodes that have a small part of a processor each, so that many tests can run beside each other.
    fn up(name: &str, nodes: usize, programs: usize, script: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let count = nodes.to_string();
        let options = ["--nodes", &count, "--name", &name, "--cpus", "0.2", "--balance", "all"];
        let output = run(&[&["lab", "up"][..], &options].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lab = Lab { name, programs: Vec::new(), daemons: Vec::new() };
        lab.until("all members", |lab| {
            let known = lab.json("node1", &["nodes"])?;
            let met = known.iter().filter(|it| it["member"] == true && it["figures"]["cpus"].is_u64());
            if met.count() == nodes { Ok(()) } else { Err(format!("{known:?}")) }
        });
        lab.programs = (0..programs).map(|_| lab.spawn("node1", &["sh", "-c", script])).collect();
        lab
    }

    fn spawn(&self, node: &str, command: &[&str]) -> Child {
        let words = ["lab", "exec", "--name", &self.name, node, "--"];
        let mut exec = Command::new(MINKA);
        exec.args(words).args(command).env_remove("MINKA_DIR");
        exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn json(&self, node: &str, words: &[&str]) -> Result<Vec<Value>, String> {
        let exec = ["lab", "exec", "--name", &self.name, node, "--", MINKA];
        let output = run(&[&exec[..], words, &["--json"]].concat());
        let told: Result<Value, _> = serde_json::from_slice(&output.stdout);
        let told = told.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(told.as_array().cloned().unwrap_or_else(|| vec![told]))
    }

    /// The programs as their home tells of them.
    fn told(&self) -> Result<Vec<Value>, String> {
        let known = self.json("node1", &["ps"])?;
        Ok(known.into_iter().filter(|it| it["command"] == "sh" && it["home"] == "node1").collect())
    }

    fn until(&self, what: &str, is: impl Fn(&Self) -> Result<(), String>) {
        let deadline = Instant::now() + LIMIT;
        while let Err(found) = is(self) {
            assert!(Instant::now() < deadline, "never {what}: {found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn until_at(&self, nodes: &[&str]) {
        self.until("on these nodes", |lab| {
            let told = lab.told()?;
            let there = |node: &&str| told.iter().any(|it| it["state"] == "away" && it["at"] == **node);
            if nodes.iter().all(there) { Ok(()) } else { Err(format!("{told:?}")) }
        });
    }

    /// How many of the programs still run.
    fn running(&mut self) -> usize {
        self.programs.iter_mut().filter_map(|it| it.try_wait().unwrap().is_none().then_some(())).count()
    }

    fn kill_daemon(&self, node: &str) {
        let pid = self.json(node, &["status"]).unwrap()[0]["pid"].to_string();
        assert!(self.spawn(node, &["kill", "-9", &pid]).wait().unwrap().success());
    }

    fn start_daemon(&mut self, node: u32) {
        let lab = minka_lab::Lab::open(&self.name).unwrap();
        let config = lab.description().node(node).unwrap().configuration().display().to_string();
        let daemon = self.spawn(&format!("node{node}"), &[MINKA, "node", "serve", "--config", &config]);
        self.daemons.push(daemon);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["lab", "down", "--name", &self.name]);
        for program in self.programs.iter_mut().chain(&mut self.daemons) {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Loses one of four nodes over which eight programs are spread; returns how many of them have ended by that.
fn lose_one(name: &str, script: &str) -> usize {
    let mut lab = Lab::up(name, 4, 8, script);
    lab.until_at(&["node2", "node3", "node4"]);
    minka_lab::Lab::open(&lab.name).unwrap().kill_node(4).unwrap();
    lab.until("without the lost node", |lab| {
        let known = lab.json("node1", &["nodes"])?;
        let told = lab.told()?;
        let is_there = told.iter().any(|it| it["at"] == "node4" && it["state"] != "ended");
        let is_up = known.iter().any(|it| it["name"] == "node4" && it["member"] == true);
        if is_there || is_up { Err(format!("{told:?} {known:?}")) } else { Ok(()) }
    });
    let told = lab.told().unwrap();
    let ended: Vec<&Value> = told.iter().filter(|it| it["state"] == "ended").collect();
    for process in &ended {
        assert!(process["at"] == "node4" && process["reason"].is_string(), "{process}");
    }
    assert_eq!(lab.running(), 8 - ended.len(), "{told:?}");
    // The others go on, and spread over who is left.
    lab.until_at(&["node2", "node3"]);
    assert_eq!(lab.running(), 8 - ended.len());
    ended.len()
}

#[test]
fn a_node_that_is_lost_takes_only_what_computed_there() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Each has an effect all the time: nobody could say how far it had come.
    let ended =
        lose_one("lost", "while :; do i=0; while [ $i -lt 999 ]; do i=$((i+1)); done; kill -0 $$; done");
    assert!((1..8).contains(&ended), "{ended}");
    // What only computes goes on at home from where it left.
    assert_eq!(lose_one("harmless", COMPUTE), 0);
}

#[test]
fn daemons_that_are_killed_and_started_again_lose_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut lab = Lab::up("again", 3, 6, COMPUTE);
    lab.until_at(&["node2", "node3"]);
    lab.kill_daemon("node2");
    lab.until("away from the node without a daemon", |lab| {
        let told = lab.told()?;
        if told.iter().any(|it| it["at"] == "node2") { Err(format!("{told:?}")) } else { Ok(()) }
    });
    assert_eq!(lab.running(), 6);
    lab.start_daemon(2);
    lab.until_at(&["node2", "node3"]);
    // The home's own: what is away comes home, and a new daemon finds it there and lets it leave again.
    lab.kill_daemon("node1");
    lab.start_daemon(1);
    lab.until_at(&["node2", "node3"]);
    assert_eq!(lab.running(), 6, "{:?}", lab.told());
}

/// Has the daemon of a node begin anew with these lines at the end of its configuration.
fn configure(lab: &mut Lab, node: u32, lines: &str) {
    let description = minka_lab::Lab::open(&lab.name).unwrap();
    let path = description.description().node(node).unwrap().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
    lab.kill_daemon(&format!("node{node}"));
    lab.start_daemon(node);
}

#[test]
fn an_adaptive_node_takes_guests_until_somebody_sits_down_at_it() {
    let screen = std::path::Path::new("/dev/tty9");
    if !rustix::process::geteuid().is_root() || !screen.exists() {
        return;
    }
    let mut lab = Lab::up("pool", 3, 6, COMPUTE);
    // One that takes guests only in one minute of the day, and that is hours away.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60;
    let hour = (now / 60 + 12) % 24;
    let never = format!("[pool]\nkind = 'adaptive'\ntimes = ['daily {hour:02}:00-{hour:02}:01']");
    configure(&mut lab, 3, &never);
    configure(&mut lab, 2, "[pool]\nkind = 'adaptive'\nidle_min = 1");
    let pool = |lab: &Lab, node: &str| lab.json(node, &["status"]).map(|it| it[0]["pool"].clone());
    lab.until("closed and open", |lab| {
        let pools = [pool(lab, "node3")?, pool(lab, "node2")?];
        let closed = pools[0]["closed"] == "time" && pools[1]["closed"].is_null();
        if closed { Ok(()) } else { Err(format!("{pools:?}")) }
    });
    lab.until_at(&["node2"]);
    let told = lab.told().unwrap();
    assert!(told.iter().all(|it| it["at"] != "node3"), "{told:?}");
    // As when somebody types on this screen.
    assert!(Command::new("touch").args(["-a", "/dev/tty9"]).status().unwrap().success());
    lab.until("without guests", |lab| {
        let (pool, told) = (pool(lab, "node2")?, lab.told()?);
        let is_empty = told.iter().all(|it| it["at"] != "node2");
        if pool["closed"] == "used" && is_empty { Ok(()) } else { Err(format!("{pool} {told:?}")) }
    });
    assert_eq!(lab.running(), 6);
}

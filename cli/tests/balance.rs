//! Nodes that find each other and spread their work by themselves, with the real program, in a lab.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

/// How long anything may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(100);

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command.output().unwrap()
}

/// A lab that is taken down with the test, and the programs in it.
struct Lab {
    name: String,
    programs: Vec<Child>,
}

impl Lab {
    fn up(name: &str, nodes: &str, balance: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let output = run(&["lab", "up", "--nodes", nodes, "--name", &name, "--balance", balance]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Lab { name, programs: Vec::new() }
    }

    fn exec(&self, node: &str, command: &[&str]) -> Output {
        let words = ["lab", "exec", "--name", &self.name, node, "--"];
        run(&words.into_iter().chain(command.iter().copied()).collect::<Vec<_>>())
    }

    fn json(&self, node: &str, words: &[&str]) -> Vec<Value> {
        let output = self.exec(node, &[&[MINKA], words, &["--json"]].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told.as_array().unwrap().clone()
    }

    /// Starts programs that compute until the lab goes down.
    fn compute(&mut self, node: &str, count: usize) {
        self.run(node, count, &["sh", "-c", "while :; do :; done"]);
    }

    fn run(&mut self, node: &str, count: usize, program: &[&str]) {
        for _ in 0..count {
            let mut command = Command::new(MINKA);
            command.args(["lab", "exec", "--name", &self.name, node, "--"]).args(program);
            command.env_remove("MINKA_DIR").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.programs.push(command.spawn().unwrap());
        }
    }

    /// What the nodes have written down.
    fn logs(&self) -> String {
        let log = |node: &str| {
            let log = format!("/run/minka/lab/{}/{node}/node.log", self.name);
            format!("== {node}\n{}", std::fs::read_to_string(log).unwrap_or_default())
        };
        ["node1", "node2", "node3"].map(log).concat()
    }

    fn until(&self, what: &str, mut is: impl FnMut(&Self) -> Result<(), String>) {
        let deadline = Instant::now() + LIMIT;
        while let Err(found) = is(self) {
            assert!(Instant::now() < deadline, "never {what}: {found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a node knows the load of so many.
    fn until_met(&self, node: &str, count: usize) {
        self.until("all members", |lab| {
            let nodes = lab.json(node, &["nodes"]);
            let known =
                nodes.iter().filter(|it| it["member"] == true && it["figures"]["cpus"].is_u64()).count();
            if known == count { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["lab", "down", "--name", &self.name]);
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

#[test]
fn work_spreads_by_itself_and_nobody_has_to_say_so() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut lab = Lab::up("spread", "3", "all");
    lab.until_met("node1", 3);
    lab.compute("node1", 5);
    lab.until("spread over all nodes", |lab| {
        let processes = lab.json("node1", &["ps"]);
        let away = |node: &str| processes.iter().any(|it| it["state"] == "away" && it["at"] == node);
        if away("node2") && away("node3") { Ok(()) } else { Err(format!("{processes:?}")) }
    });
    // What nobody has asked for is nobody's wish.
    let processes = lab.json("node1", &["ps"]);
    assert!(processes.iter().all(|it| it["wanted"].is_null()), "{processes:?}");
    // And they can be brought home by hand, and stay there for as long as a wish stands.
    let away = |it: &&Value| it["state"] == "away" && it["command"] == "sh";
    let pid = processes.iter().find(away).unwrap()["pid"].to_string();
    lab.until("home", |lab| {
        let output = lab.exec("node1", &[MINKA, "migrate", &pid, "home"]);
        let told = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        let known = lab.json("node1", &["ps"]);
        assert!(!told.contains("no process"), "{told}{known:?}\n{}", lab.logs());
        Err(told.into())
    });
    for program in &mut lab.programs {
        assert_eq!(program.try_wait().unwrap(), None, "nobody has ended them");
    }
}

#[test]
fn where_nothing_is_to_be_moved_nothing_moves() {
    let mut lab = Lab::up("still", "2", "none");
    lab.until_met("node2", 2);
    lab.compute("node1", 3);
    // Gossip tells of the load, and so the balancer would have moved somebody by then.
    lab.until("known to be busy", |lab| {
        let nodes = lab.json("node2", &["nodes"]);
        let node = nodes.iter().find(|it| it["name"] == "node1").unwrap();
        let load = node["figures"]["load"].as_f64().unwrap_or(0.0);
        if load > 2.0 { Ok(()) } else { Err(format!("{node:?}")) }
    });
    assert_eq!(lab.json("node1", &["ps"]), Vec::<Value>::new());
}

#[test]
fn garbage_on_the_port_of_datagrams_changes_nothing() {
    let lab = Lab::up("garbage", "2", "none");
    lab.until_met("node1", 2);
    let script = "for i in $(seq 300); do head -c $((i * 5)) /dev/urandom > /dev/udp/10.77.0.1/4660; done; \
                  for i in $(seq 50); do printf '\\1S%01400d' $i > /dev/udp/10.77.0.1/4660; \
                  printf '\\1U%08d' $i > /dev/udp/10.77.0.1/4660; done";
    assert!(lab.exec("node2", &["bash", "-c", script]).status.success());
    lab.until_met("node1", 2);
    let age = |lab: &Lab| lab.json("node1", &["nodes"])[1]["figures"]["age_ms"].as_u64().unwrap();
    // It still hears of the other one.
    lab.until("newer", |lab| if age(lab) < 1500 { Ok(()) } else { Err(age(lab).to_string()) });
}

#[test]
fn who_asks_much_of_its_home_goes_there_and_stays() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut lab = Lab::up("talker", "2", "all");
    lab.until_met("node1", 2);
    // They read and write nothing, so nothing tells of their calls before they have left.
    lab.run("node1", 3, &["perl", "-e", "while (1) { getppid }"]);
    let talkers = |lab: &Lab| -> Vec<Value> {
        lab.json("node1", &["ps"]).into_iter().filter(|it| it["command"] == "perl").collect()
    };
    let all_home = |talkers: &[Value]| talkers.iter().all(|it| it["at"] == "node1" && it["state"] != "away");
    let moves = |talkers: &[Value]| talkers.iter().filter_map(|it| it["moves"].as_u64()).sum::<u64>();
    lab.until("home for good", |lab| {
        let before = talkers(lab);
        if moves(&before) < 2 || !all_home(&before) {
            return Err(format!("{before:?}"));
        }
        std::thread::sleep(Duration::from_secs(6));
        let after = talkers(lab);
        // There is more room elsewhere, but here are those whom they ask.
        if moves(&after) == moves(&before) && all_home(&after) { Ok(()) } else { Err(format!("{after:?}")) }
    });
    // And who only computes leaves.
    lab.compute("node1", 3);
    lab.until("spread", |lab| {
        let processes = lab.json("node1", &["ps"]);
        let away = |it: &Value| it["at"] == "node2" && it["command"] == "sh";
        if processes.iter().any(away) { Ok(()) } else { Err(format!("{processes:?}")) }
    });
}

/// Runs of a program that are over before anybody would have looked at them twice: the first ones show what it does.
#[test]
fn programs_that_are_known_to_compute_leave_when_they_begin() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut lab = Lab::up("begin", "2", "all");
    lab.until_met("node1", 2);
    lab.compute("node1", 4);
    let files = tempfile::tempdir().unwrap();
    // A file of its own: what is known of another program does not count.
    let shell = files.path().join("shell").display().to_string();
    std::fs::copy("/bin/sh", &shell).unwrap();
    let count = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo $i";
    let told = |lab: &Lab| lab.logs().lines().filter(|line| line.contains("Beginning")).count();
    lab.until("moved when it began", |lab| {
        let output = lab.exec("node1", &[&shell, "-c", count]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "400000\n", "{output:?}");
        if told(lab) > 0 { Ok(()) } else { Err("it has not".to_owned()) }
    });
    // And who is told to stay does, whatever is known of the program.
    let before = told(&lab);
    let stay = format!("MINKA_LOCKED=1 exec {shell} -c '{count}'");
    for _ in 0..3 {
        assert!(lab.exec("node1", &["sh", "-c", &stay]).status.success());
    }
    assert_eq!(told(&lab), before, "{}", lab.logs());
}

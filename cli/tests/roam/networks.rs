//! Nodes that are in two networks, one of which goes down; and a node between two networks.

use std::process::{Child, Command, Stdio};

use crate::machines::Machines;

/// A program on a machine, which ends with the test.
struct Program(Child);

impl Program {
    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machines {
    /// The init of a machine, whose namespaces it is in.
    fn init(&self, node: u32) -> String {
        let lab = minka_lab::Lab::open(&self.lab).unwrap();
        lab.description().node(node).unwrap().init.unwrap().pid.to_string()
    }

    /// Does something with the network of a machine, from outside: what `$1` and so on stand for comes after the script.
    fn network(&self, node: u32, script: &str, words: &[&str]) {
        let init = self.init(node);
        let mut command = Command::new("nsenter");
        command.args(["-t", &init, "-n", "sh", "-euc", script, "sh"]).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn migrate(&self, machine: &str, name: &str, pid: &str, to: &str) -> Result<(), String> {
        let script =
            format!("export MINKA_DIR={}/run-{name}; exec \"$0\" migrate {pid} {to}", self.path().display());
        let output = self.on(machine, &script).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(told) }
    }

    /// Starts a program on a machine that computes; returns its process number there.
    fn compute(&self, machine: &str, name: &str) -> (Program, String) {
        let file = self.path().join(format!("{name}.pid"));
        let _ = std::fs::remove_file(&file);
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; while :; do :; done", file.display());
        let mut command = self.on(machine, &script);
        let program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = std::time::Instant::now() + crate::machines::PATIENCE;
        loop {
            if let Ok(pid) = std::fs::read_to_string(&file) {
                return (program, pid.trim().to_owned());
            }
            assert!(std::time::Instant::now() < deadline, "it never began");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
fn when_a_network_goes_down_nodes_reach_each_other_by_the_other_one() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("networks", 3);
    // The second network: a bridge in the first machine.
    let bridge =
        "ip link add second type bridge; ip address add 10.78.0.1/24 dev second; ip link set second up";
    machines.network(1, bridge, &[]);
    for node in [2, 3] {
        let link = "ip link add to$1 type veth peer name eth1 netns $2; ip link set to$1 master second up";
        machines.network(1, link, &[&node.to_string(), &machines.init(node)]);
        machines.network(
            node,
            "ip address add 10.78.0.$1/24 dev eth1; ip link set eth1 up",
            &[&node.to_string()],
        );
    }
    machines.cluster(
        &[
            &["10.77.0.1:4760", "10.78.0.1"],
            &["10.77.0.2:4760", "10.78.0.2"],
            &["10.77.0.3:4760", "10.78.0.3"],
        ],
        "",
    );
    for (machine, name) in [("node1", "one"), ("node2", "two"), ("node3", "three")] {
        machines.start(machine, name);
    }
    let until = |from: u32, name: &str, network: u32, to: u32| {
        machines.until_other_is_at(&format!("node{from}"), name, &format!("10.{network}.0.{to}:4760"));
    };
    let all = [(1, "one", 2), (3, "three", 2), (2, "two", 1), (2, "two", 3), (1, "one", 3), (3, "three", 1)];
    all.into_iter().for_each(|(from, name, to)| until(from, name, 77, to));
    let (mut program, pid) = machines.compute("node1", "one");
    machines.migrate("node1", "one", &pid, "two").unwrap();

    // The second machine's cable of the first network is pulled out.
    let lab = minka_lab::Lab::open(&machines.lab).unwrap();
    lab.cut(2).unwrap();
    all[..4].iter().for_each(|(from, name, to)| until(*from, name, 78, *to));
    all[4..].iter().for_each(|(from, name, to)| until(*from, name, 77, *to));
    // Whoever computed there goes on, here or there, and moves go by the second network.
    assert!(program.runs());
    let (mut other, other_pid) = machines.compute("node1", "one");
    machines.migrate("node1", "one", &other_pid, "two").unwrap();
    machines.migrate("node1", "one", &other_pid, "home").unwrap();

    // When the first one is there again it is used.
    lab.heal(2).unwrap();
    all.into_iter().for_each(|(from, name, to)| until(from, name, 77, to));
    machines.migrate("node1", "one", &other_pid, "two").unwrap();
    assert!(program.runs() && other.runs());
}

#[test]
fn a_node_between_two_networks_is_a_gateway_as_any_router_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("gateway", 3);
    // The third machine is in the second network only, and the second one in both.
    let link = "ip link add eth1 type veth peer name eth1 netns $1; ip address add 10.78.0.2/24 dev eth1; \
                ip link set eth1 up; echo 1 > /proc/sys/net/ipv4/ip_forward";
    machines.network(2, link, &[&machines.init(3)]);
    let far = "ip link set eth0 down; ip address add 10.78.0.3/24 dev eth1; ip link set eth1 up; \
               ip route add 10.77.0.0/24 via 10.78.0.2";
    machines.network(3, far, &[]);
    machines.network(1, "ip route add 10.78.0.0/24 via 10.77.0.2", &[]);
    machines.cluster(&[&["10.77.0.1:4760"], &["10.77.0.2:4760", "10.78.0.2"], &["10.78.0.3:4760"]], "");
    for (machine, name) in [("node1", "one"), ("node2", "two"), ("node3", "three")] {
        machines.start(machine, name);
    }
    machines.until_other_is_at("node1", "one", "10.78.0.3:4760");
    machines.until_other_is_at("node3", "three", "10.77.0.1:4760");
    let (mut program, pid) = machines.compute("node1", "one");
    for to in ["three", "two", "three", "home"] {
        machines.migrate("node1", "one", &pid, to).unwrap();
    }
    assert!(program.runs());
}

//! Nodes that find each other by multicast, and one whose address changes: daemons of a cluster of their own, each in the
//! network namespace of a lab's node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machines;
mod networks;

use std::time::Instant;

use crate::machines::{Machines, PATIENCE};

#[test]
fn a_node_whose_address_changes_is_found_by_what_it_says() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("roam", 2);
    machines.cluster(&[&["10.77.0.1:4760"], &["10.77.0.2:4760"]], "");
    machines.start("node1", "one");
    machines.start("node2", "two");
    machines.until_other_is_at("node1", "one", "10.77.0.2:4760");
    machines.until_other_is_at("node2", "two", "10.77.0.1:4760");
    // As a laptop that is carried to another network; nobody tells the others.
    let script = "ip address add 10.77.0.99/16 dev eth0 && ip address delete 10.77.0.2/16 dev eth0 2>/dev/null \
                  || ip address delete 10.77.0.2/24 dev eth0";
    let moved = machines.on("node2", script).output().unwrap();
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    machines.until_other_is_at("node1", "one", "10.77.0.99:4760");
    // Programs move there, too: deputies are told where it is.
    let directory = machines.path().display().to_string();
    let script = format!(
        "export MINKA_DIR={directory}/run-one; sleep 60 & \"$0\" migrate $! two >/dev/null; echo $?; kill $!"
    );
    let moved = machines.on("node1", &script).output().unwrap();
    let told = String::from_utf8_lossy(&moved.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&moved.stdout), "0\n", "{told}");
}

#[test]
fn nodes_find_each_other_by_multicast() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("multicast", 2);
    // The list says of each other's addresses what is not true.
    let settings = "[discovery]\nmulticast = true\ninterfaces = [\"eth0\"]\n";
    machines.cluster(&[&["10.77.0.201:4760"], &["10.77.0.202:4760"]], settings);
    machines.start("node1", "one");
    machines.start("node2", "two");
    machines.until_other_is_at("node1", "one", "10.77.0.2:4760");
    machines.until_other_is_at("node2", "two", "10.77.0.1:4760");
}

#[test]
fn omdiscd_tells_the_daemon_what_it_hears_and_says_what_is_wrong() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("omdiscd", 2);
    machines.cluster(&[&["10.77.0.201:4760"], &["10.77.0.202:4760"]], "");
    let directory = machines.path().display().to_string();
    let words = |name: &str| format!("omdiscd -m 1 --config {directory}/minka-cluster/{name}/node.toml");
    // A lab's node has no default route.
    let refused = machines.on("node1", &format!("exec \"$0\" {} -n", words("one"))).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("there is no default route"), "{told}");
    machines.start("node1", "one");
    machines.start("node2", "two");
    for (machine, name) in [("node1", "one"), ("node2", "two")] {
        let script =
            format!("export MINKA_DIR={directory}/run-{name}; exec \"$0\" {} -n -i eth0", words(name));
        let heard = std::fs::File::create(machines.path().join(format!("{name}.heard"))).unwrap();
        let daemon = machines.on(machine, &script).stdout(heard).spawn().unwrap();
        machines.daemons.push(daemon);
    }
    machines.until_other_is_at("node1", "one", "10.77.0.2:4760");
    machines.until_other_is_at("node2", "two", "10.77.0.1:4760");
    let heard = std::fs::read_to_string(machines.path().join("one.heard")).unwrap();
    assert!(heard.contains("two is at 10.77.0.2:4760"), "{heard}");
}

#[test]
fn nodes_are_looked_for_where_openmosix_map_says() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut machines = Machines::up("mapped", 2);
    // The list says of each other's addresses what is not true, and nobody announces itself.
    machines.cluster(&[&["10.77.0.201:4760"], &["10.77.0.202:4760"]], "[ids]\none = 1\ntwo = 2\n");
    machines.start("node1", "one");
    machines.start("node2", "two");
    let map = machines.path().join("map");
    std::fs::write(&map, "1 10.77.0.201 1\n2 10.77.0.2 1\n").unwrap();
    let directory = machines.path().display().to_string();
    let setpe = |options: &str| {
        format!("export MINKA_DIR={directory}/run-one; exec \"$0\" setpe {options} -f {}", map.display())
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let taken = machines.on("node1", &setpe("-w")).output().unwrap();
        if taken.status.success() {
            break;
        }
        // The other daemon may just be starting.
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&taken.stderr));
    }
    machines.until_other_is_at("node1", "one", "10.77.0.2:4760");
    // Who is not there is not believed to be.
    std::fs::write(&map, "1 10.77.0.201 1\n2 10.77.0.77 1\n").unwrap();
    let taken = machines.on("node1", &setpe("-w")).output().unwrap();
    let told = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.code() == Some(5) && told.contains("10.77.0.77"), "{told}");
    machines.until_other_is_at("node1", "one", "10.77.0.2:4760");
}

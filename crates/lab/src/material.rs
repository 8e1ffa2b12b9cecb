//! What lies in a new lab's directory before any node runs: keys, configurations, names.
//!
//! ```text
//! DIR/lab.json lab.sock lab.log hosts
//! DIR/nodeN/node.toml node.log
//! DIR/nodeN/keys/…                the cluster's authority certificate, the node's own certificate and key
//! DIR/nodeN/run/node.sock         made by the daemon
//! ```
//!
//! The authority's key is in none of these: it is forgotten as soon as all nodes have theirs.

use std::fmt::Write;
use std::fs;

use minka_link::BalanceMode;
use minka_link::keys::Authority;

use crate::description::{Description, NodeDescription};
use crate::directory::make_private;
use crate::error::LabError;
use crate::network::NODE_PORT;

/// Writes what is known before there is a supervisor: all but the configurations.
pub(crate) fn prepare(description: &Description) -> Result<(), LabError> {
    let authority = Authority::create()?;
    for node in &description.nodes {
        make_private(&node.directory)?;
        make_private(&node.run_directory())?;
        let keys = node.directory.join("keys");
        make_private(&keys)?;
        authority.issue(&node.name)?.write(&keys)?;
    }
    let path = description.hosts();
    fs::write(&path, hosts(description)).map_err(LabError::file("write", path))
}

/// Writes the nodes' configurations, in which their control groups are named.
pub(crate) fn configure(description: &Description, balance: BalanceMode) -> Result<(), LabError> {
    description.nodes.iter().try_for_each(|node| {
        let path = node.configuration();
        fs::write(&path, configuration(node, description, balance)).map_err(LabError::file("write", path))
    })
}

/// The text of a node's `node.toml`; see [`minka_link::config::NodeConfig`]. Paths are relative to the file.
fn configuration(node: &NodeDescription, description: &Description, balance: BalanceMode) -> String {
    let mode = match balance {
        BalanceMode::All => "all",
        BalanceMode::Started => "started",
        BalanceMode::None => "none",
    };
    // A part of a processor is a slow one. All nodes have the same kind, so none is measured.
    let cpus = node.cpus.map(|share| (share.ceil(), share / share.ceil()));
    let speed = (10_000.0 * cpus.map_or(1.0, |(_, speed)| speed)).round();
    let cpus = cpus.map_or_else(|| processors_of_one(description.nodes.len()), |(cpus, _)| cpus);
    // The accelerators are the machine's, and not each node's.
    let mut text = format!(
        "name = \"{}\"\nlisten = \"{}:{NODE_PORT}\"\nkeys = \"keys\"\nrun_dir = \"run\"\n\n\
         [balance]\nmode = \"{mode}\"\nuid_min = 0\ncpus = {cpus}\nspeed = {speed}\nvisible_only = true\n\n\
         [xpu]\nwatch = false\n\n",
        node.name, node.address
    );
    if !node.control_groups.is_empty() {
        let groups: Vec<_> =
            node.control_groups.iter().map(|group| format!("'{}'", group.display())).collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "[guests]\ncontrol_groups = [{}]\n", groups.join(", "));
    }
    text.push_str("[peers]\n");
    for peer in description.nodes.iter().filter(|peer| peer.number != node.number) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} = \"{}:{NODE_PORT}\"", peer.name, peer.address);
    }
    text
}

/// How many processors a node can count on while all nodes have as much to do.
fn processors_of_one(nodes: usize) -> f64 {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    (machine / nodes.max(1)).max(1) as f64
}

/// The machine's own hosts file, and the nodes.
fn hosts(description: &Description) -> Vec<u8> {
    let mut text = fs::read("/etc/hosts").unwrap_or_else(|_| b"127.0.0.1 localhost\n".to_vec());
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    for node in &description.nodes {
        text.extend(format!("{} {}\n", node.address, node.name).bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use minka_link::config::NodeConfig;

    use super::*;

    #[test]
    fn a_node_can_read_what_was_prepared_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut description = Description::new("x", directory.path(), 3);
        description.nodes[1].cpus = Some(1.5);
        description.nodes[1].control_groups = vec!["/cpu/a".into(), "/memory/a".into()];
        prepare(&description).unwrap();
        configure(&description, BalanceMode::Started).unwrap();
        let node = description.node(2).unwrap();
        let config = NodeConfig::read(&node.configuration()).unwrap();
        assert_eq!(config.name, "node2");
        assert_eq!(config.listen.to_string(), "10.77.0.2:4660");
        assert_eq!(config.run_dir, node.run_directory());
        let peers: Vec<_> = config.peers.keys().map(String::as_str).collect();
        assert_eq!(peers, ["node1", "node3"]);
        config.read_keys().unwrap();
        assert_eq!(config.guests.control_groups, [Path::new("/cpu/a"), Path::new("/memory/a")]);
        let balance = &config.balance;
        assert_eq!((balance.mode, balance.uid_min, balance.visible_only), (BalanceMode::Started, 0, true));
        assert_eq!((balance.cpus.unwrap().get(), balance.speed.unwrap().get()), (2, 7_500));
    }

    #[test]
    fn nodes_are_known_by_name() {
        let text = String::from_utf8(hosts(&Description::new("x", "/x".as_ref(), 2))).unwrap();
        assert!(text.ends_with("10.77.0.1 node1\n10.77.0.2 node2\n"), "{text}");
    }
}

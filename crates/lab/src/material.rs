//! What lies in a new lab's directory before anything runs: keys, configurations, names.
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

use minka_link::keys::Authority;

use crate::description::{Description, NodeDescription};
use crate::directory::make_private;
use crate::error::LabError;
use crate::network::NODE_PORT;

/// Writes all of it.
pub(crate) fn prepare(description: &Description) -> Result<(), LabError> {
    let authority = Authority::create()?;
    for node in &description.nodes {
        make_private(&node.directory)?;
        make_private(&node.run_directory())?;
        let keys = node.directory.join("keys");
        make_private(&keys)?;
        authority.issue(&node.name)?.write(&keys)?;
        let path = node.configuration();
        fs::write(&path, configuration(node, description)).map_err(LabError::file("write", path))?;
    }
    let path = description.hosts();
    fs::write(&path, hosts(description)).map_err(LabError::file("write", path))
}

/// The text of a node's `node.toml`; see [`minka_link::config::NodeConfig`]. Paths are relative to the file.
fn configuration(node: &NodeDescription, description: &Description) -> String {
    let mut text = format!(
        "name = \"{}\"\nlisten = \"{}:{NODE_PORT}\"\nkeys = \"keys\"\nrun_dir = \"run\"\n\n[peers]\n",
        node.name, node.address
    );
    for peer in description.nodes.iter().filter(|peer| peer.number != node.number) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} = \"{}:{NODE_PORT}\"", peer.name, peer.address);
    }
    text
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
    use minka_link::config::NodeConfig;

    use super::*;

    #[test]
    fn a_node_can_read_what_was_prepared_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let description = Description::new("x", directory.path(), 3);
        prepare(&description).unwrap();
        let node = description.node(2).unwrap();
        let config = NodeConfig::read(&node.configuration()).unwrap();
        assert_eq!(config.name, "node2");
        assert_eq!(config.listen.to_string(), "10.77.0.2:4660");
        assert_eq!(config.run_dir, node.run_directory());
        let peers: Vec<_> = config.peers.keys().map(String::as_str).collect();
        assert_eq!(peers, ["node1", "node3"]);
        config.read_keys().unwrap();
    }

    #[test]
    fn nodes_are_known_by_name() {
        let text = String::from_utf8(hosts(&Description::new("x", "/x".as_ref(), 2))).unwrap();
        assert!(text.ends_with("10.77.0.1 node1\n10.77.0.2 node2\n"), "{text}");
    }
}

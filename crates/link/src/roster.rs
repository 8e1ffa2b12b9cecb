//! The nodes of a cluster, and the directory from which machines are made nodes of it.
//!
//! ```text
//! DIR/ca.pem ca.key                the authority: whoever has its key decides who belongs to the cluster
//! DIR/cluster.toml                 all nodes, by name, and where they listen
//! DIR/NAME/node.toml               the directory of a node, to be copied to its machine: its configuration,
//! DIR/NAME/cluster.toml            all nodes again,
//! DIR/NAME/keys/…                  and its keys, see [`crate::keys`]
//! ```
//!
//! The file of nodes is the same on all machines, as openMosix's map was:
//!
//! ```toml
//! [nodes]
//! a = "10.0.0.1:4660"
//! b = "10.0.0.2:4660"
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::keys::{self, Authority, KeyError};

/// The file that says which nodes there are.
pub const NODES_FILE: &str = "cluster.toml";
/// The configuration of one of them.
pub const NODE_FILE: &str = "node.toml";
/// The directory of its keys.
const KEYS: &str = "keys";

/// No list of nodes is near as long, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// Why the nodes of a cluster could not be read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RosterError {
    /// A file or directory could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file or directory could not be made.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The file of nodes is none.
    #[error("understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// There is a cluster in the directory.
    #[error("make a cluster in {}: there is one already", directory.display())]
    Exists {
        /// The directory.
        directory: PathBuf,
    },
    /// Two nodes cannot have one name, nor one address.
    #[error("add the node {name}: {what} {taken} already")]
    Taken {
        /// The node that was to be added.
        name: String,
        /// What of it is taken.
        what: &'static str,
        /// By whom.
        taken: String,
    },
    /// There is no such node.
    #[error("find the node {name} in {}", path.display())]
    NoSuchNode {
        /// Its name.
        name: String,
        /// The file of nodes.
        path: PathBuf,
    },
    /// Keys are missing, or could not be made.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The nodes of a cluster by name, and where they listen.
pub type Nodes = BTreeMap<String, SocketAddr>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    nodes: Nodes,
}

/// Reads a file of nodes.
pub fn read_nodes(path: &Path) -> Result<Nodes, RosterError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| RosterError::Read { path: path.to_owned(), source })?;
    let document: Document = toml::from_str(&text)
        .map_err(|source| RosterError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    for name in document.nodes.keys() {
        keys::check_name(name)?;
    }
    Ok(document.nodes)
}

/// The directory from which machines are made nodes.
#[derive(Debug)]
pub struct Roster {
    directory: PathBuf,
    nodes: Nodes,
}

impl Roster {
    /// Makes a new cluster that has no nodes yet.
    pub fn create(directory: &Path) -> Result<Self, RosterError> {
        make_private(directory)?;
        if directory.join(NODES_FILE).exists() || directory.join(keys::AUTHORITY_KEY).exists() {
            return Err(RosterError::Exists { directory: directory.to_owned() });
        }
        Authority::create()?.write(directory)?;
        let roster = Roster { directory: directory.to_owned(), nodes: Nodes::new() };
        roster.write_nodes(directory)?;
        Ok(roster)
    }

    /// The cluster that a directory holds.
    pub fn open(directory: &Path) -> Result<Self, RosterError> {
        Ok(Roster { directory: directory.to_owned(), nodes: read_nodes(&directory.join(NODES_FILE))? })
    }

    /// All nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Makes the directory of a new node, and tells all others' of it. Returns the new one.
    pub fn add(&mut self, name: &str, address: SocketAddr) -> Result<PathBuf, RosterError> {
        keys::check_name(name)?;
        let taken =
            |what, taken: &str| RosterError::Taken { name: name.to_owned(), what, taken: taken.to_owned() };
        if self.nodes.contains_key(name) {
            return Err(taken("there is a node", name));
        }
        if let Some((other, _)) = self.nodes.iter().find(|(_, at)| **at == address) {
            return Err(taken("its address belongs to", other));
        }
        let issued = Authority::read(&self.directory)?.issue(name)?;
        let directory = self.directory.join(name);
        make_private(&directory)?;
        let keys = directory.join(KEYS);
        make_private(&keys)?;
        issued.write(&keys)?;
        let text = format!(
            "# Minka: this node. Other settings are explained in the manual page minka-node-serve(1).\n\
             name = \"{name}\"\nlisten = \"{address}\"\nkeys = \"{KEYS}\"\nmap = \"{NODES_FILE}\"\n"
        );
        replace(&directory.join(NODE_FILE), &text)?;
        self.nodes.insert(name.to_owned(), address);
        self.tell_all()?;
        Ok(directory)
    }

    /// Takes a node off the lists. Its certificate stays good until it expires: only those who are on the lists are
    /// asked to take anybody in, but whoever must be kept out for good needs the keys of all others to be made anew.
    pub fn remove(&mut self, name: &str) -> Result<(), RosterError> {
        if self.nodes.remove(name).is_none() {
            let path = self.directory.join(NODES_FILE);
            return Err(RosterError::NoSuchNode { name: name.to_owned(), path });
        }
        self.tell_all()
    }

    /// Writes the file of nodes here and in every node's directory that is still here.
    fn tell_all(&self) -> Result<(), RosterError> {
        let directories = self.nodes.keys().map(|name| self.directory.join(name));
        directories
            .filter(|directory| directory.is_dir())
            .try_for_each(|directory| self.write_nodes(&directory))?;
        self.write_nodes(&self.directory)
    }

    fn write_nodes(&self, directory: &Path) -> Result<(), RosterError> {
        let mut text =
            "# Minka: the nodes of this cluster. The same file on all of them.\n[nodes]\n".to_owned();
        for (name, address) in &self.nodes {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name} = \"{address}\"");
        }
        replace(&directory.join(NODES_FILE), &text)
    }
}

/// Makes a directory that only its owner may enter, unless it is there.
fn make_private(path: &Path) -> Result<(), RosterError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RosterError::Write { path: path.to_owned(), source })
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), RosterError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| RosterError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, NodeConfig};
    use std::os::unix::fs::PermissionsExt;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 4660))
    }

    #[test]
    fn nodes_get_all_that_they_need_and_hear_of_each_other() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("cluster");
        let mut roster = Roster::create(&directory).unwrap();
        let first = roster.add("a", address(1)).unwrap();
        let second = Roster::open(&directory).unwrap().add("b", address(2)).unwrap();
        for (own, name, other, at) in [(&first, "a", "b", 2), (&second, "b", "a", 1)] {
            let config = NodeConfig::read(&own.join(NODE_FILE)).unwrap();
            assert_eq!(config.name, name);
            assert_eq!(config.peers, Nodes::from([(other.to_owned(), address(at))]));
            assert_eq!(Credentials::new(&config.read_keys().unwrap()).unwrap().name(), name);
        }
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_node_that_is_taken_off_is_forgotten_by_the_others() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        let first = roster.add("a", address(1)).unwrap();
        roster.add("b", address(2)).unwrap();
        roster.remove("b").unwrap();
        assert!(NodeConfig::read(&first.join(NODE_FILE)).unwrap().peers.is_empty());
        assert!(matches!(roster.remove("b"), Err(RosterError::NoSuchNode { .. })));
    }

    #[test]
    fn names_and_addresses_are_given_once() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        roster.add("a", address(1)).unwrap();
        let error = roster.add("a", address(2)).unwrap_err();
        assert_eq!(error.to_string(), "add the node a: there is a node a already");
        let error = roster.add("b", address(1)).unwrap_err();
        assert_eq!(error.to_string(), "add the node b: its address belongs to a already");
        assert!(matches!(roster.add("B", address(3)), Err(RosterError::Keys(KeyError::Name { .. }))));
        assert!(matches!(Roster::create(scratch.path()), Err(RosterError::Exists { .. })));
        assert_eq!(Roster::open(scratch.path()).unwrap().nodes().len(), 1);
    }
}

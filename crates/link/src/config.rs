//! What a node is told about itself and its cluster: the file `node.toml`.
//!
//! ```toml
//! name = "a"
//! listen = "10.0.0.1:4660"
//! keys = "keys"                 # relative to the directory of this file
//! run_dir = "/run/minka"
//!
//! [peers]
//! b = "10.0.0.2:4660"
//! ```
//!
//! Instead of `[peers]`, or besides, `map = "cluster.toml"` names the file of all nodes; see [`crate::roster`].
//!
//! A node that is in several networks has an address in each: a table `[addresses]` says the others of each peer, as
//! `b = ["10.1.0.2"]`.
//!
//! Nodes have numbers, too, as in openMosix: what the last two parts of the address come to (10.0.0.2 is number 2,
//! 192.168.10.220 is 2780), or, where that does not tell them apart, their names. A table `[ids]` can say others, the same
//! in all nodes' files.
//! Who is moved without being asked is said in `[balance]`, see [`BalanceConfig`]; what guests may have in `[guests]`, see
//! [`GuestConfig`]; when the node takes any in `[pool]`, see [`PoolConfig`]; how it looks after its accelerators in
//! `[xpu]`, see [`XpuConfig`]; how other machines may ask over HTTP in `[api]`, see [`ApiConfig`]; how nodes find each
//! other by multicast in `[discovery]`, see [`DiscoveryConfig`].

mod api;
mod balance;
mod discovery;
mod guests;
mod pool;
mod xpu;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

pub use api::ApiConfig;
pub use balance::{BalanceConfig, BalanceMode};
pub use discovery::DiscoveryConfig;
pub use guests::GuestConfig;
pub use pool::{PoolConfig, PoolKind, Times};
pub use xpu::{XpuConfig, XpuTls};

use crate::{
    credentials::{Credentials, Refused},
    keys::{self, KeyError, NodeKeys},
    roster::{List, Numbers, OtherAddresses, RosterError, number_of, number_of_name},
    socket::Tuning,
};

/// No configuration is near as long, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The file is no TOML, or says something that this version does not know.
    #[error("understand the configuration {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file of all nodes could not be loaded.
    #[error("load the nodes that {} names", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<RosterError>,
    },
    /// A node in the file cannot have its name.
    #[error("accept the configuration {}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Which name.
        source: KeyError,
    },
    /// The node is its own peer.
    #[error("accept the configuration {}: node {name} is listed among its own peers", path.display())]
    OwnPeer {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Two nodes have the same number.
    #[error("number the nodes: {one} and {other} are both {number} (say others in the table [ids])")]
    SameNumber {
        /// One of them.
        one: String,
        /// The other.
        other: String,
        /// The number.
        number: u16,
    },
}

/// The configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The name of this node, as in its certificate.
    pub name: String,
    /// Where it listens for other nodes.
    pub listen: SocketAddr,
    /// The other nodes, by name, and where they listen.
    #[serde(default)]
    pub peers: BTreeMap<String, SocketAddr>,
    /// Their addresses in other networks, with the same ports.
    #[serde(default)]
    pub addresses: OtherAddresses,
    /// A file of all nodes, this one among them; they are added to the peers.
    pub map: Option<PathBuf>,
    /// The version of that file.
    #[serde(skip)]
    pub version: u64,
    /// Whether this node is in it.
    #[serde(skip)]
    pub listed: bool,
    /// Where it says that this node is.
    #[serde(skip)]
    pub reached_at: Option<SocketAddr>,
    /// What it says of certificates that are good no more.
    #[serde(skip)]
    pub refused: Refused,
    /// Where the cluster's authority takes requests, see `minka cluster serve`.
    pub authority: Option<SocketAddr>,
    /// The numbers of nodes whose addresses do not make one.
    #[serde(default)]
    pub ids: Numbers,
    /// Who is moved without being asked.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// What guests may have.
    #[serde(default)]
    pub guests: GuestConfig,
    /// How it shares with the others.
    #[serde(default)]
    pub pool: PoolConfig,
    /// How it looks after its accelerators.
    #[serde(default)]
    pub xpu: XpuConfig,
    /// How it finds the other nodes without their addresses.
    #[serde(default)]
    pub discovery: DiscoveryConfig,
    /// The HTTP interface for other machines; none unless it is said where.
    pub api: Option<ApiConfig>,
    /// The directory with the keys of this node; see [`crate::keys`].
    pub keys: PathBuf,
    /// Where the sockets for programs on this node lie.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// Where the tree of openMosix's files is mounted; nowhere if this is empty.
    #[serde(default = "default_hpc")]
    pub hpc: PathBuf,
    /// Processor features that this node pretends not to have: an aid for testing clusters of unequal machines.
    #[serde(default)]
    pub without_cpu: Vec<String>,
    /// Track what guests write as on kernels before Linux 6.7: an aid for testing that elsewhere.
    #[serde(default)]
    pub old_kernel: bool,
    /// Take every home for one with another kernel, whose vDSO cannot be used: an aid for testing that elsewhere.
    #[serde(default)]
    pub other_kernel: bool,
    /// Where its deputy and host programs fail, and how: an aid for tests, see `minka_kernel::faultpoint`.
    #[serde(default)]
    pub faults: Vec<String>,
    /// Patience and buffers of channels.
    #[serde(default)]
    pub link: Tuning,
}

fn default_hpc() -> PathBuf {
    "/hpc".into()
}

fn default_run_dir() -> PathBuf {
    "/run/minka".into()
}

impl NodeConfig {
    /// Loads and checks the file. Relative paths in it start at its own directory.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with(path, None)
    }

    /// The same, with this list of nodes instead of the one that the file names.
    pub fn read_with(path: &Path, list: Option<&List>) -> Result<Self, ConfigError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_string(&mut text))
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: NodeConfig = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        for name in config.peers.keys().chain([&config.name]) {
            keys::check_name(name).map_err(|source| ConfigError::Name { path: path.to_owned(), source })?;
        }
        if config.peers.contains_key(&config.name) {
            return Err(ConfigError::OwnPeer { path: path.to_owned(), name: config.name });
        }
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        if let Some(map) = &config.map {
            let map = base.join(map);
            let list = list.cloned().map_or_else(|| List::read(&map), Ok);
            let list =
                list.map_err(|source| ConfigError::Map { path: path.to_owned(), source: Box::new(source) })?;
            config.take(list);
            config.map = Some(map);
        }
        config.keys = base.join(&config.keys);
        config.run_dir = base.join(&config.run_dir);
        config.api = config.api.map(|api| api.based_at(base));
        config.guests.control_groups.iter_mut().for_each(|group| *group = base.join(&group));
        config.xpu.start_at(base);
        Ok(config)
    }

    /// Takes over what a list of nodes says.
    fn take(&mut self, list: List) {
        self.listed = list.nodes.contains_key(&self.name);
        self.reached_at = list.nodes.get(&self.name).copied();
        let known = |name: &String| *name == self.name || list.nodes.contains_key(name);
        let ids = list.ids.iter().filter(|(name, _)| known(name) && !self.ids.contains_key(*name));
        let ids: Numbers = ids.map(|(name, number)| (name.clone(), *number)).collect();
        self.ids.extend(ids);
        self.peers.extend(list.nodes.into_iter().filter(|(name, _)| *name != self.name));
        self.addresses.extend(list.addresses);
        (self.version, self.refused) = (list.version, list.refused);
    }

    /// The numbers of all nodes, by name.
    pub fn numbers(&self) -> Result<Numbers, ConfigError> {
        let all = || self.peers.iter().chain([(&self.name, &self.listen)]);
        let mut numbers = Numbers::new();
        for (name, address) in all() {
            let by_address = number_of(address.ip()).filter(|number| {
                all().all(|(other, address)| other == name || number_of(address.ip()) != Some(*number))
            });
            let number = self.ids.get(name).copied().or(by_address).unwrap_or_else(|| number_of_name(name));
            if let Some((other, _)) = numbers.iter().find(|(_, other)| **other == number) {
                let (one, other) = (other.clone(), name.clone());
                return Err(ConfigError::SameNumber { one, other, number: number.get() });
            }
            numbers.insert(name.clone(), number);
        }
        Ok(numbers)
    }

    /// Makes the keys that the configuration names ready for use. What the list of nodes refuses they refuse.
    pub fn credentials(&self) -> Result<Credentials, KeyError> {
        let credentials = Credentials::new(&self.read_keys()?)?;
        credentials.refuse(self.refused.clone());
        Ok(credentials)
    }

    /// Loads the keys that the configuration names.
    pub fn read_keys(&self) -> Result<NodeKeys, KeyError> {
        NodeKeys::read(&self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NodeConfig, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = NodeConfig::read(&path)?;
        config.keys = config.keys.strip_prefix(directory.path()).unwrap_or(&config.keys).to_owned();
        Ok(config)
    }

    fn refusal(text: &str) -> String {
        let error = read(text).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    }

    #[test]
    fn the_example_in_the_docs_is_accepted() {
        let example: String = include_str!("config.rs")
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .map(|line| line.trim_start_matches("//!").trim_start())
            .skip_while(|line| *line != "```toml")
            .skip(1)
            .take_while(|line| *line != "```")
            .map(|line| format!("{line}\n"))
            .collect();
        let config = read(&example).unwrap();
        assert_eq!(config.name, "a");
        assert_eq!(config.listen, "10.0.0.1:4660".parse().unwrap());
        assert_eq!(config.peers["b"], "10.0.0.2:4660".parse().unwrap());
        assert_eq!(config.keys, Path::new("keys"));
        assert_eq!(config.run_dir, Path::new("/run/minka"));
        assert_eq!(config.without_cpu, Vec::<String>::new());
        assert_eq!(config.link, Tuning::default());
    }

    #[test]
    fn everything_can_be_said() {
        let config = read(
            "name = 'b'\nlisten = '[::1]:1'\nkeys = '/k'\nrun_dir = '/r'\nwithout_cpu = ['avx512f']\n\
             [link]\ndead_after_ms = 3000\nsend_buffer_bytes = 65536\n",
        )
        .unwrap();
        assert_eq!((config.keys.as_path(), config.run_dir.as_path()), (Path::new("/k"), Path::new("/r")));
        assert_eq!(config.without_cpu, ["avx512f"]);
        let link = Tuning { dead_after_ms: 3000, send_buffer_bytes: Some(65536), ..Tuning::default() };
        assert_eq!(config.link, link);
    }

    #[test]
    fn nodes_have_numbers() {
        let numbers = |rest: &str| {
            let config =
                read(&format!("name = 'a'\nlisten = '192.168.10.220:1'\nkeys = 'k'\n{rest}")).unwrap();
            let numbers = config.numbers().map_err(|error| error.to_string())?;
            Ok::<_, String>(
                numbers.into_iter().map(|(name, number)| (name, number.get())).collect::<Vec<_>>(),
            )
        };
        let named = |name: &str, number| (name.to_owned(), number);
        assert_eq!(numbers("[peers]\nb = '10.0.0.2:1'\n").unwrap(), [named("a", 2780), named("b", 2)]);
        let moved = numbers("[peers]\nb = '[::1]:1'\n[ids]\nb = 7\na = 1\n").unwrap();
        assert_eq!(moved, [named("a", 1), named("b", 7)]);
        // Where addresses do not tell the nodes apart their names do.
        let same = numbers("[peers]\nb = '192.168.10.220:2'\nc = '10.0.0.3:1'\n").unwrap();
        let other = numbers("[peers]\nb = '[::1]:1'\n").unwrap();
        assert_eq!((&same[1], &same[2]), (&other[1], &named("c", 3)));
        assert_ne!(same[0].1, same[1].1);
        let mistake = numbers("[peers]\nb = '10.0.0.3:1'\n[ids]\na = 3\n").unwrap_err();
        assert!(mistake.contains("b and a are both 3"), "{mistake}");
    }

    #[test]
    fn mistakes_are_explained() {
        let start = "name = 'a'\nlisten = '1.2.3.4:5'\nkeys = 'k'\n";
        let check = |text: &str, expected: &str| {
            let refusal = refusal(text);
            assert!(refusal.contains(expected), "{refusal}");
        };
        check("name = 'a'\nkeys = 'k'\n", "missing field `listen`");
        check("name = 'a'\nlisten = 'here'\nkeys = 'k'\n", "invalid socket address");
        check(&format!("{start}colour = 'red'\n"), "unknown field `colour`");
        check(&format!("{start}[link]\npatience = 1\n"), "unknown field `patience`");
        check(&format!("{start}[peers]\nB = '1.2.3.4:5'\n"), "name a node \"B\"");
        check(&format!("{start}[peers]\na = '1.2.3.4:5'\n"), "among its own peers");
    }
}

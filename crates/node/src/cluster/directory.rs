//! Who the nodes of the cluster are: names, numbers and addresses, from the configuration.

use std::net::SocketAddr;

use minka_cluster::NodeId;
use minka_cluster::balance::ProcessId;
use minka_cluster::membership::Peer;
use minka_link::config::BalanceConfig;
use minka_link::{ConfigError, Credentials, KeyError, NodeConfig};

/// Why a node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its keys are of no use.
    #[error("load the keys of this node")]
    Keys(#[from] KeyError),
    /// The configuration names not even this node.
    #[error("find this node in its configuration")]
    Nobody,
    /// Two nodes would have the same number.
    #[error(transparent)]
    Numbers(#[from] ConfigError),
}

/// A node as the configuration tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) number: NodeId,
    pub(crate) address: SocketAddr,
}

/// What a node needs to take part in its cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    pub(crate) credentials: Credentials,
    pub(crate) own: Member,
    /// The others, by number.
    pub(crate) others: Vec<Member>,
    pub(crate) balance: BalanceConfig,
}

impl ClusterSettings {
    /// What the configuration says.
    ///
    /// # Errors
    /// When the keys that it names cannot be used, or two nodes would have the same number.
    pub fn new(config: &NodeConfig) -> Result<Self, ClusterError> {
        let credentials = Credentials::new(&config.read_keys()?)?;
        let numbers = config.numbers()?;
        let member = |name: &String, address: SocketAddr| {
            let number = NodeId::new(numbers.get(name)?.get())?;
            Some(Member { name: name.clone(), number, address })
        };
        // All of them have one.
        let own = member(&config.name, config.listen).ok_or(ClusterError::Nobody)?;
        let mut others: Vec<_> =
            config.peers.iter().filter_map(|(name, address)| member(name, *address)).collect();
        others.sort_by_key(|other| other.number);
        Ok(ClusterSettings { credentials, own, others, balance: config.balance.clone() })
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// The node of that number.
    pub(crate) fn find(&self, number: NodeId) -> Option<&Member> {
        self.members().find(|member| member.number == number)
    }

    /// The name of a node.
    pub(crate) fn name(&self, number: NodeId) -> Option<&str> {
        self.find(number).map(|member| member.name.as_str())
    }

    /// The number of a node.
    pub(crate) fn number(&self, name: &str) -> Option<NodeId> {
        self.members().find(|member| member.name == name).map(|member| member.number)
    }

    /// The other nodes, to be asked to take this one in. Address and number are enough for that.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = Peer> {
        self.others.iter().map(|other| Peer { node: other.number, address: other.address, epoch: 0 })
    }

    /// How the balancer names a process: no two in the cluster have the same name.
    pub(crate) fn process(&self, home: NodeId, pid: i32) -> ProcessId {
        ProcessId(u64::from(home.get()) << 32 | u64::from(pid.unsigned_abs()))
    }
}

/// The home and the PID there of a process.
pub(crate) fn parts(process: ProcessId) -> Option<(NodeId, i32)> {
    let home = NodeId::new(u16::try_from(process.0 >> 32).ok()?)?;
    let pid = i32::try_from(process.0 & u64::from(u32::MAX)).ok().filter(|pid| *pid > 0)?;
    Some((home, pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_are_unambiguous() {
        let home = NodeId::new(65_535).unwrap();
        let name = ProcessId(u64::from(home.get()) << 32 | 4_194_304);
        assert_eq!(parts(name), Some((home, 4_194_304)));
        for wrong in [0, 7, 7 << 32, 1 << 48 | 7, 1 << 32 | 0x8000_0000] {
            assert_eq!(parts(ProcessId(wrong)), None, "{wrong:x}");
        }
    }
}

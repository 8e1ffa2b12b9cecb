//! Who the nodes of the cluster are: names, numbers and addresses, from the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use minka_cluster::NodeId;
use minka_cluster::balance::ProcessId;
use minka_cluster::membership::Peer;
use minka_link::config::{BalanceConfig, DiscoveryConfig};
use minka_link::roster::Numbers;
use minka_link::{ConfigError, Credentials, KeyError, NodeConfig, PoolConfig};

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
    pub(crate) name: Arc<str>,
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
    pub(crate) discovery: DiscoveryConfig,
    pub(crate) pool: PoolConfig,
    /// Control groups that limit what guests may have.
    pub(crate) groups: Vec<PathBuf>,
}

impl ClusterSettings {
    /// What the configuration says.
    ///
    /// # Errors
    /// When the keys that it names cannot be used, or two nodes would have the same number.
    pub fn new(config: &NodeConfig) -> Result<Self, ClusterError> {
        let credentials = config.credentials()?;
        let numbers = config.numbers()?;
        // All of them have one.
        let own = member(&numbers, &config.name, config.listen).ok_or(ClusterError::Nobody)?;
        let others = Self::others(config)?;
        let (balance, groups) = (config.balance.clone(), config.guests.control_groups.clone());
        let (pool, discovery) = (config.pool.clone(), config.discovery.clone());
        Ok(ClusterSettings { credentials, own, others, balance, discovery, pool, groups })
    }

    /// The other nodes of a configuration, by number.
    pub(crate) fn others(config: &NodeConfig) -> Result<Vec<Member>, ClusterError> {
        let numbers = config.numbers()?;
        let others = config.peers.iter().filter_map(|(name, address)| member(&numbers, name, *address));
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|other| other.number);
        Ok(others)
    }
}

fn member(numbers: &Numbers, name: &str, address: SocketAddr) -> Option<Member> {
    let number = NodeId::new(numbers.get(name)?.get())?;
    Some(Member { name: name.into(), number, address })
}

/// Who the nodes are at present.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) own: Member,
    /// The others, by number.
    others: RwLock<Vec<Known>>,
}

/// Another node, and where it has shown itself.
#[derive(Debug, Clone)]
struct Known {
    member: Member,
    seen: Option<SocketAddr>,
}

impl Directory {
    pub(crate) fn new(own: Member, others: Vec<Member>) -> Self {
        let others = others.into_iter().map(|member| Known { member, seen: None });
        Directory { own, others: RwLock::new(others.collect()) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Known>> {
        self.others.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The others are these now. Returns those that are new or have another number or address, and those that are no more.
    pub(crate) fn replace(&self, others: Vec<Member>) -> (Vec<Member>, Vec<Member>) {
        let mut known = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Member> =
            others.iter().filter(|other| known.iter().all(|it| it.member != **other)).cloned().collect();
        let is_left = |it: &Known| others.iter().any(|other| other.number == it.member.number);
        let gone = known.iter().filter(|it| !is_left(it)).map(|it| it.member.clone()).collect();
        let seen = |member: &Member| known.iter().find(|it| it.member == *member)?.seen;
        *known = others.into_iter().map(|member| Known { seen: seen(&member), member }).collect();
        (new, gone)
    }

    /// A node has shown itself at an address, by something that only it can have sent: true if that is news. Who only
    /// looks different because of the port it sends from is not somewhere else.
    pub(crate) fn see(&self, number: NodeId, at: SocketAddr) -> bool {
        let is_news = |it: &Known| {
            it.member.number == number
                && at.port() == it.member.address.port()
                && at.ip().to_canonical() != it.address().ip().to_canonical()
        };
        // Nearly always there is nothing new, and nobody has to wait.
        if !self.read().iter().any(is_news) {
            return false;
        }
        let mut known = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let Some(it) = known.iter_mut().find(|it| is_news(it)) else { return false };
        it.seen = Some(at);
        true
    }

    /// A node has proved to be at an address: true if that is news.
    pub(crate) fn place(&self, number: NodeId, at: SocketAddr) -> bool {
        let mut known = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let Some(it) = known.iter_mut().find(|it| it.member.number == number && it.address() != at) else {
            return false;
        };
        it.seen = Some(at);
        true
    }

    /// The node of that number.
    pub(crate) fn find(&self, number: NodeId) -> Option<Member> {
        if self.own.number == number {
            return Some(self.own.clone());
        }
        self.read().iter().find(|it| it.member.number == number).map(Known::told)
    }

    /// The node of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Member> {
        self.read().iter().find(|it| *it.member.name == *name).map(Known::told)
    }

    /// The name of a node.
    pub(crate) fn name(&self, number: NodeId) -> Option<Arc<str>> {
        self.find(number).map(|member| member.name)
    }

    /// The number of a node.
    pub(crate) fn number(&self, name: &str) -> Option<NodeId> {
        if *self.own.name == *name {
            return Some(self.own.number);
        }
        self.named(name).map(|member| member.number)
    }

    /// The others, and where they are reached.
    pub(crate) fn others(&self) -> Vec<Member> {
        self.read().iter().map(Known::told).collect()
    }

    /// How the balancer names a process: no two in the cluster have the same name.
    pub(crate) fn process(&self, home: NodeId, pid: i32) -> ProcessId {
        ProcessId(u64::from(home.get()) << 32 | u64::from(pid.unsigned_abs()))
    }
}

impl Known {
    fn address(&self) -> SocketAddr {
        self.seen.unwrap_or(self.member.address)
    }

    fn told(&self) -> Member {
        Member { address: self.address(), ..self.member.clone() }
    }
}

impl Member {
    /// The node, to be asked to take this one in. Address and number are enough for that.
    pub(crate) fn contact(&self) -> Peer {
        Peer { node: self.number, address: self.address, epoch: 0 }
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

    fn member(name: &str, number: u16, address: &str) -> Member {
        Member { name: name.into(), number: NodeId::new(number).unwrap(), address: address.parse().unwrap() }
    }

    #[test]
    fn nodes_come_go_and_show_themselves_elsewhere() {
        let (a, b) = (member("a", 1, "10.0.0.1:1"), member("b", 2, "10.0.0.2:1"));
        let c = member("c", 3, "10.0.0.3:1");
        let directory = Directory::new(a, vec![b.clone()]);
        let at = |text: &str| text.parse().unwrap();
        assert!(!directory.see(b.number, at("10.0.0.2:1")), "where it is");
        assert!(!directory.see(b.number, at("10.0.0.9:7")), "another port");
        assert!(!directory.see(c.number, at("10.0.0.9:1")), "nobody");
        assert!(directory.see(b.number, at("10.0.0.9:1")) && !directory.see(b.number, at("10.0.0.9:1")));
        assert_eq!(directory.named("b").unwrap().address, at("10.0.0.9:1"));
        assert_eq!(directory.replace(vec![b.clone(), c.clone()]), (vec![c.clone()], vec![]));
        assert_eq!(directory.find(b.number).unwrap().address, at("10.0.0.9:1"), "it is still there");
        assert!(directory.see(b.number, at("10.0.0.2:1")), "and back");
        assert_eq!(directory.replace(vec![c.clone()]), (vec![], vec![b]));
        assert_eq!((directory.number("a"), directory.number("b")), (NodeId::new(1), None));
    }

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

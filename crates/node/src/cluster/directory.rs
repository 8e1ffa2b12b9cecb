//! Who the nodes of the cluster are: names, numbers and addresses, from the configuration.

use std::net::{IpAddr, SocketAddr};
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
    /// Where it is in other networks.
    pub(crate) others: Vec<SocketAddr>,
}

/// What a node needs to take part in its cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    pub(crate) credentials: Credentials,
    pub(crate) own: Member,
    /// Where the others reach it, if it listens at all of its addresses.
    pub(crate) reached_at: Option<SocketAddr>,
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
        let own = member(&numbers, &config.name, config.listen, &[]).ok_or(ClusterError::Nobody)?;
        let others = Self::others(config)?;
        let (balance, groups) = (config.balance.clone(), config.guests.control_groups.clone());
        let (pool, discovery) = (config.pool.clone(), config.discovery.clone());
        let reached_at = config.reached_at.filter(|_| config.listen.ip().is_unspecified());
        Ok(ClusterSettings { credentials, own, reached_at, others, balance, discovery, pool, groups })
    }

    /// The other nodes of a configuration, by number.
    pub(crate) fn others(config: &NodeConfig) -> Result<Vec<Member>, ClusterError> {
        let numbers = config.numbers()?;
        let networks = |name: &String| config.addresses.get(name).map_or(&[][..], Vec::as_slice);
        let others = config.peers.iter();
        let others = others.filter_map(|(name, at)| member(&numbers, name, *at, networks(name)));
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|other| other.number);
        Ok(others)
    }
}

fn member(numbers: &Numbers, name: &str, address: SocketAddr, others: &[IpAddr]) -> Option<Member> {
    let number = NodeId::new(numbers.get(name)?.get())?;
    let others = others.iter().map(|other| SocketAddr::new(*other, address.port())).collect();
    Some(Member { name: name.into(), number, address, others })
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
    /// Where it has proved to be, the newest last.
    proved: Vec<SocketAddr>,
}

/// So many places where a node has been are remembered.
const PROVED_MAX: usize = 4;

impl Directory {
    pub(crate) fn new(own: Member, others: Vec<Member>) -> Self {
        let others = others.into_iter().map(Known::new);
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
        let before = |member: &Member| known.iter().find(|it| it.member == *member).cloned();
        *known =
            others.into_iter().map(|member| before(&member).unwrap_or_else(|| Known::new(member))).collect();
        (new, gone)
    }

    /// A node has shown itself at an address, by something that only it can have sent: true if that is news. Who only
    /// looks different because of the port it sends from is not somewhere else; nor is who sends from another one of its own
    /// networks, for each end chooses for itself by which one it reaches the other.
    pub(crate) fn see(&self, number: NodeId, at: SocketAddr) -> bool {
        let is_news = |it: &Known| {
            it.member.number == number
                && at.port() == it.member.address.port()
                && at.ip().to_canonical() != it.address().ip().to_canonical()
                && !it.is_own(at)
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
        it.proved.retain(|proved| *proved != at);
        let surplus = (it.proved.len() + 1).saturating_sub(PROVED_MAX);
        it.proved.drain(..surplus);
        it.proved.push(at);
        true
    }

    /// Whether a node is known to be at an address, too.
    pub(crate) fn knows(&self, name: &str, at: SocketAddr) -> bool {
        self.read().iter().any(|it| *it.member.name == *name && (it.is_own(at) || it.proved.contains(&at)))
    }

    /// Where else a node may be than where it is reached now, the best first.
    pub(crate) fn elsewhere(&self, name: &str) -> Vec<SocketAddr> {
        let others = self.read();
        let Some(it) = others.iter().find(|it| *it.member.name == *name) else { return Vec::new() };
        let mut places: Vec<SocketAddr> = it.own().chain(it.proved.iter().copied()).collect();
        let mut seen = std::collections::BTreeSet::from([it.address()]);
        places.retain(|place| seen.insert(*place));
        places
    }

    /// Where a node in several networks is reached best, if that is not where it is reached now.
    pub(crate) fn better(&self, name: &str) -> Option<SocketAddr> {
        let others = self.read();
        let it = others.iter().find(|it| *it.member.name == *name && !it.member.others.is_empty())?;
        Some(it.member.address).filter(|best| *best != it.address())
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
    fn new(member: Member) -> Self {
        Known { member, seen: None, proved: Vec::new() }
    }

    /// Its own addresses, the best first.
    fn own(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.member.address).chain(self.member.others.iter().copied())
    }

    /// Whether it is in several networks, and this is its address in one of them.
    fn is_own(&self, at: SocketAddr) -> bool {
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        !self.member.others.is_empty() && self.own().any(|own| own == at)
    }

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
        let (number, address) = (NodeId::new(number).unwrap(), address.parse().unwrap());
        Member { name: name.into(), number, address, others: Vec::new() }
    }

    #[test]
    fn nodes_in_several_networks_are_reached_by_any_of_them() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut b = member("b", 2, "10.0.0.2:1");
        b.others = vec![at("10.1.0.2:1"), at("10.2.0.2:1")];
        let directory = Directory::new(member("a", 1, "10.0.0.1:1"), vec![b.clone()]);
        assert_eq!(directory.elsewhere("b"), [at("10.1.0.2:1"), at("10.2.0.2:1")]);
        assert_eq!(directory.better("b"), None);
        // It sends from another one of its networks: that is its own affair.
        assert!(!directory.see(b.number, at("10.2.0.2:1")) && directory.knows("b", at("10.2.0.2:1")));
        assert!(directory.place(b.number, at("10.1.0.2:1")));
        assert_eq!(directory.named("b").unwrap().address, at("10.1.0.2:1"));
        assert_eq!(directory.better("b"), Some(at("10.0.0.2:1")));
        assert_eq!(directory.elsewhere("b"), [at("10.0.0.2:1"), at("10.2.0.2:1")]);
        // Somewhere that nobody has said: a laptop, of which some places are remembered.
        assert!(directory.see(b.number, at("10.9.0.2:1")) && !directory.knows("b", at("10.9.0.2:1")));
        for last in 1..=9 {
            directory.place(b.number, SocketAddr::from(([10, 9, 0, last], 1)));
        }
        assert_eq!(directory.elsewhere("b").len(), 3 + PROVED_MAX - 1);
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

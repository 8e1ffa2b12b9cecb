//! The directory of a cluster's authority: who looks after the cluster changes it there.
//!
//! Several programs may do so at a time (`minka cluster serve` and a hand), one after the other: each holds a lock on the
//! directory for as long as it reads and changes it.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::{
    KEYS, List, NODE_FILE, NODES_FILE, Nodes, OTHER_NETWORKS_MAX, RosterError, make_private, number_of,
    number_of_name, replace, succession,
};
use crate::authority::{AUTHORITY_NAME, NodeRequest};
use crate::keys::{self, Authority, KeyError};

/// What a machine gets that has become a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The certificate of the authority; where it takes another one's place, of both, its own first.
    pub authority: String,
    /// The node's own.
    pub certificate: String,
    /// The signed list of nodes.
    pub list: String,
}

/// The directory from which machines are made nodes, while nobody else changes it.
#[derive(Debug)]
pub struct Roster {
    directory: PathBuf,
    authority: Authority,
    list: List,
    /// Held until this is dropped.
    _lock: File,
}

impl Roster {
    /// Makes a new cluster that has no nodes yet.
    pub fn create(directory: &Path) -> Result<Self, RosterError> {
        let exists = || directory.join(NODES_FILE).exists() || directory.join(keys::AUTHORITY_KEY).exists();
        if exists() {
            return Err(RosterError::Exists { directory: directory.to_owned() });
        }
        make_private(directory)?;
        let lock = lock(directory)?;
        // Somebody else may have been quicker.
        if exists() {
            return Err(RosterError::Exists { directory: directory.to_owned() });
        }
        let authority = Authority::create()?;
        authority.write(directory)?;
        let mut roster =
            Roster { directory: directory.to_owned(), authority, list: List::default(), _lock: lock };
        roster.change(|_, _| Ok(()))?;
        Ok(roster)
    }

    /// The cluster that a directory holds.
    pub fn open(directory: &Path) -> Result<Self, RosterError> {
        // First: a lock in a directory that holds no cluster would be a file too many.
        List::text(&directory.join(NODES_FILE))?;
        let lock = lock(directory)?;
        let list = List::read(&directory.join(NODES_FILE))?;
        let authority = succession::authority(directory, &list)?;
        Ok(Roster { directory: directory.to_owned(), authority, list, _lock: lock })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Looks again who decides.
    pub(super) fn read_authority(&mut self) -> Result<(), RosterError> {
        self.authority = succession::authority(&self.directory, &self.list)?;
        Ok(())
    }

    pub(super) fn leave_former(&mut self) {
        self.authority.leave_former();
    }

    /// All nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.list.nodes
    }

    /// The list of them, with all that there is to it.
    pub fn list(&self) -> &List {
        &self.list
    }

    /// Who decides.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The list as all nodes are to have it.
    pub fn signed(&self) -> Result<String, RosterError> {
        List::text(&self.directory.join(NODES_FILE))
    }

    /// Makes the directory of a new node, and tells all others' of it. Returns the new one. In other networks it may have other
    /// addresses, with the same port.
    pub fn add(
        &mut self,
        name: &str,
        address: SocketAddr,
        others: &[IpAddr],
    ) -> Result<PathBuf, RosterError> {
        self.check(name, address, others)?;
        let directory = self.directory.join(name);
        make_private(&directory)?;
        let keys = directory.join(KEYS);
        make_private(&keys)?;
        let issued = self.change(|list, authority| {
            list.insert(name, address, others)?;
            Ok(authority.issue_numbered(name, Some(list.version))?)
        })?;
        issued.write(&keys)?;
        self.note_renewed([name.to_owned()])?;
        // In several networks it listens at all of its addresses.
        let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let listen = if others.is_empty() { address } else { SocketAddr::new(any, address.port()) };
        replace(&directory.join(NODE_FILE), &node_file(name, listen, None))?;
        self.tell_all()?;
        Ok(directory)
    }

    /// Makes a node of a machine that has made its key itself.
    pub fn admit(
        &mut self,
        name: &str,
        address: SocketAddr,
        others: &[IpAddr],
        request: &NodeRequest,
    ) -> Result<Admitted, RosterError> {
        self.check(name, address, others)?;
        let certificate = self.change(|list, authority| {
            list.insert(name, address, others)?;
            Ok(authority.certify(name, request, list.version)?)
        })?;
        self.note_renewed([name.to_owned()])?;
        self.admitted(certificate)
    }

    /// Makes a new certificate for a node, for another key; if it is asked for, the ones it had are refused from now on.
    pub fn renew(
        &mut self,
        name: &str,
        request: &NodeRequest,
        refuse_old: bool,
    ) -> Result<Admitted, RosterError> {
        if !self.list.nodes.contains_key(name) {
            return Err(self.no_such(name));
        }
        let certificate = self.change(|list, authority| {
            if refuse_old {
                list.refused.insert(name.to_owned(), list.version - 1);
            }
            Ok(authority.certify(name, request, list.version)?)
        })?;
        self.admitted(certificate)
    }

    /// Takes a node off the list: its certificates are refused by everybody who has the new one.
    pub fn remove(&mut self, name: &str) -> Result<(), RosterError> {
        if !self.list.nodes.contains_key(name) {
            return Err(self.no_such(name));
        }
        self.change(|list, _| {
            list.nodes.remove(name);
            list.addresses.remove(name);
            list.ids.remove(name);
            list.refused.insert(name.to_owned(), list.version);
            Ok(())
        })
    }

    pub(super) fn admitted(&self, certificate: String) -> Result<Admitted, RosterError> {
        let authority = self.authority.trusted().concat();
        Ok(Admitted { authority, certificate, list: self.signed()? })
    }

    pub(super) fn no_such(&self, name: &str) -> RosterError {
        RosterError::NoSuchNode { name: name.to_owned(), path: self.directory.join(NODES_FILE) }
    }

    /// Whether a node can have this name and these addresses.
    ///
    /// # Errors
    /// When another one has one of them, there are too many, or the name is none.
    pub fn check(&self, name: &str, address: SocketAddr, others: &[IpAddr]) -> Result<(), RosterError> {
        keys::check_name(name)?;
        if name == AUTHORITY_NAME {
            return Err(KeyError::Name { name: name.to_owned() }.into());
        }
        let taken =
            |what, taken: &str| RosterError::Taken { name: name.to_owned(), what, taken: taken.to_owned() };
        if self.list.nodes.contains_key(name) {
            return Err(taken("there is a node", name));
        }
        let new: Vec<_> = places(address, others).collect();
        let has_one = |(other, at): &(&String, &SocketAddr)| {
            places(**at, self.list.others(other)).any(|place| new.contains(&place))
        };
        if let Some((other, _)) = self.list.nodes.iter().find(has_one) {
            return Err(taken("its address belongs to", other));
        }
        if others.len() > OTHER_NETWORKS_MAX {
            return Err(RosterError::Networks);
        }
        Ok(())
    }

    /// Makes the next version of the list, and writes it.
    pub(super) fn change<T>(
        &mut self,
        change: impl FnOnce(&mut List, &Authority) -> Result<T, RosterError>,
    ) -> Result<T, RosterError> {
        let mut list = self.list.clone();
        list.version += 1;
        list.number_all()?;
        let outcome = change(&mut list, &self.authority)?;
        self.list = list;
        self.tell_all()?;
        Ok(outcome)
    }

    /// Writes the list here and in every node's directory that is still here.
    fn tell_all(&self) -> Result<(), RosterError> {
        let text = self.list.sign(&self.authority)?;
        let directories = self.list.nodes.keys().map(|name| self.directory.join(name));
        directories
            .filter(|directory| directory.is_dir())
            .try_for_each(|directory| replace(&directory.join(NODES_FILE), &text))?;
        replace(&self.directory.join(NODES_FILE), &text)
    }
}

/// All places where a node is.
fn places(address: SocketAddr, others: &[IpAddr]) -> impl Iterator<Item = SocketAddr> {
    let others = others.iter().map(move |other| SocketAddr::new(*other, address.port()));
    std::iter::once(address).chain(others)
}

impl List {
    /// A node's addresses in other networks.
    pub fn others(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    fn insert(&mut self, name: &str, address: SocketAddr, others: &[IpAddr]) -> Result<(), RosterError> {
        let number = self.free_number(name, address)?;
        if !others.is_empty() {
            self.addresses.insert(name.to_owned(), others.to_vec());
        }
        self.nodes.insert(name.to_owned(), address);
        self.ids.insert(name.to_owned(), number);
        Ok(())
    }

    /// Gives nodes numbers that are of a time when these were not said: those that they have had.
    fn number_all(&mut self) -> Result<(), RosterError> {
        let by_address = |name: &str, address: &SocketAddr| {
            let number = number_of(address.ip())?;
            let others = self.nodes.iter().filter(|(other, _)| *other != name);
            others.into_iter().all(|(_, at)| number_of(at.ip()) != Some(number)).then_some(number)
        };
        let missing = self.nodes.iter().filter(|(name, _)| !self.ids.contains_key(*name));
        let numbers: Vec<_> = missing
            .map(|(name, at)| (name.clone(), by_address(name, at).unwrap_or_else(|| number_of_name(name))))
            .collect();
        self.ids.extend(numbers);
        Ok(())
    }

    /// The number that a node's address makes or, if another one has it, its name, or else the first that is free.
    fn free_number(&self, name: &str, address: SocketAddr) -> Result<NonZeroU16, RosterError> {
        let is_free = |number: &NonZeroU16| self.ids.values().all(|taken| taken != number);
        let candidates = number_of(address.ip()).into_iter().chain([number_of_name(name)]);
        let rest = (1..=u16::MAX).filter_map(NonZeroU16::new);
        candidates.chain(rest).find(is_free).ok_or_else(|| RosterError::Full { name: name.to_owned() })
    }
}

/// The configuration of a node; where its authority is reached if that is known.
pub fn node_file(name: &str, listen: SocketAddr, authority: Option<SocketAddr>) -> String {
    let authority = authority.map(|address| format!("authority = \"{address}\"\n")).unwrap_or_default();
    format!(
        "# Minka: this node. Other settings are explained in the manual page minka-node-serve(1).\n\
         name = \"{name}\"\nlisten = \"{listen}\"\nkeys = \"{KEYS}\"\nmap = \"{NODES_FILE}\"\n{authority}"
    )
}

/// Waits until nobody else changes the directory.
fn lock(directory: &Path) -> Result<File, RosterError> {
    let path = directory.join(".lock");
    let lock = || {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|source| RosterError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, NodeConfig, NodeKey};
    use std::os::unix::fs::PermissionsExt;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 4660))
    }

    #[test]
    fn nodes_get_all_that_they_need_and_hear_of_each_other() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("cluster");
        let mut roster = Roster::create(&directory).unwrap();
        let first = roster.add("a", address(1), &[]).unwrap();
        drop(roster);
        let second = Roster::open(&directory).unwrap().add("b", address(2), &[]).unwrap();
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
        let first = roster.add("a", address(1), &[]).unwrap();
        roster.add("b", address(2), &[]).unwrap();
        roster.remove("b").unwrap();
        assert!(NodeConfig::read(&first.join(NODE_FILE)).unwrap().peers.is_empty());
        assert!(matches!(roster.remove("b"), Err(RosterError::NoSuchNode { .. })));
    }

    #[test]
    fn names_and_addresses_are_given_once() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        roster.add("a", address(1), &[]).unwrap();
        let error = roster.add("a", address(2), &[]).unwrap_err();
        assert_eq!(error.to_string(), "add the node a: there is a node a already");
        let error = roster.add("b", address(1), &[]).unwrap_err();
        assert_eq!(error.to_string(), "add the node b: its address belongs to a already");
        assert!(matches!(roster.add("B", address(3), &[]), Err(RosterError::Keys(KeyError::Name { .. }))));
        assert!(matches!(Roster::create(scratch.path()), Err(RosterError::Exists { .. })));
        // In whichever network.
        let in_other = [address(3).ip(), [10, 1, 0, 3].into()];
        roster.add("b", "10.1.0.2:4660".parse().unwrap(), &in_other).unwrap();
        for at in ["10.0.0.3:4660", "10.1.0.3:4660"] {
            let error = roster.add("c", at.parse().unwrap(), &[]).unwrap_err();
            assert_eq!(error.to_string(), "add the node c: its address belongs to b already");
        }
        roster.add("c", "10.0.0.3:4661".parse().unwrap(), &[]).unwrap();
        assert!(matches!(
            roster.add("d", address(9), &[[10, 2, 0, 1].into(); 8]),
            Err(RosterError::Networks)
        ));
        roster.remove("b").unwrap();
        assert!(roster.list().addresses.is_empty());
        drop(roster);
        assert_eq!(Roster::open(scratch.path()).unwrap().nodes().len(), 2);
    }

    #[test]
    fn whoever_is_removed_is_refused_until_it_is_admitted_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        let credentials = |admitted: Admitted, key: &NodeKey| {
            let keys = key.certified(admitted.authority, admitted.certificate);
            (Credentials::new(&keys).unwrap(), admitted.list)
        };
        let key = NodeKey::create().unwrap();
        let request = key.request().unwrap();
        let (a, _) = credentials(roster.admit("a", address(1), &[], &request).unwrap(), &key);
        let (_, list) = credentials(roster.admit("b", address(2), &[], &request).unwrap(), &key);
        assert_eq!(List::verify(&list, &a).unwrap().ids["b"].get(), 2);
        let refused = |roster: &Roster| roster.list().refused.clone();
        roster.renew("b", &request, false).unwrap();
        assert_eq!(refused(&roster), Default::default());
        roster.renew("b", &request, true).unwrap();
        let version = roster.list().version;
        assert_eq!(refused(&roster), [("b".to_owned(), version - 1)].into());
        roster.remove("b").unwrap();
        assert_eq!(refused(&roster), [("b".to_owned(), version + 1)].into());
        roster.admit("b", address(2), &[], &request).unwrap();
        assert!(refused(&roster)["b"] < roster.list().version);
        assert!(matches!(roster.renew("c", &request, false), Err(RosterError::NoSuchNode { .. })));
        assert!(roster.admit("authority", address(9), &[], &request).is_err());
    }

    #[test]
    fn numbers_are_given_once_and_kept() {
        let scratch = tempfile::tempdir().unwrap();
        // A list of a time when numbers were not written down.
        Authority::create().unwrap().write(scratch.path()).unwrap();
        let old = "[nodes]\na = \"10.0.0.1:1\"\nb = \"10.1.0.1:1\"\nc = \"10.0.0.3:1\"\n";
        std::fs::write(scratch.path().join(NODES_FILE), old).unwrap();
        let mut roster = Roster::open(scratch.path()).unwrap();
        roster.add("d", "10.2.0.3:1".parse().unwrap(), &[]).unwrap();
        let ids = &roster.list().ids;
        assert_eq!((ids["a"], ids["b"], ids["c"].get()), (number_of_name("a"), number_of_name("b"), 3));
        assert_eq!(ids["d"], number_of_name("d"));
        let config = NodeConfig::read(&scratch.path().join("d").join(NODE_FILE)).unwrap();
        assert_eq!(config.numbers().unwrap(), *ids);
    }
}

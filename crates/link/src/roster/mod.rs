//! The nodes of a cluster: the list of them, and the directory from which machines are made nodes.
//!
//! ```text
//! DIR/ca.pem ca.key                the authority: whoever has its key decides who belongs to the cluster
//! DIR/cluster.toml                 all nodes, by name, and where they listen
//! DIR/NAME/node.toml               the directory of a node, to be copied to its machine: its configuration,
//! DIR/NAME/cluster.toml            all nodes again,
//! DIR/NAME/keys/…                  and its keys, see [`crate::keys`]
//! ```
//!
//! The list is the same on all machines, as openMosix's map was:
//!
//! ```toml
//! version = 3                      # each change makes a higher one
//! [nodes]
//! a = "10.0.0.1:4660"
//! b = "10.0.0.2:4660"
//! [addresses]                      # of those that are in several networks: their addresses in the others
//! b = ["10.1.0.2"]
//! [ids]                            # their numbers, which never change
//! a = 1
//! b = 2
//! [refused]                        # certificates that are good no more: those of c with numbers up to 2
//! c = 2
//! # signed 3045…
//! ```
//!
//! The last line is the authority's signature over all the lines before it. So any node can pass the list on to any other,
//! and nobody needs to be believed but the authority: the highest version counts. A list without a version is somebody's
//! own and is not passed on.
//!
//! Since an authority has taken another one's place the list says, before all else, whose certificates are good:
//! `authorities = ['…', '…']`, of which the first counts. Until the former one is gone it signs the list, too, in a
//! line of its own, for those who have not heard of the new one (`succession`).

mod directory;
mod succession;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read, Write as _},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

pub use directory::{Admitted, Roster, node_file};
pub use succession::{AUTHORITY_FILES, Standing};

use crate::credentials::{Credentials, Refused};
use crate::keys::{self, Authority, KeyError};

/// The file that says which nodes there are.
pub const NODES_FILE: &str = "cluster.toml";
/// The configuration of one of them.
pub const NODE_FILE: &str = "node.toml";
/// The directory of its keys.
pub const KEYS: &str = "keys";

/// No list of nodes is longer, in bytes, so that it fits one frame.
pub const ROSTER_BYTES_MAX: usize = 1000 << 10;

/// How the line of a signature begins.
const SIGNED: &str = "# signed ";

/// So many authorities are good at a time at most, and sign a list: one, and the one whose place it takes.
const AUTHORITIES_MAX: usize = 2;
/// No certificate of an authority is near as long, in bytes.
const AUTHORITY_BYTES_MAX: usize = 4 << 10;

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
    /// The list is not signed by this cluster's authority.
    #[error("believe a list of nodes: the cluster's authority has not signed it")]
    NotSigned,
    /// The list names authorities that cannot be any.
    #[error("trust the authorities of a list of nodes: they are too many, or too long")]
    Authorities,
    /// A node is in more networks than anybody is.
    #[error("know a node in more than {} networks", OTHER_NETWORKS_MAX + 1)]
    Networks,
    /// Numbers for nodes have run out.
    #[error("number the node {name}: there are none left")]
    Full {
        /// The node.
        name: String,
    },
    /// Keys are missing, or could not be made.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The nodes of a cluster by name, and where they listen.
pub type Nodes = BTreeMap<String, SocketAddr>;

/// In how many other networks a node may be.
pub const OTHER_NETWORKS_MAX: usize = 7;

/// Further addresses of nodes, in other networks than the first one's; the port is the same.
pub type OtherAddresses = BTreeMap<String, Vec<IpAddr>>;

/// The numbers of nodes by name.
pub type Numbers = BTreeMap<String, NonZeroU16>;

/// A list of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Each change makes a higher one; 0 for a list that somebody keeps by hand.
    #[serde(default)]
    pub version: u64,
    /// The certificates of the authorities whose certificates are good, the one that counts first; none: the one that a node
    /// has always known.
    #[serde(default)]
    pub authorities: Vec<String>,
    /// All nodes.
    #[serde(default)]
    pub nodes: Nodes,
    /// Their addresses in other networks.
    #[serde(default)]
    pub addresses: OtherAddresses,
    /// Their numbers, where they are said.
    #[serde(default)]
    pub ids: Numbers,
    /// Certificates that are good no more.
    #[serde(default)]
    pub refused: Refused,
}

impl List {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, RosterError> {
        Self::parse(path, &Self::text(path)?)
    }

    /// What is in a file, to be passed on as it is.
    pub fn text(path: &Path) -> Result<String, RosterError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(ROSTER_BYTES_MAX as u64).read_to_string(&mut text))
            .map_err(|source| RosterError::Read { path: path.to_owned(), source })?;
        Ok(text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, RosterError> {
        let list: List = toml::from_str(text)
            .map_err(|source| RosterError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        for name in list.nodes.keys().chain(list.refused.keys()) {
            keys::check_name(name)?;
        }
        if list.addresses.values().any(|others| others.len() > OTHER_NETWORKS_MAX) {
            return Err(RosterError::Networks);
        }
        check_authorities(&list.authorities)?;
        Ok(list)
    }

    /// Reads what came from somebody else.
    ///
    /// # Errors
    /// When the authority that these credentials are from has not signed exactly this.
    pub fn verify(text: &str, credentials: &Credentials) -> Result<Self, RosterError> {
        let (content, signatures) = split(text).ok_or(RosterError::NotSigned)?;
        let is_signed = || signatures.iter().any(|signature| credentials.has_signed(content, signature));
        if text.len() > ROSTER_BYTES_MAX || !is_signed() {
            return Err(RosterError::NotSigned);
        }
        Self::parse(Path::new(NODES_FILE), text)
    }

    /// The list as it is written to files and sent about, with the authority's signature.
    pub fn sign(&self, authority: &Authority) -> Result<String, RosterError> {
        let mut text = format!(
            "# Minka: the nodes of this cluster. The same file on all of them; `minka cluster` changes it.\n\
             version = {}\n",
            self.version
        );
        // Writing to a String does not fail, here and below.
        if !self.authorities.is_empty() {
            let quoted: Vec<_> = self.authorities.iter().map(|it| format!("'''\n{it}'''")).collect();
            let _ = writeln!(text, "authorities = [{}]", quoted.join(", "));
        }
        let _ = writeln!(text, "\n[nodes]");
        for (name, address) in &self.nodes {
            let _ = writeln!(text, "{name} = \"{address}\"");
        }
        if !self.addresses.is_empty() {
            let _ = writeln!(text, "\n[addresses]");
        }
        for (name, addresses) in &self.addresses {
            let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            let _ = writeln!(text, "{name} = [{}]", quoted.join(", "));
        }
        let _ = writeln!(text, "\n[ids]");
        for (name, number) in &self.ids {
            let _ = writeln!(text, "{name} = {number}");
        }
        let _ = writeln!(text, "\n[refused]");
        for (name, number) in &self.refused {
            let _ = writeln!(text, "{name} = {number}");
        }
        for signature in authority.sign_roster(&text)? {
            let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(text, "{SIGNED}{digits}");
        }
        Ok(text)
    }
}

/// The lines before the signatures, and the signatures.
fn split(text: &str) -> Option<(&str, Vec<Vec<u8>>)> {
    let mut content = text;
    let mut signatures = Vec::new();
    while let Some((before, signature)) = last_signature(content)
        && signatures.len() < AUTHORITIES_MAX
    {
        content = before;
        signatures.push(signature);
    }
    (!signatures.is_empty()).then_some((content, signatures))
}

/// The text before its last line, and the signature that this is.
fn last_signature(text: &str) -> Option<(&str, Vec<u8>)> {
    let start = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (content, line) = text.split_at(start);
    let digits = line.strip_prefix(SIGNED)?.strip_suffix('\n')?;
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let signature: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    Some((content, signature?))
}

/// Whether authorities can be trusted at all: few certificates, each of which is one.
fn check_authorities(authorities: &[String]) -> Result<(), RosterError> {
    let is_short = authorities.iter().all(|it| it.len() <= AUTHORITY_BYTES_MAX);
    if authorities.len() > AUTHORITIES_MAX || !is_short {
        return Err(RosterError::Authorities);
    }
    authorities.iter().try_for_each(|it| Ok(keys::check_authority(it)?))
}

/// openMosix's rule: the last two parts of the address.
pub(crate) fn number_of(address: IpAddr) -> Option<NonZeroU16> {
    match address {
        IpAddr::V4(address) => {
            let [_, _, high, low] = address.octets();
            NonZeroU16::new(u16::from_be_bytes([high, low]))
        }
        IpAddr::V6(_) => None,
    }
}

/// A number from a name, where addresses do not tell nodes apart: FNV-1a, folded to sixteen bits.
pub(crate) fn number_of_name(name: &str) -> NonZeroU16 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    NonZeroU16::new((hash >> 16) as u16 ^ hash as u16).unwrap_or(NonZeroU16::MAX)
}

/// Makes a directory that only its owner may enter, unless it is there.
fn make_private(path: &Path) -> Result<(), RosterError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RosterError::Write { path: path.to_owned(), source })
}

/// Writes a file as a whole or not at all.
pub fn replace(path: &Path, text: &str) -> Result<(), RosterError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        sync_rename(&file, &new, path)
    };
    write().map_err(|source| {
        // Half a file is of use to nobody.
        let _ = fs::remove_file(&new);
        RosterError::Write { path: path.to_owned(), source }
    })
}

/// Puts a file that is written where it belongs.
fn sync_rename(file: &File, new: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_believed_as_it_was_signed_and_not_otherwise() {
        let authority = Authority::create().unwrap();
        let credentials = Credentials::new(&authority.issue("a").unwrap()).unwrap();
        let list = List {
            version: 7,
            authorities: Vec::new(),
            nodes: [("a".to_owned(), "10.0.0.1:4660".parse().unwrap())].into(),
            addresses: [("a".to_owned(), vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()])]
                .into(),
            ids: [("a".to_owned(), NonZeroU16::MIN)].into(),
            refused: [("b".to_owned(), 5)].into(),
        };
        let text = list.sign(&authority).unwrap();
        assert_eq!(List::verify(&text, &credentials).unwrap(), list);
        let other = Credentials::new(&Authority::create().unwrap().issue("a").unwrap()).unwrap();
        assert!(matches!(List::verify(&text, &other), Err(RosterError::NotSigned)));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                // The digits of the signature may be written in capitals.
                assert!(List::verify(&changed, &credentials).is_err(), "{at}");
            }
        }
        for wrong in ["", "\n", "version = 9\n", "# signed \n", "\n# signed zz\n", "\n# signed 3\n"] {
            assert!(List::verify(wrong, &credentials).is_err(), "{wrong}");
        }
        for more in ["[ids]\n", "# signed 30\n# signed 30\n", "\n"] {
            assert!(List::verify(&format!("{text}{more}"), &credentials).is_err(), "{more}");
        }
    }

    #[test]
    fn while_an_authority_takes_anothers_place_lists_are_believed_by_all_and_then_by_its_own() {
        let former = Authority::create().unwrap();
        let old = Credentials::new(&former.issue("a").unwrap()).unwrap();
        let without_both = List { version: 1, ..List::default() }.sign(&former).unwrap();
        let succession = former.successor().unwrap();
        let authority = former.followed_by(&succession).unwrap();
        let both = Credentials::new(&authority.issue("a").unwrap()).unwrap();
        let authorities: Vec<String> = authority.trusted().iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(authorities.concat(), both.trusted());
        let list = List { version: 2, authorities, ..List::default() };
        let text = list.sign(&authority).unwrap();
        let mut authority = authority;
        authority.leave_former();
        let alone = Credentials::new(&authority.issue("a").unwrap()).unwrap();
        for credentials in [&old, &both, &alone] {
            assert_eq!(List::verify(&text, credentials).unwrap(), list);
        }
        let later = List { version: 3, authorities: vec![authority.certificate().to_owned()], ..list };
        let later = later.sign(&authority).unwrap();
        let believed = |text: &str| [&old, &both, &alone].map(|it| List::verify(text, it).is_ok());
        assert_eq!(believed(&later), [false, true, true]);
        // Who has the former authority's key says nothing to those who know of the new one.
        assert_eq!(believed(&without_both), [true, false, false]);
    }

    #[test]
    fn authorities_that_cannot_be_any_are_refused() {
        let authority = Authority::create().unwrap();
        let credentials = Credentials::new(&authority.issue("a").unwrap()).unwrap();
        let good = authority.certificate();
        let check = |authorities: &[&str], expected: &str| {
            let authorities = authorities.iter().map(|it| (*it).to_owned()).collect();
            let text = List { version: 1, authorities, ..List::default() }.sign(&authority).unwrap();
            let refused = List::verify(&text, &credentials).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check(&[good, good, good], "too many");
        check(&[&"x".repeat(5000)], "too long");
        check(&[""], "find the certificate of an authority");
        check(&["no certificate\n"], "find the certificate of an authority");
        check(&[&format!("{good}{good}")], "find the certificate of an authority");
        let node = authority.issue("a").unwrap().certificate;
        check(&[&node], "find the certificate of an authority");
    }
}

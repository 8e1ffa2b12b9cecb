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

mod directory;

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

/// How the line of the signature begins.
const SIGNED: &str = "# signed ";

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

/// The numbers of nodes by name.
pub type Numbers = BTreeMap<String, NonZeroU16>;

/// A list of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Each change makes a higher one; 0 for a list that somebody keeps by hand.
    #[serde(default)]
    pub version: u64,
    /// All nodes.
    #[serde(default)]
    pub nodes: Nodes,
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
        Ok(list)
    }

    /// Reads what came from somebody else.
    ///
    /// # Errors
    /// When the authority that these credentials are from has not signed exactly this.
    pub fn verify(text: &str, credentials: &Credentials) -> Result<Self, RosterError> {
        let (content, signature) = split(text).ok_or(RosterError::NotSigned)?;
        if text.len() > ROSTER_BYTES_MAX || !credentials.has_signed(content, &signature) {
            return Err(RosterError::NotSigned);
        }
        Self::parse(Path::new(NODES_FILE), text)
    }

    /// The list as it is written to files and sent about, with the authority's signature.
    pub fn sign(&self, authority: &Authority) -> Result<String, RosterError> {
        let mut text = format!(
            "# Minka: the nodes of this cluster. The same file on all of them; `minka cluster` changes it.\n\
             version = {}\n\n[nodes]\n",
            self.version
        );
        // Writing to a String does not fail, here and below.
        for (name, address) in &self.nodes {
            let _ = writeln!(text, "{name} = \"{address}\"");
        }
        let _ = writeln!(text, "\n[ids]");
        for (name, number) in &self.ids {
            let _ = writeln!(text, "{name} = {number}");
        }
        let _ = writeln!(text, "\n[refused]");
        for (name, number) in &self.refused {
            let _ = writeln!(text, "{name} = {number}");
        }
        let signature = authority.sign_roster(&text)?;
        let _ = write!(text, "{SIGNED}");
        for byte in signature {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        Ok(text)
    }
}

/// The lines before the signature, and the signature.
fn split(text: &str) -> Option<(&str, Vec<u8>)> {
    let start = text.rfind(SIGNED).filter(|start| text[..*start].ends_with('\n'))?;
    let (content, line) = text.split_at(start);
    let digits = line.strip_prefix(SIGNED)?.strip_suffix('\n')?;
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let signature: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    Some((content, signature?))
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
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| {
        // Half a file is of use to nobody.
        let _ = fs::remove_file(&new);
        RosterError::Write { path: path.to_owned(), source }
    })
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
            nodes: [("a".to_owned(), "10.0.0.1:4660".parse().unwrap())].into(),
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
        let more = format!("{text}[ids]\n");
        assert!(List::verify(&more, &credentials).is_err());
    }
}

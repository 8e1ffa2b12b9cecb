//! The keys of a cluster: an authority, and a certificate for each node that it vouches for.
//!
//! A directory of keys holds PEM files. `ca.pem` is the authority's certificate, which every node trusts; `ca.key` stays
//! where nodes are enrolled and need not be on a node at all. `node.pem` and `node.key` prove which node this is: the
//! certificate is for the DNS name `NAME.node.minka`, a name that no resolver knows and that only nodes look for.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

pub use crate::authority::Authority;

/// The certificate of the authority.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";
/// The key of the authority.
pub const AUTHORITY_KEY: &str = "ca.key";
/// The certificate of this node.
pub const NODE_CERTIFICATE: &str = "node.pem";
/// The key of this node.
pub const NODE_KEY: &str = "node.key";

/// What the names in node certificates end with.
const NODE_DOMAIN: &str = ".node.minka";
/// The longest label that DNS allows, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// No file of keys is near as long, in bytes.
const PEM_BYTES_MAX: u64 = 64 << 10;

/// Why keys could not be made, stored or loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A node cannot have this name.
    #[error("name a node {name:?}: names are 1 to 63 lower-case letters, digits and inner hyphens")]
    Name {
        /// The name.
        name: String,
    },
    /// Key or certificate could not be made.
    #[error("make a key and a certificate")]
    Make(#[source] rcgen::Error),
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file could not be written; keys are never overwritten.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A key that others may read is no secret.
    #[error("trust {}: its mode {mode:04o} lets others at it (chmod 600, and consider making new keys)", path.display())]
    Exposed {
        /// The file of the key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is too long for what it should be.
    #[error("take {} for a key or a certificate: it is longer than 64 KiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no PEM, or the wrong one.
    #[error("find {what} in {}", path.display())]
    Malformed {
        /// What should be there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// rustls refuses the keys.
    #[error("use the keys of this node")]
    Unusable(#[source] rustls::Error),
    /// Somebody asks for a certificate for a key that it has not got, or that is none.
    #[error("certify a key: whoever asks for it has not shown that it has it")]
    NotOwned,
}

/// The DNS name in the certificate of a node.
pub fn node_domain(name: &str) -> Result<String, KeyError> {
    check_name(name)?;
    Ok(format!("{name}{NODE_DOMAIN}"))
}

/// The name of the node that a certificate with this DNS name is for.
pub(crate) fn name_in_domain(domain: &str) -> Option<&str> {
    domain.strip_suffix(NODE_DOMAIN).filter(|name| check_name(name).is_ok())
}

/// Whether a node can have this name: it has to be one DNS label, in lower case.
pub fn check_name(name: &str) -> Result<(), KeyError> {
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let inner_hyphens = bytes.first() != Some(&b'-') && bytes.last() != Some(&b'-');
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX || !bytes.iter().all(allowed) || !inner_hyphens {
        return Err(KeyError::Name { name: name.to_owned() });
    }
    Ok(())
}

/// With what a node proves its name, and checks the names of others. All three are PEM.
pub struct NodeKeys {
    /// The certificate of the authority.
    pub authority: String,
    /// The certificate of the node.
    pub certificate: String,
    /// The key that belongs to it: a secret.
    pub key: String,
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeKeys").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl NodeKeys {
    /// Loads the keys of a node from its directory.
    pub fn read(directory: &Path) -> Result<Self, KeyError> {
        Ok(NodeKeys {
            authority: read_public(&directory.join(AUTHORITY_CERTIFICATE))?,
            certificate: read_public(&directory.join(NODE_CERTIFICATE))?,
            key: read_secret(&directory.join(NODE_KEY))?,
        })
    }

    /// Puts these keys in the place of those that are in the directory, all at once: whoever reads them meanwhile finds
    /// the old ones or the new ones.
    pub fn replace(&self, directory: &Path) -> Result<(), KeyError> {
        let new = directory.with_extension("new");
        let write = |source| KeyError::Write { path: new.clone(), source };
        match std::fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(error)),
            _ => {}
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(&new);
        made.map_err(write)?;
        self.write(&new)?;
        let (here, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(here, &new, here, directory, exchange)
            .map_err(|errno| write(errno.into()))?;
        std::fs::remove_dir_all(&new).map_err(write)
    }

    /// Stores the keys in the directory of a node that has none yet. The certificate of the authority may be there.
    pub fn write(&self, directory: &Path) -> Result<(), KeyError> {
        let authority = directory.join(AUTHORITY_CERTIFICATE);
        if read_public(&authority).ok().as_ref() != Some(&self.authority) {
            write_new(&authority, &self.authority, 0o644)?;
        }
        write_new(&directory.join(NODE_KEY), &self.key, 0o600)?;
        write_new(&directory.join(NODE_CERTIFICATE), &self.certificate, 0o644)
    }
}

/// Whether a text is one certificate of an authority.
pub(crate) fn check_authority(text: &str) -> Result<(), KeyError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| KeyError::Malformed {
        what: "the certificate of an authority",
        path: AUTHORITY_CERTIFICATE.into(),
        source,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let [certificate] = &found.map_err(|error| failed(error.into()))?[..] else {
        return Err(failed("there is not one certificate".into()));
    };
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|error| failed(error.into()))?;
    // Those of nodes have names.
    match certificate.valid_dns_names().next() {
        Some(_) => Err(failed("it is a node's".into())),
        None => Ok(()),
    }
}

pub(crate) fn read_public(path: &Path) -> Result<String, KeyError> {
    let open = || File::open(path);
    read_bounded(path, open().map_err(|source| KeyError::Read { path: path.to_owned(), source })?)
}

pub(crate) fn read_secret(path: &Path) -> Result<String, KeyError> {
    let read = |source| KeyError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    // Asked of the open file, so that it cannot be exchanged in between.
    let mode = file.metadata().map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    read_bounded(path, file)
}

fn read_bounded(path: &Path, file: File) -> Result<String, KeyError> {
    let mut text = String::new();
    let length = file
        .take(PEM_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
    if length as u64 > PEM_BYTES_MAX {
        return Err(KeyError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        Authority::create().unwrap().write(directory.path()).unwrap();
        let authority = Authority::read(directory.path()).unwrap();
        authority.issue("a").unwrap().write(directory.path()).unwrap();
        let keys = NodeKeys::read(directory.path()).unwrap();
        assert_eq!(keys.authority, authority.certificate());
        crate::Credentials::new(&keys).unwrap();
    }

    #[test]
    fn keys_are_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create().unwrap();
        authority.write(directory.path()).unwrap();
        let error = Authority::create().unwrap().write(directory.path()).unwrap_err();
        assert!(
            matches!(&error, KeyError::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
        );
        assert_eq!(Authority::read(directory.path()).unwrap().certificate(), authority.certificate());
        let stranger = Authority::create().unwrap().issue("a").unwrap();
        assert!(matches!(stranger.write(directory.path()), Err(KeyError::Write { .. })));
    }

    #[test]
    fn keys_are_replaced_as_a_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("keys");
        std::fs::create_dir(&directory).unwrap();
        let authority = Authority::create().unwrap();
        authority.issue("a").unwrap().write(&directory).unwrap();
        let new = authority.issue("a").unwrap();
        new.replace(&directory).unwrap();
        let found = NodeKeys::read(&directory).unwrap();
        assert_eq!((found.key, found.certificate), (new.key, new.certificate));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn secrets_have_to_be_secret() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create().unwrap();
        authority.write(directory.path()).unwrap();
        authority.issue("a").unwrap().write(directory.path()).unwrap();
        for name in [AUTHORITY_KEY, NODE_KEY] {
            let path = directory.path().join(name);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        }
        let error = NodeKeys::read(directory.path()).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().contains("node.key: its mode 0640 lets others at it"), "{error}");
        assert!(matches!(Authority::read(directory.path()), Err(KeyError::Exposed { .. })));
    }

    #[test]
    fn names_are_labels() {
        for name in ["a", "node-1", "0", &"x".repeat(63)] {
            assert_eq!(name_in_domain(&node_domain(name).unwrap()), Some(name));
        }
        for name in ["", "A", "a.b", "-a", "a-", "a b", "é", "*", &"x".repeat(64)] {
            assert!(node_domain(name).is_err(), "{name:?}");
        }
        assert_eq!(name_in_domain("a.example.org"), None);
        assert_eq!(name_in_domain("*.node.minka"), None);
    }

    #[test]
    fn files_of_any_length_are_not_swallowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(AUTHORITY_CERTIFICATE);
        std::fs::write(&path, vec![b'x'; 65 << 10]).unwrap();
        assert!(matches!(NodeKeys::read(directory.path()), Err(KeyError::TooLong { .. })));
    }
}

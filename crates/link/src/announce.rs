//! Announcements: a node says by multicast that it is there, and anybody of its cluster can tell that it is true.
//!
//! ```text
//!  0     1      2           10       18      20            22
//! ┌─────┬──────┬───────────┬────────┬───────┬─────────────┬─────────────┬───────────┐
//! │  1  │ 'A'  │ version   │ time   │ port  │ certificate │ certificate │ signature │    numbers: highest byte first
//! └─────┴──────┴───────────┴────────┴───────┴─────────────┴─────────────┴───────────┘
//!                of the      ms       where    its length                  to the end
//!                list        since    it
//!                of nodes    1970     listens
//! ```
//!
//! Where it is follows from where the datagram comes from, which anybody could change: so an announcement is a hint, after
//! which one connects and asks for proof. Who hears of a node remembers the newest time, so that none counts twice.

use std::collections::BTreeMap;

use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::credentials::Credentials;
use crate::error::ChannelError;
use crate::keys::{KeyError, NODE_CERTIFICATE, NODE_KEY, NodeKeys};

/// No announcement is longer, in bytes.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 1400;

const VERSION: u8 = 1;
const ANNOUNCE: u8 = b'A';
const HEADER_BYTES: usize = 22;

/// What an announcement is signed with, so that the signature is of use for nothing else.
const CONTEXT: &[u8] = b"minka announcement 1\0";

/// So many nodes' newest times are remembered.
const NODES_MAX: usize = 1 << 16;

/// What a node announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// Of its list of nodes.
    pub version: u64,
    /// By its clock, in milliseconds since 1970; later ones have larger times.
    pub time: u64,
    /// Where it listens.
    pub port: u16,
}

/// What a node announces itself with.
pub struct Announcer {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Announcer").finish_non_exhaustive()
    }
}

impl Announcer {
    /// Checks the keys of a node and makes them ready for announcements.
    ///
    /// # Errors
    /// When they are none.
    pub fn new(keys: &NodeKeys) -> Result<Self, KeyError> {
        let malformed = |what, path: &str, source: Box<dyn std::error::Error + Send + Sync>| {
            KeyError::Malformed { what, path: path.into(), source }
        };
        let key = KeyPair::from_pem(&keys.key)
            .map_err(|error| malformed("the key of a node", NODE_KEY, Box::new(error)))?;
        let certificate = CertificateDer::from_pem_slice(keys.certificate.as_bytes())
            .map_err(|error| malformed("a certificate", NODE_CERTIFICATE, Box::new(error)))?;
        Ok(Announcer { key, certificate })
    }

    /// The datagram.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn write(&self, announcement: &Announcement) -> Result<Vec<u8>, KeyError> {
        let length = u16::try_from(self.certificate.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![VERSION, ANNOUNCE];
        bytes.extend_from_slice(&announcement.version.to_be_bytes());
        bytes.extend_from_slice(&announcement.time.to_be_bytes());
        bytes.extend_from_slice(&announcement.port.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.certificate);
        let signature = self.key.sign(&[CONTEXT, &bytes].concat()).map_err(KeyError::Make)?;
        bytes.extend_from_slice(&signature);
        Ok(bytes)
    }
}

/// Why an announcement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    /// It is too short, too long, or something else.
    #[error("recognise an announcement")]
    Unrecognised,
    /// Its certificate is not of the cluster, or refused.
    #[error("believe an announcement")]
    Certificate(#[source] ChannelError),
    /// It was not signed by whom it says.
    #[error("believe an announcement: its signature is wrong")]
    Signature,
    /// It has come before.
    #[error("accept an announcement a second time")]
    Replayed,
}

/// Those who have announced themselves.
#[derive(Debug, Default)]
pub struct Announced {
    newest: BTreeMap<Box<str>, u64>,
}

impl Announced {
    /// Who announces what.
    ///
    /// # Errors
    /// When it is not of a node of the cluster, or not new.
    pub fn read(
        &mut self,
        bytes: &[u8],
        credentials: &Credentials,
    ) -> Result<(Box<str>, Announcement), AnnouncementError> {
        let (name, announcement) = open(bytes, credentials)?;
        if self.newest.get(&name).is_some_and(|newest| announcement.time <= *newest) {
            return Err(AnnouncementError::Replayed);
        }
        if self.newest.len() >= NODES_MAX {
            self.newest.clear();
        }
        self.newest.insert(name.clone(), announcement.time);
        Ok((name, announcement))
    }
}

fn open(bytes: &[u8], credentials: &Credentials) -> Result<(Box<str>, Announcement), AnnouncementError> {
    let parts = || {
        let rest =
            bytes.strip_prefix(&[VERSION, ANNOUNCE]).filter(|_| bytes.len() <= ANNOUNCEMENT_BYTES_MAX)?;
        let (version, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (certificate, signature) = rest.split_at_checked(length)?;
        let announcement = Announcement {
            version: u64::from_be_bytes(*version),
            time: u64::from_be_bytes(*time),
            port: u16::from_be_bytes(*port),
        };
        Some((announcement, certificate, signature))
    };
    let (announcement, certificate, signature) = parts().ok_or(AnnouncementError::Unrecognised)?;
    let certificate = CertificateDer::from(certificate);
    let name = credentials.judge(&certificate).map_err(AnnouncementError::Certificate)?;
    let end = webpki::EndEntityCert::try_from(&certificate).map_err(|_| AnnouncementError::Unrecognised)?;
    let signed = bytes.get(..HEADER_BYTES + certificate.len()).ok_or(AnnouncementError::Unrecognised)?;
    end.verify_signature(webpki::aws_lc_rs::ECDSA_P256_SHA256, &[CONTEXT, signed].concat(), signature)
        .map_err(|_| AnnouncementError::Signature)?;
    Ok((name, announcement))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Authority;

    const ANNOUNCEMENT: Announcement = Announcement { version: 3, time: 1_000, port: 4660 };

    fn announced(authority: &Authority, time: u64) -> Vec<u8> {
        let keys = authority.issue_numbered("a", Some(7)).unwrap();
        Announcer::new(&keys).unwrap().write(&Announcement { time, ..ANNOUNCEMENT }).unwrap()
    }

    #[test]
    fn announcements_of_the_cluster_are_believed_once() {
        let authority = Authority::create().unwrap();
        let credentials = Credentials::new(&authority.issue("b").unwrap()).unwrap();
        let mut heard = Announced::default();
        let bytes = announced(&authority, 1_000);
        assert!(bytes.len() < ANNOUNCEMENT_BYTES_MAX, "{}", bytes.len());
        let (name, announcement) = heard.read(&bytes, &credentials).unwrap();
        assert_eq!((&*name, announcement), ("a", ANNOUNCEMENT));
        assert!(matches!(heard.read(&bytes, &credentials), Err(AnnouncementError::Replayed)));
        let earlier = announced(&authority, 999);
        assert!(matches!(heard.read(&earlier, &credentials), Err(AnnouncementError::Replayed)));
        assert!(heard.read(&announced(&authority, 1_001), &credentials).is_ok());
        credentials.refuse([("a".to_owned(), 7)].into());
        let refused = heard.read(&announced(&authority, 2_000), &credentials);
        assert!(matches!(refused, Err(AnnouncementError::Certificate(ChannelError::Removed { .. }))));
    }

    #[test]
    fn nobody_else_is_believed() {
        let [ours, theirs] = [(); 2].map(|()| Authority::create().unwrap());
        let credentials = Credentials::new(&ours.issue("b").unwrap()).unwrap();
        let stranger = open(&announced(&theirs, 1), &credentials);
        assert!(matches!(stranger, Err(AnnouncementError::Certificate(_))));
        // Somebody else's certificate is public, but without its key of no use.
        let other = Announcer::new(&ours.issue("c").unwrap()).unwrap();
        let mixed = Announcer {
            certificate: Announcer::new(&ours.issue("a").unwrap()).unwrap().certificate,
            ..other
        };
        let mixed = open(&mixed.write(&ANNOUNCEMENT).unwrap(), &credentials);
        assert!(matches!(mixed, Err(AnnouncementError::Signature)));
        let bytes = announced(&ours, 1);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &credentials).is_err(), "{at}");
        }
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length], &credentials).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let authority = Authority::create().unwrap();
            let credentials = Credentials::new(&authority.issue("b").unwrap()).unwrap();
            prop_assert!(open(&bytes, &credentials).is_err());
            let bytes = [&[VERSION, ANNOUNCE], &bytes[..]].concat();
            prop_assert!(open(&bytes, &credentials).is_err());
        }
    }
}

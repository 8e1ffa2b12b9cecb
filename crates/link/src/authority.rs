//! Who decides which machines belong to the cluster: makes certificates, and signs the list of nodes.
//!
//! A node can have its certificate made without showing its key to anybody: it makes the key itself and sends a
//! [`NodeRequest`], which proves that it has the key.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::credentials;
use crate::keys::{self, AUTHORITY_CERTIFICATE, AUTHORITY_KEY, KeyError, NodeKeys, check_name, node_domain};

/// The name under which the authority itself speaks to nodes. No node can have it.
pub const AUTHORITY_NAME: &str = "authority";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates hold from a little before they are made, as clocks differ.
const BACKDATED: Duration = DAY;
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(20 * 365);
const NODE_LIFE: Duration = DAY.saturating_mul(5 * 365);
/// With a certificate of its own the authority speaks once.
const OWN_LIFE: Duration = Duration::from_secs(60 * 60);

/// What a request to certify a key is signed with, so that the signature is of use for nothing else.
const REQUEST_CONTEXT: &[u8] = b"minka request 1\0";
/// The same for lists of nodes.
const ROSTER_CONTEXT: &[u8] = b"minka roster 1\0";

/// An uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// Who decides which machines belong to the cluster.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    key: KeyPair,
    /// While it takes another one's place.
    former: Option<Former>,
}

/// An authority whose place another one is taking: it vouches for its successor until everybody knows that.
#[derive(Debug)]
struct Former {
    certificate: String,
    key: KeyPair,
    /// The successor's key, certified by this one: who knows only this one believes the successor for it.
    cross: String,
}

impl Authority {
    /// Makes a new authority, and so a new cluster.
    pub fn create() -> Result<Self, KeyError> {
        let key = new_key()?;
        let certificate = Self::params(&key).self_signed(&key).map_err(KeyError::Make)?;
        Ok(Authority { certificate: certificate.pem(), key, former: None })
    }

    /// Loads the authority from a directory of keys; see [`Authority::followed_by`] for its successor.
    pub fn read(directory: &Path) -> Result<Self, KeyError> {
        let certificate = keys::read_public(&directory.join(AUTHORITY_CERTIFICATE))?;
        let path = directory.join(AUTHORITY_KEY);
        let key = key_of(&keys::read_secret(&path)?, &path)?;
        Ok(Authority { certificate, key, former: None })
    }

    /// Makes another authority that is to take the place of this one, and all that has to be kept of it.
    pub fn successor(&self) -> Result<Succession, KeyError> {
        let new = Authority::create()?;
        let mut params = Self::params(&new.key);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(Self::params(&self.key), &self.key);
        let cross = params.signed_by(&new.key, &issuer).map_err(KeyError::Make)?.pem();
        Ok(Succession {
            certificate: new.certificate,
            key: new.key.serialize_pem(),
            cross,
            renewed: [].into(),
        })
    }

    /// The authority that takes the place of this one.
    pub fn followed_by(self, succession: &Succession) -> Result<Self, KeyError> {
        let key = key_of(&succession.key, Path::new(SUCCESSION))?;
        let Authority { certificate, key: own, .. } = self;
        let former = Former { certificate, key: own, cross: succession.cross.clone() };
        Ok(Authority { certificate: succession.certificate.clone(), key, former: Some(former) })
    }

    /// The former authority is none any more.
    pub(crate) fn leave_former(&mut self) {
        self.former = None;
    }

    /// Whether it is still taking the place of another one.
    pub fn is_new(&self) -> bool {
        self.former.is_some()
    }

    /// The certificates of all authorities that nodes are to trust, the one that counts first.
    pub fn trusted(&self) -> Vec<&str> {
        let former = self.former.iter().map(|former| &*former.certificate);
        std::iter::once(&*self.certificate).chain(former).collect()
    }

    /// A certificate that it has issued, with what it takes to be believed by those who know only the former one.
    fn chain(&self, certificate: String) -> String {
        match &self.former {
            Some(former) => certificate + &former.cross,
            None => certificate,
        }
    }

    /// Stores the authority in a directory of keys that has none yet.
    pub fn write(&self, directory: &Path) -> Result<(), KeyError> {
        keys::write_new(&directory.join(AUTHORITY_KEY), &self.key.serialize_pem(), 0o600)?;
        keys::write_new(&directory.join(AUTHORITY_CERTIFICATE), &self.certificate, 0o644)
    }

    /// Its certificate (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The digest of that, by which those can tell it who have not got it.
    pub fn digest(&self) -> Result<[u8; 32], KeyError> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let certificate = certificate.map_err(|error| KeyError::Malformed {
            what: "the certificate of a cluster authority",
            path: AUTHORITY_CERTIFICATE.into(),
            source: Box::new(error),
        })?;
        Ok(digest_of(&certificate))
    }

    /// Makes the keys with which a node proves its name.
    pub fn issue(&self, name: &str) -> Result<NodeKeys, KeyError> {
        self.issue_numbered(name, None)
    }

    /// The same, with a number by which the certificate can be refused later.
    pub fn issue_numbered(&self, name: &str, number: Option<u64>) -> Result<NodeKeys, KeyError> {
        let key = new_key()?;
        let certificate = self.chain(self.sign_certificate(name, &key, number, NODE_LIFE)?);
        Ok(NodeKeys { authority: self.trusted().concat(), certificate, key: key.serialize_pem() })
    }

    /// Makes keys with which the authority itself can speak to nodes for a while.
    pub fn own_keys(&self, number: u64) -> Result<NodeKeys, KeyError> {
        let key = new_key()?;
        let certificate = self.sign_certificate(AUTHORITY_NAME, &key, Some(number), OWN_LIFE)?;
        // With the authorities' own, for those who know nothing of one of them but its digest.
        let trusted = self.trusted().concat();
        let certificate = self.chain(certificate) + &trusted;
        Ok(NodeKeys { authority: trusted, certificate, key: key.serialize_pem() })
    }

    /// Whether it has issued a certificate itself, and that is good at this time.
    pub fn has_issued(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else { return false };
        webpki::anchor_from_trusted_cert(&own).is_ok_and(|own| credentials::is_issued_by(&[own], certificate))
    }

    /// Makes the certificate of a node for a key that only the node has.
    ///
    /// # Errors
    /// When the request does not show that, or the node cannot have the name.
    pub fn certify(&self, name: &str, request: &NodeRequest, number: u64) -> Result<String, KeyError> {
        check_name(name)?;
        let point = request.check()?;
        Ok(self.chain(self.sign_certificate(name, &point, Some(number), NODE_LIFE)?))
    }

    /// Signs a list of nodes; so does the former authority, for those who know only that one.
    pub(crate) fn sign_roster(&self, text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
        let message = [ROSTER_CONTEXT, text.as_bytes()].concat();
        let keys = std::iter::once(&self.key).chain(self.former.as_ref().map(|former| &former.key));
        keys.map(|key| key.sign(&message).map_err(KeyError::Make)).collect()
    }

    fn sign_certificate(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        number: Option<u64>,
        life: Duration,
    ) -> Result<String, KeyError> {
        let mut params = CertificateParams::new(vec![node_domain(name)?]).map_err(KeyError::Make)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = number.map(SerialNumber::from);
        live(&mut params, life);
        let issuer = Issuer::new(Self::params(&self.key), &self.key);
        Ok(params.signed_by(key, &issuer).map_err(KeyError::Make)?.pem())
    }

    /// All there is to say about an authority follows from its key, so that the key alone suffices to issue.
    fn params(key: &KeyPair) -> CertificateParams {
        let mut params = CertificateParams::default();
        let fingerprint: String =
            params.key_identifier(key).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Minka cluster authority {fingerprint}"));
        // Below it there may be its successor.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        live(&mut params, AUTHORITY_LIFE);
        params
    }
}

/// The file in which an authority that takes another one's place waits, see [`crate::roster`].
pub(crate) const SUCCESSION: &str = "succession.toml";

/// An authority that is taking another one's place, as it is kept meanwhile: a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// The new authority's certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
    /// Its certificate by the former authority.
    cross: String,
    /// Nodes that are known to have certificates of the new authority.
    pub(crate) renewed: BTreeSet<String>,
}

impl std::fmt::Debug for Succession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Succession").field("renewed", &self.renewed).finish_non_exhaustive()
    }
}

fn key_of(pem: &str, path: &Path) -> Result<KeyPair, KeyError> {
    KeyPair::from_pem(pem).map_err(|source| KeyError::Malformed {
        what: "the key of a cluster authority",
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn new_key() -> Result<KeyPair, KeyError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Make)
}

fn live(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
}

/// Whether the authority with this certificate (PEM) has signed a list of nodes.
pub(crate) fn has_signed(authority: &str, text: &str, signature: &[u8]) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(authority.as_bytes()) else { return false };
    let Ok(certificate) = webpki::EndEntityCert::try_from(&certificate) else { return false };
    let message = [ROSTER_CONTEXT, text.as_bytes()].concat();
    certificate.verify_signature(webpki::aws_lc_rs::ECDSA_P256_SHA256, &message, signature).is_ok()
}

/// The digest of a certificate, by which it can be told from all others.
pub fn digest_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    bytes
}

/// The key of a node that has no certificate for it yet.
pub struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

impl NodeKey {
    /// Makes a key.
    pub fn create() -> Result<Self, KeyError> {
        new_key().map(NodeKey)
    }

    /// What is sent to have it certified.
    pub fn request(&self) -> Result<NodeRequest, KeyError> {
        let point = self.0.der_bytes();
        let proof = self.0.sign(&[REQUEST_CONTEXT, point].concat()).map_err(KeyError::Make)?;
        Ok(NodeRequest { point: point.to_vec(), proof })
    }

    /// The keys of the node, with what the authority has made.
    pub fn certified(&self, authority: String, certificate: String) -> NodeKeys {
        NodeKeys { authority, certificate, key: self.0.serialize_pem() }
    }
}

/// Asks for a certificate: the public key, and a signature by the private one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    point: Vec<u8>,
    proof: Vec<u8>,
}

impl NodeRequest {
    /// The bytes in which it travels.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.point[..], &self.proof].concat()
    }

    /// Reads them. Whether the proof is one is found out when it is certified.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (point, proof) = bytes.split_at_checked(POINT_BYTES)?;
        Some(NodeRequest { point: point.to_vec(), proof: proof.to_vec() })
    }

    fn check(&self) -> Result<Point, KeyError> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point);
        let message = [REQUEST_CONTEXT, &self.point].concat();
        if self.point.len() != POINT_BYTES || key.verify(&message, &self.proof).is_err() {
            return Err(KeyError::NotOwned);
        }
        Ok(Point(self.point.clone()))
    }
}

/// Somebody else's public key.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    #[test]
    fn a_node_is_certified_without_showing_its_key() {
        let authority = Authority::create().unwrap();
        let key = NodeKey::create().unwrap();
        let request = key.request().unwrap();
        let certificate = authority.certify("a", &request, 7).unwrap();
        let credentials = Credentials::new(&key.certified(authority.certificate().to_owned(), certificate));
        assert_eq!(credentials.unwrap().name(), "a");
    }

    #[test]
    fn nobody_has_a_key_certified_that_is_not_its_own() {
        let authority = Authority::create().unwrap();
        let request = NodeKey::create().unwrap().request().unwrap();
        let other = NodeKey::create().unwrap().request().unwrap();
        let check = |request: &NodeRequest| {
            assert!(matches!(authority.certify("a", request, 1), Err(KeyError::NotOwned)), "{request:?}");
        };
        check(&NodeRequest { proof: other.proof, ..request.clone() });
        check(&NodeRequest { point: other.point, ..request.clone() });
        check(&NodeRequest { point: Vec::new(), proof: Vec::new() });
        check(&NodeRequest { point: vec![4; POINT_BYTES], ..request.clone() });
        assert!(matches!(authority.certify("A", &request, 1), Err(KeyError::Name { .. })));
    }

    #[test]
    fn a_successor_is_believed_by_those_who_know_only_the_former_and_the_other_way_round() {
        let former = Authority::create().unwrap();
        let credentials = |keys: NodeKeys| Credentials::new(&keys).unwrap();
        let old = credentials(former.issue("old").unwrap());
        let succession = former.successor().unwrap();
        let authority = former.followed_by(&succession).unwrap();
        assert!(authority.is_new() && authority.trusted().len() == 2);
        let new = credentials(authority.issue("new").unwrap());
        let mut authority = authority;
        authority.leave_former();
        let later = credentials(authority.issue("later").unwrap());
        let check = |one: &Credentials, other: &Credentials, expected| {
            assert_eq!(crate::channel::meet(one, other).is_ok(), expected, "{} {}", one.name(), other.name());
        };
        check(&old, &new, true);
        check(&new, &old, true);
        check(&new, &later, true);
        check(&later, &new, true);
        check(&old, &later, false);
        check(&later, &old, false);
        assert_eq!([&old, &new, &later].map(Credentials::is_current), [true; 3]);
    }

    #[test]
    fn what_one_authority_has_signed_another_has_not() {
        let [one, other] = [(); 2].map(|()| Authority::create().unwrap());
        let signature = one.sign_roster("text").unwrap().remove(0);
        assert!(has_signed(one.certificate(), "text", &signature));
        assert!(!has_signed(other.certificate(), "text", &signature));
        assert!(!has_signed(one.certificate(), "texts", &signature));
        assert!(!has_signed("", "text", &signature));
    }
}

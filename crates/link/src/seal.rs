//! Datagrams between nodes: sealed with keys that both have got over a channel, and so from whom they say.
//!
//! ```text
//!  0     1      2          10         18
//! ┌─────┬──────┬──────────┬──────────┬────────────┬───────┐
//! │  1  │ 'S'  │ key      │ count    │ ciphertext │ tag   │      all numbers with the highest byte first
//! └─────┴──────┴──────────┴──────────┴────────────┴───────┘
//!   the first 18 bytes are covered by the tag        16 bytes
//! ```
//!
//! The node that has something to say connects to the other one, as for any channel, and sends it two keys that it has
//! just made up, one for each direction, and a name for both ([`agree_on_keys`], [`answer_keys`]). So datagrams are worth
//! as much trust as channels, without certificates or signatures of their own, and keys of a program that has ended
//! open nothing any more.
//!
//! The count is the nonce (RFC 5116), and also tells what was sent twice: each is accepted once, and none that is
//! older than 128 behind the newest. Whoever gets a datagram under a name that it does not know, because it was
//! started anew, says so ([`unknown_key`]); nobody needs to believe that, but may well agree on new keys.

use std::fmt;
use std::net::SocketAddr;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use minka_wire::frame::Header;
use minka_wire::preamble::{Preamble, Purpose};

use crate::channel::{self, Channel};
use crate::credentials::Credentials;
use crate::error::ChannelError;
use crate::socket::Tuning;

/// What a sealed datagram is longer than its content, in bytes.
pub const SEAL_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// How far behind the newest datagram another one may arrive.
const WINDOW: u64 = 128;

const VERSION: u8 = 1;
const SEALED: u8 = b'S';
const UNKNOWN: u8 = b'U';

const KEY_ID_BYTES: usize = 8;
const KEY_BYTES: usize = 16;
const HEADER_BYTES: usize = 2 + KEY_ID_BYTES + 8;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// Bytes in which keys travel: their name, the key of the node that connects, the key of the other one.
const AGREEMENT_BYTES: usize = KEY_ID_BYTES + 2 * KEY_BYTES;

/// Datagrams that one key may protect; far below what AES-GCM allows, and beyond what nodes send in a century.
const COUNT_MAX: u64 = 1 << 40;

/// The kind of the frame in which keys travel, and of the empty one that accepts them.
const KEYS_FRAME: u16 = 0x0700;

/// Names a pair of keys. Chosen at random by who has made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Why a datagram could not be sealed or is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is too short, or begins otherwise.
    #[error("recognise a datagram")]
    Unrecognised,
    /// Who sealed it did not have the key, or it was changed on its way.
    #[error("open a datagram: its seal is broken")]
    Broken,
    /// It has come before, or is too old to tell.
    #[error("accept a datagram a second time")]
    Replayed,
    /// The key has protected as much as it may.
    #[error("seal another datagram with the same key")]
    Exhausted,
}

/// The keys of two nodes for their datagrams, as one of them sees them.
#[derive(Debug)]
pub struct DatagramKeys {
    /// The name of both.
    pub id: KeyId,
    /// For what this node sends.
    pub sealer: Sealer,
    /// For what the other one sends.
    pub opener: Opener,
}

/// Seals what goes to one node.
#[derive(Debug)]
pub struct Sealer {
    id: KeyId,
    key: LessSafeKey,
    count: u64,
}

/// Opens what comes from one node.
#[derive(Debug)]
pub struct Opener {
    key: LessSafeKey,
    /// One more than the largest count that was accepted.
    next: u64,
    /// Those before it that were accepted, the newest in the lowest bit.
    seen: u128,
}

/// What a datagram is, from its first bytes. Nothing of it is proved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is sealed with the keys of this name.
    Sealed(KeyId),
    /// Somebody says that it does not know the keys of this name.
    Unknown(KeyId),
}

impl Opened {
    /// Looks at the first bytes of a datagram.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn look(datagram: &[u8]) -> Result<Self, SealError> {
        let (head, rest) = datagram.split_first_chunk::<2>().ok_or(SealError::Unrecognised)?;
        let (id, rest) = rest.split_first_chunk().ok_or(SealError::Unrecognised)?;
        match *head {
            [VERSION, SEALED] if datagram.len() >= SEAL_BYTES => Ok(Opened::Sealed(KeyId(*id))),
            [VERSION, UNKNOWN] if rest.is_empty() => Ok(Opened::Unknown(KeyId(*id))),
            _ => Err(SealError::Unrecognised),
        }
    }
}

/// The answer to a datagram whose key is not known here. It is shorter than what it answers.
pub fn unknown_key(id: KeyId) -> Vec<u8> {
    [&[VERSION, UNKNOWN], &id.0[..]].concat()
}

impl Sealer {
    /// Seals a datagram.
    ///
    /// # Errors
    /// When the key has protected too much already.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.count >= COUNT_MAX {
            return Err(SealError::Exhausted);
        }
        let mut datagram = Vec::with_capacity(content.len() + SEAL_BYTES);
        datagram.extend_from_slice(&[VERSION, SEALED]);
        datagram.extend_from_slice(&self.id.0);
        datagram.extend_from_slice(&self.count.to_be_bytes());
        let header: [u8; HEADER_BYTES] = datagram[..].try_into().map_err(|_| SealError::Exhausted)?;
        datagram.extend_from_slice(content);
        let nonce = nonce(self.count);
        self.count += 1;
        let sealed =
            self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut datagram[HEADER_BYTES..]);
        let tag = sealed.map_err(|_| SealError::Exhausted)?;
        datagram.extend_from_slice(tag.as_ref());
        Ok(datagram)
    }
}

impl Opener {
    /// Opens a datagram, once, and returns what is in it.
    ///
    /// # Errors
    /// When it was not sealed with this key, was changed, or has been here before.
    pub fn open<'datagram>(&mut self, datagram: &'datagram mut [u8]) -> Result<&'datagram [u8], SealError> {
        let (header, sealed) =
            datagram.split_first_chunk_mut::<HEADER_BYTES>().ok_or(SealError::Unrecognised)?;
        let count = header.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        let count = count.filter(|count| *count < COUNT_MAX).ok_or(SealError::Unrecognised)?;
        if !self.is_new(count) {
            return Err(SealError::Replayed);
        }
        let content = self.key.open_in_place(nonce(count), Aad::from(*header), sealed);
        let content = content.map_err(|_| SealError::Broken)?;
        self.note(count);
        Ok(content)
    }

    fn is_new(&self, count: u64) -> bool {
        match self.next.checked_sub(count) {
            None | Some(0) => true,
            Some(behind) => behind <= WINDOW && self.seen & (1 << (behind - 1)) == 0,
        }
    }

    fn note(&mut self, count: u64) {
        match self.next.checked_sub(count) {
            Some(behind @ 1..) => self.seen |= 1 << (behind - 1),
            _ => {
                let forward = count + 1 - self.next;
                self.seen = if forward < WINDOW { self.seen << forward | 1 } else { 1 };
                self.next = count + 1;
            }
        }
    }
}

/// Counts are used once with each key, so that nonces are.
fn nonce(count: u64) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes[NONCE_BYTES - 8..].copy_from_slice(&count.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Makes up keys and tells them to the node `peer`; returns when that has taken them.
///
/// # Errors
/// When the peer cannot be reached, is not who it should be, or does not take part.
pub fn agree_on_keys(
    credentials: &Credentials,
    address: SocketAddr,
    peer: &str,
    tuning: &Tuning,
) -> Result<DatagramKeys, ChannelError> {
    let mut agreement = [0; AGREEMENT_BYTES];
    SystemRandom::new().fill(&mut agreement).map_err(|_| unusable())?;
    let preamble = Preamble::without_session(Purpose::Keys);
    let mut channel = channel::connect(credentials, address, peer, &preamble, tuning)?;
    channel.send(Header::new(KEYS_FRAME, 0), &[std::io::IoSlice::new(&agreement)])?;
    let body = receive(&mut channel, tuning)?;
    if !body.is_empty() {
        return Err(ChannelError::Protocol("an answer to keys that is none"));
    }
    // The other end is done with it as well.
    let _ = channel.close();
    keys(&agreement, true)
}

/// Takes over a connection whose preamble says [`Purpose::Keys`]; returns the peer's name and the keys.
///
/// # Errors
/// When the peer is not of the cluster or sends something else.
pub fn answer_keys(
    credentials: &Credentials,
    stream: std::net::TcpStream,
    preamble: &Preamble,
    tuning: &Tuning,
) -> Result<(String, DatagramKeys), ChannelError> {
    let mut channel = channel::accept(credentials, stream, preamble, tuning)?;
    let body = receive(&mut channel, tuning)?;
    let agreement =
        body.as_slice().try_into().map_err(|_| ChannelError::Protocol("keys of another length"))?;
    let keys = keys(&agreement, false)?;
    channel.send(Header::new(KEYS_FRAME, 0), &[])?;
    Ok((channel.peer().to_owned(), keys))
}

fn receive(channel: &mut Channel, tuning: &Tuning) -> Result<Vec<u8>, ChannelError> {
    let mut body = Vec::new();
    let limit = std::time::Duration::from_millis(tuning.handshake_ms);
    let header = channel.recv_timeout(&mut body, std::time::Duration::ZERO, limit)?;
    match header {
        Some(header) if header.kind == KEYS_FRAME => Ok(body),
        Some(_) => Err(ChannelError::Protocol("something else than keys")),
        None => Err(ChannelError::Slow { limit }),
    }
}

fn keys(agreement: &[u8; AGREEMENT_BYTES], connecting: bool) -> Result<DatagramKeys, ChannelError> {
    let (id, [a, b]) = parts(agreement);
    let key =
        |bytes: &[u8]| UnboundKey::new(&AES_128_GCM, bytes).map(LessSafeKey::new).map_err(|_| unusable());
    let (ours, theirs) = if connecting { (a, b) } else { (b, a) };
    Ok(DatagramKeys {
        id,
        sealer: Sealer { id, key: key(ours)?, count: 0 },
        opener: Opener { key: key(theirs)?, next: 0, seen: 0 },
    })
}

fn parts(agreement: &[u8; AGREEMENT_BYTES]) -> (KeyId, [&[u8]; 2]) {
    let mut id = [0; KEY_ID_BYTES];
    let (name, rest) = agreement.split_at(KEY_ID_BYTES);
    id.copy_from_slice(name);
    let (a, b) = rest.split_at(KEY_BYTES);
    (KeyId(id), [a, b])
}

fn unusable() -> ChannelError {
    ChannelError::Keys(rustls::Error::EncryptError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (DatagramKeys, DatagramKeys) {
        let agreement = std::array::from_fn(|index| index as u8);
        (keys(&agreement, true).unwrap(), keys(&agreement, false).unwrap())
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_other_end_once() {
        let (mut a, mut b) = pair();
        let datagram = a.sealer.seal(b"hello").unwrap();
        assert_eq!((datagram.len(), Opened::look(&datagram)), (5 + SEAL_BYTES, Ok(Opened::Sealed(b.id))));
        assert!(!datagram.windows(5).any(|window| window == b"hello"));
        assert_eq!(b.opener.open(&mut datagram.clone()), Ok(&b"hello"[..]));
        assert_eq!(b.opener.open(&mut datagram.clone()), Err(SealError::Replayed));
        // Nor by who has sealed it: the directions have keys of their own.
        assert_eq!(a.opener.open(&mut datagram.clone()), Err(SealError::Broken));
        let answer = b.sealer.seal(b"").unwrap();
        assert_eq!(a.opener.open(&mut answer.clone()), Ok(&b""[..]));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let (mut a, mut b) = pair();
        let datagram = a.sealer.seal(b"12345").unwrap();
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 0x40;
            // The name of the keys and the version tell only which keys to take.
            assert!(b.opener.open(&mut changed).is_err(), "{at}");
        }
        assert_eq!(b.opener.open(&mut datagram.clone()), Ok(&b"12345"[..]));
        for length in 0..SEAL_BYTES {
            assert_eq!(Opened::look(&datagram[..length]), Err(SealError::Unrecognised), "{length}");
            assert!(b.opener.open(&mut datagram.clone()[..length]).is_err());
        }
    }

    #[test]
    fn datagrams_may_overtake_each_other_within_limits() {
        let (mut a, mut b) = pair();
        let sent: Vec<_> = (0..WINDOW + 2).map(|_| a.sealer.seal(b"x").unwrap()).collect();
        let mut open = |index: usize| b.opener.open(&mut sent[index].clone()).is_ok();
        let last = sent.len() - 1;
        assert!(open(3) && open(1) && !open(1) && open(2) && open(0));
        assert!(open(last) && open(last - 1) && open(4), "all within the window");
        assert!(!open(1) && !open(last));
        let (mut a, mut b) = pair();
        let first = a.sealer.seal(b"x").unwrap();
        let later: Vec<_> = (0..=WINDOW).map(|_| a.sealer.seal(b"x").unwrap()).collect();
        assert!(b.opener.open(&mut later[later.len() - 1].clone()).is_ok());
        assert_eq!(b.opener.open(&mut first.clone()), Err(SealError::Replayed), "too old to tell");
    }

    #[test]
    fn who_does_not_know_a_key_says_so() {
        let (mut a, _) = pair();
        let datagram = a.sealer.seal(b"").unwrap();
        let Ok(Opened::Sealed(id)) = Opened::look(&datagram) else { panic!("it is sealed") };
        let answer = unknown_key(id);
        assert!(answer.len() < datagram.len());
        assert_eq!(Opened::look(&answer), Ok(Opened::Unknown(id)));
    }

    proptest! {
        #[test]
        fn the_window_accepts_each_count_once(counts in prop::collection::vec(0..400_u64, 1..300)) {
            let (_, mut b) = pair();
            let mut accepted = std::collections::BTreeSet::new();
            for count in counts {
                let newest = accepted.last().copied().unwrap_or(0);
                let expected = !accepted.contains(&count) && count + WINDOW > newest;
                prop_assert_eq!(b.opener.is_new(count), expected, "{} after {:?}", count, accepted);
                if expected {
                    b.opener.note(count);
                    accepted.insert(count);
                }
            }
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let (_, mut b) = pair();
            let _ = Opened::look(&bytes);
            prop_assert!(b.opener.open(&mut bytes.clone()).is_err());
        }
    }
}

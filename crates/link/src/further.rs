//! Further channels of a session: without certificates and without a handshake.
//!
//! Their keys come from a secret that the session's first channel has carried, so that only the two ends of that one have
//! them. Each channel has a number, which says with which keys it begins:
//!
//! ```text
//!   secret ──HKDF──┬─► "connecting", number ──┬─► key, iv
//!                  │                          └─► the next, when these have protected enough
//!                  └─► "accepting", number ───── the same for the other direction
//! ```
//!
//! Who connects says the preamble in clear and once more encrypted, in one segment, and may go on at once: there is nothing
//! to wait for, and is told nothing either: a channel that is not taken is cut. Who accepts takes each number once, so no key
//! ever protects two different things: what somebody has recorded and sends again is refused, or, if it comes first, the
//! original is, which is as if it had been cut on its way.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::{
    aead,
    hkdf::{self, HKDF_SHA256, KeyType, Prk, Salt},
};
use minka_wire::preamble::{PREAMBLE_BYTES, Preamble, SessionSecret};

use crate::{
    channel::Channel,
    error::ChannelError,
    handshake::{Agreement, KeySchedule},
    record::{Content, NONCE_BYTES, Protection, RECORD_OVERHEAD_BYTES},
    socket::{Connecting, Tuning},
};

/// Bytes of the record that proves knowledge of the keys: an encrypted preamble.
const PROOF_BYTES: usize = PREAMBLE_BYTES + RECORD_OVERHEAD_BYTES;

/// Bytes from which the keys of one direction come.
const SECRET_BYTES: usize = 32;

/// What the two ends of a session's first channel need for further ones.
#[derive(Debug)]
pub struct SessionKeys {
    secret: Prk,
    cipher: &'static aead::Algorithm,
    peer: Box<str>,
    /// The numbers of the channels that were accepted.
    accepted: Mutex<BTreeSet<u32>>,
}

impl SessionKeys {
    /// Those of a session, from its first channel and what that has carried.
    pub fn new(first: &Channel, secret: &SessionSecret) -> Self {
        SessionKeys {
            secret: Salt::new(HKDF_SHA256, &[]).extract(&secret.0),
            cipher: first.cipher(),
            peer: first.peer().into(),
            accepted: Mutex::default(),
        }
    }

    /// Opens further channels, all at the same time; each `preamble` has a number that no other one of this session has had.
    pub fn connect(
        &self,
        address: SocketAddr,
        preambles: &[Preamble],
        tuning: &Tuning,
    ) -> Result<Vec<Channel>, ChannelError> {
        let connecting = preambles.iter().map(|_| tuning.begin_to_connect(address));
        let connecting = connecting.collect::<Result<Vec<Connecting>, ChannelError>>()?;
        let open = |(connecting, preamble): (Connecting, &Preamble)| {
            let stream = connecting.finish(tuning)?;
            let mut directions = self.directions(preamble, ["connecting", "accepting"])?;
            let mut said = [0; PREAMBLE_BYTES + PROOF_BYTES];
            let (clear, proof) = said.split_at_mut(PREAMBLE_BYTES);
            clear.copy_from_slice(&preamble.encode());
            directions.sending.seal(Content::Application, clear, proof)?;
            tuning.handshake_deadline().write_all(&stream, &said)?;
            Ok(self.channel(stream, directions))
        };
        connecting.into_iter().zip(preambles).map(open).collect()
    }

    /// Takes over a connection whose `preamble` has been read.
    ///
    /// # Errors
    /// When whoever connected does not know the keys, or there has been a channel of that number. Others may still come.
    pub fn accept(
        &self,
        stream: TcpStream,
        preamble: &Preamble,
        tuning: &Tuning,
    ) -> Result<Channel, ChannelError> {
        tuning.apply(&stream)?;
        let deadline = tuning.handshake_deadline();
        let mut directions = self.directions(preamble, ["accepting", "connecting"])?;
        let mut proof = [0; PROOF_BYTES];
        deadline.fill(&stream, &mut proof)?;
        match directions.receiving.open_in_place(&mut proof)? {
            (Content::Application, said) if *said == preamble.encode() => {}
            _ => return Err(ChannelError::PreambleChanged),
        }
        // Only now, or anybody could use up the numbers.
        if !self.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(preamble.number) {
            return Err(ChannelError::Protocol("a channel that there has been before"));
        }
        Ok(self.channel(stream, directions))
    }

    /// The keys of both directions of one channel, whose labels are those of what this end sends and receives.
    fn directions(&self, preamble: &Preamble, labels: [&str; 2]) -> Result<Directions, ChannelError> {
        let [sending, receiving] = labels.map(|label| {
            expand(&self.secret, &[b"minka ", label.as_bytes(), &preamble.number.to_be_bytes()])
        });
        let (sending, receiving) = (sending?, receiving?);
        let schedule = Schedule { cipher: self.cipher, sending, receiving };
        let (sending, receiving) = (protection(&sending, self.cipher)?, protection(&receiving, self.cipher)?);
        Ok(Directions { schedule, sending, receiving })
    }

    fn channel(&self, stream: TcpStream, directions: Directions) -> Channel {
        let Directions { schedule, sending, receiving } = directions;
        let keys = KeySchedule::Further(schedule);
        let (peer, incoming) = (self.peer.clone(), Vec::new());
        Channel::new(stream, Agreement { peer, sending, receiving, keys, incoming, resumed: true })
    }
}

struct Directions {
    schedule: Schedule,
    sending: Protection,
    receiving: Protection,
}

/// What the present keys of both directions come from, and the next ones will.
pub(crate) struct Schedule {
    cipher: &'static aead::Algorithm,
    sending: [u8; SECRET_BYTES],
    receiving: [u8; SECRET_BYTES],
}

impl Schedule {
    pub(crate) fn next_sending(&mut self) -> Result<Protection, ChannelError> {
        next(&mut self.sending, self.cipher)
    }

    pub(crate) fn next_receiving(&mut self) -> Result<Protection, ChannelError> {
        next(&mut self.receiving, self.cipher)
    }
}

/// Goes on to the next keys. Those before cannot be found from them.
fn next(
    secret: &mut [u8; SECRET_BYTES],
    cipher: &'static aead::Algorithm,
) -> Result<Protection, ChannelError> {
    *secret = expand(&Prk::new_less_safe(HKDF_SHA256, secret), &[b"next"])?;
    protection(secret, cipher)
}

fn protection(
    secret: &[u8; SECRET_BYTES],
    cipher: &'static aead::Algorithm,
) -> Result<Protection, ChannelError> {
    let secret = Prk::new_less_safe(HKDF_SHA256, secret);
    let key: [u8; SECRET_BYTES] = expand(&secret, &[b"key"])?;
    let iv: [u8; NONCE_BYTES] = expand(&secret, &[b"iv"])?;
    let key = key.get(..cipher.key_len()).ok_or(ChannelError::Keys(rustls::Error::EncryptError))?;
    Protection::fresh(cipher, key, iv)
}

fn expand<const BYTES: usize>(secret: &Prk, label: &[&[u8]]) -> Result<[u8; BYTES], ChannelError> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut bytes = [0; BYTES];
    let unusable = |_| ChannelError::Keys(rustls::Error::EncryptError);
    let found: hkdf::Okm<'_, Length> = secret.expand(label, Length(BYTES)).map_err(unusable)?;
    found.fill(&mut bytes).map_err(unusable)?;
    Ok(bytes)
}

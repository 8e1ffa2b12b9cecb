//! The encryption of a session's further lanes, as a liar speaks it: written from its description in `minka-link`, not
//! with its code.

use std::io::{self, ErrorKind, Read, Write};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use minka_wire::preamble::SessionSecret;

const HEADER_BYTES: usize = 5;
const PLAINTEXT_BYTES_MAX: usize = 1 << 14;
const ALERT: u8 = 21;
const APPLICATION: u8 = 23;

/// Both directions of one lane, as one of its ends has them.
pub(super) struct Further {
    sending: Direction,
    receiving: Direction,
    /// Records that have come, and those that are to go.
    come: Vec<u8>,
    going: Vec<u8>,
    /// What those said that have come.
    pub(super) said: Vec<u8>,
    pub(super) closed: bool,
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    count: u64,
}

impl Direction {
    fn new(secret: &SessionSecret, label: &str, number: u32) -> io::Result<Self> {
        let secret = Salt::new(HKDF_SHA256, &[]).extract(&secret.0);
        let traffic: [u8; 32] = expand(&secret, &[b"minka ", label.as_bytes(), &number.to_be_bytes()])?;
        let traffic = Prk::new_less_safe(HKDF_SHA256, &traffic);
        let key: [u8; 16] = expand(&traffic, &[b"key"])?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).map_err(io::Error::other)?);
        Ok(Self { key, iv: expand(&traffic, &[b"iv"])?, count: 0 })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        nonce.iter_mut().skip(4).zip(self.count.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        self.count += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn expand<const BYTES: usize>(secret: &Prk, label: &[&[u8]]) -> io::Result<[u8; BYTES]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut bytes = [0; BYTES];
    let found = secret.expand(label, Length(BYTES)).map_err(io::Error::other)?;
    found.fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

impl Further {
    /// The end at the side of whoever `connects`, or the other one.
    pub(super) fn new(secret: &SessionSecret, number: u32, connects: bool) -> io::Result<Self> {
        let [ours, theirs] = if connects { ["connecting", "accepting"] } else { ["accepting", "connecting"] };
        Ok(Self {
            sending: Direction::new(secret, ours, number)?,
            receiving: Direction::new(secret, theirs, number)?,
            come: Vec::new(),
            going: Vec::new(),
            said: Vec::new(),
            closed: false,
        })
    }

    /// Reads what there is and understands it. False at the end of the stream.
    pub(super) fn read(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        let mut some = [0; 1 << 16];
        let open = match stream.read(&mut some) {
            Ok(count) => {
                self.come.extend_from_slice(&some[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error),
        };
        while let Some([kind, _, _, high, low]) = self.come.first_chunk::<HEADER_BYTES>() {
            let end = HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
            if *kind != APPLICATION {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.come.len() < end {
                break;
            }
            let mut record: Vec<u8> = self.come.drain(..end).collect();
            let (header, sealed) = record.split_at_mut(HEADER_BYTES);
            let nonce = self.receiving.nonce();
            let plain = self.receiving.key.open_in_place(nonce, Aad::from(&*header), sealed);
            match plain.map_err(io::Error::other)? {
                [said @ .., APPLICATION] => self.said.extend_from_slice(said),
                [.., ALERT] => self.closed = true,
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
        Ok(open)
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PLAINTEXT_BYTES_MAX).try_for_each(|piece| self.seal(piece, APPLICATION))
    }

    pub(super) fn say_goodbye(&mut self) -> io::Result<()> {
        self.seal(&[1, 0], ALERT)
    }

    fn seal(&mut self, plain: &[u8], kind: u8) -> io::Result<()> {
        let mut sealed = [plain, &[kind]].concat();
        let [high, low] = ((sealed.len() + 16) as u16).to_be_bytes();
        let header = [APPLICATION, 3, 3, high, low];
        let nonce = self.sending.nonce();
        let done = self.sending.key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed);
        done.map_err(io::Error::other)?;
        self.going.extend_from_slice(&header);
        self.going.append(&mut sealed);
        Ok(())
    }

    pub(super) fn has_more(&self) -> bool {
        !self.going.is_empty()
    }

    /// Writes some of what is to go.
    pub(super) fn write(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let count = stream.write(&self.going)?;
        self.going.drain(..count);
        Ok(())
    }
}

//! The sending half of a channel.

use std::{io::IoSlice, net::Shutdown, sync::Arc};

use minka_wire::frame::{HEADER_BYTES, Header};

use crate::{
    channel::{Closer, Shared},
    error::ChannelError,
    record::{Content, PLAINTEXT_BYTES_MAX, Protection, RECORD_HEADER_BYTES, RECORD_OVERHEAD_BYTES},
    socket,
};

/// Bytes of encrypted records that are collected for one system call: a frame of 256 KiB. Fewer, longer calls wake the
/// receiver less often, which is what costs most beside encryption; but a receiver that gets all of a long frame at once
/// has nothing to do while it is encrypted.
const BUFFER_BYTES: usize = 17 * (PLAINTEXT_BYTES_MAX + RECORD_OVERHEAD_BYTES);

/// Of a long frame that somebody waits for, so much goes first: until it is there, the receiver has nothing to do.
const FIRST_BYTES: usize = 64 << 10;
/// And so much goes in smaller pieces in the end: when the last one is there, the sender has nothing to do.
const LAST_BYTES: usize = 128 << 10;

/// After how many records the keys are changed. AES-GCM is good for 2^24.5 of them (RFC 8446, section 5.5).
const RECORDS_PER_KEY: u64 = 1 << 23;

const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The half of a channel that sends frames.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    protection: Protection,
    records_per_key: u64,
    buffer: Vec<u8>,
    filled: usize,
}

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>, protection: Protection) -> Self {
        Sender {
            shared,
            protection,
            records_per_key: RECORDS_PER_KEY,
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
        }
    }

    /// Sends a frame whose body is the concatenation of `body`. The length in `header` need not be set.
    ///
    /// Blocks while the peer does not read and the kernel's buffers are full.
    pub fn send(&mut self, header: Header, body: &[IoSlice<'_>]) -> Result<(), ChannelError> {
        self.queue(header, body)?;
        self.flush()
    }

    /// Sends a frame like [`Sender::send`], for somebody who waits for it and uses what is there of it while the rest is on
    /// its way.
    pub fn send_awaited(&mut self, header: Header, body: &[IoSlice<'_>]) -> Result<(), ChannelError> {
        self.encrypt(header, body, piece)?;
        self.flush()
    }

    /// Encrypts a frame like [`Sender::send`], but lets it wait for others, up to the next [`Sender::flush`] or until there
    /// is a buffer full of them. Worth it for many frames below some 256 KiB: each system call may wake the peer.
    pub fn queue(&mut self, header: Header, body: &[IoSlice<'_>]) -> Result<(), ChannelError> {
        self.encrypt(header, body, |_, _| BUFFER_BYTES)
    }

    /// Encrypts a frame. `piece` says of how much is done and left how many bytes of records are worth a system call.
    fn encrypt(
        &mut self,
        header: Header,
        body: &[IoSlice<'_>],
        piece: fn(usize, usize) -> usize,
    ) -> Result<(), ChannelError> {
        self.shared.check_open()?;
        let length: usize = body.iter().map(|part| part.len()).sum();
        let header = header.with_length(length)?.encode();
        if self.protection.sequence() >= self.records_per_key || self.shared.take_rekey_request() {
            self.rekey()?;
        }
        let mut parts = Parts { current: &header, rest: body };
        let mut left = HEADER_BYTES + length;
        while left > 0 {
            let plaintext_bytes = left.min(PLAINTEXT_BYTES_MAX);
            self.seal(plaintext_bytes, &mut parts)?;
            left -= plaintext_bytes;
            if left > 0 && self.filled >= piece(HEADER_BYTES + length - left, left) {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends what has been queued.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        let filled = std::mem::take(&mut self.filled);
        socket::send_all(&self.shared.stream, &self.buffer[..filled])
            .map_err(|error| self.shared.explain(error))
    }

    /// Says goodbye: the peer receives all that was sent, and then [`ChannelError::PeerClosed`].
    ///
    /// The receiving half of this end can still be used, until the peer closes in turn.
    pub fn close(mut self) -> Result<(), ChannelError> {
        self.shared.check_open()?;
        self.seal_message(Content::Alert, &CLOSE_NOTIFY)?;
        self.flush()?;
        self.shared
            .stream
            .shutdown(Shutdown::Write)
            .map_err(|source| self.shared.explain(ChannelError::Write(source)))
    }

    /// A handle with which any thread can end the channel.
    pub fn closer(&self) -> Closer {
        Closer::new(self.shared.clone())
    }

    /// Changes the keys (RFC 8446, section 4.6.3).
    fn rekey(&mut self) -> Result<(), ChannelError> {
        self.seal_message(Content::Handshake, &KEY_UPDATE)?;
        self.protection = self.shared.next_sending()?;
        Ok(())
    }

    fn seal_message(&mut self, content: Content, message: &[u8]) -> Result<(), ChannelError> {
        let range = self.claim(message.len())?;
        self.protection.seal(content, message, &mut self.buffer[range])
    }

    /// Encrypts the next bytes of a frame into a record.
    fn seal(&mut self, plaintext_bytes: usize, parts: &mut Parts<'_>) -> Result<(), ChannelError> {
        let range = self.claim(plaintext_bytes)?;
        let record = &mut self.buffer[range];
        if let Some(plaintext) = parts.take_contiguous(plaintext_bytes) {
            return self.protection.seal(Content::Application, plaintext, record);
        }
        parts.copy_to(&mut record[RECORD_HEADER_BYTES..][..plaintext_bytes]);
        self.protection.seal_in_place(record)
    }

    /// Makes room for a record in the buffer.
    fn claim(&mut self, plaintext_bytes: usize) -> Result<std::ops::Range<usize>, ChannelError> {
        let record_bytes = plaintext_bytes + RECORD_OVERHEAD_BYTES;
        if self.filled + record_bytes > self.buffer.len() {
            self.flush()?;
        }
        let start = self.filled;
        self.filled += record_bytes;
        Ok(start..self.filled)
    }
}

/// How many bytes of records are sent at once of a frame that somebody waits for.
fn piece(done: usize, left: usize) -> usize {
    match () {
        () if done <= FIRST_BYTES => FIRST_BYTES,
        () if left <= LAST_BYTES => LAST_BYTES / 2,
        () => 16 * PLAINTEXT_BYTES_MAX,
    }
}

/// The bytes of a frame that are still to be encrypted, wherever they lie.
struct Parts<'frame> {
    current: &'frame [u8],
    rest: &'frame [IoSlice<'frame>],
}

impl<'frame> Parts<'frame> {
    /// Goes on to the next part when there is nothing left of the current one.
    fn advance(&mut self) {
        while self.current.is_empty()
            && let Some((next, rest)) = self.rest.split_first()
        {
            self.current = next;
            self.rest = rest;
        }
    }

    /// Takes so many bytes, if they lie behind each other.
    fn take_contiguous(&mut self, bytes: usize) -> Option<&'frame [u8]> {
        self.advance();
        let (taken, left) = self.current.split_at_checked(bytes)?;
        self.current = left;
        Some(taken)
    }

    /// Takes as many bytes as `target` has room for.
    fn copy_to(&mut self, mut target: &mut [u8]) {
        while !target.is_empty() {
            self.advance();
            let count = target.len().min(self.current.len());
            let (piece, rest) = target.split_at_mut(count);
            let (taken, left) = self.current.split_at(count);
            piece.copy_from_slice(taken);
            self.current = left;
            target = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel;

    #[test]
    fn keys_are_changed_in_time() {
        let (a, b) = channel::pair();
        let further = channel::further_pair(&a, &b);
        change_keys(a, b);
        change_keys(further.0, further.1);
    }

    fn change_keys(a: channel::Channel, mut b: channel::Channel) {
        let (mut sender, _receiver) = a.split();
        sender.records_per_key = 3;
        let mut body = Vec::new();
        for number in 0..20 {
            sender.send(Header::new(1, number), &[IoSlice::new(b"x")]).unwrap();
            assert!(sender.protection.sequence() <= 3, "a key protects three records at most");
            assert_eq!(b.recv(&mut body, Duration::ZERO).unwrap().correlation, number);
        }
    }

    #[test]
    fn a_frame_that_is_waited_for_comes_in_pieces_that_are_small_at_both_ends() {
        let mut pieces = Vec::new();
        let (length, mut filled) = (1 << 20, 0);
        for done in (0..=length).step_by(PLAINTEXT_BYTES_MAX).skip(1) {
            filled += PLAINTEXT_BYTES_MAX;
            if done == length || filled >= piece(done, length - done) {
                pieces.push(filled >> 10);
                filled = 0;
            }
        }
        assert_eq!(pieces, [64, 256, 256, 256, 64, 64, 64]);
    }

    #[test]
    fn what_is_waited_for_arrives_as_it_was_sent() {
        let (a, mut b) = channel::pair();
        let (mut sender, _receiver) = a.split();
        let mut body = Vec::new();
        for length in [0, 1, 64 << 10, (64 << 10) + 1, 200_000, 1 << 20, 3_000_001] {
            let sent: Vec<u8> = (0..length).map(|at: usize| (at / 7) as u8).collect();
            let header = Header::new(minka_wire::frame::BULK_KIND | 1, length as u64);
            let sending = std::thread::scope(|scope| {
                let sending = scope.spawn(|| sender.send_awaited(header, &[IoSlice::new(&sent)]));
                assert_eq!(b.recv(&mut body, Duration::ZERO).unwrap().correlation, length as u64);
                sending.join().expect("no panic")
            });
            sending.unwrap();
            assert!(body == sent, "{length} bytes");
        }
    }

    #[test]
    fn parts_are_taken_as_they_lie() {
        let rest = [IoSlice::new(b""), IoSlice::new(b"cdef"), IoSlice::new(b"gh")];
        let mut parts = Parts { current: b"ab", rest: &rest };
        assert_eq!(parts.take_contiguous(3), None);
        let mut three = [0; 3];
        parts.copy_to(&mut three);
        assert_eq!(&three, b"abc");
        assert_eq!(parts.take_contiguous(3), Some(&b"def"[..]));
        assert_eq!(parts.take_contiguous(2), Some(&b"gh"[..]));
        assert_eq!(parts.take_contiguous(1), None);
    }
}

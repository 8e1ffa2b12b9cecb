//! The receiving half of a channel.
//!
//! ```text
//! socket ──recv──► buffer of encrypted records ──decrypt──► the caller's body
//! ```
//!
//! The record that a frame begins with is decrypted in the buffer, as the frame's header is in it; the records that
//! follow are decrypted straight to where they belong in the body. Peers begin every frame with a new record, and do
//! not put two into one.

use std::{
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use minka_wire::frame::{HEADER_BYTES, Header};
use rustix::event::PollFlags;

use crate::{
    channel::{Closer, Shared},
    error::ChannelError,
    record::{self, Content, Protection, RECORD_BYTES_MAX},
    socket,
};

/// Bytes that are asked of the kernel at once.
const BUFFER_BYTES: usize = 256 << 10;

const CLOSE_NOTIFY: u8 = 0;
const KEY_UPDATE: u8 = 24;

/// The half of a channel that receives frames.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    protection: Protection,
    /// Encrypted records; those from `start` to `end` have not been looked at.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The frame whose body is being received, and how much of it is there.
    frame: Option<(Header, usize)>,
    /// Where that body is while nobody waits for it.
    parked: Vec<u8>,
    end_of_all: Option<End>,
}

/// Where the body of a frame goes.
trait Room {
    /// Its first so many bytes.
    fn first(&mut self, bytes: usize) -> Result<&mut [u8], ChannelError>;
}

impl Room for Vec<u8> {
    fn first(&mut self, bytes: usize) -> Result<&mut [u8], ChannelError> {
        make_room(self, bytes);
        Ok(&mut self[..bytes])
    }
}

impl Room for &mut [u8] {
    fn first(&mut self, bytes: usize) -> Result<&mut [u8], ChannelError> {
        self.get_mut(..bytes).ok_or(ChannelError::Protocol("a body that is longer than there is room for"))
    }
}

/// Whom to tell that there is more of a frame's body: its header and what is there.
type Progress<'a> = &'a mut dyn FnMut(&Header, &[u8]);

/// Why nothing more will be received.
#[derive(Clone, Copy, Debug)]
enum End {
    Goodbye,
    Failure,
}

/// How long to wait for a frame.
#[derive(Clone, Copy)]
enum Patience {
    Endless,
    Until(Instant),
    None,
}

impl Patience {
    /// Reads what there is, or comes within that time; zero bytes at the end of the stream.
    fn read(
        self,
        stream: &TcpStream,
        buffer: &mut [u8],
        spin: Duration,
    ) -> Result<Option<usize>, ChannelError> {
        let spin = match self {
            Patience::Endless => spin,
            Patience::Until(instant) => spin.min(instant.saturating_duration_since(Instant::now())),
            Patience::None => Duration::ZERO,
        };
        if !spin.is_zero()
            && let Some(count) = socket::recv_polling(stream, buffer, spin)?
        {
            return Ok(Some(count));
        }
        match self {
            Patience::Endless => socket::recv_blocking(stream, buffer).map(Some),
            Patience::None => socket::recv_now(stream, buffer),
            Patience::Until(instant) => {
                let left = instant.saturating_duration_since(Instant::now());
                match socket::wait_for(stream, PollFlags::IN, left)? {
                    true => socket::recv_now(stream, buffer),
                    false => Ok(None),
                }
            }
        }
    }
}

impl Receiver {
    pub(crate) fn new(shared: Arc<Shared>, protection: Protection, incoming: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES.max(incoming.len())];
        buffer[..incoming.len()].copy_from_slice(incoming);
        let end = incoming.len();
        Receiver {
            shared,
            protection,
            buffer,
            start: 0,
            end,
            frame: None,
            parked: Vec::new(),
            end_of_all: None,
        }
    }

    /// Waits for the next frame, and puts its body in place of what `body` holds. Handing the same vector in again and
    /// again avoids allocation.
    ///
    /// For the duration `spin` the socket is polled, which makes an answer that is about to come arrive sooner than
    /// waking a sleeping thread would, and keeps a processor busy; afterwards the thread sleeps.
    pub fn recv(&mut self, body: &mut Vec<u8>, spin: Duration) -> Result<Header, ChannelError> {
        loop {
            if let Some(header) = self.receive(body, spin, Patience::Endless, &mut |_, _| ())? {
                return Ok(header);
            }
        }
    }

    /// Like [`Receiver::recv`], and shows the beginning of the body whenever there is more of it, so that it can be used
    /// while the rest is on its way. Nothing is said of the last piece: the whole body is there when this returns.
    pub fn recv_with(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        mut progress: impl FnMut(&Header, &[u8]),
    ) -> Result<Header, ChannelError> {
        loop {
            if let Some(header) = self.receive(body, spin, Patience::Endless, &mut progress)? {
                return Ok(header);
            }
        }
    }

    /// Like [`Receiver::recv`], but gives up after `limit`. Nothing is lost by that: the next call goes on.
    pub fn recv_timeout(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        limit: Duration,
    ) -> Result<Option<Header>, ChannelError> {
        self.receive(body, spin, Patience::Until(Instant::now() + limit), &mut |_, _| ())
    }

    /// Takes the next frame if it is there. With the descriptor in a poll set, call this until it returns `None`.
    pub fn try_recv(&mut self, body: &mut Vec<u8>) -> Result<Option<Header>, ChannelError> {
        self.receive(body, Duration::ZERO, Patience::None, &mut |_, _| ())
    }

    /// Like [`Receiver::recv`], but puts the body to the beginning of `area`, without detours. One that does not fit is against the
    /// rules.
    pub fn recv_into(&mut self, mut area: &mut [u8], spin: Duration) -> Result<Header, ChannelError> {
        self.guarded(|receiver| {
            if receiver.frame.is_some() {
                return Err(ChannelError::Protocol("a frame that is being received to another place"));
            }
            loop {
                if let Some(header) = receiver.take_records(&mut area)? {
                    return Ok(header);
                }
                let filled = receiver.fill(spin, Patience::Endless);
                filled.map_err(|error| receiver.shared.explain(error))?;
            }
        })
    }

    /// A handle with which any thread can end the channel.
    pub fn closer(&self) -> Closer {
        Closer::new(self.shared.clone())
    }

    fn receive(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        patience: Patience,
        progress: Progress<'_>,
    ) -> Result<Option<Header>, ChannelError> {
        self.guarded(|receiver| receiver.receive_frame(body, spin, patience, progress))
    }

    /// Receives, unless there is nothing to be received any more; after a failure there is not.
    fn guarded<T>(
        &mut self,
        receive: impl FnOnce(&mut Self) -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        match self.end_of_all {
            None => {}
            Some(End::Goodbye) => return Err(ChannelError::PeerClosed),
            Some(End::Failure) => return Err(ChannelError::Closed),
        }
        let received = self.shared.check_open().and_then(|()| receive(self));
        match &received {
            Ok(_) => {}
            Err(ChannelError::PeerClosed) => self.end_of_all = Some(End::Goodbye),
            Err(_) => {
                self.end_of_all = Some(End::Failure);
                // Whoever breaks the rules, or is out of reach, is not to be sent anything either.
                self.shared.cut();
            }
        }
        received
    }

    fn receive_frame(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        patience: Patience,
        progress: Progress<'_>,
    ) -> Result<Option<Header>, ChannelError> {
        if self.frame.is_some() {
            std::mem::swap(body, &mut self.parked);
        }
        loop {
            if let Some(header) = self.take_records(body)? {
                body.truncate(header.length as usize);
                return Ok(Some(header));
            }
            if let Some((header, filled)) = &self.frame {
                progress(header, &body[..*filled]);
            }
            if !self.fill(spin, patience).map_err(|error| self.shared.explain(error))? {
                if self.frame.is_some() {
                    std::mem::swap(body, &mut self.parked);
                }
                return Ok(None);
            }
        }
    }

    /// Decrypts the records that are there, until a frame is complete.
    fn take_records(&mut self, body: &mut impl Room) -> Result<Option<Header>, ChannelError> {
        while let Some(record_bytes) = record::record_bytes(&self.buffer[self.start..self.end])? {
            let record = self.start..self.start + record_bytes;
            if record.end > self.end {
                break;
            }
            self.start = record.end;
            match self.frame {
                None => self.begin_frame(record, body)?,
                Some((header, filled)) => self.continue_frame(record, header, filled, body)?,
            }
            if let Some((header, filled)) = self.frame
                && filled == header.length as usize
            {
                self.frame = None;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Takes a record that a frame should begin with.
    fn begin_frame(
        &mut self,
        record: std::ops::Range<usize>,
        body: &mut impl Room,
    ) -> Result<(), ChannelError> {
        let (content, plaintext) = self.protection.open_in_place(&mut self.buffer[record])?;
        if content != Content::Application {
            let message = Message::parse(content, plaintext)?;
            return self.obey(message);
        }
        let Some((header, begin)) = plaintext.split_first_chunk::<HEADER_BYTES>() else {
            return match plaintext {
                [] => Ok(()),
                _ => Err(ChannelError::Protocol("a frame that begins with less than a header")),
            };
        };
        let header = Header::parse(header)?;
        if begin.len() > header.length as usize {
            return Err(ChannelError::Protocol("more than the body of a frame"));
        }
        body.first(begin.len())?.copy_from_slice(begin);
        self.frame = Some((header, begin.len()));
        Ok(())
    }

    /// Takes a record that should belong to the body of a frame.
    fn continue_frame(
        &mut self,
        record: std::ops::Range<usize>,
        header: Header,
        filled: usize,
        body: &mut impl Room,
    ) -> Result<(), ChannelError> {
        let record = &self.buffer[record];
        let target = &mut body.first(filled + record::inner_bytes(record))?[filled..];
        let (content, plaintext_bytes) = self.protection.open_into(record, target)?;
        if content != Content::Application {
            let message = Message::parse(content, &target[..plaintext_bytes])?;
            return self.obey(message);
        }
        if plaintext_bytes > header.length as usize - filled {
            return Err(ChannelError::Protocol("more than the body of a frame"));
        }
        self.frame = Some((header, filled + plaintext_bytes));
        Ok(())
    }

    /// Does what TLS asks for apart from carrying data.
    fn obey(&mut self, message: Message) -> Result<(), ChannelError> {
        match message {
            Message::Goodbye => match self.frame {
                Some(_) => Err(self.truncated()),
                None => Err(ChannelError::PeerClosed),
            },
            Message::Alert(number) => Err(ChannelError::Alert(number)),
            Message::KeyUpdate { answer } => {
                self.protection = self.shared.next_receiving()?;
                if answer {
                    self.shared.ask_for_rekey();
                }
                Ok(())
            }
        }
    }

    /// Gets more from the socket; false if nothing came in time.
    fn fill(&mut self, spin: Duration, patience: Patience) -> Result<bool, ChannelError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < RECORD_BYTES_MAX {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match patience.read(&self.shared.stream, &mut self.buffer[self.end..], spin)? {
            None => Ok(false),
            Some(0) if self.start == self.end && self.frame.is_none() => Err(ChannelError::Dropped),
            Some(0) => Err(self.truncated()),
            Some(count) => {
                self.end += count;
                Ok(true)
            }
        }
    }

    fn truncated(&self) -> ChannelError {
        let received = self.frame.map_or(0, |(_, filled)| HEADER_BYTES + filled);
        ChannelError::Truncated { received }
    }
}

impl std::os::fd::AsFd for Receiver {
    /// The socket, to wait for it together with other things. Readable is not the same as holding a frame: drain with
    /// [`Receiver::try_recv`] before waiting.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.shared.stream.as_fd()
    }
}

/// What a record can say apart from data.
enum Message {
    Goodbye,
    Alert(u8),
    KeyUpdate { answer: bool },
}

impl Message {
    fn parse(content: Content, plaintext: &[u8]) -> Result<Self, ChannelError> {
        match (content, plaintext) {
            (Content::Alert, &[_, CLOSE_NOTIFY]) => Ok(Message::Goodbye),
            (Content::Alert, &[_, number]) => Ok(Message::Alert(number)),
            // The keys change with the next record, so nothing may follow in this one.
            (Content::Handshake, &[KEY_UPDATE, 0, 0, 1, answer @ (0 | 1)]) => {
                Ok(Message::KeyUpdate { answer: answer == 1 })
            }
            (Content::Handshake, _) => Err(ChannelError::Protocol("a handshake message out of place")),
            _ => Err(ChannelError::Protocol("a malformed alert")),
        }
    }
}

/// Lets `body` hold `bytes`, and reserves no more in advance: what the peer announces need not come.
fn make_room(body: &mut Vec<u8>, bytes: usize) {
    if body.len() < bytes {
        body.resize(bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_tls_are_told_apart() {
        let parse = |content, plaintext: &[u8]| Message::parse(content, plaintext);
        assert!(matches!(parse(Content::Alert, &[1, 0]), Ok(Message::Goodbye)));
        assert!(matches!(parse(Content::Alert, &[2, 80]), Ok(Message::Alert(80))));
        assert!(matches!(
            parse(Content::Handshake, &[24, 0, 0, 1, 0]),
            Ok(Message::KeyUpdate { answer: false })
        ));
        assert!(matches!(
            parse(Content::Handshake, &[24, 0, 0, 1, 1]),
            Ok(Message::KeyUpdate { answer: true })
        ));
        let refused: [(Content, &[u8]); 6] = [
            (Content::Alert, &[]),
            (Content::Alert, &[1, 0, 0]),
            (Content::Handshake, &[]),
            (Content::Handshake, &[24, 0, 0, 1, 2]),
            // Something more behind the change of keys would have been encrypted with the old ones.
            (Content::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]),
            (Content::Handshake, &[4, 0, 0, 0]),
        ];
        for (content, plaintext) in refused {
            assert!(matches!(parse(content, plaintext), Err(ChannelError::Protocol(_))), "{plaintext:?}");
        }
    }
}

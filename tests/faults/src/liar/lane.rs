//! One lane through a liar: bytes of TLS at both ends, frames in between.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use minka_wire::frame::{HEADER_BYTES, Header};
use minka_wire::preamble::{Lane, PREAMBLE_BYTES};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::Connection;

use super::plan::{Plan, Then, To};

/// A frame on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// A frame of the same kind with another body.
    pub(super) fn with(&self, body: Vec<u8>) -> Self {
        Self { header: Header { length: body.len() as u32, ..self.header }, body }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.header.encode()[..], &self.body].concat()
    }
}

/// One end of a lane.
pub(super) struct End {
    stream: TcpStream,
    tls: Connection,
    /// What was heard and not passed on.
    heard: Vec<u8>,
    /// How many frames of each kind were heard.
    counts: BTreeMap<u16, u32>,
    greeted: bool,
    /// Nothing more is passed on from here.
    silent: bool,
}

impl End {
    pub(super) fn new(stream: TcpStream, mut tls: Connection) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        tls.set_buffer_limit(None);
        let (heard, counts) = (Vec::new(), BTreeMap::new());
        Ok(Self { stream, tls, heard, counts, greeted: false, silent: false })
    }

    fn wanted(&self) -> PollFlags {
        let out = if self.tls.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
        PollFlags::IN | out
    }

    /// Hears what there is. False at the end of all.
    fn hear(&mut self) -> io::Result<bool> {
        let open = match self.tls.read_tls(&mut self.stream) {
            Ok(count) => count > 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error),
        };
        let state = self.tls.process_new_packets().map_err(io::Error::other)?;
        let filled = self.heard.len();
        self.heard.resize(filled + state.plaintext_bytes_to_read(), 0);
        self.tls.reader().read_exact(&mut self.heard[filled..])?;
        Ok(open && !state.peer_has_closed())
    }

    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes everything, waiting for it.
    fn flush(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.write()
    }

    /// Sends bytes, as far as they are frames each in records of its own: others are not looked at any further.
    fn write_frames(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let header = bytes.first_chunk::<HEADER_BYTES>().and_then(|header| Header::parse(header).ok());
            let length = header.map_or(bytes.len(), |header| HEADER_BYTES + header.length as usize);
            let (frame, rest) = bytes.split_at(length.min(bytes.len()));
            self.tls.writer().write_all(frame)?;
            bytes = rest;
        }
        Ok(())
    }

    /// The next whole frame that was heard, and which of its kind it is.
    fn next_frame(&mut self) -> io::Result<Option<(Frame, u32)>> {
        let Some(header) = self.heard.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::parse(header).map_err(io::Error::other)?;
        let end = HEADER_BYTES + header.length as usize;
        if self.heard.len() < end {
            return Ok(None);
        }
        let body = self.heard[HEADER_BYTES..end].to_vec();
        self.heard.drain(..end);
        let count = self.counts.entry(header.kind).or_default();
        *count += 1;
        Ok(Some((Frame { header, body }, *count)))
    }

    /// Passes on what was heard here.
    fn pass_on(&mut self, other: &mut Self, way: (To, Lane), plan: &Plan, told: &dyn Fn()) -> io::Result<()> {
        if !self.greeted && self.heard.len() >= PREAMBLE_BYTES {
            let greeting: Vec<u8> = self.heard.drain(..PREAMBLE_BYTES).collect();
            other.tls.writer().write_all(&greeting)?;
            self.greeted = true;
        }
        while self.greeted
            && let Some((frame, number)) = self.next_frame()?
        {
            if self.silent {
                continue;
            }
            let Some((bytes, then)) = plan.lie(way, &frame, number) else {
                other.tls.writer().write_all(&frame.bytes())?;
                continue;
            };
            told();
            other.write_frames(&bytes)?;
            match then {
                Then::GoOn => {}
                Then::Silence => self.silent = true,
                Then::Goodbye => {
                    other.tls.send_close_notify();
                    other.flush()?;
                    return Err(ErrorKind::ConnectionAborted.into());
                }
                Then::Cut => {
                    other.flush()?;
                    return Err(ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Carries a lane until one of its ends is at its end.
pub(super) fn relay(
    mut home: End,
    mut host: End,
    lane: Lane,
    plan: &Plan,
    told: &dyn Fn(),
) -> io::Result<()> {
    loop {
        home.write()?;
        host.write()?;
        let mut polled = [PollFd::new(&home.stream, home.wanted()), PollFd::new(&host.stream, host.wanted())];
        poll(&mut polled, None)?;
        let news = polled.map(|polled| !(polled.revents() - PollFlags::OUT).is_empty());
        if news[0] {
            let open = home.hear()?;
            home.pass_on(&mut host, (To::Host, lane), plan, told)?;
            if !open {
                return host.flush();
            }
        }
        if news[1] {
            let open = host.hear()?;
            host.pass_on(&mut home, (To::Home, lane), plan, told)?;
            if !open {
                return home.flush();
            }
        }
    }
}

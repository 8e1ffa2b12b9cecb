//! One lane through a liar: encrypted bytes at both ends, frames in between.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use minka_wire::frame::{HEADER_BYTES, Header};
use minka_wire::message::{self, FromHome, kind};
use minka_wire::preamble::{Lane, PREAMBLE_BYTES, SessionSecret};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::Connection;

use super::further::Further;
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

/// What the two at a lane encrypt with.
pub(super) enum Layer {
    Tls(Box<Connection>),
    Further(Box<Further>),
}

impl Layer {
    fn wants_write(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.wants_write(),
            Self::Further(further) => further.has_more(),
        }
    }

    /// Adds what has come to what was `heard`. False at the end of all.
    fn hear(&mut self, stream: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<bool> {
        let tls = match self {
            Self::Tls(tls) => tls,
            Self::Further(further) => {
                let open = further.read(stream)?;
                heard.append(&mut further.said);
                return Ok(open && !further.closed);
            }
        };
        let open = match tls.read_tls(stream) {
            Ok(count) => count > 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error),
        };
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let filled = heard.len();
        heard.resize(filled + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut heard[filled..])?;
        Ok(open && !state.peer_has_closed())
    }

    fn write_some(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.write_tls(stream).map(drop),
            Self::Further(further) => further.write(stream),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.writer().write_all(bytes),
            Self::Further(further) => further.say(bytes),
        }
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => {
                tls.send_close_notify();
                Ok(())
            }
            Self::Further(further) => further.say_goodbye(),
        }
    }
}

/// One end of a lane.
pub(super) struct End {
    stream: TcpStream,
    layer: Layer,
    /// What was heard and not passed on.
    heard: Vec<u8>,
    /// How many frames of each kind were heard.
    counts: BTreeMap<u16, u32>,
    greeted: bool,
    /// Nothing more is passed on from here.
    silent: bool,
}

impl End {
    /// Whoever is at this end says its preamble first if it `greets`.
    pub(super) fn new(stream: TcpStream, mut layer: Layer, greets: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        if let Layer::Tls(tls) = &mut layer {
            tls.set_buffer_limit(None);
        }
        let (heard, counts) = (Vec::new(), BTreeMap::new());
        Ok(Self { stream, layer, heard, counts, greeted: !greets, silent: false })
    }

    fn wanted(&self) -> PollFlags {
        let out = if self.layer.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
        PollFlags::IN | out
    }

    /// Hears what there is. False at the end of all.
    fn hear(&mut self) -> io::Result<bool> {
        self.layer.hear(&mut self.stream, &mut self.heard)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.layer.wants_write() {
            match self.layer.write_some(&mut self.stream) {
                Ok(()) => {}
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
            self.layer.say(frame)?;
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
    fn pass_on(
        &mut self,
        other: &mut Self,
        way: (To, Lane),
        plan: &Plan,
        heard: &Heard<'_>,
    ) -> io::Result<()> {
        if !self.greeted && self.heard.len() >= PREAMBLE_BYTES {
            let greeting: Vec<u8> = self.heard.drain(..PREAMBLE_BYTES).collect();
            other.layer.say(&greeting)?;
            self.greeted = true;
        }
        while self.greeted
            && let Some((frame, number)) = self.next_frame()?
        {
            if let (To::Host, Lane::Control, kind::FROM_HOME) = (way.0, way.1, frame.header.kind)
                && let Ok(FromHome::Hello(_, secret)) =
                    message::decode(&frame.header, &frame.body, kind::FROM_HOME, "an offer")
            {
                (heard.secret)(secret);
            }
            if self.silent {
                continue;
            }
            let Some((bytes, then)) = plan.lie(way, &frame, number) else {
                other.layer.say(&frame.bytes())?;
                continue;
            };
            (heard.told)();
            other.write_frames(&bytes)?;
            match then {
                Then::GoOn => {}
                Then::Silence => self.silent = true,
                Then::Goodbye => {
                    other.layer.say_goodbye()?;
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

/// Who is told of what is heard.
pub(super) struct Heard<'a> {
    /// The secret of a session.
    pub(super) secret: &'a dyn Fn(SessionSecret),
    /// The lie has been told.
    pub(super) told: &'a dyn Fn(),
}

/// Carries a lane until one of its ends is at its end.
pub(super) fn relay(
    mut home: End,
    mut host: End,
    lane: Lane,
    plan: &Plan,
    heard: &Heard<'_>,
) -> io::Result<()> {
    loop {
        home.write()?;
        host.write()?;
        let mut polled = [PollFd::new(&home.stream, home.wanted()), PollFd::new(&host.stream, host.wanted())];
        poll(&mut polled, None)?;
        let news = polled.map(|polled| !(polled.revents() - PollFlags::OUT).is_empty());
        if news[0] {
            let open = home.hear()?;
            home.pass_on(&mut host, (To::Host, lane), plan, heard)?;
            if !open {
                return host.flush();
            }
        }
        if news[1] {
            let open = host.hear()?;
            host.pass_on(&mut home, (To::Home, lane), plan, heard)?;
            if !open {
                return home.flush();
            }
        }
    }
}

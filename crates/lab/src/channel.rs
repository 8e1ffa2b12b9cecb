//! Messages between the processes of a lab: JSON, behind its length, on a UNIX socket.
//!
//! All of them run the same program, so there is nothing to negotiate; what arrives is bounded all the same.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message in bytes.
const MESSAGE_LENGTH_MAX: u32 = 1 << 20;

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Both ends of a new one.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((one.into(), other.into()))
    }

    /// An end that waits only this long for the other one to speak or to listen; then it fails.
    pub(crate) fn with_patience(self, patience: Duration) -> io::Result<Self> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))?;
        Ok(self)
    }

    /// Sends one message.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= MESSAGE_LENGTH_MAX);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        (&self.stream).write_all(&[&length.to_ne_bytes(), body.as_slice()].concat())
    }

    /// Waits for the next message. `None` if the other end is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match (&self.stream).read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_ne_bytes(length);
        if length > MESSAGE_LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length as usize];
        (&self.stream).read_exact(&mut body)?;
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl From<UnixStream> for Channel {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self { stream: descriptor.into() }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.stream.into()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_one_by_one_and_then_the_end() {
        let (here, there) = Channel::pair().unwrap();
        here.send(&"one").unwrap();
        here.send(&2).unwrap();
        drop(here);
        assert_eq!(there.receive::<String>().unwrap().as_deref(), Some("one"));
        assert_eq!(there.receive::<u32>().unwrap(), Some(2));
        assert_eq!(there.receive::<u32>().unwrap(), None);
    }

    #[test]
    fn garbage_and_monsters_are_refused() {
        let (here, there) = Channel::pair().unwrap();
        (&here.stream).write_all(&[2, 0, 0, 0, b'{', b'{']).unwrap();
        (&here.stream).write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert_eq!(there.receive::<u32>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(there.receive::<u32>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let long = "x".repeat(MESSAGE_LENGTH_MAX as usize);
        assert_eq!(here.send(&long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn patience_ends() {
        let (_here, there) = Channel::pair().unwrap();
        let there = there.with_patience(Duration::from_millis(10)).unwrap();
        assert_eq!(there.receive::<u32>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

//! Bounded JSON lines over a stream socket.
//!
//! A peer may be slow, silent or hostile: a line is read up to [`LINE_MAX`] bytes and within a time
//! limit that covers the whole line, however the peer dribbles its bytes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{LINE_MAX, Message, VERSION};

/// Why a line could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The peer closed the connection between two lines.
    #[error("read: the connection is closed")]
    Closed,
    /// The peer sent a line without an end.
    #[error("read a line: longer than {LINE_MAX} bytes")]
    TooLong,
    /// The peer did not send or take a line in time.
    #[error("exchange a line: the peer is too slow")]
    TooSlow,
    /// The line is not what the protocol allows.
    #[error("understand a line")]
    NotUnderstood(#[source] serde_json::Error),
    /// A value to send does not fit into one line.
    #[error("write a line: longer than {LINE_MAX} bytes")]
    Unsendable,
    /// The socket failed.
    #[error("use the socket")]
    Socket(#[source] io::Error),
}

/// A stream of lines, with the bytes that were read beyond the last one.
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Lines {
    /// Wraps a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Lines { stream, pending: Vec::new() }
    }

    /// The socket, to ask who is at its other end.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The socket, for something else than lines, without limits.
    ///
    /// # Errors
    /// When more has been read than lines, or the socket fails.
    pub fn into_stream(self) -> Result<UnixStream, LineError> {
        if !self.pending.is_empty() {
            return Err(LineError::TooLong);
        }
        self.stream.set_read_timeout(None).map_err(LineError::Socket)?;
        self.stream.set_write_timeout(None).map_err(LineError::Socket)?;
        Ok(self.stream)
    }

    /// Reads one message: waits up to `idle` for its first byte and up to `line` for the rest.
    ///
    /// # Errors
    /// As [`LineError`] says; after any of them but [`LineError::NotUnderstood`] the stream is of no more use.
    pub fn read<T: DeserializeOwned>(
        &mut self,
        idle: Duration,
        line: Duration,
    ) -> Result<Message<T>, LineError> {
        let bytes = self.read_line(idle, line)?;
        serde_json::from_slice(&bytes).map_err(LineError::NotUnderstood)
    }

    /// Reads one line without its line feed, with the limits of [`Lines::read`].
    ///
    /// # Errors
    /// As [`Lines::read`].
    pub fn read_line(&mut self, idle: Duration, line: Duration) -> Result<Vec<u8>, LineError> {
        let mut searched = 0;
        let mut deadline = Instant::now() + if self.pending.is_empty() { idle } else { line };
        loop {
            if let Some(at) = self.pending[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.pending.split_off(searched + at + 1);
                let mut bytes = std::mem::replace(&mut self.pending, rest);
                bytes.pop();
                return Ok(bytes);
            }
            searched = self.pending.len();
            if searched >= LINE_MAX {
                return Err(LineError::TooLong);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LineError::TooSlow);
            }
            self.stream.set_read_timeout(Some(left)).map_err(LineError::Socket)?;
            let mut chunk = [0; 4096];
            let room = chunk.len().min(LINE_MAX - searched);
            match self.stream.read(&mut chunk[..room]) {
                Ok(0) => return Err(LineError::Closed),
                Ok(count) => {
                    if searched == 0 {
                        deadline = Instant::now() + line;
                    }
                    self.pending.extend_from_slice(&chunk[..count]);
                }
                Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LineError::Socket(error)),
            }
        }
    }

    /// Writes one message within `limit`.
    ///
    /// # Errors
    /// As [`LineError`] says; the stream is of no more use afterwards.
    pub fn write<T: Serialize>(&mut self, body: &T, limit: Duration) -> Result<(), LineError> {
        let mut bytes =
            serde_json::to_vec(&Message { version: VERSION, body }).map_err(LineError::NotUnderstood)?;
        bytes.push(b'\n');
        if bytes.len() > LINE_MAX {
            return Err(LineError::Unsendable);
        }
        let deadline = Instant::now() + limit;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LineError::TooSlow);
            }
            self.stream.set_write_timeout(Some(left)).map_err(LineError::Socket)?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LineError::Socket(error)),
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;

    const SHORT: Duration = Duration::from_millis(80);

    fn pair() -> (UnixStream, Lines) {
        let (near, far) = UnixStream::pair().unwrap();
        (near, Lines::new(far))
    }

    #[test]
    fn reads_lines_that_arrive_together_and_in_pieces() {
        let (mut near, mut far) = pair();
        near.write_all(b"{\"version\":1,\"body\":\"status\"}\n{\"version\":1,\"bo").unwrap();
        assert_eq!(far.read::<Request>(SHORT, SHORT).unwrap().body, Request::Status);
        near.write_all(b"dy\":\"nodes\"}\n").unwrap();
        assert_eq!(far.read::<Request>(SHORT, SHORT).unwrap().body, Request::Nodes);
        drop(near);
        assert!(matches!(far.read::<Request>(SHORT, SHORT), Err(LineError::Closed)));
    }

    #[test]
    fn a_line_at_the_limit_is_read_and_one_beyond_it_is_refused() {
        for (length, fits) in [(LINE_MAX - 1, true), (LINE_MAX, false)] {
            let (mut near, mut far) = pair();
            let writer = std::thread::spawn(move || {
                let mut line = vec![b'x'; length];
                line.push(b'\n');
                // The reader hangs up on an oversized line, so this may fail.
                let _ = near.write_all(&line);
            });
            let outcome = far.read_line(Duration::from_secs(5), Duration::from_secs(5));
            match outcome {
                Ok(line) => assert!(fits && line.len() == length),
                Err(error) => assert!(!fits && matches!(error, LineError::TooLong), "{error}"),
            }
            drop(far);
            writer.join().unwrap();
        }
    }

    #[test]
    fn a_peer_that_dribbles_is_cut_off_at_the_limit_of_the_line() {
        let (mut near, mut far) = pair();
        let writer = std::thread::spawn(move || {
            while near.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let start = Instant::now();
        assert!(matches!(far.read::<Request>(SHORT, SHORT), Err(LineError::TooSlow)));
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(far);
        writer.join().unwrap();
    }

    #[test]
    fn a_reader_that_does_not_read_does_not_hold_the_writer() {
        let (_near, mut far) = pair();
        let line = "x".repeat(LINE_MAX - 100);
        let mut written = 0;
        let error = loop {
            match far.write(&line, SHORT) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1000, "a socket cannot hold that much");
        };
        assert!(matches!(error, LineError::TooSlow), "{error}");
    }
}

//! Programs that are started on another node, as their user's own: [`minka_wire::start`] has the picture.
//!
//! A guest has nothing of its host but processor and memory. A program that needs a device has to be there, with its
//! user's rights there, as if they had logged in. So this is off unless the node that has the device says for whom it
//! starts programs, and never for root: the other node is believed when it says who somebody is, as a file server
//! believes its clients.

mod home;
mod host;

use std::io::{self, Read, Write};

use minka_wire::frame::{HEADER_BYTES, Header};

pub(crate) use home::relay;

/// Reads a frame from a socket of this machine; `None` when it has been closed.
///
/// # Errors
/// When the socket fails, or what comes is no frame.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Option<(u16, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < header.len() {
        match stream.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let header = Header::parse(&header).map_err(io::Error::other)?;
    let mut body = vec![0; header.length as usize];
    stream.read_exact(&mut body)?;
    Ok(Some((header.kind, body)))
}

/// Writes a frame to a socket of this machine.
///
/// # Errors
/// When the socket fails, or the body is too long.
pub fn write_frame(stream: &mut impl Write, kind: u16, body: &[u8]) -> io::Result<()> {
    let header = Header::new(kind, 0).with_length(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&header.encode()[..], body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_and_pieces_of_them_do_not() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, 7, b"hello").unwrap();
        write_frame(&mut bytes, 8, b"").unwrap();
        let mut rest = &bytes[..];
        assert_eq!(read_frame(&mut rest).unwrap(), Some((7, b"hello".to_vec())));
        assert_eq!(read_frame(&mut rest).unwrap(), Some((8, Vec::new())));
        assert_eq!(read_frame(&mut rest).unwrap(), None);
        for length in 1..HEADER_BYTES + 5 {
            assert!(read_frame(&mut &bytes[..length]).is_err(), "{length}");
        }
        assert!(write_frame(&mut bytes, 7, &vec![0; 2 << 20]).is_err());
    }
}

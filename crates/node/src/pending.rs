//! Connections that have not said yet what they are for.
//!
//! Anybody may connect and say nothing, so their number is limited; and when there are too many the oldest has to
//! go, not the newest: whoever belongs to the cluster says at once what it wants, so the oldest is the least likely
//! to be one of those.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most connections whose preamble has not arrived yet.
const PENDING_MAX: usize = 64;

/// Those connections, by the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    streams: BTreeMap<u64, TcpStream>,
}

impl Pending {
    /// One more, in place of the oldest if there are too many. Returns its number.
    pub(crate) fn add(&self, stream: &TcpStream) -> std::io::Result<u64> {
        let held = stream.try_clone()?;
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.streams.insert(number, held);
        if waiting.streams.len() > PENDING_MAX
            && let Some((_, oldest)) = waiting.streams.pop_first()
        {
            // Whoever reads from it notices; it may be closed already.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        Ok(number)
    }

    /// One has said what it is for, or will not. False if it had to go.
    pub(crate) fn remove(&self, number: u64) -> bool {
        self.lock().streams.remove(&number).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn the_oldest_has_to_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pending = Pending::default();
        let mut ends = Vec::new();
        for _ in 0..PENDING_MAX + 2 {
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ours = listener.accept().unwrap().0;
            ends.push((pending.add(&ours).unwrap(), theirs));
        }
        for (number, mut theirs) in ends.drain(..2) {
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the end of the connection");
            assert!(!pending.remove(number));
        }
        for (number, theirs) in ends {
            theirs.set_nonblocking(true).unwrap();
            let open = (&theirs).read(&mut [0]).unwrap_err().kind() == std::io::ErrorKind::WouldBlock;
            assert!(open && pending.remove(number));
        }
    }
}

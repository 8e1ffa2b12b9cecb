//! Plain TCP between two nodes, which the channels of Minka are compared with.
//!
//! ```text
//! request: mode (1 byte), how many (8 bytes, little-endian), bytes of a block (4 bytes)
//!   echo   so many questions of 112 bytes are answered with 64 bytes each, as a forwarded call is
//!   push   so many bytes come, and one byte says that they are there
//!   pull   so many bytes go
//! ```

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Answer, answer, number, since, unknown};

const ECHO: u8 = 1;
const PUSH: u8 = 2;
const PULL: u8 = 3;

const QUESTION_BYTES: usize = 112;
const ANSWER_BYTES: usize = 64;

/// What is streamed lies spread over so many bytes, as a program's memory does.
const SOURCE_BYTES: usize = 64 << 20;
/// A block is no longer than this.
const BLOCK_BYTES_MAX: usize = 8 << 20;
const MIB: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Request {
    mode: u8,
    amount: u64,
    block: usize,
}

impl Request {
    fn send(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut bytes = [0; 13];
        bytes[0] = self.mode;
        bytes[1..9].copy_from_slice(&self.amount.to_le_bytes());
        bytes[9..].copy_from_slice(&(self.block as u32).to_le_bytes());
        stream.write_all(&bytes)
    }

    fn receive(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = [0; 13];
        stream.read_exact(&mut bytes)?;
        let [mode, rest @ ..] = bytes;
        let (amount, block) = rest.split_at(8);
        let amount = u64::from_le_bytes(amount.try_into().unwrap_or_default());
        let block = u32::from_le_bytes(block.try_into().unwrap_or_default()) as usize;
        Ok(Request { mode, amount, block: block.clamp(1, BLOCK_BYTES_MAX) })
    }
}

/// Serves one connection, until its end.
pub(super) fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", number::<u16>(port)?))?;
    let source = source();
    answer(&[])?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    loop {
        let request = match Request::receive(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        match request.mode {
            ECHO => {
                let _apart = Apart::at(End::Answering);
                let mut question = [0; QUESTION_BYTES];
                for _ in 0..request.amount {
                    stream.read_exact(&mut question)?;
                    stream.write_all(&[1; ANSWER_BYTES])?;
                }
            }
            PUSH => {
                sink(&mut stream, request)?;
                stream.write_all(&[1])?;
            }
            PULL => pour(&mut stream, request, &source)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Asking,
    Answering,
}

/// Keeps both ends of a conversation on processors of their own, as those of two machines are. Linux often has both share one,
/// since neither does anything while the other does; a round trip takes 5 µs then instead of 70, and is none of a network's.
struct Apart(Option<CpuSet>);

impl Apart {
    fn at(end: End) -> Self {
        let pinned = || {
            let all = sched_getaffinity(None)?;
            let mut those = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
            let Some(cpu) = (if end == End::Asking { those.next() } else { those.next_back() }) else {
                return Ok(all);
            };
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one)?;
            Ok::<_, rustix::io::Errno>(all)
        };
        // Where that is not permitted they are where they are.
        Apart(pinned().ok())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(all) = self.0.take() {
            let _ = sched_setaffinity(None, &all);
        }
    }
}

fn source() -> Vec<u8> {
    (0..SOURCE_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn pour(stream: &mut TcpStream, request: Request, source: &[u8]) -> io::Result<()> {
    let (mut left, mut at) = (request.amount, 0);
    while left > 0 {
        let count = left.min(request.block as u64) as usize;
        if at + count > source.len() {
            at = 0;
        }
        stream.write_all(&source[at..at + count])?;
        (left, at) = (left - count as u64, at + count);
    }
    Ok(())
}

fn sink(stream: &mut TcpStream, request: Request) -> io::Result<()> {
    let mut block = vec![0; request.block];
    let mut left = request.amount;
    while left > 0 {
        let count = left.min(request.block as u64) as usize;
        stream.read_exact(&mut block[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// The side that asks, and takes the time.
#[derive(Debug)]
pub(super) struct Asker {
    stream: TcpStream,
    source: Vec<u8>,
}

impl Asker {
    pub(super) fn connect(address: &str, port: &str) -> io::Result<Self> {
        let stream = TcpStream::connect((address, number::<u16>(port)?))?;
        stream.set_nodelay(true)?;
        Ok(Asker { stream, source: source() })
    }

    pub(super) fn obey(&mut self, words: &[&str]) -> Answer {
        match *words {
            ["echo", count] => {
                let request = Request { mode: ECHO, amount: number(count)?, block: 1 };
                request.send(&mut self.stream)?;
                let mut reply = [0; ANSWER_BYTES];
                let _apart = Apart::at(End::Asking);
                let start = Instant::now();
                for _ in 0..request.amount {
                    self.stream.write_all(&[1; QUESTION_BYTES])?;
                    self.stream.read_exact(&mut reply)?;
                }
                Ok(vec![since(start)])
            }
            [way @ ("push" | "pull"), mebibytes, block] => {
                let mode = if way == "push" { PUSH } else { PULL };
                let request =
                    Request { mode, amount: number::<u64>(mebibytes)? * MIB, block: number(block)? };
                let start = Instant::now();
                request.send(&mut self.stream)?;
                if mode == PUSH {
                    pour(&mut self.stream, request, &self.source)?;
                    self.stream.read_exact(&mut [0])?;
                } else {
                    sink(&mut self.stream, request)?;
                }
                Ok(vec![since(start)])
            }
            _ => Err(unknown(words)),
        }
    }
}

//! How fast a channel streams in one direction, compared with plain TCP on the same machine at the same time.
//!
//! The receiver copies every body once more, as somebody who puts pages in place would. Run with `--release`; all
//! arguments are optional: MiB to send per measurement, and how often to repeat (the best counts).

use std::{
    error::Error,
    io::{IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use minka_link::{Authority, Channel, Credentials, Tuning};
use minka_wire::{
    frame::{BULK_KIND, Header},
    preamble::{Lane, Preamble, Purpose, SessionId},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const FRAME_KIB: [usize; 4] = [64, 256, 1024, 2048];
/// What is sent lies spread over so many bytes, as a program's memory does.
const SOURCE_BYTES: usize = 64 << 20;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let total = arguments.next().transpose()?.unwrap_or(2048) << 20;
    let repeats = arguments.next().transpose()?.unwrap_or(3);
    let source: Vec<u8> = (0..SOURCE_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();

    println!(
        "frame    plain TCP   with a copy   channel with a copy   ratio to plain   ratio to plain with copy"
    );
    for kib in FRAME_KIB {
        let bytes = kib << 10;
        let mut best = [0.0_f64; 3];
        for _ in 0..repeats {
            let rates = [
                plain(&source, bytes, total, false)?,
                plain(&source, bytes, total, true)?,
                channel(&source, bytes, total)?,
            ];
            for (best, rate) in best.iter_mut().zip(rates) {
                *best = best.max(rate);
            }
        }
        let [plain, copied, channel] = best;
        println!(
            "{kib:4} KiB  {plain:5.2} GB/s    {copied:5.2} GB/s           {channel:5.2} GB/s           {:5.2}                 {:5.2}",
            channel / plain,
            channel / copied
        );
    }
    Ok(())
}

/// Pieces of `bytes` out of `source`, `total` bytes in all.
fn pieces(source: &[u8], bytes: usize, total: usize) -> impl Iterator<Item = &[u8]> {
    (0..total / bytes).map(move |number| {
        let at = number * bytes % (source.len() - bytes);
        &source[at..at + bytes]
    })
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn plain(source: &[u8], bytes: usize, total: usize, copy: bool) -> Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let mut receiver = listener.accept()?.0;
    thread::scope(|scope| {
        let sending =
            scope.spawn(move || pieces(source, bytes, total).try_for_each(|piece| sender.write_all(piece)));
        let mut body = vec![1; bytes];
        let mut target = vec![1; bytes];
        let begin = Instant::now();
        for _ in 0..total / bytes {
            receiver.read_exact(&mut body)?;
            if copy {
                target.copy_from_slice(&body);
                std::hint::black_box(&target);
            }
        }
        let time = begin.elapsed();
        sending.join().map_err(|_| "the sender panicked")??;
        Ok(rate(total, time))
    })
}

fn channel(source: &[u8], bytes: usize, total: usize) -> Result<f64> {
    let (mut sender, mut receiver) = connect()?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            pieces(source, bytes, total)
                .try_for_each(|piece| sender.send(Header::new(BULK_KIND, 0), &[IoSlice::new(piece)]))
        });
        let mut body = vec![1; bytes];
        let mut target = vec![1; bytes];
        let begin = Instant::now();
        for _ in 0..total / bytes {
            receiver.recv(&mut body, Duration::ZERO)?;
            target.copy_from_slice(&body);
            std::hint::black_box(&target);
        }
        let time = begin.elapsed();
        sending.join().map_err(|_| "the sender panicked")??;
        Ok(rate(total, time))
    })
}

fn connect() -> Result<(Channel, Channel)> {
    let authority = Authority::create()?;
    let a = Credentials::new(&authority.issue("a")?)?;
    let b = Credentials::new(&authority.issue("b")?)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let tuning = Tuning::default();
    let preamble =
        Preamble { session: SessionId([0; 16]), purpose: Purpose::Open, lane: Lane::Stream, number: 0 };
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let stream = listener.accept()?.0;
            let preamble = minka_link::read_preamble(&stream, &tuning)?;
            Ok(minka_link::accept(&b, stream, &preamble, &tuning)?)
        });
        let sender = minka_link::connect(&a, address, "b", &preamble, &tuning)?;
        let receiver: Result<Channel> = accepting.join().map_err(|_| "the receiver panicked")?;
        Ok((sender, receiver?))
    })
}

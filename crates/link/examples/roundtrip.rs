//! How long a question and its answer take on a channel, compared with plain TCP on the same machine at the same time.
//!
//! Both ends either sleep until something comes, or poll the socket for a while first. Run with `--release`; the optional
//! argument is the number of round trips per measurement.

use std::{
    error::Error,
    io::{ErrorKind, IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use minka_link::{Authority, Channel, ChannelError, Credentials, Tuning};
use minka_wire::{
    frame::Header,
    preamble::{Lane, Preamble, Purpose, SessionId},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const QUESTION: [u8; 112] = [1; 112];
const ANSWER: [u8; 24] = [2; 24];
/// Polling comes to an end where the machine has nothing better to do for longer than this.
const SPIN: Duration = Duration::from_micros(200);

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map(|rounds| rounds.parse::<usize>()).transpose()?.unwrap_or(20_000);
    println!("round trip of {} and {} bytes    median     99 of 100", QUESTION.len(), ANSWER.len());
    report("plain TCP, sleeping", plain(rounds, false)?);
    report("channel,   sleeping", channel(rounds, Duration::ZERO)?);
    report("plain TCP, polling", plain(rounds, true)?);
    report("channel,   polling", channel(rounds, SPIN)?);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    println!("{what:32}    {:6.1} µs  {:6.1} µs", micros(times.len() / 2), micros(times.len() * 99 / 100));
}

/// Times what `ask` does; the first tenth only warms up.
fn measure(rounds: usize, mut ask: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    for _ in 0..rounds / 10 {
        ask()?;
    }
    (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            ask().map(|()| begin.elapsed())
        })
        .collect()
}

fn plain(rounds: usize, poll: bool) -> Result<Vec<Duration>> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut asking = TcpStream::connect(listener.local_addr()?)?;
    let mut answering = listener.accept()?.0;
    for stream in [&asking, &answering] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(poll)?;
    }
    let answerer = thread::spawn(move || -> std::io::Result<()> {
        let mut question = [0; QUESTION.len()];
        while receive(&mut answering, &mut question)? {
            answering.write_all(&ANSWER)?;
        }
        Ok(())
    });
    let mut answer = [0; ANSWER.len()];
    let times = measure(rounds, || {
        asking.write_all(&QUESTION)?;
        receive(&mut asking, &mut answer)?;
        Ok(())
    })?;
    drop(asking);
    answerer.join().map_err(|_| "the answerer panicked")??;
    Ok(times)
}

/// Fills `buffer`; false at the end of the stream.
fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn channel(rounds: usize, spin: Duration) -> Result<Vec<Duration>> {
    let (mut asking, mut answering) = connect()?;
    let answerer = thread::spawn(move || {
        let mut body = Vec::new();
        loop {
            match answering.recv(&mut body, spin) {
                Ok(header) => answering.send(Header::new(2, header.correlation), &[IoSlice::new(&ANSWER)])?,
                Err(ChannelError::PeerClosed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    let mut body = Vec::new();
    let times = measure(rounds, || {
        asking.send(Header::new(1, 7), &[IoSlice::new(&QUESTION)])?;
        asking.recv(&mut body, spin)?;
        Ok(())
    })?;
    asking.close()?;
    answerer.join().map_err(|_| "the answerer panicked")??;
    Ok(times)
}

fn connect() -> Result<(Channel, Channel)> {
    let authority = Authority::create()?;
    let a = Credentials::new(&authority.issue("a")?)?;
    let b = Credentials::new(&authority.issue("b")?)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let tuning = Tuning::default();
    let preamble =
        Preamble { session: SessionId([0; 16]), purpose: Purpose::Open, lane: Lane::Calls, number: 0 };
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let stream = listener.accept()?.0;
            let preamble = minka_link::read_preamble(&stream, &tuning)?;
            Ok(minka_link::accept(&b, stream, &preamble, &tuning)?)
        });
        let asking = minka_link::connect(&a, address, "b", &preamble, &tuning)?;
        let answering: Result<Channel> = accepting.join().map_err(|_| "the answerer panicked")?;
        Ok((asking, answering?))
    })
}

//! Further channels of a session.

use std::{
    io::{IoSlice, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use minka_link::{Channel, ChannelError, SessionKeys, read_preamble};
use minka_wire::{
    frame::Header,
    preamble::{Lane, PREAMBLE_BYTES, Preamble, Purpose, SessionId, SessionSecret},
};

use crate::fixture::{NO_SPIN, Pair, listen};

const SECRET: SessionSecret = SessionSecret([9; 32]);

/// The bytes of a further channel's opening: the preamble in clear and encrypted.
const OPENING_BYTES: usize = PREAMBLE_BYTES + 5 + PREAMBLE_BYTES + 1 + 16;

/// A session's first channel, and what its ends make further ones with.
struct Session {
    pair: Pair,
    a: SessionKeys,
    b: SessionKeys,
    listener: TcpListener,
    address: SocketAddr,
}

impl Session {
    fn new() -> Self {
        let pair = Pair::new();
        let (a, b) = pair.connect();
        let (listener, address) = listen();
        Self { pair, a: SessionKeys::new(&a, &SECRET), b: SessionKeys::new(&b, &SECRET), listener, address }
    }

    fn accept(&self) -> (Preamble, Result<Channel, ChannelError>) {
        let stream = self.listener.accept().unwrap().0;
        let preamble = read_preamble(&stream, &self.pair.tuning).unwrap();
        let channel = self.b.accept(stream, &preamble, &self.pair.tuning);
        (preamble, channel)
    }

    fn connect(&self, preambles: &[Preamble]) -> Vec<Channel> {
        self.a.connect(self.address, preambles, &self.pair.tuning).unwrap()
    }

    /// What "a" sends first when it opens this one.
    fn opening(&self, preamble: Preamble) -> Vec<u8> {
        let _open = self.connect(&[preamble]);
        let mut opening = vec![0; OPENING_BYTES];
        self.listener.accept().unwrap().0.read_exact(&mut opening).unwrap();
        opening
    }

    /// What "b" makes of a connection that begins like this.
    fn visit(&self, opening: &[u8]) -> Result<Channel, ChannelError> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(opening).unwrap();
        drop(stream);
        self.accept().1
    }
}

fn further(lane: Lane, number: u32) -> Preamble {
    Preamble { session: SessionId([7; 16]), purpose: Purpose::Join, lane, number }
}

fn exchange(from: &mut Channel, to: &mut Channel, words: &[u8]) {
    from.send(Header::new(1, 2), &[IoSlice::new(words)]).unwrap();
    let mut body = Vec::new();
    to.recv(&mut body, NO_SPIN).unwrap();
    assert_eq!(body, words);
}

#[test]
fn they_come_several_at_a_time_and_carry_frames_both_ways() {
    let session = Session::new();
    let lanes = [Lane::Calls, Lane::Faults, Lane::Stream];
    for round in 0..3 {
        let preambles = [0, 1, 2].map(|lane| further(lanes[lane], 1 + 3 * round + lane as u32));
        let opened = session.connect(&preambles);
        assert_eq!(opened.len(), 3);
        for mut a in opened {
            let (preamble, b) = session.accept();
            let mut b = b.unwrap();
            assert!(preambles.contains(&preamble));
            assert_eq!((a.peer(), b.peer()), ("b", "a"));
            exchange(&mut a, &mut b, b"there");
            exchange(&mut b, &mut a, b"and back");
            exchange(&mut a, &mut b, &vec![5; 1 << 20]);
        }
    }
}

#[test]
fn who_connects_need_not_wait_for_the_other_end() {
    let session = Session::new();
    let mut a = session.connect(&[further(Lane::Calls, 1)]).remove(0);
    a.send(Header::new(1, 2), &[IoSlice::new(b"early")]).unwrap();
    let mut b = session.accept().1.unwrap();
    let mut body = Vec::new();
    b.recv(&mut body, NO_SPIN).unwrap();
    assert_eq!(body, b"early");
}

#[test]
fn what_was_recorded_is_not_accepted_again() {
    let session = Session::new();
    let opening = session.opening(further(Lane::Calls, 1));
    assert!(session.visit(&opening).is_ok());
    assert!(matches!(session.visit(&opening), Err(ChannelError::Protocol(_))));
}

#[test]
fn who_does_not_know_the_secret_is_refused_and_disturbs_nobody() {
    let session = Session::new();
    let stranger =
        Session { a: SessionKeys::new(&session.pair.connect().0, &SessionSecret([8; 32])), ..session };
    let forged = stranger.opening(further(Lane::Calls, 1));
    assert!(matches!(stranger.visit(&forged), Err(ChannelError::Forged)));
    let half = forged.get(..OPENING_BYTES - 1).unwrap();
    assert!(matches!(stranger.visit(half), Err(ChannelError::Dropped)));
    // The number is still to be had.
    let session = Session { a: SessionKeys::new(&stranger.pair.connect().0, &SECRET), ..stranger };
    let opening = session.opening(further(Lane::Calls, 1));
    assert!(session.visit(&opening).is_ok());
}

#[test]
fn a_preamble_that_was_changed_on_the_way_is_refused() {
    let session = Session::new();
    let opening = session.opening(further(Lane::Calls, 1));
    let changed = |preamble: Preamble| {
        let mut opening = opening.clone();
        opening.splice(..PREAMBLE_BYTES, preamble.encode());
        session.visit(&opening).map(drop)
    };
    let lane = changed(further(Lane::Faults, 1));
    assert!(matches!(lane, Err(ChannelError::PreambleChanged)), "{lane:?}");
    // Each has keys of its own.
    let number = changed(further(Lane::Calls, 2));
    assert!(matches!(number, Err(ChannelError::Forged)), "{number:?}");
}

#[test]
fn who_says_nothing_is_not_waited_for_without_end() {
    let mut session = Session::new();
    session.pair.tuning.handshake_ms = 100;
    let mut silent = TcpStream::connect(session.address).unwrap();
    silent.write_all(&further(Lane::Calls, 1).encode()).unwrap();
    let outcome = thread::scope(|scope| scope.spawn(|| session.accept().1).join().unwrap());
    assert!(matches!(outcome, Err(ChannelError::Slow { .. })), "{outcome:?}");
}

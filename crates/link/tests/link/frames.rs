//! What is sent arrives, whole and in order.

use std::{io::IoSlice, thread, time::Duration};

use minka_link::{Channel, ChannelError};
use minka_wire::frame::{
    BULK_BODY_BYTES_MAX, BULK_KIND, CONTROL_BODY_BYTES_MAX, FrameError, HEADER_BYTES, Header,
};
use proptest::prelude::*;

use crate::fixture::{NO_SPIN, Pair};

const BULK: u16 = BULK_KIND | 5;

/// Bytes in which a misplaced or repeated piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Sends a frame from one end and returns what the other receives.
fn carry(from: &mut Channel, to: &mut Channel, header: Header, body: &[IoSlice<'_>]) -> (Header, Vec<u8>) {
    thread::scope(|scope| {
        scope.spawn(|| from.send(header, body).unwrap());
        let mut received = Vec::new();
        let header = to.recv(&mut received, NO_SPIN).unwrap();
        (header, received)
    })
}

#[test]
fn frames_go_both_ways() {
    let (mut a, mut b) = Pair::new().connect();
    assert_eq!((a.peer(), b.peer()), ("b", "a"));
    let question = Header { kind: 3, flags: 9, length: 0, correlation: 77 };
    let (header, body) =
        carry(&mut a, &mut b, question, &[IoSlice::new(b"who goes"), IoSlice::new(b" there")]);
    assert_eq!(header, Header { length: 14, ..question });
    assert_eq!(body, b"who goes there");
    let (header, body) = carry(&mut b, &mut a, Header::new(4, 77), &[]);
    assert_eq!(header, Header::new(4, 77));
    assert_eq!(body, b"");
}

#[test]
fn the_longest_frames_arrive_and_longer_ones_are_not_sent() {
    let (mut a, mut b) = Pair::new().connect();
    let longest = pattern(BULK_BODY_BYTES_MAX as usize);
    let (header, body) = carry(&mut a, &mut b, Header::new(BULK, 1), &[IoSlice::new(&longest)]);
    assert_eq!(header.length, BULK_BODY_BYTES_MAX);
    assert!(body == longest);

    for (kind, limit) in [(BULK, BULK_BODY_BYTES_MAX), (1, CONTROL_BODY_BYTES_MAX)] {
        let body = vec![0; limit as usize];
        let error = a.send(Header::new(kind, 0), &[IoSlice::new(&body), IoSlice::new(&[0])]).unwrap_err();
        let length = u64::from(limit) + 1;
        assert!(matches!(error, ChannelError::Frame(e) if e == FrameError::TooLong { kind, length, limit }));
    }
    // The refusals have not put anything on the wire.
    let (header, body) = carry(&mut a, &mut b, Header::new(1, 2), &[IoSlice::new(b"still here")]);
    assert_eq!((header.correlation, body.as_slice()), (2, b"still here".as_slice()));
}

#[test]
fn halves_work_in_two_threads_at_once() {
    const FRAMES: u64 = 300;
    let (a, b) = Pair::new().connect();
    let body = pattern(50_000);
    thread::scope(|scope| {
        for end in [a, b] {
            let (mut sender, mut receiver) = end.split();
            let body = &body;
            scope.spawn(move || {
                for number in 0..FRAMES {
                    let length = (number as usize * 7919) % body.len();
                    sender.send(Header::new(BULK, number), &[IoSlice::new(&body[..length])]).unwrap();
                }
            });
            scope.spawn(move || {
                let mut received = Vec::new();
                for number in 0..FRAMES {
                    let spin = Duration::from_micros(number % 3 * 20);
                    let header = receiver.recv(&mut received, spin).unwrap();
                    assert_eq!(header.correlation, number);
                    assert!(received == body[..(number as usize * 7919) % body.len()]);
                }
            });
        }
    });
}

#[test]
fn queued_frames_go_out_together() {
    let (a, mut b) = Pair::new().connect();
    let (mut sender, _receiver) = a.split();
    let mut body = Vec::new();
    for number in 0..10 {
        sender.queue(Header::new(1, number), &[IoSlice::new(b"x")]).unwrap();
    }
    assert!(b.recv_timeout(&mut body, NO_SPIN, Duration::from_millis(50)).unwrap().is_none());
    sender.flush().unwrap();
    for number in 0..10 {
        assert_eq!(b.recv(&mut body, NO_SPIN).unwrap().correlation, number);
    }
    assert!(b.try_recv(&mut body).unwrap().is_none());
}

#[test]
fn a_vector_that_is_reused_holds_just_the_last_body() {
    let (mut a, mut b) = Pair::new().connect();
    let mut body = Vec::new();
    for length in [40_000, 0, 16_384 - HEADER_BYTES, 3, 100_000, 16_385 - HEADER_BYTES] {
        let sent = pattern(length);
        thread::scope(|scope| {
            scope.spawn(|| a.send(Header::new(BULK, 0), &[IoSlice::new(&sent)]).unwrap());
            b.recv(&mut body, NO_SPIN).unwrap();
        });
        assert!(body == sent, "a body of {length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sizes_cut_anyhow_arrive(
        frames in prop::collection::vec(prop::collection::vec(0..70_000_usize, 0..6), 1..8)
    ) {
        let (a, mut b) = Pair::new().connect();
        let (mut sender, _receiver) = a.split();
        let source = pattern(70_000);
        thread::scope(|scope| {
            let (frames, source) = (&frames, &source);
            scope.spawn(move || {
                for parts in frames {
                    let body: Vec<_> = parts.iter().map(|&length| IoSlice::new(&source[..length])).collect();
                    sender.send(Header::new(BULK, 0), &body).unwrap();
                }
            });
            let mut body = Vec::new();
            for parts in frames {
                b.recv(&mut body, NO_SPIN).unwrap();
                let expected: Vec<u8> = parts.iter().flat_map(|&length| &source[..length]).copied().collect();
                assert!(body == expected);
            }
        });
    }
}

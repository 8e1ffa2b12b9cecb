//! How channels end, and what each way of ending looks like.

use std::{
    io::IoSlice,
    thread,
    time::{Duration, Instant},
};

use minka_link::{Channel, ChannelError};
use minka_wire::frame::{BULK_KIND, Header};

use crate::{
    cable::{Cable, Fault},
    fixture::{NO_SPIN, Pair},
};

fn tell(channel: &mut Channel, number: u64) {
    channel.send(Header::new(1, number), &[IoSlice::new(b"word")]).unwrap();
}

fn hear(channel: &mut Channel) -> Result<u64, ChannelError> {
    channel.recv(&mut Vec::new(), NO_SPIN).map(|header| header.correlation)
}

#[test]
fn a_goodbye_comes_after_everything_else() {
    let (mut a, mut b) = Pair::new().connect();
    tell(&mut a, 1);
    tell(&mut a, 2);
    let (sender, mut receiver) = a.split();
    sender.close().unwrap();
    assert_eq!(hear(&mut b).unwrap(), 1);
    assert_eq!(hear(&mut b).unwrap(), 2);
    assert!(matches!(hear(&mut b), Err(ChannelError::PeerClosed)));
    // The other direction is not closed by that.
    tell(&mut b, 3);
    assert_eq!(receiver.recv(&mut Vec::new(), NO_SPIN).unwrap().correlation, 3);
    b.close().unwrap();
    assert!(matches!(receiver.recv(&mut Vec::new(), NO_SPIN), Err(ChannelError::PeerClosed)));
}

#[test]
fn a_program_that_dies_says_no_goodbye() {
    let (mut a, mut b) = Pair::new().connect();
    tell(&mut a, 1);
    drop(a);
    assert_eq!(hear(&mut b).unwrap(), 1);
    assert!(matches!(hear(&mut b), Err(ChannelError::Dropped)));
    // Its kernel refuses what still comes, which is noticed with the next use at the latest.
    let refused = (0..1000).find_map(|number| {
        thread::sleep(Duration::from_millis(1));
        b.send(Header::new(1, number), &[]).err()
    });
    assert!(matches!(refused, Some(ChannelError::Dropped)), "{refused:?}");
}

#[test]
fn shutting_down_wakes_whoever_waits() {
    let (a, _b) = Pair::new().connect();
    let closer = a.closer();
    let (mut sender, mut receiver) = a.split();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let first = receiver.recv(&mut Vec::new(), NO_SPIN).unwrap_err();
            (first, receiver.try_recv(&mut Vec::new()).unwrap_err())
        });
        let writing = scope.spawn(move || {
            let body = vec![0; 1 << 20];
            loop {
                // Nobody reads at the other end, so this blocks before long.
                if let Err(error) = sender.send(Header::new(BULK_KIND, 0), &[IoSlice::new(&body)]) {
                    return error;
                }
            }
        });
        thread::sleep(Duration::from_millis(100));
        closer.shutdown();
        let (first, second) = waiting.join().unwrap();
        assert!(matches!(first, ChannelError::Closed), "{first:?}");
        assert!(matches!(second, ChannelError::Closed), "{second:?}");
        let error = writing.join().unwrap();
        assert!(matches!(error, ChannelError::Closed), "{error:?}");
    });
}

#[test]
fn a_peer_that_dies_in_a_frame_leaves_it_truncated() {
    let pair = Pair::new();
    for (cut_after, whole_records) in [(3, 0), (60_000, 3), (16_384 + 22, 1)] {
        let mut cable = None;
        let (a, b) = pair.try_connect_by(|address| cable.insert(Cable::to(address)).address);
        let (mut a, mut b) = (a.unwrap(), b.unwrap());
        cable.unwrap().set(Fault::CutAfter(cut_after));
        let body = vec![1; 100_000];
        a.send(Header::new(BULK_KIND, 0), &[IoSlice::new(&body)]).unwrap();
        match hear(&mut b) {
            Err(ChannelError::Truncated { received }) => assert_eq!(received, whole_records * 16_384),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn changed_bytes_are_noticed() {
    let mut cable = None;
    let (a, b) = Pair::new().try_connect_by(|address| cable.insert(Cable::to(address)).address);
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    tell(&mut a, 1);
    assert_eq!(hear(&mut b).unwrap(), 1);
    cable.unwrap().set(Fault::ChangeNext);
    tell(&mut a, 2);
    assert!(matches!(hear(&mut b), Err(ChannelError::Forged)));
}

#[test]
fn changed_bytes_in_the_middle_of_a_body_are_noticed() {
    let mut cable = None;
    let (a, b) = Pair::new().try_connect_by(|address| cable.insert(Cable::to(address)).address);
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    cable.unwrap().set(Fault::ChangeNext);
    let error = thread::scope(|scope| {
        scope.spawn(|| a.send(Header::new(BULK_KIND, 0), &[IoSlice::new(&vec![1; 300_000])]));
        hear(&mut b).unwrap_err()
    });
    // The changed byte may also be one of a record's header, after which nothing makes sense.
    assert!(matches!(error, ChannelError::Forged | ChannelError::Protocol(_)), "{error:?}");
}

#[test]
fn bytes_from_somebody_else_are_noticed() {
    let strange: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", "not encrypted"),
        (&[21, 3, 3, 0, 2, 2, 80], "not encrypted"),
        (&[23, 3, 3, 0, 16], "nothing in it"),
        (&[23, 3, 3, 0x41, 1], "too long"),
        (&[23, 3, 3, 0, 17, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "decrypt"),
    ];
    let pair = Pair::new();
    for (bytes, expected) in strange {
        let mut cable = None;
        let (a, b) = pair.try_connect_by(|address| cable.insert(Cable::to(address)).address);
        let (mut a, mut b) = (a.unwrap(), b.unwrap());
        cable.unwrap().set(Fault::Insert(bytes.to_vec()));
        tell(&mut a, 1);
        let error = hear(&mut b).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_peer_that_no_longer_reads_counts_as_dead() {
    let mut pair = Pair::new();
    pair.tuning.dead_after_ms = 1_000;
    let (mut a, _b) = pair.connect();
    let body = vec![0; 1 << 20];
    let begin = Instant::now();
    let error = loop {
        if let Err(error) = a.send(Header::new(BULK_KIND, 0), &[IoSlice::new(&body)]) {
            break error;
        }
    };
    assert!(matches!(error, ChannelError::Silent), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn waiting_can_be_limited() {
    let (_a, mut b) = Pair::new().connect();
    let mut body = Vec::new();
    for spin in [Duration::ZERO, Duration::from_millis(5)] {
        let begin = Instant::now();
        let limit = Duration::from_millis(50);
        assert!(b.recv_timeout(&mut body, spin, limit).unwrap().is_none());
        assert!(begin.elapsed() >= limit);
    }
}

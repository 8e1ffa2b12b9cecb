//! Keys for datagrams: only nodes of one cluster get any.

use std::net::TcpStream;
use std::thread;

use minka_link::{Authority, ChannelError, DatagramKeys, Tuning, agree_on_keys, answer_keys, read_preamble};
use minka_wire::preamble::Purpose;

use crate::fixture::{Pair, credentials, listen};

type Outcome = Result<(String, DatagramKeys), ChannelError>;

fn answer(pair: &Pair, stream: TcpStream) -> Outcome {
    let preamble = read_preamble(&stream, &pair.tuning)?;
    assert_eq!(preamble.purpose, Purpose::Keys);
    answer_keys(&pair.b, stream, &preamble, &pair.tuning)
}

fn agree(pair: &Pair) -> (Result<DatagramKeys, ChannelError>, Outcome) {
    let (listener, address) = listen();
    thread::scope(|scope| {
        let b = scope.spawn(|| answer(pair, listener.accept().unwrap().0));
        (agree_on_keys(&pair.a, address, "b", &pair.tuning), b.join().unwrap())
    })
}

#[test]
fn two_nodes_agree_on_keys_and_each_time_on_others() {
    let pair = Pair::new();
    let (a, b) = agree(&pair);
    let (mut a, (name, mut b)) = (a.unwrap(), b.unwrap());
    assert_eq!((name.as_str(), a.id), ("a", b.id));
    let mut there = a.sealer.seal(b"there").unwrap();
    let mut back = b.sealer.seal(b"back").unwrap();
    assert_eq!(b.opener.open(&mut there).unwrap(), b"there");
    assert_eq!(a.opener.open(&mut back).unwrap(), b"back");
    let again = agree(&pair).0.unwrap();
    assert_ne!(again.id, a.id);
    let mut late = a.sealer.seal(b"late").unwrap();
    let (_, mut other) = agree(&pair).1.unwrap();
    assert!(other.opener.open(&mut late).is_err());
}

#[test]
fn a_node_of_another_cluster_gets_no_keys() {
    let [ours, theirs] = [(); 2].map(|()| Authority::create().unwrap());
    let mut pair = Pair::of(credentials(&theirs, "a"), credentials(&ours, "b"));
    pair.tuning = Tuning { handshake_ms: 20_000, ..Tuning::default() };
    let (a, b) = agree(&pair);
    assert!(a.is_err() && b.is_err(), "{a:?} {b:?}");
}

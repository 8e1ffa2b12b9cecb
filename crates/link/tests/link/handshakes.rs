//! Who gets in, and who does not.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use minka_link::{Authority, ChannelError, Credentials, Tuning};
use minka_wire::preamble::{Lane, Preamble, PreambleError, Purpose};
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::{
    cable::{Cable, Fault},
    fixture::{Outcome, PREAMBLE, Pair, accept, credentials, listen},
};

fn refusal(outcome: Outcome) -> Error {
    match outcome {
        Err(ChannelError::Handshake(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Lets `stranger` connect to node "b", and returns what "b" makes of it.
fn visit(tuning: Tuning, stranger: impl FnOnce(TcpStream) + Send) -> Outcome {
    let b = credentials(&Authority::create().unwrap(), "b");
    let (listener, address) = listen();
    thread::scope(|scope| {
        scope.spawn(move || stranger(TcpStream::connect(address).unwrap()));
        accept(&b, listener.accept().unwrap().0, &tuning)
    })
}

#[test]
fn nodes_of_another_cluster_are_refused() {
    let [ours, theirs] = [(); 2].map(|()| Authority::create().unwrap());
    let (a, b) = Pair::of(credentials(&ours, "a"), credentials(&theirs, "b")).try_connect();
    assert_eq!(refusal(a), Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert_eq!(refusal(b), Error::AlertReceived(AlertDescription::UnknownCA));

    // A node that trusts everybody gets no further: it is "b" that refuses here.
    let mut keys = theirs.issue("a").unwrap();
    keys.authority.push_str(&ours.issue("a").unwrap().authority);
    let gullible = Credentials::new(&keys).unwrap();
    let (a, b) = Pair::of(gullible, credentials(&ours, "b")).try_connect();
    assert_eq!(refusal(a), Error::AlertReceived(AlertDescription::UnknownCA));
    assert_eq!(refusal(b), Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn another_node_than_expected_is_refused() {
    let authority = Authority::create().unwrap();
    let (a, b) = Pair::of(credentials(&authority, "a"), credentials(&authority, "c")).try_connect();
    assert!(
        matches!(
            refusal(a),
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        ),
        "the certificate is for another name"
    );
    assert!(matches!(refusal(b), Error::AlertReceived(_)));
    let pair = Pair::new();
    let outcome = minka_link::connect(&pair.a, listen().1, "No Node", &PREAMBLE, &pair.tuning);
    assert!(matches!(outcome, Err(ChannelError::Name { name }) if name == "No Node"));
}

#[test]
fn later_channels_to_the_same_node_are_cheap() {
    let pair = Pair::new();
    for round in 0..4 {
        let (a, b) = pair.connect();
        assert_eq!((a.peer(), b.peer()), ("b", "a"));
        assert_eq!((a.is_resumed(), b.is_resumed()), (round > 0, round > 0), "round {round}");
    }
    // A program that knows nothing of earlier channels costs a full handshake, and nothing else.
    let (a, b) = Pair { b: credentials(&Authority::create().unwrap(), "b"), ..pair }.try_connect();
    assert!(matches!(refusal(a), Error::InvalidCertificate(_)));
    assert!(matches!(refusal(b), Error::AlertReceived(_)));
}

#[test]
fn a_node_can_rehearse_with_itself() {
    let pair = Pair::new();
    minka_link::rehearse(&pair.a).unwrap();
    pair.connect();
}

#[test]
fn a_preamble_that_was_changed_on_the_way_is_refused() {
    let mut cable = None;
    let (a, b) = Pair::new().try_connect_by(|address| {
        let cable = cable.insert(Cable::to(address));
        // A byte of the session id.
        cable.set(Fault::Change(9));
        cable.address
    });
    assert!(matches!(b, Err(ChannelError::PreambleChanged)), "{b:?}");
    assert!(matches!(a, Err(ChannelError::Dropped)), "{a:?}");
}

#[test]
fn the_preamble_alone_is_taken_from_the_socket() {
    let preamble = Preamble { purpose: Purpose::Join, lane: Lane::Faults, ..PREAMBLE };
    let (listener, address) = listen();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(&[&preamble.encode()[..], b"ClientHello"].concat()).unwrap();
    let mut stream = listener.accept().unwrap().0;
    assert_eq!(minka_link::read_preamble(&stream, &Tuning::default()).unwrap(), preamble);
    drop(peer);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "ClientHello");
}

#[test]
fn whatever_is_no_node_is_refused() {
    let outcome = visit(Tuning::default(), |mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: b.node.minka\r\n\r\n").unwrap();
    });
    assert!(matches!(outcome, Err(ChannelError::Preamble(PreambleError::BadMagic { .. }))));

    let outcome = visit(Tuning::default(), |mut stream| stream.write_all(b"MINKA").unwrap());
    assert!(matches!(outcome, Err(ChannelError::Dropped)));

    let outcome = visit(Tuning::default(), |mut stream| {
        stream.write_all(&PREAMBLE.encode()).unwrap();
        stream.write_all(&[0x5a; 4096]).unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    assert!(matches!(refusal(outcome), Error::InvalidMessage(_)));

    let outcome = visit(Tuning::default(), |mut stream| stream.write_all(&PREAMBLE.encode()).unwrap());
    assert!(matches!(outcome, Err(ChannelError::Dropped)));
}

/// A ClientHello as of 2008: TLS 1.2, one cipher, one curve, one kind of signature.
fn old_client_hello() -> Vec<u8> {
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 0x17];
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[0],
        &[0, 2, 0xc0, 0x2b],
        &[1, 0],
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let message = [&[1, 0, 0, body.len() as u8], &body[..]].concat();
    [&[22, 3, 1, 0, message.len() as u8], &message[..]].concat()
}

/// A ServerHello as of 2008.
fn old_server_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[9; 32], &[0], &[0xc0, 0x2b], &[0]].concat();
    let message = [&[2, 0, 0, body.len() as u8], &body[..]].concat();
    [&[22, 3, 3, 0, message.len() as u8], &message[..]].concat()
}

#[test]
fn old_tls_is_refused() {
    let mut alert = [0; 7];
    let outcome = visit(Tuning::default(), |mut stream| {
        stream.write_all(&[&PREAMBLE.encode()[..], &old_client_hello()].concat()).unwrap();
        stream.read_exact(&mut alert).unwrap();
    });
    assert_eq!(
        refusal(outcome),
        Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
    );
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, AlertDescription::ProtocolVersion.into()]);

    let pair = Pair::new();
    let (listener, address) = listen();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(&old_server_hello()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        minka_link::connect(&pair.a, address, "b", &PREAMBLE, &pair.tuning)
    });
    assert_eq!(
        refusal(outcome),
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
    );
}

#[test]
fn nobody_may_take_forever() {
    let tuning = Tuning { handshake_ms: 150, ..Tuning::default() };
    let too_slow = |outcome: Outcome| match outcome {
        Err(ChannelError::Slow { limit }) => assert_eq!(limit, Duration::from_millis(150)),
        other => panic!("{other:?}"),
    };
    let begin = Instant::now();
    // A byte now and then, which is progress of a kind: in the preamble, and after it.
    for hasty in [0, 32] {
        too_slow(visit(tuning.clone(), move |mut stream| {
            let words = [&PREAMBLE.encode()[..], &[22, 3, 1, 1, 0], &[0; 100]].concat();
            stream.write_all(&words[..hasty]).unwrap();
            for byte in &words[hasty..] {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }));
    }
    // And the other way round: a node that takes the connection, and says nothing.
    let (listener, address) = listen();
    too_slow(minka_link::connect(&Pair::new().a, address, "b", &PREAMBLE, &tuning));
    drop(listener);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    let (listener, address) = listen();
    drop(listener);
    let pair = Pair::new();
    let error = minka_link::connect(&pair.a, address, "b", &PREAMBLE, &pair.tuning).unwrap_err();
    assert_eq!(error.to_string(), format!("reach {address}"));
}

#[test]
fn no_change_on_the_way_goes_unnoticed() {
    let mut pair = Pair::new();
    // A length that was changed makes the other end wait for what never comes.
    pair.tuning.handshake_ms = 100;
    let mut refused = 0;
    for at in (0..900).step_by(13) {
        let (a, b) = pair.try_connect_by(|address| {
            let cable = Cable::to(address);
            cable.set(Fault::Change(at));
            cable.address
        });
        // TLS ignores the version in the header of a record; everything else has to matter, and to both.
        assert_eq!(a.is_ok(), b.is_ok(), "byte {at}: {a:?}, {b:?}");
        refused += usize::from(a.is_err());
    }
    assert!(refused > 30, "only {refused} changes were noticed");
}

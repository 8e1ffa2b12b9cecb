//! Peers that speak TLS 1.3 by another implementation, properly or not: rustls's own.

use std::{
    io::{IoSlice, Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

use minka_link::{Authority, Channel, ChannelError, Credentials, NodeKeys, Tuning};
use minka_wire::{
    frame::{BULK_BODY_BYTES_MAX, BULK_KIND, FrameError, HEADER_BYTES, Header},
    preamble::PREAMBLE_BYTES,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::fixture::{NO_SPIN, Outcome, PREAMBLE, accept, credentials, listen};

type Stranger = StreamOwned<ClientConnection, TcpStream>;

/// What the stranger shows of itself: its keys, or nothing.
fn config(keys: &NodeKeys, show: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(keys.authority.as_bytes()).unwrap()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    Arc::new(if show {
        let certificate = CertificateDer::from_pem_slice(keys.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        builder.with_no_client_auth()
    })
}

/// Lets a stranger connect to `b`, in whose cluster it may be.
fn meet(config: Arc<ClientConfig>, b: &Credentials) -> (std::io::Result<Stranger>, Outcome) {
    let (listener, address) = listen();
    thread::scope(|scope| {
        let b = scope.spawn(|| accept(b, listener.accept().unwrap().0, &Tuning::default()));
        let name = "b.node.minka".try_into().unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        (&stream).write_all(&PREAMBLE.encode()).unwrap();
        let mut stranger = StreamOwned::new(connection, stream);
        let greeting = stranger
            .write_all(&PREAMBLE.encode())
            .and_then(|()| stranger.read_exact(&mut [0; PREAMBLE_BYTES]));
        (greeting.map(|()| stranger), b.join().unwrap())
    })
}

fn befriend() -> (Stranger, Channel) {
    let authority = Authority::create().unwrap();
    let config = config(&authority.issue("a").unwrap(), true);
    let (stranger, b) = meet(config, &credentials(&authority, "b"));
    (stranger.unwrap(), b.unwrap())
}

#[test]
fn the_records_are_those_of_tls() {
    let (mut stranger, b) = befriend();
    let sent: Vec<u8> = (0..200_000).map(|at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let header = Header::new(BULK_KIND, 5).with_length(sent.len()).unwrap();
    let (mut sender, mut receiver) = b.split();
    thread::scope(|scope| {
        scope.spawn(|| {
            stranger.write_all(&[&header.encode(), &sent[..]].concat()).unwrap();
            let mut heard = vec![0; HEADER_BYTES + sent.len()];
            stranger.read_exact(&mut heard).unwrap();
            assert_eq!(heard[..HEADER_BYTES], header.encode());
            assert!(heard[HEADER_BYTES..] == sent);
            stranger.conn.send_close_notify();
            stranger.flush().unwrap();
            assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "a proper end of the stream");
        });
        let mut body = Vec::new();
        assert_eq!(receiver.recv(&mut body, NO_SPIN).unwrap(), header);
        assert!(body == sent);
        sender.send(header, &[IoSlice::new(&sent[..77_777]), IoSlice::new(&sent[77_777..])]).unwrap();
        assert!(matches!(receiver.recv(&mut body, NO_SPIN), Err(ChannelError::PeerClosed)));
        sender.close().unwrap();
    });
}

#[test]
fn keys_are_changed_when_the_peer_wants_it() {
    let (mut stranger, mut b) = befriend();
    let mut body = Vec::new();
    for number in 0..5 {
        let header = Header::new(1, number).with_length(3).unwrap();
        // rustls asks for an answer in kind; the answer is read along with what follows.
        stranger.conn.refresh_traffic_keys().unwrap();
        stranger.write_all(&[&header.encode()[..], b"new"].concat()).unwrap();
        assert_eq!(b.recv(&mut body, NO_SPIN).unwrap(), header);
        b.send(header, &[IoSlice::new(&body)]).unwrap();
        let mut heard = [0; HEADER_BYTES + 3];
        stranger.read_exact(&mut heard).unwrap();
        assert_eq!(heard[HEADER_BYTES..], *b"new");
    }
}

#[test]
fn frames_out_of_form_are_refused() {
    let header = |kind, length| Header { kind, flags: 0, length, correlation: 0 }.encode().to_vec();
    let mut later = header(1, 0);
    later[4] = 2;
    type Case = (&'static str, Vec<u8>, fn(&ChannelError) -> bool);
    let cases: [Case; 6] = [
        ("a later version", later, |error| {
            matches!(error, ChannelError::Frame(FrameError::WrongVersion { theirs: 2, ours: 1 }))
        }),
        ("no frame", vec![b'x'; 500], |error| {
            matches!(error, ChannelError::Frame(FrameError::BadMagic { .. }))
        }),
        ("too long for its class", header(1, 1 << 21), |error| {
            matches!(error, ChannelError::Frame(FrameError::TooLong { length: 0x20_0000, .. }))
        }),
        ("too long for any class", header(BULK_KIND, BULK_BODY_BYTES_MAX + 1), |error| {
            matches!(error, ChannelError::Frame(FrameError::TooLong { .. }))
        }),
        ("half a header", header(1, 0)[..12].to_vec(), |error| {
            matches!(error, ChannelError::Protocol("a frame that begins with less than a header"))
        }),
        ("two in a record", [header(1, 0), header(1, 0)].concat(), |error| {
            matches!(error, ChannelError::Protocol("more than the body of a frame"))
        }),
    ];
    for (what, bytes, expected) in cases {
        let (mut stranger, mut b) = befriend();
        stranger.write_all(&bytes).unwrap();
        let error = b.recv(&mut Vec::new(), NO_SPIN).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
    }
}

#[test]
fn a_frame_that_comes_in_pieces_is_put_together() {
    let (mut stranger, mut b) = befriend();
    let sent: Vec<u8> = (0..100_000).map(|at: u32| at as u8).collect();
    let header = Header::new(BULK_KIND, 5).with_length(sent.len()).unwrap();
    let bytes = [&header.encode(), &sent[..]].concat();
    let (last, pieces) = bytes.split_at(90_000).1.split_last().unwrap();
    for piece in [&bytes[..90_000], pieces] {
        stranger.write_all(piece).unwrap();
        // A new vector every time: the beginning of the frame must not be lost with the old one.
        assert!(b.recv_timeout(&mut Vec::new(), NO_SPIN, Duration::from_millis(50)).unwrap().is_none());
        assert!(b.try_recv(&mut Vec::new()).unwrap().is_none());
    }
    stranger.write_all(&[*last]).unwrap();
    let mut body = vec![9; 3];
    assert_eq!(b.recv(&mut body, NO_SPIN).unwrap(), header);
    assert!(body == sent);
}

#[test]
fn a_body_with_too_much_is_refused_and_one_with_too_little_is_truncated() {
    let begin = [&Header::new(1, 0).with_length(10).unwrap().encode()[..], b"12345"].concat();
    let (mut stranger, mut b) = befriend();
    stranger.write_all(&begin).unwrap();
    assert!(b.recv_timeout(&mut Vec::new(), NO_SPIN, Duration::from_millis(50)).unwrap().is_none());
    stranger.write_all(b"67890A").unwrap();
    let error = b.recv(&mut Vec::new(), NO_SPIN).unwrap_err();
    assert!(matches!(error, ChannelError::Protocol("more than the body of a frame")), "{error:?}");

    let (mut stranger, mut b) = befriend();
    stranger.write_all(&begin).unwrap();
    stranger.conn.send_close_notify();
    stranger.flush().unwrap();
    let error = b.recv(&mut Vec::new(), NO_SPIN).unwrap_err();
    assert!(matches!(error, ChannelError::Truncated { received: 29 }), "{error:?}");
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let authority = Authority::create().unwrap();
    let (stranger, b) = meet(config(&authority.issue("a").unwrap(), false), &credentials(&authority, "b"));
    assert!(matches!(b, Err(ChannelError::Handshake(Error::NoCertificatesPresented))), "{b:?}");
    assert!(stranger.unwrap_err().to_string().contains("CertificateRequired"));
}

/// An authority that signs anything.
struct Lax {
    key: KeyPair,
    certificate: String,
}

impl Lax {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Lax { certificate: Lax::params().self_signed(&key).unwrap().pem(), key }
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> NodeKeys {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(Lax::params(), &self.key)).unwrap();
        NodeKeys {
            authority: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

#[test]
fn certificates_have_to_be_for_nodes_and_in_force() {
    let authority = Lax::new();
    let b = Credentials::new(&authority.sign(&["b.node.minka"], |_| {})).unwrap();
    let meet = |keys: &NodeKeys| meet(config(keys, true), &b).1;

    assert_eq!(meet(&authority.sign(&["a.node.minka"], |_| {})).unwrap().peer(), "a");

    let outcome = meet(&authority.sign(&["a.example.org"], |_| {}));
    assert!(matches!(outcome, Err(ChannelError::Nameless)), "{outcome:?}");

    let expired = authority.sign(&["a.node.minka"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let outcome = meet(&expired);
    assert!(
        matches!(
            outcome,
            Err(ChannelError::Handshake(Error::InvalidCertificate(CertificateError::ExpiredContext { .. })))
        ),
        "{outcome:?}"
    );

    let for_servers = authority.sign(&["a.node.minka"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let outcome = meet(&for_servers);
    assert!(matches!(outcome, Err(ChannelError::Handshake(Error::InvalidCertificate(_)))), "{outcome:?}");

    assert!(Credentials::new(&authority.sign(&["b.example.org"], |_| {})).is_err());
}

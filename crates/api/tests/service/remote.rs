//! The interface as other machines meet it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use minka_access::Role;
use minka_api::{Remote, Service};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Answer, LIMIT, Node};

/// A node that other machines may ask.
struct Office {
    node: Node,
    service: Option<Service>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Office {
    fn open() -> Self {
        let node = Node::start();
        let path = |name: &str| node.directory.path().join(name);
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let remote = Remote {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tokens: path("tokens.toml"),
            certificate: path("cert.pem"),
            key: path("key.pem"),
            audit: Some(path("audit.log")),
        };
        let service = minka_api::serve_remote(Arc::clone(&node.daemon), &remote).unwrap();
        let address = service.address().unwrap();
        Office { node, service: Some(service), address, certificate: made.cert.der().clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.directory.path().join(name)
    }

    fn token(&self, name: &str, role: Role) -> String {
        minka_access::add(&self.path("tokens.toml"), name, role).unwrap()
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        StreamOwned::new(connection, stream)
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let token =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\n{token}{kind}content-length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = Vec::new();
        match stream.read_to_end(&mut text) {
            // The service ends connections without a farewell.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => panic!("{error}"),
            _ => Answer::read(&String::from_utf8(text).unwrap()),
        }
    }
}

#[test]
fn a_certificate_that_is_exchanged_is_shown_from_then_on() {
    let mut office = Office::open();
    let reader = office.token("reader", Role::Read);
    assert_eq!(office.ask(&reader, "GET", "/v1/node", "").status, 200);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let put = |name: &str, text: &str| {
        std::fs::write(office.path("new"), text).unwrap();
        std::fs::rename(office.path("new"), office.path(name)).unwrap();
    };
    put("key.pem", &made.signing_key.serialize_pem());
    // Half of a pair is of no use.
    assert_eq!(office.ask(&reader, "GET", "/v1/node", "").status, 200);
    put("cert.pem", &made.cert.pem());
    office.certificate = made.cert.der().clone();
    assert_eq!(office.ask(&reader, "GET", "/v1/node", "").status, 200);
}

impl Drop for Office {
    fn drop(&mut self) {
        drop(self.service.take());
    }
}

#[test]
fn tokens_allow_what_their_roles_say_and_what_is_changed_is_written_down() {
    let office = Office::open();
    let [reader, operator, admin] = [Role::Read, Role::Operate, Role::Admin]
        .map(|role| office.token(&format!("{role:?}").to_lowercase(), role));
    let pid = office.node.process.id();
    let migrate = format!("/v1/processes/{pid}/migrate");
    let check = |token: &str, method: &str, path: &str, body: &str, status: u16| {
        let answer = office.ask(token, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer
    };
    check("", "GET", "/v1/node", "", 401);
    check("reader.guess", "GET", "/v1/node", "", 401);
    let told = check(&reader, "GET", "/v1/node", "", 200);
    assert_eq!(told.json()["node"], "a");
    // A reader sees everybody's processes, and moves none.
    assert_eq!(check(&reader, "GET", &format!("/v1/processes/{pid}"), "", 200).json()["command"], "sleep");
    check(&reader, "POST", &migrate, r#"{"to":"b"}"#, 403);
    check(&reader, "GET", &format!("/v1/processes/{pid}/events"), "", 403);
    // The process could be moved by these, were it not immovable here.
    check(&operator, "POST", &migrate, r#"{"to":"b"}"#, 409);
    check(&operator, "POST", "/v1/node", r#"{"block":{"on":true}}"#, 403);
    check(&admin, "POST", "/v1/node", r#"{"block":{"on":true}}"#, 409);
    let audit = std::fs::read_to_string(office.path("audit.log")).unwrap();
    let lines: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |line: &serde_json::Value| (line["token"].clone(), line["status"].as_u64().unwrap());
    let expected = [("-", 401), ("-", 401), ("read", 403), ("read", 403), ("operate", 409), ("operate", 403)];
    for (line, (name, status)) in lines.iter().zip(expected) {
        assert_eq!(told(line), (name.into(), status), "{audit}");
    }
    assert_eq!(lines.len(), expected.len() + 1);
    assert!(!audit.contains(&reader) && !audit.contains("guess"), "{audit}");
}

#[test]
fn guessers_wait_and_nobody_else_does() {
    let office = Office::open();
    let token = office.token("ana", Role::Read);
    assert_eq!(office.ask(&token, "GET", "/v1/node", "").status, 200);
    let barrier = Barrier::new(9);
    let (usual, slowest) = std::thread::scope(|scope| {
        let ask = || {
            let begun = Instant::now();
            assert_eq!(office.ask(&token, "GET", "/v1/node", "").status, 200);
            begun.elapsed()
        };
        let usual = (0..20).map(|_| ask()).max().unwrap();
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..4 {
                    assert_eq!(office.ask("ana.guess", "GET", "/v1/node", "").status, 401);
                }
            });
        }
        barrier.wait();
        (usual, (0..20).map(|_| ask()).max().unwrap())
    });
    let last = Instant::now();
    let answer = office.ask("ana.guess", "GET", "/v1/node", "");
    assert!(answer.status == 401 && answer.head.contains("retry-after: "), "{}", answer.head);
    assert!(last.elapsed() >= Duration::from_secs(2), "{:?}", last.elapsed());
    // A guesser waits two seconds by now.
    assert!(slowest < usual + Duration::from_secs(1), "{slowest:?} instead of {usual:?}");
}

#[test]
fn a_crowd_of_idle_machines_makes_room_for_who_asks() {
    let office = Office::open();
    let token = office.token("ana", Role::Read);
    let _idle: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(office.address).unwrap()).collect();
    assert_eq!(office.ask(&token, "GET", "/v1/node", "").status, 200);
    assert_eq!(office.node.get("/v1/node").status, 200);
}

//! Callers who guess, break off, ask all at once, or want to know whom they talk to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use minka_access::{self as auth, Role};

use crate::support::Service;

#[test]
fn over_tls_the_service_proves_who_it_is_and_says_nothing_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let service = Service::start(1, |options| options.tls = Some((chain.clone(), key.clone())));
    let client = |trusted: &rustls::pki_types::CertificateDer<'static>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap());
        let stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut stream = rustls::StreamOwned::new(connection.unwrap(), stream);
        stream.write_all(b"GET /api/v1/health HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // The service ends connections without a farewell.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(String::from_utf8(answer).unwrap()),
        }
    };
    let answer = client(made.cert.der()).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\"status\":\"ok\""), "{answer}");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    assert!(client(other.cert.der()).is_err(), "a certificate that nobody trusts was taken");

    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"GET /api/v1/health HTTP/1.0\r\n\r\n").unwrap();
    let mut clear = Vec::new();
    let _ = stream.read_to_end(&mut clear);
    assert!(!String::from_utf8_lossy(&clear).contains("HTTP"), "{clear:?}");

    let wrong = minka_access::tls::configuration(&key, &chain).err().unwrap().to_string();
    assert!(wrong.contains("certificate"), "{wrong}");
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    assert!(minka_access::tls::configuration(&chain, &key).is_err(), "another one's key was taken");
}

#[test]
fn ten_guessers_do_not_delay_a_right_token() {
    let service = Service::start(1, |_| {});
    let token = auth::add(&service.tokens(), "ana", Role::Operate).unwrap();
    let ask = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let begun = Instant::now();
        let status =
            service.ask("POST", "/rest/v1/agentSettings", &headers, r#"{"sample_interval": 100}"#).status;
        (status, begun.elapsed())
    };
    assert_eq!(ask(&token).0, 200);
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let alone = median(&mut (0..50).map(|_| ask(&token).1).collect());
    let (gate, stop) = (Barrier::new(11), std::sync::atomic::AtomicBool::new(false));
    let order = std::sync::atomic::Ordering::Relaxed;
    let (mut crowded, mut limited) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    gate.wait();
                    let mut limited = 0;
                    for guess in 0.. {
                        if guess >= 3 && stop.load(order) {
                            break;
                        }
                        let (status, time) = ask("ana.0123456789abcdef");
                        assert!(status == 401 && time < Duration::from_secs(5), "{status} {time:?}");
                        limited += usize::from(time > Duration::from_secs(1));
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    limited
                })
            })
            .collect();
        gate.wait();
        crowded.extend((0..50).map(|_| ask(&token)));
        stop.store(true, order);
        limited = guessers.into_iter().map(|guesser| guesser.join().unwrap()).sum();
    });
    assert!(limited > 0 && crowded.iter().all(|(status, _)| *status == 200));
    let crowded = median(&mut crowded.into_iter().map(|(_, time)| time).collect());
    assert!(crowded < alone + Duration::from_millis(100), "{alone:?} alone, {crowded:?} among guessers");
}

#[test]
fn sixty_four_scrapers_are_served() {
    let service = Service::start(8, |_| {});
    std::thread::scope(|scope| {
        for number in 0..64 {
            let service = &service;
            scope.spawn(move || {
                let open = number % 2 == 0;
                let accept = if open { "application/openmetrics-text; version=1.0.0" } else { "text/plain" };
                for _ in 0..5 {
                    let answer = service.ask("GET", "/metrics", &[("Accept", accept)], "");
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.body.matches("hw_gpu_info{").count(), 8);
                    assert_eq!(answer.body.ends_with("# EOF\n"), open);
                    assert!(answer.head.contains(accept.split(';').next().unwrap()), "{}", answer.head);
                }
            });
        }
    });
}

#[test]
fn nothing_is_told_without_a_token_where_one_is_required() {
    let service = Service::start(1, |options| options.require_token = true);
    let token = auth::add(&service.tokens(), "ana", Role::Read).unwrap();
    assert_eq!(service.get("/api/v1/health").status, 200);
    assert_eq!(service.get("/metrics").status, 401);
    assert_eq!(
        service.ask("GET", "/metrics", &[("Authorization", &format!("Bearer {token}"))], "").status,
        200
    );
}

#[test]
fn broken_requests_end_only_their_own_connection() {
    let service = Service::start(1, |_| {});
    let hostile: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /rest/v1/groups HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /%00%ff/../../etc/passwd HTTP/1.0\r\n\r\n",
        b"POST /rest/v1/groups HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    for bytes in hostile {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.0 200"));
    }
    let large = "x".repeat(70_000);
    let token = auth::add(&service.tokens(), "ana", Role::Admin).unwrap();
    let headers = [("Authorization", &*format!("Bearer {token}")), ("Content-Type", "application/json")];
    assert_eq!(service.ask("POST", "/rest/v1/groups", &headers, &large).status, 413);
    assert_eq!(service.get("/api/v1/health").status, 200);
}

//! What the service asks of others over TLS: their devices, and to be told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use minka_accel_service::http::Url;
use minka_access::tls;

use crate::support::Service;

const TRUSTED: &str = "MINKA_TEST_TRUSTED";

/// The trusted authorities are said by the environment, so the test is run again in one of its own.
#[test]
fn over_tls_others_are_asked_and_told_only_if_they_prove_who_they_are() {
    let name = "towards::over_tls_others_are_asked_and_told_only_if_they_prove_who_they_are";
    let Some(directory) = std::env::var_os(TRUSTED).map(std::path::PathBuf::from) else {
        let directory = tempfile::tempdir().unwrap();
        for owner in ["trusted", "stranger"] {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(directory.path().join(format!("{owner}.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            std::fs::write(directory.path().join(format!("{owner}.key")), key).unwrap();
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env(TRUSTED, directory.path());
        again.env("SSL_CERT_FILE", directory.path().join("trusted.pem")).env_remove("SSL_CERT_DIR");
        assert!(again.status().unwrap().success());
        return;
    };
    let of = |owner: &str| (directory.join(format!("{owner}.pem")), directory.join(format!("{owner}.key")));
    let asked = |owner: &str| {
        let devices = Service::start(2, |options| options.tls = Some(of(owner)));
        let url = format!("https://localhost:{}", devices.address.port());
        let analytics = Service::start(0, |options| options.manager_url = Some(url));
        analytics.get("/api/v1/analytics/gpu/status").json()["xpu_manager"].clone()
    };
    let found = asked("trusted");
    assert_eq!((&found["available"], found["gpus"].as_array().unwrap().len()), (&true.into(), 2), "{found}");
    assert_eq!(found["gpus"][1]["metrics"]["temperature"], 56.0);
    let found = asked("stranger");
    assert_eq!(found["available"], false, "{found}");
    assert!(found["reason"].as_str().unwrap().contains("certificate"), "{found}");

    // Somebody who is told, and answers as the service does, without a farewell.
    let told = |owner: &str, answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/hook", listener.local_addr().unwrap().port());
        let (chain, key) = of(owner);
        let config = tls::configuration(&chain, &key).unwrap();
        let hears = std::thread::spawn(move || {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
            let (mut heard, mut piece) = (String::new(), [0; 1024]);
            while !heard.ends_with("{\"a\":1}") {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => heard.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
                    _ => return heard,
                }
            }
            stream.write_all(answer).unwrap();
            let _ = stream.flush();
            heard
        });
        let outcome = Url::parse(&url).unwrap().post(b"{\"a\":1}");
        (outcome, hears.join().unwrap())
    };
    let (outcome, heard) = told("trusted", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    assert!(outcome.is_ok() && heard.starts_with("POST /hook HTTP/1.0\r\n"), "{outcome:?} {heard}");
    let (outcome, heard) = told("stranger", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    assert!(outcome.is_err() && heard.is_empty(), "{outcome:?} {heard}");
    // Without a length and a farewell nobody knows whether that was all.
    let (outcome, _) = told("trusted", b"HTTP/1.0 200 OK\r\n\r\n");
    assert!(outcome.is_err(), "{outcome:?}");
}

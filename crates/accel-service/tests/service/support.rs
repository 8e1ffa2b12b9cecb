//! A service to ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use minka_accel::{Limits, Root, fixture};
use minka_accel_service::server::{self, App, Options};
use serde_json::Value;

/// A service over a recorded machine.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) directory: tempfile::TempDir,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    pub(crate) fn start(cards: usize, change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fixture::plant_machine(directory.path(), cards).unwrap();
        let mut options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: Root::at(directory.path()),
            interval: Some(Duration::from_millis(100)),
            state: directory.path().join("state/xpu.toml"),
            dumps: directory.path().join("state/dumps"),
            limits: Limits::default(),
            tokens: directory.path().join("tokens.toml"),
            require_token: false,
            audit: Some(directory.path().join("audit.log")),
            python: "/nonexistent/python".into(),
            manager_url: None,
            manager_token: None,
            tls: None,
        };
        change(&mut options);
        let app = Arc::new(App::new(&options).unwrap());
        app.station.settle(Duration::from_secs(20));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(options.listen)).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server::run(app, listener) => {}
                    _ = ended => {}
                }
            });
        });
        Service { address, directory, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.directory.path().join("tokens.toml")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

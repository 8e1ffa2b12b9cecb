//! A daemon with its interface, and how it is asked.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use minka_api::Service;
use minka_link::Tuning;
use minka_node::processes::ProcFs;
use minka_node::{Daemon, Settings};
use serde_json::Value;

/// How long anything may take on a machine that has much else to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A daemon of a node `a` with its interface, and a process to ask about.
pub(crate) struct Node {
    pub(crate) daemon: Arc<Daemon>,
    service: Option<Service>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Child,
}

impl Node {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let settings = Settings {
            node: "a".into(),
            listen: listen.clone(),
            peers: vec![("b".to_owned(), listen)],
            tuning: Tuning::default(),
            cluster: None,
            config: "/nonexistent/node.toml".into(),
            run_dir: directory.path().into(),
            deputy: vec!["false".into()],
            host: vec!["false".into()],
            xpu: Vec::new(),
            start: Vec::new(),
            zygote: Vec::new(),
            tree: None,
        };
        let socket = settings.api_socket();
        let immovable = |_| vec!["it is not to".to_owned()];
        let daemon = Daemon::new(settings, Box::new(ProcFs), Box::new(immovable));
        daemon.start().unwrap();
        let service = Some(minka_api::serve(Arc::clone(&daemon), &socket).unwrap());
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        Node { daemon, service, directory, process }
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let head = format!("{method} {path} HTTP/1.0\r\n{kind}content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut text = Vec::new();
        match stream.read_to_end(&mut text) {
            // Whoever is turned away is so before the request was read, which ends the connection like this.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !text.is_empty() => {}
            outcome => assert!(outcome.is_ok(), "{outcome:?}"),
        }
        Answer::read(&String::from_utf8(text).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        drop(self.service.take());
        self.daemon.end(Duration::from_secs(5));
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let body = self.json();
        assert_eq!((&body["type"], &body["status"]), (&"about:blank".into(), &self.status.into()));
        (self.status, body["detail"].as_str().unwrap().to_owned())
    }
}

//! The HTTP interface as its clients meet it, with a daemon whose deputies end at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_api::Service;
use minka_link::Tuning;
use minka_node::processes::ProcFs;
use minka_node::{Daemon, Settings};
use serde_json::Value;

/// How long anything may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(30);

/// A daemon of a node `a` with its interface, and a process to ask about.
struct Node {
    daemon: Arc<Daemon>,
    service: Option<Service>,
    directory: tempfile::TempDir,
    process: Child,
}

impl Node {
    fn start() -> Self {
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
        };
        let socket = settings.api_socket();
        let immovable = |_| vec!["it is not to".to_owned()];
        let daemon = Daemon::new(settings, Box::new(ProcFs), Box::new(immovable));
        daemon.start().unwrap();
        let service = Some(minka_api::serve(Arc::clone(&daemon), &socket).unwrap());
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        Node { daemon, service, directory, process }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
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
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
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

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let body = self.json();
        assert_eq!((&body["type"], &body["status"]), (&"about:blank".into(), &self.status.into()));
        (self.status, body["detail"].as_str().unwrap().to_owned())
    }
}

#[test]
fn the_node_its_cluster_and_its_processes_are_told() {
    let node = Node::start();
    let pid = node.process.id();
    let told = node.get("/v1/node");
    assert_eq!((told.status, &told.json()["node"]), (200, &"a".into()));
    assert!(told.head.contains("cache-control: no-store"), "{}", told.head);
    let nodes = node.get("/v1/nodes").json();
    assert_eq!((&nodes[0]["this"], &nodes[1]["name"]), (&true.into(), &"b".into()));
    assert_eq!(node.get("/v1/processes").json(), Value::Array(Vec::new()));
    let all = node.get("/v1/processes?all=true").json();
    let of = |it: &&Value| it["pid"] == pid;
    assert_eq!(all.as_array().unwrap().iter().find(of).unwrap()["command"], "sleep");
    let process = node.get(&format!("/v1/processes/{pid}")).json();
    assert_eq!((&process["state"], &process["at"]), (&"home".into(), &"a".into()));
    let reasons = node.get(&format!("/v1/processes/{pid}/reasons")).json();
    assert_eq!(reasons, serde_json::json!(["it is not to"]));
    let metrics = node.get("/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("minka_node_reachable{node=\"b\"} "), "{}", metrics.body);
    assert_eq!(node.get("/openapi.json").json()["info"]["title"], "Minka");
}

#[test]
fn what_is_wrong_is_a_problem() {
    let node = Node::start();
    let pid = node.process.id();
    let move_it = format!("/v1/processes/{pid}/migrate");
    let check = |method: &str, path: &str, body: &str, status: u16, part: &str| {
        let (found, detail) = node.ask(method, path, body).problem();
        assert!(found == status && detail.contains(part), "{method} {path}: {found} {detail}");
    };
    check("GET", "/v2/node", "", 404, "nothing at this path");
    check("DELETE", "/v1/node", "", 405, "does not take this method");
    check("GET", "/v1/processes/many", "", 404, "");
    check("GET", "/v1/processes/2147483647", "", 404, "no process 2147483647");
    check("GET", "/v1/processes/2147483647/reasons", "", 404, "no process 2147483647");
    check("GET", "/v1/processes?some=true", "", 400, "some");
    check("POST", &move_it, r#"{"to":"b"}"#, 409, "it is not to");
    check("POST", &move_it, r#"{"to":"nowhere"}"#, 404, "no node nowhere");
    check("POST", &move_it, r#"{"to":"b","at":7}"#, 422, "at");
    check("POST", &move_it, "{", 400, "");
    check("POST", &move_it, &format!(r#"{{"to":"{}"}}"#, "b".repeat(20_000)), 413, "");
    // Without a cluster there is nothing to take part in; and who is not root may not say so anyway.
    let root = rustix::process::geteuid().is_root();
    check("POST", "/v1/node", r#"{"block":{"on":true}}"#, if root { 409 } else { 403 }, "node");
}

#[test]
fn events_begin_with_how_everything_is() {
    let node = Node::start();
    let mut stream = node.connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: minka\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let told: Vec<String> = lines.by_ref().filter(|line| line.starts_with("data:")).take(2).collect();
    let names = told.iter().map(|line| serde_json::from_str::<Value>(&line[5..]).unwrap()["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_crowd_of_idle_clients_is_bounded_and_leaves_room_again() {
    let node = Node::start();
    let idle: Vec<UnixStream> = (0..300).map(|_| node.connect()).collect();
    let (status, _) = node.get("/v1/node").problem();
    assert_eq!(status, 503);
    drop(idle);
    let deadline = Instant::now() + LIMIT;
    while node.get("/v1/node").status != 200 {
        assert!(Instant::now() < deadline, "there is no room again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

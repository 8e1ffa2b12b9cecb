//! The HTTP interface as its clients meet it, with a daemon whose deputies end at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod remote;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use support::Node;

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
fn a_crowd_of_idle_clients_makes_room_for_who_asks() {
    let node = Node::start();
    let mut idle: Vec<UnixStream> = (0..300).map(|_| node.connect()).collect();
    assert_eq!(node.get("/v1/node").status, 200);
    // The first had to go; those that came last are still there, and are answered.
    let mut answer = String::new();
    assert_eq!(idle[0].read_to_string(&mut answer).unwrap(), 0, "{answer}");
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /v1/node HTTP/1.0\r\n\r\n").unwrap();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

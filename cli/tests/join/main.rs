//! Machines that join a cluster with a token, are removed, get new certificates and leave, while the others' daemons run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authority;
mod cluster;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, done, free_port, minka};

#[test]
fn machines_join_are_removed_and_leave_while_the_others_go_on() {
    let cluster = Cluster::begin();
    cluster.join("one");
    let _one = cluster.start("one");
    cluster.join("two");
    let _two = cluster.start("two");
    cluster.until_members("one", &["one", "two"]);
    // The first has never heard of the third before, and is not started anew.
    cluster.join("three");
    let _three = cluster.start("three");
    for at in ["one", "two", "three"] {
        cluster.until_members(at, &["one", "three", "two"]);
    }
    assert!(cluster.log("one").contains("the list of nodes has changed"), "{}", cluster.log("one"));

    // Two gets another key and certificate, and stays; the old ones are refused.
    let old = cluster.path().join("old");
    done(Command::new("cp").args(["-r", "two"]).arg(&old).current_dir(cluster.path()));
    done(&mut minka(cluster.path(), &["cluster", "rotate", "--config", "two/node.toml", "--refuse-old"]));
    let keys = |directory: &Path| std::fs::read(directory.join("keys/node.key")).unwrap();
    assert_ne!(keys(&old), keys(&cluster.path().join("two")));
    let words = ["cluster", "rotate", "--config", "old/node.toml"];
    let output = minka(cluster.path(), &words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(5) && told.contains("its certificate is refused"), "{told}");
    let deadline = Instant::now() + PATIENCE;
    while !cluster.log("two").contains("has another certificate now") {
        assert!(Instant::now() < deadline, "{}", cluster.log("two"));
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.until_members("one", &["one", "three", "two"]);

    // Three is removed by who looks after the cluster: the others forget it, and it knows.
    let told = done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    assert!(told.contains("one, two: know of it"), "{told}");
    cluster.until_members("one", &["one", "two"]);
    cluster.until_members("two", &["one", "two"]);
    assert!(cluster.nodes("one").iter().all(|node| node["name"] != "three"));
    let deadline = Instant::now() + PATIENCE;
    while !cluster.log("three").contains("of its cluster no more") {
        assert!(Instant::now() < deadline, "{}", cluster.log("three"));
        std::thread::sleep(Duration::from_millis(100));
    }
    // It does not come back by being started anew.
    drop(_three);
    let _three = cluster.start("three");
    std::thread::sleep(Duration::from_secs(3));
    cluster.until_members("one", &["one", "two"]);

    // Two leaves by itself.
    let mut leave = minka(cluster.path(), &["cluster", "leave", "--config", "two/node.toml"]);
    done(leave.env("MINKA_DIR", cluster.run_dir("two")));
    cluster.until_members("one", &["one"]);
    let listed: Value =
        serde_json::from_str(&done(&mut minka(cluster.path(), &["--json", "cluster", "list"]))).unwrap();
    assert_eq!(listed.as_object().unwrap().keys().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn a_node_that_was_off_when_somebody_was_removed_learns_of_it() {
    let cluster = Cluster::begin();
    for name in ["one", "two", "three"] {
        cluster.join(name);
    }
    let _one = cluster.start("one");
    let _three = cluster.start("three");
    cluster.until_members("one", &["one", "three"]);
    done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    cluster.until_members("one", &["one"]);
    // Its list of nodes still has all three.
    let _two = cluster.start("two");
    cluster.until_members("two", &["one", "two"]);
    assert!(cluster.nodes("two").iter().all(|node| node["name"] != "three"));
}

#[test]
fn tokens_are_good_once_for_a_while_and_for_their_cluster() {
    let cluster = Cluster::begin();
    let refused = |name: &str, token: &str, status: i32, told: &str| {
        let output = cluster.try_join(name, token);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{errors}");
        assert!(errors.contains(told), "{errors}");
        assert!(!cluster.path().join(name).join("node.toml").exists());
    };
    let token = cluster.token("15m");
    assert!(cluster.try_join("one", &token).status.success());
    refused("two", &token, 5, "the token is wrong, was used or is too old");
    let short = cluster.token("1s");
    std::thread::sleep(Duration::from_millis(1100));
    refused("two", &short, 5, "the token is wrong, was used or is too old");
    refused("two", "", 2, "understand the token");
    // A name that is taken costs no token.
    let token = cluster.token("15m");
    refused("one/..", &token, 1, "lower-case letters");
    let again = minka(cluster.path(), &["cluster", "join", &cluster.service, "--name", "one", "--into", "x"])
        .env("MINKA_TOKEN", &token)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(5), "{again:?}");
    // From standard input, as those do that keep secrets in a file.
    let port = free_port().to_string();
    let words = ["cluster", "join", &cluster.service, "--name", "two", "--port", &port, "--token-file", "-"];
    let mut child = minka(cluster.path(), &words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    // Another cluster's token: the service is not the one that it is for, and does not even get to see it.
    let other = Cluster::begin();
    refused("three", &other.token("15m"), 1, "speak to the cluster's authority");
    assert!(!cluster.log("service").contains(&token) && cluster.log("service").contains("has joined"));
}

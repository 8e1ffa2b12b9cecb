//! Orders that cannot be carried out, as the library and the command line tell of them: the process never notices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use minka_link::Authority;
use minka_node::client::ClientError;
use minka_node::protocol::Refusal;

fn cluster(nodes: u32) -> Cluster {
    Cluster::up(nodes, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// What the command line says to an order that is refused.
fn refusal(cluster: &Cluster, pid: i32, to: &str) -> (i32, String) {
    let output = cluster.minka(1, &["migrate", &pid.to_string(), to]);
    assert!(output.stdout.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stderr).expect("text");
    (output.status.code().expect("an exit status"), words)
}

#[test]
fn unknown_processes_and_nodes_are_told_apart_and_nobody_is_touched() {
    let cluster = cluster(3);
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    let pid = subject.pid_in_node;

    assert_eq!(refusal(&cluster, pid, "nowhere").0, 4);
    let nobody = 4_000_000;
    let (status, words) = refusal(&cluster, nobody, "node2");
    assert_eq!(status, 4);
    assert!(words.contains("4000000"), "{words}");
    // The daemon itself, and the init of the node.
    for own in [cluster.client(1).status().expect("ask the node").pid, 1] {
        assert_eq!(refusal(&cluster, own, "node2").0, 5);
    }
    subject.is_unharmed();

    // A node that is down is known, but not there; others are.
    cluster.lab().kill_node(3).expect("kill a node");
    let (status, words) = refusal(&cluster, pid, "node3");
    assert_eq!(status, 5);
    assert!(words.contains("10.77.0.3"), "{words}");
    subject.is_unharmed();
    eventually(SOON, "the daemon notices who is there", || {
        let nodes = cluster.client(1).nodes().expect("list the nodes");
        nodes.iter().all(|node| node.reachable == (node.name != "node3")).then_some(())
    });
    let output = cluster.minka(1, &["--json", "migrate", &pid.to_string(), "best"]);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("node2"),
        "{output:?}"
    );
    subject.migrate("home").expect("bring it home");
    subject.travels_and_finishes();
    cluster.is_quiet();
}

#[test]
fn poorer_processors_are_told_by_what_they_lack() {
    let cluster = cluster(2);
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    let pid = subject.pid_in_node;
    cluster.configure(2, "without_cpu = [\"sse4_2\", \"popcnt\"]");
    let (status, words) = refusal(&cluster, pid, "node2");
    assert_eq!(status, 5);
    assert!(words.contains("lacks") && words.contains("sse4_2") && words.contains("popcnt"), "{words}");
    subject.is_unharmed();
    cluster.configure(2, "without_cpu = [\"magic\"]");
    let (status, words) = refusal(&cluster, pid, "node2");
    assert_eq!(status, 5);
    assert!(words.contains("magic"), "{words}");
    // What the home lacks too is not missed.
    for node in [1, 2] {
        cluster.configure(node, "without_cpu = [\"sse4_2\"]");
    }
    subject.migrate("node2").expect("equals take each other's processes");
    subject.migrate("home").expect("bring it home");
    cluster.heal();
    subject.travels_and_finishes();
    cluster.is_quiet();
}

#[test]
fn a_process_belongs_to_its_owner_and_root() {
    let cluster = cluster(2);
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    let Some(output) = cluster.minka_as_nobody(1, &["migrate", &subject.pid_in_node.to_string(), "node2"])
    else {
        eprintln!("skipped: only root can be somebody else");
        return;
    };
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(&subject.pid_in_node.to_string()), "{words}");
    let trace = cluster.minka_as_nobody(1, &["trace", &subject.pid_in_node.to_string()]).expect("as before");
    assert_eq!(trace.status.code(), Some(3), "{trace:?}");
    subject.is_unharmed();
    subject.travels_and_finishes();
    cluster.is_quiet();
}

#[test]
fn a_process_is_moved_once_at_a_time() {
    let cluster = cluster(2);
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    cluster.fail(2, "host.offered:delay=400");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| subject.migrate("node2"));
        cluster.reached(2, "host.offered", 1);
        assert_eq!(refusal(&cluster, subject.pid_in_node, "node2").0, 5);
        assert!(matches!(subject.migrate("home"), Err(ClientError::Refused(Refusal::Busy { .. }))));
        first.join().expect("the first").expect("its move");
    });
    cluster.heal();
    subject.goes_on();
    subject.travels_and_finishes();
    cluster.is_quiet();
}

/// Gives a node other keys while `act` is done.
fn with_keys(cluster: &Cluster, node: u32, keys: &Path, act: impl FnOnce()) {
    let own = cluster.keys(node);
    let aside = own.with_extension("aside");
    fs::rename(&own, &aside).expect("put the keys aside");
    std::os::unix::fs::symlink(keys, &own).expect("put others in their place");
    act();
    fs::remove_file(&own).expect("take the others away");
    fs::rename(&aside, &own).expect("put the keys back");
}

#[test]
fn nodes_of_another_cluster_are_strangers() {
    let cluster = cluster(3);
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    let strangers = tempfile::tempdir().expect("make a directory");
    fs::set_permissions(strangers.path(), fs::Permissions::from_mode(0o700)).expect("make it private");
    let authority = Authority::create().expect("make an authority");
    for name in ["node1", "node2"] {
        let directory = strangers.path().join(name);
        fs::create_dir(&directory).expect("make a directory");
        authority.issue(name).and_then(|keys| keys.write(&directory)).expect("issue keys");
    }
    let mut check = |node, keys: &Path| {
        with_keys(&cluster, node, keys, || {
            let (status, words) = refusal(&cluster, subject.pid_in_node, "node2");
            assert_eq!(status, 5, "{words}");
            assert!(words.contains("talk to the host"), "{words}");
            println!("{words}");
            subject.is_unharmed();
        });
    };
    // The host, then the home, shows a certificate that another authority has signed.
    check(2, &strangers.path().join("node2"));
    check(1, &strangers.path().join("node1"));
    // A node of the cluster, but not the one that was meant.
    check(2, &cluster.keys(3));
    subject.travels_and_finishes();
    cluster.is_quiet();
}

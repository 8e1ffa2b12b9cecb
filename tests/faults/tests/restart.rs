//! A daemon and its deputies die together: the next daemon puts right what they left behind.

use std::fs;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use rustix::process::{Signal, kill_process};

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// Kills the daemon and all deputies of node 1 while a deputy is at a point of its subject's way out.
fn kill_all_at(cluster: &Cluster, subject: &Subject<'_>, point: &str) {
    cluster.fail(1, &format!("{point}:stop"));
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| subject.migrate("node2"));
        cluster.reached(1, point, 1);
        kill_all(cluster);
        assert!(moving.join().expect("the move").is_err());
    });
    cluster.heal();
}

fn kill_all(cluster: &Cluster) {
    let deputies = cluster.named("minka-deputy");
    assert!(!deputies.is_empty());
    let signal = |signal| {
        deputies.iter().for_each(|deputy| kill_process(*deputy, signal).expect("signal a deputy"));
    };
    // Without a daemon a deputy would take its process home.
    signal(Signal::STOP);
    cluster.kill_daemon(1);
    signal(Signal::KILL);
}

#[test]
fn a_process_that_was_being_moved_goes_on() {
    for point in ["deputy.mapped", "deputy.parked", "deputy.sent"] {
        let cluster = cluster();
        let mut subject = Subject::start(&cluster, Manner::Chatty);
        kill_all_at(&cluster, &subject, point);
        let daemon = cluster.start_daemon(1);
        subject.is_unharmed();
        let reason = subject.reason();
        assert!(reason.contains("died"), "{reason}");
        subject.travels_and_finishes();
        cluster.is_quiet();
        drop(daemon);
    }
}

#[test]
fn a_process_that_was_away_ends_once_it_has_had_effects() {
    let cluster = cluster();
    let (mut quiet, mut chatty) =
        (Subject::start(&cluster, Manner::Quiet), Subject::start(&cluster, Manner::Chatty));
    for subject in [&mut quiet, &mut chatty] {
        subject.migrate("node2").expect("move it out");
        subject.goes_on();
    }
    kill_all(&cluster);
    let daemon = cluster.start_daemon(1);
    let reason = chatty.is_ended();
    assert!(reason.contains("deputy program was killed while it was away"), "{reason}");
    quiet.is_unharmed();
    quiet.travels_and_finishes();
    cluster.is_quiet();
    drop(daemon);
}

#[test]
fn a_deputy_that_only_lost_its_daemon_is_not_disturbed() {
    let cluster = cluster();
    cluster.fail(2, "host.leaving:delay=700");
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    subject.migrate("node2").expect("move it out");
    subject.goes_on();
    cluster.kill_daemon(1);
    cluster.reached(2, "host.leaving", 1);
    // It is on its way home, and its record is there.
    let daemon = cluster.start_daemon(1);
    subject.is_unharmed();
    cluster.heal();
    subject.travels_and_finishes();
    cluster.is_quiet();
    drop(daemon);
}

#[test]
fn records_of_others_touch_nobody() {
    let cluster = cluster();
    let (mut gone, mut other) =
        (Subject::start(&cluster, Manner::Chatty), Subject::start(&cluster, Manner::Chatty));
    kill_all_at(&cluster, &gone, "deputy.parked");
    let record = |pid: i32| cluster.run_directory(1).join(format!("parked-{pid}"));
    let own = record(gone.pid_in_node);
    // The PID of the one that is gone has passed to the other.
    fs::copy(&own, record(other.pid_in_node)).expect("copy a record");
    gone.signal(Signal::KILL);
    eventually(SOON, "it ends", || (gone.fate() != minka_faults_tests::subject::Fate::Lives).then_some(()));
    fs::write(record(1), "no record at all").expect("write a file");
    let daemon = cluster.start_daemon(1);
    eventually(SOON, "nothing is left of the records", || {
        (![gone.pid_in_node, other.pid_in_node, 1].iter().any(|pid| record(*pid).exists())).then_some(())
    });
    other.is_unharmed();
    other.travels_and_finishes();
    cluster.is_quiet();
    drop(daemon);
}

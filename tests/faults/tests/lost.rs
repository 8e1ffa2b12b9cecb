//! Whole nodes die, cables are pulled, daemons are killed: nobody says anything, or much at once.

use std::time::{Duration, Instant};

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::{Outcome, away, refused_at, settle};
use minka_faults_tests::subject::{Fate, Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use minka_node::client::ClientError;
use minka_node::protocol::{Refusal, State};
use rustix::process::Signal;

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

#[test]
fn a_host_node_that_dies_in_the_freeze_leaves_the_process_at_home() {
    for point in ["host.entering", "host.built"] {
        let cluster = cluster();
        let mut subject = Subject::start(&cluster, Manner::Chatty);
        refused_at(&cluster, &subject, point, || cluster.lab().kill_node(2).expect("kill the node"));
        subject.is_unharmed();
        cluster.is_quiet();
        subject.finish();
    }
}

#[test]
fn a_host_node_that_dies_later_ends_the_process_once_it_has_had_effects() {
    let cluster = cluster();
    let (mut quiet, mut chatty) = (away(&cluster, Manner::Quiet), away(&cluster, Manner::Chatty));
    cluster.lab().kill_node(2).expect("kill the node");
    assert!(chatty.is_ended().contains("node2"));
    quiet.is_unharmed();
    // It is wanted there, so by now its deputy may have found that the node is down.
    let reason = quiet.reason();
    assert!(reason.contains("node2 was lost") || reason.contains("10.77.0.2"), "{reason}");
    quiet.stays_at_home();
    cluster.is_quiet();
    quiet.finish();
}

#[test]
fn a_home_node_that_dies_takes_its_guests_along() {
    let cluster = cluster();
    let _away = [away(&cluster, Manner::Quiet), away(&cluster, Manner::Chatty)];
    // A host program tells its node a moment after it has told the home.
    let guests = || cluster.client(2).status().expect("ask the host").guests;
    eventually(SOON, "the host knows of both", || (guests() == 2).then_some(()));
    cluster.lab().kill_node(1).expect("kill the node");
    cluster.is_quiet();
    assert_eq!(guests(), 0);
}

#[test]
fn a_cable_pulled_before_or_in_the_freeze_leaves_the_process_at_home() {
    let cluster = cluster();
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    refused_at(&cluster, &subject, "host.entering", || cluster.lab().cut(2).expect("pull the cable"));
    subject.is_unharmed();
    cluster.heal();

    let start = Instant::now();
    let Err(ClientError::Refused(Refusal::NotMoved { reason, .. })) = subject.migrate("node2") else {
        panic!("it moved through a cable that was pulled\n{}", cluster.logs())
    };
    assert!(reason.contains("10.77.0.2") && start.elapsed() < SOON, "{reason} after {:?}", start.elapsed());
    subject.is_unharmed();

    cluster.lab().heal(2).expect("put the cable back");
    // Both kernels may need a moment to find each other again.
    eventually(SOON, "the next move succeeds", || subject.migrate("node2").ok());
    subject.travels_and_finishes();
    cluster.is_quiet();
}

#[test]
fn a_cable_pulled_later_ends_the_process_once_it_has_had_effects() {
    let cluster = cluster();
    let (mut quiet, mut chatty) = (away(&cluster, Manner::Quiet), away(&cluster, Manner::Chatty));
    cluster.lab().cut(2).expect("pull the cable");
    assert!(chatty.is_ended().contains("node2"));
    // No side hears of the other, and yet both come to the same end.
    quiet.is_unharmed();
    eventually(SOON, "the guests are gone", || {
        (cluster.client(2).status().expect("ask the host").guests == 0).then_some(())
    });
    quiet.stays_at_home();
    cluster.is_quiet();
    cluster.lab().heal(2).expect("put the cable back");
    eventually(SOON, "the next move succeeds", || quiet.migrate("node2").ok());
    quiet.travels_and_finishes();
}

#[test]
fn a_cable_that_is_soon_put_back_is_not_noticed() {
    let cluster = Cluster::patient(2, env!("CARGO_BIN_EXE_minka-faults-subject"), 8);
    let mut subjects = [away(&cluster, Manner::Quiet), away(&cluster, Manner::Chatty)];
    for milliseconds in [100, 300, 1000] {
        // Nobody is told that packets are lost.
        cluster.lab().cut(2).expect("pull the cable");
        std::thread::sleep(Duration::from_millis(milliseconds));
        cluster.lab().heal(2).expect("put the cable back");
        subjects.iter_mut().for_each(Subject::goes_on);
    }
    for subject in &subjects {
        assert_eq!(subject.shown().map(|process| process.state), Some(State::Away), "{}", cluster.logs());
        subject.migrate("home").expect("bring it home");
    }
    subjects.into_iter().for_each(Subject::travels_and_finishes);
    cluster.is_quiet();
}

#[test]
fn a_stopped_host_program_holds_a_freeze_up_for_a_limited_time() {
    let cluster = cluster();
    for (point, manner) in [("host.entering", Manner::Chatty), ("host.built", Manner::Quiet)] {
        let mut subject = Subject::start(&cluster, manner);
        let before = cluster.times(2, point);
        cluster.fail(2, &format!("{point}:stop"));
        let start = Instant::now();
        let Err(ClientError::Refused(Refusal::NotMoved { reason, .. })) = subject.migrate("node2") else {
            panic!("it moved to a host that was stopped\n{}", cluster.logs())
        };
        cluster.reached(2, point, before + 1);
        // The limit that these clusters have is 0.7 s.
        assert!(start.elapsed() < Duration::from_secs(3), "after {:?}", start.elapsed());
        assert!(reason.contains("did not answer within 700ms"), "{reason}");
        subject.is_unharmed();
        assert!(cluster.signal_all("minka-host", Signal::CONT) > 0);
        cluster.heal();
        subject.travels_and_finishes();
        cluster.is_quiet();
    }
}

#[test]
fn a_stopped_host_program_holds_the_way_home_up_for_a_limited_time() {
    let cluster = cluster();
    let mut subject = away(&cluster, Manner::Chatty);
    assert!(cluster.signal_all("minka-host", Signal::STOP) > 0);
    let start = Instant::now();
    assert!(subject.migrate("home").is_err());
    let reason = subject.is_ended();
    assert!(reason.contains("sent nothing for 1s"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(4), "after {:?}", start.elapsed());
    assert!(cluster.signal_all("minka-host", Signal::CONT) > 0);
    cluster.is_quiet();
}

#[test]
fn a_cable_pulled_on_the_way_home_ends_the_process() {
    let cluster = cluster();
    cluster.fail(2, "host.leaving:delay=2500");
    let mut subject = away(&cluster, Manner::Chatty);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| subject.migrate("home"));
        cluster.reached(2, "host.leaving", 1);
        cluster.lab().cut(2).expect("pull the cable");
        assert!(coming.join().expect("the move").is_err());
    });
    assert!(subject.is_ended().contains("node2"));
    cluster.is_quiet();
}

#[test]
fn processes_come_home_when_either_daemon_is_killed() {
    for node in [1, 2] {
        let cluster = cluster();
        let mut subjects = [away(&cluster, Manner::Quiet), away(&cluster, Manner::Chatty)];
        cluster.kill_daemon(node);
        for subject in &mut subjects {
            eventually(SOON, &format!("it comes home\n{}", cluster.logs()), || {
                assert_eq!(subject.fate(), Fate::Lives, "{}", cluster.logs());
                subject.is_ordinary().is_ok().then_some(())
            });
        }
        for mut subject in subjects {
            if node == 2 {
                // It is wanted there, so by now its deputy may have found that nobody answers.
                let reason = subject.reason();
                assert!(reason.contains("daemon") || reason.contains("10.77.0.2"), "{reason}");
                subject.stays_at_home();
            }
            subject.is_unharmed();
            subject.finish();
        }
        cluster.is_quiet();
    }
}

/// Each point is tried with one of them, in turns.
const MANNERS: [Manner; 2] = [Manner::Chatty, Manner::Crowd];

#[test]
fn a_process_that_ends_while_it_is_moved_is_only_gone() {
    let cluster = cluster();
    let points = [
        (1, "deputy.started"),
        (2, "host.offered"),
        (2, "host.prepared"),
        (1, "deputy.prepared"),
        (1, "deputy.stopped"),
        (1, "inject#2"),
        (1, "deputy.mapped"),
        (1, "deputy.parked"),
        (1, "deputy.sent"),
        (2, "host.entering"),
        (2, "host.built"),
        (2, "host.resumed"),
        (2, "host.running"),
        (1, "deputy.away"),
        (1, "deputy.streamed"),
        (2, "host.streamed"),
        (2, "host.call"),
        (1, "deputy.call"),
        (1, "deputy.called"),
        (2, "host.result"),
    ];
    for ((node, point), manner) in points.into_iter().zip(MANNERS.into_iter().cycle()) {
        let mut subject = Subject::start(&cluster, manner);
        let before = cluster.times(node, point);
        cluster.fail(node, &format!("{point}:delay=150"));
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| subject.migrate("node2"));
            cluster.reached(node, point, before + 1);
            subject.signal(Signal::KILL);
            // Moved it may be, for the time being.
            let _ = moving.join().expect("the move");
        });
        eventually(SOON, "it ends", || (subject.fate() != Fate::Lives).then_some(()));
        assert_eq!(subject.fate(), Fate::Killed(9), "{point}");
        subject.told();
        cluster.heal();
        cluster.is_quiet();
        eventually(SOON, &format!("{point}: its end is noticed\n{}", cluster.logs()), || {
            subject.shown().is_none_or(|process| process.state == State::Ended).then_some(())
        });
    }
    let subject = Subject::start(&cluster, Manner::Chatty);
    assert_eq!(settle(&cluster, subject, "the next one"), Outcome::Unharmed);
}

#[test]
fn a_process_that_ends_on_its_way_home_is_only_gone() {
    let cluster = cluster();
    let points = [
        (1, "deputy.recalling"),
        (2, "host.recalled"),
        (2, "host.leaving"),
        (2, "host.left"),
        (1, "deputy.returning"),
        (1, "deputy.returned"),
        (1, "deputy.releasing"),
        (1, "inject#4"),
        (1, "deputy.released"),
    ];
    for ((node, point), manner) in points.into_iter().zip(MANNERS.into_iter().cycle()) {
        // Programs read their configuration when they start.
        cluster.fail(node, &format!("{point}:delay=150"));
        let mut subject = away(&cluster, manner);
        let before = cluster.times(node, point);
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| subject.migrate("home"));
            cluster.reached(node, point, before + 1);
            subject.signal(Signal::KILL);
            let _ = moving.join().expect("the move");
        });
        eventually(SOON, "it ends", || (subject.fate() != Fate::Lives).then_some(()));
        assert_eq!(subject.fate(), Fate::Killed(9), "{point}");
        subject.told();
        cluster.heal();
        cluster.is_quiet();
    }
}

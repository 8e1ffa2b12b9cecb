//! Files that programs have mapped to be written while they were away: whoever looks at them finds what the programs had written,
//! also when these were killed.

use std::time::Duration;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::away;
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use rustix::process::Signal;

const ALONE: [Manner; 2] =
    [Manner::NamedSharing { is_in_memory: false }, Manner::NamedSharing { is_in_memory: true }];
const FAMILIES: [Manner; 2] =
    [Manner::NamedFamily { is_in_memory: false }, Manner::NamedFamily { is_in_memory: true }];

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// Starts one that is away, and has been for some steps.
fn start_away(cluster: &Cluster, manner: Manner) -> Subject<'_> {
    let subject = away(cluster, manner);
    let at = subject.shown().map(|process| process.at);
    assert_eq!(at.as_deref(), Some("node2"), "{}", cluster.logs());
    subject
}

#[test]
fn programs_with_named_memory_move_and_finish() {
    let cluster = cluster();
    for manner in ALONE.into_iter().chain(FAMILIES) {
        Subject::start(&cluster, manner).travels_and_finishes();
        cluster.is_quiet();
    }
}

#[test]
fn one_that_is_killed_while_it_is_away_leaves_what_it_had_written() {
    let cluster = cluster();
    for manner in ALONE {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut subject = start_away(&cluster, manner);
            subject.signal(signal);
            subject.ends_by(signal.as_raw());
            subject.has_left_its_memory();
            drop(subject);
            cluster.is_quiet();
        }
    }
}

#[test]
fn a_family_of_which_all_are_killed_leaves_what_it_had_written() {
    let cluster = cluster();
    for manner in FAMILIES {
        for pause_ms in [0, 1, 40] {
            let mut subject = start_away(&cluster, manner);
            subject.signal_all(Signal::KILL, Duration::from_millis(pause_ms));
            subject.ends_by(9);
            subject.has_left_its_memory();
            drop(subject);
            cluster.is_quiet();
        }
    }
}

#[test]
fn one_that_is_killed_on_its_way_home_leaves_what_it_had_written() {
    let cluster = cluster();
    let points = ["deputy.recalling", "deputy.returning", "deputy.returned", "deputy.releasing"];
    for (number, point) in points.into_iter().enumerate() {
        let mut subject = start_away(&cluster, ALONE[number % 2]);
        let fault = format!("{point}:end");
        let before = cluster.times(1, &fault);
        subject.migrate("home").expect("it comes home");
        cluster.fail(1, &fault);
        eventually(SOON, "it moves", || subject.migrate("node2").ok());
        subject.goes_on();
        // Nothing is sent ahead for who waits at the door.
        std::fs::read(subject.named_memory()).expect("look at its memory");
        cluster.reached(1, &fault, before + 1);
        subject.ends_by(9);
        subject.has_left_its_memory();
        cluster.heal();
        drop(subject);
        cluster.is_quiet();
    }
}

#[test]
fn whoever_opens_such_a_file_waits_until_it_is_right() {
    let cluster = cluster();
    for manner in ALONE.into_iter().chain(FAMILIES) {
        let mut subject = start_away(&cluster, manner);
        for _ in 0..3 {
            subject.has_left_its_memory();
            eventually(SOON, "it moves again", || subject.migrate("node2").ok());
            subject.goes_on();
        }
        subject.stays_at_home();
        subject.finish();
        cluster.is_quiet();
    }
}

#[test]
fn what_is_lost_with_a_host_is_named() {
    let cluster = cluster();
    for manner in ALONE {
        let mut subject = start_away(&cluster, manner);
        cluster.kill_guests(2);
        let reason = subject.is_ended();
        let name = subject.named_memory();
        let expected =
            format!("what it had written to its memory of {} since it left is lost", name.display());
        assert!(reason.contains(&expected), "{reason}");
        drop(subject);
        cluster.is_quiet();
    }
}

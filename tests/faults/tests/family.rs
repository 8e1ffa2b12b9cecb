//! Processes that share memory move together, and whatever fails of one of them: all go on, or all end.

use std::time::Instant;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::May::{self, BeEither, NotBe};
use minka_faults_tests::journey::{ENDED, Outcome, UNHARMED, away, travel};
use minka_faults_tests::subject::{Fate, Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use rustix::process::Signal;

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// A family that makes calls; every other one has descriptors of what it shares.
fn chatty_one(number: usize) -> Manner {
    if number % 2 == 1 { Manner::OpenFamily } else { Manner::Family }
}

/// Sends families to node 2 and home again, once for each fault of one member's program: a quiet one, and one that makes
/// calls.
fn check(node: u32, action: &str, cases: &[(&str, May, May)]) {
    let cluster = cluster();
    for (number, (point, quiet, chatty)) in cases.iter().enumerate() {
        for (manner, may) in [(Manner::QuietFamily, quiet), (chatty_one(number), chatty)] {
            if *may == NotBe {
                continue;
            }
            // The main process is the first of the family, and the last that is told anything.
            let member = if number % 3 == 2 { "own" } else { "other" };
            let fault = format!("{point}@{member}:{action}");
            let outcome = travel(&cluster, manner, node, &fault);
            println!("{fault} on node{node}, {manner:?}: {outcome:?}");
            let allowed = *may == BeEither || *may == May::Be(outcome);
            assert!(allowed, "{fault} {manner:?}: {outcome:?}\n{}", cluster.logs());
        }
    }
}

#[test]
fn a_family_moves_as_one_and_comes_home_as_one() {
    let cluster = cluster();
    for manner in [Manner::Family, Manner::QuietFamily, Manner::OpenFamily] {
        Subject::start(&cluster, manner).travels_and_finishes();
        cluster.is_quiet();
    }
}

#[test]
fn a_deputy_of_a_family_killed_on_the_way_out_leaves_all_at_home() {
    check(
        1,
        "kill",
        &[
            ("deputy.started", UNHARMED, UNHARMED),
            ("deputy.prepared", UNHARMED, UNHARMED),
            ("deputy.stopped", UNHARMED, UNHARMED),
            ("inject#2", UNHARMED, UNHARMED),
            ("deputy.parked", UNHARMED, UNHARMED),
            ("deputy.sent", UNHARMED, UNHARMED),
        ],
    );
}

#[test]
fn a_deputy_of_a_family_killed_while_it_is_away_ends_all_once_one_has_had_effects() {
    check(
        1,
        "kill",
        &[
            // Whether somebody has them called home before that is a matter of luck, and an effect.
            ("deputy.away", BeEither, BeEither),
            ("deputy.call", NotBe, ENDED),
            ("deputy.called", NotBe, ENDED),
            ("deputy.called#9", NotBe, ENDED),
        ],
    );
}

#[test]
fn a_deputy_of_a_family_killed_on_the_way_home_ends_all_until_all_are_there() {
    check(
        1,
        "kill",
        &[
            // Another one's pages may have come home ahead before.
            ("deputy.recalling", BeEither, ENDED),
            ("deputy.returning", BeEither, ENDED),
            ("deputy.returned", UNHARMED, UNHARMED),
            ("deputy.releasing", UNHARMED, UNHARMED),
            ("deputy.released", UNHARMED, UNHARMED),
        ],
    );
}

#[test]
fn a_host_program_of_a_family_killed_on_the_way_out_leaves_all_at_home() {
    check(
        2,
        "kill",
        &[
            ("host.offered", UNHARMED, UNHARMED),
            ("host.prepared", UNHARMED, UNHARMED),
            ("host.entering", UNHARMED, UNHARMED),
            ("host.built", UNHARMED, UNHARMED),
            // The guests of the others run by then, and may have had effects: all go on, or all end.
            ("host.resumed", BeEither, BeEither),
        ],
    );
}

#[test]
fn a_host_program_of_a_family_killed_later_ends_all_once_one_has_had_effects() {
    check(
        2,
        "kill",
        &[
            ("host.running", BeEither, BeEither),
            ("host.call", NotBe, BeEither),
            ("host.result", NotBe, ENDED),
            ("host.recalled", BeEither, ENDED),
            ("host.leaving", BeEither, ENDED),
            ("host.reading", BeEither, ENDED),
        ],
    );
}

#[test]
fn a_family_whose_connection_is_cut_goes_on_or_ends_as_one() {
    check(
        1,
        "cut",
        &[
            ("deputy.parked", UNHARMED, UNHARMED),
            ("deputy.called#9", NotBe, ENDED),
            ("deputy.recalling", BeEither, ENDED),
        ],
    );
}

#[test]
fn a_family_whose_programs_are_killed_at_the_same_time_goes_on_or_ends_as_one() {
    let cluster = cluster();
    let cases = [
        ("deputy.parked:kill", Manner::Family, Some(Outcome::Unharmed)),
        ("deputy.called#9:kill", Manner::Family, Some(Outcome::Ended)),
        ("deputy.returned:kill", Manner::Family, Some(Outcome::Unharmed)),
        ("deputy.parked@other:kill rescue.started:kill", Manner::Family, Some(Outcome::Unharmed)),
        ("deputy.returning:kill", Manner::QuietFamily, None),
    ];
    for (faults, manner, expected) in cases {
        let outcome = travel(&cluster, manner, 1, faults);
        assert!(
            expected.is_none_or(|expected| expected == outcome),
            "{faults}: {outcome:?}\n{}",
            cluster.logs()
        );
    }
}

#[test]
fn a_host_node_that_dies_ends_all_of_a_family_that_has_had_effects() {
    let cluster = cluster();
    let (mut quiet, mut chatty) = (away(&cluster, Manner::QuietFamily), away(&cluster, Manner::Family));
    cluster.lab().kill_node(2).expect("kill the node");
    assert!(chatty.is_ended().contains("node2"));
    quiet.is_unharmed();
    quiet.stays_at_home();
    cluster.is_quiet();
    quiet.finish();
}

#[test]
fn a_killed_daemon_has_a_family_taken_home() {
    let cluster = cluster();
    let mut family = away(&cluster, Manner::Family);
    cluster.kill_daemon(1);
    family.is_unharmed();
    let _daemon = cluster.start_daemon(1);
    cluster.is_quiet();
    family.finish();
}

#[test]
fn a_stopped_deputy_of_a_family_holds_all_up_for_a_limited_time() {
    let cluster = cluster();
    let mut family = away(&cluster, Manner::Family);
    let before = cluster.times(1, "deputy.call");
    let other = family.other_in_node().expect("another process");
    cluster.fail(1, &format!("deputy.call@{other}:stop"));
    // The deputies that are there have read their configuration before.
    family.stays_at_home();
    // Others of them may not be told at home yet.
    eventually(SOON, "it moves out", || family.migrate("node2").ok());
    cluster.reached(1, "deputy.call", before + 1);
    let start = Instant::now();
    // All wait for the one, in vain.
    let _ = family.migrate("home");
    assert!(!family.is_ended().is_empty());
    assert!(start.elapsed() < 2 * SOON, "after {:?}", start.elapsed());
    cluster.signal_all("minka-deputy", Signal::CONT);
    cluster.heal();
    cluster.is_quiet();
}

#[test]
fn one_of_a_family_may_be_killed_and_the_others_go_on_without_it() {
    let cluster = cluster();
    let mut family = away(&cluster, Manner::Family);
    family.signal_other(Signal::KILL);
    // It is missed when its turn comes; but the others can go home.
    eventually(SOON, "it is gone", || family.has_lost_other().then_some(()));
    family.stays_at_home();
    assert_eq!((family.fate(), family.is_main_ordinary()), (Fate::Lives, Ok(())), "{}", cluster.logs());
    family.signal(Signal::KILL);
    cluster.is_quiet();
}

//! A deputy or a host program is killed, at every point of a move and of the way home.

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::May::{BeEither, NotBe};
use minka_faults_tests::journey::{ENDED, Outcome, UNHARMED, check, travel};
use minka_faults_tests::subject::{Manner, Subject};

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

#[test]
fn a_deputy_killed_on_the_way_out_leaves_the_process_at_home() {
    check(
        &cluster(),
        1,
        "kill",
        &[
            ("deputy.started", UNHARMED, UNHARMED),
            ("deputy.prepared", UNHARMED, UNHARMED),
            ("deputy.stopped", UNHARMED, UNHARMED),
            // The calls that make the ring, one after the other.
            ("inject#1", UNHARMED, UNHARMED),
            ("inject#2", UNHARMED, UNHARMED),
            ("inject#3", UNHARMED, UNHARMED),
            ("deputy.mapped", UNHARMED, UNHARMED),
            ("deputy.parked", UNHARMED, UNHARMED),
            ("deputy.sent", UNHARMED, UNHARMED),
            ("deputy.fault", UNHARMED, NotBe),
        ],
    );
}

#[test]
fn a_deputy_killed_while_the_process_is_away_ends_it_once_it_has_had_effects() {
    check(
        &cluster(),
        1,
        "kill",
        &[
            ("deputy.away", UNHARMED, BeEither),
            ("deputy.streamed", UNHARMED, BeEither),
            ("deputy.call", NotBe, ENDED),
            ("deputy.called", NotBe, ENDED),
            ("deputy.called#20", NotBe, ENDED),
        ],
    );
}

#[test]
fn a_deputy_killed_on_the_way_home_ends_the_process_until_all_of_it_is_there() {
    check(
        &cluster(),
        1,
        "kill",
        &[
            ("deputy.recalling", ENDED, ENDED),
            ("deputy.returning", ENDED, ENDED),
            ("deputy.returned", UNHARMED, UNHARMED),
            ("deputy.releasing", UNHARMED, UNHARMED),
            // The call that takes the ring away.
            ("inject#4", UNHARMED, UNHARMED),
            ("deputy.released", UNHARMED, UNHARMED),
        ],
    );
}

#[test]
fn a_killed_rescuer_is_replaced() {
    let cluster = cluster();
    for point in ["deputy.parked", "deputy.releasing"] {
        let before = cluster.times(1, "rescue.started");
        let outcome = travel(&cluster, Manner::Chatty, 1, &format!("{point}:kill rescue.started:kill"));
        assert_eq!(outcome, Outcome::Unharmed);
        assert!(cluster.times(1, "rescue.started") > before, "{}", cluster.logs());
    }
}

#[test]
fn a_host_program_killed_on_the_way_out_leaves_the_process_at_home() {
    check(
        &cluster(),
        2,
        "kill",
        &[
            ("host.offered", UNHARMED, UNHARMED),
            ("host.prepared", UNHARMED, UNHARMED),
            ("host.entering", UNHARMED, UNHARMED),
            ("host.fault", UNHARMED, NotBe),
            ("host.built", UNHARMED, UNHARMED),
            ("host.resumed", UNHARMED, BeEither),
        ],
    );
}

#[test]
fn a_host_program_killed_while_the_process_is_there_ends_it_once_it_has_had_effects() {
    check(
        &cluster(),
        2,
        "kill",
        &[
            ("host.running", UNHARMED, BeEither),
            ("host.streamed", UNHARMED, BeEither),
            // Its first call was never made.
            ("host.call", NotBe, UNHARMED),
            ("host.result", NotBe, ENDED),
            ("host.call#20", NotBe, ENDED),
        ],
    );
}

#[test]
fn a_host_program_killed_on_the_way_home_ends_the_process_until_all_of_it_is_there() {
    check(
        &cluster(),
        2,
        "kill",
        &[("host.recalled", ENDED, ENDED), ("host.leaving", ENDED, ENDED), ("host.left", UNHARMED, UNHARMED)],
    );
}

#[test]
fn a_guest_killed_on_the_way_home_ends_the_process() {
    let cluster = cluster();
    for point in ["host.leaving", "host.reading"] {
        let before = cluster.times(2, point);
        cluster.fail(2, &format!("{point}:delay=300"));
        let mut subject = Subject::start(&cluster, Manner::Chatty);
        subject.migrate("node2").expect("move it out");
        subject.goes_on();
        std::thread::scope(|scope| {
            let coming = scope.spawn(|| subject.migrate("home"));
            cluster.reached(2, point, before + 1);
            assert_eq!(cluster.kill_guests(2), 1);
            assert!(coming.join().expect("the move").is_err(), "{point}\n{}", cluster.logs());
        });
        assert!(subject.is_ended().contains("node2"), "{point}");
        cluster.heal();
        cluster.is_quiet();
    }
}

//! Connections are cut, at every point of a move and of the way home: both sides hear of it at once.

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::May::{BeEither, NotBe};
use minka_faults_tests::journey::{ENDED, UNHARMED, check};

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

#[test]
fn a_connection_cut_on_the_way_out_leaves_the_process_at_home() {
    let cluster = cluster();
    check(
        &cluster,
        1,
        "cut",
        &[
            ("deputy.prepared", UNHARMED, UNHARMED),
            ("deputy.stopped", UNHARMED, NotBe),
            ("deputy.mapped", NotBe, UNHARMED),
            ("deputy.parked", UNHARMED, UNHARMED),
            ("deputy.sent", UNHARMED, UNHARMED),
            ("deputy.fault", UNHARMED, NotBe),
        ],
    );
    check(
        &cluster,
        2,
        "cut",
        &[
            ("host.offered", UNHARMED, NotBe),
            ("host.prepared", NotBe, UNHARMED),
            ("host.entering", UNHARMED, UNHARMED),
            ("host.fault", UNHARMED, NotBe),
            ("host.built", UNHARMED, UNHARMED),
            ("host.resumed", UNHARMED, BeEither),
        ],
    );
}

#[test]
fn a_connection_cut_while_the_process_is_away_ends_it_once_it_has_had_effects() {
    let cluster = cluster();
    check(
        &cluster,
        1,
        "cut",
        &[
            ("deputy.away", UNHARMED, BeEither),
            ("deputy.streamed", UNHARMED, BeEither),
            ("deputy.call", NotBe, ENDED),
            ("deputy.called", NotBe, ENDED),
        ],
    );
    check(
        &cluster,
        2,
        "cut",
        &[
            ("host.running", UNHARMED, BeEither),
            ("host.streamed", UNHARMED, BeEither),
            ("host.call", NotBe, UNHARMED),
            ("host.result", NotBe, ENDED),
        ],
    );
}

#[test]
fn a_connection_cut_on_the_way_home_ends_the_process_until_all_of_it_is_there() {
    let cluster = cluster();
    check(
        &cluster,
        1,
        "cut",
        &[
            ("deputy.recalling", ENDED, ENDED),
            // What is left may have come already.
            ("deputy.returning", BeEither, BeEither),
            ("deputy.returned", UNHARMED, UNHARMED),
        ],
    );
    check(
        &cluster,
        2,
        "cut",
        &[("host.recalled", ENDED, ENDED), ("host.leaving", ENDED, ENDED), ("host.left", UNHARMED, UNHARMED)],
    );
}

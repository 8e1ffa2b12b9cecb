//! A process that shares memory is killed while its deputy or its host program is at a certain place: the others lose
//! nothing, and find what it had written, and its lock.

use std::time::Duration;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::subject::{Fate, Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use rustix::process::Signal;

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// The others go on at home without the one, can move again, and finish well.
fn go_on_without_it(cluster: &Cluster, mut heirs: Subject<'_>, what: &str) {
    eventually(SOON, &format!("{what}: it is gone"), || heirs.has_lost_other().then_some(()));
    heirs.stays_at_home();
    heirs.goes_on();
    eventually(SOON, &format!("{what}: the others move again"), || heirs.migrate("node2").ok());
    heirs.goes_on();
    heirs.stays_at_home();
    assert_eq!((heirs.fate(), heirs.is_main_ordinary()), (Fate::Lives, Ok(())), "{what}\n{}", cluster.logs());
    heirs.finish();
    let log = cluster.log(1);
    assert!(!log.contains("the process is ended"), "{what}\n{log}");
    cluster.is_quiet();
}

/// Every other family has descriptors of what it shares.
fn heirs(number: usize) -> Manner {
    if number % 2 == 1 { Manner::OpenHeirs } else { Manner::Heirs }
}

/// Sends families to node 2 and home again; one member is killed when its deputy comes to a point.
fn killed_at(points: &[&str]) {
    let cluster = cluster();
    for (number, point) in points.iter().enumerate() {
        let mut heirs = Subject::start(&cluster, heirs(number));
        heirs.goes_on();
        let fault = format!("{point}@{}:end", heirs.other_in_node().expect("another process"));
        let before = cluster.times(1, &fault);
        cluster.fail(1, &fault);
        // Whether these succeed depends on when it strikes.
        let out = heirs.migrate("node2");
        std::thread::sleep(Duration::from_millis(30));
        let home = heirs.migrate("home");
        println!("{fault}: {out:?}, {home:?}");
        cluster.reached(1, &fault, before + 1);
        cluster.heal();
        go_on_without_it(&cluster, heirs, &fault);
    }
}

#[test]
fn one_that_is_killed_on_the_way_out_leaves_the_others_at_home() {
    killed_at(&["deputy.started", "deputy.prepared", "deputy.stopped", "inject#2", "deputy.mapped"]);
}

#[test]
fn one_that_is_killed_when_it_is_hardly_away_is_done_without() {
    killed_at(&["deputy.parked", "deputy.sent", "deputy.away", "deputy.streamed"]);
}

#[test]
fn one_that_is_killed_on_the_way_home_still_brings_what_it_wrote() {
    killed_at(&[
        "deputy.recalling",
        "deputy.returning",
        "deputy.returned",
        "deputy.releasing",
        "deputy.released",
    ]);
}

#[test]
fn one_that_is_killed_while_its_pages_come_home_still_brings_what_it_wrote() {
    let cluster = cluster();
    // By its host's doing the time is known in which it is killed.
    for (number, point) in ["host.recalled", "host.leaving", "host.reading", "host.left"].iter().enumerate() {
        let mut heirs = Subject::start(&cluster, heirs(number));
        heirs.goes_on();
        let fault = format!("{point}@{}:delay=300", heirs.other_in_node().expect("another process"));
        let before = cluster.times(2, &fault);
        cluster.fail(2, &fault);
        heirs.migrate("node2").unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
        std::thread::sleep(Duration::from_millis(30));
        std::thread::scope(|scope| {
            let home = scope.spawn(|| heirs.migrate("home"));
            cluster.reached(2, &fault, before + 1);
            heirs.signal_other(Signal::KILL);
            println!("{fault}: {:?}", home.join().expect("the way home"));
        });
        cluster.heal();
        go_on_without_it(&cluster, heirs, &fault);
    }
}

#[test]
fn one_that_is_killed_at_any_moment_of_the_way_home_costs_the_others_nothing() {
    let cluster = cluster();
    for (number, delay_us) in [0, 1000, 2500, 4000, 6000, 9000, 14_000].into_iter().enumerate() {
        let mut heirs = Subject::start(&cluster, heirs(number));
        heirs.goes_on();
        heirs.migrate("node2").unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
        std::thread::sleep(Duration::from_millis(30));
        std::thread::scope(|scope| {
            let home = scope.spawn(|| heirs.migrate("home"));
            std::thread::sleep(Duration::from_micros(delay_us));
            heirs.signal_other(Signal::KILL);
            println!("after {delay_us} us: {:?}", home.join().expect("the way home"));
        });
        go_on_without_it(&cluster, heirs, &format!("after {delay_us} us"));
    }
}

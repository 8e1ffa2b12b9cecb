//! Programs that are stopped while they compute elsewhere, and told to go on right afterwards.

use std::time::Duration;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use rustix::process::Signal;

#[test]
fn one_that_is_continued_right_after_it_was_stopped_goes_on() {
    let cluster = Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"));
    for manner in [Manner::Quiet, Manner::Chatty, Manner::Crowd] {
        let mut subject = Subject::start(&cluster, manner);
        for round in 0..24 {
            eventually(SOON, "it moves", || subject.migrate("node2").ok());
            subject.signal(Signal::STOP);
            // On its way home, which it takes in order to be stopped there.
            std::thread::sleep(Duration::from_micros(400 * round));
            subject.signal(Signal::CONT);
            subject.goes_on();
        }
        eventually(SOON, "it moves", || subject.migrate("node2").ok());
        subject.signal(Signal::STOP);
        eventually(SOON, "it is stopped", || subject.is_stopped().then_some(()));
        subject.signal(Signal::CONT);
        subject.goes_on();
        subject.finish();
    }
    cluster.is_quiet();
}

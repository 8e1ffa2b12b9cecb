//! On kernels unlike the one here, as far as they can be pretended.

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::away;
use minka_faults_tests::subject::Manner;

/// Where the kernel does not track what is written: as root the first write to each page is a fault.
#[test]
fn everything_that_was_written_away_from_home_comes_home() {
    check(Cluster::pretend_old_kernels);
}

/// Where the vDSO is another: what stands in for the home's tells the same time, and leaves nothing behind.
#[test]
fn programs_go_to_other_kernels_and_on_and_come_home() {
    check(Cluster::pretend_other_kernels);
}

fn check(pretend: fn(&Cluster)) {
    let cluster = Cluster::up(3, env!("CARGO_BIN_EXE_minka-faults-subject"));
    pretend(&cluster);
    for manner in [Manner::Quiet, Manner::Chatty, Manner::Crowd, Manner::Sharing] {
        let mut subject = away(&cluster, manner);
        for node in ["node3", "home", "node2", "home"] {
            subject.migrate(node).expect("move it");
            subject.goes_on();
        }
        // All that it has computed is in its memory, which it checks to the last word.
        subject.finish();
        cluster.is_quiet();
    }
}

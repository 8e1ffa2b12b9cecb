//! Where the kernel does not track what is written: as root the first write to each page is a fault.

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::away;
use minka_faults_tests::subject::Manner;

#[test]
fn everything_that_was_written_away_from_home_comes_home() {
    let cluster = Cluster::up(3, env!("CARGO_BIN_EXE_minka-faults-subject"));
    cluster.pretend_old_kernels();
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

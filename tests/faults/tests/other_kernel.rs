//! Between kernels whose vDSOs differ: what stands in for the home's tells the same time, and leaves nothing behind.

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::away;
use minka_faults_tests::subject::Manner;

#[test]
fn programs_go_to_other_kernels_and_on_and_come_home() {
    let cluster = Cluster::up(3, env!("CARGO_BIN_EXE_minka-faults-subject"));
    cluster.pretend_other_kernels();
    for manner in [Manner::Quiet, Manner::Chatty, Manner::Crowd, Manner::Sharing] {
        let mut subject = away(&cluster, manner);
        for node in ["node3", "home", "node2", "home"] {
            subject.migrate(node).expect("move it");
            subject.goes_on();
        }
        subject.finish();
        cluster.is_quiet();
    }
}

//! What one node says to the other is lost, silently, while the other way all comes through.

use std::process::Stdio;
use std::time::{Duration, Instant};

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::{Outcome, away, refused_at, settle};
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use minka_lab::{Program, node_address};
use minka_node::client::ClientError;
use minka_node::protocol::{Refusal, State};

/// How something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// This node does not hear the other.
    Deaf(u32),
    /// The route from this node leads nowhere.
    Blackhole(u32),
}

use Loss::{Blackhole, Deaf};

const LOSSES: [Loss; 4] = [Deaf(1), Deaf(2), Blackhole(1), Blackhole(2)];

impl Loss {
    /// Whether it is the host's words that are lost.
    fn is_of_host(self) -> bool {
        matches!(self, Deaf(1) | Blackhole(2))
    }

    fn begin(self, cluster: &Cluster) {
        match self {
            Deaf(node) => cluster.lab().deafen(node).expect("break a wire"),
            Blackhole(node) => route(cluster, node, "lose"),
        }
    }

    fn end(self, cluster: &Cluster) {
        match self {
            Deaf(node) => cluster.lab().heal(node).expect("mend a wire"),
            Blackhole(node) => route(cluster, node, "deliver"),
        }
    }
}

fn route(cluster: &Cluster, from: u32, what: &str) {
    let to = node_address(3 - from).to_string();
    let program = Program::new(env!("CARGO_BIN_EXE_minka-faults-blackhole")).arguments([what, &to]);
    let status = cluster.lab().exec(from, program.stdin(Stdio::null()));
    assert!(status.expect("change a route").success());
}

/// Does the same for every loss at the same time, each in a cluster of its own: most of it is waiting.
fn with_each(cluster: impl Fn(&str) -> Cluster + Sync, act: impl Fn(&Cluster, Loss) + Sync) {
    at_the_same_time(&LOSSES, &cluster, &act);
}

fn at_the_same_time(
    losses: &[Loss],
    cluster: &(impl Fn(&str) -> Cluster + Sync),
    act: &(impl Fn(&Cluster, Loss) + Sync),
) {
    std::thread::scope(|scope| {
        for loss in losses {
            let acting = move || act(&cluster(env!("CARGO_BIN_EXE_minka-faults-subject")), *loss);
            let thread = std::thread::Builder::new().name(format!("{loss:?}"));
            thread.spawn_scoped(scope, acting).expect("start a thread");
        }
    });
}

fn cluster(subject: &str) -> Cluster {
    Cluster::up(2, subject)
}

#[test]
fn words_lost_before_or_in_the_freeze_leave_the_process_at_home() {
    with_each(cluster, |cluster, loss| {
        let mut subject = Subject::start(cluster, Manner::Crowd);
        refused_at(cluster, &subject, "host.entering", || loss.begin(cluster));
        subject.is_unharmed();
        cluster.heal();

        let start = Instant::now();
        let Err(ClientError::Refused(Refusal::NotMoved { reason, .. })) = subject.migrate("node2") else {
            panic!("it moved in spite of {loss:?}\n{}", cluster.logs())
        };
        assert!(
            reason.contains("10.77.0.2") && start.elapsed() < SOON,
            "{reason} after {:?}",
            start.elapsed()
        );
        subject.is_unharmed();

        loss.end(cluster);
        eventually(SOON, "the next move succeeds", || subject.migrate("node2").ok());
        subject.travels_and_finishes();
        cluster.is_quiet();
    });
}

#[test]
fn words_lost_later_end_the_process_once_it_has_had_effects() {
    with_each(cluster, |cluster, loss| {
        let [mut quiet, mut chatty, mut crowd] =
            [Manner::Quiet, Manner::Chatty, Manner::Crowd].map(|manner| away(cluster, manner));
        loss.begin(cluster);
        assert!(chatty.is_ended().contains("node2") && crowd.is_ended().contains("node2"));
        // One side hears nothing, and nobody hears the other: both come to the same end.
        quiet.is_unharmed();
        eventually(SOON, "the guests are gone", || {
            (cluster.client(2).status().expect("ask the host").guests == 0).then_some(())
        });
        quiet.stays_at_home();
        cluster.is_quiet();
        loss.end(cluster);
        eventually(SOON, "the next move succeeds", || quiet.migrate("node2").ok());
        quiet.travels_and_finishes();
    });
}

#[test]
fn words_lost_on_the_way_home_end_the_process_unless_all_of_it_is_there() {
    with_each(cluster, |cluster, loss| {
        cluster.fail(2, "host.leaving:delay=300");
        let subject = away(cluster, Manner::Crowd);
        std::thread::scope(|scope| {
            let coming = scope.spawn(|| subject.migrate("home"));
            cluster.reached(2, "host.leaving", 1);
            loss.begin(cluster);
            // All may be under way already, and then the home needs to say nothing any more.
            let came = coming.join().expect("the move").is_ok();
            assert!(!(came && loss.is_of_host()), "{loss:?}\n{}", cluster.logs());
        });
        loss.end(cluster);
        cluster.heal();
        let outcome = settle(cluster, subject, &format!("{loss:?}"));
        assert!(outcome == Outcome::Ended || !loss.is_of_host(), "{loss:?}\n{}", cluster.logs());
        cluster.is_quiet();
    });
}

#[test]
fn words_that_soon_come_through_again_are_not_missed() {
    let patient = |subject: &str| Cluster::patient(2, subject, 8);
    let act = |cluster: &Cluster, loss: Loss| {
        let mut subjects = [Manner::Quiet, Manner::Chatty, Manner::Crowd].map(|manner| away(cluster, manner));
        loss.begin(cluster);
        std::thread::sleep(Duration::from_millis(400));
        loss.end(cluster);
        subjects.iter_mut().for_each(Subject::goes_on);
        for subject in &subjects {
            assert_eq!(subject.shown().map(|process| process.state), Some(State::Away), "{}", cluster.logs());
            let came = subject.migrate("home");
            assert!(came.is_ok(), "bring it home: {came:?}\n{}", cluster.logs());
        }
        subjects.into_iter().for_each(Subject::travels_and_finishes);
        cluster.is_quiet();
    };
    // Programs that compute are moved all the while: few at once, so that nothing takes long but what is lost.
    LOSSES.chunks(2).for_each(|losses| at_the_same_time(losses, &patient, &act));
}

//! A subject's way out and home while something fails, and what came of it.

use std::time::Duration;

use minka_node::client::ClientError;
use minka_node::protocol::{Refusal, State};

use crate::cluster::Cluster;
use crate::subject::{Fate, Manner, Subject};
use crate::{SOON, eventually};

/// What came of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The process goes on at home, as if nothing had been.
    Unharmed,
    /// It has ended as by SIGKILL, and its node says why.
    Ended,
}

/// What may come of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Only this.
    Be(Outcome),
    /// Whether its first effect was sooner than the fault is a matter of luck.
    BeEither,
    /// This subject never comes to that point.
    NotBe,
}

/// The process goes on.
pub const UNHARMED: May = May::Be(Outcome::Unharmed);
/// The process has ended.
pub const ENDED: May = May::Be(Outcome::Ended);

/// Sends subjects of all manners to node 2 and home again, once for each fault, and checks what comes of it.
///
/// In a fault of a family's, `@own` names its main process and `@other` another one.
///
/// `cases`: a fault on `node`, and what may come of it for a quiet subject and for those that make calls.
///
/// # Panics
/// When something else comes of one, with the logs.
pub fn check(cluster: &Cluster, node: u32, action: &str, cases: &[(&str, May, May)]) {
    for (point, quiet, chatty) in cases {
        let fault = format!("{point}:{action}");
        let chatty_ones = [Manner::Chatty, Manner::Crowd, Manner::Sharing].map(|manner| (manner, chatty));
        for (manner, may) in [(Manner::Quiet, quiet)].into_iter().chain(chatty_ones) {
            if *may == May::NotBe {
                continue;
            }
            let outcome = travel_slowed(cluster, manner, node, slowed(point), &fault);
            println!("{fault} on node{node}, {manner:?}: {outcome:?}");
            let allowed = *may == May::BeEither || *may == May::Be(outcome);
            assert!(allowed, "{fault} {manner:?}: {outcome:?}\n{}", cluster.logs());
        }
    }
}

/// Sends a subject to node 2 and home again, with faults on `node` (separated by blanks), and says what came of it.
///
/// # Panics
/// When a fault was not reached, the process was harmed otherwise than by a clean end, anything of the journey is
/// left, or the next one does not succeed.
pub fn travel(cluster: &Cluster, manner: Manner, node: u32, faults: &str) -> Outcome {
    travel_slowed(cluster, manner, node, "", faults)
}

/// What makes it certain that a point is reached: pages are missed only while they are on their way.
fn slowed(point: &str) -> &'static str {
    match point {
        "host.fault" => "host.streamed:delay=50",
        "deputy.fault" => "deputy.streamed:delay=50",
        _ => "",
    }
}

fn travel_slowed(cluster: &Cluster, manner: Manner, node: u32, slowed: &str, faults: &str) -> Outcome {
    let subject = Subject::start(cluster, manner);
    let own = format!("@{}:", subject.pid_in_node);
    let other = subject.other_in_node().map_or_else(|| own.clone(), |pid| format!("@{pid}:"));
    let faults = &faults.replace("@own:", &own).replace("@other:", &other);
    let before: Vec<(&str, usize)> =
        faults.split(' ').map(|fault| (fault, cluster.times(node, fault))).collect();
    let struck = || before.iter().any(|(fault, before)| cluster.times(node, fault) > *before);
    cluster.fail(node, format!("{slowed} {faults}").trim());
    // Whether these succeed depends on when the fault strikes.
    let out = subject.migrate("node2");
    if out.is_ok() {
        // It may strike while the process is away.
        let _ = wait_a_little(struck);
    }
    let home = if struck() { None } else { Some(subject.migrate("home")) };
    before.iter().for_each(|(fault, before)| cluster.reached(node, fault, before + 1));
    cluster.heal();
    let outcome = settle(cluster, subject, &format!("{faults}: {out:?} {home:?}"));
    cluster.is_quiet();
    outcome
}

/// A subject that is at node 2.
pub fn away(cluster: &Cluster, manner: Manner) -> Subject<'_> {
    let mut subject = Subject::start(cluster, manner);
    let moved = subject.migrate("node2");
    assert!(moved.is_ok(), "move it out: {moved:?}\n{}", cluster.logs());
    subject.goes_on();
    subject
}

/// Moves a subject out and does something while the host program waits at a point of that; the answer.
///
/// # Panics
/// When the move is not refused.
pub fn refused_at(cluster: &Cluster, subject: &Subject<'_>, point: &str, act: impl FnOnce()) -> Refusal {
    let before = cluster.times(2, point);
    cluster.fail(2, &format!("{point}:delay=2500"));
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| subject.migrate("node2"));
        cluster.reached(2, point, before + 1);
        act();
        match moving.join().expect("the move") {
            Err(ClientError::Refused(refusal)) => refusal,
            other => panic!("{other:?}\n{}", cluster.logs()),
        }
    })
}

fn wait_a_little(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..120 {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Waits until it is clear what came of a subject, and checks that it is one or the other altogether.
///
/// # Panics
/// When it is not.
pub fn settle(cluster: &Cluster, mut subject: Subject<'_>, what: &str) -> Outcome {
    // Either it ends, or it is at home in the end: by itself, or because nobody wants it elsewhere any more.
    let mut asked = false;
    eventually(SOON, &format!("the outcome of {what}"), || {
        if subject.fate() != Fate::Lives {
            return Some(());
        }
        asked |= subject.migrate("home").is_ok();
        let at_home = subject.shown().is_none_or(|process| process.state == State::Home);
        (asked && at_home && subject.is_ordinary().is_ok()).then_some(())
    });
    if subject.fate() == Fate::Lives {
        subject.is_unharmed();
        subject.travels_and_finishes();
        return Outcome::Unharmed;
    }
    let reason = subject.is_ended();
    assert!(!reason.is_empty(), "{what}: no reason\n{}", cluster.logs());
    Outcome::Ended
}

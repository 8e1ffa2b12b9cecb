//! A subject's way out and home while something fails, and what came of it.

use minka_node::protocol::State;

use crate::cluster::Cluster;
use crate::subject::{Fate, Manner, Subject};
use crate::{SOON, eventually};

/// What came of a journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The process goes on at home, as if nothing had been. With the reason that its node shows.
    Unharmed(Option<String>),
    /// It has ended as by SIGKILL, for this reason.
    Ended(String),
}

/// Sends a subject to node 2 and home again, with a `fault` on `node`, and says what came of it.
///
/// # Panics
/// When the fault was not reached, the process was harmed otherwise than by a clean end, or anything of the journey
/// is left.
pub fn travel(cluster: &Cluster, manner: Manner, node: u32, fault: &str) -> Outcome {
    let before = cluster.times(node, fault);
    let mut subject = Subject::start(cluster, manner);
    cluster.fail(node, fault);
    // Whether these succeed depends on when the fault strikes.
    let out = subject.migrate("node2");
    let struck = || cluster.times(node, fault) > before;
    if out.is_ok() && !struck() {
        // It may strike while the process is away.
        for _ in 0..40 {
            if struck() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    let home = if struck() { None } else { Some(subject.migrate("home")) };
    cluster.reached(node, fault, before + 1);
    cluster.heal();
    // Either it ends, or it is at home in the end: by itself, or because nobody wants it elsewhere any more.
    let mut asked = false;
    eventually(SOON, &format!("the outcome of {fault}: {out:?} {home:?}\n{}", cluster.logs()), || {
        if subject.fate() != Fate::Lives {
            return Some(());
        }
        asked |= subject.migrate("home").is_ok();
        let shown = subject.shown();
        let at_home = shown.is_none_or(|process| process.state == State::Home);
        (asked && at_home && subject.is_ordinary().is_ok()).then_some(())
    });
    let outcome = if subject.fate() == Fate::Lives {
        subject.is_unharmed();
        let reason = subject.shown().and_then(|process| process.reason);
        subject.travels_and_finishes();
        Outcome::Unharmed(reason)
    } else {
        Outcome::Ended(subject.is_ended())
    };
    cluster.is_quiet();
    outcome
}

//! Who is at this node, from one look at it to the next.
//!
//! It looks at itself once a second. Programs that compute for less than that come and go meanwhile, and who counted those
//! that are gone as there, and those that have come as not, would send the next ones to the wrong place.

use super::Balancer;
use crate::NodeId;
use crate::balance::{Candidate, Demand, ProcessId};
use crate::gossip::{Millis, Vector};

impl Balancer {
    /// Somebody computes here from now on.
    pub(in crate::node) fn came(&mut self, candidate: Candidate) {
        self.gone(candidate.process);
        // The next look shows it.
        self.here = self.here.map(|here| here.with(&candidate.demand));
        self.candidates.push(candidate);
    }

    /// Somebody does not any more.
    pub(in crate::node) fn gone(&mut self, process: ProcessId) {
        let Some(position) = self.candidates.iter().position(|it| it.process == process) else { return };
        let candidate = self.candidates.swap_remove(position);
        self.here = self.here.map(|here| here.without(&candidate.demand));
    }

    /// Those who are still here, of those whose home this is.
    pub(in crate::node) fn keep(&mut self, is_here: impl Fn(ProcessId) -> bool) {
        let own = self.candidates.iter().filter(|it| it.home.is_none()).map(|it| it.process);
        let gone: Vec<ProcessId> = own.filter(|process| !is_here(*process)).collect();
        gone.into_iter().for_each(|process| self.gone(process));
    }

    /// What somebody wants who is here.
    pub(in crate::node) fn wants(&self, process: ProcessId) -> Option<Demand> {
        self.candidates.iter().find(|it| it.process == process).map(|it| it.demand)
    }

    /// A process of this node was at another one, and is not any more.
    pub(in crate::node) fn left(&mut self, now: Millis, node: NodeId, demand: &Demand, vector: &Vector) {
        self.view.left(now, node, demand, vector);
    }
}

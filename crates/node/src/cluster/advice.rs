//! What users say of their processes.
//!
//! It is said in the environment when a program is started (`mosrun`), or of a process that runs (`minka_node::advice`),
//! and the latter counts more. What is said of a process that runs holds for what it starts afterwards, too, if its
//! children are looked at for the first time while it is still there.

use minka_cluster::load::{Job, Pace};

use super::fates::Environment;
use super::{Cluster, millis, now};
use crate::processes::Identity;
use crate::protocol::{self, Advice};

/// What was said of a process that runs; nothing of what was not mentioned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) locked: Option<bool>,
    job: Option<Job>,
    pace: Option<Pace>,
}

impl Marks {
    /// What holds for a process with this environment.
    pub(super) fn over(self, environment: Environment) -> Environment {
        Environment {
            locked: self.locked.unwrap_or(environment.locked),
            job: self.job.unwrap_or(environment.job),
            pace: self.pace.unwrap_or(environment.pace),
            ..environment
        }
    }
}

impl Cluster {
    /// A user says something of a process of this node.
    pub(crate) fn advise(&self, process: &Identity, advice: Advice) {
        let state = &mut *self.lock();
        let fate = state.looks.fate_of(process.pid, process.start);
        fate.seen = millis(now());
        match advice {
            Advice::Lock { on } => fate.marks.locked = Some(on),
            Advice::Job { kind: protocol::Job::Cpu } => fate.marks.job = Some(Job::Cpu),
            Advice::Job { kind: protocol::Job::Io } => fate.marks.job = Some(Job::Io),
            Advice::Decay { pace } => {
                fate.marks.pace = Some(match pace {
                    protocol::Pace::Slow => Pace::Slow,
                    protocol::Pace::Fast => Pace::Fast,
                    protocol::Pace::Never => Pace::Never,
                });
            }
            Advice::Clear => fate.usage.clear(),
        }
    }

    /// Whether a process stays where it is unless its user moves it.
    pub(crate) fn is_locked(&self, process: &Identity) -> bool {
        let marks = self.lock().looks.fate_of(process.pid, process.start).marks;
        marks.over(Environment::of(process.pid)).locked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_running_process_counts_more_than_its_environment() {
        let environment = Environment { started: true, locked: true, pace: Pace::Fast, job: Job::Io };
        assert_eq!(Marks::default().over(environment), environment);
        let marks = Marks { locked: Some(false), job: Some(Job::Cpu), pace: None };
        let expected = Environment { locked: false, job: Job::Cpu, ..environment };
        assert_eq!(marks.over(environment), expected);
    }
}

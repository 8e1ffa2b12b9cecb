//! What a process is said to do mostly, where its user knows better than what was counted so far.

/// Forwarded calls a second that are expected of a process that reads and writes: at what one costs
/// (`Settings::call_s`) it would lose half of its time away from home.
const IO_CALLS_PER_S: f64 = 10_000.0;

/// What a process mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Job {
    /// Nobody has said; what it does is counted.
    #[default]
    Counted,
    /// It computes (`cpujob`): the calls that it makes meanwhile do not count.
    Cpu,
    /// It reads and writes (`iojob`), though it may not have begun to.
    Io,
}

impl Job {
    /// Forwarded calls a second that the balancer goes by, where so many were counted.
    pub fn calls_per_s(self, counted: f64) -> f64 {
        match self {
            Job::Counted => counted,
            Job::Cpu => 0.0,
            Job::Io => counted.max(IO_CALLS_PER_S),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_more_than_what_was_counted() {
        let told =
            [Job::Counted, Job::Cpu, Job::Io].map(|job| [7.0, 1e6].map(|calls| job.calls_per_s(calls)));
        assert_eq!(told, [[7.0, 1e6], [0.0, 0.0], [IO_CALLS_PER_S, 1e6]]);
    }
}

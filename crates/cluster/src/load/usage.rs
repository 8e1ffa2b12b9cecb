//! What a process uses, as far as it is known.

use std::time::Duration;

use super::decay::{Decay, Pace};

/// Use of the processor and of forwarded calls by one process, the newer the more it counts.
#[derive(Debug, Clone)]
pub struct Usage {
    pace: Pace,
    /// Decayed seconds of processor time, and of time, that they are a part of.
    computed_s: f64,
    observed_s: f64,
    /// Decayed forwarded calls.
    calls: f64,
    /// MOSIX's own short average: five eighths of the old and three of the last second.
    share: f64,
    computed_ever: Duration,
}

impl Usage {
    /// Nothing is known yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, computed_s: 0.0, observed_s: 0.0, calls: 0.0, share: 0.0, computed_ever: Duration::ZERO }
    }

    /// Takes in what the process used of the processor, and how many calls were forwarded for it, during `elapsed`.
    pub fn observe(&mut self, decay: &Decay, elapsed: Duration, computed: Duration, calls: u64) {
        if elapsed.is_zero() {
            return;
        }
        let kept = decay.kept(self.pace, elapsed);
        let elapsed_s = elapsed.as_secs_f64();
        self.computed_s = self.computed_s * kept + computed.as_secs_f64();
        self.observed_s = self.observed_s * kept + elapsed_s;
        self.calls = self.calls * kept + calls as f64;
        self.share = (5.0 * self.share + 3.0 * (computed.as_secs_f64() / elapsed_s)) / 8.0;
        self.computed_ever = self.computed_ever.saturating_add(computed);
    }

    /// Forgets everything but how much it has computed in all (`clear`).
    pub fn clear(&mut self) {
        let ever = self.computed_ever;
        *self = Self { computed_ever: ever, ..Self::new(self.pace) };
    }

    /// Changes how fast it forgets from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Processors it uses, over its remembered past; 1.0 is one that it never lets go.
    pub fn processors(&self) -> f64 {
        if self.observed_s > 0.0 { self.computed_s / self.observed_s } else { 0.0 }
    }

    /// Processors it uses, over the last few seconds.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Forwarded calls a second, over its remembered past.
    pub fn calls_per_s(&self) -> f64 {
        if self.observed_s > 0.0 { self.calls / self.observed_s } else { 0.0 }
    }

    /// Processor time that it has used since it is known.
    pub fn computed_ever(&self) -> Duration {
        self.computed_ever
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A process that computed for a minute and has slept for ten seconds since.
    fn sleeper(pace: Pace) -> Usage {
        let mut usage = Usage::new(pace);
        for _ in 0..60 {
            usage.observe(&Decay::default(), SECOND, SECOND, 10);
        }
        for _ in 0..10 {
            usage.observe(&Decay::default(), SECOND, Duration::ZERO, 0);
        }
        usage
    }

    #[test]
    fn the_faster_the_pace_the_sooner_the_past_is_forgotten() {
        let [fast, slow, never] =
            [Pace::Fast, Pace::Slow, Pace::Never].map(|pace| sleeper(pace).processors());
        assert!(fast < slow && slow < never, "{fast} {slow} {never}");
        assert!((never - 60.0 / 70.0).abs() < 1e-9);
    }

    #[test]
    fn calls_are_remembered_as_long_as_computing() {
        let usage = sleeper(Pace::Slow);
        assert!((usage.calls_per_s() - 10.0 * usage.processors()).abs() < 1e-9);
        assert_eq!(usage.computed_ever(), 60 * SECOND);
        assert!(usage.share() < 0.01);
    }

    #[test]
    fn clearing_leaves_the_whole_sum() {
        let mut usage = sleeper(Pace::Slow);
        usage.clear();
        assert_eq!((usage.processors(), usage.computed_ever()), (0.0, 60 * SECOND));
        usage.observe(&Decay::default(), Duration::ZERO, SECOND, 1);
        assert_eq!(usage.processors(), 0.0);
    }
}

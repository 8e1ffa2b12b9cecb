//! How fast what is known of a process is forgotten.
//!
//! Every interval a part of the statistics is kept and the rest forgotten. A process that computes for hours should be
//! judged by its long past, one that changes its ways every few seconds by the last ones. `mosctl setdecay` sets
//! interval and parts for a node; a process, or whoever starts it, may ask for one pace or the other, or for none.

use std::num::NonZeroU16;
use std::time::Duration;

/// Which pace a process's statistics are forgotten at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// What everybody has who asks for nothing else.
    #[default]
    Slow,
    /// For what changes its ways often (`fastdecay`).
    Fast,
    /// Nothing is ever forgotten (`nodecay`).
    Never,
    /// Whoever started it has said how (`mosrun -t -d`).
    Own(OwnPace),
}

/// A pace of a process's own; what is not said is as for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnPace {
    /// What is not said is as for those that asked for the fast pace.
    pub fast: bool,
    /// How often a part is forgotten, in seconds.
    pub interval_s: Option<NonZeroU16>,
    /// The part that is kept, of a thousand.
    pub permille: Option<u16>,
}

/// A node's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    /// How often a part is forgotten; not zero.
    interval: Duration,
    slow_permille: u16,
    fast_permille: u16,
}

impl Decay {
    /// Settings; `None` if the interval is zero or a part is larger than the whole.
    pub fn new(interval: Duration, slow_permille: u16, fast_permille: u16) -> Option<Self> {
        let sound = !interval.is_zero() && slow_permille <= 1000 && fast_permille <= 1000;
        sound.then_some(Self { interval, slow_permille, fast_permille })
    }

    /// How often a part is forgotten.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The parts that are kept, of a thousand, at the slow and at the fast pace.
    pub fn permille(&self) -> (u16, u16) {
        (self.slow_permille, self.fast_permille)
    }

    /// The part that is left of a figure after a time.
    pub fn kept(&self, pace: Pace, time: Duration) -> f64 {
        let own = match pace {
            Pace::Slow => OwnPace::default(),
            Pace::Fast => OwnPace { fast: true, ..OwnPace::default() },
            Pace::Never => return 1.0,
            Pace::Own(own) => own,
        };
        let usual = if own.fast { self.fast_permille } else { self.slow_permille };
        let permille = own.permille.unwrap_or(usual).min(1000);
        let interval_s = own.interval_s.map_or(self.interval.as_secs_f64(), |interval| interval.get().into());
        (f64::from(permille) / 1000.0).powf(time.as_secs_f64() / interval_s)
    }
}

/// openMosix's own: 975 and 926 of a thousand each second.
impl Default for Decay {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), slow_permille: 975, fast_permille: 926 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_forgotten_after_27_intervals_or_9() {
        let decay = Decay::default();
        let check = |pace, seconds: f64, expected: f64| {
            let kept = decay.kept(pace, Duration::from_secs_f64(seconds));
            assert!((kept - expected).abs() < 0.001, "{pace:?} {seconds}: {kept}");
        };
        check(Pace::Slow, 27.38, 0.5);
        check(Pace::Fast, 9.015, 0.5);
        check(Pace::Never, 1e6, 1.0);
        check(Pace::Slow, 0.0, 1.0);
        let own = OwnPace { fast: true, interval_s: NonZeroU16::new(10), permille: None };
        check(Pace::Own(own), 90.15, 0.5);
        check(Pace::Own(OwnPace { permille: Some(500), ..own }), 10.0, 0.5);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(Decay::new(Duration::ZERO, 975, 926), None);
        assert_eq!(Decay::new(Duration::from_secs(1), 1001, 926), None);
        assert!(Decay::new(Duration::from_secs(5), 1000, 0).is_some());
    }
}

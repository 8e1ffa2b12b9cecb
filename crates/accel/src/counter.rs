//! Rates from counters that step back, wrap, are reset and jump.
//!
//! Energy counters have been seen to fall to nearly nothing for one read and to come back at the next. A rate
//! taken across either step is nonsense, up to terawatts; both steps are left out:
//!
//! ```text
//!   22.0 MJ ──100 W──► 22.0001 ──► 0.0002 ──► 22.0003 ──100 W──► …
//!                            left out    measured from the summit, not from the dip
//! ```
//!
//! After a step back the greatest value before it is remembered as the summit. A counter that climbs over it
//! within a few samples has come back: the rate is taken from the summit. Otherwise it was reset, and is trusted
//! from its new beginning.

/// A step shorter than this says nothing: the counters themselves are updated about as seldom.
pub const SECONDS_MIN: f64 = 0.02;

/// So many samples after a step back the counter counts as reset.
const STEPS_OF_A_DIP: u8 = 3;

/// A counter and what is known of it.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    last: Option<Point>,
    summit: Option<(Point, u8)>,
    total: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    value: f64,
    seconds: f64,
}

/// What a sample of a counter tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// The first sample.
    First,
    /// Too soon after the last to tell anything.
    TooSoon,
    /// Units per second.
    Rate(f64),
    /// It stepped back: a dip, a wrap or a reset.
    Back,
    /// It went faster than the device can.
    Jump,
}

impl Meter {
    /// Takes a sample: the counter's value at a time in seconds. A rate above `ceiling` is not believed.
    pub fn observe(&mut self, value: f64, seconds: f64, ceiling: f64) -> Step {
        let now = Point { value, seconds };
        let Some(last) = self.last else {
            self.last = Some(now);
            self.total = value;
            return Step::First;
        };
        if seconds - last.seconds < SECONDS_MIN {
            return Step::TooSoon;
        }
        self.last = Some(now);
        if value < last.value {
            if self.summit.is_none_or(|(summit, _)| summit.value < last.value) {
                self.summit = Some((last, 0));
            }
            return Step::Back;
        }
        let base = match self.summit.take() {
            Some((summit, _)) if value >= summit.value => summit,
            Some((summit, steps)) if steps + 1 < STEPS_OF_A_DIP => {
                self.summit = Some((summit, steps + 1));
                last
            }
            _ => last,
        };
        let (amount, rate) =
            (value - base.value, (value - base.value) / (seconds - base.seconds).max(SECONDS_MIN));
        if rate > ceiling {
            return Step::Jump;
        }
        self.total += amount;
        Step::Rate(rate)
    }

    /// What was counted, beginning with the first value: it never steps back, and never jumps.
    pub fn total(&self) -> Option<f64> {
        self.last.map(|_| self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dip_and_its_end_are_no_spike() {
        let mut meter = Meter::default();
        // Joules, one sample a second, as once seen on a data centre card.
        let steps: Vec<Step> = [22.0e6, 22.0001e6, 200.0, 22.0003e6, 22.0004e6]
            .iter()
            .zip(0_u32..)
            .map(|(value, second)| meter.observe(*value, second.into(), 600.0))
            .collect();
        let near = |step: Step, watts: f64| match step {
            Step::Rate(rate) => assert!((rate - watts).abs() < 0.01, "{rate}"),
            other => panic!("{other:?}"),
        };
        assert_eq!((steps[0], steps[2]), (Step::First, Step::Back));
        near(steps[1], 100.0);
        near(steps[3], 100.0);
        near(steps[4], 100.0);
        assert!((meter.total().unwrap() - 22.0004e6).abs() < 0.01);
    }

    #[test]
    fn a_reset_counter_is_trusted_from_its_new_beginning() {
        let mut meter = Meter::default();
        for (value, second) in [(1000.0, 0.0), (1100.0, 1.0), (0.0, 2.0)] {
            meter.observe(value, second, 600.0);
        }
        for second in 3..30_u32 {
            let value = f64::from(second - 2) * 50.0;
            assert_eq!(meter.observe(value, second.into(), 600.0), Step::Rate(50.0), "{second}");
        }
    }

    #[test]
    fn two_samples_at_once_tell_nothing() {
        let mut meter = Meter::default();
        assert_eq!(meter.observe(1.0, 5.0, 600.0), Step::First);
        assert_eq!(meter.observe(9e9, 5.0, 600.0), Step::TooSoon);
        assert_eq!(meter.observe(51.0, 6.0, 600.0), Step::Rate(50.0));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Count(f64),
        Dip(f64),
        Reset,
        Wrap,
        Garbage(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0.0..600.0).prop_map(Event::Count),
            1 => (0.0..1e7).prop_map(Event::Dip),
            1 => Just(Event::Reset),
            1 => Just(Event::Wrap),
            1 => any::<u64>().prop_map(Event::Garbage),
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_makes_a_spike(start in 0.0..1e9, events in prop::collection::vec(event(), 1..200)) {
            let (mut meter, mut truth, mut total) = (Meter::default(), start, 0.0_f64);
            for (event, second) in events.iter().zip(0_u32..) {
                let shown = match event {
                    Event::Count(watts) => { truth += watts; truth }
                    Event::Dip(value) => value.min(truth),
                    Event::Reset => { truth = 0.0; truth }
                    Event::Wrap => { truth %= 4_294.967_296; truth }
                    Event::Garbage(value) => *value as f64 * 1e-6,
                };
                if let Step::Rate(rate) = meter.observe(shown, second.into(), 2400.0) {
                    prop_assert!((0.0..=2400.0).contains(&rate), "{}", rate);
                }
                let now = meter.total().unwrap();
                prop_assert!(second == 0 || (now >= total && now - total <= 2400.0 * f64::from(second + 1)));
                total = now;
            }
        }

        #[test]
        fn an_honest_counter_is_measured_exactly(watts in prop::collection::vec(0.0..600.0, 1..100)) {
            let (mut meter, mut value) = (Meter::default(), 0.0);
            meter.observe(value, 0.0, 2400.0);
            for (watts, second) in watts.iter().zip(1_u32..) {
                value += watts;
                let Step::Rate(rate) = meter.observe(value, second.into(), 2400.0) else { panic!() };
                prop_assert!((rate - watts).abs() < 1e-6);
            }
        }
    }
}

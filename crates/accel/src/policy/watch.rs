//! Judging a policy by samples.

use serde::Serialize;

use super::{Comparison, Kind, Policy};
use crate::device::{Moment, Sample};
use crate::metric::Metric;
use crate::statistics::Quantity;

/// What was found of a policy's subject.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    /// A value that goes up and down.
    Value(f64),
    /// A number of events so far.
    Count(f64),
    /// Something that holds or does not.
    Flag(bool),
    /// Nothing, and why.
    Nothing(String),
}

fn find(kind: Kind, sample: Option<&Sample>) -> Finding {
    let Some(sample) = sample.filter(|sample| !sample.gone) else {
        return match kind {
            Kind::GpuMissing => Finding::Flag(true),
            _ => Finding::Nothing("the device is gone".to_owned()),
        };
    };
    let missing = |metric| {
        let reason = sample.reason(metric).map(ToString::to_string);
        Finding::Nothing(reason.unwrap_or_else(|| "the driver does not tell it".to_owned()))
    };
    let value = |value: Option<f64>, metric| value.map_or_else(|| missing(metric), Finding::Value);
    let errors = |place| {
        let count = sample.number(Metric::Errors, &[place]);
        count.map_or_else(|| missing(Metric::Errors), Finding::Count)
    };
    match kind {
        Kind::GpuTemperature => value(sample.core_temperature(), Metric::Temperature),
        Kind::GpuMemoryTemperature => value(sample.memory_temperature(), Metric::Temperature),
        Kind::GpuPower => value(sample.power(), Metric::Power),
        Kind::RasReset | Kind::RasProgramming => {
            Finding::Nothing("no kernel driver counts them for everybody to see".to_owned())
        }
        Kind::RasDriver => match sample.at(Metric::ErrorState, "").map(|reading| &reading.value) {
            // i915 keeps what it knows of the last hang until somebody clears it.
            Some(Ok(state)) => Finding::Flag(!state.to_string().starts_with("No error state")),
            _ => missing(Metric::ErrorState),
        },
        Kind::RasCacheCorrectable => errors("corrected"),
        Kind::RasCacheUncorrectable => errors("uncorrected"),
        Kind::GpuMissing => Finding::Flag(false),
        Kind::GpuThrottle => Quantity::Throttled
            .of(sample)
            .map_or_else(|| missing(Metric::Throttled), |held| Finding::Flag(held != 0.0)),
    }
}

/// Samples below the threshold before a policy is clear again.
const CALM_SAMPLES: u32 = 3;

/// After so many seconds without another one, an error is over.
const QUIET_SECONDS: f64 = 300.0;

/// A policy over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    raised: bool,
    calm: u32,
    count: Option<f64>,
    last: Option<Moment>,
}

/// What has changed with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    /// It is raised now.
    Raised,
    /// It is clear again.
    Cleared,
}

/// What a sample says of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What has changed, if anything has.
    pub turn: Option<Turn>,
    /// The value that was looked at.
    pub value: Option<f64>,
    /// In words: what was compared, or why nothing could be.
    pub description: String,
}

impl Watch {
    /// A watch that begins with the policy raised, if it was so before.
    pub fn new(raised: bool) -> Self {
        Watch { raised, calm: 0, count: None, last: None }
    }

    /// Whether the policy is raised.
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Takes a sample; `None` when there is no such device.
    pub fn step(&mut self, policy: &Policy, sample: Option<&Sample>, now: Moment) -> Verdict {
        let finding = find(policy.kind, sample);
        let (holds, calm, value, description) = match finding {
            Finding::Nothing(reason) => {
                return Verdict { turn: None, value: None, description: format!("unknown: {reason}") };
            }
            Finding::Flag(holds) => {
                let description = if holds { "it is so" } else { "it is not so" };
                (holds, !holds, None, description.to_owned())
            }
            Finding::Value(value) | Finding::Count(value) if policy.condition != Comparison::WhenOccur => {
                let (holds, calm) = compare(policy, value);
                (
                    holds,
                    calm,
                    Some(value),
                    format!("{value:.1} against {:.1}", policy.threshold.unwrap_or(0.0)),
                )
            }
            Finding::Value(count) | Finding::Count(count) => return self.count(count, now),
        };
        self.calm = if calm { self.calm + 1 } else { 0 };
        let raised = if self.raised { self.calm < CALM_SAMPLES } else { holds };
        Verdict { turn: self.turn(raised), value, description }
    }

    fn count(&mut self, count: f64, now: Moment) -> Verdict {
        let before = self.count.replace(count).unwrap_or(count);
        if count > before {
            self.last = Some(now);
        }
        // A policy that was raised when this watch began has its quiet time from then on.
        let last = *self.last.get_or_insert(if self.raised { now } else { Moment(f64::NEG_INFINITY) });
        let turn = self.turn(now.0 - last.0 < QUIET_SECONDS);
        let description = format!("{:.0} more, {count:.0} in all", (count - before).max(0.0));
        Verdict { turn, value: Some(count), description }
    }

    fn turn(&mut self, raised: bool) -> Option<Turn> {
        let turn = (raised != self.raised).then_some(if raised { Turn::Raised } else { Turn::Cleared });
        self.raised = raised;
        turn
    }
}

/// Whether the condition holds, and whether it is so far from holding that it counts as calm.
fn compare(policy: &Policy, value: f64) -> (bool, bool) {
    let threshold = policy.threshold.unwrap_or(0.0);
    let margin = match policy.kind {
        Kind::GpuTemperature | Kind::GpuMemoryTemperature => 3.0,
        Kind::GpuPower => (threshold * 0.05).abs(),
        _ => 0.0,
    };
    match policy.condition {
        Comparison::Greater => (value > threshold, value <= threshold - margin),
        Comparison::Less => (value < threshold, value >= threshold + margin),
        Comparison::WhenOccur => (false, true),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::super::Action;
    use super::*;
    use crate::identity::{DeviceType, Identity};
    use crate::value::{Reading, Reason, Value};

    fn sample(readings: &[(Metric, &str, Option<f64>)]) -> Sample {
        let identity = Identity {
            device_id: 0,
            device_name: "card".to_owned(),
            device_type: DeviceType::Gpu,
            vendor_name: "Intel".to_owned(),
            uuid: "0".to_owned(),
            driver: "xe".to_owned(),
            pci: None,
            device_file: None,
            path: "card".into(),
        };
        let reading = |(metric, location, value): &(Metric, &str, Option<f64>)| Reading {
            metric: *metric,
            location: (*location).into(),
            value: value.map(Value::Number).ok_or(Reason::Gone),
            source: "".into(),
        };
        Sample {
            identity: Arc::new(identity),
            taken: SystemTime::now(),
            moment: Moment(0.0),
            readings: readings.iter().map(reading).collect(),
            totals: Vec::new(),
            gone: false,
        }
    }

    fn policy(kind: Kind, condition: Comparison, threshold: Option<f64>) -> Policy {
        Policy { kind, condition, threshold, notify: None, command: Vec::new(), action: Action::Notify }
    }

    /// The turns that a course of values takes; `R` raised, `C` cleared, `.` neither.
    fn turns(policy: &Policy, metric: Metric, place: &str, values: &[Option<f64>], seconds: f64) -> String {
        let mut watch = Watch::new(false);
        let steps = values.iter().zip(0_u32..).map(|(value, number)| {
            let sample = sample(&[(metric, place, *value)]);
            match watch.step(policy, Some(&sample), Moment(f64::from(number) * seconds)).turn {
                Some(Turn::Raised) => 'R',
                Some(Turn::Cleared) => 'C',
                None => '.',
            }
        });
        steps.collect()
    }

    fn course(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_value_at_the_edge_does_not_flicker() {
        let hot = policy(Kind::GpuTemperature, Comparison::Greater, Some(90.0));
        let run = |values: &[f64]| turns(&hot, Metric::Temperature, "pkg", &course(values), 1.0);
        assert_eq!(run(&[80.0, 90.0, 90.5, 88.0, 89.0, 91.0]), "..R...");
        assert_eq!(run(&[95.0, 87.0, 86.0, 85.0, 85.0]), "R..C.");
        assert_eq!(run(&[95.0, 87.0, 86.0, 88.0, 85.0, 85.0, 85.0]), "R.....C");
        let idle = policy(Kind::GpuPower, Comparison::Less, Some(100.0));
        let run = |values: &[f64]| turns(&idle, Metric::Power, "card", &course(values), 1.0);
        assert_eq!(run(&[100.0, 99.0, 104.0, 105.0, 105.0, 105.0]), ".R...C");
    }

    #[test]
    fn a_sensor_that_fails_has_not_cooled_down() {
        let hot = policy(Kind::GpuTemperature, Comparison::Greater, Some(90.0));
        let values = [Some(95.0), None, None, None, None, Some(95.0), Some(80.0), Some(80.0), Some(80.0)];
        assert_eq!(turns(&hot, Metric::Temperature, "pkg", &values, 1.0), "R.......C");
    }

    #[test]
    fn an_error_is_over_after_a_quiet_while() {
        let errors = policy(Kind::RasCacheUncorrectable, Comparison::WhenOccur, None);
        let run = |values: &[f64]| turns(&errors, Metric::Errors, "uncorrected", &course(values), 100.0);
        assert_eq!(run(&[7.0, 7.0, 8.0, 8.0, 8.0, 8.0, 8.0]), "..R..C.");
        assert_eq!(run(&[7.0, 8.0, 8.0, 9.0, 9.0, 9.0, 9.0]), ".R....C");
        assert_eq!(run(&[7.0, 0.0, 0.0]), "...", "a counter that was reset is no error");
        let many = policy(Kind::RasCacheCorrectable, Comparison::Greater, Some(10.0));
        assert_eq!(turns(&many, Metric::Errors, "corrected", &course(&[10.0, 11.0]), 1.0), ".R");
    }

    #[test]
    fn a_device_that_is_gone_is_missing_until_it_comes_back() {
        let missing = policy(Kind::GpuMissing, Comparison::WhenOccur, None);
        let there = sample(&[]);
        let gone = Sample { gone: true, ..there.clone() };
        let mut watch = Watch::new(false);
        let mut step = |sample| watch.step(&missing, sample, Moment(0.0)).turn;
        assert_eq!((step(Some(&there)), step(Some(&gone))), (None, Some(Turn::Raised)));
        assert_eq!((step(None), step(Some(&there)), step(Some(&there))), (None, None, None));
        assert_eq!(step(Some(&there)), Some(Turn::Cleared));
        let held = policy(Kind::GpuThrottle, Comparison::WhenOccur, None);
        assert_eq!(turns(&held, Metric::Throttled, "gt0", &course(&[0.0, 1.0, 0.0, 0.0, 0.0]), 1.0), ".R..C");
    }

    #[test]
    fn a_watch_goes_on_where_another_left() {
        let hot = policy(Kind::GpuTemperature, Comparison::Greater, Some(90.0));
        let cool = sample(&[(Metric::Temperature, "pkg", Some(50.0))]);
        let mut watch = Watch::new(true);
        let turns: Vec<_> = (0..3).map(|_| watch.step(&hot, Some(&cool), Moment(0.0)).turn).collect();
        assert_eq!(turns, [None, None, Some(Turn::Cleared)]);
    }
}

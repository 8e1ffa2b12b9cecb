//! Whether a device is well.
//!
//! ```text
//!              value ≥ threshold, at once
//!        ok ──────────────────────────────► warning ──► critical
//!         ◄──────────────────────────────
//!              value < threshold − margin, in three samples running
//! ```
//!
//! Limits are the hardware's own; where it tells none, those of the configuration; last, a default for
//! temperatures, which is called so. Power has no default: a made-up limit is worse than none. A check without a
//! value or a limit is unknown, with the reason. Coming back takes a margin and time, so that a value at the edge
//! does not flicker.

mod outcome;

use std::collections::BTreeMap;

pub use outcome::{Check, Health, Kind, Origin, State, Threshold};

use crate::device::{CORE_PLACES, POWER_PLACES, Sample, is_memory};
use crate::limits::{Bounds, DeviceLimits};
use crate::metric::Metric;
use crate::value::Reading;

/// Temperatures at which most such devices slow down and stop, in °C.
const CORE_DEFAULT: (f64, f64) = (95.0, 105.0);
const MEMORY_DEFAULT: (f64, f64) = (95.0, 105.0);

/// With one limit of the hardware's only: so far below it begins the warning, in °C.
const BELOW_CRITICAL: f64 = 10.0;

/// A device may draw so much more than its sustained limit for a moment without that being worth a word.
const OVERSHOOT: f64 = 1.1;

/// Samples below the threshold before a state ends.
const CALM_SAMPLES: u8 = 3;

/// Judges one device over time.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    edges: BTreeMap<Kind, Edge>,
    custom: BTreeMap<Kind, f64>,
    configured: DeviceLimits,
    uncorrected: Option<f64>,
}

/// The state of a check, and how long it has been calmer than that.
#[derive(Debug, Clone, Copy)]
struct Edge {
    state: State,
    calm: u8,
}

impl Edge {
    /// Worse at once, better after a while. `state` is that of the value, `near` that of the value with a margin.
    fn step(&mut self, state: State, near: State) -> State {
        if state == State::Unknown || self.state == State::Unknown || state >= self.state {
            *self = Edge { state, calm: 0 };
        } else if near >= self.state {
            self.calm = 0;
        } else {
            self.calm += 1;
            if self.calm >= CALM_SAMPLES {
                *self = Edge { state: near.max(state), calm: 0 };
            }
        }
        self.state
    }
}

impl Judge {
    /// A judge who knows configured limits.
    pub fn new(configured: DeviceLimits) -> Self {
        Judge { configured, ..Judge::default() }
    }

    /// Puts other configured limits in place, as for another card in the same slot.
    pub fn set_configured(&mut self, configured: DeviceLimits) {
        self.configured = configured;
    }

    /// Sets a threshold of one's own; `None` takes it away.
    pub fn set_custom(&mut self, kind: Kind, threshold: Option<f64>) {
        match threshold {
            Some(value) => self.custom.insert(kind, value),
            None => self.custom.remove(&kind),
        };
    }

    /// Judges a sample.
    pub fn judge(&mut self, sample: &Sample) -> Health {
        let checks: Vec<Check> = Kind::ALL.into_iter().map(|kind| self.check(kind, sample)).collect();
        let state = checks.iter().map(|check| check.state).max().unwrap_or(State::Unknown);
        Health { state, checks }
    }

    fn check(&mut self, kind: Kind, sample: &Sample) -> Check {
        if sample.gone {
            return unknown(kind, "the device is gone".to_owned());
        }
        match kind {
            Kind::CoreTemperature => self.temperature(kind, sample, false),
            Kind::MemoryTemperature => self.temperature(kind, sample, true),
            Kind::Power => self.power(sample),
            Kind::Memory => self.memory(sample),
            Kind::XeLinkPort => {
                unknown(kind, "the kernel shows no links between cards of this device".to_owned())
            }
            Kind::Frequency => self.frequency(sample),
        }
    }

    fn temperature(&mut self, kind: Kind, sample: &Sample, memory: bool) -> Check {
        let of = |reading: &&Reading| {
            reading.metric == Metric::Temperature
                && if memory {
                    is_memory(&reading.location)
                } else {
                    CORE_PLACES.contains(&&*reading.location) || &*reading.location == "junction"
                }
        };
        let limits = |reading: &Reading| {
            let limit = |metric| sample.number(metric, &[&*reading.location]).filter(|limit| *limit > 0.0);
            (limit(Metric::TemperatureCritical), limit(Metric::TemperatureEmergency))
        };
        let default = if memory { MEMORY_DEFAULT } else { CORE_DEFAULT };
        let beyond_hardware = beyond_hardware(self.configured.of(kind), default);
        // The part that is nearest to its own limit speaks for all.
        let distance = |reading: &&Reading| {
            let other = || beyond_hardware.1.map_or(default.1, |threshold| threshold.value);
            limits(reading).0.unwrap_or_else(other) - reading.number().unwrap_or(0.0)
        };
        let hottest = sample.readings.iter().filter(of).filter(|reading| reading.number().is_some());
        let Some(hottest) = hottest.min_by(|one, other| distance(one).total_cmp(&distance(other))) else {
            return unknown(kind, missing(sample, Metric::Temperature, "no such sensor"));
        };
        let hardware = |value| Threshold { value, origin: Origin::Hardware };
        let (throttle, shutdown) = match limits(hottest) {
            (Some(critical), Some(emergency)) => (Some(hardware(critical)), Some(hardware(emergency))),
            (Some(limit), None) | (None, Some(limit)) => {
                (Some(hardware(limit - BELOW_CRITICAL)), Some(hardware(limit)))
            }
            (None, None) => beyond_hardware,
        };
        self.compare(kind, hottest, throttle, shutdown, 3.0)
    }

    fn power(&mut self, sample: &Sample) -> Check {
        let powers = || sample.readings.iter().filter(|reading| reading.metric == Metric::Power);
        let known = |reading: &&Reading| reading.number().is_some();
        let widest = POWER_PLACES
            .iter()
            .find_map(|place| powers().filter(known).find(|power| *power.location == **place));
        let Some(power) = widest.or_else(|| powers().find(known)) else {
            return unknown(Kind::Power, missing(sample, Metric::Power, "no such sensor"));
        };
        let limit =
            |metric| sample.number(metric, &[&*power.location]).or_else(|| sample.number(metric, &[]));
        let hardware = |value| Threshold { value, origin: Origin::Hardware };
        let sustained =
            limit(Metric::PowerLimit).or_else(|| limit(Metric::PowerRated)).filter(|limit| *limit > 0.0);
        let Bounds { warning, critical } = self.configured.of(Kind::Power);
        let configured = |value| Threshold { value, origin: Origin::Configured };
        let throttle = sustained.map(|limit| hardware(limit * OVERSHOOT)).or_else(|| warning.map(configured));
        let shutdown = limit(Metric::PowerCritical).filter(|limit| *limit > 0.0).map(hardware);
        let shutdown = shutdown.or_else(|| critical.map(configured));
        let margin = throttle.or(shutdown).map_or(1.0, |threshold| threshold.value * 0.05);
        self.compare(Kind::Power, power, throttle, shutdown, margin)
    }

    fn compare(
        &mut self,
        kind: Kind,
        reading: &Reading,
        throttle: Option<Threshold>,
        shutdown: Option<Threshold>,
        margin: f64,
    ) -> Check {
        let custom = self.custom.get(&kind).copied();
        let value = reading.number().unwrap_or(0.0);
        let beyond = |value: f64, limit: Option<f64>| limit.is_some_and(|limit| value >= limit);
        let judge = |value| {
            if beyond(value, shutdown.map(|threshold| threshold.value)) {
                State::Critical
            } else if beyond(value, throttle.map(|threshold| threshold.value)) || beyond(value, custom) {
                State::Warning
            } else if throttle.is_none() && shutdown.is_none() && custom.is_none() {
                State::Unknown
            } else {
                State::Ok
            }
        };
        let edge = self.edges.entry(kind).or_insert(Edge { state: State::Unknown, calm: 0 });
        let state = edge.step(judge(value), judge(value + margin));
        let unit = kind.unit();
        let limit = |name: &str, threshold: Option<Threshold>| {
            let of = |origin| match origin {
                Origin::Hardware => "the device's",
                Origin::Configured => "configured",
                Origin::Default => "default",
            };
            threshold.map(|limit| format!(", {name} {:.0} {unit} ({})", limit.value, of(limit.origin)))
        };
        let limits = [limit("warning from", throttle), limit("critical from", shutdown)];
        let limits: String = limits.into_iter().flatten().collect();
        let limits = if limits.is_empty() { ", the device tells no limit".to_owned() } else { limits };
        let description = format!("{} {value:.0} {unit}{limits}", reading.location);
        Check {
            kind,
            state,
            description: description.trim().to_owned(),
            value: Some(value),
            throttle,
            shutdown,
            custom,
        }
    }

    fn memory(&mut self, sample: &Sample) -> Check {
        let Some(errors) = sample.number(Metric::Errors, &["uncorrected"]) else {
            return unknown(
                Kind::Memory,
                missing(sample, Metric::Errors, "the driver counts no memory errors"),
            );
        };
        let before = *self.uncorrected.get_or_insert(errors);
        let state = if errors > before { State::Critical } else { State::Ok };
        let description = match state {
            State::Critical => format!("{:.0} uncorrected errors since the watch began", errors - before),
            _ => format!("no new uncorrected errors ({errors:.0} in all)"),
        };
        Check { value: Some(errors), state, ..unknown(Kind::Memory, description) }
    }

    fn frequency(&mut self, sample: &Sample) -> Check {
        let flags = sample.readings.iter().filter(|reading| reading.metric == Metric::Throttled);
        let flags: Vec<&Reading> = flags.filter(|reading| reading.number().is_some()).collect();
        if flags.is_empty() {
            return unknown(Kind::Frequency, missing(sample, Metric::Throttled, "the driver does not tell"));
        }
        let held = flags.iter().any(|reading| reading.number() != Some(0.0));
        let judged = if held { State::Warning } else { State::Ok };
        let edge = self.edges.entry(Kind::Frequency).or_insert(Edge { state: State::Unknown, calm: 0 });
        let state = edge.step(judged, judged);
        let causes = sample.readings.iter().filter_map(|reading| match (&reading.metric, &reading.value) {
            (Metric::ThrottleCause, Ok(_)) if reading.number() != Some(0.0) => {
                Some(reading.location.to_string())
            }
            (Metric::ThrottleCauses, Ok(causes)) if causes.to_string() != "none" => Some(causes.to_string()),
            _ => None,
        });
        let causes: Vec<String> = causes.collect();
        let description = match (held, state) {
            (true, _) if causes.is_empty() => "the clocks are held back".to_owned(),
            (true, _) => format!("the clocks are held back by {}", causes.join(", ")),
            (false, State::Warning) => "the clocks were held back a moment ago".to_owned(),
            (false, _) => "the clocks are not held back".to_owned(),
        };
        Check { value: Some(f64::from(u8::from(held))), state, ..unknown(Kind::Frequency, description) }
    }
}

/// The limits of a temperature of which the hardware tells none: the configured ones, and what they leave out by
/// default, as long as that does not contradict them.
fn beyond_hardware(configured: Bounds, default: (f64, f64)) -> (Option<Threshold>, Option<Threshold>) {
    let set = |value| Some(Threshold { value, origin: Origin::Configured });
    let common = |value| Some(Threshold { value, origin: Origin::Default });
    match (configured.warning, configured.critical) {
        (Some(warning), Some(critical)) => (set(warning), set(critical)),
        (Some(warning), None) if warning < default.1 => (set(warning), common(default.1)),
        (Some(warning), None) => (set(warning), None),
        (None, Some(critical)) => (set(critical - BELOW_CRITICAL), set(critical)),
        (None, None) => (common(default.0), common(default.1)),
    }
}

fn unknown(kind: Kind, description: String) -> Check {
    Check {
        kind,
        state: State::Unknown,
        description,
        value: None,
        throttle: None,
        shutdown: None,
        custom: None,
    }
}

fn missing(sample: &Sample, metric: Metric, otherwise: &str) -> String {
    sample.reason(metric).map_or_else(|| otherwise.to_owned(), ToString::to_string)
}

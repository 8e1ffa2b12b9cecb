//! A device and its samples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::counter::{Meter, Step};
use crate::identity::Identity;
use crate::metric::{Kind, Metric};
use crate::nvidia::Library;
use crate::probe::Probe;
use crate::root::Root;
use crate::value::{Reading, Reason, Value};

/// Settings are read again after so many samples.
const SETTINGS_EVERY: u32 = 30;

/// Greatest power, in watts, that is believed of a device that tells no limit.
const POWER_MAX: f64 = 4000.0;

/// A time, in seconds since any beginning; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Moment(pub f64);

/// Where a device's values come from.
#[derive(Debug)]
pub enum Source {
    /// Files of the kernel's.
    Files {
        /// The tree that they are in.
        root: Root,
        /// What is read.
        probes: Vec<Probe>,
    },
    /// NVIDIA's library, and the device's number in it.
    Nvml(Library, u32),
}

/// A source of values that is no file: the device file's answers, performance counters.
pub trait Instrument: Send + std::fmt::Debug {
    /// What it tells now; settings too when `settings` is true.
    fn read(&mut self, settings: bool, moment: Moment) -> Vec<Reading>;
}

/// An instrument and what it told.
#[derive(Debug)]
struct Told {
    by: Box<dyn Instrument>,
    readings: Vec<Reading>,
}

impl Told {
    /// What it does not tell each time stays as it was.
    fn refresh(&mut self, settings: bool, moment: Moment) {
        let fresh = self.by.read(settings, moment);
        let again = |old: &Reading| fresh.iter().any(|new| new.metric == old.metric);
        self.readings.retain(|old| old.metric.kind() == Kind::Setting && !again(old));
        self.readings.extend(fresh);
    }

    /// The device took it with it.
    fn lose(&mut self) {
        self.readings.iter_mut().for_each(|reading| reading.value = Err(Reason::Gone));
    }
}

/// A device that can be sampled.
#[derive(Debug)]
pub struct Device {
    identity: Arc<Identity>,
    source: Source,
    instruments: Vec<Told>,
    gaps: Vec<(Metric, Reason)>,
    readings: Vec<Reading>,
    meters: BTreeMap<(Metric, Arc<str>), Meter>,
    samples: u32,
}

/// All that was read of a device at one time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// When, by the wall clock.
    pub taken: SystemTime,
    /// When, by the clock that never goes back.
    pub moment: Moment,
    /// The values.
    pub readings: Vec<Reading>,
    /// Counters made safe: they begin with what was read first, never step back and never jump.
    pub totals: Vec<(Metric, Arc<str>, f64)>,
    /// The device answers nothing any more.
    pub gone: bool,
}

impl Device {
    /// A device; `gaps` are metrics that it is known not to tell, with the reason.
    pub fn new(identity: Identity, source: Source, gaps: Vec<(Metric, Reason)>) -> Self {
        Device {
            identity: Arc::new(identity),
            source,
            instruments: Vec::new(),
            gaps,
            readings: Vec::new(),
            meters: BTreeMap::new(),
            samples: 0,
        }
    }

    /// The same with something more to ask.
    pub fn with_instrument(mut self, by: Box<dyn Instrument>) -> Self {
        self.instruments.push(Told { by, readings: Vec::new() });
        self
    }

    /// Who it is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Gives it its number.
    pub fn with_id(mut self, id: u32) -> Self {
        Arc::make_mut(&mut self.identity).device_id = id;
        self
    }

    /// Reads settings again at the next sample, and not only when their turn comes.
    pub fn forget_settings(&mut self) {
        self.samples = 0;
    }

    /// Reads what the device tells now.
    pub fn sample(&mut self, moment: Moment) -> Sample {
        let settings = self.samples.is_multiple_of(SETTINGS_EVERY);
        self.samples = self.samples.wrapping_add(1);
        self.refresh(settings);
        let gone = live_are_lost(&self.readings);
        let mut readings = self.readings.clone();
        for told in &mut self.instruments {
            if gone {
                told.lose()
            } else {
                told.refresh(settings, moment)
            }
            readings.extend(told.readings.iter().cloned());
        }
        let totals = self.derive(&mut readings, moment);
        if gone {
            // What came back while it was being read makes no device.
            let known = readings.iter_mut().filter(|reading| reading.value.is_ok());
            known.for_each(|reading| reading.value = Err(Reason::Gone));
        }
        for (metric, reason) in &self.gaps {
            if !readings.iter().any(|reading| reading.metric == *metric) {
                let value = Err(reason.clone());
                readings.push(Reading { metric: *metric, location: "".into(), value, source: "".into() });
            }
        }
        Sample {
            identity: Arc::clone(&self.identity),
            taken: SystemTime::now(),
            moment,
            readings,
            totals,
            gone,
        }
    }

    fn refresh(&mut self, settings: bool) {
        match &mut self.source {
            Source::Files { root, probes } if self.readings.is_empty() => {
                self.readings = probes.iter_mut().map(|probe| probe.read(root)).collect();
            }
            Source::Files { root, probes } => {
                let before = is_throttled(&self.readings);
                reread(root, probes, &mut self.readings, |probe| settings || probe.is_live());
                let causes = before || is_throttled(&self.readings);
                // A device that was pulled out takes its settings with it.
                let gone = live_are_lost(&self.readings);
                reread(root, probes, &mut self.readings, |probe| match probe.metric().kind() {
                    Kind::Cause => (causes || gone) && !settings,
                    Kind::Setting => gone && !settings,
                    Kind::Gauge | Kind::Counter => false,
                });
            }
            Source::Nvml(library, index) => {
                let fresh = library.read(*index, settings);
                if settings {
                    self.readings = fresh;
                } else {
                    self.readings.retain(|old| !fresh.iter().any(|new| same(old, new)));
                    self.readings.extend(fresh);
                }
            }
        }
    }

    /// Adds what follows from counters: power from energy, use from sleep.
    fn derive(&mut self, readings: &mut Vec<Reading>, moment: Moment) -> Vec<(Metric, Arc<str>, f64)> {
        let ceiling = power_ceiling(readings);
        let mut totals = Vec::new();
        let mut steps = Vec::new();
        for reading in readings.iter() {
            let ceiling = match reading.metric {
                Metric::Energy => ceiling,
                // Two clocks are involved, which do not tick together.
                Metric::IdleTime => 1500.0,
                _ => continue,
            };
            let step = reading.value.as_ref().map_err(Reason::clone).and_then(|value| {
                let meter = self.meters.entry((reading.metric, Arc::clone(&reading.location))).or_default();
                let step = meter.observe(value.number().unwrap_or(0.0), moment.0, ceiling);
                totals.extend(
                    meter.total().map(|total| (reading.metric, Arc::clone(&reading.location), total)),
                );
                rate(step)
            });
            steps.push((reading, step));
        }
        let mut derived: Vec<Reading> = Vec::new();
        for (reading, step) in &steps {
            let metric = if reading.metric == Metric::Energy { Metric::Power } else { Metric::Utilization };
            if readings.iter().any(|told| told.metric == metric && told.location == reading.location) {
                continue;
            }
            derived.push(Reading {
                metric,
                location: Arc::clone(&reading.location),
                value: step.clone().and_then(|rate| conclude(metric, rate, &steps)).map(Value::Number),
                source: format!("change of {}", reading.source).into(),
            });
        }
        if !readings.iter().any(|reading| reading.metric == Metric::Utilization) {
            derived.extend(busiest(&derived));
        }
        readings.append(&mut derived);
        totals
    }
}

/// What the rate of a counter says. A card that is on uses energy: a counter that stands still tells nothing,
/// and neither do the others of a device on which nothing moves.
fn conclude(metric: Metric, rate: f64, steps: &[(&Reading, Result<f64, Reason>)]) -> Result<f64, Reason> {
    let energy = || steps.iter().filter(|(reading, _)| reading.metric == Metric::Energy);
    let still = energy().any(|(_, step)| *step == Ok(0.0))
        && !energy().any(|(_, step)| matches!(step, Ok(rate) if *rate > 0.0));
    match metric {
        Metric::Power if rate == 0.0 => Err(Reason::LeftOut("the counter stands still")),
        Metric::Utilization if rate == 0.0 && still => {
            Err(Reason::LeftOut("the device's counters stand still"))
        }
        Metric::Utilization => Ok((100.0 - rate / 10.0).clamp(0.0, 100.0)),
        _ => Ok(rate),
    }
}

fn reread(root: &Root, probes: &mut [Probe], readings: &mut [Reading], wanted: impl Fn(&Probe) -> bool) {
    for (probe, reading) in probes.iter_mut().zip(readings).filter(|(probe, _)| wanted(probe)) {
        *reading = probe.read(root);
    }
}

fn is_throttled(readings: &[Reading]) -> bool {
    let mut flags = readings.iter().filter(|reading| reading.metric == Metric::Throttled);
    flags.any(|reading| reading.number().is_some_and(|flag| flag != 0.0))
}

/// Whether nothing that changes by itself can be read any more.
fn live_are_lost(readings: &[Reading]) -> bool {
    let live = |reading: &&Reading| matches!(reading.metric.kind(), Kind::Gauge | Kind::Counter);
    let lost = |reading: &Reading| matches!(reading.value, Err(Reason::Absent(_) | Reason::Gone));
    readings.iter().any(|reading| live(&reading)) && readings.iter().filter(live).all(lost)
}

fn same(one: &Reading, other: &Reading) -> bool {
    one.metric == other.metric && one.location == other.location
}

fn rate(step: Step) -> Result<f64, Reason> {
    match step {
        Step::Rate(rate) => Ok(rate),
        Step::First | Step::TooSoon => Err(Reason::NeedsSecondSample),
        Step::Back => Err(Reason::LeftOut("the counter stepped back")),
        Step::Jump => Err(Reason::LeftOut("the counter jumped")),
    }
}

/// Four times the sustained limit, or twice the limit of the moment.
fn power_ceiling(readings: &[Reading]) -> f64 {
    let greatest = |metric| {
        let numbers = readings.iter().filter(|reading| reading.metric == metric).filter_map(Reading::number);
        numbers.filter(|watts| *watts > 0.0).max_by(f64::total_cmp)
    };
    let sustained =
        [Metric::PowerLimit, Metric::PowerRated].into_iter().filter_map(greatest).max_by(f64::total_cmp);
    let moment = greatest(Metric::PowerCritical);
    sustained.map(|watts| watts * 4.0).or_else(|| moment.map(|watts| watts * 2.0)).unwrap_or(POWER_MAX)
}

/// The device is as busy as its busiest part.
fn busiest(parts: &[Reading]) -> Option<Reading> {
    let mut parts: Vec<&Reading> = parts.iter().filter(|part| part.metric == Metric::Utilization).collect();
    parts.sort_by(|one, other| {
        one.number().unwrap_or(-1.0).total_cmp(&other.number().unwrap_or(-1.0)).reverse()
    });
    parts.first().map(|part| Reading { location: "".into(), ..(*part).clone() })
}

impl Sample {
    /// The reading of a metric at a place.
    pub fn at(&self, metric: Metric, location: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.metric == metric && *reading.location == *location)
    }

    /// The first reading of a metric that has a number at one of these places; any place when none is given.
    pub fn number(&self, metric: Metric, places: &[&str]) -> Option<f64> {
        let of = || self.readings.iter().filter(move |reading| reading.metric == metric);
        if places.is_empty() {
            return of().find_map(Reading::number);
        }
        let mut found =
            places.iter().filter_map(|place| of().find(|reading| *reading.location == **place)?.number());
        found.next()
    }

    /// Why a metric has no number.
    pub fn reason(&self, metric: Metric) -> Option<&Reason> {
        self.readings
            .iter()
            .filter(|reading| reading.metric == metric)
            .find_map(|reading| reading.value.as_ref().err())
    }

    /// The values in the order of the table of metrics.
    pub fn sorted(&self) -> Vec<&Reading> {
        let mut readings: Vec<&Reading> = self.readings.iter().collect();
        readings.sort_by_key(|reading| reading.metric);
        readings
    }

    /// Watts that the device draws.
    pub fn power(&self) -> Option<f64> {
        self.number(Metric::Power, POWER_PLACES).or_else(|| self.number(Metric::Power, &[]))
    }

    /// Degrees Celsius of the processor.
    pub fn core_temperature(&self) -> Option<f64> {
        self.number(Metric::Temperature, CORE_PLACES)
    }

    /// Degrees Celsius of the memory: of its hottest part.
    pub fn memory_temperature(&self) -> Option<f64> {
        let temperatures = self.readings.iter().filter(|reading| reading.metric == Metric::Temperature);
        let memory = temperatures.filter(|reading| is_memory(&reading.location)).filter_map(Reading::number);
        memory.max_by(f64::total_cmp)
    }

    /// Hundredths of the time in which the device was busy.
    pub fn utilization(&self) -> Option<f64> {
        self.number(Metric::Utilization, &[""])
    }

    /// Bytes of the device's memory in use.
    pub fn memory_used(&self) -> Option<f64> {
        self.number(Metric::MemoryUsed, &["vram"])
    }

    /// Bytes of the device's memory.
    pub fn memory_total(&self) -> Option<f64> {
        self.number(Metric::MemoryTotal, &["vram"])
    }

    /// Megahertz at which the device computes.
    pub fn frequency(&self) -> Option<f64> {
        self.number(Metric::Frequency, CLOCK_PLACES)
    }
}

/// Names that drivers give to the whole card or package, the widest first.
pub const POWER_PLACES: &[&str] = &["card", "PPT", "pkg", "slowPPT"];

/// Names that drivers give to the sensor of the processor.
pub const CORE_PLACES: &[&str] = &["pkg", "edge", "gpu", "temp1"];

/// Names that drivers give to the clock of the processor.
pub const CLOCK_PLACES: &[&str] = &["tile0/gt0", "gt0", "sclk", "graphics"];

/// Whether a sensor is the memory's.
pub fn is_memory(location: &str) -> bool {
    matches!(location, "vram" | "mem" | "memory") || location.starts_with("vram_ch")
}

//! What the kernel's performance counters tell of Intel's GPUs: how busy each engine was, and how long parts slept.
//!
//! ```text
//!   sys/bus/event_source/devices/xe_0000_0b_00.0/     i915_0000_03_00.0, and i915 for a processor's own graphics
//!     type                                            whom to ask
//!     cpumask                                         on which processor
//!     format/engine_class        config:20-27         where a field stands in the number of an event
//!     events/engine-active-ticks event=0x02           the fields of an event
//!
//!   i915   rcs0-busy                                  ns of work, beside the ns that the group has counted
//!   xe     engine-active-ticks, engine-total-ticks    of one engine; which engines there are shows itself in trying
//! ```
//!
//! Counting takes CAP_PERFMON, or a perf_event_paranoid of at most 0.

use std::fmt;
use std::io;
use std::sync::Arc;

use minka_kernel::perf::{Group, Tally};

use crate::device::{Instrument, Moment};
use crate::identity::Identity;
use crate::metric::Metric;
use crate::root::Root;
use crate::value::{Reading, Reason, Value};

mod description;

use description::Description;

/// A part has no more engines of a class.
const INSTANCES_MAX: u64 = 16;

/// More parts of a device are not looked at.
const PARTS_MAX: usize = 8;

/// Shares may be so much above all of the time: two counters are never read at the very same moment.
const TOLERANCE: f64 = 0.05;

/// Whoever counts.
pub trait Count: Send + fmt::Debug {
    /// Adds a counter of an event.
    fn add(&mut self, config: u64) -> io::Result<()>;

    /// What all have counted, in the order in which they were added.
    fn read(&mut self) -> io::Result<Tally>;
}

impl Count for Group {
    fn add(&mut self, config: u64) -> io::Result<()> {
        Group::add(self, config)
    }

    fn read(&mut self) -> io::Result<Tally> {
        Group::read(self)
    }
}

/// Makes a group of counters for a kind of event on a processor.
pub type MakeGroup = fn(kind: u32, processor: u32) -> Box<dyn Count>;

/// What a counter's growth is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// With time; one unit of the counter is so many nanoseconds.
    Time { unit_ns: u64 },
    /// With another counter, by its place.
    Counter(usize),
    /// With time in seconds: a mean.
    Second,
}

/// Something that counters tell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gauge {
    metric: Metric,
    location: Arc<str>,
    source: Arc<str>,
    counter: usize,
    whole: Whole,
}

/// An event that may be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    metric: Metric,
    location: String,
    event: String,
    /// Its number, and that of the event that it is compared with.
    config: u64,
    whole: Option<u64>,
    unit_ns: u64,
}

/// A device's counters.
#[derive(Debug)]
pub struct Counters {
    root: Root,
    identity: Identity,
    make: MakeGroup,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    group: Box<dyn Count>,
    gauges: Vec<Gauge>,
    last: Option<Tally>,
}

impl Counters {
    /// The counters of a device; `None` where its driver has none.
    pub fn of(root: &Root, identity: &Identity) -> Option<Self> {
        Counters::with(root, identity, |kind, processor| Box::new(Group::new(kind, processor)))
    }

    /// The same, counted by somebody else.
    pub fn with(root: &Root, identity: &Identity, make: MakeGroup) -> Option<Self> {
        let known = matches!(identity.driver.as_str(), "i915" | "xe");
        known.then(|| Counters { root: root.clone(), identity: identity.clone(), make, running: None })
    }

    fn start(&self) -> Result<Running, Reason> {
        let description = Description::of(&self.root, &self.identity)?;
        let wishes = match self.identity.driver.as_str() {
            "i915" => i915(&description),
            _ => xe(&description, &self.parts()),
        };
        let mut group = (self.make)(description.kind, description.processor);
        let (mut gauges, mut counters, mut refusal) = (Vec::new(), 0, None);
        for wish in wishes {
            if let Err(error) = group.add(wish.config) {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    return Err(Reason::NotOffered(
                        "the kernel counts it only for those with CAP_PERFMON, or where perf_event_paranoid is 0",
                    ));
                }
                refusal = Some(error);
                continue;
            }
            let counter = counters;
            counters += 1;
            let whole = match (wish.whole, wish.unit_ns) {
                (None, 0) => Whole::Second,
                (None, unit_ns) => Whole::Time { unit_ns },
                (Some(config), _) => {
                    group.add(config).map_err(|error| Reason::of(&description.path, &error))?;
                    counters += 1;
                    Whole::Counter(counter + 1)
                }
            };
            gauges.push(Gauge {
                metric: wish.metric,
                location: wish.location.into(),
                source: format!("{}/events/{}", description.path, wish.event).into(),
                counter,
                whole,
            });
        }
        match (gauges.is_empty(), refusal) {
            (false, _) => Ok(Running { group, gauges, last: None }),
            (true, Some(error)) => Err(Reason::of(&description.path, &error)),
            (true, None) => {
                Err(Reason::NotOffered("the driver's counters have none of the events known here"))
            }
        }
    }

    /// The parts of the device, as xe's folders tell: number and name.
    fn parts(&self) -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let device = &self.identity.path;
        for tile in self.root.list(device).into_iter().filter(|name| is_numbered(name, "tile")) {
            let folders = self.root.list(&format!("{device}/{tile}"));
            for gt in folders.into_iter().filter(|name| is_numbered(name, "gt")) {
                let number = gt.trim_start_matches("gt").parse().unwrap_or(u64::MAX);
                parts.push((number, format!("{tile}/{gt}")));
            }
        }
        parts.truncate(PARTS_MAX);
        parts
    }
}

fn is_numbered(name: &str, word: &str) -> bool {
    name.strip_prefix(word).is_some_and(|rest| rest.parse::<u16>().is_ok())
}

fn i915(description: &Description) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for (name, config) in &description.events {
        let (event, part) = name.rsplit_once("-gt").unwrap_or((name, "0"));
        let wish = |metric, location: String, unit_ns| Wish {
            metric,
            location,
            event: name.clone(),
            config: *config,
            whole: None,
            unit_ns,
        };
        if let Some(engine) = name.strip_suffix("-busy") {
            wishes.push(wish(Metric::EngineUtilization, engine.to_owned(), 1));
        } else if event == "rc6-residency" {
            wishes.push(wish(Metric::Sleep, format!("gt{part}"), 1));
        } else if event == "actual-frequency" {
            wishes.push(wish(Metric::FrequencyMean, format!("gt{part}"), 0));
        }
    }
    wishes
}

fn xe(description: &Description, parts: &[(u64, String)]) -> Vec<Wish> {
    const CLASSES: [&str; 5] = ["rcs", "bcs", "vcs", "vecs", "ccs"];
    const MILLISECOND_NS: u64 = 1_000_000;
    let mut wishes = Vec::new();
    for (gt, name) in parts {
        if let Some(config) = description.config("gt-c6-residency", &[("gt", *gt)]) {
            let (metric, event) = (Metric::Sleep, "gt-c6-residency".to_owned());
            let (location, whole, unit_ns) = (name.clone(), None, MILLISECOND_NS);
            wishes.push(Wish { metric, location, event, config, whole, unit_ns });
        }
        for (class, engine) in CLASSES.iter().enumerate() {
            for instance in 0..INSTANCES_MAX {
                let fields = [("gt", *gt), ("engine_class", class as u64), ("engine_instance", instance)];
                let (Some(config), Some(whole)) = (
                    description.config("engine-active-ticks", &fields),
                    description.config("engine-total-ticks", &fields),
                ) else {
                    continue;
                };
                let (metric, event) = (Metric::EngineUtilization, "engine-active-ticks".to_owned());
                let location = format!("{name}/{engine}{instance}");
                wishes.push(Wish { metric, location, event, config, whole: Some(whole), unit_ns: 0 });
            }
        }
    }
    wishes
}

impl Running {
    fn read(&mut self) -> io::Result<Vec<Reading>> {
        let tally = self.group.read()?;
        let last = self.last.replace(tally.clone());
        let mut readings: Vec<Reading> = Vec::with_capacity(self.gauges.len() + 1);
        for gauge in &self.gauges {
            let value = last.as_ref().ok_or(Reason::NeedsSecondSample);
            let value = value.and_then(|last| gauge.conclude(last, &tally)).map(Value::Number);
            let (location, source) = (Arc::clone(&gauge.location), Arc::clone(&gauge.source));
            readings.push(Reading { metric: gauge.metric, location, value, source });
        }
        // The device is as busy as its busiest engine, if all are known.
        let engines = readings.iter().filter(|reading| reading.metric == Metric::EngineUtilization);
        let busiest = engines
            .map(|reading| reading.number().map(|number| (number, reading)))
            .collect::<Option<Vec<_>>>()
            .and_then(|known| known.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)));
        if let Some((_, reading)) = busiest {
            let whole = Reading { metric: Metric::Utilization, location: "".into(), ..reading.clone() };
            readings.push(whole);
        }
        Ok(readings)
    }
}

impl Gauge {
    fn conclude(&self, last: &Tally, now: &Tally) -> Result<f64, Reason> {
        let step = |place: usize| {
            let (before, after) = (last.values.get(place), now.values.get(place));
            let step = before.zip(after).and_then(|(before, after)| after.checked_sub(*before));
            step.ok_or(Reason::LeftOut("the counter stepped back"))
        };
        let time = now.enabled_ns.saturating_sub(last.enabled_ns);
        if time == 0 {
            return Err(Reason::NeedsSecondSample);
        }
        if now.running_ns.saturating_sub(last.running_ns) < time - time / 20 {
            return Err(Reason::LeftOut("others count, too, and the counters take turns"));
        }
        let share = match self.whole {
            Whole::Second => return Ok(step(self.counter)? as f64 * 1e9 / time as f64),
            Whole::Time { unit_ns } => step(self.counter)? as f64 * unit_ns as f64 / time.max(unit_ns) as f64,
            Whole::Counter(whole) => match step(whole)? {
                0 => return Err(Reason::LeftOut("the counters stand still")),
                whole => step(self.counter)? as f64 / whole as f64,
            },
        };
        if share > 1.0 + TOLERANCE {
            return Err(Reason::LeftOut("the counter jumped"));
        }
        Ok((share * 100.0).min(100.0))
    }
}

impl Instrument for Counters {
    fn read(&mut self, settings: bool, _: Moment) -> Vec<Reading> {
        let lost = |reason| {
            let (metric, location, source) = (Metric::EngineUtilization, "".into(), "".into());
            vec![Reading { metric, location, value: Err(reason), source }]
        };
        if self.running.is_none() {
            // Trying costs a hundred system calls.
            if !settings {
                return lost(Reason::NotOffered("the driver's counters could not be opened"));
            }
            match self.start() {
                Ok(running) => self.running = Some(running),
                Err(reason) => return lost(reason),
            }
        }
        let Some(running) = &mut self.running else { return Vec::new() };
        match running.read() {
            Ok(readings) => readings,
            Err(error) => {
                self.running = None;
                lost(Reason::of(&"performance counters".into(), &error))
            }
        }
    }
}

#[cfg(test)]
mod tests;

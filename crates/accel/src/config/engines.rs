//! How the engines divide their time among programs.
//!
//! ```text
//!   xe      device/tileN/gtM/engines/E/{timeslice_duration_us,preempt_timeout_us}, each with its _min and _max
//!   i915    engine/E/{timeslice_duration_ms,preempt_timeout_ms,heartbeat_interval_ms}; 0 switches one off
//! ```
//!
//! XPU Manager knows three ways. With a *time slice* programs take turns, and one whose turn is over has a while to
//! yield. With a *time-out* they do not take turns, and one that does not answer for so long is ended. *Exclusively*
//! neither happens. The last two need a time slice of 0, which xe does not take.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Desk, Setting, Write, numbered, within};

/// How time is divided; times in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// A program that does not answer for so long is ended.
    Timeout(u32),
    /// Programs take turns.
    Timeslice {
        /// The length of a turn.
        interval: u32,
        /// Time to yield in.
        yield_timeout: u32,
    },
    /// A program has the engine for as long as it likes.
    Exclusive,
}

/// Times that XPU Manager takes, in µs.
const TIMES: (u64, u64) = (5_000, 100_000_000);

const SETTING: Setting = Setting::Scheduler;

/// One time of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Slice,
    Preemption,
    Heartbeat,
}

impl Scheduler {
    fn times(self) -> [(Time, u64); 3] {
        match self {
            Scheduler::Timeout(limit) => {
                [(Time::Slice, 0), (Time::Preemption, limit.into()), (Time::Heartbeat, limit.into())]
            }
            Scheduler::Timeslice { interval, yield_timeout } => [
                (Time::Slice, interval.into()),
                (Time::Preemption, yield_timeout.into()),
                (Time::Heartbeat, 1),
            ],
            Scheduler::Exclusive => [(Time::Slice, 0), (Time::Preemption, 0), (Time::Heartbeat, 0)],
        }
    }

    /// The numbers that somebody chose.
    fn chosen(self) -> Vec<u64> {
        match self {
            Scheduler::Timeout(limit) => vec![limit.into()],
            Scheduler::Timeslice { interval, yield_timeout } => vec![interval.into(), yield_timeout.into()],
            Scheduler::Exclusive => Vec::new(),
        }
    }
}

impl Desk<'_> {
    /// Folders of engines, with the numbers of their tiles.
    pub(super) fn engines(&self) -> Vec<(u32, String)> {
        let in_folder = |tile: u32, folder: String| {
            self.list(&folder).into_iter().map(move |engine| (tile, format!("{folder}/{engine}")))
        };
        match self.identity.driver.as_str() {
            "xe" => numbered(self.list("device"), "tile")
                .flat_map(|(tile, name)| {
                    let parts = numbered(self.list(&format!("device/{name}")), "gt");
                    parts.map(move |(_, gt)| (tile, format!("device/{name}/{gt}/engines")))
                })
                .flat_map(|(tile, folder)| in_folder(tile, folder))
                .collect(),
            "i915" => in_folder(0, "engine".to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    /// How the first engine of a tile divides its time.
    pub(super) fn scheduler_now(&self, tile: u32) -> Option<Scheduler> {
        let (_, engine) = self.engines().into_iter().find(|(of, _)| *of == tile)?;
        let time = |name: &str| {
            let micro = self.number(&format!("{engine}/{name}_us"));
            micro.or_else(|| Some(self.number(&format!("{engine}/{name}_ms"))? * 1000))
        };
        let number = |time: u64| u32::try_from(time).unwrap_or(u32::MAX);
        let (slice, preemption) = (time("timeslice_duration")?, time("preempt_timeout")?);
        Some(match (slice, preemption) {
            (0, 0) => Scheduler::Exclusive,
            (0, limit) => Scheduler::Timeout(number(limit)),
            (slice, limit) => Scheduler::Timeslice { interval: number(slice), yield_timeout: number(limit) },
        })
    }

    pub(super) fn scheduler(
        &self,
        scheduler: Scheduler,
        tile: Option<u32>,
    ) -> Result<Vec<Write>, ConfigError> {
        let refuse = |reason| ConfigError::NotOffered { setting: SETTING, reason };
        for time in scheduler.chosen() {
            within(SETTING, time, TIMES, "µs")?;
        }
        let engines = self.engines().into_iter();
        let engines: Vec<String> =
            engines.filter(|(of, _)| tile.is_none_or(|tile| tile == *of)).map(|(_, engine)| engine).collect();
        let slices = matches!(scheduler, Scheduler::Timeslice { .. });
        let always = |engine: &String| self.number(&format!("{engine}/timeslice_duration_min")) > Some(0);
        if !slices && engines.iter().any(always) {
            return Err(refuse("the driver always lets programs take turns: its time slice cannot be 0"));
        }
        let mut plan = Vec::new();
        for engine in engines {
            for (time, micro) in scheduler.times() {
                plan.extend(self.time(&engine, time, micro)?);
            }
        }
        if plan.is_empty() {
            return Err(refuse("the driver does not offer it for this device"));
        }
        Ok(plan)
    }

    fn time(&self, engine: &str, time: Time, micro: u64) -> Result<Option<Write>, ConfigError> {
        let name = match time {
            Time::Slice => "timeslice_duration",
            Time::Preemption => "preempt_timeout",
            Time::Heartbeat => return self.heartbeat(engine, micro),
        };
        for (unit, length) in [("us", 1), ("ms", 1000)] {
            let file = format!("{engine}/{name}_{unit}");
            if !self.has(&file) {
                continue;
            }
            let bound = |which: &str| self.number(&format!("{engine}/{name}_{which}"));
            if let (Some(least), Some(greatest)) = (bound("min"), bound("max")) {
                within(SETTING, micro, (least * length, greatest * length), "µs")?;
            }
            return self.write(file, micro.div_ceil(length)).map(Some);
        }
        Ok(None)
    }

    /// i915 looks after a program so often. Taking turns leaves that as it was at first; 0 switches it off.
    fn heartbeat(&self, engine: &str, micro: u64) -> Result<Option<Write>, ConfigError> {
        let file = format!("{engine}/heartbeat_interval_ms");
        if !self.has(&file) {
            return Ok(None);
        }
        let wanted = match micro {
            1 => self
                .number(&format!("{engine}/.defaults/heartbeat_interval_ms"))
                .or_else(|| self.first(&file)),
            micro => Some(micro.div_ceil(1000)),
        };
        wanted.map(|wanted| self.write(file, wanted)).transpose()
    }
}

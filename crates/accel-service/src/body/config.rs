//! How devices are set: answers, and what is asked for.

use minka_accel::config::{Change, Current, Scheduler, TileSettings};
use minka_accel::metric::Kind;
use minka_accel::{Metric, Sample};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ReadingBody;
use crate::numbers;
use crate::problem::Problem;

/// A setting that somebody changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedSetting {
    /// The file, from the card's folder.
    pub(crate) file: String,
    /// What was in it first.
    pub(crate) before: String,
    /// What is in it.
    pub(crate) now: String,
}

/// How a tile is set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TileConfig {
    /// Device and tile, as `0/0`.
    #[serde(rename = "tileId")]
    pub(crate) tile: String,
    pub(crate) min_frequency: Option<u64>,
    pub(crate) max_frequency: Option<u64>,
    /// Clocks that it takes, in MHz, with commas between.
    pub(crate) gpu_frequency_valid_options: Option<String>,
    /// `default` or `never`.
    pub(crate) standby_mode: Option<String>,
    pub(crate) standby_mode_valid_options: Option<String>,
    /// `timeslice`, `timeout` or `exclusive`.
    pub(crate) scheduler_mode: Option<String>,
    /// In µs.
    pub(crate) scheduler_watchdog_timeout: Option<u32>,
    /// In µs.
    pub(crate) scheduler_timeslice_interval: Option<u32>,
    /// In µs.
    pub(crate) scheduler_timeslice_yield_timeout: Option<u32>,
}

impl TileConfig {
    fn of(device: u32, tile: &TileSettings, standby: Option<bool>) -> Self {
        let options: Vec<String> = tile.frequency_options.iter().map(ToString::to_string).collect();
        let mode = |scheduler: Scheduler| match scheduler {
            Scheduler::Timeout(_) => "timeout",
            Scheduler::Timeslice { .. } => "timeslice",
            Scheduler::Exclusive => "exclusive",
        };
        let slice = match tile.scheduler {
            Some(Scheduler::Timeslice { interval, yield_timeout }) => Some((interval, yield_timeout)),
            _ => None,
        };
        TileConfig {
            tile: format!("{device}/{}", tile.tile),
            min_frequency: tile.frequency.map(|(least, _)| least),
            max_frequency: tile.frequency.map(|(_, greatest)| greatest),
            gpu_frequency_valid_options: (!options.is_empty()).then(|| options.join(", ")),
            standby_mode: standby.map(|allowed| if allowed { "default" } else { "never" }.to_owned()),
            standby_mode_valid_options: standby.map(|_| "default, never".to_owned()),
            scheduler_mode: tile.scheduler.map(|scheduler| mode(scheduler).to_owned()),
            scheduler_watchdog_timeout: match tile.scheduler {
                Some(Scheduler::Timeout(limit)) => Some(limit),
                _ => None,
            },
            scheduler_timeslice_interval: slice.map(|(interval, _)| interval),
            scheduler_timeslice_yield_timeout: slice.map(|(_, limit)| limit),
        }
    }
}

/// How a device is set, and what it takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceConfig {
    #[serde(rename = "deviceId")]
    pub(crate) device: u32,
    /// Sustained limit, in W.
    pub(crate) power_limit: Option<u64>,
    /// Least and greatest limit that it takes, in W.
    pub(crate) power_valid_range: Option<String>,
    /// `enabled` or `disabled`.
    pub(crate) memory_ecc_current_state: Option<String>,
    /// What will hold after the next reset.
    pub(crate) memory_ecc_pending_state: Option<String>,
    #[serde(rename = "tileConfigData")]
    pub(crate) tiles: Vec<TileConfig>,
    /// What somebody changed since the machine was started.
    pub(crate) changed: Vec<ChangedSetting>,
    /// Every setting that the driver tells.
    pub(crate) readings: Vec<ReadingBody>,
}

impl DeviceConfig {
    /// How a device is set; `sample` holds what its driver tells.
    pub fn of(current: Current, sample: &Sample) -> Self {
        let parts = ["power_limit", "frequency_", "fan_", "engine_", "performance_"];
        let setting = |metric: Metric| {
            metric.kind() == Kind::Setting && parts.iter().any(|part| metric.name().starts_with(part))
        };
        let device = sample.identity.device_id;
        let told = |place| {
            let reading = sample.at(Metric::Property, place);
            reading.and_then(|reading| reading.value.as_ref().ok()).map(ToString::to_string)
        };
        let changed = current.changed.into_iter();
        DeviceConfig {
            device,
            power_limit: current.power_limit,
            power_valid_range: current.power_range.map(|(least, greatest)| format!("{least} to {greatest}")),
            memory_ecc_current_state: told("memory ecc"),
            memory_ecc_pending_state: told("memory ecc from the next start"),
            tiles: current.tiles.iter().map(|tile| TileConfig::of(device, tile, current.standby)).collect(),
            changed: changed.map(|(file, before, now)| ChangedSetting { file, before, now }).collect(),
            readings: sample
                .sorted()
                .into_iter()
                .filter(|reading| setting(reading.metric))
                .map(ReadingBody::of)
                .collect(),
        }
    }
}

impl DeviceConfig {
    /// Name, value and choices of each setting, for people.
    pub fn rows(&self) -> Vec<(&'static str, Option<String>, Option<String>)> {
        let watts = |text: String| format!("{text} W");
        let power = self.power_limit.map(|limit| watts(limit.to_string()));
        let mut rows = vec![
            ("power-limit", power, self.power_valid_range.clone().map(watts)),
            ("ecc", self.memory_ecc_current_state.clone(), None),
        ];
        for tile in &self.tiles {
            let range = tile.min_frequency.zip(tile.max_frequency);
            let range = range.map(|(least, greatest)| format!("{least} to {greatest} MHz"));
            let options =
                tile.gpu_frequency_valid_options.as_deref().map(|options| match options.split_once(", ") {
                    Some((least, rest)) => {
                        format!("{least} to {} MHz", rest.rsplit(", ").next().unwrap_or_default())
                    }
                    None => format!("{options} MHz"),
                });
            let times = [
                tile.scheduler_watchdog_timeout,
                tile.scheduler_timeslice_interval,
                tile.scheduler_timeslice_yield_timeout,
            ];
            let times = times.iter().flatten().map(|time| format!(",{time}"));
            let times: String = times.collect();
            let scheduler = tile.scheduler_mode.as_ref().map(|mode| format!("{mode}{times} (µs)"));
            rows.push(("frequency", range, options));
            rows.push(("scheduler", scheduler, None));
            rows.push(("standby", tile.standby_mode.clone(), tile.standby_mode_valid_options.clone()));
        }
        rows
    }

    /// File, first and present content of everything that somebody changed.
    pub fn changes(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let changed = self.changed.iter();
        changed.map(|one| (one.file.as_str(), one.before.as_str(), one.now.as_str()))
    }
}

/// What was written, and what the device made of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settings {
    pub(crate) device_id: u32,
    /// The files, with what is in them now.
    pub(crate) settings: Vec<SettingBody>,
}

/// A file and what is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingBody {
    pub(crate) file: String,
    pub(crate) value: String,
}

/// The clocks that the driver may choose.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrequencyRange {
    #[serde(default, deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) tile_id: Option<u8>,
    /// In MHz.
    #[schema(maximum = 100000)]
    #[serde(deserialize_with = "numbers::one")]
    pub(crate) min_frequency: u32,
    /// In MHz.
    #[schema(maximum = 100000)]
    #[serde(deserialize_with = "numbers::one")]
    pub(crate) max_frequency: u32,
}

/// The power that the device may draw.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerLimit {
    /// In W.
    #[schema(maximum = 100000)]
    #[serde(deserialize_with = "numbers::one")]
    pub(crate) power_limit: u32,
}

/// How engines divide their time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchedulerBody {
    #[serde(default, deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) tile_id: Option<u8>,
    pub(crate) scheduler_mode: SchedulerMode,
    /// For `timeout`: a program that does not answer for so many µs is ended; from 5000 to 100000000.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) scheduler_watchdog_timeout: Option<u32>,
    /// For `timeslice`: the length of a turn in µs, from 5000 to 100000000.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) scheduler_timeslice_interval: Option<u32>,
    /// For `timeslice`: time to yield in, in µs, from 5000 to 100000000.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) scheduler_timeslice_yield_timeout: Option<u32>,
}

/// How engines divide their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SchedulerMode {
    /// A program that does not answer is ended.
    Timeout,
    /// Programs take turns.
    Timeslice,
    /// A program has the engine for as long as it likes.
    Exclusive,
}

/// Whether a device may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StandbyMode {
    /// It may.
    Default,
    /// It may not.
    Never,
}

/// Whether a device may sleep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standby {
    #[serde(default, rename = "tile_id", deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) _tile_id: Option<u8>,
    pub(crate) standby_mode: StandbyMode,
}

/// How fast a part of a device runs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerformanceFactor {
    #[serde(default, rename = "tile_id", deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) _tile_id: Option<u8>,
    pub(crate) engine: FactorEngine,
    /// In %: 50 or 100; 0 leaves it to the device.
    #[schema(minimum = 0, maximum = 100)]
    pub(crate) factor: f64,
}

/// A part with a performance factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FactorEngine {
    /// The engines that compute.
    Compute,
    /// The engines for video.
    Media,
}

/// Something that is on or off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryEcc {
    /// 1 for on, 0 for off.
    #[serde(deserialize_with = "numbers::one")]
    #[schema(maximum = 1)]
    pub(crate) enabled: u8,
}

/// A link to another card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortEnabled {
    #[serde(default, rename = "tile_id", deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) _tile_id: Option<u8>,
    #[serde(rename = "port", deserialize_with = "numbers::one")]
    pub(crate) _port: u32,
    /// 1 for on, 0 for off.
    #[serde(rename = "enabled", deserialize_with = "numbers::one")]
    #[schema(maximum = 1)]
    pub(crate) _enabled: u8,
}

/// The lamp of a link to another card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortBeaconing {
    #[serde(default, rename = "tile_id", deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    pub(crate) _tile_id: Option<u8>,
    #[serde(rename = "port", deserialize_with = "numbers::one")]
    pub(crate) _port: u32,
    /// 1 for on, 0 for off.
    #[serde(rename = "beaconing", deserialize_with = "numbers::one")]
    #[schema(maximum = 1)]
    pub(crate) _beaconing: u8,
}

/// Whether to do it although programs use the device.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Force {
    #[serde(default)]
    pub(crate) force: bool,
}

impl SchedulerBody {
    pub(crate) fn change(&self) -> Result<Change, Problem> {
        let missing = |what: &str| Problem::contradiction(format!("this mode takes {what}"));
        Ok(Change::Scheduler(match self.scheduler_mode {
            SchedulerMode::Timeout => Scheduler::Timeout(
                self.scheduler_watchdog_timeout.ok_or_else(|| missing("scheduler_watchdog_timeout"))?,
            ),
            SchedulerMode::Timeslice => {
                let times = self.scheduler_timeslice_interval.zip(self.scheduler_timeslice_yield_timeout);
                let (interval, yield_timeout) = times.ok_or_else(|| {
                    missing("scheduler_timeslice_interval and scheduler_timeslice_yield_timeout")
                })?;
                Scheduler::Timeslice { interval, yield_timeout }
            }
            SchedulerMode::Exclusive => Scheduler::Exclusive,
        }))
    }
}

impl PerformanceFactor {
    pub(crate) fn change(&self) -> Result<Change, Problem> {
        if self.engine == FactorEngine::Compute {
            let reason = "failed to set the performance factor: the kernel offers it for media engines only";
            return Err(Problem::contradiction(reason));
        }
        let known = [0_u8, 50, 100].into_iter().find(|percent| f64::from(*percent) == self.factor);
        let percent = known.ok_or_else(|| Problem::contradiction("the factor is 0, 50 or 100 %"))?;
        Ok(Change::MediaFactor(percent))
    }
}

impl MemoryEcc {
    pub(crate) fn change(&self) -> Result<Change, Problem> {
        match self.enabled {
            0 | 1 => Ok(Change::MemoryEcc(self.enabled == 1)),
            _ => Err(Problem::unprocessable("enabled is 0 or 1")),
        }
    }
}

//! The range in which a driver may choose the clock.
//!
//! ```text
//!   xe      device/tileN/gtM/freq0/{min_freq,max_freq}          within rpn_freq … rp0_freq
//!   i915    gt/gtN/{rps_min_freq_mhz,rps_max_freq_mhz}          within rps_RPn … rps_RP0; older: gt_min_freq_mhz …
//!   amdgpu  device/power_dpm_force_performance_level = manual   and the levels in the range, of pp_dpm_sclk
//! ```

use super::{ConfigError, Desk, Setting, Write, numbered, within};

/// Where the clock of a part is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    /// The number of the tile.
    pub(super) tile: u32,
    pub(super) least: String,
    pub(super) greatest: String,
    lowest: String,
    highest: String,
}

impl Clock {
    fn of(tile: u32, folder: &str, names: [&str; 4]) -> Self {
        let [least, greatest, lowest, highest] = names.map(|name| format!("{folder}{name}"));
        Clock { tile, least, greatest, lowest, highest }
    }
}

const SETTING: Setting = Setting::FrequencyRange;
const AMD_LEVEL: &str = "device/power_dpm_force_performance_level";
const AMD_TABLE: &str = "device/pp_dpm_sclk";

impl Desk<'_> {
    /// The clocks of the parts that compute; media engines have their own, which nobody sets here.
    pub(super) fn clocks(&self) -> Vec<Clock> {
        let clocks = match self.identity.driver.as_str() {
            "xe" => self.xe_clocks(),
            "i915" => {
                let names = ["rps_min_freq_mhz", "rps_max_freq_mhz", "rps_RPn_freq_mhz", "rps_RP0_freq_mhz"];
                let old = ["gt_min_freq_mhz", "gt_max_freq_mhz", "gt_RPn_freq_mhz", "gt_RP0_freq_mhz"];
                let new = Clock::of(0, "gt/gt0/", names);
                vec![if self.has(&new.least) { new } else { Clock::of(0, "", old) }]
            }
            _ => Vec::new(),
        };
        clocks.into_iter().filter(|clock| self.has(&clock.least) && self.has(&clock.greatest)).collect()
    }

    fn xe_clocks(&self) -> Vec<Clock> {
        let tiles = numbered(self.list("device"), "tile");
        tiles
            .flat_map(|(tile, folder)| {
                let parts = numbered(self.list(&format!("device/{folder}")), "gt");
                parts.filter_map(move |(_, gt)| {
                    let part = format!("device/{folder}/{gt}");
                    let media = self.now(&format!("{part}/gtidle/name")).ends_with("-mc");
                    let names = ["min_freq", "max_freq", "rpn_freq", "rp0_freq"];
                    (!media).then(|| Clock::of(tile, &format!("{part}/freq0/"), names))
                })
            })
            .collect()
    }

    /// Least and greatest clock of the hardware.
    pub(super) fn clock_bounds(&self, clock: &Clock) -> Option<(u64, u64)> {
        Some((self.number(&clock.lowest)?, self.number(&clock.highest)?))
    }

    pub(super) fn frequency_range(
        &self,
        least: u32,
        greatest: u32,
        tile: Option<u32>,
    ) -> Result<Vec<Write>, ConfigError> {
        if least > greatest {
            let reason = "the least clock is above the greatest";
            return Err(ConfigError::Senseless { setting: SETTING, reason });
        }
        if self.identity.driver == "amdgpu" {
            return self.amd_levels(least.into(), greatest.into());
        }
        let refuse = |reason| ConfigError::NotOffered { setting: SETTING, reason };
        let clocks: Vec<Clock> =
            self.clocks().into_iter().filter(|clock| tile.is_none_or(|tile| clock.tile == tile)).collect();
        if clocks.is_empty() {
            return Err(refuse(if tile.is_some() {
                "there is no such tile"
            } else {
                "the driver does not offer it for this device"
            }));
        }
        let mut plan = Vec::new();
        for clock in clocks {
            let bounds =
                self.clock_bounds(&clock).ok_or_else(|| refuse("the device does not tell its clocks"))?;
            let low = self.write(clock.least, within(SETTING, least.into(), bounds, "MHz")?)?;
            let high = self.write(clock.greatest, within(SETTING, greatest.into(), bounds, "MHz")?)?;
            // At no time may the least be above the greatest.
            let rises =
                high.before.as_ref().and_then(|high| high.parse().ok()).is_some_and(|high| least > high);
            plan.extend(if rises { [high, low] } else { [low, high] });
        }
        Ok(plan)
    }

    /// The levels of the table, in MHz, if they can be chosen.
    pub(super) fn amd_table(&self) -> Option<Vec<u64>> {
        if !self.has(AMD_LEVEL) {
            return None;
        }
        let table = self.now(AMD_TABLE);
        let level = |line: &str| {
            let (_, clock) = line.split_once(':')?;
            let digits: String = clock.trim().chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let levels: Vec<u64> = table.lines().map_while(level).collect();
        (!levels.is_empty()).then_some(levels)
    }

    fn amd_levels(&self, least: u64, greatest: u64) -> Result<Vec<Write>, ConfigError> {
        let levels = self.amd_table().ok_or(ConfigError::NotOffered {
            setting: SETTING,
            reason: "the driver does not offer to choose among this device's clocks",
        })?;
        let inside: Vec<String> = (0..)
            .zip(&levels)
            .filter(|(_, clock)| (least..=greatest).contains(*clock))
            .map(|(number, _): (usize, _)| number.to_string())
            .collect();
        if inside.is_empty() {
            let bounds = (levels.iter().min(), levels.iter().max());
            let (Some(low), Some(high)) = bounds else { return Ok(Vec::new()) };
            within(SETTING, least, (*low, *high), "MHz")?;
            within(SETTING, greatest, (*low, *high), "MHz")?;
            let reason = "the device has no clock in this range";
            return Err(ConfigError::Senseless { setting: SETTING, reason });
        }
        let mut level = self.write(AMD_LEVEL.to_owned(), "manual")?;
        // The driver does not tell which levels somebody chose by hand, so those cannot be put back.
        if level.before.as_deref() == Some("manual") {
            level.before = Some("auto".to_owned());
        }
        // The level's way back takes the choice with it.
        let chosen = Write { file: AMD_TABLE.to_owned(), value: inside.join(" "), before: None };
        Ok(vec![level, chosen])
    }

    /// i915 runs the media engines at half of the processor's clock, at all of it, or as it likes.
    pub(super) fn media_factor(&self, percent: u8) -> Result<Vec<Write>, ConfigError> {
        let setting = Setting::MediaFactor;
        let file = "gt/gt0/media_freq_factor";
        if self.identity.driver != "i915" || !self.has(file) {
            let reason = "the driver does not offer it for this device";
            return Err(ConfigError::NotOffered { setting, reason });
        }
        // The file holds the factor in units of 1/256.
        let factor = match percent {
            0 => 0,
            50 => 128,
            100 => 256,
            _ => {
                let reason = "the driver takes 50 or 100 %, and 0 to choose by itself";
                return Err(ConfigError::Senseless { setting, reason });
            }
        };
        Ok(vec![self.write(file.to_owned(), factor)?])
    }
}

//! NVIDIA's devices, which their library sets.

use super::{ConfigError, DEFAULT_CLOCKS, Desk, Setting, Span, Write, within};
use crate::nvidia::settings::{LOCKED_CLOCKS, MEMORY_ECC, POWER_LIMIT};
use crate::value::Reason;

const MILLI: u64 = 1000;

impl Desk<'_> {
    /// Least and greatest power limit that it takes, in W.
    pub(super) fn nvidia_power(&self) -> Result<(u64, u64), Reason> {
        let (library, index) = self.library()?;
        let (least, greatest) = library.power_range(index)?;
        Ok((least.div_ceil(MILLI), greatest / MILLI))
    }

    /// The clocks that it takes, in MHz.
    pub(super) fn nvidia_clocks(&self) -> Result<Vec<u64>, Reason> {
        let (library, index) = self.library()?;
        library.clocks(index)
    }

    pub(super) fn nvidia_power_limit(&self, watts: u32, span: Span) -> Result<Vec<Write>, ConfigError> {
        let setting = Setting::PowerLimit;
        if span != Span::Sustain {
            let reason = "NVIDIA's library knows a sustained limit only";
            return Err(ConfigError::NotOffered { setting, reason });
        }
        let range = self.nvidia_power().map_err(|reason| ConfigError::Library { setting, reason })?;
        let watts = within(setting, watts.into(), range, "W")?;
        Ok(vec![self.write(POWER_LIMIT.to_owned(), watts * MILLI)?])
    }

    pub(super) fn nvidia_clock_range(
        &self,
        least: u32,
        greatest: u32,
        tile: Option<u32>,
    ) -> Result<Vec<Write>, ConfigError> {
        let setting = Setting::FrequencyRange;
        if tile.is_some_and(|tile| tile > 0) {
            return Err(ConfigError::NotOffered { setting, reason: "there is no such tile" });
        }
        let clocks = self.nvidia_clocks().map_err(|reason| ConfigError::Library { setting, reason })?;
        let (Some(lowest), Some(highest)) = (clocks.first(), clocks.last()) else {
            return Err(ConfigError::NotOffered { setting, reason: "the device does not tell its clocks" });
        };
        let bounds = (*lowest, *highest);
        let least = within(setting, least.into(), bounds, "MHz")?;
        let greatest = within(setting, greatest.into(), bounds, "MHz")?;
        // What is locked nobody tells, so it is unlocked afterwards.
        let before = Some(DEFAULT_CLOCKS.to_owned());
        Ok(vec![Write { file: LOCKED_CLOCKS.to_owned(), value: format!("{least},{greatest}"), before }])
    }

    pub(super) fn nvidia_ecc(&self, on: bool) -> Result<Vec<Write>, ConfigError> {
        Ok(vec![self.write(MEMORY_ECC.to_owned(), u8::from(on))?])
    }
}

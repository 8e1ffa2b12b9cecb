//! What NVIDIA's library lets be set, under names as if they were files: `nvml:power_limit` and the like.
//!
//! | name | content | takes effect |
//! |---|---|---|
//! | `nvml:power_limit` | mW | at once |
//! | `nvml:locked_clocks` | `300,1500` in MHz, or `default` | at once; the library does not tell what is locked |
//! | `nvml:memory_ecc` | 0 or 1 | when the driver starts again, or the device is reset |

use std::io;

use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter};
use nvml_wrapper::enums::device::GpuLockedClocksSetting;
use nvml_wrapper::error::NvmlError;

use super::{Library, reason};
use crate::value::Reason;

/// The names of what can be set.
pub(crate) const POWER_LIMIT: &str = "nvml:power_limit";
pub(crate) const LOCKED_CLOCKS: &str = "nvml:locked_clocks";
pub(crate) const MEMORY_ECC: &str = "nvml:memory_ecc";

/// What unlocks the clocks.
pub(crate) const DEFAULT: &str = "default";

impl Library {
    /// How something is set.
    pub(crate) fn setting(&self, index: u32, name: &str) -> Result<String, Reason> {
        let device = self.0.device_by_index(index).map_err(|error| reason(&error))?;
        let text = match name {
            POWER_LIMIT => device.power_management_limit().map(|limit| limit.to_string()),
            MEMORY_ECC => device.is_ecc_enabled().map(|mode| u8::from(mode.pending_enabled).to_string()),
            LOCKED_CLOCKS => {
                return Err(Reason::NotOffered("the library does not tell which clocks are locked"));
            }
            _ => return Err(Reason::Absent(name.into())),
        };
        text.map_err(|error| reason(&error))
    }

    /// Sets something.
    pub(crate) fn set(&self, index: u32, name: &str, value: &str) -> io::Result<()> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let mut device = self.0.device_by_index(index).map_err(refusal)?;
        let outcome = match name {
            POWER_LIMIT => device.set_power_management_limit(number(value)?),
            MEMORY_ECC => device.set_ecc(value == "1"),
            LOCKED_CLOCKS if value == DEFAULT => device.reset_gpu_locked_clocks(),
            LOCKED_CLOCKS => {
                let (least, greatest) = value.split_once(',').ok_or_else(wrong)?;
                let (min_clock_mhz, max_clock_mhz) = (number(least)?, number(greatest)?);
                device.set_gpu_locked_clocks(GpuLockedClocksSetting::Numeric { min_clock_mhz, max_clock_mhz })
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        outcome.map_err(refusal)
    }

    /// Forgets the errors of the memory since the driver was started.
    pub(crate) fn clear_errors(&self, index: u32) -> io::Result<()> {
        let mut device = self.0.device_by_index(index).map_err(refusal)?;
        device.clear_ecc_error_counts(EccCounter::Volatile).map_err(refusal)
    }

    /// Least and greatest power limit that a device takes, in mW.
    pub(crate) fn power_range(&self, index: u32) -> Result<(u64, u64), Reason> {
        let range =
            self.0.device_by_index(index).and_then(|device| device.power_management_limit_constraints());
        range.map(|range| (range.min_limit.into(), range.max_limit.into())).map_err(|error| reason(&error))
    }

    /// The clocks that a device computes with, in MHz, the least first; only the least and the greatest where it does
    /// not tell all.
    pub(crate) fn clocks(&self, index: u32) -> Result<Vec<u64>, Reason> {
        let told = || -> Result<Vec<u64>, NvmlError> {
            let device = self.0.device_by_index(index)?;
            let of_memory = device.supported_memory_clocks().unwrap_or_default();
            let all = of_memory.iter().max().map(|memory| device.supported_graphics_clocks(*memory));
            let mut clocks: Vec<u64> = match all {
                Some(Ok(clocks)) if !clocks.is_empty() => clocks.into_iter().map(u64::from).collect(),
                _ => vec![1, device.max_clock_info(Clock::Graphics)?.into()],
            };
            clocks.sort_unstable();
            clocks.dedup();
            Ok(clocks)
        };
        told().map_err(|error| reason(&error))
    }
}

/// What the library says when it does not do something.
fn refusal(error: NvmlError) -> io::Error {
    match &error {
        NvmlError::NoPermission => io::ErrorKind::PermissionDenied.into(),
        other => io::Error::other(reason(other).to_string()),
    }
}

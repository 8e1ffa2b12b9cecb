//! The power that a device may draw, as its sensors' folder has it, in µW.
//!
//! ```text
//!             sustained        for a moment        at once
//!   Intel     powerN_max       powerN_cap          powerN_crit
//!   amdgpu    powerN_cap       powerN_cap of the channel fastPPT
//! ```
//!
//! amdgpu tells the range that it takes, Intel's drivers the power that a card is rated for. Where neither is told
//! the limit can be lowered, and put up again to what it was at first, but not beyond.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Desk, Setting, Write, within};
use crate::nvidia::settings::POWER_LIMIT;

/// The time over which a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// For as long as one likes.
    Sustain,
    /// For some milliseconds to seconds.
    Peak,
    /// At no time.
    Burst,
}

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sustain" => Ok(Span::Sustain),
            "peak" => Ok(Span::Peak),
            "burst" => Ok(Span::Burst),
            _ => Err("a power limit is of type sustain, peak or burst"),
        }
    }
}

/// Names of channels, the widest first.
const WIDEST: &[&str] = &["card", "PPT", "slowPPT", "pkg", ""];

const SETTING: Setting = Setting::PowerLimit;
const MICRO: u64 = 1_000_000;

/// A limit and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    file: String,
    /// In W, rounded.
    pub(super) watts: u64,
    /// Least and greatest, in W; `None` when nobody tells.
    pub(super) range: Option<(u64, u64)>,
}

impl Desk<'_> {
    /// The limit over a time.
    pub(super) fn limit(&self, span: Span) -> Option<Limit> {
        if self.is_nvidia() {
            let file = POWER_LIMIT.to_owned();
            let watts = self.number(&file).filter(|_| span == Span::Sustain)? / 1000;
            return Some(Limit { file, watts, range: self.nvidia_power().ok() });
        }
        let amd = self.identity.driver == "amdgpu";
        let attribute = match (span, amd) {
            (Span::Sustain, false) => "max",
            (Span::Peak, false) | (Span::Sustain | Span::Peak, true) => "cap",
            (Span::Burst, _) => "crit",
        };
        let fast = amd && span == Span::Peak;
        let mut found = self.channels(attribute);
        found.retain(|(label, _)| (label == "fastPPT") == fast);
        found.sort_by_key(|(label, _)| WIDEST.iter().position(|known| known == label));
        let (_, channel) = found.into_iter().find(|(label, _)| fast || WIDEST.contains(&label.as_str()))?;
        let file = format!("{channel}_{attribute}");
        let watts = self.number(&file)?;
        let told =
            |attribute: &str| self.number(&format!("{channel}_{attribute}")).filter(|watts| *watts > 0);
        let range = if amd {
            Some((self.number(&format!("{channel}_cap_min"))?, told("cap_max")?))
        } else {
            told("rated_max")
                .or_else(|| self.first(&file).filter(|watts| *watts > 0))
                .map(|most| (MICRO, most))
        };
        let whole = |(least, greatest): (u64, u64)| (least.div_ceil(MICRO).max(1), greatest / MICRO);
        Some(Limit { file, watts: watts / MICRO, range: range.map(whole) })
    }

    /// Label and path of the power channels that have an attribute.
    fn channels(&self, attribute: &str) -> Vec<(String, String)> {
        let monitors = self.list("device/hwmon");
        let folders = monitors.iter().map(|monitor| format!("device/hwmon/{monitor}"));
        // i915 has a monitor for each part besides that of the card.
        let folders = folders.filter(|folder| !self.now(&format!("{folder}/name")).starts_with("i915_"));
        folders
            .flat_map(|folder| {
                let ending = format!("_{attribute}");
                let files = self.list(&folder).into_iter();
                let channels = files.filter_map(move |file| {
                    let channel = file.strip_suffix(&ending)?;
                    let number = channel.strip_prefix("power")?;
                    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| channel.to_owned())
                });
                channels.map(move |channel| format!("{folder}/{channel}")).collect::<Vec<_>>()
            })
            .map(|channel| (self.now(&format!("{channel}_label")), channel))
            .collect()
    }

    pub(super) fn power_limit(&self, watts: u32, span: Span) -> Result<Vec<Write>, ConfigError> {
        let refuse = |reason| ConfigError::NotOffered { setting: SETTING, reason };
        let limit =
            self.limit(span).ok_or_else(|| refuse("the driver does not offer this limit for this device"))?;
        let range = limit.range.ok_or_else(|| refuse("the device does not tell which limits it takes"))?;
        let watts = within(SETTING, watts.into(), range, "W")?;
        Ok(vec![self.write(limit.file, watts * MICRO)?])
    }
}

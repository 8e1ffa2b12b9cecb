//! What is to happen when a device does not do well, and when that is over.
//!
//! ```text
//!             the condition holds                 a webhook, a command; clocks held back; the device drained
//!     clear ──────────────────────────► raised
//!       ▲                                 │       what was changed is put back; webhook and command once more
//!       └─────────────────────────────────┘
//!             below by a margin, in three samples; five quiet minutes after an error
//! ```
//!
//! The kinds are XPU Manager's ten. This module only judges; whoever uses it acts. What cannot be read keeps a
//! policy as it is: a sensor that fails has not cooled down.

mod watch;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use watch::{Turn, Verdict, Watch};

/// What a policy looks at, in the order of XPU Manager's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Temperature of the processor, in °C.
    GpuTemperature,
    /// Temperature of the memory, in °C.
    GpuMemoryTemperature,
    /// Power, in W.
    GpuPower,
    /// Resets of the device.
    RasReset,
    /// Errors of programs.
    RasProgramming,
    /// Errors that the driver recorded.
    RasDriver,
    /// Errors of memory that were corrected.
    RasCacheCorrectable,
    /// Errors of memory that were not.
    RasCacheUncorrectable,
    /// The device is gone.
    GpuMissing,
    /// Its clocks are held back.
    GpuThrottle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::GpuTemperature,
        Kind::GpuMemoryTemperature,
        Kind::GpuPower,
        Kind::RasReset,
        Kind::RasProgramming,
        Kind::RasDriver,
        Kind::RasCacheCorrectable,
        Kind::RasCacheUncorrectable,
        Kind::GpuMissing,
        Kind::GpuThrottle,
    ];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::GpuTemperature => "gpu_temperature",
            Kind::GpuMemoryTemperature => "gpu_memory_temperature",
            Kind::GpuPower => "gpu_power",
            Kind::RasReset => "ras_reset",
            Kind::RasProgramming => "ras_programming",
            Kind::RasDriver => "ras_driver",
            Kind::RasCacheCorrectable => "ras_cache_correctable",
            Kind::RasCacheUncorrectable => "ras_cache_uncorrectable",
            Kind::GpuMissing => "gpu_missing",
            Kind::GpuThrottle => "gpu_throttle",
        }
    }

    /// The kind of a name or number.
    pub fn named(text: &str) -> Option<Self> {
        let number = text.parse().ok().and_then(|number: usize| Kind::ALL.get(number).copied());
        number.or_else(|| Kind::ALL.into_iter().find(|kind| kind.name() == text))
    }

    /// What conditions it can have.
    pub fn conditions(self) -> &'static [Comparison] {
        use Comparison::{Greater, Less, WhenOccur};
        match self {
            Kind::GpuTemperature | Kind::GpuMemoryTemperature | Kind::GpuPower => &[Greater, Less],
            Kind::GpuMissing | Kind::GpuThrottle => &[WhenOccur],
            _ => &[Greater, Less, WhenOccur],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Above the threshold.
    Greater,
    /// Below the threshold.
    Less,
    /// Whenever it happens.
    WhenOccur,
}

/// What is done while a policy is raised, besides telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing else.
    Notify,
    /// The clock is held in this range, in MHz.
    Throttle {
        /// The least.
        least: u32,
        /// The greatest.
        greatest: u32,
    },
    /// The node takes no work that wants this device.
    Drain,
}

/// A policy of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What it looks at.
    pub kind: Kind,
    /// How.
    pub condition: Comparison,
    /// Against what; none when something only has to occur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Where it is told, by a POST of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// The program that is told, with its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What is done.
    pub action: Action,
}

/// Why a policy cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The kind does not go with the condition.
    #[error("use this condition: a policy of this type cannot have it")]
    Condition,
    /// A threshold is missing, or nobody needs it, or it is none.
    #[error("use this threshold: greater and less take one from -1000 to 1e12, occurring takes none")]
    Threshold,
    /// Nothing can be held back on a device that is gone.
    #[error("throttle a device that is missing")]
    Action,
    /// The range is none.
    #[error("use this frequency range: the least clock is above the greatest")]
    Range,
    /// What is told, or to whom, is too long.
    #[error("use this address or command: it is too long")]
    Long,
}

impl Policy {
    /// Whether it can be.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !self.kind.conditions().contains(&self.condition) {
            return Err(PolicyError::Condition);
        }
        let threshold = match (self.condition, self.threshold) {
            (Comparison::WhenOccur, threshold) => threshold.is_none(),
            (_, Some(threshold)) => (-1000.0..=1e12).contains(&threshold),
            (_, None) => false,
        };
        let long = |text: &String| text.len() > 4096;
        match self.action {
            _ if !threshold => Err(PolicyError::Threshold),
            Action::Throttle { .. } if self.kind == Kind::GpuMissing => Err(PolicyError::Action),
            Action::Throttle { least, greatest } if least > greatest => Err(PolicyError::Range),
            _ if self.command.len() > 64 || self.command.iter().chain(&self.notify).any(long) => {
                Err(PolicyError::Long)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: Kind, condition: Comparison, threshold: Option<f64>) -> Policy {
        Policy { kind, condition, threshold, notify: None, command: Vec::new(), action: Action::Notify }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |policy: Policy, expected| assert_eq!(policy.check(), expected, "{policy:?}");
        for kind in Kind::ALL {
            for condition in kind.conditions() {
                let threshold = (*condition != Comparison::WhenOccur).then_some(1.0);
                check(policy(kind, *condition, threshold), Ok(()));
            }
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        check(policy(Kind::GpuPower, Comparison::WhenOccur, None), Err(PolicyError::Condition));
        check(policy(Kind::GpuMissing, Comparison::Greater, Some(1.0)), Err(PolicyError::Condition));
        check(policy(Kind::GpuPower, Comparison::Greater, None), Err(PolicyError::Threshold));
        check(policy(Kind::GpuPower, Comparison::Greater, Some(f64::NAN)), Err(PolicyError::Threshold));
        check(policy(Kind::GpuMissing, Comparison::WhenOccur, Some(1.0)), Err(PolicyError::Threshold));
        let throttle = |kind, condition, threshold, least| Policy {
            action: Action::Throttle { least, greatest: 500 },
            ..policy(kind, condition, threshold)
        };
        check(throttle(Kind::GpuMissing, Comparison::WhenOccur, None, 300), Err(PolicyError::Action));
        check(throttle(Kind::GpuPower, Comparison::Greater, Some(1.0), 600), Err(PolicyError::Range));
        assert_eq!((Kind::named("9"), Kind::named("10")), (Some(Kind::GpuThrottle), None));
    }
}

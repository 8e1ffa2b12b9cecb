//! What is checked, and how a check comes out.

use serde::Serialize;

/// How a device is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It cannot be said.
    Unknown,
    /// Within its limits.
    Ok,
    /// At a limit where it slows down.
    Warning,
    /// At a limit where it stops.
    Critical,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Ok => "ok",
            State::Warning => "warning",
            State::Critical => "critical",
        }
    }
}

/// What is checked, in the order and with the names of XPU Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The processor's temperature.
    CoreTemperature,
    /// The memory's temperature.
    MemoryTemperature,
    /// The power drawn.
    Power,
    /// Errors of the memory.
    Memory,
    /// Links between cards.
    XeLinkPort,
    /// Whether the clocks are held back.
    Frequency,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::CoreTemperature,
        Kind::MemoryTemperature,
        Kind::Power,
        Kind::Memory,
        Kind::XeLinkPort,
        Kind::Frequency,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::CoreTemperature => "core_temperature",
            Kind::MemoryTemperature => "memory_temperature",
            Kind::Power => "power",
            Kind::Memory => "memory",
            Kind::XeLinkPort => "xe_link_port",
            Kind::Frequency => "frequency",
        }
    }

    /// The unit of its value and thresholds.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::CoreTemperature | Kind::MemoryTemperature => "°C",
            Kind::Power => "W",
            Kind::Memory | Kind::XeLinkPort | Kind::Frequency => "",
        }
    }
}

/// Where a threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The device itself.
    Hardware,
    /// Whoever runs the machine.
    Configured,
    /// Nobody: a common value for such devices.
    Default,
}

/// A value from which on a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Threshold {
    /// In the unit of the check.
    pub value: f64,
    /// Where it comes from.
    pub origin: Origin,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was checked.
    pub kind: Kind,
    /// How it is.
    pub state: State,
    /// In words: what was compared, or why nothing could be.
    pub description: String,
    /// The value.
    pub value: Option<f64>,
    /// From here on a warning: the device slows down.
    pub throttle: Option<Threshold>,
    /// From here on critical: the device stops.
    pub shutdown: Option<Threshold>,
    /// From here on a warning, because somebody wants it so.
    pub custom: Option<f64>,
}

/// All checks of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// The worst of the checks.
    pub state: State,
    /// The checks.
    pub checks: Vec<Check>,
}

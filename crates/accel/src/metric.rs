//! The table of what can be read: names, units, and how often it is worth reading.

use crate::value::Unit;

macro_rules! metrics {
    ($($variant:ident, $name:literal, $unit:ident, $kind:ident, $help:literal;)*) => {
        /// What a reading is of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $variant,)*
        }

        impl Metric {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)*];

            /// Its name in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }

            /// The unit of its numbers.
            pub const fn unit(self) -> Unit {
                match self { $(Metric::$variant => Unit::$unit,)* }
            }

            /// What it does over time.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind,)* }
            }

            /// One sentence for those who read a scrape.
            pub const fn help(self) -> &'static str {
                match self { $(Metric::$variant => $help,)* }
            }
        }
    };
}

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down: read at every sample.
    Gauge,
    /// Goes up only: read at every sample.
    Counter,
    /// Changes when somebody changes it: read now and then.
    Setting,
    /// Says why the clocks are held back: read when they are.
    Cause,
}

metrics! {
    Utilization, "utilization", Percent, Gauge, "Share of the time in which the device was busy.";
    EngineUtilization, "engine_utilization", Percent, Gauge, "Share of the time in which an engine was busy.";
    MemoryBandwidthUtilization, "memory_bandwidth_utilization", Percent, Gauge, "Share of the time in which memory was being read or written.";
    MemoryRead, "memory_read", BytePerSecond, Gauge, "Read from the device's memory.";
    MemoryWritten, "memory_written", BytePerSecond, Gauge, "Written to the device's memory.";
    EuActive, "eu_active", Percent, Gauge, "Share of the time in which execution units were active.";
    MemoryTotal, "memory_total", Byte, Setting, "Memory that the device has.";
    MemoryUsed, "memory_used", Byte, Gauge, "Memory of the device in use.";
    MemoryReserved, "memory_reserved", Byte, Gauge, "Memory of the device that the driver keeps for itself, beside what is in use.";
    MemoryWindow, "memory_window", Byte, Setting, "Size of the window through which the host sees the device's memory.";
    Temperature, "temperature", Celsius, Gauge, "Temperature of a part of the device.";
    TemperatureMaximum, "temperature_maximum", Celsius, Setting, "The driver's maximum for a sensor; no limit by itself.";
    TemperatureCritical, "temperature_critical", Celsius, Setting, "Temperature at which the device slows down to protect itself.";
    TemperatureCriticalHysteresis, "temperature_critical_hysteresis", Celsius, Setting, "Temperature below which the critical state ends.";
    TemperatureEmergency, "temperature_emergency", Celsius, Setting, "Temperature at which the device shuts down to protect itself.";
    Power, "power", Watt, Gauge, "Power that the device draws.";
    PowerAverage, "power_average", Watt, Gauge, "Power that the device draws, averaged by its firmware.";
    PowerLimit, "power_limit", Watt, Setting, "Sustained power limit in force.";
    PowerLimitPeak, "power_limit_peak", Watt, Setting, "Short-term power limit in force.";
    PowerLimitDefault, "power_limit_default", Watt, Setting, "Sustained power limit when nobody changed it.";
    PowerLimitMinimum, "power_limit_minimum", Watt, Setting, "Least power limit that can be set.";
    PowerLimitMaximum, "power_limit_maximum", Watt, Setting, "Greatest power limit that can be set.";
    PowerLimitInterval, "power_limit_interval", Millisecond, Setting, "Time over which the power limit is averaged.";
    PowerCritical, "power_critical", Watt, Setting, "Power at which the device cuts its clocks at once.";
    PowerRated, "power_rated", Watt, Setting, "Power that the device is rated for.";
    Energy, "energy", Joule, Counter, "Energy that the device has used since its counter began.";
    Voltage, "voltage", Volt, Gauge, "Voltage of a part of the device.";
    FanSpeed, "fan_speed", Rpm, Gauge, "Speed of a fan.";
    FanMinimum, "fan_minimum", Rpm, Setting, "Least speed of a fan.";
    FanMaximum, "fan_maximum", Rpm, Setting, "Greatest speed of a fan.";
    FanTarget, "fan_target", Rpm, Gauge, "Speed that a fan is told to reach.";
    FanEnabled, "fan_enabled", Flag, Setting, "Whether a fan follows a speed that was set by hand.";
    FanDuty, "fan_duty", Percent, Gauge, "How hard a fan is driven.";
    FanDutyMinimum, "fan_duty_minimum", Percent, Setting, "Least drive of a fan.";
    FanDutyMaximum, "fan_duty_maximum", Percent, Setting, "Greatest drive of a fan.";
    FanMode, "fan_mode", Text, Setting, "Who drives a fan.";
    FanCurveTemperature, "fan_curve_temperature", Celsius, Setting, "Temperature of a point of a fan's curve.";
    FanCurveDuty, "fan_curve_duty", Percent, Setting, "Drive of a fan at a point of its curve.";
    FanControl, "fan_control", Text, Setting, "A setting of the firmware's fan control.";
    Frequency, "frequency", Megahertz, Gauge, "Clock at which a part of the device runs.";
    FrequencyRequested, "frequency_requested", Megahertz, Gauge, "Clock that the driver asked for.";
    FrequencyMinimum, "frequency_minimum", Megahertz, Setting, "Least clock that may be asked for.";
    FrequencyMaximum, "frequency_maximum", Megahertz, Setting, "Greatest clock that may be asked for.";
    FrequencyBoost, "frequency_boost", Megahertz, Setting, "Clock asked for when somebody waits.";
    FrequencyLowest, "frequency_lowest", Megahertz, Setting, "Least clock of the hardware.";
    FrequencyHighest, "frequency_highest", Megahertz, Setting, "Greatest clock of the hardware.";
    FrequencyEfficient, "frequency_efficient", Megahertz, Setting, "Clock at which the hardware is most efficient.";
    FrequencyAchievable, "frequency_achievable", Megahertz, Setting, "Greatest clock that the hardware can hold at present.";
    FrequencyDefaultMinimum, "frequency_default_minimum", Megahertz, Setting, "Least clock when nobody changed it.";
    FrequencyDefaultMaximum, "frequency_default_maximum", Megahertz, Setting, "Greatest clock when nobody changed it.";
    FrequencyTuning, "frequency_tuning", Text, Setting, "A setting of the clock control.";
    Throttled, "throttled", Flag, Gauge, "Whether the clocks are held back.";
    ThrottleCause, "throttle_cause", Flag, Cause, "Whether this is what holds the clocks back.";
    ThrottleCauses, "throttle_causes", Text, Cause, "What holds the clocks back.";
    FrequencyMean, "frequency_mean", Megahertz, Gauge, "Mean of the clock since the last sample, sleep counted as 0.";
    Sleep, "sleep", Percent, Gauge, "Share of the time in which a part of the device slept, by its performance counter.";
    IdleTime, "idle_time", Millisecond, Counter, "Time for which a part of the device slept.";
    IdleState, "idle_state", Text, Gauge, "Whether a part of the device sleeps.";
    LinkSpeed, "pcie_link_speed", Gigatransfer, Setting, "Speed of the card's PCI Express link to the host.";
    LinkWidth, "pcie_link_width", Lane, Setting, "Lanes of the card's PCI Express link to the host.";
    LinkSpeedMaximum, "pcie_link_speed_maximum", Gigatransfer, Setting, "Greatest speed of the card's PCI Express link.";
    LinkWidthMaximum, "pcie_link_width_maximum", Lane, Setting, "Greatest width of the card's PCI Express link.";
    EndpointSpeed, "pcie_endpoint_speed", Gigatransfer, Setting, "Speed of the device's own link inside of the card.";
    EndpointWidth, "pcie_endpoint_width", Lane, Setting, "Lanes of the device's own link inside of the card.";
    EndpointSpeedMaximum, "pcie_endpoint_speed_maximum", Gigatransfer, Setting, "Greatest speed of the device's own link inside of the card.";
    EndpointWidthMaximum, "pcie_endpoint_width_maximum", Lane, Setting, "Greatest width of the device's own link inside of the card.";
    PcieReplays, "pcie_replays", Count, Counter, "PCI Express packets that had to be sent again.";
    PcieReceived, "pcie_received", BytePerSecond, Gauge, "At most so much was received over PCI Express.";
    PcieSent, "pcie_sent", BytePerSecond, Gauge, "At most so much was sent over PCI Express.";
    Errors, "errors", Count, Counter, "Errors that the device or its driver counted.";
    ErrorState, "error_state", Text, Setting, "What the driver recorded of the last hang.";
    EngineTimeout, "engine_job_timeout", Millisecond, Setting, "Time after which a job is given up.";
    EngineTimeslice, "engine_timeslice", Microsecond, Setting, "Time for which a job runs before others have their turn.";
    EnginePreemption, "engine_preemption_timeout", Microsecond, Setting, "Time that a job has to make way.";
    ComputeUnits, "compute_units", Count, Setting, "Units that compute.";
    Firmware, "firmware", Text, Setting, "Version of a firmware.";
    PerformanceLevel, "performance_level", Text, Setting, "How the driver chooses clocks.";
    State, "state", Text, Gauge, "State of the device.";
    Property, "property", Text, Setting, "Something that the driver says of the device.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lower_case() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(
            names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')),
            "{names:?}"
        );
    }
}

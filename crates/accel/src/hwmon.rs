//! Sensors as the kernel's hardware monitoring shows them: one directory, files named `temp2_input`, `fan1_max`.
//!
//! ```text
//!   temp2_input      temp = kind, 2 = channel, input = what of it
//!   temp2_label      pkg: the channel's name, if the driver gives one
//! ```
//!
//! The table below says what each kind and attribute is, in which unit the kernel writes it, and which metric it
//! becomes. `temp*_max` is not a limit: one driver puts 60 °C there for a card that idles at 54.

use crate::metric::Metric;
use crate::probe::{self, Probe};
use crate::root::Root;

/// Kind, attribute, metric, and the kernel's unit in ours.
const ATTRIBUTES: &[(&str, &str, Metric, f64)] = &[
    ("temp", "input", Metric::Temperature, 1e-3),
    ("temp", "max", Metric::TemperatureMaximum, 1e-3),
    ("temp", "crit", Metric::TemperatureCritical, 1e-3),
    ("temp", "crit_hyst", Metric::TemperatureCriticalHysteresis, 1e-3),
    ("temp", "emergency", Metric::TemperatureEmergency, 1e-3),
    ("power", "input", Metric::Power, 1e-6),
    ("power", "average", Metric::PowerAverage, 1e-6),
    ("power", "max", Metric::PowerLimit, 1e-6),
    ("power", "cap", Metric::PowerLimitPeak, 1e-6),
    ("power", "cap_default", Metric::PowerLimitDefault, 1e-6),
    ("power", "cap_min", Metric::PowerLimitMinimum, 1e-6),
    ("power", "cap_max", Metric::PowerLimitMaximum, 1e-6),
    ("power", "max_interval", Metric::PowerLimitInterval, 1.0),
    ("power", "crit", Metric::PowerCritical, 1e-6),
    ("power", "rated_max", Metric::PowerRated, 1e-6),
    ("energy", "input", Metric::Energy, 1e-6),
    ("in", "input", Metric::Voltage, 1e-3),
    ("fan", "input", Metric::FanSpeed, 1.0),
    ("fan", "min", Metric::FanMinimum, 1.0),
    ("fan", "max", Metric::FanMaximum, 1.0),
    ("fan", "target", Metric::FanTarget, 1.0),
    ("fan", "enable", Metric::FanEnabled, 1.0),
    ("freq", "input", Metric::Frequency, 1e-6),
    ("pwm", "", Metric::FanDuty, DUTY),
    ("pwm", "min", Metric::FanDutyMinimum, DUTY),
    ("pwm", "max", Metric::FanDutyMaximum, DUTY),
];

/// 255 is all that a fan can be given.
const DUTY: f64 = 100.0 / 255.0;

/// The sensors of a device. `name_of` names a channel that has no label, from its kind and number.
pub fn probes(root: &Root, device: &str, name_of: fn(&str, &str) -> String) -> Vec<Probe> {
    let folder = format!("{device}/hwmon");
    let monitors = root.list(&folder);
    monitors.iter().flat_map(|monitor| of_monitor(root, &format!("{folder}/{monitor}"), name_of)).collect()
}

fn of_monitor(root: &Root, folder: &str, name_of: fn(&str, &str) -> String) -> Vec<Probe> {
    let driver = root.text(&format!("{folder}/name")).unwrap_or_default();
    // i915 has a monitor for each part of the graphics engine besides that of the card.
    let part = driver.strip_prefix("i915_");
    let files = root.list(folder);
    let amd = driver == "amdgpu";
    let mut probes = Vec::new();
    for file in &files {
        let Some((kind, channel, attribute)) = split(file) else { continue };
        let label = root.text(&format!("{folder}/{kind}{channel}_label"));
        let location = match (part, label) {
            (Some(part), _) => part.to_owned(),
            (None, Some(label)) => label,
            (None, None) => name_of(kind, channel),
        };
        let path = format!("{folder}/{file}");
        if kind == "pwm" && attribute == "enable" {
            probes.push(Probe::parsed(Metric::FanMode, &location, path, mode, 1.0));
        } else if let Some((point, what)) = curve_point(kind, attribute) {
            let (metric, scale) = match what {
                "temp" => (Metric::FanCurveTemperature, 1e-3),
                _ => (Metric::FanCurveDuty, DUTY),
            };
            probes.push(Probe::number(metric, &format!("{location} point {point}"), path, scale));
        } else if let Some(&(_, _, metric, scale)) =
            ATTRIBUTES.iter().find(|(of, name, ..)| (*of, *name) == (kind, attribute))
        {
            let instant = files.iter().any(|other| *other == format!("power{channel}_input"));
            let metric = match metric {
                // amdgpu's cap is the sustained limit; Intel's is the short-term one.
                Metric::PowerLimitPeak if amd => Metric::PowerLimit,
                Metric::PowerAverage if !instant => Metric::Power,
                metric => metric,
            };
            probes.push(Probe::number(metric, &location, path, scale));
        }
    }
    probes
}

/// Kind, channel and attribute of a file's name.
fn split(file: &str) -> Option<(&str, &str, &str)> {
    let start = file.find(|character: char| character.is_ascii_digit())?;
    let rest = &file[start..];
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let attribute = rest[end..].strip_prefix('_').or_else(|| rest[end..].is_empty().then_some(""))?;
    Some((&file[..start], &rest[..end], attribute))
}

/// Point and part of it, of an attribute as `auto_point3_temp`.
fn curve_point<'a>(kind: &str, attribute: &'a str) -> Option<(&'a str, &'a str)> {
    let (point, what) = attribute.strip_prefix("auto_point").filter(|_| kind == "pwm")?.split_once('_')?;
    matches!(what, "temp" | "pwm").then_some((point, what))
}

fn mode(text: &str) -> Result<crate::Value, crate::Reason> {
    let mode = match text {
        "0" => "full speed",
        "1" => "by hand",
        "2" => "automatic",
        other => return probe::number(other),
    };
    Ok(crate::Value::Text(mode.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_taken_apart() {
        assert_eq!(split("temp2_crit_hyst"), Some(("temp", "2", "crit_hyst")));
        assert_eq!(split("pwm1"), Some(("pwm", "1", "")));
        assert_eq!((split("name"), split("in0x")), (None, None));
        assert_eq!(curve_point("pwm", "auto_point10_temp"), Some(("10", "temp")));
    }
}

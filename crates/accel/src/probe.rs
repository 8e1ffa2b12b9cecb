//! One value's way: a file, how its text is understood, and what it is then called.

use std::sync::Arc;

use crate::metric::{Kind, Metric};
use crate::root::{Handle, Root};
use crate::value::{Reading, Reason, Value};

/// How a file's text becomes a value.
pub type Parse = fn(&str) -> Result<Value, Reason>;

/// A value that a device offers.
#[derive(Debug)]
pub struct Probe {
    metric: Metric,
    location: Arc<str>,
    handle: Handle,
    parse: Parse,
    scale: f64,
}

impl Probe {
    /// A number in a file, in units of `scale`.
    pub fn number(metric: Metric, location: &str, path: String, scale: f64) -> Self {
        Probe::parsed(metric, location, path, number, scale)
    }

    /// A text in a file.
    pub fn text(metric: Metric, location: &str, path: String) -> Self {
        Probe::parsed(metric, location, path, text, 1.0)
    }

    /// A file that is understood in its own way.
    pub fn parsed(metric: Metric, location: &str, path: String, parse: Parse, scale: f64) -> Self {
        Probe { metric, location: location.into(), handle: Handle::new(path.into()), parse, scale }
    }

    /// What it is of.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Of which part.
    pub fn location(&self) -> &Arc<str> {
        &self.location
    }

    /// Where it is read.
    pub fn path(&self) -> &Arc<str> {
        self.handle.path()
    }

    /// Whether it changes by itself and is read at every sample.
    pub fn is_live(&self) -> bool {
        matches!(self.metric.kind(), Kind::Gauge | Kind::Counter)
    }

    /// Reads it.
    pub fn read(&mut self, root: &Root) -> Reading {
        let value = self.handle.read(root).and_then(|text| (self.parse)(&text)).map(|value| match value {
            Value::Number(number) => Value::Number(scaled(number, self.scale)),
            text => text,
        });
        Reading {
            metric: self.metric,
            location: Arc::clone(&self.location),
            value: value.and_then(|value| believed(self.metric, value)),
            source: Arc::clone(self.handle.path()),
        }
    }
}

/// Divides where the scale is a fraction: 603 × 0.001 is 0.603 only when written as 603 / 1000.
fn scaled(number: f64, scale: f64) -> f64 {
    if scale < 1.0 { number / (1.0 / scale).round() } else { number * scale }
}

/// Refuses what no device can have.
pub(crate) fn believed(metric: Metric, value: Value) -> Result<Value, Reason> {
    let Some(number) = value.number() else { return Ok(value) };
    let doubt = || Reason::Implausible(format!("{value} {}", metric.unit().symbol()).trim_end().into());
    match metric {
        Metric::PowerRated | Metric::PowerLimitMaximum if number == 0.0 => {
            Err(Reason::Unknown("0: the device does not say"))
        }
        Metric::Energy if number == 0.0 => Err(Reason::Unknown("0: the device does not count it")),
        Metric::TemperatureCriticalHysteresis if number <= -273.0 => {
            Err(Reason::Unknown("absolute zero: there is no such limit"))
        }
        _ => match metric.unit() {
            // The fastest clocks are below 6 GHz.
            crate::value::Unit::Megahertz if !(0.0..=10_000.0).contains(&number) => Err(doubt()),
            crate::value::Unit::Celsius if !(-100.0..=200.0).contains(&number) => Err(doubt()),
            crate::value::Unit::Watt if !(0.0..=10_000.0).contains(&number) => Err(doubt()),
            crate::value::Unit::Percent if !(0.0..=100.0).contains(&number) => Err(doubt()),
            crate::value::Unit::Rpm if !(0.0..=60_000.0).contains(&number) => Err(doubt()),
            _ if number.is_finite() => Ok(value),
            _ => Err(doubt()),
        },
    }
}

fn malformed(text: &str) -> Reason {
    Reason::Malformed(text.chars().take(80).collect::<String>().into())
}

/// A decimal number, perhaps with a sign.
pub fn number(text: &str) -> Result<Value, Reason> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain);
    number.map(Value::Number).ok_or_else(|| malformed(text))
}

/// A text of one line or more; the lines are joined. An empty one is no value.
pub fn text(text: &str) -> Result<Value, Reason> {
    let line = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let line: String = line.chars().filter(|character| !character.is_control()).take(400).collect();
    if line.is_empty() { Err(Reason::Unknown("empty")) } else { Ok(Value::Text(line.into())) }
}

/// A hexadecimal number, with or without 0x.
pub fn hexadecimal(text: &str) -> Result<Value, Reason> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).map(|number| Value::Number(number.into())).map_err(|_| malformed(text))
}

/// A link's speed, as `16.0 GT/s PCIe`.
pub fn link_speed(text: &str) -> Result<Value, Reason> {
    if text.starts_with("Unknown") {
        return Err(Reason::Unknown("the bus does not know"));
    }
    let speed = text.split(' ').next().and_then(|number| number.parse().ok());
    speed.map(Value::Number).ok_or_else(|| malformed(text))
}

/// The level with the star of a table as `1: 600Mhz *`; the last when several have one.
pub fn active_level(text: &str) -> Result<Value, Reason> {
    let active = text.lines().rev().find(|line| line.trim_end().ends_with('*'));
    active.map_or_else(|| Err(no_levels(text)), level)
}

/// The first level of such a table.
pub fn first_level(text: &str) -> Result<Value, Reason> {
    text.lines().next().map_or_else(|| Err(no_levels(text)), level)
}

/// The last level of such a table.
pub fn last_level(text: &str) -> Result<Value, Reason> {
    text.lines().next_back().map_or_else(|| Err(no_levels(text)), level)
}

fn no_levels(text: &str) -> Reason {
    if text.is_empty() {
        Reason::Unknown("the table is empty")
    } else {
        Reason::Unknown("no level is active")
    }
}

fn level(line: &str) -> Result<Value, Reason> {
    let entry = line.split_once(':').map_or(line, |(_, entry)| entry).trim();
    let digits = entry.find(|character: char| !character.is_ascii_digit()).unwrap_or(entry.len());
    entry[..digits].parse().map(Value::Number).map_err(|_| malformed(line))
}

/// The choice in brackets of a list as `[base]    power_saving`.
pub fn bracketed(list: &str) -> Result<Value, Reason> {
    let choice = list.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    choice.map_or_else(|| Err(malformed(list)), |(choice, _)| text(choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_of_levels() {
        let table = "0: 400Mhz \n1: 600Mhz \n2: 687Mhz *\n3: 688Mhz *";
        let check = |parse: Parse, expected: f64| assert_eq!(parse(table), Ok(Value::Number(expected)));
        check(active_level, 688.0);
        check(first_level, 400.0);
        check(last_level, 688.0);
        assert!(active_level("0: 1Mhz").is_err() && active_level("").is_err() && first_level("x").is_err());
    }

    #[test]
    fn numbers_are_plain() {
        for wrong in ["", "-", "1e9", "inf", "NaN", "0x10", "1 2", "12mV"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!(number("-273150"), Ok(Value::Number(-273_150.0)));
        assert_eq!(link_speed("16.0 GT/s PCIe"), Ok(Value::Number(16.0)));
        assert!(link_speed("Unknown").is_err());
        assert_eq!(bracketed("[base]    power_saving"), Ok(Value::Text("base".into())));
    }

    #[test]
    fn what_no_device_can_have_is_not_believed() {
        let check = |metric, number, right: bool| {
            assert_eq!(believed(metric, Value::Number(number)).is_ok(), right, "{metric:?} {number}");
        };
        check(Metric::FrequencyAchievable, 627_200.0, false);
        check(Metric::Frequency, 0.0, true);
        check(Metric::PowerRated, 0.0, false);
        check(Metric::Energy, 0.0, false);
        check(Metric::FanSpeed, 0.0, true);
        check(Metric::Power, 3.69e12, false);
        check(Metric::TemperatureCriticalHysteresis, -273.15, false);
    }

    proptest! {
        #[test]
        fn nothing_in_a_file_makes_a_parser_panic(content in "\\PC{0,60}|[0-9:. *x\\n\\[\\]-]{0,40}") {
            let parsers: [Parse; 8] =
                [number, text, hexadecimal, link_speed, active_level, first_level, last_level, bracketed];
            for parse in parsers {
                if let Ok(Value::Number(number)) = parse(&content) {
                    prop_assert!(number.is_finite());
                }
            }
        }
    }
}

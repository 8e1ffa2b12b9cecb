//! What a reading is: a number or a text with its unit and source, or the reason why there is none.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::metric::Metric;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Degrees Celsius.
    Celsius,
    /// Watts.
    Watt,
    /// Joules.
    Joule,
    /// Volts.
    Volt,
    /// Revolutions per minute.
    Rpm,
    /// Hundredths of the whole.
    Percent,
    /// Megahertz.
    Megahertz,
    /// Bytes.
    Byte,
    /// Bytes per second.
    BytePerSecond,
    /// 10⁹ transfers per second, of a PCI Express lane.
    Gigatransfer,
    /// PCI Express lanes.
    Lane,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// A number of things.
    Count,
    /// 0 for no, 1 for yes.
    Flag,
    /// A text.
    Text,
}

impl Unit {
    /// How it is written after a number; empty where nothing is.
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::Celsius => "°C",
            Unit::Watt => "W",
            Unit::Joule => "J",
            Unit::Volt => "V",
            Unit::Rpm => "RPM",
            Unit::Percent => "%",
            Unit::Megahertz => "MHz",
            Unit::Byte => "B",
            Unit::BytePerSecond => "B/s",
            Unit::Gigatransfer => "GT/s",
            Unit::Lane => "lanes",
            Unit::Millisecond => "ms",
            Unit::Microsecond => "µs",
            Unit::Count | Unit::Flag | Unit::Text => "",
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.symbol())
    }
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number, always finite.
    Number(f64),
    /// A text, without line ends around it.
    Text(Arc<str>),
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                write!(formatter, "{number:.0}")
            }
            Value::Number(number) => {
                let digits = format!("{number:.3}");
                formatter.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
            }
            Value::Text(text) => formatter.write_str(text),
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The driver does not offer the file.
    #[error("not offered: {0} is not there")]
    Absent(Arc<str>),
    /// The file may not be read by this user.
    #[error("not permitted to read {0}")]
    Denied(Arc<str>),
    /// The read failed otherwise.
    #[error("reading failed: {0}")]
    Failed(Arc<str>),
    /// What is in the file cannot be understood.
    #[error("not understood: {0:?}")]
    Malformed(Arc<str>),
    /// A number that no device can have.
    #[error("not believed: {0}")]
    Implausible(Arc<str>),
    /// The value means that the device does not know.
    #[error("{0}")]
    Unknown(&'static str),
    /// Neither kernel nor library offer it for this device.
    #[error("{0}")]
    NotOffered(&'static str),
    /// A rate needs a second sample.
    #[error("needs a second sample")]
    NeedsSecondSample,
    /// The counter went backwards or jumped; the step is left out.
    #[error("sample left out: {0}")]
    LeftOut(&'static str),
    /// The device is gone.
    #[error("the device is gone")]
    Gone,
    /// The device's reader has not come back.
    #[error("no answer from the device for {0} s")]
    Silent(u64),
}

impl Reason {
    /// Why something could not be read of a file or device.
    pub fn of(path: &Arc<str>, error: &io::Error) -> Self {
        const NO_DEVICE: i32 = 19;
        const NO_REQUEST: i32 = 25;
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Reason::Absent(Arc::clone(path)),
            (io::ErrorKind::PermissionDenied, _) => Reason::Denied(Arc::clone(path)),
            (_, Some(NO_DEVICE)) => Reason::Gone,
            (_, Some(NO_REQUEST)) => Reason::NotOffered("the driver does not know the question"),
            _ => Reason::Failed(error.to_string().into()),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One value of a device, or why it is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What it is.
    pub metric: Metric,
    /// Which of the device's parts, as `pkg` or `tile0/gt0`; empty for the device as a whole.
    pub location: Arc<str>,
    /// The value.
    pub value: Result<Value, Reason>,
    /// Where it comes from: a path below the root, or the name of a library's function.
    pub source: Arc<str>,
}

impl Reading {
    /// The number, if there is one.
    pub fn number(&self) -> Option<f64> {
        self.value.as_ref().ok().and_then(Value::number)
    }
}

impl Serialize for Reading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Reading", 6)?;
        fields.serialize_field("metric", self.metric.name())?;
        fields.serialize_field("location", &self.location)?;
        fields.serialize_field("value", &self.value.as_ref().ok())?;
        fields.serialize_field("unit", self.metric.unit().symbol())?;
        fields.serialize_field("source", &self.source)?;
        fields.serialize_field("reason", &self.value.as_ref().err())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_idle_digits() {
        let check = |number: f64, expected: &str| assert_eq!(Value::Number(number).to_string(), expected);
        check(55.0, "55");
        check(0.603, "0.603");
        check(25_637.161_804, "25637.162");
        check(-273.15, "-273.15");
        check(0.5, "0.5");
    }

    #[test]
    fn a_missing_value_is_null_with_its_reason() {
        let reading = Reading {
            metric: Metric::MemoryUsed,
            location: "vram".into(),
            value: Err(Reason::NotOffered("needs CAP_PERFMON")),
            source: "".into(),
        };
        let json = serde_json::to_value(&reading).unwrap();
        assert_eq!(
            (&json["value"], &json["reason"]),
            (&serde_json::Value::Null, &"needs CAP_PERFMON".into())
        );
        assert_eq!(json["unit"], "B");
    }
}

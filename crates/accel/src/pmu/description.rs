//! Which events a driver's counters have, and what numbers those have, as sysfs describes them.

use std::collections::BTreeMap;

use crate::identity::Identity;
use crate::root::Root;
use crate::value::Reason;

const FOLDER: &str = "sys/bus/event_source/devices";

/// More events and fields are not looked at.
const ENTRIES_MAX: usize = 512;

/// Who counts, where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) path: std::sync::Arc<str>,
    pub(super) kind: u32,
    pub(super) processor: u32,
    /// Events by name, with their number as far as they have one without further fields.
    pub(super) events: BTreeMap<String, u64>,
    /// Fields by name: lowest and highest bit in the number.
    fields: BTreeMap<String, (u32, u32)>,
}

impl Description {
    pub(super) fn of(root: &Root, identity: &Identity) -> Result<Self, Reason> {
        let address = identity.pci.as_ref().map(|pci| pci.address.as_str()).unwrap_or_default();
        let mut names = vec![format!("{}_{}", identity.driver, address.replace(':', "_"))];
        // The first driver names its counters by itself where the graphics are part of the processor.
        if identity.driver == "i915" && address.starts_with("0000:00:") {
            names.push("i915".to_owned());
        }
        let path = names.iter().map(|name| format!("{FOLDER}/{name}")).find(|path| root.has(path));
        let path =
            path.ok_or(Reason::NotOffered("the driver has no performance counters for this device"))?;
        Description::at(root, path)
    }

    fn at(root: &Root, path: String) -> Result<Self, Reason> {
        let malformed = |text: String| Reason::Malformed(text.chars().take(80).collect::<String>().into());
        let kind = root.read(&format!("{path}/type"))?;
        let kind = kind.parse().map_err(|_| malformed(kind.clone()))?;
        // A list, as `0` or `0-3,8`: any of them will do.
        let mask = root.text(&format!("{path}/cpumask")).unwrap_or_default();
        let first = mask.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let processor = first.parse().unwrap_or(0);
        let files = |folder: &str| {
            let names = root.list(&format!("{path}/{folder}")).into_iter().take(ENTRIES_MAX);
            let read = |name: String| {
                let text = root.text(&format!("{path}/{folder}/{name}"))?;
                Some((name, text))
            };
            names.filter_map(read).collect::<Vec<_>>()
        };
        let fields: BTreeMap<_, _> =
            files("format").into_iter().filter_map(|(name, text)| Some((name, bits(&text)?))).collect();
        let mut description =
            Description { path: path.as_str().into(), kind, processor, events: BTreeMap::new(), fields };
        for (name, text) in files("events") {
            // Units and scales stand beside the events.
            if let Some(config) = (!name.contains('.')).then(|| description.number(&text)).flatten() {
                description.events.insert(name, config);
            }
        }
        Ok(description)
    }

    /// The number of an event with further fields; `None` when the counters do not have them.
    pub(super) fn config(&self, event: &str, fields: &[(&str, u64)]) -> Option<u64> {
        let event = self.events.get(event)?;
        fields.iter().try_fold(*event, |config, (name, value)| Some(config | self.field(name, *value)?))
    }

    /// The number that a line as `event=0x02,gt=1` or `config=0x100000` stands for.
    fn number(&self, line: &str) -> Option<u64> {
        line.split(',').try_fold(0, |config, term| {
            let term = term.trim();
            let (name, value) = term.split_once('=').unwrap_or((term, "1"));
            let value = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok()?,
                None => value.parse().ok()?,
            };
            Some(config | if name == "config" { value } else { self.field(name, value)? })
        })
    }

    fn field(&self, name: &str, value: u64) -> Option<u64> {
        let (low, high) = *self.fields.get(name)?;
        let fits = high - low == 63 || value >> (high - low + 1) == 0;
        fits.then(|| value << low)
    }
}

/// The bits of a line as `config:12-19`, or `config:5`.
fn bits(line: &str) -> Option<(u32, u32)> {
    let range = line.strip_prefix("config:")?;
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high && high < 64).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_fields() {
        let check = |line: &str, expected: Option<(u32, u32)>| assert_eq!(bits(line), expected, "{line}");
        check("config:60-63", Some((60, 63)));
        check("config:5", Some((5, 5)));
        check("config:0-63", Some((0, 63)));
        for wrong in ["config1:0-3", "config:9-3", "config:0-64", "config:", "config:0-3,8", ""] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_into_its_field_is_refused() {
        let fields = BTreeMap::from([("gt".to_owned(), (60, 63)), ("event".to_owned(), (0, 11))]);
        let events = BTreeMap::new();
        let description = Description { path: "x".into(), kind: 1, processor: 0, events, fields };
        assert_eq!(description.number("event=0x02,gt=1"), Some(2 | 1 << 60));
        assert_eq!(description.number("config=0x100000"), Some(0x10_0000));
        for wrong in ["gt=16", "event=0x1000", "engine=1", "event=x", "event=0xfffffffffffffffff"] {
            assert_eq!(description.number(wrong), None, "{wrong}");
        }
    }
}

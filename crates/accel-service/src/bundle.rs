//! Everything that helps to find out what is wrong with a device, in one compressed archive.
//!
//! There is nothing secret in it: of policies not whom they tell, of processes not their arguments, and no token.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use minka_accel::diagnostics::{computes, of_level};
use minka_accel::station::Report;
use minka_accel::{Station, kernel_log, precheck, process};
use serde_json::{Value, json};

use crate::body::config::DeviceConfig;
use crate::body::{DeviceEntry, HealthBody, Metrics, Statistics};
use crate::rest::diagnostics::Diagnosis;
use crate::settings;
use crate::state::Store;

/// Writes the archive.
pub fn write(station: &Station, store: &Store, out: impl Write) -> io::Result<()> {
    let mut archive = Archive::new(out);
    for (name, value) in contents(station, store) {
        archive.add(&format!("minka-xpu/{name}.json"), &serde_json::to_vec_pretty(&value)?)?;
    }
    let log = match kernel_log::read(station.root()) {
        Ok((messages, file)) => {
            let lines = messages.iter().filter(|message| concerns_devices(&message.text));
            let lines = lines.map(|message| match message.seconds {
                Some(seconds) => format!("[{seconds:12.6}] {}\n", message.text),
                None => format!("{}\n", message.text),
            });
            format!("from {file}\n{}", lines.collect::<String>())
        }
        Err(reason) => format!("there is none: {reason}\n"),
    };
    archive.add("minka-xpu/kernel-log.txt", log.as_bytes())?;
    archive.finish()
}

fn contents(station: &Station, store: &Store) -> Vec<(&'static str, Value)> {
    let reports = station.reports();
    let each = |make: &dyn Fn(&Report) -> Value| reports.iter().map(make).collect::<Value>();
    let value = |body: Result<Value, serde_json::Error>| body.unwrap_or_default();
    let absences = station.absences().into_iter();
    let absences = absences.map(|(name, reason)| json!({"name": name, "reason": reason.to_string()}));
    let policies = store.read().map(|state| {
        let policies = state.policies().iter().map(|standing| {
            let mut standing = standing.clone();
            standing.policy.notify = standing.policy.notify.map(|_| "…".to_owned());
            standing.policy.command.truncate(1);
            standing
        });
        policies.collect::<Vec<_>>()
    });
    let identities: Vec<_> = reports.iter().map(|report| &*report.sample.identity).collect();
    let messages = kernel_log::read(station.root()).map(|(messages, _)| messages).unwrap_or_default();
    let (processes, hidden) = process::list(station.root());
    let users = processes
        .iter()
        .map(|user| json!({"pid": user.process_id, "name": user.process_name, "device": user.pci_address}));
    vec![
        ("version", json!({"minka": env!("CARGO_PKG_VERSION"), "absent": absences.collect::<Value>()})),
        ("devices", each(&|report| value(serde_json::to_value(DeviceEntry::of(&report.sample.identity))))),
        ("health", each(&|report| value(serde_json::to_value(HealthBody::of(report))))),
        ("metrics", each(&|report| value(serde_json::to_value(Metrics::of(&report.sample))))),
        (
            "statistics",
            each(&|report| value(serde_json::to_value(Statistics::of(report, station.interval())))),
        ),
        (
            "settings",
            each(&|report| match settings::current(store, station.root(), &report.sample.identity) {
                Ok(current) => value(serde_json::to_value(DeviceConfig::of(current, &report.sample))),
                Err(error) => json!({"reason": error.to_string()}),
            }),
        ),
        (
            "diagnostics",
            each(&|report| {
                // Whoever looks for help wants no device to be kept busy.
                let mut tests = of_level(2);
                tests.retain(|name| !computes(name));
                let diagnosis = Diagnosis::make_of(station, report, 2, &tests, &mut |_, _| true);
                value(serde_json::to_value(diagnosis))
            }),
        ),
        (
            "policies",
            match policies {
                Ok(policies) => value(serde_json::to_value(policies)),
                Err(error) => json!({"reason": error.to_string()}),
            },
        ),
        ("precheck", value(serde_json::to_value(precheck::scan(&messages, None, &identities)))),
        ("processes", json!({"processes": users.collect::<Value>(), "not_permitted": hidden})),
    ]
}

/// Words of messages that have to do with devices.
const WORDS: &[&str] =
    &["drm", "i915", "xe ", "amdgpu", "nvrm", "nouveau", "mei_gsc", "aer:", "pcie bus error", "iommu"];

fn concerns_devices(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// A compressed archive in the format that POSIX calls `ustar`: for each file a block of 512 bytes that describes it,
/// and its content in whole blocks; two blocks of zeros end it.
struct Archive<W: Write> {
    out: GzEncoder<W>,
    time: u64,
}

const BLOCK: usize = 512;

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Archive { out: GzEncoder::new(out, Compression::default()), time }
    }

    fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut head = [0; BLOCK];
        let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &name[..name.len().min(99)]);
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, &format!("{:011o}\0", self.time));
        // The sum of all bytes is taken with blanks in the place of the sum.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(content)?;
        self.out.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.finish()?.flush()
    }
}

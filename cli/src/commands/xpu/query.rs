//! `minka xpu --query-gpu` and `minka xpu dump`: tables of chosen columns, for programs and spreadsheets.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use minka_accel::dump::{heading, of_tile, row};
use minka_accel::query::Field;
use minka_accel::station::Report;
use minka_accel::{Station, inventory};
use minka_access::time;

use super::{interval, named, rounds};
use crate::args::xpu::{Dump, Xpu};
use crate::failure::Failure;
use crate::output::Output;

/// What stands for a value that is not known, as those who read such tables expect.
const UNKNOWN: &str = "[N/A]";

pub(super) fn query(arguments: &Xpu, station: &Station, output: &mut Output) -> Result<(), Failure> {
    let names = arguments.query_gpu.as_deref().unwrap_or_default();
    let field = |name: &String| {
        Field::named(name).ok_or_else(|| Failure::NoSuchField { name: name.trim().to_owned() })
    };
    let fields = names.iter().map(field).collect::<Result<Vec<Field>, Failure>>()?;
    let has = |word: &str| arguments.format.iter().any(|format| format.trim() == word);
    if let Some(wrong) = arguments.format.iter().find(|f| !["csv", "noheader", "nounits"].contains(&f.trim()))
    {
        return Err(Failure::NoSuchField { name: wrong.clone() });
    }
    let (heading, units) = (!has("noheader"), !has("nounits"));
    if heading {
        let headings: Vec<String> = fields.iter().map(|field| field.heading(units)).collect();
        output.line(&headings.join(", "))?;
    }
    let repeat = interval(arguments);
    let rounds = rounds(arguments);
    each(repeat.unwrap_or(Duration::from_secs(1)), rounds, |now| {
        for report in station.reports() {
            let cells = fields.iter().map(|field| match field.name {
                "timestamp" => time::text(now),
                _ => field.value(&report.sample, units).unwrap_or_else(|| UNKNOWN.to_owned()),
            });
            output.line(&cells.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    })
}

/// What devices are, in XPU Manager's columns; -1 means all.
pub(super) fn inventory(columns: &[i8], reports: &[Report], output: &mut Output) -> Result<(), Failure> {
    let all = columns.contains(&-1);
    let columns: Vec<u8> = match all {
        true => (1..=inventory::COUNT).collect(),
        false => columns.iter().filter_map(|column| u8::try_from(*column).ok()).collect(),
    };
    output.line(&inventory::heading(&columns))?;
    reports.iter().try_for_each(|report| output.line(&inventory::row(&report.sample, &columns)))
}

/// Takes lines.
type Sink<'a> = Box<dyn FnMut(&str) -> Result<(), Failure> + 'a>;

pub(super) fn dump(dump: &Dump, station: &Station, output: &mut Output) -> Result<(), Failure> {
    station.set_interval(Duration::from_secs(dump.interval).min(Duration::from_secs(1)));
    let devices = if dump.device.iter().any(|device| device == "-1") { &[][..] } else { &dump.device[..] };
    devices.iter().try_for_each(|device| named(station, device).map(drop))?;
    let columns: Vec<usize> =
        dump.metrics.iter().filter_map(|column| usize::try_from(*column).ok()).collect();
    let mut sink: Sink<'_> = match &dump.file {
        Some(path) => {
            let report = |source| Failure::Report { path: path.clone(), source };
            let mut file = File::create(path).map_err(report)?;
            Box::new(move |line| writeln!(file, "{line}").map_err(report))
        }
        None => Box::new(|line| output.line(line)),
    };
    sink(&heading(&columns))?;
    each(Duration::from_secs(dump.interval), dump.number.unwrap_or(u64::MAX), |now| {
        let reports = match devices {
            [] => station.reports(),
            devices => devices.iter().filter_map(|device| named(station, device).ok()).collect(),
        };
        for report in reports {
            let line = match dump.tile {
                None => row(&time::text(now), &report.sample, &columns),
                Some(tile) => {
                    let missing = || Failure::NoSuchXpu {
                        device: format!("{}, tile {tile}", report.sample.identity.device_id),
                    };
                    let part = of_tile(&report.sample, tile).ok_or_else(missing)?;
                    row(&time::text(now), &part, &columns)
                }
            };
            sink(&line)?;
        }
        Ok(())
    })
}

/// Does something so many times, at times that do not drift.
pub(super) fn each(
    interval: Duration,
    rounds: u64,
    mut act: impl FnMut(SystemTime) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = Instant::now();
    for round in 0..rounds {
        if round > 0 {
            next += interval;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        act(SystemTime::now())?;
    }
    Ok(())
}

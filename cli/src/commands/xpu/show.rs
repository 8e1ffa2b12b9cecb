//! Tables for people, and the same as JSON.

use std::io;
use std::time::Duration;

use minka_accel::health::State;
use minka_accel::process;
use minka_accel::station::Report;
use minka_accel::statistics::Quantity;
use minka_accel::{Metric, Station};
use minka_accel_service::body::{DeviceEntry, DeviceList, HealthBody, Metrics, Statistics};
use serde_json::{Value, json};

use super::{interval, query, rounds};
use crate::args::xpu::Xpu;
use crate::failure::Failure;
use crate::output::{Output, Style, Table, paint, printable};

/// What stands for a value that is not known.
pub(super) const UNKNOWN: &str = "–";

pub(super) fn print(table: &Table, output: &mut Output) -> Result<(), Failure> {
    table.lines().iter().try_for_each(|line| output.line(line))
}

pub(super) fn headings(output: &Output, ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| output.text.get(id)).collect()
}

pub(super) fn number(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{value:.0} {unit}").trim_end().to_owned())
}

pub(super) fn memory(bytes: Option<f64>) -> String {
    number(bytes.map(|bytes| bytes / 1_048_576.0), "MiB")
}

/// Nothing found: said, and why libraries are missing.
fn nothing(station: &Station, output: &mut Output) -> Result<(), Failure> {
    output.line(&output.text.get("xpu-none"))?;
    for (name, reason) in station.absences() {
        output.line(&format!("  {name}: {reason}"))?;
    }
    Ok(())
}

pub(super) fn overview(
    arguments: &Xpu,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let repeat = interval(arguments);
    let rounds = rounds(arguments);
    query::each(repeat.unwrap_or(Duration::from_secs(1)), rounds, |_| {
        let reports = station.reports();
        if json {
            return output.json(&json!({"devices": reports.iter().map(entry).collect::<Vec<_>>()}));
        }
        if reports.is_empty() {
            return nothing(station, output);
        }
        print(&table(&reports, output), output)
    })
}

/// All of a device at a glance.
pub(super) fn entry(report: &Report) -> Value {
    json!({
        "device": DeviceEntry::of(&report.sample.identity),
        "health": HealthBody::of(report),
        "metrics": Metrics::of(&report.sample),
    })
}

pub(super) fn table(reports: &[Report], output: &Output) -> Table {
    let ids = [
        "xpu-device",
        "xpu-name",
        "xpu-busy",
        "xpu-memory",
        "xpu-temperature",
        "xpu-power",
        "xpu-clock",
        "xpu-fan",
        "xpu-health",
        "xpu-course",
    ];
    let right = vec![true, false, true, true, true, true, true, true, false, false];
    let mut table = Table::new(headings(output, &ids), right);
    for report in reports {
        let sample = &report.sample;
        let of = |quantity: Quantity, unit| number(quantity.of(sample), unit);
        let used = match (sample.memory_used(), sample.memory_total()) {
            (None, total) => memory(total).replace(UNKNOWN, ""),
            (Some(used), total) => format!("{:.0}/{}", used / 1_048_576.0, memory(total)),
        };
        table.row(vec![
            sample.identity.device_id.to_string(),
            printable(&sample.identity.device_name),
            of(Quantity::Utilization, "%"),
            if used.is_empty() { UNKNOWN.to_owned() } else { used },
            of(Quantity::CoreTemperature, "°C"),
            of(Quantity::Power, "W"),
            of(Quantity::Frequency, "MHz"),
            of(Quantity::FanSpeed, "RPM"),
            state(report.health.state, output),
            course(report),
        ]);
    }
    table
}

fn state(state: State, output: &Output) -> String {
    let word = output.text.get(&format!("xpu-state-{}", state.word()));
    match state {
        State::Ok => paint(&io::stdout(), Style::Good, &word),
        State::Warning | State::Critical => paint(&io::stdout(), Style::Bad, &word),
        State::Unknown => word,
    }
}

/// How busy the device was, as small bars.
fn course(report: &Report) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<f64> = report.history.course(Quantity::Utilization).collect();
    let last = &values[values.len().saturating_sub(20)..];
    last.iter().map(|percent| BARS[((percent / 100.0 * 7.0).round().clamp(0.0, 7.0)) as usize]).collect()
}

pub(super) fn list(station: &Station, output: &mut Output) -> Result<(), Failure> {
    for identity in station.identities() {
        let name = printable(&identity.device_name);
        output.line(&format!("GPU {}: {name} (UUID: {})", identity.device_id, identity.uuid))?;
    }
    Ok(())
}

pub(super) fn discovery(reports: &[Report], json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        let devices = reports.iter().map(|report| DeviceEntry::of(&report.sample.identity)).collect();
        return output.json(&DeviceList { devices });
    }
    let ids =
        ["xpu-device", "xpu-name", "xpu-vendor", "xpu-driver", "xpu-address", "xpu-firmware", "xpu-uuid"];
    let mut table = Table::new(headings(output, &ids), [vec![true], vec![false; 6]].concat());
    for report in reports {
        let identity = &report.sample.identity;
        let firmware = report.sample.readings.iter().filter(|reading| reading.metric == Metric::Firmware);
        let firmware =
            firmware.filter_map(|reading| reading.value.as_ref().ok()).map(ToString::to_string).next();
        let or = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        table.row(vec![
            identity.device_id.to_string(),
            printable(&identity.device_name),
            identity.vendor_name.clone(),
            or((!identity.driver.is_empty()).then(|| identity.driver.clone())),
            or(identity.pci.as_ref().map(|pci| pci.address.clone())),
            or(firmware.map(|version| printable(&version))),
            identity.uuid.clone(),
        ]);
    }
    print(&table, output)
}

pub(super) fn topology(reports: &[Report], json: bool, output: &mut Output) -> Result<(), Failure> {
    let wanted = |metric: Metric| {
        metric.name().starts_with("pcie_") && metric.kind() == minka_accel::metric::Kind::Setting
    };
    if json {
        let devices = reports.iter().map(|report| {
            let link = report.sample.sorted().into_iter().filter(|reading| wanted(reading.metric));
            let text = |place: &str| {
                Some(report.sample.at(Metric::Property, place)?.value.as_ref().ok()?.to_string())
            };
            json!({
                "device_id": report.sample.identity.device_id,
                "affinity_localcpulist": text("processors of the host nearby"),
                "numa_node": text("memory node of the host"),
                "link": link.collect::<Vec<_>>(),
            })
        });
        return output.json(&json!({"devices": devices.collect::<Vec<_>>()}));
    }
    let ids = ["xpu-device", "xpu-name", "xpu-link", "xpu-link-maximum", "xpu-processors"];
    let mut table = Table::new(headings(output, &ids), vec![true, false, false, false, false]);
    for report in reports {
        let sample = &report.sample;
        let link = |speed, width| match (sample.number(speed, &[""]), sample.number(width, &[""])) {
            (Some(speed), Some(width)) => format!("{speed} GT/s ×{width}"),
            _ => UNKNOWN.to_owned(),
        };
        let near = sample.at(Metric::Property, "processors of the host nearby");
        table.row(vec![
            sample.identity.device_id.to_string(),
            printable(&sample.identity.device_name),
            link(Metric::LinkSpeed, Metric::LinkWidth),
            link(Metric::LinkSpeedMaximum, Metric::LinkWidthMaximum),
            near.and_then(|near| near.value.as_ref().ok())
                .map_or_else(|| UNKNOWN.to_owned(), ToString::to_string),
        ]);
    }
    print(&table, output)
}

/// How each device is joined to each: itself, by the same processors, or across the machine.
pub(super) fn matrix(reports: &[Report], json: bool, output: &mut Output) -> Result<(), Failure> {
    let near = |report: &Report| {
        let reading = report.sample.at(Metric::Property, "processors of the host nearby")?;
        Some(reading.value.as_ref().ok()?.to_string())
    };
    let id = |report: &Report| report.sample.identity.device_id;
    let join = |one: &Report, other: &Report| match (near(one), near(other)) {
        _ if id(one) == id(other) => "S",
        (Some(one), Some(other)) if one == other => "NODE",
        (Some(_), Some(_)) => "SYS",
        _ => UNKNOWN,
    };
    if json {
        let pairs = reports.iter().flat_map(|one| reports.iter().map(move |other| (one, other)));
        let pairs = pairs.map(|(one, other)| {
            let known = Some(join(one, other)).filter(|word| *word != UNKNOWN);
            json!({"local_device_id": id(one), "remote_device_id": id(other), "link_type": known})
        });
        let near =
            reports.iter().map(|one| json!({"device_id": id(one), "affinity_localcpulist": near(one)}));
        return output
            .json(&json!({"topo_list": pairs.collect::<Vec<_>>(), "devices": near.collect::<Vec<_>>()}));
    }
    let mut columns = headings(output, &["xpu-device"]);
    columns.extend(reports.iter().map(|report| id(report).to_string()));
    columns.extend(headings(output, &["xpu-processors"]));
    let mut table = Table::new(columns, [vec![true], vec![false; reports.len() + 1]].concat());
    for one in reports {
        let mut cells = vec![id(one).to_string()];
        cells.extend(reports.iter().map(|other| join(one, other).to_owned()));
        cells.push(near(one).unwrap_or_else(|| UNKNOWN.to_owned()));
        table.row(cells);
    }
    print(&table, output)
}

pub(super) fn stats(
    reports: &[Report],
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let all = reports.iter().map(|report| Statistics::of(report, station.interval()));
    if json {
        return output.json(&json!({"datas": all.collect::<Vec<_>>()}));
    }
    let ids = ["xpu-device", "xpu-metric", "xpu-value", "xpu-least", "xpu-mean", "xpu-greatest"];
    let mut table = Table::new(headings(output, &ids), vec![true, false, true, true, true, true]);
    let cell = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{value:.2}"));
    for statistics in all {
        for entry in &statistics.device_level {
            table.row(vec![
                statistics.device_id.to_string(),
                entry.metrics_type.clone(),
                cell(Some(entry.value)),
                cell(entry.min),
                cell(entry.avg),
                cell(entry.max),
            ]);
        }
    }
    print(&table, output)
}

/// The health of devices; of one thing only, by XPU Manager's number.
pub(super) fn health(
    reports: &[Report],
    only: Option<u8>,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let is_meant = |number: usize| only.is_none_or(|only| usize::from(only) == number + 1);
    if json && only.is_none() {
        let devices = reports.iter().map(
            |report| json!({"device_id": report.sample.identity.device_id, "health": HealthBody::of(report)}),
        );
        return output.json(&json!({"devices": devices.collect::<Vec<_>>()}));
    }
    if json {
        let devices = reports.iter().map(|report| {
            let checks = report.health.checks.iter().enumerate().filter(|(number, _)| is_meant(*number));
            let checks: Vec<_> = checks.map(|(_, check)| check).collect();
            json!({"device_id": report.sample.identity.device_id, "checks": checks})
        });
        return output.json(&json!({"devices": devices.collect::<Vec<_>>()}));
    }
    let ids = ["xpu-device", "xpu-check", "xpu-health", "xpu-description"];
    let mut table = Table::new(headings(output, &ids), vec![true, false, false, false]);
    for report in reports {
        for (_, check) in report.health.checks.iter().enumerate().filter(|(number, _)| is_meant(*number)) {
            table.row(vec![
                report.sample.identity.device_id.to_string(),
                output.text.get(&format!("xpu-check-{}", check.kind.name().replace('_', "-"))),
                state(check.state, output),
                printable(&check.description),
            ]);
        }
    }
    print(&table, output)
}

/// What tells how the device itself is.
pub(super) fn is_sensor(metric: Metric) -> bool {
    matches!(metric, Metric::Temperature | Metric::Voltage | Metric::FanSpeed | Metric::Power)
}

/// The values of devices that are wanted.
pub(super) fn readings(
    reports: &[Report],
    wanted: impl Fn(Metric) -> bool,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let chosen = |report: &Report| {
        let mut all = report.sample.sorted();
        all.retain(|reading| wanted(reading.metric));
        all.into_iter().cloned().collect::<Vec<_>>()
    };
    if json {
        let devices = reports
            .iter()
            .map(|report| json!({"device_id": report.sample.identity.device_id, "readings": chosen(report)}));
        return output.json(&json!({"devices": devices.collect::<Vec<_>>()}));
    }
    let ids = ["xpu-device", "xpu-metric", "xpu-place", "xpu-value", "xpu-source"];
    let mut table = Table::new(headings(output, &ids), vec![true, false, false, false, false]);
    for report in reports {
        for reading in chosen(report) {
            let (value, source) = match &reading.value {
                Ok(value) => {
                    (format!("{value} {}", reading.metric.unit().symbol()), reading.source.to_string())
                }
                Err(reason) => (UNKNOWN.to_owned(), reason.to_string()),
            };
            table.row(vec![
                report.sample.identity.device_id.to_string(),
                reading.metric.name().to_owned(),
                printable(&reading.location),
                printable(value.trim_end()),
                printable(&source),
            ]);
        }
    }
    print(&table, output)
}

pub(super) fn processes(
    reports: &[Report],
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let (processes, hidden) = process::list(station.root());
    let device_of = |address: &str| {
        let at =
            |report: &&Report| report.sample.identity.pci.as_ref().is_some_and(|pci| pci.address == address);
        reports.iter().find(at).map(|report| report.sample.identity.device_id)
    };
    let known = processes.iter().filter_map(|process| Some((device_of(&process.pci_address)?, process)));
    if json {
        let list: Vec<_> =
            known.map(|(device, process)| json!({"device_id": device, "process": process})).collect();
        return output.json(&json!({"device_util_by_proc_list": list, "processes_not_permitted": hidden}));
    }
    let ids = ["xpu-pid", "xpu-process", "xpu-device", "xpu-memory", "xpu-shared"];
    let mut table = Table::new(headings(output, &ids), vec![true, false, true, true, true]);
    let size = |bytes: Option<u64>| memory(bytes.map(|bytes| bytes as f64));
    for (device, process) in known {
        table.row(vec![
            process.process_id.to_string(),
            printable(&process.process_name),
            device.to_string(),
            size(process.memory_bytes),
            size(process.shared_bytes),
        ]);
    }
    print(&table, output)?;
    if hidden > 0 {
        output.remark(&output.text.with("xpu-hidden", &[("count", hidden.into())]));
    }
    Ok(())
}

//! `minka xpu top`: what the devices do and for whom, drawn anew all the while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use minka_accel::station::Report;
use minka_accel::{Station, process};
use serde_json::{Value, json};

use super::{chosen, show};
use crate::args::xpu::XpuTop;
use crate::commands::screen::{Key, Screen, fitting};
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

/// How long the engines of processes are watched before the first picture.
const FIRST: Duration = Duration::from_millis(500);

/// What the processes had used of the devices' engines when they were looked at.
#[derive(Debug)]
struct Look {
    at: Instant,
    /// By process and device.
    processes: BTreeMap<(u32, String), process::Process>,
}

/// A process on a device.
#[derive(Debug)]
struct Row {
    device: u32,
    process: process::Process,
    /// How busy it keeps the engine that it uses most, in percent; none if the driver does not tell.
    percent: Option<f64>,
}

/// Shows the devices until a key ends it; once where there is no terminal.
pub(super) fn top(
    arguments: &XpuTop,
    interval: Duration,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let (_, _, mut last) = look(&chosen(station, &arguments.which)?, station, None);
    std::thread::sleep(FIRST.min(interval));
    let screen = if arguments.once || json { None } else { Screen::open().map_err(Failure::Output)? };
    loop {
        let reports = chosen(station, &arguments.which)?;
        let (rows, hidden, now) = look(&reports, station, Some(&last));
        last = now;
        let Some(screen) = &screen else {
            if json {
                return output.json(&picture(&reports, &rows, hidden));
            }
            return lines(&reports, &rows, hidden, output).iter().try_for_each(|line| output.line(line));
        };
        let (width, height) = Screen::size();
        let mut lines = lines(&reports, &rows, hidden, output);
        lines.truncate(height.saturating_sub(1));
        lines.push(output.text.get("xpu-top-foot"));
        let lines: Vec<String> = lines.iter().map(|line| fitting(line, width)).collect();
        screen.show(&lines).map_err(Failure::Output)?;
        let keys = screen.keys(interval).map_err(Failure::Output)?;
        if keys.iter().any(|key| matches!(key, Key::End | Key::Character('q' | 'Q'))) {
            return Ok(());
        }
    }
}

/// Who uses the devices, the busiest first; how many more there may be that are not ours to see; and what to compare the
/// next look with.
fn look(reports: &[Report], station: &Station, last: Option<&Look>) -> (Vec<Row>, u64, Look) {
    let (processes, hidden) = process::list(station.root());
    let now = Instant::now();
    let key = |process: &process::Process| (process.process_id, process.pci_address.clone());
    let percent = |process: &process::Process| {
        let last = last?;
        let before = last.processes.get(&key(process))?;
        let elapsed_ns = now.duration_since(last.at).as_nanos().try_into().unwrap_or(u64::MAX);
        process.busy_since(before, elapsed_ns).into_values().max_by(f64::total_cmp)
    };
    let device_of = |address: &str| {
        let at =
            |report: &&Report| report.sample.identity.pci.as_ref().is_some_and(|pci| pci.address == address);
        reports.iter().find(at).map(|report| report.sample.identity.device_id)
    };
    let mut rows: Vec<Row> = processes
        .iter()
        .filter_map(|process| {
            let device = device_of(&process.pci_address)?;
            Some(Row { device, process: process.clone(), percent: percent(process) })
        })
        .collect();
    let order = |row: &Row| {
        let busy = (row.percent.unwrap_or(0.0) * 10.0) as u64;
        std::cmp::Reverse((busy, row.process.memory_bytes.unwrap_or(0)))
    };
    rows.sort_by_key(order);
    let processes = processes.into_iter().map(|process| (key(&process), process)).collect();
    (rows, hidden as u64, Look { at: now, processes })
}

fn picture(reports: &[Report], rows: &[Row], hidden: u64) -> Value {
    let processes = rows
        .iter()
        .map(|row| json!({"device_id": row.device, "percent": row.percent, "process": row.process}));
    json!({
        "devices": reports.iter().map(show::entry).collect::<Vec<_>>(),
        "processes": processes.collect::<Vec<_>>(),
        "processes_not_permitted": hidden,
    })
}

fn lines(reports: &[Report], rows: &[Row], hidden: u64, output: &Output) -> Vec<String> {
    if reports.is_empty() {
        return vec![output.text.get("xpu-none")];
    }
    let mut lines = show::table(reports, output).lines();
    lines.push(String::new());
    let ids = ["xpu-pid", "xpu-process", "xpu-device", "xpu-busy", "xpu-memory", "xpu-shared"];
    let mut table = Table::new(show::headings(output, &ids), vec![true, false, true, true, true, true]);
    let size = |bytes: Option<u64>| show::memory(bytes.map(|bytes| bytes as f64));
    for Row { device, process, percent } in rows {
        table.row(vec![
            process.process_id.to_string(),
            printable(&process.process_name),
            device.to_string(),
            show::number(*percent, "%"),
            size(process.memory_bytes),
            size(process.shared_bytes),
        ]);
    }
    lines.extend(table.lines());
    if hidden > 0 {
        lines.push(output.text.with("xpu-hidden", &[("count", hidden.into())]));
    }
    lines
}

//! `minka xpu updatefw`: which firmware the devices have, and updating it through fwupd.

use std::io::{BufRead, IsTerminal};

use minka_accel::station::Report;
use minka_accel_firmware::{Daemon, FirmwareError, Part, Progress, Wanted};
use serde_json::json;

use super::show;
use crate::args::xpu::XpuUpdateFw;
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

pub(super) fn updatefw(
    arguments: &XpuUpdateFw,
    reports: &[Report],
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let wanted = Wanted { kind: arguments.kind.as_deref(), id: arguments.part.as_deref() };
    wanted.check()?;
    let daemon = Daemon::connect()?;
    let parts = daemon.parts()?;
    let Some(path) = &arguments.file else {
        return list(&parts, reports, json, output);
    };
    let kinds: Vec<_> = reports.iter().filter_map(|report| report.sample.identity.pci.as_ref()).collect();
    let kinds: Vec<_> = kinds.iter().map(|pci| (pci.vendor_id, pci.product_id)).collect();
    let part = wanted.choose(&parts, &kinds)?;
    let image = minka_accel_firmware::open(path)?;
    if !arguments.assumeyes && !agreed(part, output) {
        return Err(FirmwareError::NotUpdatable(output.text.get("xpu-firmware-declined")).into());
    }
    let mut progress = |seen: &Progress| {
        let what = output.text.get(&format!("xpu-firmware-{}", seen.status));
        output.remark(&match seen.percent {
            Some(percent) => format!("{what}: {percent} %"),
            None => what,
        });
    };
    daemon.install(part, &image, arguments.force, &mut progress)?;
    let after = daemon.parts()?.into_iter().find(|other| other.id == part.id).and_then(|part| part.version);
    if json {
        return output
            .json(&json!({"result": "OK", "part": part.id, "before": part.version, "after": after}));
    }
    let version = printable(after.as_deref().unwrap_or(show::UNKNOWN));
    output.line(&output.text.with("xpu-firmware-done", &[("version", version.into())]))
}

/// Whether somebody at the terminal wants it.
fn agreed(part: &Part, output: &Output) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    output.remark(&output.text.with("xpu-firmware-sure", &[("name", printable(&part.name).into())]));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "s" | "S" | "sí" | "si")
}

fn is_of(part: &Part, report: &Report) -> bool {
    let pci = report.sample.identity.pci.as_ref();
    pci.is_some_and(|pci| part.is_of(pci.vendor_id, pci.product_id))
}

fn list(parts: &[Part], reports: &[Report], json: bool, output: &mut Output) -> Result<(), Failure> {
    let mut found = Vec::new();
    for report in reports {
        let id = report.sample.identity.device_id;
        found.extend(parts.iter().filter(|part| is_of(part, report)).map(|part| (id, part)));
    }
    if json {
        let list: Vec<_> = found
            .iter()
            .map(|(device, part)| json!({"device_id": device, "kind": part.kind(), "part": part}))
            .collect();
        return output.json(&json!({"parts": list}));
    }
    let ids = ["xpu-device", "xpu-firmware-kind", "xpu-name", "xpu-firmware", "xpu-firmware-part"];
    let mut table = Table::new(show::headings(output, &ids), vec![true, false, false, false, false]);
    for (device, part) in &found {
        let known = |text: Option<&str>| text.map_or_else(|| show::UNKNOWN.to_owned(), printable);
        table.row(vec![
            device.to_string(),
            known(part.kind()),
            printable(&part.name),
            known(part.version.as_deref()),
            printable(&part.id),
        ]);
    }
    show::print(&table, output)?;
    if found.is_empty() {
        output.remark(&output.text.get("xpu-firmware-none"));
    }
    Ok(())
}

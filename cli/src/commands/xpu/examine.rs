//! `minka xpu diag --precheck`, `vgpu`, `log` and `topology -f`: what the kernel tells, what can be divided, and files for
//! those who help.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use minka_accel::station::Report;
use minka_accel::{Identity, Station, kernel_log, precheck, vgpu};
use minka_accel_service::bundle;
use minka_accel_service::rest::topology;
use minka_accel_service::rest::vgpu::{FunctionList, VgpuPrecheck};
use minka_accel_service::settings::SettingsError;
use minka_accel_service::state::Store;
use serde_json::json;

use super::{lasting, named, show};
use crate::args::xpu::{XpuDiag, XpuLog, XpuVgpu};
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

/// Looks through the kernel's log.
pub(super) fn look_through(
    arguments: &XpuDiag,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let severity = |severity| match severity {
        precheck::Severity::Critical => "critical",
        precheck::Severity::High => "high",
    };
    if arguments.listtypes {
        if json {
            return output.json(&json!({"error_type_list": precheck::KINDS}));
        }
        let mut table = Table::new(
            show::headings(output, &["xpu-number", "xpu-name", "xpu-severity"]),
            vec![true, false, false],
        );
        for kind in &precheck::KINDS {
            table.row(vec![kind.id.to_string(), kind.name.to_owned(), severity(kind.severity).to_owned()]);
        }
        return show::print(&table, output);
    }
    let log = kernel_log::read(station.root());
    let uptime = station.root().text("proc/uptime");
    let uptime = uptime.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let since = arguments.since.zip(uptime).map(|(ago, uptime)| uptime - ago);
    let identities = station.identities();
    let devices: Vec<&Identity> = identities.iter().map(|identity| &**identity).collect();
    let (messages, source) = match &log {
        Ok((messages, file)) => (&messages[..], Ok(*file)),
        Err(reason) => (&[][..], Err(reason.to_string())),
    };
    let findings = precheck::scan(messages, since, &devices);
    if json {
        let reason = source.as_ref().err();
        return output
            .json(&json!({"component_list": findings, "log": source.as_ref().ok(), "reason": reason}));
    }
    if let Err(reason) = &source {
        output.remark(&output.text.with("xpu-log-unread", &[("reason", reason.clone().into())]));
    }
    if findings.is_empty() {
        return match source {
            Ok(file) => output.line(&output.text.with("xpu-log-clean", &[("file", file.into())])),
            Err(_) => Ok(()),
        };
    }
    let ids = ["xpu-address", "xpu-name", "xpu-severity", "xpu-count", "xpu-message"];
    let mut table = Table::new(show::headings(output, &ids), vec![false, false, false, true, false]);
    for finding in findings {
        table.row(vec![
            finding.address.unwrap_or_else(|| "–".to_owned()),
            finding.kind.name.to_owned(),
            severity(finding.kind.severity).to_owned(),
            finding.count.to_string(),
            printable(&finding.message),
        ]);
    }
    show::print(&table, output)
}

pub(super) fn functions(
    arguments: &XpuVgpu,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if arguments.precheck {
        let identities = station.identities();
        let devices: Vec<&Identity> = identities.iter().map(|identity| &**identity).collect();
        let readiness = vgpu::precheck(station.root(), &devices);
        if json {
            return output.json(&VgpuPrecheck::of(&readiness));
        }
        for found in [readiness.processor, readiness.iommu, readiness.sriov] {
            let (id, message) = match found {
                Ok(message) => ("xpu-result-pass", message),
                Err(message) => ("xpu-result-fail", message),
            };
            output.line(&format!("{}: {message}", output.text.get(id)))?;
        }
        return Ok(());
    }
    // The command line lets no other action through without a device.
    let report = named(station, arguments.device.as_deref().unwrap_or_default())?;
    let identity = &report.sample.identity;
    if !arguments.list {
        let count = if arguments.remove { 0 } else { arguments.number.unwrap_or(0) };
        vgpu::divide(station.root(), identity, count).map_err(SettingsError::from)?;
    }
    let list = FunctionList::of(station.root(), identity);
    if json {
        return output.json(&list);
    }
    let mut table = Table::new(show::headings(output, &["xpu-number", "xpu-address"]), vec![true, false]);
    for (number, address) in list.rows() {
        table.row(vec![number.to_string(), address.to_owned()]);
    }
    show::print(&table, output)
}

pub(super) fn bundle(arguments: &XpuLog, station: &Station) -> Result<(), Failure> {
    let path = &arguments.file;
    let report = |source| Failure::Report { path: path.clone(), source };
    let file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(report)?;
    let store = Store::at(lasting::path(&arguments.state));
    bundle::write(station, &store, BufWriter::new(file)).map_err(report)
}

pub(super) fn document(reports: &[Report], path: &Path) -> Result<(), Failure> {
    let written: io::Result<()> = fs::write(path, topology::document(reports));
    written.map_err(|source| Failure::Report { path: path.to_owned(), source })
}

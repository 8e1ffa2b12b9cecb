//! `minka xpu config`: how a device is set, and setting it.

use minka_accel::Station;
use minka_accel::config::{Change, Content};
use minka_accel_service::body::config::DeviceConfig;
use minka_accel_service::settings;
use minka_accel_service::state::Store;
use serde_json::json;

use super::{lasting, named, show};
use crate::args::xpu::{Setting, XpuConfig};
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

pub(super) fn config(
    arguments: &XpuConfig,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let report = named(station, &arguments.device)?;
    let identity = &report.sample.identity;
    let store = Store::at(lasting::path(&arguments.state));
    let done = if arguments.what.restore {
        settings::restore(&store, station.root(), identity)?
    } else if arguments.what.reset {
        settings::reset(&store, station.root(), identity, arguments.force)?;
        Vec::new()
    } else if arguments.what.clear_ras_errors {
        settings::clear_errors(station.root(), identity)?
    } else if let Some(change) = wanted(arguments)? {
        settings::change(&store, station.root(), identity, &change, arguments.tile)?
    } else {
        let current = settings::current(&store, station.root(), identity)?;
        let config = DeviceConfig::of(current, &report.sample);
        return if json { output.json(&config) } else { show_all(&config, output) };
    };
    tell(identity.device_id, &done, json, output)
}

/// What is to be changed; nothing when somebody only wants to see.
fn wanted(arguments: &XpuConfig) -> Result<Option<Change>, Failure> {
    let Setting { standby, memoryecc, performancefactor, .. } = &arguments.what;
    let what = &arguments.what;
    if what.ppr {
        let (operation, reason) = ("repair the memory", "no kernel driver offers it");
        return Err(Failure::XpuNotOffered { operation, reason });
    }
    if let Some((engine, percent)) = performancefactor {
        if engine == "compute" {
            let reason = "the kernel offers it for media engines only";
            return Err(Failure::XpuNotOffered { operation: "set the performance factor", reason });
        }
        return Ok(Some(Change::MediaFactor(*percent)));
    }
    let range = |(least, greatest)| Change::FrequencyRange { least, greatest };
    let power = |watts| Change::PowerLimit { watts, span: arguments.powertype };
    let fan = |drive| Change::Fan { fan: arguments.fanid, drive };
    let changes = [
        what.frequencyrange.map(range),
        what.powerlimit.map(power),
        what.scheduler.map(Change::Scheduler),
        standby.as_ref().map(|mode| Change::Standby(mode == "default")),
        memoryecc.map(|enabled| Change::MemoryEcc(enabled == 1)),
        what.fanspeed.clone().or_else(|| what.fancurve.clone()).map(fan),
        what.xelinkport.or(what.xelinkportbeaconing).map(|_| Change::LinkPort),
    ];
    Ok(changes.into_iter().flatten().next())
}

fn tell(device: u32, done: &[Content], json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return output.json(&json!({"device_id": device, "settings": done}));
    }
    for content in done {
        output.line(&format!("{}: {}", printable(&content.file), printable(&content.value)))?;
    }
    Ok(())
}

fn show_all(config: &DeviceConfig, output: &mut Output) -> Result<(), Failure> {
    let headings = ["xpu-setting", "xpu-value", "xpu-choices"].map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![false, false, false]);
    for (setting, value, choices) in config.rows() {
        let name = output.text.get(&format!("xpu-setting-{setting}"));
        let or = |text: Option<String>| text.map_or_else(|| "–".to_owned(), |text| printable(&text));
        table.row(vec![name, or(value), or(choices)]);
    }
    show::print(&table, output)?;
    for (file, before, now) in config.changes() {
        let (file, before, now) = (printable(file), printable(before), printable(now));
        let variables = [("file", file.into()), ("before", before.into()), ("now", now.into())];
        output.line(&output.text.with("xpu-setting-changed", &variables))?;
    }
    Ok(())
}

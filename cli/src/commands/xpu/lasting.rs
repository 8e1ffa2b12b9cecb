//! `minka xpu group` and `minka xpu agentset`: what lasts beyond a run, kept in a file that the service follows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use minka_accel::Station;
use minka_accel_service::state::{Group, Store};
use serde_json::json;

use super::{named, show};
use crate::args::xpu::{AgentSet, XpuGroup};
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

/// The file of groups and settings: what was said, or where such files belong.
pub(super) fn path(said: &Option<PathBuf>) -> PathBuf {
    let in_home = || {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))
    };
    let system = rustix::process::geteuid().is_root();
    let folder = if system { None } else { in_home() };
    said.clone()
        .unwrap_or_else(|| folder.unwrap_or_else(|| PathBuf::from("/var/lib")).join("minka").join("xpu.toml"))
}

pub(super) fn group(
    arguments: &XpuGroup,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = Store::at(path(&arguments.state));
    let key = |device: &String| Ok(named(station, device)?.sample.identity.key());
    let keys = || arguments.device.iter().map(key).collect::<Result<BTreeSet<String>, Failure>>();
    // The command line does not let an action through without its group.
    let id = arguments.group.unwrap_or_default();
    let groups = if arguments.create {
        let (name, devices) = (arguments.name.clone().unwrap_or_default(), keys()?);
        vec![store.change(|state| state.make_group(&name, devices))?.0]
    } else if arguments.add {
        let devices = keys()?;
        vec![store.change(|state| state.change_devices(id, |inside| inside.extend(devices)))?.0]
    } else if arguments.remove {
        // A card that is not there any more can be named by its address.
        let key = |device: &String| key(device).unwrap_or_else(|_: Failure| device.to_ascii_lowercase());
        let gone: BTreeSet<String> = arguments.device.iter().map(key).collect();
        vec![store.change(|state| state.change_devices(id, |inside| inside.retain(|k| !gone.contains(k))))?.0]
    } else if arguments.delete {
        store.change(|state| state.end_group(id))?;
        return Ok(());
    } else {
        let state = store.read()?;
        match arguments.group {
            Some(id) => vec![state.group(id)?.clone()],
            None => state.groups().to_vec(),
        }
    };
    list(&groups, station, json, output)
}

fn list(groups: &[Group], station: &Station, json: bool, output: &mut Output) -> Result<(), Failure> {
    let identities = station.identities();
    let number = |key: &String| identities.iter().find(|it| it.key() == *key).map(|it| it.device_id);
    if json {
        let groups = groups.iter().map(|group| {
            let ids: BTreeSet<u32> = group.devices.iter().filter_map(number).collect();
            let absent: Vec<&String> = group.devices.iter().filter(|key| number(key).is_none()).collect();
            json!({
                "group_id": group.id, "group_name": group.name, "device_count": ids.len(), "device_id_list": ids,
                "absent": absent,
            })
        });
        return output.json(&json!({"groups": groups.collect::<Vec<_>>()}));
    }
    let headings = ["xpu-group", "xpu-name", "xpu-devices"].map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![true, false, false]);
    for group in groups {
        let device = |key: &String| number(key).map_or_else(|| printable(key), |id| id.to_string());
        let devices: Vec<String> = group.devices.iter().map(device).collect();
        table.row(vec![group.id.to_string(), printable(&group.name), devices.join(", ")]);
    }
    show::print(&table, output)
}

pub(super) fn agentset(arguments: &AgentSet, json: bool, output: &mut Output) -> Result<(), Failure> {
    let store = Store::at(path(&arguments.state));
    let state = match arguments.time {
        Some(time) => store.change(|state| state.set_sample_interval(time))?.1,
        None => store.read()?,
    };
    let interval = state.sample_interval_ms.unwrap_or(1000);
    if json {
        return output.json(&json!({"sample_interval": interval}));
    }
    output.line(&output.text.with("xpu-sampled", &[("interval", interval.to_string().into())]))
}

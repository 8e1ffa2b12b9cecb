//! `minka xpu`: accelerators of any vendor, read here or served to others.

mod config;
mod diagnose;
mod examine;
mod firmware;
mod lasting;
mod policy;
mod query;
pub(crate) mod resident;
mod serve;
mod service;
mod show;
mod top;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use minka_accel::health::Kind;
use minka_accel::limits::LimitsError;
use minka_accel::station::Report;
use minka_accel::sysman::Helper;
use minka_accel::{Limits, Root, Station, vgpu};
use minka_accel_service::state::Store;

use crate::args::xpu::{Devices, OneDevice, Xpu, XpuCommand};
use crate::failure::Failure;
use crate::output::Output;

/// How long the devices may take for their first two samples.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rates are taken over so long.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

/// How often `top` draws what it shows, unless it is told otherwise.
const TOP_INTERVAL: Duration = Duration::from_secs(1);

/// The names under which the program is `minka xpu` itself.
pub(crate) const NAMES: [&str; 2] = ["xpumcli", "xpu-smi"];

pub(super) fn xpu(arguments: &Xpu, output: &mut Output) -> Result<(), Failure> {
    let root = arguments.root.as_deref().map_or_else(Root::machine, Root::at);
    let root = root.with_helper(arguments.level_zero.as_deref().map(Helper::start));
    let json = arguments.json || output.is_json();
    match &arguments.command {
        Some(XpuCommand::Serve(options)) => return serve::serve(options, root, limits(arguments)?, output),
        Some(XpuCommand::AgentSet(which)) => return lasting::agentset(which, json, output),
        Some(XpuCommand::Token(command)) => {
            return super::token::token(command, &configuration("xpu-tokens.toml"), json, output);
        }
        Some(XpuCommand::AmcSensor) => {
            let reason = "no kernel shows cards' management controllers; `minka xpu sensor` shows the cards' own sensors";
            return Err(Failure::XpuNotOffered {
                operation: "read the sensors of management controllers",
                reason,
            });
        }
        Some(XpuCommand::Dump(dump)) if dump.rawdata => return service::raw(dump, json, output),
        Some(command) => refuse(command)?,
        None => {}
    }
    let pace = interval(arguments).unwrap_or(FIRST_INTERVAL).min(Duration::from_secs(1));
    let station = Station::start_with(root, pace, limits(arguments)?);
    station.settle(PATIENCE);
    match &arguments.command {
        Some(XpuCommand::Discovery(which)) => {
            let mut reports = chosen(&station, &which.which)?;
            let is_part = |report: &Report| vgpu::is_function(station.root(), &report.sample.identity);
            reports.retain(|report| (!which.pf || !is_part(report)) && (!which.vf || is_part(report)));
            match &which.dump[..] {
                [] => show::discovery(&reports, json, output),
                columns => query::inventory(columns, &reports, output),
            }
        }
        Some(XpuCommand::Topology(which)) => {
            let reports = meant(&station, &which.device, None, &None)?;
            match &which.file {
                Some(path) => examine::document(&reports, path),
                None if which.matrix => show::matrix(&reports, json, output),
                None => show::topology(&reports, json, output),
            }
        }
        Some(XpuCommand::Stats(which)) => {
            show::stats(&grouped(&station, &which.devices)?, &station, json, output)
        }
        Some(XpuCommand::Health(which)) => {
            if let Some((number, threshold)) = which.component.zip(which.threshold) {
                let kind = Kind::ALL[usize::from(number) - 1];
                for report in grouped(&station, &which.devices)? {
                    let id = report.sample.identity.device_id;
                    station.set_custom(id, kind, (threshold >= 0.0).then_some(threshold));
                }
            }
            show::health(&grouped(&station, &which.devices)?, which.component, json, output)
        }
        Some(XpuCommand::Policy(which)) => policy::policy(which, &station, json, output),
        Some(XpuCommand::Diag(which)) => diagnose::diagnose(which, &station, json, output),
        Some(XpuCommand::Vgpu(which)) => examine::functions(which, &station, json, output),
        Some(XpuCommand::Log(which)) => examine::bundle(which, &station),
        Some(XpuCommand::Config(which)) => config::config(which, &station, json, output),
        Some(XpuCommand::UpdateFw(which)) => {
            let device = OneDevice { device: which.device.clone() };
            firmware::updatefw(which, &chosen(&station, &device)?, json, output)
        }
        Some(XpuCommand::Readings(which)) => {
            show::readings(&chosen(&station, which)?, |_| true, json, output)
        }
        Some(XpuCommand::Sensor(which)) => {
            show::readings(&chosen(&station, which)?, show::is_sensor, json, output)
        }
        Some(XpuCommand::Ps(which)) => show::processes(&chosen(&station, which)?, &station, json, output),
        Some(XpuCommand::Top(which)) => {
            top::top(which, interval(arguments).unwrap_or(TOP_INTERVAL), &station, json, output)
        }
        Some(XpuCommand::Group(which)) => lasting::group(which, &station, json, output),
        Some(XpuCommand::Dump(dump)) => query::dump(dump, &station, output),
        _ if arguments.query_gpu.is_some() => query::query(arguments, &station, output),
        _ if arguments.list_gpus => show::list(&station, output),
        _ => show::overview(arguments, &station, json, output),
    }
}

/// A file of ours: in the user's configuration, or in the machine's for root.
fn configuration(name: &str) -> PathBuf {
    let in_home = || {
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))
    };
    let system = rustix::process::geteuid().is_root();
    let folder = if system { None } else { in_home() };
    folder.unwrap_or_else(|| PathBuf::from("/etc")).join("minka").join(name)
}

/// What XPU Manager has and no kernel offers.
fn refuse(command: &XpuCommand) -> Result<(), Failure> {
    let (operation, reason) = match command {
        XpuCommand::Discovery(which) if which.listamcversions => (
            "list the versions of management controllers",
            "no kernel shows cards' management controllers; ask them over their own network interface",
        ),
        XpuCommand::Stats(which) if which.xelink => {
            ("show the traffic of links between cards", "no kernel shows links between cards")
        }
        XpuCommand::Health(which) if which.threshold.is_some() && which.component > Some(3) => {
            ("set a threshold", "only temperatures and power have one")
        }
        XpuCommand::Vgpu(which) if which.addkernelparam => (
            "change the kernel's parameters",
            "how a kernel is started is for whoever looks after the machine: add intel_iommu=on (and for i915 \
             i915.enable_guc=7 i915.max_vfs=31) to the boot loader's configuration",
        ),
        XpuCommand::Vgpu(which) if which.stats => (
            "show what virtual functions do",
            "drivers do not tell that to the host; ask in the virtual machine",
        ),
        XpuCommand::Vgpu(which) if which.lmem.is_some() => (
            "choose virtual functions' share of the memory",
            "drivers divide it evenly; only files of debugfs, which promise nothing, say otherwise",
        ),
        XpuCommand::Config(which) if which.what.fancurve_rpm.is_some() => (
            "set a fan's curve of speeds",
            "drivers take how hard a fan is driven (--fancurve), and no speed",
        ),
        XpuCommand::Config(which) if which.what.pciedowngrade.is_some() => (
            "set whether the PCI Express link may be slower",
            "no kernel driver offers it; the card's firmware keeps it",
        ),
        _ => return Ok(()),
    };
    Err(Failure::XpuNotOffered { operation, reason })
}

/// The file with the token for that service.
fn manager_token() -> Option<PathBuf> {
    std::env::var_os("XPU_MANAGER_TOKEN_FILE").filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// Another service whose devices are to be told of, too.
fn manager_url() -> Option<String> {
    std::env::var("XPU_MANAGER_URL").ok().filter(|url| !url.is_empty())
}

/// The configured limits. Those of this machine say nothing of a recorded one.
fn limits(arguments: &Xpu) -> Result<Limits, Failure> {
    if let Some(path) = &arguments.limits {
        return Ok(Limits::read(path)?);
    }
    if arguments.root.is_some() {
        return Ok(Limits::default());
    }
    match Limits::read(&configuration("xpu-limits.toml")) {
        Err(LimitsError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(Limits::default())
        }
        limits => Ok(limits?),
    }
}

/// The time between two repetitions, if there are any.
fn interval(arguments: &Xpu) -> Option<Duration> {
    let seconds = arguments.repeat.map(Duration::from_secs);
    seconds.or_else(|| arguments.loop_ms.map(Duration::from_millis))
}

/// How often something is done: once, or without end when it is repeated, if nobody says otherwise.
fn rounds(arguments: &Xpu) -> u64 {
    let otherwise = if interval(arguments).is_some() { u64::MAX } else { 1 };
    arguments.count.unwrap_or(otherwise)
}

/// The reports of the devices that are meant: by number, by PCI address, or all.
fn chosen(station: &Station, which: &OneDevice) -> Result<Vec<Report>, Failure> {
    match &which.device {
        None => Ok(station.reports()),
        Some(device) => named(station, device).map(|report| vec![report]),
    }
}

/// The reports of the devices that are meant, perhaps by their group.
fn grouped(station: &Station, which: &Devices) -> Result<Vec<Report>, Failure> {
    meant(station, &which.device, which.group, &which.state)
}

fn meant(
    station: &Station,
    device: &Option<String>,
    group: Option<u32>,
    state: &Option<PathBuf>,
) -> Result<Vec<Report>, Failure> {
    let Some(group) = group else {
        return chosen(station, &OneDevice { device: device.clone() });
    };
    let state = Store::at(lasting::path(state)).read()?;
    let keys = &state.group(group)?.devices;
    let mut reports = station.reports();
    reports.retain(|report| keys.contains(&report.sample.identity.key()));
    Ok(reports)
}

fn named(station: &Station, device: &str) -> Result<Report, Failure> {
    let wanted = device.to_ascii_lowercase();
    let found = station.reports().into_iter().find(|report| {
        let identity = &report.sample.identity;
        let address = identity.pci.as_ref().map(|pci| pci.address.as_str());
        identity.device_id.to_string() == wanted
            || address == Some(wanted.as_str())
            || identity.uuid.eq_ignore_ascii_case(&wanted)
    });
    found.ok_or_else(|| Failure::NoSuchXpu { device: device.to_owned() })
}

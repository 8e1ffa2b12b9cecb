//! What can be said to `minka xpu`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Subcommand;
use minka_accel::config::{Drive, Scheduler, Span};
use minka_accel::policy::{Comparison, Kind};
use minka_accel::precheck::seconds_ago;

#[derive(Debug, clap::Args)]
pub(crate) struct Xpu {
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) limits: Option<PathBuf>,
    #[arg(long, value_name = "LIBRARY", global = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "libze_loader.so.1")]
    pub(crate) level_zero: Option<PathBuf>,
    #[arg(short, id = "j", global = true)]
    pub(crate) json: bool,
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) query_gpu: Option<Vec<String>>,
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', requires = "query_gpu")]
    pub(crate) format: Vec<String>,
    #[arg(short = 'L', long, conflicts_with = "query_gpu")]
    pub(crate) list_gpus: bool,
    #[arg(short = 'l', long = "loop", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) repeat: Option<u64>,
    #[arg(long, value_name = "MS", conflicts_with = "repeat", value_parser = clap::value_parser!(u64).range(20..=86_400_000))]
    pub(crate) loop_ms: Option<u64>,
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(subcommand)]
    pub(crate) command: Option<XpuCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum XpuCommand {
    Discovery(XpuDiscovery),
    Topology(XpuTopology),
    Stats(XpuStats),
    Health(XpuHealth),
    Config(XpuConfig),
    #[command(name = "updatefw")]
    UpdateFw(XpuUpdateFw),
    Policy(Box<XpuPolicy>),
    Diag(XpuDiag),
    Vgpu(XpuVgpu),
    Log(XpuLog),
    Readings(OneDevice),
    Sensor(OneDevice),
    #[command(name = "amcsensor")]
    AmcSensor,
    Dump(Dump),
    Ps(OneDevice),
    Top(XpuTop),
    Group(XpuGroup),
    #[command(name = "agentset")]
    AgentSet(AgentSet),
    Serve(XpuServe),
    #[command(subcommand)]
    Token(super::token::Token),
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneDevice {
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuDiscovery {
    #[command(flatten)]
    pub(crate) which: OneDevice,
    #[arg(long, conflicts_with = "vf")]
    pub(crate) pf: bool,
    #[arg(long)]
    pub(crate) vf: bool,
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', allow_hyphen_values = true, value_parser = inventory)]
    pub(crate) dump: Vec<i8>,
    #[arg(long)]
    pub(crate) listamcversions: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuStats {
    #[command(flatten)]
    pub(crate) devices: Devices,
    #[arg(long)]
    pub(crate) xelink: bool,
    #[arg(long, requires = "xelink")]
    pub(crate) utils: bool,
}

fn inventory(text: &str) -> Result<i8, String> {
    let most = minka_accel::inventory::COUNT as i8;
    let number = text.parse().ok().filter(|number| *number == -1 || (1..=most).contains(number));
    number.ok_or_else(|| format!("expected numbers from 1 to {most}, or -1 for all"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuTop {
    #[command(flatten)]
    pub(crate) which: OneDevice,
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Devices {
    #[arg(short, long, value_name = "DEVICE", conflicts_with = "group")]
    pub(crate) device: Option<String>,
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<u32>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuHealth {
    #[command(flatten)]
    pub(crate) devices: Devices,
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=6))]
    pub(crate) component: Option<u8>,
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, requires = "component")]
    pub(crate) threshold: Option<f64>,
    #[arg(short, long)]
    pub(crate) list: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuConfig {
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: String,
    #[arg(short, long, value_name = "TILE")]
    pub(crate) tile: Option<u32>,
    #[command(flatten)]
    pub(crate) what: Setting,
    #[arg(long, value_name = "TYPE", default_value = "sustain", requires = "powerlimit")]
    pub(crate) powertype: Span,
    #[arg(long, value_name = "FAN", default_value_t = 1)]
    pub(crate) fanid: u32,
    #[arg(long)]
    pub(crate) force: bool,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

/// One thing to set.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Setting {
    #[arg(long, value_name = "MIN,MAX", value_parser = pair)]
    pub(crate) frequencyrange: Option<(u32, u32)>,
    #[arg(long, value_name = "W")]
    pub(crate) powerlimit: Option<u32>,
    #[arg(long, value_name = "MODE", value_parser = scheduler)]
    pub(crate) scheduler: Option<Scheduler>,
    #[arg(long, value_name = "MODE", value_parser = ["default", "never"])]
    pub(crate) standby: Option<String>,
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) memoryecc: Option<u8>,
    #[arg(long, value_name = "ENGINE,%", value_parser = factor)]
    pub(crate) performancefactor: Option<(String, u8)>,
    #[arg(long, value_name = "PORT,0|1", value_parser = pair)]
    pub(crate) xelinkport: Option<(u32, u32)>,
    #[arg(long, value_name = "PORT,0|1", value_parser = pair)]
    pub(crate) xelinkportbeaconing: Option<(u32, u32)>,
    #[arg(long, value_name = "%|default", value_parser = fan_speed)]
    pub(crate) fanspeed: Option<Drive>,
    #[arg(long, value_name = "°C:%,…", value_parser = fan_curve)]
    pub(crate) fancurve: Option<Drive>,
    #[arg(long, value_name = "°C:RPM,…")]
    pub(crate) fancurve_rpm: Option<String>,
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) pciedowngrade: Option<u8>,
    #[arg(long)]
    pub(crate) clear_ras_errors: bool,
    #[arg(long)]
    pub(crate) restore: bool,
    #[arg(long)]
    pub(crate) reset: bool,
    #[arg(long)]
    pub(crate) ppr: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action"))]
pub(crate) struct XpuPolicy {
    #[arg(short, long, group = "action", requires = "kind", requires = "condition")]
    pub(crate) create: bool,
    #[arg(short, long, group = "action", requires = "kind")]
    pub(crate) remove: bool,
    #[arg(short, long, group = "action")]
    pub(crate) list: bool,
    #[arg(long, group = "action")]
    pub(crate) listalltypes: bool,
    #[arg(short, long, value_name = "DEVICE", conflicts_with = "group")]
    pub(crate) device: Option<String>,
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<u32>,
    #[arg(long = "type", value_name = "TYPE", value_parser = policy_kind)]
    pub(crate) kind: Option<Kind>,
    #[arg(long, value_name = "CONDITION", value_parser = policy_condition)]
    pub(crate) condition: Option<Comparison>,
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) threshold: Option<f64>,
    #[arg(long, value_name = "MIN,MAX", value_parser = pair, conflicts_with = "drain")]
    pub(crate) throttle: Option<(u32, u32)>,
    #[arg(long)]
    pub(crate) drain: bool,
    #[arg(long, value_name = "URL")]
    pub(crate) notify: Option<String>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    #[arg(value_name = "CMD", last = true)]
    pub(crate) command: Vec<String>,
}

/// Firmware.
#[derive(Debug, clap::Args)]
pub(crate) struct XpuUpdateFw {
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[arg(short = 't', long = "type", value_name = "TYPE", conflicts_with = "part")]
    #[arg(value_parser = ["GFX", "GFX_DATA", "OPROM_CODE", "OPROM_DATA", "AMC"])]
    pub(crate) kind: Option<String>,
    #[arg(long, value_name = "ID")]
    pub(crate) part: Option<String>,
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[arg(short = 'y', long, requires = "file")]
    pub(crate) assumeyes: bool,
    #[arg(long, requires = "file")]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuTopology {
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[arg(short, long, conflicts_with = "file")]
    pub(crate) matrix: bool,
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuDiag {
    #[command(flatten)]
    pub(crate) devices: Devices,
    #[arg(short = 'l', long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) level: u8,
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with_all = ["level", "precheck"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) singletest: Vec<u8>,
    #[arg(long, conflicts_with_all = ["level", "precheck", "singletest"])]
    pub(crate) stress: bool,
    #[arg(long, value_name = "MIN", requires = "stress", default_value = "10", value_parser = minutes)]
    pub(crate) stresstime: f64,
    #[arg(long)]
    pub(crate) precheck: bool,
    #[arg(long, requires = "precheck")]
    pub(crate) listtypes: bool,
    #[arg(long, requires = "precheck")]
    pub(crate) gpu: bool,
    #[arg(long, value_name = "TIME", requires = "precheck", allow_hyphen_values = true, value_parser = ago)]
    pub(crate) since: Option<f64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && *minutes <= 1440.0);
    minutes.ok_or_else(|| "expected minutes, at most 1440".to_owned())
}

fn ago(text: &str) -> Result<f64, String> {
    let ago = seconds_ago(text, SystemTime::now());
    ago.ok_or_else(|| "expected today, yesterday, or a number with s, min, h or d".to_owned())
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action").required(true))]
pub(crate) struct XpuVgpu {
    #[arg(long, group = "action")]
    pub(crate) precheck: bool,
    #[arg(short, long, group = "action", requires = "device", requires = "number")]
    pub(crate) create: bool,
    #[arg(short, long, group = "action", requires = "device")]
    pub(crate) list: bool,
    #[arg(short, long, group = "action", requires = "device")]
    pub(crate) remove: bool,
    #[arg(short, long, group = "action", requires = "device")]
    pub(crate) stats: bool,
    #[arg(long, group = "action")]
    pub(crate) addkernelparam: bool,
    #[arg(long, value_name = "MIB", requires = "create")]
    pub(crate) lmem: Option<u64>,
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[arg(short, long, value_name = "N", requires = "create", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) number: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuLog {
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

fn policy_kind(text: &str) -> Result<Kind, String> {
    Kind::named(text).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("expected a number from 0 to 9 or one of {}", names.join(", "))
    })
}

fn policy_condition(text: &str) -> Result<Comparison, String> {
    match text {
        "greater" | "0" => Ok(Comparison::Greater),
        "less" | "1" => Ok(Comparison::Less),
        "when-occur" | "2" => Ok(Comparison::WhenOccur),
        _ => Err("expected greater, less or when-occur, or 0 to 2".to_owned()),
    }
}

fn pair(text: &str) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once(',')
        .and_then(|(one, other)| Some((one.trim().parse().ok()?, other.trim().parse().ok()?)));
    numbers.ok_or_else(|| "expected two whole numbers with a comma between".to_owned())
}

fn scheduler(text: &str) -> Result<Scheduler, String> {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let scheduler = match words[..] {
        ["exclusive"] => Some(Scheduler::Exclusive),
        ["timeout", limit] => limit.parse().ok().map(Scheduler::Timeout),
        ["timeslice", interval, limit] => interval
            .parse()
            .ok()
            .zip(limit.parse().ok())
            .map(|(interval, yield_timeout)| Scheduler::Timeslice { interval, yield_timeout }),
        _ => None,
    };
    scheduler.ok_or_else(|| "expected exclusive, or timeout,µs, or timeslice,µs,µs".to_owned())
}

fn factor(text: &str) -> Result<(String, u8), String> {
    let parts = text.split_once(',').and_then(|(engine, percent)| {
        let known = ["compute", "media"].contains(&engine.trim());
        known.then(|| Some((engine.trim().to_owned(), percent.trim().parse().ok()?)))?
    });
    parts.ok_or_else(|| "expected media,% or compute,%".to_owned())
}

fn fan_speed(text: &str) -> Result<Drive, String> {
    match text.trim_end_matches('%').parse() {
        _ if text == "default" => Ok(Drive::Automatic),
        Ok(percent) => Ok(Drive::Steady(percent)),
        Err(_) => Err("expected default or a number of %".to_owned()),
    }
}

fn fan_curve(text: &str) -> Result<Drive, String> {
    let point = |point: &str| {
        let (celsius, percent) = point.split_once(':')?;
        Some((celsius.trim().parse().ok()?, percent.trim().parse().ok()?))
    };
    let points: Option<Vec<(u8, u8)>> = text.split(',').map(point).collect();
    points.map(Drive::Curve).ok_or_else(|| "expected points as 40:30,70:80".to_owned())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    #[arg(short, long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',', default_value = "0,1,2,3,18",
          value_parser = clap::value_parser!(u64).range(0..37))]
    pub(crate) metrics: Vec<u64>,
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: u64,
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) number: Option<u64>,
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[arg(short, long, value_name = "TILE")]
    pub(crate) tile: Option<u32>,
    #[arg(long, requires = "raw", conflicts_with_all = ["file", "interval", "number"])]
    pub(crate) rawdata: bool,
    #[command(flatten)]
    pub(crate) raw: Raw,
}

/// What the service is to do about files of values that it writes.
#[derive(Debug, clap::Args)]
#[group(id = "raw", multiple = false, requires = "rawdata")]
pub(crate) struct Raw {
    #[arg(long, requires = "device")]
    pub(crate) start: bool,
    #[arg(long)]
    pub(crate) list: bool,
    #[arg(long, value_name = "TASK")]
    pub(crate) stop: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action"))]
pub(crate) struct XpuGroup {
    #[arg(short, long, group = "action", requires = "name")]
    pub(crate) create: bool,
    #[arg(short, long, group = "action", requires = "group", requires = "device")]
    pub(crate) add: bool,
    #[arg(short, long, group = "action", requires = "group", requires = "device")]
    pub(crate) remove: bool,
    #[arg(short = 'D', long, group = "action", requires = "group")]
    pub(crate) delete: bool,
    #[arg(short, long, group = "action")]
    pub(crate) list: bool,
    #[arg(short, long, value_name = "NAME", requires = "create")]
    pub(crate) name: Option<String>,
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<u32>,
    #[arg(short, long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AgentSet {
    #[arg(short, long, conflicts_with = "time")]
    pub(crate) list: bool,
    #[arg(short, long, value_name = "MS")]
    pub(crate) time: Option<u64>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuServe {
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:12788")]
    pub(crate) listen: SocketAddr,
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub(crate) interval: Option<u64>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    #[arg(long, value_name = "DIR")]
    pub(crate) dumps: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    #[arg(long)]
    pub(crate) require_token: bool,
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
}

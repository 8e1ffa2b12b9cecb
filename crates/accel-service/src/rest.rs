//! XPU Manager 1's interface, `/rest/v1/…`, with its shapes where they are known, so that its users can move over.
//!
//! What only its own library could do is not here: whatever is here works on every vendor's device.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::health::{Check, Kind, State as Condition};
use minka_accel::station::Report;
use minka_accel::statistics::Quantity;
use minka_accel::{Metric, process};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::{
    AgentSettings, CustomThreshold, DeviceEntry, DeviceList, ReadingBody, SampleInterval, Statistics,
    xpum_name,
};
use crate::contract::{self, report};
use crate::problem::{Body, Id, Problem};
use crate::server::{App, Operator};
use crate::state::{SAMPLE_INTERVALS_MS, State as Lasting, StateError};

mod groups;

pub(crate) use groups::*;

/// The paths.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/version", get(version))
        .route("/rest/v1/devices", get(devices))
        .route("/rest/v1/devices/{id}", get(device))
        .route("/rest/v1/devices/{id}/health", get(health))
        .route("/rest/v1/devices/{id}/health/{kind}", get(health_of).put(set_threshold))
        .route("/rest/v1/devices/{id}/stats", get(stats))
        .route("/rest/v1/devices/{id}/topology", get(topology))
        .route("/rest/v1/devices/{id}/firmware", get(firmware))
        .route("/rest/v1/devices/{id}/config", get(config))
        .route("/rest/v1/devices/{id}/ps", get(processes_of))
        .route("/rest/v1/ps", get(processes))
        .route("/rest/v1/sensor", get(sensors))
        .route("/rest/v1/agentSettings", get(settings).post(set_settings))
        .merge(groups::routes())
}

/// The versions of what answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Versions {
    xpum_version: String,
    xpum_version_git: String,
    level_zero_version: Option<String>,
}

/// The versions of what answers; Level Zero is not used.
#[utoipa::path(get, path = "/rest/v1/version", tag = "rest", responses((status = 200, body = Versions)))]
pub(crate) async fn version() -> Json<Versions> {
    let version = format!("minka {}", env!("CARGO_PKG_VERSION"));
    Json(Versions { xpum_version: version.clone(), xpum_version_git: version, level_zero_version: None })
}

/// The devices of this machine.
#[utoipa::path(get, path = "/rest/v1/devices", tag = "rest", responses((status = 200, body = DeviceList)))]
pub(crate) async fn devices(state: State<Arc<App>>) -> Json<DeviceList> {
    contract::devices(state).await
}

/// Everything lasting that is known of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceBody {
    #[serde(flatten)]
    entry: DeviceEntry,
    pci_vendor_id: Option<String>,
    drm_device: Option<String>,
    gfx_firmware_version: Option<String>,
    serial_number: Option<String>,
    memory_physical_size_byte: Option<f64>,
    core_clock_rate_mhz: Option<f64>,
    pcie_max_link_width: Option<f64>,
    pcie_max_link_speed_gts: Option<f64>,
    /// Firmware versions, settings and properties.
    properties: Vec<ReadingBody>,
}

/// Everything lasting that is known of a device.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = DeviceBody))
)]
pub(crate) async fn device(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<DeviceBody>, Problem> {
    let sample = report(&app, id)?.sample;
    let text = |metric, place: &str| Some(sample.at(metric, place)?.value.as_ref().ok()?.to_string());
    let lasting = |metric: Metric| metric.kind() == minka_accel::metric::Kind::Setting;
    let properties = sample.sorted().into_iter().filter(|reading| lasting(reading.metric));
    Ok(Json(DeviceBody {
        entry: DeviceEntry::of(&sample.identity),
        pci_vendor_id: sample.identity.pci.as_ref().map(|pci| format!("0x{:04x}", pci.vendor_id)),
        drm_device: sample.identity.device_file.clone(),
        gfx_firmware_version: text(Metric::Firmware, "gsc").or_else(|| text(Metric::Firmware, "vbios")),
        serial_number: text(Metric::Property, "serial number"),
        memory_physical_size_byte: sample.memory_total(),
        core_clock_rate_mhz: sample.number(Metric::FrequencyHighest, minka_accel::device::CLOCK_PLACES),
        pcie_max_link_width: sample.number(Metric::LinkWidthMaximum, &[""]),
        pcie_max_link_speed_gts: sample.number(Metric::LinkSpeedMaximum, &[""]),
        properties: properties.map(ReadingBody::of).collect(),
    }))
}

/// What a check found, as XPU Manager has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthEntry {
    /// `OK`, `Warning`, `Critical` or `Unknown`.
    status: String,
    /// In words.
    description: String,
    /// From here on a warning.
    throttle_threshold: Option<f64>,
    /// From here on critical.
    shutdown_threshold: Option<f64>,
    /// From here on a warning, because somebody wants it so; −1 for none.
    custom_threshold: f64,
    /// `hardware`, `configured` or `default`.
    threshold_origin: Option<String>,
}

impl HealthEntry {
    fn of(check: &Check) -> Self {
        let origin = crate::body::CheckBody::of(check);
        let origin =
            origin.throttle_threshold.or(origin.shutdown_threshold).map(|threshold| threshold.origin);
        HealthEntry {
            status: match check.state {
                Condition::Ok => "OK",
                Condition::Warning => "Warning",
                Condition::Critical => "Critical",
                Condition::Unknown => "Unknown",
            }
            .to_owned(),
            description: check.description.clone(),
            throttle_threshold: check.throttle.map(|threshold| threshold.value),
            shutdown_threshold: check.shutdown.map(|threshold| threshold.value),
            custom_threshold: check.custom.unwrap_or(-1.0),
            threshold_origin: origin,
        }
    }
}

/// How a device is, as XPU Manager has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceHealth {
    device_id: u32,
    /// The checks by name.
    #[serde(flatten)]
    checks: BTreeMap<String, HealthEntry>,
}

pub(crate) fn device_health(report: &Report) -> DeviceHealth {
    let checks =
        report.health.checks.iter().map(|check| (check.kind.name().to_owned(), HealthEntry::of(check)));
    DeviceHealth { device_id: report.sample.identity.device_id, checks: checks.collect() }
}

/// How a device is.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/health", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = DeviceHealth))
)]
pub(crate) async fn health(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<DeviceHealth>, Problem> {
    Ok(Json(device_health(&report(&app, id)?)))
}

/// The checks, as they are named in paths.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum KindName {
    CoreTemperature,
    MemoryTemperature,
    Power,
    Memory,
    XeLinkPort,
    Frequency,
}

fn kind_named(path: &BTreeMap<String, String>) -> Result<Kind, Problem> {
    Ok(match path.get("kind").map(String::as_str) {
        Some("coreTemperature") => Kind::CoreTemperature,
        Some("memoryTemperature") => Kind::MemoryTemperature,
        Some("power") => Kind::Power,
        Some("memory") => Kind::Memory,
        Some("xeLinkPort") => Kind::XeLinkPort,
        Some("frequency") => Kind::Frequency,
        _ => return Err(Problem::new(StatusCode::NOT_FOUND, "there is no check of this name")),
    })
}

/// What one check found.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/health/{kind}", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32), ("kind" = KindName, Path)), responses((status = 200, body = HealthEntry))
)]
pub(crate) async fn health_of(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Json<HealthEntry>, Problem> {
    let kind = kind_named(&path)?;
    let report = report(&app, id)?;
    let check = report.health.checks.iter().find(|check| check.kind == kind);
    check.map(|check| Json(HealthEntry::of(check))).ok_or_else(|| Problem::no_device(id))
}

/// Sets a threshold of one's own for a check; −1 takes it away.
#[utoipa::path(
    put, path = "/rest/v1/devices/{id}/health/{kind}", tag = "rest", security(("token" = []), ("basic" = [])),
    params(("id" = u32, Path, maximum = 4294967295_u32), ("kind" = KindName, Path)), request_body = CustomThreshold,
    responses((status = 200, body = HealthEntry))
)]
pub(crate) async fn set_threshold(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
    Body(body): Body<CustomThreshold>,
) -> Result<Json<HealthEntry>, Problem> {
    let kind = kind_named(&path)?;
    if !matches!(kind, Kind::CoreTemperature | Kind::MemoryTemperature | Kind::Power) {
        return Err(Problem::new(StatusCode::CONFLICT, "this check has no threshold"));
    }
    let threshold = body.custom_threshold;
    let right = (-1.0..=100_000.0).contains(&threshold);
    if !right {
        return Err(Problem::unprocessable("a threshold is from -1 to 100000"));
    }
    if !app.station.set_custom(id, kind, (threshold >= 0.0).then_some(threshold)) {
        return Err(Problem::no_device(id));
    }
    health_of(State(app), Id(id), Path(path)).await
}

/// A device over the last minutes.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/stats", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = Statistics))
)]
pub(crate) async fn stats(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Statistics>, Problem> {
    Ok(Json(Statistics::of(&report(&app, id)?, app.station.interval())))
}

/// Where a device is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Topology {
    device_id: u32,
    /// Processors of the host that are nearest.
    affinity_localcpulist: Option<String>,
    /// Memory node of the host that is nearest.
    numa_node: Option<i32>,
    /// Speed and width of the link to the host, with reasons where they are not known.
    link: Vec<ReadingBody>,
}

/// Where a device is.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/topology", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = Topology))
)]
pub(crate) async fn topology(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Topology>, Problem> {
    let sample = report(&app, id)?.sample;
    let text = |place: &str| Some(sample.at(Metric::Property, place)?.value.as_ref().ok()?.to_string());
    let link = |metric: Metric| {
        metric.name().starts_with("pcie_") && metric.kind() == minka_accel::metric::Kind::Setting
    };
    Ok(Json(Topology {
        device_id: id,
        affinity_localcpulist: text("processors of the host nearby"),
        numa_node: text("memory node of the host").and_then(|node| node.parse().ok()),
        link: sample
            .sorted()
            .into_iter()
            .filter(|reading| link(reading.metric))
            .map(ReadingBody::of)
            .collect(),
    }))
}

/// A list of values.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readings {
    device_id: u32,
    readings: Vec<ReadingBody>,
}

fn readings(report: &Report, wanted: impl Fn(Metric) -> bool) -> Readings {
    let chosen = report.sample.sorted().into_iter().filter(|reading| wanted(reading.metric));
    Readings { device_id: report.sample.identity.device_id, readings: chosen.map(ReadingBody::of).collect() }
}

/// The versions of a device's firmware.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/firmware", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = Readings))
)]
pub(crate) async fn firmware(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Readings>, Problem> {
    Ok(Json(readings(&report(&app, id)?, |metric| metric == Metric::Firmware)))
}

/// The settings of a device: limits, clocks, time limits of engines.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/config", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = Readings))
)]
pub(crate) async fn config(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Readings>, Problem> {
    let parts = ["power_limit", "frequency_", "fan_", "engine_", "performance_"];
    let setting = |metric: Metric| {
        metric.kind() == minka_accel::metric::Kind::Setting
            && parts.iter().any(|part| metric.name().starts_with(part))
    };
    Ok(Json(readings(&report(&app, id)?, setting)))
}

/// All temperatures, voltages, fans and powers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sensors {
    devices: Vec<Readings>,
}

/// All temperatures, voltages, fans and powers.
#[utoipa::path(get, path = "/rest/v1/sensor", tag = "rest", responses((status = 200, body = Sensors)))]
pub(crate) async fn sensors(State(app): State<Arc<App>>) -> Json<Sensors> {
    let wanted =
        |metric| matches!(metric, Metric::Temperature | Metric::Voltage | Metric::FanSpeed | Metric::Power);
    Json(Sensors { devices: app.station.reports().iter().map(|report| readings(report, wanted)).collect() })
}

/// A process that uses a device.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ProcessBody {
    process_id: u32,
    process_name: String,
    device_id: Option<u32>,
    /// Memory of the device in bytes; null when the driver does not tell.
    mem_size: Option<u64>,
    /// Memory shared with others in bytes; null when the driver does not tell.
    shared_size: Option<u64>,
}

/// Processes that use devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Processes {
    device_util_by_proc_list: Vec<ProcessBody>,
    /// Processes of others that could not be looked into: that takes CAP_SYS_PTRACE.
    processes_not_permitted: usize,
}

async fn list_processes(app: &Arc<App>) -> Processes {
    let asked = Arc::clone(app);
    let listed = tokio::task::spawn_blocking(move || process::list(asked.station.root())).await;
    let (processes, hidden) = listed.unwrap_or_default();
    let identities = app.station.identities();
    let device_of = |address: &str| {
        let here = |pci: &minka_accel::identity::Pci| pci.address == address;
        let found = identities.iter().find(|identity| identity.pci.as_ref().is_some_and(here));
        found.map(|identity| identity.device_id)
    };
    let list = processes.into_iter().map(|process| ProcessBody {
        device_id: device_of(&process.pci_address),
        process_id: process.process_id,
        process_name: process.process_name,
        mem_size: process.memory_bytes,
        shared_size: process.shared_bytes,
    });
    Processes { device_util_by_proc_list: list.collect(), processes_not_permitted: hidden }
}

/// Processes that use devices.
#[utoipa::path(get, path = "/rest/v1/ps", tag = "rest", responses((status = 200, body = Processes)))]
pub(crate) async fn processes(State(app): State<Arc<App>>) -> Json<Processes> {
    Json(list_processes(&app).await)
}

/// Processes that use a device.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/ps", tag = "rest",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = Processes))
)]
pub(crate) async fn processes_of(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<Processes>, Problem> {
    report(&app, id)?;
    let mut processes = list_processes(&app).await;
    processes.device_util_by_proc_list.retain(|process| process.device_id == Some(id));
    Ok(Json(processes))
}

/// How often devices are sampled.
#[utoipa::path(get, path = "/rest/v1/agentSettings", tag = "rest", responses((status = 200, body = AgentSettings)))]
pub(crate) async fn settings(State(app): State<Arc<App>>) -> Json<AgentSettings> {
    let interval = u64::try_from(app.station.interval().as_millis()).unwrap_or(1000);
    // A service that was started with another interval says the one that is next to it.
    let nearest = SAMPLE_INTERVALS_MS.into_iter().min_by_key(|choice| choice.abs_diff(interval));
    Json(AgentSettings { sample_interval: SampleInterval(nearest.unwrap_or(1000)) })
}

/// Sets how often devices are sampled, from now on and when the service starts again.
#[utoipa::path(
    post, path = "/rest/v1/agentSettings", tag = "rest", security(("token" = []), ("basic" = [])),
    request_body = AgentSettings, responses((status = 200, body = AgentSettings))
)]
pub(crate) async fn set_settings(
    _: Operator,
    State(app): State<Arc<App>>,
    Body(body): Body<AgentSettings>,
) -> Result<Json<AgentSettings>, Problem> {
    let interval = body.sample_interval.0;
    change(&app, move |state| state.set_sample_interval(interval)).await?;
    app.station.set_interval(Duration::from_millis(interval));
    Ok(Json(body))
}

/// XPU Manager's names of all that statistics can have.
pub fn statistics_names() -> impl Iterator<Item = &'static str> {
    Quantity::ALL.into_iter().filter_map(|quantity| Some(xpum_name(quantity)?.0))
}

/// Changes what lasts, beside the thread that serves: the file may be another's for a moment.
async fn change<T: Send + 'static>(
    app: &Arc<App>,
    change: impl FnOnce(&mut Lasting) -> Result<T, StateError> + Send + 'static,
) -> Result<T, Problem> {
    let asked = Arc::clone(app);
    let changed = tokio::task::spawn_blocking(move || asked.keeper.change(change)).await;
    let failed = || Problem::new(StatusCode::CONFLICT, "the change was not made");
    changed.map_err(|_| failed())?.map_err(|error| match &error {
        StateError::NoSuchGroup(id) => Problem::new(StatusCode::NOT_FOUND, format!("there is no group {id}")),
        StateError::Name | StateError::TooManyDevices | StateError::Interval(_) => {
            Problem::unprocessable(format!("failed to {error}"))
        }
        StateError::TooManyGroups => Problem::new(StatusCode::CONFLICT, format!("failed to {error}")),
        StateError::File { source, .. } => {
            Problem::new(StatusCode::CONFLICT, format!("failed to {error}: {source}"))
        }
        StateError::Format { source, .. } => {
            Problem::new(StatusCode::CONFLICT, format!("failed to {error}: {source}"))
        }
    })
}

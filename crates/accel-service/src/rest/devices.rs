//! What devices are, and what they do.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::Metric;
use minka_accel::station::Report;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::{DeviceEntry, DeviceList, ReadingBody, Statistics};
use crate::contract::{self, report};
use crate::problem::{Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices", get(devices))
        .route("/rest/v1/devices/{id}", get(device))
        .route("/rest/v1/devices/{id}/stats", get(stats))
        .route("/rest/v1/sensor", get(sensors))
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
    params(Id), responses((status = 200, body = DeviceBody))
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

/// A device over the last minutes.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/stats", tag = "rest",
    params(Id), responses((status = 200, body = Statistics))
)]
pub(crate) async fn stats(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Statistics>, Problem> {
    Ok(Json(Statistics::of(&report(&app, id)?, app.station.interval())))
}

/// A list of values.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readings {
    device_id: u32,
    pub(super) readings: Vec<ReadingBody>,
}

pub(super) fn readings(report: &Report, wanted: impl Fn(Metric) -> bool) -> Readings {
    let chosen = report.sample.sorted().into_iter().filter(|reading| wanted(reading.metric));
    Readings { device_id: report.sample.identity.device_id, readings: chosen.map(ReadingBody::of).collect() }
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

//! How devices are, and thresholds of one's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::health::{Check, Kind, State as Condition};
use minka_accel::station::Report;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::CustomThreshold;
use crate::contract::report;
use crate::guard::Operator;
use crate::problem::{Body, Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/health", get(health))
        .route("/rest/v1/devices/{id}/health/{kind}", get(health_of).put(set_threshold))
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
    params(Id), responses((status = 200, body = DeviceHealth))
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

pub(super) fn kind_named(path: &BTreeMap<String, String>) -> Result<Kind, Problem> {
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
    params(Id, ("kind" = KindName, Path)), responses((status = 200, body = HealthEntry))
)]
pub(crate) async fn health_of(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Json<HealthEntry>, Problem> {
    let kind = kind_named(&path)?;
    checked(&report(&app, id)?, kind).map(Json).ok_or_else(|| Problem::no_device(id))
}

/// What a check found.
pub(super) fn checked(report: &Report, kind: Kind) -> Option<HealthEntry> {
    report.health.checks.iter().find(|check| check.kind == kind).map(HealthEntry::of)
}

/// The check and the threshold that somebody wants; `None` takes it away.
pub(super) fn wanted_threshold(
    path: &BTreeMap<String, String>,
    body: &CustomThreshold,
) -> Result<(Kind, Option<f64>), Problem> {
    let kind = kind_named(path)?;
    if !matches!(kind, Kind::CoreTemperature | Kind::MemoryTemperature | Kind::Power) {
        return Err(Problem::new(StatusCode::CONFLICT, "this check has no threshold"));
    }
    let threshold = body.custom_threshold;
    if !(-1.0..=100_000.0).contains(&threshold) {
        return Err(Problem::unprocessable("a threshold is from -1 to 100000"));
    }
    Ok((kind, (threshold >= 0.0).then_some(threshold)))
}

/// Sets a threshold of one's own for a check; −1 takes it away.
#[utoipa::path(
    put, path = "/rest/v1/devices/{id}/health/{kind}", tag = "rest", security(("token" = []), ("basic" = [])),
    params(Id, ("kind" = KindName, Path)), request_body = CustomThreshold,
    responses((status = 200, body = HealthEntry))
)]
pub(crate) async fn set_threshold(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
    Body(body): Body<CustomThreshold>,
) -> Result<Json<HealthEntry>, Problem> {
    let (kind, threshold) = wanted_threshold(&path, &body)?;
    if !app.station.set_custom(id, kind, threshold) {
        return Err(Problem::no_device(id));
    }
    health_of(State(app), Id(id), Path(path)).await
}

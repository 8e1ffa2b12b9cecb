//! What clients of XPU Manager call: `/api/v1/…`, and `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::exposition::{self, Format, Names};
use minka_accel::station::Report;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::analytics::{self, GpuMetrics, GpuStatus};
use crate::body::{Alive, DeviceEntry, DeviceList, HealthBody, Metrics};
use crate::problem::{Id, Problem, Query};
use crate::server::App;

/// The paths.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/health", get(alive))
        .route("/api/v1/xpum/device", get(devices))
        .route("/api/v1/xpum/device/{id}/health", get(health))
        .route("/api/v1/xpum/device/{id}/metrics", get(metrics))
        .route("/api/v1/analytics/gpu/status", get(gpu_status))
        .route("/api/v1/analytics/gpu/metrics", get(gpu_metrics))
        .route("/metrics", get(scrape))
        .route("/healtz", get(alive_xpum))
}

/// What is known of a device, or the problem that there is none.
pub fn report(app: &App, id: u32) -> Result<Report, Problem> {
    app.station.report(id).ok_or_else(|| Problem::no_device(id))
}

/// Whether the service works.
#[utoipa::path(get, path = "/api/v1/health", tag = "service", responses((status = 200, body = Alive)))]
pub(crate) async fn alive(State(app): State<Arc<App>>) -> Json<Alive> {
    let absent =
        app.station.absences().into_iter().map(|(name, reason)| (name.to_owned(), reason.to_string()));
    Json(Alive {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        devices: app.station.identities().len(),
        absent: absent.collect(),
    })
}

/// Whether the service works, at the place and under the name where XPU Manager tells it.
#[utoipa::path(get, path = "/healtz", tag = "service", responses((status = 200, body = Alive)))]
pub(crate) async fn alive_xpum(app: State<Arc<App>>) -> Json<Alive> {
    alive(app).await
}

/// The devices of this machine.
#[utoipa::path(get, path = "/api/v1/xpum/device", tag = "devices", responses((status = 200, body = DeviceList)))]
pub(crate) async fn devices(State(app): State<Arc<App>>) -> Json<DeviceList> {
    Json(DeviceList {
        devices: app.station.identities().iter().map(|identity| DeviceEntry::of(identity)).collect(),
    })
}

/// How a device is.
#[utoipa::path(
    get, path = "/api/v1/xpum/device/{id}/health", tag = "devices",
    params(Id),
    responses((status = 200, body = HealthBody))
)]
pub(crate) async fn health(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<HealthBody>, Problem> {
    Ok(Json(HealthBody::of(&report(&app, id)?)))
}

/// What a device does now.
#[utoipa::path(
    get, path = "/api/v1/xpum/device/{id}/metrics", tag = "devices",
    params(Id),
    responses((status = 200, body = Metrics))
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Metrics>, Problem> {
    Ok(Json(Metrics::of(&report(&app, id)?.sample)))
}

/// What Python and the devices say of GPUs.
#[utoipa::path(get, path = "/api/v1/analytics/gpu/status", tag = "analytics", responses((status = 200, body = GpuStatus)))]
pub(crate) async fn gpu_status(State(app): State<Arc<App>>) -> Json<GpuStatus> {
    Json(analytics::status(&app).await)
}

/// Which device.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The device's number.
    #[serde(default)]
    #[param(required = false, default = 0)]
    device_id: u32,
}

/// Health and metrics of a device together.
#[utoipa::path(
    get, path = "/api/v1/analytics/gpu/metrics", tag = "analytics", params(Which),
    responses((status = 200, body = GpuMetrics), (status = 404, body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn gpu_metrics(
    State(app): State<Arc<App>>,
    Query(which): Query<Which>,
) -> Result<Json<GpuMetrics>, Problem> {
    analytics::metrics(&app, which.device_id).await.map(Json)
}

/// All values for Prometheus: its own text, or OpenMetrics for those who accept it.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    params(("names" = Option<String>, Query, description = "`xpum` adds XPU Manager's names")),
    responses((status = 200, content((String = "text/plain"), (String = "application/openmetrics-text"))))
)]
pub(crate) async fn scrape(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let xpum = query.get("names").is_some_and(|names| names == "xpum");
    let names = if xpum { Names::WithXpum } else { Names::Hardware };
    let text = exposition::write(&app.station.reports(), format, names);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

//! Firmware: versions to read. Updates are fwupd's, which has signed ones and asks whoever may make them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use minka_accel::Metric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Readings, readings};
use crate::contract::report;
use crate::guard::Administrator;
use crate::problem::{Body, Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/firmware", get(firmware))
        .route("/rest/v1/devices/{id}/updatefw", post(update_firmware))
        .route("/rest/v1/devices/firmware", get(update_state))
        .route("/rest/v1/devices/updatefw", post(update_all_firmware))
        .route("/rest/v1/devices/amcversions", get(controller_versions))
}

/// The versions of a device's firmware.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/firmware", tag = "firmware", params(Id),
    responses((status = 200, body = Readings))
)]
pub(crate) async fn firmware(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Readings>, Problem> {
    Ok(Json(readings(&report(&app, id)?, |metric| metric == Metric::Firmware)))
}

/// An image to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareImage {
    #[serde(rename = "file")]
    _file: String,
    #[serde(rename = "firmware_name")]
    _firmware_name: String,
    #[serde(default, rename = "force")]
    _force: bool,
    #[serde(default, rename = "username")]
    _username: Option<String>,
    #[serde(default, rename = "password")]
    _password: Option<String>,
}

/// How an update goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpdateState {
    /// `OK`, `FAILED` or `ONGOING`; null: there was none.
    result: Option<String>,
    /// Why.
    error: Option<String>,
}

const FWUPD: &str = "failed to update the firmware: this service writes no image that nobody signed; fwupd does it \
                     (minka xpu updatefw)";

/// Updates a device's firmware: refused, as fwupd does that.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/updatefw", tag = "firmware", security(("token" = []), ("basic" = [])),
    params(Id), request_body = FirmwareImage, responses((status = 200, body = UpdateState))
)]
pub(crate) async fn update_firmware(
    _: Administrator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(_): Body<FirmwareImage>,
) -> Result<Json<UpdateState>, Problem> {
    report(&app, id)?;
    Err(Problem::new(StatusCode::CONFLICT, FWUPD))
}

/// Updates the firmware of all devices' management controllers: refused, as fwupd does that.
#[utoipa::path(
    post, path = "/rest/v1/devices/updatefw", tag = "firmware", security(("token" = []), ("basic" = [])),
    request_body = FirmwareImage, responses((status = 200, body = UpdateState))
)]
pub(crate) async fn update_all_firmware(
    _: Administrator,
    Body(_): Body<FirmwareImage>,
) -> Result<Json<UpdateState>, Problem> {
    Err(Problem::new(StatusCode::CONFLICT, FWUPD))
}

/// How an update of all devices goes: there is none.
#[utoipa::path(
    get, path = "/rest/v1/devices/firmware", tag = "firmware", responses((status = 200, body = UpdateState))
)]
pub(crate) async fn update_state() -> Json<UpdateState> {
    Json(UpdateState { result: None, error: Some("this service updates no firmware".to_owned()) })
}

/// Versions of the firmware of cards' management controllers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ControllerVersions {
    amc_fw_version: Vec<String>,
    /// Why the list is empty.
    reason: String,
}

/// Versions of the firmware of cards' management controllers: only their own network interface tells them.
#[utoipa::path(
    get, path = "/rest/v1/devices/amcversions", tag = "firmware",
    responses((status = 200, body = ControllerVersions))
)]
pub(crate) async fn controller_versions() -> Json<ControllerVersions> {
    let reason = "the kernel does not show the cards' management controllers".to_owned();
    Json(ControllerVersions { amc_fw_version: Vec::new(), reason })
}

//! Firmware: its versions, and updating it through fwupd, as `minka xpu updatefw` does.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use minka_accel::Metric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{beside, readings};
use crate::body::ReadingBody;
use crate::contract::report;
use crate::guard::Administrator;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use crate::updates::{Job, Stage, Update};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/firmware", get(firmware))
        .route("/rest/v1/devices/{id}/updatefw", post(update_firmware))
        .route("/rest/v1/devices/firmware", get(update_state))
        .route("/rest/v1/devices/updatefw", post(update_all_firmware))
        .route("/rest/v1/devices/amcversions", get(controller_versions))
}

/// A device's firmware: its versions, and how the last update goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FirmwareState {
    device_id: u32,
    readings: Vec<ReadingBody>,
    #[serde(flatten)]
    update: UpdateState,
}

/// The versions of a device's firmware, and how the last update that this service was asked for goes.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/firmware", tag = "firmware", params(Id),
    responses((status = 200, body = FirmwareState))
)]
pub(crate) async fn firmware(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<FirmwareState>, Problem> {
    let readings = readings(&report(&app, id)?, |metric| metric == Metric::Firmware).readings;
    let update = app.updates.of(id).map(UpdateState::of).unwrap_or_default();
    Ok(Json(FirmwareState { device_id: id, readings, update }))
}

/// An image to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareImage {
    /// A cabinet as vendors publish them, by its path on the service's machine.
    #[schema(pattern = "^/")]
    file: String,
    /// Which part: `GFX`, `GFX_DATA`, `OPROM_CODE` or `OPROM_DATA`; `AMC` is refused.
    firmware_name: String,
    /// Also an older version, or the same again.
    #[serde(default)]
    force: bool,
    /// The part as fwupd calls it, where devices cannot be told apart by what it tells of them.
    #[serde(default)]
    part: Option<String>,
    #[serde(default, rename = "username")]
    _username: Option<String>,
    #[serde(default, rename = "password")]
    _password: Option<String>,
}

/// How an update goes.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct UpdateState {
    /// `OK`, `FAILED` or `ONGOING`; null: there was none.
    result: Option<String>,
    /// Why it failed.
    error: Option<String>,
    /// What is being done, in one word.
    status: Option<String>,
    /// Hundredths of it, if they are known.
    percentage: Option<u32>,
    /// What is updated, as fwupd calls it.
    part: Option<String>,
}

impl UpdateState {
    fn of(update: Update) -> Self {
        let (result, error) = match update.stage {
            Stage::Ongoing => ("ONGOING", None),
            Stage::Done => ("OK", None),
            Stage::Failed(reason) => ("FAILED", Some(reason)),
        };
        UpdateState {
            result: Some(result.to_owned()),
            error,
            status: Some(update.progress.status.to_owned()),
            percentage: update.progress.percent,
            part: Some(update.part),
        }
    }
}

/// Begins to update a device's firmware through fwupd, which takes signed images only.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/updatefw", tag = "firmware", security(("token" = []), ("basic" = [])),
    params(Id), request_body = FirmwareImage,
    responses((status = 202, description = "It has begun; how it goes GET …/firmware tells.", body = UpdateState))
)]
pub(crate) async fn update_firmware(
    _: Administrator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(image): Body<FirmwareImage>,
) -> Result<(StatusCode, Json<UpdateState>), Problem> {
    let identity = report(&app, id)?.sample.identity.clone();
    let file = PathBuf::from(image.file);
    if !file.is_absolute() {
        return Err(Problem::unprocessable("the file is named by its path from / on"));
    }
    let job = Job {
        device: id,
        kind: identity.pci.as_ref().map(|pci| (pci.vendor_id, pci.product_id)),
        name: image.firmware_name,
        part: image.part,
        file,
        force: image.force,
    };
    let begun = beside(move || app.updates.begin(job)).await?;
    Ok((StatusCode::ACCEPTED, Json(UpdateState::of(begun))))
}

const CONTROLLERS: &str = "failed to update the firmware: cards' management controllers have network interfaces of their \
                           own, and only those take it";

/// Updates the firmware of all devices' management controllers: refused, as no kernel shows them.
#[utoipa::path(
    post, path = "/rest/v1/devices/updatefw", tag = "firmware", security(("token" = []), ("basic" = [])),
    request_body = FirmwareImage, responses((status = 202, body = UpdateState))
)]
pub(crate) async fn update_all_firmware(
    _: Administrator,
    Body(_): Body<FirmwareImage>,
) -> Result<Json<UpdateState>, Problem> {
    Err(Problem::new(StatusCode::CONFLICT, CONTROLLERS))
}

/// How an update of all devices' management controllers goes: there is none.
#[utoipa::path(
    get, path = "/rest/v1/devices/firmware", tag = "firmware", responses((status = 200, body = UpdateState))
)]
pub(crate) async fn update_state() -> Json<UpdateState> {
    Json(UpdateState { error: Some(CONTROLLERS.to_owned()), ..UpdateState::default() })
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

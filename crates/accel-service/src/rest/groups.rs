//! Groups of devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::health::{checked, kind_named, wanted_threshold};
use super::{DeviceHealth, HealthEntry, KindName, change, device_health};
use crate::body::{CustomThreshold, Statistics};
use crate::contract::report;
use crate::guard::Operator;
use crate::numbers;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use crate::state::Group;

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupBody {
    group_id: u32,
    group_name: String,
    device_count: usize,
    device_id_list: Vec<u32>,
}

/// The groups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupList {
    groups: Vec<GroupBody>,
}

/// A group to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGroup {
    #[schema(min_length = 1, max_length = 100)]
    group_name: String,
    /// The devices that are in it from the beginning.
    #[serde(default, deserialize_with = "numbers::many")]
    #[schema(max_items = 256)]
    device_id_list: Vec<u32>,
}

/// The devices that a group is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupDevices {
    #[serde(deserialize_with = "numbers::many")]
    #[schema(max_items = 256)]
    device_id_list: Vec<u32>,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/groups", get(groups).post(new_group))
        .route("/rest/v1/groups/{id}", get(group).post(set_group).delete(end_group))
        .route("/rest/v1/groups/{id}/health", get(group_health))
        .route("/rest/v1/groups/{id}/health/{kind}", get(group_health_of).put(set_group_threshold))
        .route("/rest/v1/groups/{id}/stats", get(group_stats))
}

/// A group, with the devices of it that are known.
fn body(app: &App, group: &Group) -> GroupBody {
    let device_id_list = members(app, group);
    GroupBody {
        group_id: group.id,
        group_name: group.name.clone(),
        device_count: device_id_list.len(),
        device_id_list,
    }
}

/// The numbers of a group's devices, as far as they are known: a card may not be there today.
pub(super) fn members(app: &App, group: &Group) -> Vec<u32> {
    let identities = app.station.identities();
    let inside = identities.iter().filter(|identity| group.devices.contains(&identity.key()));
    inside.map(|identity| identity.device_id).collect()
}

pub(super) fn find_group(app: &App, id: u32) -> Result<Group, Problem> {
    let missing = |_| Problem::new(StatusCode::NOT_FOUND, format!("there is no group {id}"));
    app.keeper.state().group(id).cloned().map_err(missing)
}

/// What lasts of devices that are named by number.
fn keys(app: &App, ids: &[u32]) -> Result<BTreeSet<String>, Problem> {
    let identities = app.station.identities();
    let key = |id: &u32| {
        let identity = identities.iter().find(|identity| identity.device_id == *id);
        let missing = || Problem::new(StatusCode::CONFLICT, format!("there is no device {id}"));
        identity.map(|identity| identity.key()).ok_or_else(missing)
    };
    ids.iter().map(key).collect()
}

/// The groups.
#[utoipa::path(get, path = "/rest/v1/groups", tag = "groups", responses((status = 200, body = GroupList)))]
pub(crate) async fn groups(State(app): State<Arc<App>>) -> Json<GroupList> {
    Json(GroupList { groups: app.keeper.state().groups().iter().map(|group| body(&app, group)).collect() })
}

/// Makes a group.
#[utoipa::path(
    post, path = "/rest/v1/groups", tag = "groups", security(("token" = []), ("basic" = [])),
    request_body = NewGroup, responses((status = 201, body = GroupBody))
)]
pub(crate) async fn new_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Body(new): Body<NewGroup>,
) -> Result<(StatusCode, Json<GroupBody>), Problem> {
    let devices = keys(&app, &new.device_id_list)?;
    let group = change(&app, move |state| state.make_group(&new.group_name, devices)).await?;
    Ok((StatusCode::CREATED, Json(body(&app, &group))))
}

/// A group.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}", tag = "groups",
    params(Id), responses((status = 200, body = GroupBody))
)]
pub(crate) async fn group(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<GroupBody>, Problem> {
    Ok(Json(body(&app, &find_group(&app, id)?)))
}

/// Sets the devices of a group.
#[utoipa::path(
    post, path = "/rest/v1/groups/{id}", tag = "groups", security(("token" = []), ("basic" = [])),
    params(Id), request_body = GroupDevices, responses((status = 200, body = GroupBody))
)]
pub(crate) async fn set_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(wanted): Body<GroupDevices>,
) -> Result<Json<GroupBody>, Problem> {
    let wanted = keys(&app, &wanted.device_id_list)?;
    let group = change(&app, move |state| state.change_devices(id, |devices| *devices = wanted)).await?;
    Ok(Json(body(&app, &group)))
}

/// Takes a group away; its devices stay.
#[utoipa::path(
    delete, path = "/rest/v1/groups/{id}", tag = "groups", security(("token" = []), ("basic" = [])),
    params(Id), responses((status = 204))
)]
pub(crate) async fn end_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    change(&app, move |state| state.end_group(id)).await.map(|()| StatusCode::NO_CONTENT)
}

/// How the devices of a group are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupHealth {
    group_id: u32,
    devices: Vec<DeviceHealth>,
}

/// How the devices of a group are.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}/health", tag = "groups",
    params(Id), responses((status = 200, body = GroupHealth))
)]
pub(crate) async fn group_health(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<GroupHealth>, Problem> {
    let devices =
        members(&app, &find_group(&app, id)?).into_iter().filter_map(|device| report(&app, device).ok());
    Ok(Json(GroupHealth { group_id: id, devices: devices.map(|report| device_health(&report)).collect() }))
}

/// What one check found of a group's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupHealthEntry {
    group_id: u32,
    devices: Vec<DeviceHealthEntry>,
}

/// What one check found of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceHealthEntry {
    device_id: u32,
    #[serde(flatten)]
    entry: HealthEntry,
}

/// What one check found of a group's devices.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}/health/{kind}", tag = "groups", params(Id, ("kind" = KindName, Path)),
    responses((status = 200, body = GroupHealthEntry))
)]
pub(crate) async fn group_health_of(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Json<GroupHealthEntry>, Problem> {
    let kind = kind_named(&path)?;
    let devices = members(&app, &find_group(&app, id)?);
    let entries = devices.into_iter().filter_map(|device_id| {
        let entry = checked(&report(&app, device_id).ok()?, kind)?;
        Some(DeviceHealthEntry { device_id, entry })
    });
    Ok(Json(GroupHealthEntry { group_id: id, devices: entries.collect() }))
}

/// Sets a threshold of one's own for a check of a group's devices; −1 takes it away.
#[utoipa::path(
    put, path = "/rest/v1/groups/{id}/health/{kind}", tag = "groups", security(("token" = []), ("basic" = [])),
    params(Id, ("kind" = KindName, Path)), request_body = CustomThreshold,
    responses((status = 200, body = GroupHealthEntry))
)]
pub(crate) async fn set_group_threshold(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Path(path): Path<BTreeMap<String, String>>,
    Body(body): Body<CustomThreshold>,
) -> Result<Json<GroupHealthEntry>, Problem> {
    let (kind, threshold) = wanted_threshold(&path, &body)?;
    for device in members(&app, &find_group(&app, id)?) {
        app.station.set_custom(device, kind, threshold);
    }
    group_health_of(State(app), Id(id), Path(path)).await
}

/// The devices of a group over the last minutes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupStatistics {
    group_id: u32,
    datas: Vec<Statistics>,
}

/// The devices of a group over the last minutes.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}/stats", tag = "groups",
    params(Id), responses((status = 200, body = GroupStatistics))
)]
pub(crate) async fn group_stats(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<GroupStatistics>, Problem> {
    let interval = app.station.interval();
    let devices =
        members(&app, &find_group(&app, id)?).into_iter().filter_map(|device| report(&app, device).ok());
    Ok(Json(GroupStatistics {
        group_id: id,
        datas: devices.map(|report| Statistics::of(&report, interval)).collect(),
    }))
}

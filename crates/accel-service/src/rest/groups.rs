//! Groups of devices. They are forgotten when the service ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DeviceHealth, device_health, groups_of};
use crate::body::Statistics;
use crate::contract::report;
use crate::problem::{Body, Id, Problem};
use crate::server::{App, Operator};

/// More groups are refused, and more devices of one.
const GROUPS_MAX: usize = 64;
const DEVICES_MAX: usize = 256;

/// The groups by number, from 1.
#[derive(Debug, Default)]
pub struct Groups {
    groups: BTreeMap<u32, Group>,
    last: u32,
}

#[derive(Debug)]
struct Group {
    name: String,
    devices: BTreeSet<u32>,
}

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
    #[serde(default, deserialize_with = "whole")]
    #[schema(max_items = 256)]
    device_id_list: Vec<u32>,
}

/// The devices that a group is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupDevices {
    #[serde(deserialize_with = "whole")]
    #[schema(max_items = 256)]
    device_id_list: Vec<u32>,
}

/// Whole numbers, also when they are written as `2.0`: to JSON that is the same.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let numbers = Vec::<f64>::deserialize(deserializer)?;
    let whole = |number: f64| {
        let right = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        right.then_some(number as u32).ok_or_else(|| serde::de::Error::custom("not the number of a device"))
    };
    numbers.into_iter().map(whole).collect()
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/groups", get(groups).post(new_group))
        .route("/rest/v1/groups/{id}", get(group).post(set_group).delete(end_group))
        .route("/rest/v1/groups/{id}/health", get(group_health))
        .route("/rest/v1/groups/{id}/stats", get(group_stats))
}

fn body(id: u32, group: &Group) -> GroupBody {
    GroupBody {
        group_id: id,
        group_name: group.name.clone(),
        device_count: group.devices.len(),
        device_id_list: group.devices.iter().copied().collect(),
    }
}

fn no_group(id: u32) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no group {id}"))
}

fn known_devices(app: &App, ids: &[u32]) -> Result<BTreeSet<u32>, Problem> {
    if ids.len() > DEVICES_MAX {
        return Err(Problem::unprocessable("too many devices"));
    }
    let known: BTreeSet<u32> = app.station.identities().iter().map(|identity| identity.device_id).collect();
    match ids.iter().find(|id| !known.contains(id)) {
        Some(id) => Err(Problem::new(StatusCode::CONFLICT, format!("there is no device {id}"))),
        None => Ok(ids.iter().copied().collect()),
    }
}

/// The groups.
#[utoipa::path(get, path = "/rest/v1/groups", tag = "groups", responses((status = 200, body = GroupList)))]
pub(crate) async fn groups(State(app): State<Arc<App>>) -> Json<GroupList> {
    Json(GroupList { groups: groups_of(&app).groups.iter().map(|(id, group)| body(*id, group)).collect() })
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
    let length = new.group_name.chars().count();
    if !(1..=100).contains(&length) {
        return Err(Problem::unprocessable("a name has 1 to 100 characters"));
    }
    let devices = known_devices(&app, &new.device_id_list)?;
    let mut groups = groups_of(&app);
    if groups.groups.len() >= GROUPS_MAX {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there are {GROUPS_MAX} groups already")));
    }
    groups.last = groups.last.wrapping_add(1).max(1);
    let (id, group) = (groups.last, Group { name: new.group_name, devices });
    let answer = body(id, &group);
    groups.groups.insert(id, group);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A group.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}", tag = "groups",
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = GroupBody))
)]
pub(crate) async fn group(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<GroupBody>, Problem> {
    groups_of(&app).groups.get(&id).map(|group| Json(body(id, group))).ok_or_else(|| no_group(id))
}

/// Sets the devices of a group.
#[utoipa::path(
    post, path = "/rest/v1/groups/{id}", tag = "groups", security(("token" = []), ("basic" = [])),
    params(("id" = u32, Path, maximum = 4294967295_u32)), request_body = GroupDevices, responses((status = 200, body = GroupBody))
)]
pub(crate) async fn set_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(wanted): Body<GroupDevices>,
) -> Result<Json<GroupBody>, Problem> {
    let devices = known_devices(&app, &wanted.device_id_list)?;
    let mut groups = groups_of(&app);
    let group = groups.groups.get_mut(&id).ok_or_else(|| no_group(id))?;
    group.devices = devices;
    Ok(Json(body(id, group)))
}

/// Takes a group away; its devices stay.
#[utoipa::path(
    delete, path = "/rest/v1/groups/{id}", tag = "groups", security(("token" = []), ("basic" = [])),
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 204))
)]
pub(crate) async fn end_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    groups_of(&app).groups.remove(&id).map(|_| StatusCode::NO_CONTENT).ok_or_else(|| no_group(id))
}

fn members(app: &App, id: u32) -> Result<Vec<u32>, Problem> {
    let groups = groups_of(app);
    let group = groups.groups.get(&id).ok_or_else(|| no_group(id))?;
    Ok(group.devices.iter().copied().collect())
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
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = GroupHealth))
)]
pub(crate) async fn group_health(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<GroupHealth>, Problem> {
    let devices = members(&app, id)?.into_iter().filter_map(|device| report(&app, device).ok());
    Ok(Json(GroupHealth { group_id: id, devices: devices.map(|report| device_health(&report)).collect() }))
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
    params(("id" = u32, Path, maximum = 4294967295_u32)), responses((status = 200, body = GroupStatistics))
)]
pub(crate) async fn group_stats(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<GroupStatistics>, Problem> {
    let interval = app.station.interval();
    let devices = members(&app, id)?.into_iter().filter_map(|device| report(&app, device).ok());
    Ok(Json(GroupStatistics {
        group_id: id,
        datas: devices.map(|report| Statistics::of(&report, interval)).collect(),
    }))
}

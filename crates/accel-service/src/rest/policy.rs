//! Policies of devices and groups.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::Identity;
use minka_accel::policy::{Kind, Policy};

use super::{beside, find_group};
use crate::body::policy::{DevicePolicies, NewPolicy, PolicyBody, PolicyDone, WhichPolicy};
use crate::contract::report;
use crate::guard::Operator;
use crate::policies;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use minka_access::Role;

pub(super) fn routes() -> Router<Arc<App>> {
    let of_device = get(device_policies).post(set_device_policy).delete(end_device_policy);
    let of_group = get(group_policies).post(set_group_policy).delete(end_group_policy);
    Router::new()
        .route("/rest/v1/policy", get(policies))
        .route("/rest/v1/devices/{id}/policy", of_device)
        .route("/rest/v1/groups/{id}/policy", of_group)
}

fn of_device(app: &App, identity: &Identity) -> DevicePolicies {
    let (state, key) = (app.keeper.state(), identity.key());
    let own = state.policies().iter().filter(|standing| standing.device == key);
    let policy_list = own.map(|standing| PolicyBody::of(identity.device_id, standing)).collect();
    DevicePolicies { device_id: identity.device_id, policy_list }
}

/// The devices of a group that are there.
fn members(app: &App, group: u32) -> Result<Vec<Arc<Identity>>, Problem> {
    let keys = find_group(app, group)?.devices;
    let mut identities = app.station.identities();
    identities.retain(|identity| keys.contains(&identity.key()));
    Ok(identities)
}

fn device(app: &App, id: u32) -> Result<Vec<Arc<Identity>>, Problem> {
    Ok(vec![Arc::clone(&report(app, id)?.sample.identity)])
}

async fn set(
    Operator(caller): Operator,
    app: Arc<App>,
    devices: Vec<Arc<Identity>>,
    new: NewPolicy,
) -> Result<Json<PolicyDone>, Problem> {
    if new.acts() && caller.role < Role::Admin {
        let reason = "a policy that changes a device or drains it takes a token of role admin";
        return Err(Problem::new(StatusCode::FORBIDDEN, reason));
    }
    let policy: Policy = new.policy()?;
    beside(move || {
        devices.iter().try_for_each(|identity| {
            policies::set(app.keeper.store(), app.station.root(), identity, policy.clone())
        })
    })
    .await?;
    Ok(Json(PolicyDone::done()))
}

async fn end(app: Arc<App>, devices: Vec<Arc<Identity>>, kind: Kind) -> Result<Json<PolicyDone>, Problem> {
    beside(move || {
        devices
            .iter()
            .try_for_each(|identity| policies::end(app.keeper.store(), app.station.root(), identity, kind))
    })
    .await?;
    Ok(Json(PolicyDone::done()))
}

/// The policies of all devices.
#[utoipa::path(
    get, path = "/rest/v1/policy", tag = "policy", responses((status = 200, body = Vec<DevicePolicies>))
)]
pub(crate) async fn policies(State(app): State<Arc<App>>) -> Json<Vec<DevicePolicies>> {
    Json(app.station.identities().iter().map(|identity| of_device(&app, identity)).collect())
}

/// The policies of a device.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/policy", tag = "policy", params(Id),
    responses((status = 200, body = DevicePolicies))
)]
pub(crate) async fn device_policies(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<DevicePolicies>, Problem> {
    Ok(Json(of_device(&app, &report(&app, id)?.sample.identity)))
}

/// Gives a device a policy, in place of the one of the same type.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/policy", tag = "policy", security(("token" = []), ("basic" = [])),
    params(Id), request_body = NewPolicy, responses((status = 200, body = PolicyDone))
)]
pub(crate) async fn set_device_policy(
    operator: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(new): Body<NewPolicy>,
) -> Result<Json<PolicyDone>, Problem> {
    let devices = device(&app, id)?;
    set(operator, app, devices, new).await
}

/// Takes a device's policy away; what it has changed is put back.
#[utoipa::path(
    delete, path = "/rest/v1/devices/{id}/policy", tag = "policy", security(("token" = []), ("basic" = [])),
    params(Id), request_body = WhichPolicy, responses((status = 200, body = PolicyDone))
)]
pub(crate) async fn end_device_policy(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(which): Body<WhichPolicy>,
) -> Result<Json<PolicyDone>, Problem> {
    let devices = device(&app, id)?;
    end(app, devices, which.kind()).await
}

/// The policies of a group's devices.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}/policy", tag = "policy", params(Id),
    responses((status = 200, body = Vec<DevicePolicies>))
)]
pub(crate) async fn group_policies(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<Vec<DevicePolicies>>, Problem> {
    Ok(Json(members(&app, id)?.iter().map(|identity| of_device(&app, identity)).collect()))
}

/// Gives every device of a group a policy, in place of its own of the same type.
#[utoipa::path(
    post, path = "/rest/v1/groups/{id}/policy", tag = "policy", security(("token" = []), ("basic" = [])),
    params(Id), request_body = NewPolicy, responses((status = 200, body = PolicyDone))
)]
pub(crate) async fn set_group_policy(
    operator: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(new): Body<NewPolicy>,
) -> Result<Json<PolicyDone>, Problem> {
    let devices = members(&app, id)?;
    set(operator, app, devices, new).await
}

/// Takes a policy of every device of a group away; what it has changed is put back.
#[utoipa::path(
    delete, path = "/rest/v1/groups/{id}/policy", tag = "policy", security(("token" = []), ("basic" = [])),
    params(Id), request_body = WhichPolicy, responses((status = 200, body = PolicyDone))
)]
pub(crate) async fn end_group_policy(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(which): Body<WhichPolicy>,
) -> Result<Json<PolicyDone>, Problem> {
    let devices = members(&app, id)?;
    end(app, devices, which.kind()).await
}

//! How devices are set, and setting them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use minka_accel::Identity;
use minka_accel::config::{Change, Content, Span};

use super::beside;
use crate::body::config::*;
use crate::contract::report;
use crate::guard::Administrator;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use crate::settings;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/config", get(config).delete(restore))
        .route("/rest/v1/devices/{id}/frequencyrange", put(set_frequency_range))
        .route("/rest/v1/devices/{id}/powerlimit", put(set_power_limit))
        .route("/rest/v1/devices/{id}/scheduler", put(set_scheduler))
        .route("/rest/v1/devices/{id}/standby", put(set_standby))
        .route("/rest/v1/devices/{id}/performancefactor", put(set_performance_factor))
        .route("/rest/v1/devices/{id}/memoryecc", put(set_memory_ecc))
        .route("/rest/v1/devices/{id}/portenabled", put(set_port_enabled))
        .route("/rest/v1/devices/{id}/portbeaconing", put(set_port_beaconing))
        .route("/rest/v1/devices/{id}/reset", post(reset))
        .route("/rest/v1/devices/{id}/ppr", post(repair))
}

fn identity(app: &App, id: u32) -> Result<Arc<Identity>, Problem> {
    Ok(Arc::clone(&report(app, id)?.sample.identity))
}

fn bodies(device_id: u32, contents: Vec<Content>) -> Json<Settings> {
    let settings =
        contents.into_iter().map(|content| SettingBody { file: content.file, value: content.value });
    Json(Settings { device_id, settings: settings.collect() })
}

async fn set(app: Arc<App>, id: u32, change: Change, tile: Option<u8>) -> Result<Json<Settings>, Problem> {
    let identity = identity(&app, id)?;
    let asked = Arc::clone(&app);
    let outcome = beside(move || {
        settings::change(asked.keeper.store(), asked.station.root(), &identity, &change, tile.map(u32::from))
    });
    let outcome = outcome.await;
    app.station.look_again(id);
    Ok(bodies(id, outcome?))
}

/// How a device is set, what it takes, and what somebody changed.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/config", tag = "config", params(Id),
    responses((status = 200, body = DeviceConfig))
)]
pub(crate) async fn config(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<DeviceConfig>, Problem> {
    let sample = report(&app, id)?.sample;
    let (asked, identity) = (Arc::clone(&app), Arc::clone(&sample.identity));
    let current =
        beside(move || settings::current(asked.keeper.store(), asked.station.root(), &identity)).await?;
    Ok(Json(DeviceConfig::of(current, &sample)))
}

/// Puts back everything that somebody changed about a device since the machine was started.
#[utoipa::path(
    delete, path = "/rest/v1/devices/{id}/config", tag = "config", security(("token" = []), ("basic" = [])),
    params(Id), responses((status = 200, body = Settings))
)]
pub(crate) async fn restore(
    _: Administrator,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<Settings>, Problem> {
    let identity = identity(&app, id)?;
    let asked = Arc::clone(&app);
    let outcome =
        beside(move || settings::restore(asked.keeper.store(), asked.station.root(), &identity)).await;
    app.station.look_again(id);
    Ok(bodies(id, outcome?))
}

macro_rules! setters {
    ($($(#[doc = $text:literal])* $function:ident, $path:literal, $body:ident: $type:ident => $change:expr, $tile:expr;)*) => {$(
        $(#[doc = $text])*
        #[utoipa::path(
            put, path = $path, tag = "config", security(("token" = []), ("basic" = [])),
            params(Id), request_body = $type, responses((status = 200, body = Settings))
        )]
        pub(crate) async fn $function(
            _: Administrator,
            State(app): State<Arc<App>>,
            Id(id): Id,
            Body($body): Body<$type>,
        ) -> Result<Json<Settings>, Problem> {
            let change = $change?;
            set(app, id, change, $tile).await
        }
    )*};
}

setters! {
    /// Sets the clocks that the driver may choose.
    set_frequency_range, "/rest/v1/devices/{id}/frequencyrange", body: FrequencyRange =>
        Ok::<_, Problem>(Change::FrequencyRange { least: body.min_frequency, greatest: body.max_frequency }),
        body.tile_id;
    /// Sets the power that a device may draw.
    set_power_limit, "/rest/v1/devices/{id}/powerlimit", body: PowerLimit =>
        Ok::<_, Problem>(Change::PowerLimit { watts: body.power_limit, span: Span::Sustain }), None;
    /// Sets how engines divide their time.
    set_scheduler, "/rest/v1/devices/{id}/scheduler", body: SchedulerBody =>
        body.change(), body.tile_id;
    /// Sets whether a device may sleep.
    set_standby, "/rest/v1/devices/{id}/standby", body: Standby =>
        Ok::<_, Problem>(Change::Standby(body.standby_mode == StandbyMode::Default)), None;
    /// Sets how fast a part of a device runs.
    set_performance_factor, "/rest/v1/devices/{id}/performancefactor", body: PerformanceFactor =>
        body.change(), None;
    /// Sets whether a device's memory corrects its errors.
    set_memory_ecc, "/rest/v1/devices/{id}/memoryecc", body: MemoryEcc => body.change(), None;
    /// Sets whether a link to another card is used.
    set_port_enabled, "/rest/v1/devices/{id}/portenabled", _body: PortEnabled =>
        Ok::<_, Problem>(Change::LinkPort), None;
    /// Sets whether the lamp of a link to another card is on.
    set_port_beaconing, "/rest/v1/devices/{id}/portbeaconing", _body: PortBeaconing =>
        Ok::<_, Problem>(Change::LinkPort), None;
}

/// Resets a device: whatever uses it loses its work, so that nobody does unless forced.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/reset", tag = "config", security(("token" = []), ("basic" = [])),
    params(Id), request_body = Force, responses((status = 200, body = Settings))
)]
pub(crate) async fn reset(
    _: Administrator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(body): Body<Force>,
) -> Result<Json<Settings>, Problem> {
    let identity = identity(&app, id)?;
    let asked = Arc::clone(&app);
    beside(move || settings::reset(asked.keeper.store(), asked.station.root(), &identity, body.force))
        .await?;
    app.station.look_again(id);
    Ok(bodies(id, Vec::new()))
}

/// Repairs memory after packaging: no kernel offers it.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/ppr", tag = "config", security(("token" = []), ("basic" = [])),
    params(Id), request_body = Force, responses((status = 200, body = Settings))
)]
pub(crate) async fn repair(
    _: Administrator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(_): Body<Force>,
) -> Result<Json<Settings>, Problem> {
    report(&app, id)?;
    Err(Problem::new(StatusCode::CONFLICT, "failed to repair the memory: no kernel driver offers it"))
}

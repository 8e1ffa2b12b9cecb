//! XPU Manager 1's interface, `/rest/v1/…`, with its shapes where they are known, so that its users can move over.
//!
//! What only its own library could do is not here: whatever is here works on every vendor's device.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::statistics::Quantity;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::{AgentSettings, SampleInterval, xpum_name};
use crate::guard::Operator;
use crate::problem::{Body, Problem};
use crate::server::App;
use crate::state::{SAMPLE_INTERVALS_MS, State as Lasting, StateError};

mod config;
mod devices;
pub mod diagnostics;
mod dump;
mod firmware;
mod groups;
mod health;
mod policy;
mod processes;
pub mod topology;
pub mod vgpu;

pub(crate) use config::*;
pub(crate) use devices::*;
pub(crate) use diagnostics::*;
pub(crate) use dump::*;
pub(crate) use firmware::*;
pub(crate) use groups::*;
pub(crate) use health::*;
pub(crate) use policy::*;
pub(crate) use processes::*;
pub(crate) use topology::*;
pub(crate) use vgpu::*;

/// The paths.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/version", get(version))
        .route("/rest/v1/agentSettings", get(settings).post(set_settings))
        .merge(config::routes())
        .merge(devices::routes())
        .merge(diagnostics::routes())
        .merge(dump::routes())
        .merge(firmware::routes())
        .merge(groups::routes())
        .merge(health::routes())
        .merge(policy::routes())
        .merge(processes::routes())
        .merge(topology::routes())
        .merge(vgpu::routes())
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
    beside(move || asked.keeper.change(change)).await
}

/// Does something that may take a while, beside the thread that serves.
async fn beside<T: Send + 'static, E: Into<Problem> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let failed = |_| Problem::new(StatusCode::CONFLICT, "the change was not made");
    done.map_err(failed)?.map_err(Into::into)
}

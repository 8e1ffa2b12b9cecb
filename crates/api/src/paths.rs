//! The paths, and what answers at them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use minka_node::Daemon;
use minka_node::protocol::{Advice, Answer, Migrated, Node, Process, Status, Steering};

use crate::body::{From, Journey, Json, Path, Pid, Query, Which};
use crate::problem::Problem;
use crate::server::App;
use crate::{events, metrics, openapi};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/node", get(node).post(steer))
        .route("/v1/nodes", get(nodes))
        .route("/v1/processes", get(processes))
        .route("/v1/processes/{pid}", get(process))
        .route("/v1/processes/{pid}/reasons", get(reasons))
        .route("/v1/processes/{pid}/advice", post(advise))
        .route("/v1/processes/{pid}/migrate", post(migrate))
        .route("/v1/processes/{pid}/events", get(events::of_process))
        .route("/v1/events", get(events::of_node))
        .route("/metrics", get(scrape))
        .route("/openapi.json", get(description))
}

/// Asks the daemon in a thread that may wait.
pub(crate) async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&Arc<Daemon>) -> T + Send + 'static,
) -> Result<T, Problem> {
    let daemon = Arc::clone(&app.daemon);
    let answer = tokio::task::spawn_blocking(move || question(&daemon)).await;
    answer.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer was lost"))
}

/// What this node is and what it is doing.
#[utoipa::path(get, path = "/v1/node", tag = "node", responses((status = 200, body = Status)))]
pub(crate) async fn node(State(app): State<Arc<App>>) -> Result<axum::Json<Status>, Problem> {
    ask(&app, |daemon| daemon.status()).await.map(axum::Json)
}

/// Changes how this node takes part in the cluster; for root.
#[utoipa::path(
    post, path = "/v1/node", tag = "node", request_body = Steering,
    responses((status = 204, description = "It is done, or begun."))
)]
pub(crate) async fn steer(
    State(app): State<Arc<App>>,
    From(caller): From,
    Json(what): Json<Steering>,
) -> Result<StatusCode, Problem> {
    ask(&app, move |daemon| daemon.steer_for(caller, what)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The nodes of the cluster, this one first.
#[utoipa::path(get, path = "/v1/nodes", tag = "node", responses((status = 200, body = Vec<Node>)))]
pub(crate) async fn nodes(State(app): State<Arc<App>>) -> Result<axum::Json<Vec<Node>>, Problem> {
    ask(&app, |daemon| daemon.nodes()).await.map(axum::Json)
}

/// The processes that the node knows: those that have moved, and its guests.
#[utoipa::path(
    get, path = "/v1/processes", tag = "processes", params(Which),
    responses((status = 200, body = Vec<Process>))
)]
pub(crate) async fn processes(
    State(app): State<Arc<App>>,
    From(caller): From,
    Query(which): Query<Which>,
) -> Result<axum::Json<Vec<Process>>, Problem> {
    ask(&app, move |daemon| daemon.processes_for(caller, which.all)).await.map(axum::Json)
}

/// A process.
#[utoipa::path(
    get, path = "/v1/processes/{pid}", tag = "processes", params(Pid),
    responses((status = 200, body = Process))
)]
pub(crate) async fn process(
    State(app): State<Arc<App>>,
    From(caller): From,
    Path(Pid { pid }): Path<Pid>,
) -> Result<axum::Json<Process>, Problem> {
    let processes = ask(&app, move |daemon| daemon.processes_for(caller, true)).await?;
    // Of several that had the number the one that is there is told, and else the one that ended last.
    let found = processes.into_iter().filter(|process| process.pid == pid);
    let found = found.max_by_key(|process| process.state != minka_node::protocol::State::Ended);
    found
        .map(axum::Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no process {pid}")))
}

/// Why a process cannot move; empty when it can.
#[utoipa::path(
    get, path = "/v1/processes/{pid}/reasons", tag = "processes", params(Pid),
    responses((status = 200, body = Vec<String>))
)]
pub(crate) async fn reasons(
    State(app): State<Arc<App>>,
    From(caller): From,
    Path(Pid { pid }): Path<Pid>,
) -> Result<axum::Json<Vec<String>>, Problem> {
    Ok(axum::Json(ask(&app, move |daemon| daemon.reasons(caller, pid)).await??))
}

/// Tells the balancer something about a process.
#[utoipa::path(
    post, path = "/v1/processes/{pid}/advice", tag = "processes", params(Pid), request_body = Advice,
    responses((status = 204, description = "It is noted."))
)]
pub(crate) async fn advise(
    State(app): State<Arc<App>>,
    From(caller): From,
    Path(Pid { pid }): Path<Pid>,
    Json(advice): Json<Advice>,
) -> Result<StatusCode, Problem> {
    ask(&app, move |daemon| daemon.advise(caller, pid, advice)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a process, and answers when it is there.
#[utoipa::path(
    post, path = "/v1/processes/{pid}/migrate", tag = "processes", params(Pid), request_body = Journey,
    responses(
        (status = 200, body = Migrated),
        (status = 202, description = "It will move at its next execve.")
    )
)]
pub(crate) async fn migrate(
    State(app): State<Arc<App>>,
    From(caller): From,
    Path(Pid { pid }): Path<Pid>,
    Json(journey): Json<Journey>,
) -> Result<Response, Problem> {
    let Ok(turn) = Arc::clone(&app.moves).try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many processes are being moved"));
    };
    let moved = ask(&app, move |daemon| {
        // It goes on when the client has gone, and keeps its thread.
        let _turn = turn;
        daemon.migrate(caller, pid, &journey.to, journey.at_exec)
    });
    match moved.await?? {
        Answer::Migrated(migrated) => Ok(axum::Json(migrated).into_response()),
        _ => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

/// What the node knows of itself and the cluster, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "service", responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(crate) async fn scrape(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let text =
        ask(&app, |daemon| metrics::text(&daemon.status(), &daemon.nodes(), daemon.arrivals())).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::text())
}

pub(crate) async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

pub(crate) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

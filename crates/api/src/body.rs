//! What requests bring: read strictly, and turned away with a problem.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use minka_node::ask::Caller;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// A process of this node, as it counts.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Pid {
    /// The process's number on this node.
    #[param(minimum = 1)]
    pub(crate) pid: i32,
}

/// Which processes.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Also those that have never moved: the caller's own, or, for root, everybody's.
    #[serde(default)]
    #[param(required = false)]
    pub(crate) all: bool,
}

/// Where a process is to go.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journey {
    /// A node's name, `home`, or `best`.
    pub(crate) to: String,
    /// Wait for the next `execve` and go then.
    #[serde(default)]
    pub(crate) at_exec: bool,
}

/// A body that is JSON of this kind.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body: Result<axum::Json<T>, JsonRejection> = axum::Json::from_request(request, state).await;
        body.map(|body| Json(body.0))
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
    }
}

/// A part of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        // There is nothing at a path whose parts are not what they should be.
        path.map(|path| Path(path.0))
            .map_err(|rejection| Problem::new(StatusCode::NOT_FOUND, rejection.body_text()))
    }
}

/// What follows the question mark.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        query
            .map(|query| Query(query.0))
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
    }
}

/// Who asks, as the server has noted for the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<From>().copied();
        caller.ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, "nobody knows who asks"))
    }
}

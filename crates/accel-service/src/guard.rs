//! What is done for every request: the caller is identified, and changes and refusals are written down.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use minka_access::{Caller, Peer, Role, Wrong};

use crate::problem::Problem;
use crate::server::App;

/// What is told to everybody.
const OPEN: [&str; 3] = ["/api/v1/health", "/healtz", "/rest/v1/version"];

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, wrong.detail());
        problem.retry_after = wrong.retry_after;
        problem
    }
}

/// A caller who may change how devices are watched.
#[derive(Debug)]
pub struct Operator(pub Caller);

/// A caller who may change devices.
#[derive(Debug)]
pub struct Administrator(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        caller_with(parts, Role::Operate).map(Operator)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        caller_with(parts, Role::Admin).map(Administrator)
    }
}

fn caller_with(parts: &Parts, role: Role) -> Result<Caller, Problem> {
    match parts.extensions.get::<Caller>() {
        None => Err(Problem::new(StatusCode::UNAUTHORIZED, "this takes a token")),
        Some(caller) if caller.role < role => {
            Err(Problem::new(StatusCode::FORBIDDEN, "the token's role does not allow this"))
        }
        Some(caller) => Ok(caller.clone()),
    }
}

/// What is done for every request: the caller is identified, what must not be kept says so, changes are logged.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map_or_else(|| IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let header =
        request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or("?").to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let identified = app.door.identify(header.as_deref(), from).await;
    let open = !app.require_token || OPEN.contains(&path.as_str());
    let (caller, mut response) = match identified {
        Err(wrong) => (None, Problem::from(wrong).into_response()),
        Ok(None) if !open => {
            (None, Problem::new(StatusCode::UNAUTHORIZED, "reading takes a token here").into_response())
        }
        Ok(caller) => {
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            (caller, next.run(request).await)
        }
    };
    let status = response.status();
    let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if refused || !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        app.door.audit(from, caller.as_ref(), method.as_str(), &path, status.as_u16());
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

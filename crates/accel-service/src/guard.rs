//! What is done for every request: the caller is identified, and changes and refusals are written down.

use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::auth::{self, Caller, Role, Verdict};
use crate::problem::Problem;
use crate::server::App;

/// What is told to everybody.
const OPEN: [&str; 3] = ["/api/v1/health", "/healtz", "/rest/v1/version"];

/// An answer to a guesser comes so late at most, and to so many guessers.
const WAIT_MAX: Duration = Duration::from_secs(2);
pub(crate) const WAITING_MAX: usize = 64;

impl App {
    /// Writes down who changed something, and who was refused.
    fn audit(&self, from: IpAddr, caller: Option<&Caller>, method: &Method, path: &str, status: StatusCode) {
        let name = caller.map_or("-", |caller| caller.name.as_str());
        let Some(file) = &self.audit else {
            tracing::info!(%from, name, %method, path, status = status.as_u16(), "audit");
            return;
        };
        let line = serde_json::json!({
            "time": crate::time::text(SystemTime::now()),
            "from": from.to_string(),
            "token": name,
            "method": method.as_str(),
            "path": path,
            "status": status.as_u16(),
        });
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }

    /// Who the caller is: nobody without a token, an error with a wrong one.
    async fn identify(&self, header: Option<&str>, from: IpAddr) -> Result<Option<Caller>, Problem> {
        let Some(header) = header else { return Ok(None) };
        let token = auth::token(header).unwrap_or_default();
        let mut verdict = self.gate.judge(&token, from, Instant::now());
        if let Verdict::Probable(entry, secret) = verdict {
            // One at a time: each takes 19 MiB and a processor for a while.
            let _turn = self.checks.acquire().await;
            let (checked, tried) = (entry.clone(), secret.clone());
            let right = tokio::task::spawn_blocking(move || checked.is_right(&tried)).await.unwrap_or(false);
            verdict = self.gate.settle(&entry, &secret, right, from, Instant::now());
        }
        match verdict {
            Verdict::Known(caller) => Ok(Some(caller)),
            Verdict::Wait(seconds) => {
                // The guesser waits, in a place that others do not need; a crowd of guessers is turned away.
                if let Ok(_place) = self.waiting.try_acquire() {
                    tokio::time::sleep(Duration::from_secs(seconds).min(WAIT_MAX)).await;
                }
                let mut problem =
                    Problem::new(StatusCode::UNAUTHORIZED, "the token is wrong, as others before");
                problem.retry_after = Some(seconds);
                Err(problem)
            }
            Verdict::Wrong | Verdict::Probable(..) => {
                Err(Problem::new(StatusCode::UNAUTHORIZED, "the token is wrong"))
            }
        }
    }
}

/// The address of the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

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
    let identified = app.identify(header.as_deref(), from).await;
    let open = !app.require_token || OPEN.contains(&path.as_str());
    let (caller, mut response) = match identified {
        Err(problem) => (None, problem.into_response()),
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
        app.audit(from, caller.as_ref(), &method, &path, status);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

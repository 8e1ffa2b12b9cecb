//! The same interface for other machines: over TLS 1.3, with tokens.
//!
//! A token with the role `read` sees everything, one with `operate` moves and follows processes too, one with `admin` may
//! do what root may. There is nothing for who shows none.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use minka_access::{Crowd, Door, Peer, Role, tls};
use minka_node::ask::Caller;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::body::From;
use crate::problem::Problem;
use crate::server::ApiError;

/// Most connections at a time, and most of one address.
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_OF_ONE_MAX: usize = 256;

/// Where other machines ask, and who of them may.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// The files of the certificate that the server shows, and of its key.
    pub certificate: PathBuf,
    /// See there.
    pub key: PathBuf,
    /// The file of the audit log.
    pub audit: Option<PathBuf>,
}

/// What it takes to answer other machines.
pub(crate) struct Desk {
    listener: std::net::TcpListener,
    tls: Arc<ServerConfig>,
    door: Arc<Door>,
}

impl Desk {
    pub(crate) fn open(remote: &Remote) -> Result<Self, ApiError> {
        let listen = |source| ApiError::Listen { address: remote.listen, source };
        let listener = std::net::TcpListener::bind(remote.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        Ok(Desk {
            listener,
            tls: tls::configuration(&remote.certificate, &remote.key)?,
            door: Arc::new(Door::new(&remote.tokens, remote.audit.as_deref())?),
        })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until it is dropped.
    pub(crate) async fn attend(self, router: Router) {
        let router = router.layer(axum::middleware::from_fn_with_state(self.door, guard));
        let crowd = Crowd::new(CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX);
        match TcpListener::from_std(self.listener) {
            Ok(listener) => minka_access::receive(listener, Some(self.tls), crowd, router).await,
            Err(error) => tracing::error!(%error, "the interface for other machines cannot be served"),
        }
    }
}

/// Finds out who asks, and whether that may be asked with this role.
async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map_or_else(|| IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.map(|value| value.to_str().unwrap_or("?").to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (caller, response) = match door.identify(shown.as_deref(), from).await {
        Err(wrong) => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, wrong.detail()).into_response();
            if let Some(seconds) = wrong.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            (None, response)
        }
        Ok(None) => (None, Problem::new(StatusCode::UNAUTHORIZED, "this takes a token").into_response()),
        Ok(Some(caller)) if caller.role < needed(&method, &path) => {
            let problem = Problem::new(StatusCode::FORBIDDEN, "the token's role does not allow this");
            (Some(caller), problem.into_response())
        }
        Ok(Some(caller)) => {
            let asking = match caller.role {
                Role::Read => Caller::observer(),
                Role::Operate => Caller::operator(),
                Role::Admin => Caller::administrator(),
            };
            request.extensions_mut().insert(From(asking));
            (Some(caller), next.run(request).await)
        }
    };
    let status = response.status();
    let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if refused || !is_reading(&method) {
        door.audit(from, caller.as_ref(), method.as_str(), &path, status.as_u16());
    }
    response
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The role that something takes. What callers may do with which process is said in [`minka_node::ask`].
fn needed(method: &Method, path: &str) -> Role {
    let follows = path.starts_with("/v1/processes/") && path.ends_with("/events");
    match (is_reading(method), path) {
        (true, _) if follows => Role::Operate,
        (true, _) => Role::Read,
        (false, path) if path.starts_with("/v1/processes/") => Role::Operate,
        (false, _) => Role::Admin,
    }
}

/// Requests at the UNIX socket are their users'.
pub(crate) fn of_user(router: Router, uid: u32) -> Router {
    router.layer(Extension(From(Caller::new(uid))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_suffice_for_what_they_should() {
        let check = |method: Method, path: &str, role| assert_eq!(needed(&method, path), role, "{path}");
        check(Method::GET, "/v1/node", Role::Read);
        check(Method::GET, "/metrics", Role::Read);
        check(Method::GET, "/v1/events", Role::Read);
        check(Method::GET, "/v1/processes/7/events", Role::Operate);
        check(Method::POST, "/v1/processes/7/migrate", Role::Operate);
        check(Method::POST, "/v1/node", Role::Admin);
        check(Method::DELETE, "/anything", Role::Admin);
    }
}

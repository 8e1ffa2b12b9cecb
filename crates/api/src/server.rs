//! Connections, who they are from, and what holds for every request.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use minka_access::tls::TlsError;
use minka_access::{Crowd, DoorError};
use minka_node::Daemon;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use crate::paths;
use crate::problem::Problem;
use crate::remote::{self, Desk, Remote};

/// No body of a request is larger.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Most connections at a time, and most of one user. Of more, one that asks nothing has to go.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_ONE_MAX: usize = 64;

/// Streams of events at a time, and moves that somebody waits for. Each may keep a thread.
const STREAMS_MAX: usize = 32;
const MOVES_MAX: usize = 32;

/// Threads that may wait: for streams, moves and everything else.
const THREADS_MAX: usize = STREAMS_MAX + MOVES_MAX + 8;

/// Why the interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be made.
    #[error("make the socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The address for other machines cannot be used.
    #[error("listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The certificate that is shown to other machines, or its key, cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens of other machines, or the audit log, cannot be used.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The runtime cannot be started.
    #[error("start the HTTP interface")]
    Start(#[source] io::Error),
}

/// What requests are answered from.
pub(crate) struct App {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) moves: Arc<Semaphore>,
}

/// The interface, as long as this is kept.
#[derive(Debug)]
pub struct Service {
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
    end: Option<oneshot::Sender<()>>,
}

impl Service {
    /// Where other machines ask.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nobody comes in any more; what is being answered goes on until the process ends.
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }
}

/// Serves the interface at a socket, in a thread of its own. A socket that is there is replaced: whoever calls this has
/// made sure that no other daemon serves it.
///
/// # Errors
/// When the socket cannot be made, or the runtime not be started.
pub fn serve(daemon: Arc<Daemon>, socket: &Path) -> Result<Service, ApiError> {
    let failed = |source| ApiError::Socket { path: socket.to_owned(), source };
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(socket).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // Anybody may ask; the kernel says who they are.
    fs::set_permissions(socket, Permissions::from_mode(0o666)).map_err(failed)?;
    let router = router(daemon);
    let end = in_a_thread(async move {
        let Ok(listener) = UnixListener::from_std(listener) else { return };
        accept(&listener, &router).await;
    })?;
    Ok(Service { socket: Some(socket.to_owned()), address: None, end: Some(end) })
}

/// Serves the interface to other machines, in another thread, so that no crowd of theirs delays this machine's own tools.
///
/// # Errors
/// When the address, the certificate or the tokens cannot be used, or the runtime not be started.
pub fn serve_remote(daemon: Arc<Daemon>, remote: &Remote) -> Result<Service, ApiError> {
    let desk = Desk::open(remote)?;
    let address = desk.address();
    let end = in_a_thread(desk.attend(router(daemon)))?;
    Ok(Service { socket: None, address, end: Some(end) })
}

/// Does work in a thread with a runtime of its own, until it is told to end.
fn in_a_thread(work: impl Future<Output = ()> + Send + 'static) -> Result<oneshot::Sender<()>, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .build()
        .map_err(ApiError::Start)?;
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                _ = ended => {}
            }
        });
        runtime.shutdown_background();
    });
    thread.map_err(ApiError::Start)?;
    Ok(end)
}

fn router(daemon: Arc<Daemon>) -> Router {
    let app = Arc::new(App {
        daemon,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        moves: Arc::new(Semaphore::new(MOVES_MAX)),
    });
    paths::routes()
        .fallback(paths::nowhere)
        .method_not_allowed_fallback(paths::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(finish))
        .with_state(app)
}

/// Nothing that is told lasts.
async fn finish(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn accept(listener: &UnixListener, router: &Router) {
    let crowd = Crowd::new(CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a connection that ended at once: others go on.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let uid = match stream.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => {
                tracing::warn!(%error, "failed to find out who a client is");
                continue;
            }
        };
        match crowd.enter(uid) {
            Some(place) => {
                let router = remote::of_user(router.clone(), uid);
                tokio::spawn(async move {
                    let place = Arc::new(place);
                    tokio::select! {
                        () = minka_access::attend(stream, router, &place) => {}
                        () = place.told_to_leave() => {}
                    }
                });
            }
            None => turn_away(&stream),
        }
    }
}

/// Says that there is no room, if that can be said without waiting, and closes.
fn turn_away(stream: &UnixStream) {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon has too many clients");
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A new connection has room for it.
    let _ = stream.try_write(answer.as_bytes());
}

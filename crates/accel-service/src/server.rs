//! Connections, and what holds for every request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use minka_accel::{Limits, Root, Station};
use minka_access::tls::{self, TlsError};
use minka_access::{Crowd, Door, DoorError, receive};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::analytics::Analyst;
use crate::dumps::Dumps;
use crate::problem::Problem;
use crate::rest::diagnostics::Diagnosis;
use crate::state::{Keeper, StateError, Store};
use crate::updates::Updates;
use crate::warden::Warden;
use crate::{contract, guard, openapi, rest};

/// The port that clients of the service expect.
pub const PORT: u16 = 12788;

/// No body of a request is larger.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The time between two samples where nobody chose another, and between two looks at the state.
const INTERVAL: Duration = Duration::from_secs(1);

/// Connections at once, of all and of one address.
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_OF_ONE_MAX: usize = 256;

/// What the service is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The tree whose devices it watches.
    pub root: Root,
    /// The time between two samples; without one that of the state, or a second.
    pub interval: Option<Duration>,
    /// Limits for what the hardware tells none of.
    pub limits: Limits,
    /// The file of groups and settings.
    pub state: PathBuf,
    /// The folder of the files of values that it writes.
    pub dumps: PathBuf,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// Whether reading takes a token too.
    pub require_token: bool,
    /// The file of the audit log; without one it goes to the log.
    pub audit: Option<PathBuf>,
    /// The Python that is asked for its GPUs.
    pub python: PathBuf,
    /// The files of the certificates and the key of TLS; without them connections are in the clear.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Another service whose devices the analytics tell of.
    pub manager_url: Option<String>,
    /// The file with the token that the other service is shown.
    pub manager_token: Option<PathBuf>,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime cannot be started.
    #[error("start the service")]
    Start(#[source] std::io::Error),
    /// The tokens or the audit log cannot be used.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Groups and settings cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address of the other service cannot be used.
    #[error("use the other service's address {0:?}: only http[s]://HOST[:PORT] is understood")]
    ManagerUrl(String),
    /// The token for the other service cannot be shown.
    #[error("take the token for XPU_MANAGER_URL: {0}")]
    ManagerToken(String),
}

/// What requests are answered from.
#[derive(Debug)]
pub struct App {
    /// The devices.
    pub station: Station,
    /// Who asks Python and other hosts.
    pub analyst: Analyst,
    /// Groups of devices, and settings.
    pub keeper: Keeper,
    /// Files of values that are being written.
    pub dumps: Dumps,
    /// What devices' last examinations found.
    pub diagnoses: Mutex<BTreeMap<u32, Diagnosis>>,
    /// Updates of firmware.
    pub updates: Updates,
    warden: Warden,
    tls: Option<Arc<ServerConfig>>,
    pub(crate) door: Door,
    pub(crate) require_token: bool,
}

impl App {
    /// Prepares all but the connections.
    pub fn new(options: &Options) -> Result<Self, ServeError> {
        let keeper = Keeper::new(Store::at(options.state.clone()))?;
        let chosen = keeper.state().sample_interval_ms.map(Duration::from_millis);
        let interval = options.interval.or(chosen).unwrap_or(INTERVAL);
        Ok(App {
            door: Door::new(&options.tokens, options.audit.as_deref())?,
            analyst: Analyst::new(
                options.python.clone(),
                options.manager_url.as_deref(),
                options.manager_token.as_deref(),
            )?,
            station: Station::start_with(options.root.clone(), interval, options.limits.clone()),
            keeper,
            dumps: Dumps::at(options.dumps.clone()),
            diagnoses: Mutex::default(),
            updates: Updates::default(),
            tls: options.tls.as_ref().map(|(chain, key)| tls::configuration(chain, key)).transpose()?,
            warden: Warden::start().map_err(ServeError::Start)?,
            require_token: options.require_token,
        })
    }

    /// Samples as often as the state says, whenever somebody else changes that.
    pub async fn follow(self: Arc<Self>) {
        let mut known = self.keeper.state().sample_interval_ms;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let chosen = self.keeper.state().sample_interval_ms;
            if chosen != known
                && let Some(interval) = chosen
            {
                self.station.set_interval(Duration::from_millis(interval));
            }
            known = chosen;
        }
    }

    /// Judges policies and writes values as often as devices are sampled.
    pub async fn patrol(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.station.interval()).await;
            let app = Arc::clone(&self);
            // What a policy does may take a while; the next round begins when it is over.
            let round = tokio::task::spawn_blocking(move || {
                app.warden.round(&app.station, &app.keeper);
                app.dumps.round(&app.station);
            });
            let _ = round.await;
        }
    }
}

async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// All paths.
pub fn router(app: Arc<App>) -> Router {
    let routes = contract::routes().merge(rest::routes()).merge(openapi::routes());
    routes
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

/// Serves until the process is told to end; `ready` is told the address.
pub fn serve(options: &Options, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    let app = Arc::new(App::new(options)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(ServeError::Start)?;
    let outcome = runtime.block_on(async {
        let listen = |source| ServeError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let mut ended = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(ServeError::Start)?;
        ready(listener.local_addr().map_err(listen)?);
        tokio::select! {
            () = run(Arc::clone(&app), listener) => {}
            _ = ended.recv() => {}
            _ = interrupted.recv() => {}
        }
        Ok(())
    });
    // A question to Python may still be open; nobody waits for its answer.
    runtime.shutdown_background();
    outcome
}

/// Serves, follows the state and looks after policies, until whoever calls it ends it.
pub async fn run(app: Arc<App>, listener: TcpListener) {
    tokio::select! {
        () = answer(Arc::clone(&app), listener) => {}
        () = look_after(app) => {}
    }
}

/// Answers those who come.
pub(crate) async fn answer(app: Arc<App>, listener: TcpListener) {
    let crowd = Crowd::new(CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX);
    receive(listener, app.tls.clone(), crowd, router(app)).await;
}

/// Follows the state and looks after policies.
pub(crate) async fn look_after(app: Arc<App>) {
    tokio::select! {
        () = Arc::clone(&app).follow() => {}
        () = app.patrol() => {}
    }
}

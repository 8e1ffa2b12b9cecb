//! Connections over HTTP: taken as long as there is room, met under TLS, and known by their address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{Crowd, Place};

/// A handshake must be over within this time.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A request's head must come within this time, and connections may idle for it.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// What is kept of a request that is not read yet, in bytes.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The pause after a connection could not be taken: mostly for want of descriptors.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// The address of the other end, which requests carry among their extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Takes connections and has their requests answered. Never returns.
pub async fn receive(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    crowd: Crowd<IpAddr>,
    router: Router,
) {
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // A connection that ended at once, or no room for more: others go on.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(FAILURE_PAUSE).await;
                continue;
            }
        };
        let from = address.ip();
        let Some(place) = crowd.enter(from) else { continue };
        let router = router.clone().layer(axum::Extension(Peer(from)));
        let tls = tls.clone();
        tokio::spawn(async move {
            let place = Arc::new(place);
            tokio::select! {
                () = meet(stream, from, router, tls, &place) => {}
                () = place.told_to_leave() => {}
            }
        });
    }
}

async fn meet(
    stream: TcpStream,
    from: IpAddr,
    router: Router,
    tls: Option<TlsAcceptor>,
    place: &Arc<Place<IpAddr>>,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => attend(stream, router, place).await,
            Ok(Err(error)) => tracing::debug!(%error, %from, "a handshake failed"),
            Err(_) => tracing::debug!(%from, "a handshake took too long"),
        },
        None => attend(stream, router, place).await,
    }
}

/// Answers the requests of one connection, which has a place for as long.
pub async fn attend<S, K>(stream: S, router: Router, place: &Arc<Place<K>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    K: Ord + Clone + Send + 'static,
{
    let place = Arc::clone(place);
    let router = router.layer(axum::middleware::from_fn(move |request: Request, next: Next| {
        let place = Arc::clone(&place);
        async move {
            place.begin();
            let response = next.run(request).await;
            // A stream goes on being told.
            let stream = HeaderValue::from_static("text/event-stream");
            if response.headers().get(header::CONTENT_TYPE) != Some(&stream) {
                place.end();
            }
            response
        }
    }));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

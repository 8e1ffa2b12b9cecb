//! The service as a part of a node: it looks after policies whether or not it is listening, and tells how many
//! devices are free.
//!
//! ```text
//!   station ──► count ──► tell     at first, and when it has changed
//!      │          └─ a look at all processes: so often that it takes a five-hundredth of a processor at most
//!      └──► HTTP, if an address is said: taken by somebody else, it is tried again and again
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::server::{App, Options, ServeError, answer, look_after};
use crate::usage::{self, Usage};

/// The least time between two counts.
const COUNTS_APART: Duration = Duration::from_secs(1);

/// And so many times what the last one took.
const COUNT_SHARE: u32 = 500;

/// How long devices may take for their first samples before they are counted.
const SETTLE: Duration = Duration::from_secs(5);

/// The pause before an address is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Looks after the devices until `tell`, which hears what of them is used, returns `false`.
/// `listens`: at the address of the options.
pub fn reside(
    options: &Options,
    listens: bool,
    tell: impl FnMut(&Usage) -> bool + Send + 'static,
) -> Result<(), ServeError> {
    let app = Arc::new(App::new(options)?);
    let counted = Arc::clone(&app);
    let counter = std::thread::Builder::new().name("xpu-counter".to_owned());
    let (ended, end) = tokio::sync::oneshot::channel();
    let counter = counter.spawn(move || {
        keep_counting(&counted, tell);
        // Fails only if there is nobody to be ended any more.
        let _ = ended.send(());
    });
    counter.map_err(ServeError::Start)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(ServeError::Start)?;
    runtime.block_on(async {
        tokio::select! {
            () = serve(Arc::clone(&app), options), if listens => {}
            () = look_after(app) => {}
            _ = end => {}
        }
    });
    runtime.shutdown_background();
    Ok(())
}

/// Answers those who come, as soon as the address can be had.
async fn serve(app: Arc<App>, options: &Options) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(options.listen).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                tracing::warn!(address = %options.listen, %error, "accelerators cannot be served there yet");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    };
    tracing::info!(address = %options.listen, tls = options.tls.is_some(), "serving accelerators");
    answer(app, listener).await;
}

fn keep_counting(app: &App, mut tell: impl FnMut(&Usage) -> bool) {
    app.station.settle(SETTLE);
    let mut told: Option<Usage> = None;
    loop {
        let begun = Instant::now();
        let state = app.keeper.state();
        let drained: BTreeSet<&str> = state.drained().map(|(device, _)| device).collect();
        let usage = usage::usage(&app.station, &drained);
        if told.as_ref() != Some(&usage) && !tell(&usage) {
            return;
        }
        told = Some(usage);
        std::thread::sleep(COUNTS_APART.max(begun.elapsed() * COUNT_SHARE));
    }
}

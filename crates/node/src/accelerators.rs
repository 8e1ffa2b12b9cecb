//! The program that looks after this node's accelerators: it is started, heard, and started again when it ends.
//!
//! ```text
//!   start ──► Devices … Devices ──► it ends ──► nothing is known ──► pause ──► start
//! ```
//!
//! It is a program of its own because it loads vendors' libraries and answers strangers: whatever becomes of it, the
//! daemon goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_wire::local::{Accelerators, XpuOrder, XpuReport};
use tracing::{debug, warn};

use crate::child::{self, ChildError};
use crate::daemon::{Daemon, chain};

/// The pause before it is started again: doubled each time, unless it had lasted.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(2);

impl Daemon {
    /// What is known of this node's accelerators.
    pub(crate) fn accelerators(&self) -> Option<Accelerators> {
        *self.accelerators.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps the program running. Never returns.
    pub(crate) fn look_after_accelerators(self: &Arc<Self>) {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            let outcome = self.run_keeper();
            self.note_accelerators(None);
            if begun.elapsed() > PAUSE_MAX {
                pause = PAUSE;
            }
            match outcome {
                Ok(()) => warn!(again_s = pause.as_secs(), "the program for accelerators has ended"),
                Err(error) => {
                    warn!(error = %chain(&error), again_s = pause.as_secs(), "no program for accelerators");
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn run_keeper(self: &Arc<Self>) -> Result<(), ChildError> {
        let (mut process, socket) = child::spawn(&self.settings.xpu)?;
        let pid = child::pid(&process);
        self.tell(|state| state.book.helper_started(pid));
        let config = self.settings.config.to_string_lossy().into_owned();
        let mut heard = socket.send(&XpuOrder::Start { config }, None);
        while heard.is_ok() {
            heard = match socket.receive() {
                Ok(Some(XpuReport::Devices(devices))) => {
                    debug!(?devices, "accelerators");
                    self.note_accelerators(Some(devices));
                    Ok(())
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
        }
        drop(socket);
        child::reap(&mut process, GRACE);
        self.tell(|state| state.book.helper_gone(pid));
        heard
    }

    fn note_accelerators(&self, devices: Option<Accelerators>) {
        *self.accelerators.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = devices;
    }
}

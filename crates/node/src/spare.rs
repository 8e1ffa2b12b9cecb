//! A deputy and a host program that wait for the next move.
//!
//! Whoever is to move need not wait then until they have begun: they have read what the node's files say, and look whether
//! those are still the same when there is something to do. The next ones are made when these are in use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use minka_wire::local::{DeputyOrder, HostOrder, ZygoteOrder};
use serde::Serialize;
use tracing::{debug, warn};

use crate::child::{ChildError, Helper, PacketSocket};
use crate::daemon::{Daemon, chain};

/// How long after a move the next ones are made: the program has begun by then, and if it did little it has ended, too; who
/// starts one after another finds them.
const PAUSE: Duration = Duration::from_millis(3);

type Program = (Helper, PacketSocket);

/// Those that wait, if there are any.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    deputy: Mutex<Option<Program>>,
    host: Mutex<Option<Program>>,
}

impl Spares {
    fn of(&self, kind: ZygoteOrder) -> std::sync::MutexGuard<'_, Option<Program>> {
        let spare = match kind {
            ZygoteOrder::Deputy => &self.deputy,
            ZygoteOrder::Host => &self.host,
        };
        spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// A deputy program that waits for its first order.
    pub(crate) fn next_deputy(self: &Arc<Self>) -> Result<Program, ChildError> {
        match self.spare(ZygoteOrder::Deputy) {
            Some(deputy) => Ok(deputy),
            None => self.zygote.make(ZygoteOrder::Deputy, &self.settings.deputy),
        }
    }

    /// A host program that waits for its first connection.
    pub(crate) fn next_host(self: &Arc<Self>) -> Result<Program, ChildError> {
        if let Some(host) = self.spare(ZygoteOrder::Host) {
            return Ok(host);
        }
        let host = self.zygote.make(ZygoteOrder::Host, &self.settings.host)?;
        tell(&host, &HostOrder::Start { config: self.config() });
        Ok(host)
    }

    /// One that waits, if it still does.
    fn spare(self: &Arc<Self>, kind: ZygoteOrder) -> Option<Program> {
        let (mut helper, socket) = self.spares.of(kind).take()?;
        if socket.is_open() {
            return Some((helper, socket));
        }
        let (daemon, pid) = (Arc::clone(self), helper.pid());
        debug!(pid, ?kind, "a program that waited has ended");
        std::thread::spawn(move || {
            helper.reap(Duration::ZERO);
            daemon.tell(|state| state.book.helper_gone(pid));
        });
        None
    }

    /// Makes those that do not wait already, in a while.
    pub(crate) fn keep_spares(self: &Arc<Self>) {
        // Only by the zygote: else they cost as much as they save.
        if self.settings.zygote.is_empty() {
            return;
        }
        let daemon = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(PAUSE);
            let (deputy, host) = (&daemon.settings.deputy, &daemon.settings.host);
            daemon.keep_spare(ZygoteOrder::Deputy, deputy, &DeputyOrder::Ready { config: daemon.config() });
            daemon.keep_spare(ZygoteOrder::Host, host, &HostOrder::Start { config: daemon.config() });
        });
    }

    fn keep_spare(
        self: &Arc<Self>,
        kind: ZygoteOrder,
        program: &[std::ffi::OsString],
        order: &impl Serialize,
    ) {
        let mut spare = self.spares.of(kind);
        if spare.is_some() {
            return;
        }
        match self.zygote.make(kind, program) {
            Ok(made) => {
                tell(&made, order);
                let pid = made.0.pid();
                *spare = Some(made);
                drop(spare);
                self.tell(|state| state.book.helper_started(pid));
            }
            Err(error) => warn!(error = %chain(&error), ?kind, "no program waits for the next move"),
        }
    }

    fn config(&self) -> String {
        self.settings.config.to_string_lossy().into_owned()
    }
}

fn tell((helper, socket): &Program, order: &impl Serialize) {
    if let Err(error) = socket.send(order, None) {
        warn!(pid = helper.pid(), error = %chain(&error), "failed to give a program its first order");
    }
}

//! The zygote: one program that becomes deputies and hosts by forking itself.
//!
//! A program that is started anew spends two milliseconds on being loaded and put together, most of it in some six hundred
//! page faults, and each move needs two of them while somebody waits. A fork of one that has all that behind it needs a
//! fifth of that. It is started with the daemon, has one thread, and does nothing but wait for orders:
//!
//! ```text
//! minkad ──ZygoteOrder (+ the child's socket)──► zygote ──fork──► deputy, host
//!        ◄─ZygoteReport─────────────────────────
//! ```
//!
//! The kernel takes the status of what it makes, so the daemon holds those by a pidfd. Where there is no zygote, or it does
//! not answer, programs are started anew.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use minka_wire::local::{ZygoteOrder, ZygoteReport};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tracing::warn;

use crate::child::{self, ChildError, Helper, PacketSocket};
use crate::daemon::chain;

/// How long it may take to fork.
const ANSWER: Duration = Duration::from_secs(2);

/// How long to do without one that failed, before the next is started.
const PAUSE: Duration = Duration::from_secs(10);

/// The zygote, as the daemon has it.
#[derive(Debug)]
pub(crate) struct Zygote {
    /// The program and its arguments; empty where there is to be none.
    program: Vec<OsString>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<(Child, PacketSocket)>,
    failed: Option<Instant>,
}

impl Zygote {
    /// Not started yet.
    pub(crate) fn new(program: &[OsString]) -> Self {
        Self { program: program.to_vec(), state: Mutex::default() }
    }

    /// Starts it, so that it is there when it is needed.
    pub(crate) fn start(&self) {
        if self.program.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running.is_some() || state.failed.is_some_and(|when| when.elapsed() < PAUSE) {
            return;
        }
        match child::spawn(&self.program) {
            Ok(running) => state.running = Some(running),
            Err(error) => state.fail(&error),
        }
    }

    /// Makes a helper program; `program` is the same one to be started anew if need be.
    pub(crate) fn make(
        &self,
        order: ZygoteOrder,
        program: &[OsString],
    ) -> Result<(Helper, PacketSocket), ChildError> {
        self.start();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, socket)) = &state.running {
            match fork(socket, order) {
                Ok(made) => return Ok(made),
                Err(error) => state.fail(&error),
            }
        }
        drop(state);
        let (child, socket) = child::spawn(program)?;
        Ok((Helper::Child(child), socket))
    }
}

impl State {
    fn fail(&mut self, error: &ChildError) {
        warn!(error = %chain(error), "the zygote failed; programs are started anew");
        self.failed = Some(Instant::now());
        if let Some((zygote, _)) = self.running.take() {
            // It may be stuck, and nobody is to wait for it here.
            std::thread::spawn(move || Helper::Child(zygote).reap(Duration::ZERO));
        }
    }
}

fn fork(socket: &PacketSocket, order: ZygoteOrder) -> Result<(Helper, PacketSocket), ChildError> {
    let (near, far) = child::socket_pair()?;
    socket.limit_waiting(Some(ANSWER))?;
    socket.send(&order, Some(far.as_fd()))?;
    match socket.receive()? {
        Some(ZygoteReport::Made { pid }) => {
            // It waits for its first order, so this is still the one.
            let handle = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
            let handle = handle.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
            let handle = handle.map_err(|error| ChildError::Hold(error.into()))?;
            Ok((Helper::Made { pid, handle }, near))
        }
        Some(ZygoteReport::Failed { reason }) => Err(ChildError::NotMade(reason)),
        None => Err(ChildError::NotMade("it has ended".to_owned())),
    }
}

//! The deputy's main thread: it traces the original process and decides what happens to it.
//!
//! ```text
//!                      ┌──────── Armed ◄── Move { at_exec }
//!                      ▼ execve
//!  Move ──prepare──► park ──enter──► away ──┬─ Move ──► (recall, enter elsewhere) ──► away
//!                      │ refused            ├─ Home, Homeward, hard signal ──► recall, release ──► end
//!                      ▼                    ├─ exit, fatal signal ──► end
//!                   release ──► end         ├─ execve ──► away again with the new image
//!                                           └─ host lost ──► before any effect: release; after: SIGKILL ──► end
//! ```
//!
//! Until the guest has had an effect (a forwarded call, a signal), everything of the program is still at home and
//! losing the host costs only the computing since the move: the process goes on from where it was stopped.

use crate::eligible;
use crate::fault::{Fault, Result, chain};
use crate::homecoming;
use crate::orders::Daemon;
use crate::park::{self, Found, Parked};
use crate::record::Record;
use crate::session::{Event, Prepared, Session};
use crate::tracee::{self, Default, default_action};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::process::{Bell, SignalFd, poll_readable};
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Running, Stop, Stopped, Waited};
use minka_link::{Credentials, NodeConfig};
use minka_wire::local::{DeputyOrder, DeputyReport};
use minka_wire::message::{FromHome, FromHost};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Signals that this program takes through a descriptor: a tracee has news; a lease is to be given up.
const WATCHED: [i32; 2] = [17 /* CHLD */, 29 /* IO */];

/// How long the host may take to put a signal into its guest.
const SIGNAL_LIMIT: Duration = Duration::from_secs(5);

/// Everything of a deputy that does not change.
#[derive(Debug)]
pub(crate) struct Deputy {
    pid: i32,
    config: NodeConfig,
    credentials: Credentials,
    daemon: Daemon,
    record: Arc<Record>,
    tracing: Arc<AtomicBool>,
    bell: Arc<Bell>,
    news: SignalFd,
}

/// A process that is away.
struct Away {
    parked: Parked,
    running: Running,
    session: Session,
    /// Where it is going, while the pages that it changed are sent ahead.
    bound: Option<Bound>,
}

/// Where a process is going that is still computing.
enum Bound {
    Home,
    Node(Box<Prepared>),
}

/// What became of a process that was away.
enum Next {
    /// It still is.
    Away(Away),
    /// Go home, for this reason (none: somebody asked for it).
    Home(Away, Option<String>),
    /// Go to another node, which is ready.
    Elsewhere(Away, Box<Prepared>),
    /// It replaced its image.
    Replaced(Stopped, String),
    /// It has ended, or is at home.
    Over(Option<String>),
}

impl Deputy {
    pub(crate) fn new(
        pid: i32,
        config: NodeConfig,
        credentials: Credentials,
        daemon: Daemon,
    ) -> Result<Self> {
        minka_kernel::process::block_signals(&WATCHED);
        let io = |error| Fault::Io("prepare to wait", error);
        Ok(Self {
            pid,
            record: Arc::new(Record::new(&config.run_dir, pid)),
            config,
            credentials,
            daemon,
            tracing: Arc::default(),
            bell: Arc::new(Bell::new().map_err(io)?),
            news: SignalFd::new(&WATCHED).map_err(io)?,
        })
    }

    /// Serves the process until it is an ordinary one again or has ended.
    pub(crate) fn run(&self) {
        let reason = match self.first_move() {
            Ok(reason) => reason,
            Err(error) => {
                self.refuse(&error);
                None
            }
        };
        self.record.clear();
        self.daemon.report(&DeputyReport::Ended { reason });
    }

    fn refuse(&self, error: &Fault) {
        self.daemon.report(&DeputyReport::Refused { reason: chain(error) });
    }

    fn first_move(&self) -> Result<Option<String>> {
        loop {
            match self.daemon.order() {
                Some(DeputyOrder::Move { to, at_exec }) => {
                    let reasons = eligible::reasons(self.pid);
                    // A program that waits to replace its image is judged when it has done so.
                    if let (false, Some(reason)) = (at_exec, reasons.into_iter().next()) {
                        return Err(reason.into());
                    }
                    return if at_exec { self.wait_for_exec(&to) } else { self.leave(Found::Free, to) };
                }
                Some(DeputyOrder::Trace { on }) => self.tracing.store(on, Ordering::Relaxed),
                Some(DeputyOrder::Home) | None => return Ok(None),
                Some(DeputyOrder::Start { .. } | DeputyOrder::Rescue { .. }) => {}
            }
        }
    }

    /// Lets the process run until its `execve`.
    fn wait_for_exec(&self, to: &str) -> Result<Option<String>> {
        let mut task = tracee::seize(self.pid)?;
        self.daemon.report(&DeputyReport::Armed);
        loop {
            task = match task.wait().map_err(Fault::Trace)? {
                Waited::Stopped(task, Stop::Exec) => {
                    return self.leave(Found::AfterExec(task), to.to_owned());
                }
                Waited::Stopped(task, Stop::Signal(signal)) => task.resume(signal).map_err(Fault::Trace)?,
                Waited::Stopped(task, Stop::Group(_)) => task.listen().map_err(Fault::Trace)?,
                Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
                Waited::Still(task) => task,
                Waited::Gone(_) => return Ok(None),
            };
        }
    }

    /// Takes the process from home to a node, and serves it there.
    fn leave(&self, found: Found, to: String) -> Result<Option<String>> {
        let prepared = match Prepared::new(self.pid, &to, &self.config, &self.credentials) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.let_go(found)?;
                return Err(error);
            }
        };
        faultpoint::reach(Point::DeputyPrepared);
        let start = Instant::now();
        let (parked, running) = park::park(self.pid, found, &self.record)?;
        match self.enter(prepared, parked, running, start) {
            Ok(away) => self.serve(away),
            Err((parked, running, error)) => {
                parked.release(running)?;
                Err(error)
            }
        }
    }

    fn let_go(&self, found: Found) -> Result<()> {
        let task = match found {
            Found::Free => return Ok(()),
            Found::AfterExec(task) => task,
        };
        task.detach(0).map_err(Fault::Trace)
    }

    fn enter(
        &self,
        prepared: Prepared,
        parked: Parked,
        running: Running,
        start: Instant,
    ) -> std::result::Result<Away, (Parked, Running, Fault)> {
        match prepared.enter(&parked, &self.daemon, &self.record, &self.tracing, &self.bell) {
            Ok(session) => {
                faultpoint::reach(Point::DeputyAway);
                let freeze_us = start.elapsed().as_micros() as u64;
                let at = Some(session.node.clone());
                self.daemon.report(&DeputyReport::Arrived { at, reason: None, freeze_us });
                Ok(Away { parked, running, session, bound: None })
            }
            Err(error) => Err((parked, running, error)),
        }
    }

    /// Serves a process that is away, until it is at home or has ended.
    fn serve(&self, away: Away) -> Result<Option<String>> {
        let mut away = away;
        loop {
            let next = match self.wait(away) {
                Ok(next) => next,
                Err((away, error)) => return self.lost(away, &error),
            };
            away = match next {
                Next::Away(away) => away,
                Next::Home(away, reason) => return self.go_home(away, reason),
                Next::Elsewhere(away, prepared) => match self.go_elsewhere(away, *prepared)? {
                    Ok(away) => away,
                    Err(reason) => return Ok(reason),
                },
                Next::Replaced(task, node) => return self.again(task, node),
                Next::Over(reason) => return Ok(reason),
            };
        }
    }

    /// Waits for one thing to happen and deals with it.
    fn wait(&self, mut away: Away) -> std::result::Result<Next, (Away, Fault)> {
        if let Some(reason) = away.session.postponed.take() {
            return Ok(Next::Home(away, Some(reason)));
        }
        if let Some(event) = away.session.later.pop() {
            return self.heard(away, event);
        }
        if away.session.has_stream()
            && let Some(bound) = away.bound.take()
        {
            // What could be sent ahead has been.
            return Ok(match bound {
                Bound::Node(prepared) => Next::Elsewhere(away, prepared),
                Bound::Home => Next::Home(away, None),
            });
        }
        let readable = match poll_readable(&[self.news.raw(), self.bell.raw(), self.daemon.raw()], None) {
            Ok(readable) => readable,
            Err(error) => return Err((away, Fault::Io("wait", error))),
        };
        if readable[0] {
            self.news.drain();
            if away.parked.a_lease_is_breaking() {
                return Ok(Next::Home(
                    away,
                    Some("somebody writes to a file that it maps shared".to_owned()),
                ));
            }
            match self.news_of_task(away) {
                Ok(Next::Away(back)) => away = back,
                other => return other,
            }
        }
        if readable[1] {
            self.bell.quiet();
            match away.session.events.try_recv() {
                Ok(event) => {
                    // There may be more.
                    self.bell.ring();
                    return self.heard(away, event);
                }
                Err(_) => return Ok(Next::Away(away)),
            }
        }
        if readable[2] {
            return Ok(match self.daemon.order() {
                Some(DeputyOrder::Move { to, .. }) if to == away.session.node => {
                    self.daemon.report(&DeputyReport::Refused { reason: format!("it is at {to} already") });
                    Next::Away(away)
                }
                Some(DeputyOrder::Move { to, .. }) => {
                    self.prepare(&away.session, to);
                    Next::Away(away)
                }
                Some(DeputyOrder::Trace { on }) => {
                    self.tracing.store(on, Ordering::Relaxed);
                    Next::Away(away)
                }
                Some(DeputyOrder::Home) => return self.set_out(away, Bound::Home),
                Some(DeputyOrder::Start { .. } | DeputyOrder::Rescue { .. }) => Next::Away(away),
                None => Next::Home(away, Some("the node daemon has ended".to_owned())),
            });
        }
        Ok(Next::Away(away))
    }

    /// Lets the next host prepare, in a thread of its own: this one has a process to serve.
    fn prepare(&self, session: &Session, to: String) {
        let (pid, config, credentials) = (self.pid, self.config.clone(), self.credentials.clone());
        let (events, bell) = (session.events_in.clone(), Arc::clone(&self.bell));
        std::thread::spawn(move || {
            let prepared = Prepared::new(pid, &to, &config, &credentials);
            // The main thread has gone if nobody receives it; then the host notices that its lanes are cut.
            let _ = events.send(Event::Ready(Box::new(prepared)));
            bell.ring();
        });
    }

    /// The process is to go somewhere: what it has changed is sent ahead while it computes on.
    fn set_out(&self, mut away: Away, bound: Bound) -> std::result::Result<Next, (Away, Fault)> {
        match away.session.precopy(&self.bell) {
            // It was on its way already: now it is going there.
            Ok(_) => {
                away.bound = Some(bound);
                Ok(Next::Away(away))
            }
            Err(error) => Err((away, error)),
        }
    }

    fn heard(&self, mut away: Away, event: Event) -> std::result::Result<Next, (Away, Fault)> {
        match event {
            Event::Said(FromHost::Homeward { reason }) => Ok(Next::Home(away, Some(reason))),
            Event::Said(FromHost::SignalTaken) => Ok(Next::Away(away)),
            Event::Said(other) => Err((away, Fault::Said(format!("the host said {other:?}")))),
            Event::Ready(prepared) => match *prepared {
                Ok(prepared) => self.set_out(away, Bound::Node(Box::new(prepared))),
                Err(error) => {
                    self.refuse(&error);
                    Ok(Next::Away(away))
                }
            },
            Event::Precopied(stream) => {
                away.session.restore_stream(stream);
                Ok(Next::Away(away))
            }
            Event::Lost(reason) => Err((away, Fault::Said(reason))),
        }
    }

    fn news_of_task(&self, away: Away) -> std::result::Result<Next, (Away, Fault)> {
        let Away { parked, running, mut session, bound } = away;
        match running.try_wait() {
            Ok(Waited::Still(running)) => Ok(Next::Away(Away { parked, running, session, bound })),
            Ok(Waited::Stopped(task, stop)) => match self.stopped(parked, task, stop, session)? {
                Next::Away(away) => Ok(Next::Away(Away { bound, ..away })),
                other => Ok(other),
            },
            Ok(Waited::Gone(_)) => {
                parked.ring.end();
                session.close();
                Ok(Next::Over(None))
            }
            // Cannot happen to a process that we trace; if it does, it is not ours any more.
            Err(error) => {
                parked.ring.end();
                // Nobody is left to be told.
                let _ = session.say(&FromHome::Bye);
                session.close();
                Ok(Next::Over(Some(format!("failed to wait for the process: {error}"))))
            }
        }
    }

    fn stopped(
        &self,
        mut parked: Parked,
        task: Stopped,
        stop: Stop,
        mut session: Session,
    ) -> std::result::Result<Next, (Away, Fault)> {
        let signal = match stop {
            Stop::Signal(signal) => signal,
            Stop::Exec => {
                parked.ring.end();
                let node = session.node.clone();
                session.close();
                return Ok(Next::Replaced(task, node));
            }
            _ => return resumed(parked, task, 0, session, Next::Away),
        };
        let status = Status::read(self.pid).unwrap_or_default();
        let bit = 1u64 << (signal - 1);
        let fate = if status.ignored & bit != 0 {
            Fate::Native
        } else if status.caught & bit != 0 {
            if session.shared.temporary_mask.load(Ordering::SeqCst) { Fate::Homeward } else { Fate::Guest }
        } else {
            match default_action(signal) {
                Default::Ignore | Default::Terminate => Fate::Native,
                Default::Core | Default::Stop => Fate::Homeward,
            }
        };
        match fate {
            Fate::Native => resumed(parked, task, signal, session, Next::Away),
            Fate::Homeward => match tracee::postpone(task, signal, &mut parked.held) {
                Ok(running) => {
                    let reason = format!("signal {signal}");
                    Ok(Next::Home(Away { parked, running, session, bound: None }, Some(reason)))
                }
                Err(error) => vanished(parked, session, &error),
            },
            Fate::Guest => {
                if let Err(error) = hand_over(self.pid, &task, signal, &mut session) {
                    return match task.resume(0) {
                        Ok(running) => Err((Away { parked, running, session, bound: None }, error)),
                        Err(_) => vanished(parked, session, &error),
                    };
                }
                if let Err(error) = tracee::end_forwarded_call(&task, parked.ring.after_call()) {
                    return vanished(parked, session, &error);
                }
                resumed(parked, task, 0, session, Next::Away)
            }
        }
    }

    fn go_home(&self, away: Away, reason: Option<String>) -> Result<Option<String>> {
        let start = Instant::now();
        let Away { mut parked, running, mut session, .. } = away;
        match homecoming::bring_home(&mut parked, running, &mut session) {
            Ok(running) => {
                session.close();
                parked.release(running)?;
                self.record.clear();
                let freeze_us = start.elapsed().as_micros() as u64;
                self.daemon.report(&DeputyReport::Arrived { at: None, reason, freeze_us });
                Ok(None)
            }
            Err(error) => Ok(self.end(parked, session, &error)),
        }
    }

    /// From one host to another, which has prepared itself.
    fn go_elsewhere(
        &self,
        away: Away,
        prepared: Prepared,
    ) -> Result<std::result::Result<Away, Option<String>>> {
        let start = Instant::now();
        let Away { mut parked, running, mut session, .. } = away;
        let running = match homecoming::bring_home(&mut parked, running, &mut session) {
            Ok(running) => running,
            Err(error) => return Ok(Err(self.end(parked, session, &error))),
        };
        session.close();
        self.record.parking(&parked.thread, &parked.thread.registers);
        self.record.parked(&parked.thread, parked.ring.range());
        let mask = parked.thread.mask;
        let running = parked.with_mask(running, mask)?;
        match self.enter(prepared, parked, running, start) {
            Ok(away) => Ok(Ok(away)),
            Err((parked, running, error)) => {
                parked.release(running)?;
                let reason = Some(chain(&error));
                self.daemon.report(&DeputyReport::Arrived { at: None, reason, freeze_us: 0 });
                Ok(Err(None))
            }
        }
    }

    /// The process has a new image at home, almost empty: the cheapest moment to send it on.
    fn again(&self, task: Stopped, node: String) -> Result<Option<String>> {
        self.record.clear();
        match self.leave(Found::AfterExec(task), node) {
            Ok(reason) => Ok(reason),
            Err(error) => {
                let reason = Some(chain(&error));
                self.daemon.report(&DeputyReport::Arrived { at: None, reason, freeze_us: 0 });
                Ok(None)
            }
        }
    }

    /// The host is lost.
    fn lost(&self, away: Away, error: &Fault) -> Result<Option<String>> {
        let Away { parked, running, session, .. } = away;
        if session.shared.committed.load(Ordering::SeqCst) {
            return Ok(self.end(parked, session, error));
        }
        let reason =
            format!("{} was lost before the process had any effect there: {}", session.node, chain(error));
        session.close();
        parked.release(running)?;
        self.record.clear();
        self.daemon.report(&DeputyReport::Arrived { at: None, reason: Some(reason), freeze_us: 0 });
        Ok(None)
    }

    /// What the guest computed is lost, so the process ends, as by SIGKILL.
    fn end(&self, parked: Parked, session: Session, error: &Fault) -> Option<String> {
        let reason = format!("lost while it was at {}: {}", session.node, chain(error));
        tracing::error!(pid = self.pid, %reason, "the process is ended");
        parked.ring.end();
        if let Ok(process) = minka_kernel::process::PidFd::open(self.pid) {
            // It may have ended by itself.
            let _ = process.signal(tracee::libc_signal::KILL);
        }
        session.close();
        Some(reason)
    }
}

/// Where a signal that arrived at home is dealt with.
enum Fate {
    /// By Linux, at home.
    Native,
    /// In the guest, by its handler.
    Guest,
    /// At home, after the guest has come back.
    Homeward,
}

/// Has the host make the signal pending in the guest, and waits until it is. Only then may the call that it
/// interrupted return its restart code there.
fn hand_over(pid: i32, task: &Stopped, signal: i32, session: &mut Session) -> Result<()> {
    session.shared.commit();
    session.shared.signalled.store(true, Ordering::SeqCst);
    let info = task.signal_info().map_err(Fault::Trace)?.to_vec();
    session.say(&FromHome::Signal { tid: pid, signal, info })?;
    let until = Instant::now() + SIGNAL_LIMIT;
    loop {
        match session.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Said(FromHost::SignalTaken)) => return Ok(()),
            Ok(Event::Said(FromHost::Homeward { reason })) => session.postponed = Some(reason),
            Ok(Event::Precopied(stream)) => session.restore_stream(stream),
            Ok(ready @ Event::Ready(_)) => session.later.push(ready),
            Ok(Event::Said(other)) => {
                return Err(Fault::Said(format!("the host said {other:?} to a signal")));
            }
            Ok(Event::Lost(reason)) => return Err(Fault::Said(reason)),
            Err(_) => {
                return Err(Fault::Said(format!("the host did not take a signal within {SIGNAL_LIMIT:?}")));
            }
        }
    }
}

/// Lets the task go on; if it cannot, it has been killed, and its end will be seen.
fn resumed(
    parked: Parked,
    task: Stopped,
    signal: i32,
    session: Session,
    next: impl FnOnce(Away) -> Next,
) -> std::result::Result<Next, (Away, Fault)> {
    match task.resume(signal) {
        Ok(running) => Ok(next(Away { parked, running, session, bound: None })),
        Err(error) => vanished(parked, session, &Fault::Trace(error)),
    }
}

/// The original process was killed under our hands.
fn vanished(parked: Parked, session: Session, error: &Fault) -> std::result::Result<Next, (Away, Fault)> {
    parked.ring.end();
    session.close();
    tracing::info!(pid = parked.pid, error = chain(error), "the process was killed");
    Ok(Next::Over(None))
}

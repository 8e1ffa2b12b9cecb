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

mod attend;
mod leaving;

use crate::away::{Away, Bound, Step};
use crate::eligible::Reason;
use crate::ends;
use crate::fault::{Fault, Result, chain};
use crate::homecoming;
use crate::kin::Kin;
use crate::load;
use crate::offer::Offer;
use crate::orders::Daemon;
use crate::park::Found;
use crate::parked::Parked;
use crate::record::Record;
use crate::rest::Rest;
use crate::session::{Event, Offered, Prepared, Session};
use crate::tracee::Tasks;
use minka_image::family::How;
use minka_kernel::courtesy;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::process::Bell;
use minka_kernel::ptrace::Stopped;
use minka_kernel::spawn::{SignalQueue, wait_readable};
use minka_link::{CurrentCredentials, NodeConfig};
use minka_wire::local::{DeputyOrder, DeputyReport};
use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Signals that this program takes through a descriptor: a tracee has news; a lease is to be given up.
pub(crate) const WATCHED: [i32; 2] = [17 /* CHLD */, 29 /* IO */];

/// Everything of a deputy that does not change.
#[derive(Debug)]
pub(crate) struct Deputy {
    pid: i32,
    config: NodeConfig,
    /// Not those of its beginning: the node may have got others since.
    credentials: CurrentCredentials,
    daemon: Daemon,
    record: Arc<Record>,
    tracing: Arc<AtomicBool>,
    bell: Arc<Bell>,
    news: SignalQueue,
    /// This node is short of memory: what the process has of it is at its host.
    gives_back: Cell<bool>,
    /// It was at an instruction that a host's processor did not know: whatever it was started to do without, it needs it.
    needs_all: Cell<bool>,
    /// Threads of the process, at home again, that have to finish a call.
    rests: RefCell<Vec<Rest>>,
    /// Those with whom it moves at present.
    kin: RefCell<Option<Arc<Kin>>>,
}

impl Deputy {
    pub(crate) fn new(
        pid: i32,
        config: NodeConfig,
        credentials: CurrentCredentials,
        daemon: Daemon,
    ) -> Result<Self> {
        let io = |error| Fault::Io("prepare to wait", error);
        Ok(Self {
            pid,
            record: Arc::new(Record::new(&config.run_dir, pid)),
            config,
            credentials,
            daemon,
            tracing: Arc::default(),
            bell: Arc::new(Bell::new().map_err(io)?),
            news: SignalQueue::new(&WATCHED).map_err(io)?,
            gives_back: Cell::new(false),
            needs_all: Cell::new(false),
            rests: RefCell::default(),
            kin: RefCell::default(),
        })
    }

    /// Serves the process until it is an ordinary one again or has ended.
    pub(crate) fn run(&self) {
        let mut outcome = self.first_move();
        let reason = loop {
            let reason = match outcome {
                Ok(reason) => reason,
                Err(Fault::Lost(reason)) => Some(reason),
                Err(error) => {
                    self.refuse(&error);
                    None
                }
            };
            outcome = match self.attend() {
                Ok(Some((found, to, family))) => self.leave_with(family, found, to),
                Ok(None) => break reason,
                Err(error) => {
                    tracing::error!(pid = self.pid, error = chain(&error), "a call could not be attended to");
                    break reason;
                }
            };
        };
        self.record.clear();
        self.daemon.report_end(reason);
    }

    fn refuse(&self, error: &Fault) {
        let shares = matches!(error, Fault::CannotMove(Reason::SharedWith { .. }));
        self.daemon.report(&DeputyReport::Refused { reason: chain(error), shares });
    }

    /// Serves a process that is away, until it is at home or has ended. Returns why it was ended.
    fn serve(&self, away: Away) -> Result<Option<String>> {
        let mut away = away;
        loop {
            away = match self.step(&mut away) {
                Ok(Step::Stay) => continue,
                Ok(Step::Home(reason)) => match self.go_home(away, self.called_home(reason))? {
                    Some(away) => away,
                    None => return Ok(None),
                },
                Ok(Step::Elsewhere(prepared)) => match self.go_elsewhere(away, *prepared)? {
                    Some(away) => away,
                    None => return Ok(None),
                },
                Ok(Step::Replaced(task)) => return self.again(task, away),
                Ok(Step::Over) => {
                    courtesy::nothing_is_left_to_do();
                    away.into_parts().2.close();
                    return Ok(None);
                }
                Err(error) => {
                    let (parked, tasks, session) = away.into_parts();
                    if tasks.is_empty() {
                        // It ended at the same time.
                        parked.agents.ring().end();
                        session.close();
                    } else {
                        self.lost(parked, tasks, session, &error)?;
                    }
                    return Ok(None);
                }
            };
        }
    }

    /// The whole family goes home when one has to. Says why.
    fn called_home(&self, reason: Option<String>) -> Option<String> {
        if let Some(kin) = self.kin().filter(|kin| kin.called().is_none()) {
            kin.call(How::Urgent);
        }
        reason
    }

    /// Waits for something to happen and deals with it.
    fn step(&self, away: &mut Away) -> Result<Step> {
        let due = away.with_kin(&self.bell)?;
        if !matches!(due, Step::Stay) {
            return Ok(due);
        }
        if let Some(why) = away.memory_is_wanted() {
            return Ok(Step::Home(Some(why.to_owned())));
        }
        let due = away.due();
        if !matches!(due, Step::Stay) {
            return Ok(due);
        }
        if let Some(event) = away.next_event() {
            return self.event(away, event);
        }
        let due = away.give_back()?;
        if !matches!(due, Step::Stay) {
            return Ok(due);
        }
        let [news, told, ordered] =
            wait_readable(&[self.news.as_fd(), self.bell.as_fd(), self.daemon.as_fd()], away.pause())
                .map_err(|error| Fault::Io("wait", error))?[..]
        else {
            unreachable!("three descriptors have three answers");
        };
        if told {
            // The events themselves are taken the next time round.
            self.bell.quiet();
        }
        if news {
            while self.news.next_arrived().is_some() {}
            away.yield_to_writers();
            if away.a_lease_is_breaking() {
                return Ok(Step::Home(Some("somebody writes to a file that it maps shared".to_owned())));
            }
            return away.look();
        }
        if ordered && !told { self.order(away) } else { Ok(Step::Stay) }
    }

    fn event(&self, away: &mut Away, event: Event) -> Result<Step> {
        match event {
            Event::Said(said) => away.heard(said),
            Event::Precopied(stream) => {
                away.precopied(stream);
                Ok(Step::Stay)
            }
            Event::Ready(prepared) => {
                match *prepared {
                    Ok(prepared) => away.set_out(Bound::Node(Box::new(prepared)), &self.bell)?,
                    Err(error) => self.refuse(&error),
                }
                Ok(Step::Stay)
            }
            Event::Homeward(reason) => Ok(Step::Home(Some(reason))),
            Event::Late(tid) => Ok(away.interrupt(tid)),
            Event::Lost(reason) => Err(Fault::Said(reason)),
        }
    }

    /// Carries out an order for a process that is away.
    fn order(&self, away: &mut Away) -> Result<Step> {
        match self.daemon.order() {
            Some(DeputyOrder::Move { to, .. }) if to == away.session().node => {
                self.daemon.report(&DeputyReport::Refused {
                    reason: format!("it is at {to} already"),
                    shares: false,
                });
            }
            Some(DeputyOrder::Move { .. }) if self.kin().is_some() => {
                let reason = "those that share its memory have to come home before".to_owned();
                self.daemon.report(&DeputyReport::Refused { reason, shares: true });
            }
            Some(DeputyOrder::Move { to, needs_all, .. }) => {
                self.needs_all.set(needs_all);
                self.prepare(away.session(), to);
            }
            Some(DeputyOrder::Home) => match self.kin() {
                Some(kin) => kin.call(How::Ordered),
                None => away.set_out(Bound::Home, &self.bell)?,
            },
            Some(DeputyOrder::GiveBack) => {
                self.gives_back.set(true);
                away.ask_for_all()?;
            }
            Some(DeputyOrder::Trace { on }) => self.tracing.store(on, Ordering::Relaxed),
            Some(
                DeputyOrder::Ready { .. }
                | DeputyOrder::Start { .. }
                | DeputyOrder::Rescue { .. }
                | DeputyOrder::Address { .. },
            ) => {}
            None => return Ok(Step::Home(Some("the node daemon has ended".to_owned()))),
        }
        Ok(Step::Stay)
    }

    /// Lets the next host prepare, in a thread of its own: this one has a process to serve.
    fn prepare(&self, session: &Session, to: String) {
        let (pid, config, credentials) = (self.pid, self.config.clone(), self.credentials.get());
        let (events, bell) = (session.events_in.clone(), Arc::clone(&self.bell));
        let address = self.daemon.address(&to);
        let needs_all = self.needs_all.get();
        std::thread::spawn(move || {
            let offered = Offer::new(pid, &config, None, needs_all)
                .and_then(|offer| Offered::new(offer, &to, address, &config, &credentials, None));
            let prepared = offered.and_then(Offered::prepare);
            // The main thread has gone if nobody receives it; then the host notices that its lanes are cut.
            let _ = events.send(Event::Ready(Box::new(prepared)));
            bell.ring();
        });
    }

    fn arrived_home(&self, reason: Option<String>, start: Instant) {
        self.record.clear();
        let freeze_us = start.elapsed().as_micros() as u64;
        self.daemon.report_arrival(None, reason, freeze_us);
    }

    /// Brings a process home. `None`: it is there, or has ended; otherwise it could not be stopped.
    fn go_home(&self, away: Away, reason: Option<String>) -> Result<Option<Away>> {
        let start = Instant::now();
        match self.bring_home(away, reason.clone())? {
            Home::There(parked, tasks) => {
                self.release(*parked, tasks)?;
                self.arrived_home(reason, start);
                Ok(None)
            }
            Home::Away(away) => Ok(Some(*away)),
            Home::Over => Ok(None),
        }
    }

    /// From one host to another, which has prepared itself. `None`: it is at home, or has ended.
    fn go_elsewhere(&self, away: Away, prepared: Prepared) -> Result<Option<Away>> {
        let start = Instant::now();
        let (mut parked, tasks) = match self.bring_home(away, None)? {
            Home::There(parked, tasks) => (*parked, tasks),
            Home::Away(away) => return Ok(Some(*away)),
            Home::Over => return Ok(None),
        };
        parked.put_back_signals(false)?;
        parked.take_due_signals()?;
        let tasks = parked.with_masks(tasks, |thread| thread.mask)?;
        match self.enter(prepared, parked, tasks, start) {
            Ok(away) => Ok(Some(away)),
            Err(back) => {
                let error = self.come_back(*back)?;
                self.arrived_home(Some(chain(&error)), start);
                Ok(None)
            }
        }
    }

    /// Has everything of the guest in the parked process again, and the session with its host ended.
    fn bring_home(&self, away: Away, reason: Option<String>) -> Result<Home> {
        let (mut parked, mut tasks, mut session) = away.into_parts();
        let kin = self.kin();
        let is_called = kin.as_ref().is_some_and(|kin| kin.called().is_some_and(|call| !kin.is_caller(call)));
        let outcome = homecoming::bring_home(&mut parked, &mut tasks, &mut session);
        match outcome {
            Ok(()) if !tasks.is_empty() => {
                self.record.parked(&parked.threads());
                if let Some(kin) = kin
                    && let Err(error) = kin.all_home(session.shared.patience)
                {
                    return self.lost(parked, tasks, session, &error).map(|()| Home::Over);
                }
                faultpoint::reach(Point::DeputyReturned);
                session.close();
                Ok(Home::There(Box::new(parked), tasks))
            }
            Err(Fault::CannotStop) => {
                match reason {
                    // Who has called all others home calls them again.
                    Some(_) if is_called => {}
                    Some(reason) => session.postponed = Some(reason),
                    None => self.refuse(&Fault::CannotStop),
                }
                Ok(Home::Away(Box::new(Away::new(parked, tasks, session))))
            }
            Ok(()) | Err(Fault::Gone(_)) => {
                parked.agents.ring().end();
                session.close();
                Ok(Home::Over)
            }
            Err(error) => self.lost(parked, tasks, session, &error).map(|()| Home::Over),
        }
    }

    /// The process has a new image at home, almost empty: the cheapest moment to send it on.
    fn again(&self, task: Stopped, away: Away) -> Result<Option<String>> {
        let start = Instant::now();
        let (_, _, session) = away.into_parts();
        let node = session.node.clone();
        session.close();
        self.record.clear();
        let Some(task) = load::load(task, &self.news)? else { return Ok(None) };
        match self.leave(Found::AfterExec(task), node, None) {
            Err(error @ Fault::Lost(_)) => Err(error),
            Err(error) => {
                self.arrived_home(Some(chain(&error)), start);
                Ok(None)
            }
            ended => ended,
        }
    }

    /// The host is lost. Before the guest has had an effect that costs only what it computed, and the process goes on
    /// from where it was stopped.
    fn lost(&self, parked: Parked, tasks: Tasks, session: Session, error: &Fault) -> Result<()> {
        let start = Instant::now();
        let kin = session.shared.kin.clone();
        if (kin.is_some() || parked.sole.outlives()) && ends::is_its_end(self.pid, error, kin.as_deref()) {
            // It was killed under our hands; of its host nothing is known to be wrong.
            let mut session = session;
            ends::early(&parked, &mut session);
            parked.agents.ring().end();
            session.close();
            return Ok(());
        }
        if tasks.is_empty() || !session.shared.forget(error) {
            return Err(session.end(&parked, error));
        }
        let reason =
            format!("{} was lost before the process had any effect there: {}", session.node, chain(error));
        session.close();
        self.release(parked, tasks)?;
        self.arrived_home(Some(reason), start);
        Ok(())
    }
}

/// What came of bringing a process home.
enum Home {
    There(Box<Parked>, Tasks),
    /// It could not be stopped and stays where it is.
    Away(Box<Away>),
    /// It has ended, or goes on at home because its host was lost.
    Over,
}

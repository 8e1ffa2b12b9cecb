//! The way out: when a process leaves, with whom, and what becomes of it if it cannot.

use super::Deputy;
use crate::away::Away;
use crate::eligible::{self, Reason};
use crate::ends;
use crate::fault::{Fault, Result, chain};
use crate::kin::Kin;
use crate::load;
use crate::offer::Offer;
use crate::park::{self, Found};
use crate::parked::Parked;
use crate::session::{Offered, Opened, Prepared};
use crate::sole::Sole;
use crate::tracee::{self, Tasks};
use minka_image::family::{Fate, Stage};
use minka_kernel::crew;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::ptrace::{Stop, Waited};
use minka_wire::local::{DeputyOrder, DeputyReport, Family};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A host that has prepared itself, or not; since when the process is being parked; and what came of that.
type Preparation = (Result<Prepared>, Instant, Result<(Parked, Tasks)>);

impl Deputy {
    pub(super) fn first_move(&self) -> Result<Option<String>> {
        loop {
            match self.daemon.order() {
                Some(DeputyOrder::Move { to, at_exec: true, .. }) => return self.wait_for_exec(&to),
                Some(DeputyOrder::Move { to, family, needs_all, .. }) => {
                    self.needs_all.set(needs_all);
                    return self.leave_with(family, Found::Free, to);
                }
                Some(DeputyOrder::Trace { on }) => self.tracing.store(on, Ordering::Relaxed),
                Some(DeputyOrder::Home) | None => return Ok(None),
                Some(
                    DeputyOrder::Ready { .. }
                    | DeputyOrder::Start { .. }
                    | DeputyOrder::Rescue { .. }
                    | DeputyOrder::Address { .. }
                    | DeputyOrder::GiveBack,
                ) => {}
            }
        }
    }

    /// Lets the process run until its `execve`.
    fn wait_for_exec(&self, to: &str) -> Result<Option<String>> {
        let mut task = tracee::seize(self.pid)?;
        self.daemon.report(&DeputyReport::Armed);
        // The host may begin meanwhile. If it cannot, the next attempt says why.
        let (config, credentials, node) = (self.config.clone(), self.credentials.get(), to.to_owned());
        let address = self.daemon.address(to);
        let opening = crew::start(move || Opened::new(&node, address, &config, &credentials).ok());
        loop {
            task = match task.wait().map_err(Fault::Trace)? {
                Waited::Stopped(task, Stop::Exec) => {
                    let Some(task) = load::load(task, &self.news)? else { return Ok(None) };
                    return self.leave(Found::AfterExec(task), to.to_owned(), opening.join().ok().flatten());
                }
                Waited::Stopped(task, Stop::Signal(signal)) => task.resume(signal).map_err(Fault::Trace)?,
                Waited::Stopped(task, Stop::Group(_)) => task.listen().map_err(Fault::Trace)?,
                Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
                Waited::Still(task) => task,
                Waited::Gone(_) => return Ok(None),
            };
        }
    }

    /// The same with all that share memory with the process, if there are any.
    pub(super) fn leave_with(
        &self,
        family: Option<Family>,
        found: Found,
        to: String,
    ) -> Result<Option<String>> {
        let Some(family) = family else {
            // A program that waits to replace its image is judged when it has done so.
            if let (Found::Free, Err(reasons)) = (&found, eligible::judge(self.pid)) {
                return Err(reasons.into_iter().next().unwrap_or(Reason::Gone).into());
            }
            return self.leave(found, to, None);
        };
        let kin = match Kin::open(&self.config.run_dir, &family, self.pid) {
            Ok(kin) => Arc::new(kin),
            Err(error) => {
                self.let_go(found)?;
                return Err(error);
            }
        };
        *self.kin.borrow_mut() = Some(Arc::clone(&kin));
        let outcome = match eligible::own_reasons(self.pid).into_iter().next() {
            Some(reason) => self.let_go(found).and(Err(reason.into())),
            None => self.leave(found, to, None),
        };
        if let Err(error) = &outcome {
            kin.give_up(&chain(error));
        }
        if ends::is_ending(self.pid) {
            ends::see_out(self.pid);
        }
        // Before the ledger is: whoever puts this right needs both.
        self.record.clear();
        *self.kin.borrow_mut() = None;
        kin.leave();
        if kin.fate() == Fate::Lost {
            kin.see_out(self.config.link.answer());
        }
        outcome
    }

    pub(super) fn kin(&self) -> Option<Arc<Kin>> {
        self.kin.borrow().clone()
    }

    /// Takes the process from home to a node, and serves it there.
    pub(super) fn leave(&self, found: Found, to: String, opened: Option<Opened>) -> Result<Option<String>> {
        let address = self.daemon.address(&to);
        let credentials = self.credentials.get();
        let kin = self.kin();
        let family = kin.as_ref().map(|kin| kin.family().id);
        let offered = Offer::new(self.pid, &self.config, family, self.needs_all.get())
            .and_then(|offer| Offered::new(offer, &to, address, &self.config, &credentials, opened));
        let (prepared, start, parking) = match (offered, found) {
            (Ok(offered), found @ Found::AfterExec(_)) => self.prepare_and_park(offered, found),
            (Ok(offered), found) => self.prepare_then_park(offered, found)?,
            (Err(error), found) => {
                self.let_go(found)?;
                return Err(error);
            }
        };
        let (mut parked, tasks) = parking?;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.come_back((parked, tasks, error))?),
        };
        if let Some(kin) = &kin
            && let Err(error) = self.stand_still(kin, &mut parked, self.config.link.freeze())
        {
            return Err(self.come_back((parked, tasks, error))?);
        }
        match self.enter(prepared, parked, tasks, start) {
            Ok(away) => self.serve(away),
            Err(back) => Err(self.come_back(*back)?),
        }
    }

    /// Has a host prepare for a process that computes meanwhile, and then parks it. Nothing has been done to it if that fails.
    fn prepare_then_park(&self, offered: Offered, found: Found) -> Result<Preparation> {
        let kin = self.kin();
        let ready = offered.prepare().and_then(|prepared| {
            kin.as_ref().map_or(Ok(()), |kin| kin.meet(Stage::Prepared, self.config.link.answer()))?;
            Ok(prepared)
        });
        let prepared = match ready {
            Ok(prepared) => prepared,
            Err(error) => {
                self.let_go(found)?;
                return Err(error);
            }
        };
        self.record.prepare();
        faultpoint::reach(Point::DeputyPrepared);
        let start = Instant::now();
        Ok((Ok(prepared), start, park::park(self.pid, found, &self.record, kin.as_deref())))
    }

    /// The same of a process that stands still anyway: both at the same time.
    fn prepare_and_park(&self, offered: Offered, found: Found) -> Preparation {
        let preparing = crew::start(|| offered.prepare());
        self.record.prepare();
        faultpoint::reach(Point::DeputyPrepared);
        let start = Instant::now();
        let parking = park::park(self.pid, found, &self.record, None);
        let parked_in = start.elapsed();
        let prepared = preparing.join();
        let panicked = || Fault::Said("a thread that prepared a host panicked".to_owned());
        // It is not the freezing that waited for the host.
        (prepared.unwrap_or_else(|_| Err(panicked())), Instant::now() - parked_in, parking)
    }

    /// All of a family stand still: then it is seen whether they are all.
    fn stand_still(&self, kin: &Kin, parked: &mut Parked, limit: Duration) -> Result<()> {
        kin.meet(Stage::Parked, limit)?;
        let sole = Sole::of_family(self.pid, &kin.family().members, || kin.turn_to_judge(limit))?;
        parked.sole = Arc::new(sole);
        kin.meet(Stage::Judged, limit)
    }

    /// A process that could not enter a host goes on at home, unless it has ended. Says why it could not.
    pub(super) fn come_back(&self, (parked, tasks, error): (Parked, Tasks, Fault)) -> Result<Fault> {
        if matches!(error, Fault::Lost(_)) {
            return Err(error);
        }
        if let Some(kin) = self.kin()
            && kin.give_up(&chain(&error)) != Fate::Forgotten
        {
            parked.agents.ring().end();
            return Err(crate::parked::end(self.pid, &kin.why()));
        }
        self.release(parked, tasks)?;
        Ok(error)
    }

    pub(super) fn let_go(&self, found: Found) -> Result<()> {
        match found {
            Found::Free => Ok(()),
            Found::AfterExec(task) => task.detach(0).map_err(Fault::Trace),
            Found::InCalls(parts) => parts.into_iter().try_for_each(|part| {
                self.rests.borrow_mut().extend(part.go_on()?);
                Ok(())
            }),
        }
    }

    pub(super) fn enter(
        &self,
        prepared: Prepared,
        mut parked: Parked,
        tasks: Tasks,
        start: Instant,
    ) -> std::result::Result<Away, Box<(Parked, Tasks, Fault)>> {
        let kin = self.kin();
        let (daemon, record, tracing) = (&self.daemon, &self.record, &self.tracing);
        parked.sole.leave();
        match prepared.enter(&parked, daemon, record, tracing, &self.bell, kin.as_ref()) {
            Ok(session) => {
                if let Some(kin) = &kin {
                    kin.arrive(Stage::Away);
                    kin.watch(&self.bell);
                }
                faultpoint::reach(Point::DeputyAway);
                let freeze_us = start.elapsed().as_micros() as u64;
                let at = Some(session.node.clone());
                self.daemon.report_arrival(at, None, freeze_us);
                parked.forget_pending();
                parked.sole.tell(&self.bell);
                let mut away = Away::new(parked, tasks, session);
                if self.gives_back.get() {
                    // If it cannot be said, the connection is cut, and that is told by itself.
                    let _ = away.ask_for_all();
                }
                Ok(away)
            }
            Err(error) => Err(Box::new((parked, tasks, error))),
        }
    }
}

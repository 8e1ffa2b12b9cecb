//! What deputies report, and what follows from it; their deaths included.

use std::time::Instant;

use minka_wire::local::DeputyReport;

use super::{BACK_OFF_MAX, Book, DeputyId, Effect, Outstanding, RESCUE_PAUSE, RESCUES_AT_ONCE, RESCUES_AWAY};
use crate::processes::Identity;
use crate::protocol::{Answer, Event, Migrated, Refusal};

impl Book {
    /// A deputy reports.
    pub(crate) fn report(&mut self, now: Instant, id: DeputyId, report: DeputyReport) {
        let Some(pid) = self.pid_of(id) else { return };
        match report {
            DeputyReport::Armed => self.armed(pid),
            DeputyReport::Arrived { at: Some(at), reason: _, freeze_us, calls: _ } if at != self.node => {
                self.arrived_away(now, pid, at, freeze_us);
            }
            DeputyReport::Arrived { at: _, reason, freeze_us, calls: _ } => {
                self.arrived_home(now, pid, reason, freeze_us);
            }
            DeputyReport::NeedsAll => {
                if let Some(record) = self.records.get_mut(&pid) {
                    record.needs_all = true;
                }
            }
            DeputyReport::Refused { reason, shares } => {
                if let Some(record) = self.records.get_mut(&pid) {
                    record.shares |= shares;
                }
                self.refused(now, pid, reason);
            }
            DeputyReport::Trace { line } => self.publish(pid, Event::Call { line }),
            DeputyReport::TraceLost { lines } => self.publish(pid, Event::Lost { lines }),
            DeputyReport::Ended { reason, calls: _ } => self.ended(pid, reason),
        }
    }

    fn armed(&mut self, pid: i32) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let Some(order) = record.order.as_mut().filter(|order| order.at_exec) else { return };
        order.armed = true;
        record.wanted = order.target.wish();
        let ticket = order.ticket.take();
        self.answer(ticket, Answer::Armed);
    }

    fn arrived_away(&mut self, now: Instant, pid: i32, at: String, freeze_us: u64) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        record.away_at = Some(at.clone());
        record.away_since = Some(now);
        record.moves += 1;
        self.arrivals += 1;
        record.freeze_us = Some(freeze_us);
        record.fault = None;
        record.rescues = 0;
        record.back_off.due = None;
        let order = record.order.take();
        if let Some(order) = &order {
            record.wanted = order.target.wish();
            if order.family.is_none() {
                (record.family, record.shares) = (None, false);
            }
        }
        let with = record.others();
        self.peers.set_reachable(&at, true);
        let ticket = order.and_then(|order| order.ticket);
        self.answer(ticket, Answer::Migrated(Migrated { pid, at: at.clone(), moved: true, freeze_us, with }));
        self.publish(pid, Event::Arrived { at, home: false, reason: None, freeze_us });
    }

    fn arrived_home(&mut self, now: Instant, pid: i32, reason: Option<String>, freeze_us: u64) {
        let node = self.node.clone();
        let Some(record) = self.records.get_mut(&pid) else { return };
        let was_away = record.away_at.take().is_some();
        record.gives_back = false;
        if was_away {
            record.moves += 1;
            self.arrivals += 1;
            record.freeze_us = Some(freeze_us);
        }
        // An order for the next `execve` stands: that call is made at home.
        if record.order.as_ref().is_some_and(|order| order.armed) && record.deputy.is_some() {
            self.publish(pid, Event::Arrived { at: node, home: true, reason, freeze_us });
            return;
        }
        let with = record.others();
        let order = record.order.take();
        let by_order = order.as_ref().is_some_and(|order| order.to.is_none());
        if by_order {
            record.wanted = None;
            record.away_since = None;
        } else {
            record.reason.clone_from(&reason);
            record.plan_departure(now);
        }
        let answer = match (&reason, by_order) {
            (Some(reason), false) => {
                Answer::Refused(Refusal::NotMoved { pid, at: node.clone(), reason: reason.clone() })
            }
            (None, false) => {
                let reason = "it came home instead".to_owned();
                Answer::Refused(Refusal::NotMoved { pid, at: node.clone(), reason })
            }
            (_, true) => {
                Answer::Migrated(Migrated { pid, at: node.clone(), moved: was_away, freeze_us, with })
            }
        };
        self.answer(order.and_then(|order| order.ticket), answer);
        self.publish(pid, Event::Arrived { at: node, home: true, reason, freeze_us });
    }

    fn refused(&mut self, now: Instant, pid: i32, reason: String) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let Some(order) = record.order.take() else { return };
        record.reason = Some(reason.clone());
        // Nobody waits for the answer, so it is for the book to try again.
        if order.ticket.is_none() && record.away_at.is_none() {
            record.plan_departure(now);
        }
        let at = record.away_at.clone().unwrap_or_else(|| self.node.clone());
        self.answer(order.ticket, Answer::Refused(Refusal::NotMoved { pid, at, reason }));
    }

    /// A deputy says that it ends; what follows is decided when it is gone.
    fn ended(&mut self, pid: i32, reason: Option<String>) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let Some(deputy) = record.deputy.as_mut() else { return };
        deputy.ended = true;
        if reason.is_some() {
            record.fault = reason;
        }
        // An order that crossed the report on its way was never read.
        if let Some(order) = record.order.as_mut().filter(|order| !order.armed && order.to.is_some()) {
            order.again = !order.given_again;
        }
    }

    /// A deputy program could not be started.
    pub(crate) fn spawn_failed(&mut self, now: Instant, id: DeputyId, reason: &str) {
        let Some(pid) = self.pid_of(id) else { return };
        let at = self.node.clone();
        let Some(record) = self.records.get_mut(&pid) else { return };
        if record.deputy.take().is_some_and(|deputy| deputy.rescuing) {
            let (away_at, order) = (record.away_at.clone(), record.order.take());
            return self.rescue(now, pid, away_at.as_deref(), order);
        }
        record.reason = Some(reason.to_owned());
        let ticket = record.order.take().and_then(|order| order.ticket);
        let reason = reason.to_owned();
        self.answer(ticket, Answer::Refused(Refusal::NotMoved { pid, at, reason }));
    }

    /// A deputy program is gone, and reaped. `alive` says whether its process still runs.
    pub(crate) fn deputy_gone(&mut self, now: Instant, id: DeputyId, alive: bool) {
        let Some(pid) = self.pid_of(id) else { return };
        let Some(record) = self.records.get_mut(&pid) else { return };
        let Some(deputy) = record.deputy.take() else { return };
        let order = record.order.take();
        match (deputy.ended, alive, record.away_at.clone()) {
            (true, true, away_at) => {
                self.home_for_good(now, pid, away_at.is_some(), deputy.rescuing, order);
            }
            (true, false, _) => self.finish_with(pid, order, None),
            // Both were killed. Others may be waiting for what this one was about to do: they are told that it will not.
            (false, false, away_at) if record.family.is_some() && record.rescues < RESCUES_AT_ONCE => {
                record.fault = away_at.as_deref().map(|at| died(Some(at)));
                self.rescue(now, pid, away_at.as_deref(), order);
            }
            (false, false, away_at) => {
                self.finish_with(pid, order, away_at.map(|at| died(Some(&at))));
            }
            (false, true, away_at) => self.rescue(now, pid, away_at.as_deref(), order),
        }
    }

    /// A deputy has ended and its process goes on at home.
    fn home_for_good(
        &mut self,
        now: Instant,
        pid: i32,
        was_away: bool,
        rescuing: bool,
        order: Option<Outstanding>,
    ) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        match order {
            Some(mut order) if order.again && order.to.is_some() => {
                order.again = false;
                order.given_again = true;
                self.give(pid, order);
            }
            order => {
                record.order = order;
                // After a rescue the reason is known already.
                let rescued = record.reason.clone().filter(|_| rescuing);
                let fault = record.fault.clone().or(rescued);
                if was_away || record.order.is_some() {
                    self.arrived_home(now, pid, fault, 0);
                }
            }
        }
    }

    fn finish_with(&mut self, pid: i32, order: Option<Outstanding>, reason: Option<String>) {
        if let Some(record) = self.records.get_mut(&pid) {
            record.order = order;
        }
        self.finish(pid, reason);
    }

    /// A deputy died: a new one looks after what it left behind. It knows whether the process can go on.
    fn rescue(&mut self, now: Instant, pid: i32, away_at: Option<&str>, order: Option<Outstanding>) {
        let reason = died(away_at);
        let Some(record) = self.records.get_mut(&pid) else { return };
        record.reason = Some(reason.clone());
        record.rescues += 1;
        let (rescues, identity) = (record.rescues, record.identity.clone());
        let at = away_at.unwrap_or(&self.node).to_owned();
        let ticket = order.and_then(|order| order.ticket);
        self.answer(ticket, Answer::Refused(Refusal::NotMoved { pid, at, reason: reason.clone() }));
        if rescues <= RESCUES_AT_ONCE {
            self.start_deputy(pid, true);
        } else if away_at.is_some() && rescues > RESCUES_AWAY {
            // Nobody can say what it is waiting for, and most likely what it computed is lost.
            self.effects.push(Effect::Kill(identity, reason.clone()));
            self.finish(pid, Some(reason));
        } else {
            self.rescue_later(now, pid, rescues);
        }
    }

    /// Several rescuers have died in a row. Nothing is lost by waiting, so they are given time.
    fn rescue_later(&mut self, now: Instant, pid: i32, rescues: u32) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let doubled = RESCUE_PAUSE.saturating_mul(1 << (rescues - RESCUES_AT_ONCE - 1).min(16));
        let pause = doubled.min(BACK_OFF_MAX);
        record.rescue_due = Some(now + pause);
        let tries = rescues - 1;
        record.reason = Some(format!(
            "deputy program died, and {tries} that were to put it right; it waits for the next"
        ));
    }

    /// Tries those rescues again whose time has come.
    pub(crate) fn rescue_again(&mut self, now: Instant) {
        let is_due = |record: &super::Record| record.rescue_due.is_some_and(|due| due <= now);
        let due: Vec<i32> =
            self.records.iter().filter(|(_, record)| is_due(record)).map(|(pid, _)| *pid).collect();
        for pid in due {
            if let Some(record) = self.records.get_mut(&pid) {
                record.rescue_due = None;
                self.start_deputy(pid, true);
            }
        }
    }

    /// A process that was being moved when its deputy and this daemon's predecessor both died.
    pub(crate) fn left_behind(&mut self, process: Identity) {
        let pid = process.pid;
        let mut record = super::Record::new(process);
        record.reason = Some("the node daemon and its deputy program died".to_owned());
        record.rescues = 1;
        self.records.insert(pid, record);
        self.start_deputy(pid, true);
    }
}

/// What people are told of a process whose deputy died.
fn died(away_at: Option<&str>) -> String {
    match away_at {
        Some(at) => format!("deputy program died while the process was away on {at}"),
        None => "deputy program died".to_owned(),
    }
}

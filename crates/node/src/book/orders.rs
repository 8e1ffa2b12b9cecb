//! Orders: from users, and from the book itself when a process leaves again.

use std::time::Instant;

use minka_wire::local::DeputyOrder;

use super::{
    BACK_OFF_FIRST, Book, Deputy, DeputyId, Effect, Outstanding, PROCESSES_MAX, Record, Target, Ticket,
};
use crate::processes::Identity;
use crate::protocol::{Answer, Event, Migrated, Refusal};

impl Book {
    /// What a user means by a target; the own node's name means home.
    pub(crate) fn target(&self, name: &str) -> Result<Target, Refusal> {
        match name {
            "home" => Ok(Target::Home),
            "best" => Ok(Target::Best),
            name if name == self.node => Ok(Target::Home),
            name if self.peers.contains(name) => Ok(Target::Node(name.to_owned())),
            name => Err(Refusal::NoSuchNode { name: name.to_owned() }),
        }
    }

    /// Whether an order to that target would take a process from home, so that its eligibility matters.
    pub(crate) fn would_leave(&self, pid: i32, target: &Target) -> bool {
        *target != Target::Home && self.records.get(&pid).is_none_or(|record| record.away_at.is_none())
    }

    /// Orders a process to move; the answer goes to `ticket`.
    pub(crate) fn migrate(&mut self, ticket: Ticket, process: Identity, target: Target, at_exec: bool) {
        let outcome = self.try_migrate(ticket, process, target, at_exec);
        if let Err(refusal) = outcome {
            self.answer(Some(ticket), Answer::Refused(refusal));
        }
    }

    fn try_migrate(
        &mut self,
        ticket: Ticket,
        process: Identity,
        target: Target,
        at_exec: bool,
    ) -> Result<(), Refusal> {
        let pid = process.pid;
        if self.ending {
            return Err(Refusal::Ending);
        }
        if let Some(host) = self.guests.host_of(pid) {
            let at_home = target == Target::Home;
            let reasons = vec!["it is a guest here: only its home node places it".to_owned()];
            return if at_home {
                self.expel(ticket, pid, host)
            } else {
                Err(Refusal::CannotMove { pid, reasons })
            };
        }
        if self.helpers.contains(&pid) {
            return Err(Refusal::CannotMove { pid, reasons: vec!["it is a part of Minka".to_owned()] });
        }
        self.know(process)?;
        let Some(record) = self.records.get_mut(&pid) else { return Ok(()) };
        if target == Target::Home {
            record.wanted = None;
            record.back_off.due = None;
        }
        let settled = record.order.as_ref().is_none_or(|order| order.armed);
        if !settled || record.is_being_rescued() {
            return Err(Refusal::Busy { pid });
        }
        let to = match &target {
            Target::Home => None,
            Target::Node(name) | Target::Lent(name) => Some(name.clone()),
            Target::Best => {
                let best = self.peers.best(record.away_at.as_deref());
                Some(best.ok_or_else(|| Refusal::NoSuchNode { name: "best".to_owned() })?)
            }
        };
        let armed = record.order.take().is_some_and(|order| order.armed);
        if record.away_at == to && !armed && (to.is_none() || !at_exec) {
            if target != Target::Home {
                record.wanted = target.wish();
            }
            let at = to.unwrap_or_else(|| self.node.clone());
            let with = record.others();
            self.answer(
                Some(ticket),
                Answer::Migrated(Migrated { pid, at, moved: false, freeze_us: 0, with }),
            );
            return Ok(());
        }
        if to.is_some() && record.family.is_some() && record.away_at.is_some() {
            let reasons = vec!["it is away with others, with whom it has to come home before".to_owned()];
            return Err(Refusal::CannotMove { pid, reasons });
        }
        record.back_off = super::BackOff { wait: BACK_OFF_FIRST, due: None };
        record.rescues = 0;
        let is_home = target == Target::Home;
        self.give(pid, Outstanding::new(target, to, at_exec, Some(ticket)));
        if is_home {
            self.call_relatives_home(pid);
        }
        Ok(())
    }

    /// Processes whose time has come leave home again.
    pub(crate) fn leave_again(&mut self, now: Instant) {
        let due: Vec<i32> =
            self.records.iter().filter(|(_, record)| record.is_due(now)).map(|(pid, _)| *pid).collect();
        for pid in due {
            let Some(record) = self.records.get_mut(&pid) else { continue };
            record.back_off.due = None;
            let to = match &record.wanted {
                Some(Target::Node(name) | Target::Lent(name)) => Some(name.clone()),
                Some(Target::Best) => self.peers.best(None),
                Some(Target::Home) | None => continue,
            };
            match (to, record.wanted.clone(), record.is_settled()) {
                (Some(_), Some(target), true) if record.shares => {
                    record.back_off.due = Some(now + record.back_off.wait);
                    self.gather(pid, target);
                }
                (Some(to), Some(target), true) => {
                    self.give(pid, Outstanding::new(target, Some(to), false, None));
                }
                _ => record.plan_departure(now),
            }
        }
    }

    /// Memory is short here: what processes that are away have of it is to go.
    pub(crate) fn give_back(&mut self) {
        for record in
            self.records.values_mut().filter(|record| record.away_at.is_some() && !record.gives_back)
        {
            if let Some(deputy) = record.deputy.filter(|deputy| !deputy.ended && !deputy.rescuing) {
                self.effects.push(Effect::Order(deputy.id, DeputyOrder::GiveBack));
                record.gives_back = true;
            }
        }
    }

    /// The daemon is ending: its processes come home and its guests go home.
    pub(crate) fn end(&mut self) {
        self.ending = true;
        for record in self.records.values_mut() {
            record.wanted = None;
            record.back_off.due = None;
            if let Some(deputy) = record.deputy.filter(|deputy| !deputy.ended) {
                self.effects.push(Effect::Order(deputy.id, DeputyOrder::Home));
            }
        }
        self.expel_all();
    }

    /// Whether nothing is left that the daemon's end would harm.
    pub(crate) fn is_at_rest(&self) -> bool {
        let at_home = self.records.values().all(|record| record.deputy.is_none());
        at_home && self.guests.is_empty()
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        for order in self.records.values_mut().filter_map(|record| record.order.as_mut()) {
            if order.ticket == Some(ticket) {
                order.ticket = None;
            }
        }
    }

    /// Somebody traces a process from now on.
    pub(crate) fn watch(&mut self, process: Identity) -> Result<(), Refusal> {
        let pid = process.pid;
        self.know(process)?;
        let Some(record) = self.records.get_mut(&pid) else { return Ok(()) };
        record.watchers += 1;
        if let (1, Some(deputy)) = (record.watchers, record.deputy) {
            self.effects.push(Effect::Order(deputy.id, DeputyOrder::Trace { on: true }));
        }
        Ok(())
    }

    /// Somebody traces a process no more.
    pub(crate) fn unwatch(&mut self, process: &Identity) {
        let Some(record) = self.records.get_mut(&process.pid) else { return };
        if record.identity.start != process.start || record.watchers == 0 {
            return;
        }
        record.watchers -= 1;
        if let (0, Some(deputy)) = (record.watchers, record.deputy) {
            self.effects.push(Effect::Order(deputy.id, DeputyOrder::Trace { on: false }));
        }
    }

    /// Begins the record of a process, unless there is one.
    pub(super) fn know(&mut self, process: Identity) -> Result<(), Refusal> {
        let pid = process.pid;
        match self.records.get_mut(&pid) {
            Some(record) if record.identity.start == process.start => {
                record.identity = process;
                return Ok(());
            }
            // The PID has passed to another process before anyone saw the first one's end.
            Some(record) if record.deputy.is_none() => self.finish(pid, None),
            Some(_) => return Err(Refusal::Busy { pid }),
            None => {}
        }
        if self.records.len() >= PROCESSES_MAX {
            self.forget_idle();
        }
        if self.records.len() >= PROCESSES_MAX {
            return Err(Refusal::TooManyProcesses { limit: PROCESSES_MAX });
        }
        self.records.insert(pid, Record::new(process));
        Ok(())
    }

    /// Forgets a process at home that nobody wants away, to make room.
    fn forget_idle(&mut self) {
        let mut records = self.records.iter();
        let idle = records.find(|(_, record)| record.is_idle()).map(|(pid, _)| *pid);
        if let Some(pid) = idle {
            self.records.remove(&pid);
        }
    }

    /// Gives the deputy of a process an order, starting one where there is none.
    pub(super) fn give(&mut self, pid: i32, mut order: Outstanding) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let to_deputy = order.to_deputy(record.needs_all);
        match record.deputy {
            Some(deputy) if deputy.ended => order.again = true,
            Some(deputy) => self.effects.push(Effect::Order(deputy.id, to_deputy)),
            None => {
                let id = self.start_deputy(pid, false);
                self.effects.push(Effect::Order(id, to_deputy));
            }
        }
        if let Some(record) = self.records.get_mut(&pid) {
            record.order = Some(order);
        }
    }

    /// Starts a deputy for a process, to move it or to put it right.
    pub(super) fn start_deputy(&mut self, pid: i32, rescuing: bool) -> DeputyId {
        self.deputies += 1;
        let id = DeputyId(self.deputies);
        let config = self.config.clone();
        self.effects.push(Effect::Spawn(id));
        let family = self.records.get(&pid).and_then(|record| record.family.clone());
        let first = if rescuing {
            DeputyOrder::Rescue { pid, config, family }
        } else {
            DeputyOrder::Start { pid, config }
        };
        self.effects.push(Effect::Order(id, first));
        if let Some(record) = self.records.get_mut(&pid) {
            record.deputy = Some(Deputy { id, rescuing, ended: false });
            if record.watchers > 0 && !rescuing {
                self.effects.push(Effect::Order(id, DeputyOrder::Trace { on: true }));
            }
        }
        id
    }

    /// Moves a record to the list of the ended ones.
    pub(super) fn finish(&mut self, pid: i32, reason: Option<String>) {
        let Some(mut record) = self.records.remove(&pid) else { return };
        if let Some(order) = record.order.take() {
            self.answer(order.ticket, Answer::Refused(Refusal::NoSuchProcess { pid }));
        }
        let reason = reason.or_else(|| record.fault.take());
        if record.watchers > 0 {
            self.effects.push(Effect::Publish(pid, Event::Ended { reason: reason.clone() }));
        }
        let worth_remembering = record.moves > 0 || reason.is_some();
        if worth_remembering {
            self.remember(&record, reason);
        }
    }
}

impl Outstanding {
    pub(super) fn to_deputy(&self, needs_all: bool) -> DeputyOrder {
        match &self.to {
            Some(to) => {
                let family = self.family.clone();
                DeputyOrder::Move { to: to.clone(), at_exec: self.at_exec, family, needs_all }
            }
            None => DeputyOrder::Home,
        }
    }
}

impl Record {
    fn is_due(&self, now: Instant) -> bool {
        self.back_off.due.is_some_and(|due| due <= now)
    }

    /// Those with whom it is away, or was.
    pub(super) fn others(&self) -> Vec<i32> {
        let members = self.family.iter().flat_map(|family| family.members.iter().copied());
        members.filter(|member| *member != self.identity.pid).collect()
    }

    pub(super) fn is_being_rescued(&self) -> bool {
        self.rescue_due.is_some() || self.deputy.is_some_and(|deputy| deputy.rescuing)
    }

    fn is_settled(&self) -> bool {
        self.order.is_none() && self.away_at.is_none() && !self.is_being_rescued()
    }

    fn is_idle(&self) -> bool {
        self.deputy.is_none() && self.rescue_due.is_none() && self.wanted.is_none() && self.watchers == 0
    }
}

//! Families: processes that share memory and are moved together.
//!
//! Each member has a deputy and a record of its own, and gets an order of its own. What binds them is the ledger that their
//! deputies have in common ([`minka_wire::local::Family`]); here it is only seen to that all get their orders, or none.

use minka_wire::local::{Family, FamilyId};

use super::{Book, Effect, Outstanding, Target, Ticket};
use crate::processes::Identity;
use crate::protocol::Refusal;

/// A family that is to move.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    /// The member that is asked for.
    pub(crate) pid: i32,
    /// All members, in the order that they are known by.
    pub(crate) members: Vec<Identity>,
    /// The name of this move.
    pub(crate) id: FamilyId,
    /// Where to.
    pub(crate) target: Target,
}

impl Book {
    /// Orders a family to move from home; the answer goes to `ticket`.
    pub(crate) fn migrate_family(&mut self, ticket: Ticket, departure: Departure) {
        if let Err(refusal) = self.try_migrate_family(ticket, departure) {
            self.answer(Some(ticket), crate::protocol::Answer::Refused(refusal));
        }
    }

    fn try_migrate_family(&mut self, ticket: Ticket, departure: Departure) -> Result<(), Refusal> {
        let Departure { pid, members, id, target } = departure;
        if self.ending {
            return Err(Refusal::Ending);
        }
        let to = match &target {
            Target::Home => return Err(Refusal::Busy { pid }),
            Target::Node(name) | Target::Lent(name) => name.clone(),
            Target::Best => {
                let best = self.peers.best(None);
                best.ok_or_else(|| Refusal::NoSuchNode { name: "best".to_owned() })?
            }
        };
        let pids: Vec<i32> = members.iter().map(|member| member.pid).collect();
        if let Some(member) = pids.iter().find(|member| self.helpers.contains(member)) {
            let reasons = vec![format!("it shares its memory with a part of Minka (process {member})")];
            return Err(Refusal::CannotMove { pid, reasons });
        }
        for member in members {
            self.know(member)?;
        }
        let is_free = |member: &i32| {
            self.records.get(member).is_some_and(|record| {
                record.order.is_none() && record.away_at.is_none() && !record.is_being_rescued()
            })
        };
        if let Some(busy) = pids.iter().find(|member| !is_free(member)) {
            return Err(Refusal::Busy { pid: *busy });
        }
        let family = Family { id, members: pids.clone() };
        for member in pids {
            let ticket = Some(ticket).filter(|_| member == pid);
            let order = Outstanding::new(target.clone(), Some(to.clone()), false, ticket);
            if let Some(record) = self.records.get_mut(&member) {
                record.family = Some(family.clone());
                record.shares = true;
                record.rescues = 0;
            }
            self.give(member, Outstanding { family: Some(family.clone()), ..order });
        }
        Ok(())
    }

    /// Where a process is away with others, if it is.
    pub(crate) fn away_with_family(&self, pid: i32) -> Option<&str> {
        let record = self.records.get(&pid)?;
        record.family.as_ref().and(record.away_at.as_deref())
    }

    /// Those with whom a process was moved last.
    pub(crate) fn relatives(&self, pid: i32) -> Vec<i32> {
        let family = self.records.get(&pid).and_then(|record| record.family.as_ref());
        family.map(|family| family.members.clone()).unwrap_or_default()
    }

    /// All of a process's family are called home with it, and nobody wants them away any more.
    pub(super) fn call_relatives_home(&mut self, pid: i32) {
        let Some(family) = self.records.get(&pid).and_then(|record| record.family.clone()) else { return };
        for member in family.members.iter().copied().filter(|member| *member != pid) {
            let Some(record) = self.records.get_mut(&member) else { continue };
            if record.away_at.is_none() || record.family.as_ref() != Some(&family) {
                continue;
            }
            record.wanted = None;
            record.back_off.due = None;
            if record.order.is_none() && !record.is_being_rescued() {
                self.give(member, Outstanding::new(Target::Home, None, false, None));
            }
        }
    }

    /// Somebody whose time has come to leave again may have to do so with others.
    pub(super) fn gather(&mut self, pid: i32, target: Target) {
        let Some(record) = self.records.get_mut(&pid) else { return };
        let identity = record.identity.clone();
        // If nothing comes of it, there is a next time.
        record.back_off.wait = (record.back_off.wait * 2).min(super::BACK_OFF_MAX);
        self.effects.push(Effect::Gather(identity, target));
    }
}

//! A process that is at home again, and has calls to finish that it began elsewhere ([`crate::rest`]).

use super::Deputy;
use crate::fault::{Fault, Result};
use crate::park::Found;
use crate::parked::Parked;
use crate::rest::{self, Part, Progress, Rest};
use crate::tracee::Tasks;
use minka_kernel::spawn::wait_readable;
use minka_wire::local::{DeputyOrder, DeputyReport, Family};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

impl Deputy {
    /// Makes the process an ordinary one again.
    pub(super) fn release(&self, parked: Parked, tasks: Tasks) -> Result<()> {
        // Everything is at home. From now on it opens what it shares by itself, and is not to be turned away.
        parked.sole.open();
        *self.rests.borrow_mut() = parked.release(tasks)?;
        Ok(())
    }

    /// Stays with threads that have to finish a call, until they have. Tells if the process is to go somewhere before.
    pub(super) fn attend(&self) -> Result<Option<(Found, String, Option<Family>)>> {
        let mut target = None;
        let mut parts = Vec::new();
        loop {
            for rest in self.rests.take() {
                match rest.look()? {
                    Progress::Over => {}
                    Progress::Waits(rest) => self.rests.borrow_mut().push(rest),
                    Progress::Cut(part) if target.is_some() => parts.push(part),
                    Progress::Cut(part) => self.rests.borrow_mut().extend(part.go_on()?),
                }
            }
            if self.rests.borrow().is_empty() {
                let found = if parts.is_empty() { Found::Free } else { Found::InCalls(parts) };
                return Ok(target.map(|(target, family)| (found, target, family)));
            }
            let [news, ordered] = wait_readable(&[self.news.as_fd(), self.daemon.as_fd()], None)
                .map_err(|error| Fault::Io("wait", error))?[..]
            else {
                unreachable!("two descriptors have two answers");
            };
            if news {
                while self.news.next_arrived().is_some() {}
            }
            if ordered {
                match self.daemon.order() {
                    Some(DeputyOrder::Move { to, at_exec: false, family, needs_all }) => {
                        self.needs_all.set(needs_all);
                        self.rests.borrow().iter().for_each(Rest::cut);
                        target = Some((to, family));
                    }
                    Some(DeputyOrder::Move { .. }) => {
                        let reason = "it has to finish a call before".to_owned();
                        self.daemon.report(&DeputyReport::Refused { reason, shares: false });
                    }
                    Some(DeputyOrder::Trace { on }) => self.tracing.store(on, Ordering::Relaxed),
                    Some(
                        DeputyOrder::Ready { .. }
                        | DeputyOrder::Start { .. }
                        | DeputyOrder::Rescue { .. }
                        | DeputyOrder::Address { .. }
                        | DeputyOrder::GiveBack,
                    ) => {}
                    // It is to be an ordinary process now.
                    Some(DeputyOrder::Home) | None => {
                        rest::give_up(self.rests.take())?;
                        parts.into_iter().try_for_each(Part::let_go)?;
                        return Ok(None);
                    }
                }
            }
        }
    }
}

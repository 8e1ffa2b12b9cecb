//! What a thread of the guest is to have done when it stops, before it executes another instruction.

use super::Tracer;
use crate::fault::{Fault, Result};
use crate::guest::{Adoption, Job, NewArea, Work, lock};
use crate::prepare;
use minka_image::PAGE;
use minka_image::registers::{NO_SYSCALL, Registers};
use minka_image::restart;
use minka_kernel::ptrace::Stopped;
use minka_syscalls::filter::AT_THE_HOSTS_ORDER;
use std::sync::mpsc;

impl Tracer {
    /// Does for a thread what it has been promised.
    pub(super) fn work(&mut self, task: Stopped) -> Result<Stopped> {
        let job = self.members.get_mut(&task.tid()).and_then(|member| member.job.take());
        let Some(Job { work, done }) = job else { return Ok(task) };
        let io = |what| move |error| Fault::Io(what, error);
        // Signals that are pending must not be taken meanwhile.
        let mask = task.mask().map_err(io("read the guest's signal mask"))?;
        task.set_mask(!0).map_err(io("set the guest's signal mask"))?;
        let task = match work {
            Work::Supply(area) => self.supply(task, area)?,
            Work::Move(arguments) => {
                let (task, result) = prepare::lone(task, self.guest.site, prepare::call::MREMAP, arguments)?;
                self.forget_beyond(result, arguments);
                let registers = task.registers().map_err(io("read the guest's registers"))?;
                let returned = Registers { rax: result as u64, orig_rax: NO_SYSCALL, ..registers };
                task.set_registers(&returned).map_err(io("set the guest's registers"))?;
                task
            }
        };
        task.set_mask(mask).map_err(io("set the guest's signal mask"))?;
        // The worker waits for this; if it has gone, nobody does.
        let _ = done.send(());
        Ok(task)
    }

    /// What moved memory has grown by is new, whatever another thread may have unmapped there a moment ago.
    fn forget_beyond(&self, result: i64, [_, old_length, new_length, ..]: [u64; 6]) {
        let whole = |length: u64| length.checked_next_multiple_of(PAGE);
        let (Some(old), Some(new), Ok(start)) = (whole(old_length), whole(new_length), u64::try_from(result))
        else {
            return;
        };
        if old < new {
            lock(&self.guest.origins).unmapped(start.saturating_add(old), start.saturating_add(new));
        }
    }

    /// Gives the guest new memory, and has it served.
    fn supply(&self, task: Stopped, area: NewArea) -> Result<Stopped> {
        const PRIVATE: u64 = 0x02;
        const ANONYMOUS_NORESERVE: u64 = 0x20 | 0x4000;
        const FIXED: u64 = 0x10;
        const FIXED_NOREPLACE: u64 = 0x10_0000;
        const EEXIST: i64 = -17;
        let place = if area.replaces { FIXED } else { FIXED_NOREPLACE };
        let (kind, descriptor, offset) = match area.file {
            Some((descriptor, offset)) => (0, descriptor as u64, offset),
            None => (ANONYMOUS_NORESERVE, u64::MAX, 0),
        };
        let flags = PRIVATE | place | kind | u64::from(AT_THE_HOSTS_ORDER) << 32;
        let arguments = [area.start, area.end - area.start, area.protection, flags, descriptor, offset];
        let (task, result) = prepare::lone(task, self.guest.site, prepare::call::MMAP, arguments)?;
        if result == EEXIST && !area.replaces {
            // Another thread has taken the place meanwhile: the call is made again, and finds another one.
            let io = |error| Fault::Io("repeat a call", error);
            let registers = task.registers().map_err(io)?;
            task.set_registers(&restart::again(&registers, prepare::call::MMAP as u64)).map_err(io)?;
            return Ok(task);
        }
        if result as u64 != area.start {
            return Err(Fault::Build { what: format!("mmap at {:#x}", area.start), result });
        }
        let (done, adopted) = mpsc::sync_channel(1);
        // If the fault thread has gone, so has the home.
        let _ = self.guest.adoptions.send(Adoption { area, done });
        self.guest.fault_bell.ring();
        let adopted = adopted.recv().map_err(|_| Fault::Said("the fault thread has ended".to_owned()))?;
        adopted.map_err(|error| Fault::Io("serve new memory", error))?;
        Ok(task)
    }
}

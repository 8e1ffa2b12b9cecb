//! The program that looks after this node's accelerators: it is started, heard, and started again when it ends.
//!
//! ```text
//!   start ──► Devices … Devices ──► it ends ──► nothing is known ──► pause ──► start
//! ```
//!
//! It is a program of its own because it loads vendors' libraries and answers strangers: whatever becomes of it, the
//! daemon goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use minka_wire::local::{
    Accelerators, DeviceCount, DeviceKind, FREE_DEVICES_MAX, FreeDevice, XpuOrder, XpuReport,
};
use tracing::{debug, warn};

use crate::child::{self, ChildError, Helper, PacketSocket};
use crate::daemon::{Daemon, chain};
use crate::protocol::{NoDevice, Refusal};
use crate::reservations::Reservations;

/// The pause before it is started again: doubled each time, unless it had lasted.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Most nodes that are named to whoever finds no device here.
const NODES_MAX: usize = 16;

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(2);

impl Daemon {
    /// What is known of this node's accelerators. Those that have been promised are not free.
    pub(crate) fn accelerators(&self) -> Option<Accelerators> {
        let known = &mut *lock(&self.accelerators);
        let seen = known.seen.as_ref()?;
        known
            .reservations
            .settle(self.started.elapsed(), &seen.free, |pid| self.processes.look(pid).is_some());
        let promised = |kind| u16::try_from(known.reservations.count(kind)).unwrap_or(u16::MAX);
        let left = |count: DeviceCount, kind| {
            let free = count.free.map(|free| free.saturating_sub(promised(kind)));
            DeviceCount { free, ..count }
        };
        let Accelerators { intel, nvidia, amd, mic } = seen.counts;
        Some(Accelerators {
            intel: left(intel, DeviceKind::Intel),
            nvidia: left(nvidia, DeviceKind::Nvidia),
            amd: left(amd, DeviceKind::Amd),
            mic: left(mic, DeviceKind::Mic),
        })
    }

    /// Promises a device that nobody uses to a process, of a kind if that matters.
    pub(crate) fn promise_device(&self, pid: i32, wanted: Option<DeviceKind>) -> Result<FreeDevice, Refusal> {
        let counts = self.accelerators();
        let why = match counts {
            None => NoDevice::NotWatched,
            Some(counts) => {
                let known = &mut *lock(&self.accelerators);
                let free = known.seen.as_ref().map_or(&[][..], |seen| &seen.free);
                if let Some(device) = known.reservations.take(self.started.elapsed(), free, wanted, pid) {
                    return Ok(device);
                }
                why_none(&counts, wanted)
            }
        };
        Err(Refusal::NoDevice { kind: wanted, why, elsewhere: self.nodes_with_device(wanted) })
    }

    /// What was promised is for this process from now on; for none: it is free again.
    pub(crate) fn hand_over_device(&self, address: &str, pid: Option<i32>) {
        let reservations = &mut lock(&self.accelerators).reservations;
        match pid {
            Some(pid) => reservations.hand_over(address, pid),
            None => reservations.give_back(address),
        }
    }

    /// The other nodes that have said that they have such a device free.
    pub(crate) fn nodes_with_device(&self, wanted: Option<DeviceKind>) -> Vec<String> {
        let nodes = self.nodes().into_iter().filter(|node| !node.this && node.member);
        let has = nodes.filter(|node| {
            let devices = node.figures.iter().filter_map(|figures| figures.devices.as_ref()).flatten();
            devices.into_iter().any(|devices| {
                wanted.is_none_or(|kind| kind == devices.kind) && devices.free.is_some_and(|free| free > 0)
            })
        });
        has.map(|node| node.name).take(NODES_MAX).collect()
    }

    /// Keeps the program running until it is dismissed.
    pub(crate) fn look_after_accelerators(self: &Arc<Self>) {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            let outcome = self.run_keeper();
            self.note_accelerators(None);
            if lock(&self.accelerators).dismissed {
                return;
            }
            if begun.elapsed() > PAUSE_MAX {
                pause = PAUSE;
            }
            match outcome {
                Ok(()) => warn!(again_s = pause.as_secs(), "the program for accelerators has ended"),
                Err(error) => {
                    warn!(error = %chain(&error), again_s = pause.as_secs(), "no program for accelerators");
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Has the program end, which it does when nobody hears it any more.
    pub(crate) fn dismiss_keeper(&self) {
        let known = &mut *lock(&self.accelerators);
        known.dismissed = true;
        if let Some(keeper) = &known.keeper {
            keeper.close();
        }
    }

    fn run_keeper(self: &Arc<Self>) -> Result<(), ChildError> {
        let (process, socket) = child::spawn(&self.settings.xpu)?;
        let socket = Arc::new(socket);
        lock(&self.accelerators).keeper = Some(Arc::clone(&socket));
        let mut process = Helper::Child(process);
        let pid = process.pid();
        self.tell(|state| state.book.helper_started(pid));
        let config = self.settings.config.to_string_lossy().into_owned();
        let mut heard = socket.send(&XpuOrder::Start { config }, None);
        while heard.is_ok() {
            heard = match socket.receive() {
                Ok(Some(XpuReport::Devices { counts, mut free })) => {
                    debug!(?counts, "accelerators");
                    free.truncate(FREE_DEVICES_MAX);
                    self.note_accelerators(Some(Seen { counts, free }));
                    Ok(())
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
        }
        lock(&self.accelerators).keeper = None;
        drop(socket);
        process.reap(GRACE);
        self.tell(|state| state.book.helper_gone(pid));
        heard
    }

    fn note_accelerators(&self, seen: Option<Seen>) {
        lock(&self.accelerators).seen = seen;
    }
}

/// What is known of accelerators, and what has been promised of them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seen: Option<Seen>,
    keeper: Option<Arc<PacketSocket>>,
    /// Nobody is to look after them any more.
    dismissed: bool,
    reservations: Reservations,
}

#[derive(Debug)]
struct Seen {
    counts: Accelerators,
    free: Vec<FreeDevice>,
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no free device.
fn why_none(counts: &Accelerators, wanted: Option<DeviceKind>) -> NoDevice {
    let all = [
        (DeviceKind::Intel, counts.intel),
        (DeviceKind::Nvidia, counts.nvidia),
        (DeviceKind::Amd, counts.amd),
        (DeviceKind::Mic, counts.mic),
    ];
    let fitting = all.into_iter().filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind));
    let fitting: Vec<DeviceCount> = fitting.map(|(_, count)| count).filter(|count| count.total > 0).collect();
    if fitting.is_empty() {
        NoDevice::None
    } else if fitting.iter().any(|count| count.free.is_none()) {
        NoDevice::NotKnown
    } else if fitting.iter().all(|count| count.drained == count.total) {
        NoDevice::Drained
    } else {
        NoDevice::InUse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_why_there_is_no_device_is_the_one_that_holds() {
        let check = |count: (u16, Option<u16>, u16), wanted, expected| {
            let nvidia = DeviceCount { total: count.0, free: count.1, drained: count.2 };
            let none = DeviceCount { free: Some(0), ..DeviceCount::default() };
            let counts = Accelerators { intel: none, nvidia, amd: none, mic: none };
            assert_eq!(why_none(&counts, wanted), expected, "{count:?}");
        };
        check((0, Some(0), 0), None, NoDevice::None);
        check((1, Some(0), 0), Some(DeviceKind::Intel), NoDevice::None);
        check((2, Some(0), 1), Some(DeviceKind::Nvidia), NoDevice::InUse);
        check((2, Some(0), 2), None, NoDevice::Drained);
        check((2, None, 1), None, NoDevice::NotKnown);
    }
}

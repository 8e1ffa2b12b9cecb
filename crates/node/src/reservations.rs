//! Devices that have been promised to programs that do not use them yet: the rules, without a clock.

use std::time::Duration;

use minka_wire::local::{DeviceKind, FreeDevice};

/// How long a program may take until it is seen to use its device.
const HOLD: Duration = Duration::from_secs(30);

/// What has been promised.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    address: String,
    kind: DeviceKind,
    pid: i32,
    until: Duration,
}

impl Reservations {
    /// Promises one of these free devices to a process, of a kind if that matters.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        free: &[FreeDevice],
        wanted: Option<DeviceKind>,
        pid: i32,
    ) -> Option<FreeDevice> {
        let fits = |device: &&FreeDevice| {
            wanted.is_none_or(|kind| kind == device.kind)
                && !self.held.iter().any(|it| it.address == device.address)
        };
        let device = free.iter().find(fits)?.clone();
        self.held.push(Held { address: device.address.clone(), kind: device.kind, pid, until: now + HOLD });
        Some(device)
    }

    /// Forgets what is over: the time, the process, or the device's being free, from which it is seen that it is used.
    pub(crate) fn settle(&mut self, now: Duration, free: &[FreeDevice], is_alive: impl Fn(i32) -> bool) {
        self.held.retain(|held| {
            held.until > now && free.iter().any(|device| device.address == held.address) && is_alive(held.pid)
        });
    }

    /// What was promised is for this process from now on.
    pub(crate) fn hand_over(&mut self, address: &str, pid: i32) {
        self.held.iter_mut().filter(|held| held.address == address).for_each(|held| held.pid = pid);
    }

    /// What was promised is free again.
    pub(crate) fn give_back(&mut self, address: &str) {
        self.held.retain(|held| held.address != address);
    }

    /// How many devices of a kind are promised.
    pub(crate) fn count(&self, kind: DeviceKind) -> usize {
        self.held.iter().filter(|held| held.kind == kind).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: DeviceKind, address: &str) -> FreeDevice {
        FreeDevice { kind, address: address.into(), uuid: String::new() }
    }

    #[test]
    fn a_device_is_promised_to_one_process_until_it_is_used_or_given_up() {
        let free = [device(DeviceKind::Intel, "1"), device(DeviceKind::Amd, "2")];
        let mut all = Reservations::default();
        let take = |all: &mut Reservations, now: u64, wanted, pid| {
            all.take(Duration::from_secs(now), &free, wanted, pid).map(|device| device.address)
        };
        assert_eq!(take(&mut all, 0, Some(DeviceKind::Nvidia), 7), None);
        assert_eq!(take(&mut all, 0, Some(DeviceKind::Amd), 7).as_deref(), Some("2"));
        assert_eq!(take(&mut all, 0, None, 8).as_deref(), Some("1"));
        assert_eq!(take(&mut all, 0, None, 9), None);
        let settle = |all: &mut Reservations, now, free: &[FreeDevice], alive: &[i32]| {
            all.settle(Duration::from_secs(now), free, |pid| alive.contains(&pid));
            [DeviceKind::Intel, DeviceKind::Amd].map(|kind| all.count(kind))
        };
        assert_eq!(settle(&mut all, 29, &free, &[7, 8]), [1, 1]);
        // The second process ends; the first one is seen to use its device.
        assert_eq!(settle(&mut all, 29, &free, &[7]), [0, 1]);
        assert_eq!(settle(&mut all, 29, &free[..1], &[7]), [0, 0]);
        assert_eq!(take(&mut all, 30, None, 9).as_deref(), Some("1"));
        assert_eq!(settle(&mut all, 60, &free, &[9]), [0, 0]);
        assert_eq!(take(&mut all, 60, None, 9).as_deref(), Some("1"));
        all.hand_over("1", 10);
        assert_eq!(settle(&mut all, 61, &free, &[10]), [1, 0]);
        all.give_back("1");
        assert_eq!(settle(&mut all, 61, &free, &[10]), [0, 0]);
    }
}

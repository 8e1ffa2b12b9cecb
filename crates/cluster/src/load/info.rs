//! What a node tells the others of itself.

use super::devices::Devices;
use super::meter::Load;
use super::speed::{STANDARD_SPEED, Speed};

/// A mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;

/// What a node is willing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// It takes no guests (`block`).
    pub blocked: bool,
    /// Its own processes do not leave it by themselves (`stay`).
    pub stays: bool,
    /// It is there to compute for others (a server of a server pool).
    pub server: bool,
    /// It is being emptied.
    pub leaving: bool,
}

/// A node's figures. Memory is in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Info {
    /// Runnable tasks, the upper average: what people are shown.
    pub load: Load,
    /// Runnable tasks during the last second: what others go by when they choose whom to ask. A node that was full a
    /// moment ago would long look so by its upper average.
    pub running: Load,
    /// Runnable tasks, each counted by how much a delay would matter to it; see [`crate::balance::weight`].
    pub haste: Load,
    /// Processors.
    pub cpus: u16,
    /// Of one processor.
    pub speed: Speed,
    /// Processor time in use, in percent.
    pub utilisation: u8,
    /// Part of the time in which somebody waited for a disk, in percent (Linux's pressure information).
    pub io_stall: u8,
    /// Memory that Linux has (`tmem`).
    pub memory_mib: u32,
    /// Memory that Linux calls free (`rmem`).
    pub free_mib: u32,
    /// Memory that guests may have: free and easily freed, less what is promised already (`mem`).
    pub available_mib: u32,
    /// What it is willing to do.
    pub flags: Flags,
    /// Its accelerators, in the order of [`super::DeviceKind::ALL`]; none if nobody has looked.
    pub devices: Option<[Devices; 4]>,
}

impl Info {
    /// The load that others see in `mosmon`: what a standard processor would have, per processor.
    pub fn standard_load(&self) -> Load {
        let per_cpu = u64::from(self.load.0) * u64::from(STANDARD_SPEED);
        let load = per_cpu / u64::from(self.speed.get()) / u64::from(self.cpus.max(1));
        Load(u32::try_from(load).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faster_and_more_processors_show_less_load() {
        let check = |cpus, speed, expected| {
            let info = Info { load: Load(400), cpus, speed: Speed::new(speed).unwrap(), ..Info::default() };
            assert_eq!(info.standard_load(), Load(expected), "{cpus} × {speed}");
        };
        check(1, 10_000, 400);
        check(1, 20_000, 200);
        check(4, 10_000, 100);
        check(4, 5_000, 200);
        check(0, 10_000, 400);
    }
}

//! What a node tells the others of its accelerators: how many, and never which.

/// Most devices of a kind that are told; who has more says so much.
pub const DEVICES_MAX: u8 = 15;

/// Most free ones that are told.
const FREE_MAX: u8 = 14;

/// A kind of accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Intel's GPUs.
    Intel,
    /// NVIDIA's GPUs.
    Nvidia,
    /// AMD's GPUs.
    Amd,
    /// Xeon Phis.
    Mic,
}

impl DeviceKind {
    /// All kinds, in the order of [`Devices`].
    pub const ALL: [DeviceKind; 4] =
        [DeviceKind::Intel, DeviceKind::Nvidia, DeviceKind::Amd, DeviceKind::Mic];
}

/// The devices of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Devices {
    total: u8,
    free: Option<u8>,
    drained: u8,
}

impl Default for Devices {
    fn default() -> Self {
        Devices::new(0, Some(0), 0)
    }
}

impl Devices {
    /// So many devices, of which so many are free, if that is known, and so many are to get no work. What is too much is
    /// cut off.
    pub fn new(total: u16, free: Option<u16>, drained: u16) -> Self {
        let cut = |number: u16, most: u8| u8::try_from(number).map_or(most, |number| number.min(most));
        let total = cut(total, DEVICES_MAX);
        let drained = cut(drained, total);
        let most = (total - drained).min(FREE_MAX);
        // Where none is left there is nothing that is not known.
        let free = if total == drained { Some(0) } else { free.map(|free| cut(free, most)) };
        Devices { total, free, drained }
    }

    /// All of them.
    pub fn total(self) -> u8 {
        self.total
    }

    /// Those that nobody uses and that are not drained; none if that is not known.
    pub fn free(self) -> Option<u8> {
        self.free
    }

    /// Those that are to get no work.
    pub fn drained(self) -> u8 {
        self.drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_told_is_cut_off_and_nothing_contradicts_itself() {
        let check = |said: (u16, Option<u16>, u16), told: (u8, Option<u8>, u8)| {
            let devices = Devices::new(said.0, said.1, said.2);
            assert_eq!((devices.total(), devices.free(), devices.drained()), told, "{said:?}");
        };
        check((8, Some(3), 2), (8, Some(3), 2));
        check((8, None, 2), (8, None, 2));
        check((40, Some(40), 0), (15, Some(14), 0));
        check((2, Some(2), 1), (2, Some(1), 1));
        check((1, None, 7), (1, Some(0), 1));
        check((0, None, 0), (0, Some(0), 0));
        check((u16::MAX, Some(u16::MAX), u16::MAX), (15, Some(0), 15));
    }
}

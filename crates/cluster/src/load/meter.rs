//! The load of a node and its averages.

/// A number of runnable tasks, in hundredths.
///
/// MOSIX counts in clock ticks, of which its kernels had a hundred a second: one task that never waits is 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Load(pub u32);

impl Load {
    /// One task that never waits.
    pub const TASK: Load = Load(100);

    /// The load of so many tasks on average; what is not a number, or below zero, is none.
    pub fn of_tasks(tasks: f64) -> Self {
        // The conversion saturates, and makes zero of what is not a number.
        Load((tasks * f64::from(Self::TASK.0)).round() as u32)
    }

    /// How many tasks that is.
    pub fn tasks(self) -> f64 {
        f64::from(self.0) / f64::from(Self::TASK.0)
    }
}

/// Averages are kept at this many times the load, so that small changes are not rounded away (`MEAN_LOAD_SCALE`).
const SCALE: u64 = 128;

/// Follows a node's load, one observation a second.
///
/// The rules are those of MOSIX: the mean keeps five eighths and takes three from what is above it, and follows at
/// once what is below; the upper load follows at once what is above it, and keeps seven eighths otherwise.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    mean_scaled: u64,
    upper: u64,
    used_scaled: u64,
}

impl Meter {
    /// Nothing was seen yet: no load.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in how many tasks were runnable on average since the last observation, and how large a part of the
    /// processors' time was used, in percent.
    pub fn observe(&mut self, load: Load, used_percent: u8) {
        let scaled = u64::from(load.0) * SCALE;
        self.mean_scaled =
            if scaled > self.mean_scaled { (5 * self.mean_scaled + 3 * scaled) / 8 } else { scaled };
        // At this scale the upper load reaches what it falls to, which whole hundredths would not.
        self.upper = if scaled >= self.upper { scaled } else { (7 * self.upper + scaled) / 8 };
        let used = u64::from(used_percent.min(100)) * SCALE;
        self.used_scaled = (3 * self.used_scaled + used) / 4;
    }

    /// The load by which the node judges itself.
    pub fn mean(&self) -> Load {
        Load(u32::try_from(self.mean_scaled / SCALE).unwrap_or(u32::MAX))
    }

    /// The load that it tells the others.
    pub fn upper(&self) -> Load {
        Load(u32::try_from(self.upper.div_ceil(SCALE)).unwrap_or(u32::MAX))
    }

    /// The part of the processors' time that is used, in percent, smoothed.
    pub fn utilisation(&self) -> u8 {
        // At most a hundred.
        ((self.used_scaled + SCALE / 2) / SCALE) as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mean_rises_slowly_and_falls_at_once() {
        let mut meter = Meter::new();
        let mut means = Vec::new();
        for load in [800, 800, 800, 100] {
            meter.observe(Load(load), 100);
            means.push(meter.mean().0);
        }
        assert_eq!(means, [300, 487, 604, 100]);
    }

    #[test]
    fn the_upper_load_rises_at_once_and_falls_slowly() {
        let mut meter = Meter::new();
        let mut uppers = Vec::new();
        for load in [800, 0, 0, 900] {
            meter.observe(Load(load), 100);
            uppers.push(meter.upper().0);
        }
        assert_eq!(uppers, [800, 700, 613, 900]);
    }

    #[test]
    fn an_idle_node_is_idle_in_the_end() {
        let mut meter = Meter::new();
        meter.observe(Load(1200), 100);
        assert_eq!(meter.utilisation(), 25);
        for _ in 0..200 {
            meter.observe(Load(0), 0);
        }
        assert_eq!((meter.mean(), meter.upper()), (Load(0), Load(0)));
        assert_eq!(meter.utilisation(), 0);
    }

    #[test]
    fn nonsense_is_no_load() {
        assert_eq!(Load::of_tasks(f64::NAN), Load(0));
        assert_eq!(Load::of_tasks(-1.0), Load(0));
        assert_eq!(Load::of_tasks(f64::INFINITY), Load(u32::MAX));
        assert_eq!(Load::of_tasks(2.5), Load(250));
    }

    proptest! {
        #[test]
        fn a_node_never_thinks_itself_busier_than_it_tells(loads in prop::collection::vec(0..100_000_u32, 1..50)) {
            let mut meter = Meter::new();
            for load in loads {
                meter.observe(Load(load), 50);
                prop_assert!(meter.mean() <= meter.upper());
                prop_assert!(meter.mean() <= Load(load) && meter.upper() >= Load(load));
            }
        }
    }
}

//! How fast a processor is, beside a standard one.

/// The speed of the standard processor, by which all loads can be told alike (`STD_SPD`).
pub const STANDARD_SPEED: u32 = 10_000;

/// The speed of one processor of a node: [`STANDARD_SPEED`] is the standard processor's, twice that is twice as fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed(u32);

impl Speed {
    /// The standard processor's.
    pub const STANDARD: Speed = Speed(STANDARD_SPEED);

    /// The largest that is believed: ten thousand standard processors in one.
    pub const MAX: Speed = Speed(STANDARD_SPEED * 10_000);

    /// A speed; `None` if it is zero or beyond belief.
    pub fn new(speed: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&speed).then_some(Self(speed))
    }

    /// The speed of a processor that takes `elapsed` for what takes the standard processor `standard`, both in the
    /// same unit.
    pub fn measured(standard: u64, elapsed: u64) -> Self {
        let speed = u128::from(standard) * u128::from(STANDARD_SPEED) / u128::from(elapsed.max(1));
        Self(speed.clamp(1, u128::from(Self::MAX.0)) as u32)
    }

    /// The speed of a processor that is worth so many standard ones; what is none is the least there is.
    pub fn of_relative(relative: f64) -> Self {
        // Saturates, and makes zero of what is not a number.
        Self(((relative * f64::from(STANDARD_SPEED)).round() as u32).clamp(1, Self::MAX.0))
    }

    /// The number, as `mosctl getspeed` shows it.
    pub fn get(self) -> u32 {
        self.0
    }

    /// How many standard processors it is worth.
    pub fn relative(self) -> f64 {
        f64::from(self.0) / f64::from(STANDARD_SPEED)
    }

    /// The same speed beside another standard, as after `mosctl setyard`.
    pub fn with_yardstick(self, standard: Speed) -> Self {
        Self::measured(u64::from(self.0), u64::from(standard.0))
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::STANDARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_needs_half_the_time_is_twice_as_fast() {
        assert_eq!(Speed::measured(100, 50).get(), 2 * STANDARD_SPEED);
        assert_eq!(Speed::measured(100, 400).relative(), 0.25);
        assert_eq!(Speed::measured(u64::MAX, 0), Speed::MAX);
        assert_eq!(Speed::measured(0, 1).get(), 1);
    }

    #[test]
    fn a_faster_yardstick_makes_everybody_slower() {
        let speed = Speed::new(30_000).unwrap();
        assert_eq!(speed.with_yardstick(Speed::new(20_000).unwrap()).get(), 15_000);
        assert_eq!((Speed::new(0), Speed::new(u32::MAX)), (None, None));
    }
}

//! How old information is when it is told in windows, by the formulas of MOSIX's own information service.
//!
//! With *n* nodes, a window whose oldest entry has the age *T*, and all times in steps, the entries of at most that age
//! are on average *X(T)* = n·e^(nT/(n−1)) / (n−1+e^(nT/(n−1))): a new entry spreads as a rumour does. From that come
//! the mean age of the whole vector and the age of its oldest entry. (`libgossip`, part of the published sources of
//! MOSIX's `infod`.)

/// Euler's constant: the mean of the largest of many equal waiting times exceeds their logarithm by it.
const EULER: f64 = 0.577_215_664_901_532_9;

/// Ages that are to be expected, in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ages {
    /// Mean over all nodes.
    pub mean: f64,
    /// Of the oldest entry.
    pub max: f64,
}

/// The ages to expect with `nodes` nodes and windows of `window` entries, the sender's own among them; `None` if the
/// windows are as large as the cluster, or so small that nothing spreads, for which the formulas do not hold.
pub fn expected(nodes: u32, window: u32) -> Option<Ages> {
    if window < 2 || window >= nodes {
        return None;
    }
    let (n, x) = (f64::from(nodes), f64::from(window));
    let oldest = (n - 1.0) / n * (x * (n - 1.0) / (n - x)).ln();
    let grown = (n * oldest / (n - 1.0)).exp();
    let within = oldest - (n - 1.0) / x * ((n - 1.0 + grown).ln() - n.ln());
    // The part of the steps in which a window does not come to a certain node.
    let missed = 1.0 - 1.0 / (n - 1.0);
    let mean = 1.0 / (1.0 - missed.powf(x)) + within;
    let max = -(n.ln() + EULER) / (x * missed.ln());
    Some(Ages { mean, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ages_are_those_of_the_published_formulas() {
        let check = |nodes, window, mean: f64, max: f64| {
            let ages = expected(nodes, window).unwrap();
            assert!((ages.mean - mean).abs() < 0.06, "{nodes} {window}: {ages:?}");
            assert!((ages.max - max).abs() < max * 0.01, "{nodes} {window}: {ages:?}");
        };
        check(32, 8, 5.6, 15.4);
        check(32, 16, 4.5, 7.7);
        check(64, 8, 9.6, 37.0);
        check(64, 16, 6.4, 18.5);
        check(64, 32, 5.2, 9.3);
        check(256, 16, 18.3, 97.0);
        check(256, 64, 7.8, 24.2);
        check(1000, 64, 19.3, 116.8);
    }

    #[test]
    fn where_the_formulas_do_not_hold_they_say_nothing() {
        assert_eq!(expected(16, 16), None);
        assert_eq!(expected(16, 1), None);
        assert_eq!(expected(0, 0), None);
    }
}

//! What a benchmark comes to: figures with names, and what was promised of them.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Which way a figure gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The smaller the better.
    Lower,
    /// The larger the better.
    Higher,
}

/// What is promised of a figure, and what is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Which way it gets better.
    pub better: Better,
    /// What it has to reach.
    pub must: f64,
    /// What it is meant to reach in the end.
    pub aim: f64,
}

impl Goal {
    pub(crate) const fn at_most(must: f64, aim: f64) -> Self {
        Goal { better: Better::Lower, must, aim }
    }

    pub(crate) const fn at_least(must: f64, aim: f64) -> Self {
        Goal { better: Better::Higher, must, aim }
    }

    /// Whether `value` is as good as `bound`.
    pub fn reaches(&self, value: f64, bound: f64) -> bool {
        match self.better {
            Better::Lower => value <= bound,
            Better::Higher => value >= bound,
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name, the same in JSON; the unit is its end, as in `freeze_ms_1g` and `rtt_us`.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What is promised of it; none of a figure that only explains others.
    pub goal: Option<Goal>,
}

/// What a benchmark came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The benchmark's name.
    pub benchmark: &'static str,
    /// Its figures, the promised ones first.
    pub figures: Vec<Figure>,
    /// Figures that could not be measured, each with the reason.
    pub unknown: Vec<(&'static str, String)>,
}

impl Outcome {
    pub(crate) fn new(benchmark: &'static str) -> Self {
        Outcome { benchmark, figures: Vec::new(), unknown: Vec::new() }
    }

    /// A figure that is promised.
    pub(crate) fn promised(mut self, name: &'static str, value: f64, goal: Goal) -> Self {
        self.figures.push(Figure { name, value, goal: Some(goal) });
        self
    }

    /// A figure that explains others.
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.figures.push(Figure { name, value, goal: None });
        self
    }

    /// A figure that could not be measured, for this reason.
    pub(crate) fn unknown(mut self, name: &'static str, reason: &str) -> Self {
        self.unknown.push((name, reason.to_owned()));
        self
    }

    /// Whether every promise is kept.
    pub fn is_reached(&self) -> bool {
        let promised = self.figures.iter().filter_map(|figure| Some((figure.value, figure.goal?)));
        promised.into_iter().all(|(value, goal)| goal.reaches(value, goal.must))
    }
}

/// One object: the benchmark's name, whether its promises are kept, and its figures by name. One that could not be
/// measured is null, and the reason is in `reasons`.
impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("bench", self.benchmark)?;
        map.serialize_entry("reached", &self.is_reached())?;
        for figure in &self.figures {
            map.serialize_entry(figure.name, &rounded(figure.value))?;
        }
        for (name, _) in &self.unknown {
            map.serialize_entry(name, &None::<f64>)?;
        }
        if !self.unknown.is_empty() {
            let reasons: std::collections::BTreeMap<_, _> = self.unknown.iter().cloned().collect();
            map.serialize_entry("reasons", &reasons)?;
        }
        map.end()
    }
}

/// To four significant places: more says nothing about a machine with other work.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let places = 3 - value.abs().log10().floor() as i32;
    let factor = 10f64.powi(places.clamp(0, 9));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_one_line_of_json() {
        let outcome = Outcome::new("pages")
            .promised("ratio", 0.512_345, Goal::at_least(0.4, 0.8))
            .with("tcp_mb_s", 3210.987);
        let line = serde_json::to_string(&outcome).unwrap_or_default();
        assert_eq!(line, r#"{"bench":"pages","reached":true,"ratio":0.5123,"tcp_mb_s":3211.0}"#);
    }

    #[test]
    fn what_could_not_be_measured_is_null_with_a_reason() {
        let outcome =
            Outcome::new("farm").with("units", 174.0).unknown("distcc_speedup", "it is not installed");
        let line = serde_json::to_string(&outcome).unwrap_or_default();
        let expected =
            r#""units":174.0,"distcc_speedup":null,"reasons":{"distcc_speedup":"it is not installed"}}"#;
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn every_promise_counts() {
        let outcome = |freeze, avoided| {
            Outcome::new("x")
                .promised("freeze", freeze, Goal::at_most(15.0, 4.0))
                .promised("avoided", avoided, Goal::at_least(0.85, 0.99))
                .is_reached()
        };
        assert!(outcome(15.0, 0.85));
        assert!(!outcome(15.1, 0.85));
        assert!(!outcome(15.0, 0.84));
    }

    #[test]
    fn values_keep_four_places() {
        assert_eq!(rounded(0.000_123_456), 0.000_123_5);
        assert_eq!(rounded(12_345.6), 12_346.0);
        assert_eq!(rounded(0.0), 0.0);
    }
}

//! The page `docs/stress.md`. What is run again gets a new row; all other rows stay as they are.

use std::collections::BTreeMap;

use super::{Outcome, STRESSORS};
use crate::survey::table::reasons;

const HEAD: &str = "
| stressor | for | moves | processes | result | alone, 1/s | moved, 1/s | where it stayed at home |
|---|---:|---:|---:|---|---:|---:|---|
";

/// One line of the table, with its end.
pub fn row(stressor: &str, outcome: &Outcome) -> String {
    let result = outcome.difference().unwrap_or_else(|| match outcome.moved.status {
        0 => "same".to_owned(),
        status => format!("same (status {status})"),
    });
    let rate = |rate: Option<f64>| rate.map_or_else(|| "not counted".to_owned(), |rate| format!("{rate:.0}"));
    format!(
        "| {stressor} | {} s | {} | {} | {result} | {} | {} | {} |\n",
        outcome.time.as_secs(),
        outcome.tally.moves,
        outcome.tally.processes,
        rate(outcome.alone.rate),
        rate(outcome.moved.rate),
        reasons(&outcome.tally.refusals)
    )
}

/// The page, with this row instead of the one that it had for the same stressor.
pub fn page(before: &str, stressor: &str, row: &str, introduction: &str) -> String {
    let name = |line: &str| Some(line.strip_prefix("| ")?.split_once(" | ")?.0.to_owned());
    let mut rows: BTreeMap<String, String> =
        before.lines().filter_map(|line| Some((name(line)?, format!("{line}\n")))).collect();
    rows.insert(stressor.to_owned(), row.to_owned());
    let rows: String = STRESSORS.iter().filter_map(|stressor| rows.get(*stressor).cloned()).collect();
    [introduction, HEAD, &rows].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_row_takes_the_place_of_the_old_one_and_all_others_stay_in_order() {
        let one = page("", "vm", "| vm | old |\n", "Intro\n");
        let two = page(&one, "cpu", "| cpu | kept |\n", "Intro\n");
        let three = page(&two, "vm", "| vm | new |\n", "Intro\n");
        assert!(three.starts_with("Intro\n\n| stressor |"), "{three}");
        assert!(three.ends_with("| cpu | kept |\n| vm | new |\n"), "{three}");
    }
}

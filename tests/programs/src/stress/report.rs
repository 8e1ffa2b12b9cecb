//! What stress-ng says of a run.

/// A run of one stressor.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// As a shell gives it.
    pub status: i32,
    /// Operations per second, by the clock on the wall; none where it did not get so far as to count them.
    pub rate: Option<f64>,
    /// What it reported as wrong.
    pub failures: Vec<String>,
    /// All it said.
    pub output: String,
}

impl Report {
    /// Reads what it said. Its lines are `stress-ng: KIND: [PID] TEXT`; `metrc` are the figures, one line per stressor:
    /// its name, operations, three times in seconds, operations per second by the clock on the wall and by the processor.
    pub fn new(status: i32, stressor: &str, output: &str) -> Self {
        let text = |kind: &str| {
            let start = format!("stress-ng: {kind}:");
            let rest = output.lines().filter_map(move |line| line.strip_prefix(&start).map(str::to_owned));
            rest.filter_map(|line| line.split_once("] ").map(|(_, text)| text.to_owned())).collect::<Vec<_>>()
        };
        let rate = text("metrc").iter().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(stressor)).then(|| words.nth(4)?.parse().ok()).flatten()
        });
        let failures = [text("fail"), text("error")].concat();
        Self { status, rate, failures, output: output.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\
stress-ng: info:  [13] setting to a 4 second run per stressor
stress-ng: fail:  [14] mmap: address 0x1 does not hold what was written
stress-ng: metrc: [13] stressor       bogo ops real time  usr time  sys time   bogo ops/s     bogo ops/s
stress-ng: metrc: [13]                           (secs)    (secs)    (secs)   (real time) (usr+sys time)
stress-ng: metrc: [13] mmap               2808      4.00      1.68      0.03       701.22        1643.49
stress-ng: metrc: [13] mmap                 145.51 MB per sec write rate
";

    #[test]
    fn figures_and_failures_are_found() {
        let report = Report::new(2, "mmap", RUN);
        assert_eq!(report.rate, Some(701.22));
        assert_eq!(report.failures, ["mmap: address 0x1 does not hold what was written"]);
    }

    #[test]
    fn what_was_not_counted_has_no_rate() {
        assert_eq!(
            Report::new(0, "cpu", "stress-ng: info:  [16] successful run completed in 4.18s\n").rate,
            None
        );
    }
}

//! The comparison of a program that was moved about with one that was not.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use crate::program::{Program, Run};
use crate::shaken::{Shaken, Tally};

/// Whether a program can be moved at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movable {
    /// It has to arrive somewhere at least once.
    Yes,
    /// Whatever keeps it, it has to be said.
    Perhaps,
}

/// How often a program is run again that has ended, as it should, before anybody could move it: on a busy machine half a
/// second may be too short for the first move.
const RETRIES: usize = 12;

/// What of the output counts.
type View = fn(&[u8]) -> Vec<u8>;

/// A program whose outcome is looked at.
#[derive(Debug)]
pub struct Check {
    program: Program,
    movable: Movable,
    view: View,
}

impl Program {
    /// It can be moved.
    pub fn moves(self) -> Check {
        Check { program: self, movable: Movable::Yes, view: <[u8]>::to_vec }
    }

    /// It has threads, or shares memory: it may have to stay at home.
    pub fn may_stay(self) -> Check {
        Check { program: self, movable: Movable::Perhaps, view: <[u8]>::to_vec }
    }
}

impl Check {
    /// Only this part of the output counts: the rest differs from one native run to the next.
    pub fn seen_through(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// Runs the program natively and shaken.
    ///
    /// # Panics
    /// When the two differ, or when nothing of what should move has moved.
    pub fn holds(&self) {
        let native = self.program.natively();
        let mut shaken = self.program.shaken();
        for _ in 0..RETRIES {
            let tally = &shaken.tally;
            let may_stay = self.movable == Movable::Perhaps && !tally.refusals.is_empty();
            if tally.moves > 0 || may_stay || shaken.run.status != native.status {
                break;
            }
            shaken = self.program.shaken();
        }
        record(&self.program.name, &native, &shaken);
        if let Some(difference) = self.difference(&native, &shaken) {
            panic!(
                "{}: {difference}\n{:?}\n--- its errors\n{}\n{}",
                self.program.name,
                shaken.tally,
                String::from_utf8_lossy(&shaken.run.errors()),
                shaken.logs
            );
        }
    }

    fn difference(&self, native: &Run, shaken: &Shaken) -> Option<String> {
        let run = &shaken.run;
        if run.status != native.status {
            return Some(format!("its status is {}, not {}\n{}", run.status, native.status, end_of(run)));
        }
        if let Some(at) = first_difference(&(self.view)(&native.output()), &(self.view)(&run.output())) {
            return Some(format!("its output differs {at}"));
        }
        if let Some(at) =
            first_difference(&native.product().unwrap_or_default(), &run.product().unwrap_or_default())
        {
            return Some(format!("what it made differs {at}"));
        }
        let tally = &shaken.tally;
        match self.movable {
            Movable::Yes if tally.moves == 0 => Some("it was never moved".to_owned()),
            Movable::Perhaps if tally.moves == 0 && tally.refusals.is_empty() => {
                Some("it stayed at home, and nobody said why".to_owned())
            }
            _ => None,
        }
    }
}

/// The last lines of the output, for a message.
fn end_of(run: &Run) -> String {
    let output = run.output();
    String::from_utf8_lossy(&output[output.len().saturating_sub(4000)..]).into_owned()
}

/// Where two outputs part, with a little of both.
fn first_difference(native: &[u8], shaken: &[u8]) -> Option<String> {
    if native == shaken {
        return None;
    }
    let at = native.iter().zip(shaken).take_while(|(one, other)| one == other).count();
    let part = |bytes: &[u8]| {
        let from = at.saturating_sub(40).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..(at + 80).min(bytes.len())]).into_owned()
    };
    let mut text = format!("at byte {at} ({} bytes natively, {} shaken)", native.len(), shaken.len());
    let _ = write!(text, "\nnatively {:?}\nshaken   {:?}", part(native), part(shaken));
    Some(text)
}

/// Adds a line to the table that `MINKA_REPORT` names.
fn record(name: &str, native: &Run, shaken: &Shaken) {
    let Some(path) = std::env::var_os("MINKA_REPORT") else { return };
    let line = line(name, &shaken.tally, native.time, shaken.run.time);
    let written = File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("add a line to the report");
}

fn line(name: &str, tally: &Tally, native: Duration, shaken: Duration) -> String {
    let refusals: Vec<String> =
        tally.refusals.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    format!(
        "| {name} | {} | {} | {} | {:.1} s | {:.1} s |\n",
        tally.processes,
        tally.moves,
        refusals.join("; "),
        native.as_secs_f64(),
        shaken.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_and_shown() {
        assert_eq!(first_difference(b"same", b"same"), None);
        let text = first_difference(b"abcdef", b"abcxef").expect("they differ");
        assert!(text.starts_with("at byte 3 (6 bytes natively, 6 shaken)"), "{text}");
        assert!(first_difference(b"abc", b"abcd").expect("they differ").starts_with("at byte 3"));
    }

    #[test]
    fn a_line_of_the_table_tells_everything() {
        let tally = Tally { moves: 7, refusals: [("threads".to_owned(), 2)].into(), processes: 3 };
        let line = line("xz", &tally, Duration::from_millis(1520), Duration::from_secs(3));
        assert_eq!(line, "| xz | 3 | 7 | 2 × threads | 1.5 s | 3.0 s |\n");
    }
}

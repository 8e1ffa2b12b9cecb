//! What the demonstration shows while it runs: a table that is drawn anew on a terminal, else lines.

use std::io::{self, IsTerminal};

use super::Row;
use super::Verdict;
use crate::commands::migrate::milliseconds;
use crate::failure::Failure;
use crate::output::{Output, Style, Table, paint};
use crate::text::Text;

/// The display of a demonstration.
#[derive(Debug)]
pub(super) struct Display {
    live: bool,
    /// Lines of the table that is on the terminal.
    drawn: usize,
    /// Moves and places that were told already, by row.
    told: Vec<(u64, String)>,
}

impl Display {
    pub(super) fn new(output: &Output) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = !output.is_json() && !dumb && io::stdout().is_terminal();
        Display { live, drawn: 0, told: Vec::new() }
    }

    /// Shows how things are.
    pub(super) fn update(&mut self, rows: &[Row], output: &mut Output) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(());
        }
        if self.live { self.draw(rows, output) } else { self.tell(rows, output) }
    }

    /// Shows how things are in the end.
    pub(super) fn finish(&mut self, rows: &[Row], output: &mut Output) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(());
        }
        self.draw(rows, output)
    }

    fn draw(&mut self, rows: &[Row], output: &mut Output) -> Result<(), Failure> {
        let mut lines = table(rows, &output.text).lines();
        if let Some(heading) = lines.first_mut() {
            *heading = paint(&io::stdout(), Style::Bold, heading);
        }
        let (up, clear) = if self.drawn > 0 {
            (format!("\u{1b}[{}A", self.drawn), "\u{1b}[2K")
        } else {
            (String::new(), "")
        };
        self.drawn = if self.live { lines.len() } else { 0 };
        let lines: Vec<String> = lines.into_iter().map(|line| format!("{clear}{line}")).collect();
        output.line(&format!("{up}{}", lines.join("\n")))
    }

    /// A line for each process that has moved since the last time.
    fn tell(&mut self, rows: &[Row], output: &mut Output) -> Result<(), Failure> {
        self.told.resize(rows.len(), (0, String::new()));
        for (row, told) in rows.iter().zip(&mut self.told) {
            let now = (row.moves, row.at.clone());
            if row.moves > told.0 {
                let variables = [
                    ("program", row.name.into()),
                    ("node", row.at.clone().into()),
                    ("freeze", milliseconds(row.freeze_us.unwrap_or(0)).into()),
                ];
                let line = output.text.with("demo-moved", &variables);
                output.line(&line)?;
                *told = now;
            }
        }
        Ok(())
    }
}

fn table(rows: &[Row], text: &Text) -> Table {
    let headings = ["demo-program", "demo-computes", "demo-node", "demo-moves", "demo-freeze", "demo-output"];
    let right = vec![false, false, false, true, true, false];
    let mut table = Table::new(headings.map(|id| text.get(id)).to_vec(), right);
    for row in rows {
        table.row(vec![
            row.name.to_owned(),
            row.computes.clone(),
            row.at.clone(),
            row.moves.to_string(),
            row.freeze_us.map(milliseconds).unwrap_or_default(),
            verdict(row, text),
        ]);
    }
    table
}

fn verdict(row: &Row, text: &Text) -> String {
    match &row.verdict {
        None => text.get("demo-running"),
        Some(Verdict::Right) => text.get("demo-right"),
        Some(Verdict::Wrong) => text.get("demo-wrong"),
        Some(Verdict::Failed(status)) => text.with("demo-failed", &[("status", (*status).into())]),
    }
}

//! What goes to standard output and standard error, for people or, with `--json`, for programs.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;
use crate::text::Text;

/// The way out.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) text: Text,
    json: bool,
}

/// How a piece of text stands out, where the terminal can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Good,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Bold => "1",
            Style::Good => "32",
            Style::Bad => "1;31",
        }
    }
}

impl Output {
    pub(crate) fn new(text: Text, json: bool) -> Self {
        Output { text, json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line to standard output.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    /// Writes a value as one line of JSON to standard output.
    pub(crate) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
        self.line(&line)
    }

    /// Writes a remark to standard error, after the program's name.
    pub(crate) fn remark(&self, line: &str) {
        // Nobody is left to tell when standard error fails.
        let _ = writeln!(io::stderr(), "minka: {line}");
    }

    /// Reports a failure; returns the exit status it gives.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        // A reader that has seen enough, as `head`, is no failure worth a word.
        if matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return failure.status().into();
        }
        let lines = failure.lines(&self.text);
        if self.json {
            let error = json!({"error": {"status": failure.status() as u8, "lines": lines}});
            let _ = writeln!(io::stderr(), "{error}");
        } else {
            let mut lines = lines.into_iter();
            let first = lines.next().unwrap_or_default();
            self.remark(&paint(&io::stderr(), Style::Bad, &first));
            for line in lines {
                let _ = writeln!(io::stderr(), "  {line}");
            }
        }
        failure.status().into()
    }
}

/// Text in a style, if the stream is a terminal and its user has nothing against colours.
pub(crate) fn paint(stream: &impl IsTerminal, style: Style, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if plain || dumb || !stream.is_terminal() {
        return text.to_owned();
    }
    format!("\u{1b}[{}m{text}\u{1b}[0m", style.code())
}

/// Columns of text, each as wide as its widest cell; numbers are set to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with its headings; `right` says which columns hold numbers.
    pub(crate) fn new(headings: Vec<String>, right: Vec<bool>) -> Self {
        Table { rows: vec![headings], right }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A command's or file's name fit for a terminal: control characters are shown, not obeyed.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|character| {
            let shown: Vec<char> =
                if character.is_control() { character.escape_default().collect() } else { vec![character] };
            shown
        })
        .collect()
}

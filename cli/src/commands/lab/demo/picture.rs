//! What the demonstration shows while it runs: nodes, their load, and who computes where. On a terminal the picture is
//! drawn anew all the time, elsewhere it is told in lines.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use minka_node::protocol::Node;

use super::{Row, Verdict};
use crate::commands::migrate::milliseconds;
use crate::failure::Failure;
use crate::output::{Output, Style, Table, paint};
use crate::text::Text;

/// The longest bar, one block for a program that wants a processor.
const BAR_MAX: usize = 12;

/// What has happened lately, below the picture.
const NEWS_MAX: usize = 6;

/// How often the nodes are told of where there is no terminal.
const TELL: Duration = Duration::from_secs(2);

/// The display of a demonstration.
#[derive(Debug)]
pub(super) struct Picture {
    live: bool,
    start: Instant,
    /// Lines of it that are on the terminal.
    drawn: usize,
    news: Vec<String>,
    told: Option<Instant>,
}

impl Picture {
    pub(super) fn new(output: &Output) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = !output.is_json() && !dumb && io::stdout().is_terminal();
        Picture { live, start: Instant::now(), drawn: 0, news: Vec::new(), told: None }
    }

    /// Something has happened.
    pub(super) fn tell(&mut self, what: &str, output: &mut Output) -> Result<(), Failure> {
        let line = format!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64());
        if output.is_json() {
            return Ok(());
        }
        if !self.live {
            return output.line(&line);
        }
        self.news.push(line);
        self.news.drain(..self.news.len().saturating_sub(NEWS_MAX));
        Ok(())
    }

    /// Shows how things are.
    pub(super) fn update(
        &mut self,
        nodes: &[Node],
        rows: &[Row],
        output: &mut Output,
    ) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(());
        }
        let lines = picture(nodes, rows, &output.text).lines();
        if !self.live {
            if self.told.is_none_or(|told| told.elapsed() >= TELL) {
                self.told = Some(Instant::now());
                return lines.iter().try_for_each(|line| output.line(&format!("         {line}")));
            }
            return Ok(());
        }
        let time = format!("{:5.1} s", self.start.elapsed().as_secs_f64());
        let news = (0..NEWS_MAX).map(|index| self.news.get(index).cloned().unwrap_or_default());
        let head = paint(&io::stdout(), Style::Bold, &time);
        let lines: Vec<String> =
            std::iter::once(head).chain(lines).chain([String::new()]).chain(news).collect();
        // No line may be longer than the terminal is wide, or going up would end in the wrong one.
        let (columns, _) = crate::commands::screen::Screen::size();
        let line = |line: &String| format!("\u{1b}[2K{}", line.chars().take(columns).collect::<String>());
        let up = if self.drawn > 0 { format!("\u{1b}[{}A", self.drawn) } else { String::new() };
        self.drawn = lines.len();
        output.line(&format!("{up}{}", lines.iter().map(line).collect::<Vec<_>>().join("\n")))
    }

    /// Shows what came of it.
    pub(super) fn finish(&self, rows: &[Row], output: &mut Output) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(());
        }
        output.line("")?;
        let mut lines = results(rows, &output.text).lines();
        if let Some(heading) = lines.first_mut() {
            *heading = paint(&io::stdout(), Style::Bold, heading);
        }
        lines.iter().try_for_each(|line| output.line(line))
    }
}

/// The nodes: how much there is to do, and which programs compute there.
fn picture(nodes: &[Node], rows: &[Row], text: &Text) -> Table {
    let headings = ["demo-node", "demo-load", "", "demo-programs"];
    let title = |id: &str| if id.is_empty() { String::new() } else { text.get(id) };
    let mut table = Table::new(headings.map(title).to_vec(), vec![false, true, false, false]);
    let mut nodes: Vec<&Node> = nodes.iter().collect();
    nodes.sort_by_key(|node| &node.name);
    for node in nodes {
        let load = node.figures.as_ref().map(|figures| figures.running);
        let there = rows.iter().filter(|row| row.verdict.is_none() && row.at == node.name);
        let mut programs: Vec<&str> = there.map(|row| row.name.as_str()).collect();
        let closed = text.get("demo-closed");
        if programs.is_empty() && node.figures.as_ref().is_some_and(|figures| figures.blocked) {
            programs.push(&closed);
        }
        // Saturates.
        let bar = "█".repeat((load.unwrap_or(0.0).round() as usize).min(BAR_MAX));
        let load = load.map(|load| format!("{load:.1}")).unwrap_or_default();
        table.row(vec![node.name.clone(), load, format!("{bar:BAR_MAX$}"), programs.join(" ")]);
    }
    table
}

/// The programs in the end.
fn results(rows: &[Row], text: &Text) -> Table {
    let headings = ["demo-program", "demo-computes", "demo-moves", "demo-freeze", "demo-output"];
    let right = vec![false, false, true, true, false];
    let mut table = Table::new(headings.map(|id| text.get(id)).to_vec(), right);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.computes.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, running: f64, blocked: bool) -> Node {
        let figures = serde_json::json!({
            "age_ms": 0, "load": 0.0, "running": running, "standard_load": 0, "cpus": 1, "speed": 1, "utilisation": 0,
            "io_stall": 0, "memory_mib": 1, "free_mib": 1, "available_mib": 1, "blocked": blocked, "stays": false,
            "leaving": false
        });
        let node = serde_json::json!({
            "name": name, "address": "", "this": false, "reachable": true, "guests": 0, "figures": figures
        });
        serde_json::from_value(node).unwrap()
    }

    fn row(name: &str, at: &str, verdict: Option<Verdict>) -> Row {
        Row { name: name.to_owned(), at: at.to_owned(), verdict, ..Row::default() }
    }

    #[test]
    fn the_picture_has_each_program_where_it_computes() {
        let nodes = [node("node3", 0.0, true), node("node1", 2.6, false), node("node2", 40.0, true)];
        let rows = [
            row("awk-1", "node1", None),
            row("sort", "node2", None),
            row("gzip", "node1", None),
            row("awk-2", "node3", Some(Verdict::Right)),
        ];
        let lines = picture(&nodes, &rows, &Text::new(crate::text::Language::English)).lines();
        assert_eq!(lines[0], "NODE   LOAD                PROGRAMS");
        assert_eq!(lines[1], "node1   2.6  ███           awk-1 gzip");
        assert_eq!(lines[2], "node2  40.0  ████████████  sort");
        assert!(
            lines[3].starts_with("node3   0.0                (") && !lines[3].contains("awk"),
            "{}",
            lines[3]
        );
    }
}

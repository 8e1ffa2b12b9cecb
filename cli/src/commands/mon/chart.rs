//! Drawing: lines of text, from nodes and a view. Knows of no terminal.
//!
//! ```text
//! load (1.00 is one task for each standard processor)
//!    2.00 |
//!         |  #
//!    1.00 |  #       ?
//!         |  #   #
//!    0.00 +----------------
//!            1   2   3      the nodes' numbers
//! h: help  q: end
//! ```

use minka_node::protocol::Node;

use super::view::{Bar, View};
use crate::args::mon::{Columns, Show};
use crate::text::Text;

/// Room for the numbers at the left, with the axis.
const MARGIN: usize = 10;

/// Columns of a node: with its number beside the others', with its digits one below the other, and without a gap.
const WIDE: usize = 6;
const VERTICAL: usize = 3;
const TIGHT: usize = 1;

/// How the nodes' columns are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    width: usize,
    /// Rows of a node's number.
    digits: usize,
}

/// All lines: at most as many, and as wide, as fit.
pub(super) fn draw(nodes: &[Node], view: &View, (width, height): (usize, usize), text: &Text) -> Vec<String> {
    let mut lines =
        if view.help { help(text) } else { chart(&view.chosen(nodes), view, (width, height), text) };
    lines.truncate(height.saturating_sub(1));
    lines.push(foot(nodes, view, text));
    lines.iter().map(|line| line.chars().take(width).collect()).collect()
}

fn help(text: &Text) -> Vec<String> {
    text.get("mon-help").lines().map(str::to_owned).collect()
}

fn foot(nodes: &[Node], view: &View, text: &Text) -> String {
    let mut foot = text.get("mon-foot");
    if view.total {
        let up: Vec<&Node> = nodes.iter().filter(|node| node.member).collect();
        let cpus: u32 = up.iter().filter_map(|node| Some(u32::from(node.figures.as_ref()?.cpus))).sum();
        let variables = [("nodes", up.len().into()), ("cpus", cpus.into())];
        foot = format!("{foot}   {}", text.with("mon-total", &variables));
    }
    foot
}

fn chart(chosen: &[&Node], view: &View, (width, height): (usize, usize), text: &Text) -> Vec<String> {
    let room = width.saturating_sub(MARGIN);
    let layout = layout(chosen, view.columns, room);
    let visible = chosen.get(view.skipped.min(chosen.len())..).unwrap_or_default();
    let visible = visible.get(..visible.len().min(room / layout.width)).unwrap_or_default();
    let bars: Vec<Option<Bar>> =
        visible.iter().map(|node| node.figures.as_ref().map(|figures| view.bar(figures))).collect();
    let most = bars.iter().flatten().map(|bar| bar.of.unwrap_or(bar.value)).fold(0.0, f64::max);
    let scale = Scale::above(most, view.show);
    // The title, the axis, the numbers and the foot take the rest.
    let rows = height.saturating_sub(3 + layout.digits).max(2);
    let title = match view.show {
        Show::Load => "mon-load",
        Show::LogLoad => "mon-log-load",
        Show::Speed => "mon-speed",
        Show::Memory => "mon-memory",
        Show::RawMemory => "mon-raw-memory",
        Show::Use => "mon-use",
    };
    let mut lines = vec![text.get(title)];
    for row in (0..rows).rev() {
        let marks = visible.iter().zip(&bars).map(|(node, bar)| {
            let mark = mark(node, bar.as_ref(), row, rows, &scale);
            format!("{mark:>width$}", width = layout.width)
        });
        lines.push(format!("{} |{}", scale.label(row, rows), marks.collect::<String>()));
    }
    let axis = "-".repeat(visible.len() * layout.width);
    lines.push(format!("{:>width$} +{axis}", scale.text(0.0), width = MARGIN - 2));
    lines.extend(numbers(visible, layout));
    lines
}

/// What stands in a row of a node's column.
fn mark(node: &Node, bar: Option<&Bar>, row: usize, rows: usize, scale: &Scale) -> char {
    let filled = |value: f64| (scale.part(value) * rows as f64).round() as usize;
    match bar {
        // Of one that is down what it told last is no news.
        _ if !node.member => {
            if row == 0 {
                'x'
            } else {
                ' '
            }
        }
        None => {
            if row == 0 {
                '?'
            } else {
                ' '
            }
        }
        Some(bar) if row < filled(bar.value) => '#',
        Some(bar) if bar.of.is_some_and(|of| row < filled(of)) => '+',
        Some(_) => ' ',
    }
}

fn layout(chosen: &[&Node], columns: Columns, room: usize) -> Layout {
    let digits = chosen.iter().map(|node| name(node).len()).max().unwrap_or(1);
    let width = match columns {
        Columns::Wide => WIDE,
        Columns::Vertical => VERTICAL,
        Columns::Tight => TIGHT,
        Columns::Auto => {
            let fits = |width: &usize| chosen.len() * width <= room;
            [WIDE, VERTICAL, TIGHT].into_iter().find(fits).unwrap_or(TIGHT)
        }
    };
    if width == WIDE { Layout { width, digits: 1 } } else { Layout { width, digits } }
}

/// The nodes' numbers, below their bars.
fn numbers(visible: &[&Node], layout: Layout) -> Vec<String> {
    let margin = " ".repeat(MARGIN);
    let cell = |text: &str| format!("{text:>width$}", width = layout.width);
    let line = |row: usize| {
        let cells = visible.iter().map(|node| {
            let name = name(node);
            match layout.width {
                WIDE => cell(&name),
                _ => cell(name.get(row..=row).unwrap_or(" ")),
            }
        });
        format!("{margin}{}", cells.collect::<String>())
    };
    (0..layout.digits).map(line).collect()
}

/// A node's number, or a sign that it has none.
fn name(node: &Node) -> String {
    node.number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// What the full height of the chart stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    top: f64,
    logarithmic: bool,
    decimals: usize,
}

impl Scale {
    /// The smallest of 1, 2 and 5 times a power of ten that is large enough.
    fn above(most: f64, show: Show) -> Self {
        let (least, decimals) = match show {
            Show::Load | Show::LogLoad => (1.0, 2),
            Show::Speed => (10_000.0, 0),
            Show::Memory | Show::RawMemory | Show::Use => (100.0, 0),
        };
        let mut top: f64 = least;
        let mut steps = [2.0, 2.5, 2.0].into_iter().cycle();
        while top < most && top.is_finite() {
            top *= steps.next().unwrap_or(2.0);
        }
        Scale { top, logarithmic: show == Show::LogLoad, decimals }
    }

    /// The part of the height up to a value.
    fn part(&self, value: f64) -> f64 {
        let part =
            if self.logarithmic { (1.0 + value).ln() / (1.0 + self.top).ln() } else { value / self.top };
        part.clamp(0.0, 1.0)
    }

    /// The value at a part of the height.
    fn value(&self, part: f64) -> f64 {
        if self.logarithmic { (1.0 + self.top).powf(part) - 1.0 } else { self.top * part }
    }

    fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.decimals)
    }

    /// What stands at the left of a row: a number at the top and in the middle.
    fn label(&self, row: usize, rows: usize) -> String {
        let at = [(rows - 1, 1.0), (rows / 2, 0.5)].into_iter().find(|(at, _)| *at == row);
        let text = at.map(|(_, part)| self.text(self.value(part))).unwrap_or_default();
        format!("{text:>width$}", width = MARGIN - 2)
    }
}

#[cfg(test)]
mod tests;

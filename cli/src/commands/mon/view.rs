//! What is looked at, and how keys change it.

use minka_node::protocol::{Figures, Node};

use crate::args::mon::{Columns, Mon, Show};
use crate::commands::screen::Key;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) show: Show,
    pub(super) columns: Columns,
    /// Also nodes that are not up.
    pub(super) dead: bool,
    /// How many are up.
    pub(super) total: bool,
    /// What the keys mean, instead of the chart.
    pub(super) help: bool,
    /// How many nodes are left out at the left.
    pub(super) skipped: usize,
}

/// A node's bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    pub(super) value: f64,
    /// The whole that the value is a part of, where there is one.
    pub(super) of: Option<f64>,
}

/// What a key comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Press {
    /// The view may be another one now.
    Shown,
    /// The nodes are to be asked for at once.
    Anew,
    /// It is over.
    End,
}

impl View {
    pub(super) fn new(arguments: &Mon) -> Self {
        View {
            show: arguments.show,
            columns: arguments.columns,
            dead: arguments.dead,
            total: arguments.total,
            help: false,
            skipped: 0,
        }
    }

    /// The nodes that are shown.
    pub(super) fn chosen<'a>(&self, nodes: &'a [Node]) -> Vec<&'a Node> {
        let mut chosen: Vec<&Node> = nodes.iter().filter(|node| self.dead || node.member).collect();
        chosen.sort_by_key(|node| node.number);
        chosen
    }

    pub(super) fn bar(&self, figures: &Figures) -> Bar {
        let mib = |mib: u32| f64::from(mib);
        let alone = |value| Bar { value, of: None };
        match self.show {
            Show::Load | Show::LogLoad => alone(f64::from(figures.standard_load) / 100.0),
            Show::Speed => alone(f64::from(figures.speed) * f64::from(figures.cpus)),
            Show::Memory => Bar {
                value: mib(figures.memory_mib.saturating_sub(figures.available_mib)),
                of: Some(mib(figures.memory_mib)),
            },
            Show::RawMemory => Bar {
                value: mib(figures.memory_mib.saturating_sub(figures.free_mib)),
                of: Some(mib(figures.memory_mib)),
            },
            Show::Use => Bar { value: f64::from(figures.utilisation), of: Some(100.0) },
        }
    }

    /// Does what a key is for.
    pub(super) fn press(&mut self, key: Key, nodes: &[Node]) -> Press {
        let Key::Character(character) = key else {
            match key {
                Key::End => return Press::End,
                Key::Left => self.skipped = self.skipped.saturating_sub(1),
                Key::Right => {
                    self.skipped = (self.skipped + 1).min(self.chosen(nodes).len().saturating_sub(1));
                }
                Key::Enter | Key::Character(_) => return Press::Anew,
            }
            return Press::Shown;
        };
        let helped = std::mem::take(&mut self.help);
        match character {
            'l' => self.show = Show::Load,
            'L' => self.show = Show::LogLoad,
            's' => self.show = Show::Speed,
            'm' => self.show = Show::Memory,
            'r' => self.show = Show::RawMemory,
            'u' => self.show = Show::Use,
            'w' => self.columns = Columns::Wide,
            'v' => self.columns = Columns::Vertical,
            'V' => self.columns = Columns::Tight,
            'a' => self.columns = Columns::Auto,
            'd' => self.dead = !self.dead,
            't' => self.total = !self.total,
            'h' | 'H' | '?' => self.help = !helped,
            'q' | 'Q' => return Press::End,
            _ => {}
        }
        Press::Shown
    }
}

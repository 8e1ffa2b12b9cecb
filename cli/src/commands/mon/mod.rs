//! `minka mon`: what all nodes do, as a chart that is drawn anew each second; openMosix's `mosmon`.

mod chart;
mod view;

use std::time::{Duration, Instant};

use minka_node::protocol::Node;
use serde_json::{Value, json};

use super::client;
use super::screen::{Screen, USUAL};
use crate::args::mon::{Mon, Show};
use crate::failure::Failure;
use crate::output::Output;
use view::{Press, View};

/// How often the nodes are asked for.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn mon(arguments: &Mon, output: &mut Output) -> Result<(), Failure> {
    let mut view = View::new(arguments);
    let mut nodes = client()?.nodes()?;
    if output.is_json() {
        let values: Vec<Value> = nodes.iter().map(|node| value(&view, node)).collect();
        return output.json(&json!({"show": name(view.show), "nodes": values}));
    }
    let screen = if arguments.once { None } else { Screen::open().map_err(Failure::Output)? };
    let Some(screen) = screen else {
        let lines = chart::draw(&nodes, &view, USUAL, &output.text);
        return lines.iter().try_for_each(|line| output.line(line.trim_end()));
    };
    let mut asked = Instant::now();
    loop {
        screen.show(&chart::draw(&nodes, &view, Screen::size(), &output.text)).map_err(Failure::Output)?;
        let keys = screen.keys(INTERVAL.saturating_sub(asked.elapsed())).map_err(Failure::Output)?;
        for key in keys {
            match view.press(key, &nodes) {
                Press::Shown => {}
                Press::Anew => asked = Instant::now().checked_sub(INTERVAL).unwrap_or(asked),
                Press::End => return Ok(()),
            }
        }
        if asked.elapsed() >= INTERVAL {
            // While the daemon is started anew the last picture stays.
            nodes = client().and_then(|mut client| Ok(client.nodes()?)).unwrap_or(nodes);
            asked = Instant::now();
        }
    }
}

fn value(view: &View, node: &Node) -> Value {
    let bar = node.figures.as_ref().map(|figures| view.bar(figures));
    json!({
        "name": node.name,
        "number": node.number,
        "up": node.member,
        "value": bar.map(|bar| bar.value),
        "of": bar.and_then(|bar| bar.of),
    })
}

fn name(show: Show) -> &'static str {
    match show {
        Show::Load => "load",
        Show::LogLoad => "log-load",
        Show::Speed => "speed",
        Show::Memory => "memory",
        Show::RawMemory => "raw-memory",
        Show::Use => "use",
    }
}

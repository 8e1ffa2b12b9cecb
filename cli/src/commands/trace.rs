//! `minka trace`: what a process that is away asks of its home, as it asks it.

use minka_node::protocol::Event;

use super::client;
use super::migrate::milliseconds;
use crate::args::Trace;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::text::Text;

pub(super) fn trace(arguments: &Trace, output: &mut Output) -> Result<(), Failure> {
    let mut outcome = Ok(());
    client()?.trace(arguments.pid, |event| {
        outcome = show(&event, output);
        outcome.is_ok()
    })?;
    outcome
}

fn show(event: &Event, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(event);
    }
    let line = line(event, &output.text);
    output.line(&line)
}

fn line(event: &Event, text: &Text) -> String {
    let reason = |reason: &Option<String>| reason.as_deref().map(printable).unwrap_or_default();
    match event {
        Event::Call { line } => printable(line),
        Event::Lost { lines } => text.with("trace-lost", &[("lines", (*lines).into())]),
        Event::Arrived { at, home, reason: why, freeze_us } => {
            let id = match (home, why) {
                (false, _) => "trace-away",
                (true, None) => "trace-home",
                (true, Some(_)) => "trace-home-because",
            };
            let freeze = milliseconds(*freeze_us);
            text.with(
                id,
                &[("node", at.clone().into()), ("freeze", freeze.into()), ("reason", reason(why).into())],
            )
        }
        Event::Ended { reason: None } => text.get("trace-ended"),
        Event::Ended { reason: why } => text.with("trace-ended-because", &[("reason", reason(why).into())]),
    }
}

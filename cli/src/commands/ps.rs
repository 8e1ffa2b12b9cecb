//! `minka ps`: the processes, where they are, and why not elsewhere.

use minka_node::protocol::{Process, State};

use super::client;
use crate::args::Ps;
use crate::failure::Failure;
use crate::output::{Output, Table, printable};
use crate::text::Text;

pub(super) fn ps(arguments: &Ps, output: &mut Output) -> Result<(), Failure> {
    let processes = client()?.ps(arguments.all)?;
    if output.is_json() {
        return output.json(&processes);
    }
    let lines = table(&processes, &output.text).lines();
    lines.iter().try_for_each(|line| output.line(line))
}

fn table(processes: &[Process], text: &Text) -> Table {
    let headings = ["ps-pid", "ps-command", "ps-home", "ps-where", "ps-moves", "ps-cantmove"];
    let headings = headings.map(|id| text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![true, false, false, false, true, false]);
    for process in processes {
        table.row(vec![
            process.pid.to_string(),
            printable(&process.command),
            process.home.clone(),
            place(process, text),
            process.moves.to_string(),
            remark(process),
        ]);
    }
    table
}

/// Where it is, with what is special about that.
fn place(process: &Process, text: &Text) -> String {
    let special = match process.state {
        State::Home | State::Away => return process.at.clone(),
        State::Moving => "ps-moving",
        State::Guest => "ps-guest",
        State::Ended => "ps-ended",
    };
    format!("{} ({})", process.at, text.get(special))
}

/// Why it cannot move, or why it last came home or ended.
fn remark(process: &Process) -> String {
    match process.state {
        State::Away | State::Guest => String::new(),
        _ if process.cantmove.is_empty() => process.reason.as_deref().map(printable).unwrap_or_default(),
        _ => printable(&process.cantmove.join("; ")),
    }
}

#[cfg(test)]
mod tests;

//! `minka status` and `minka nodes`: this node, and the others.

use super::client;
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(super) fn status(output: &mut Output) -> Result<(), Failure> {
    let status = client()?.status()?;
    if output.is_json() {
        return output.json(&status);
    }
    let variables = [
        ("node", status.node.clone().into()),
        ("release", status.release.clone().into()),
        ("pid", status.pid.to_string().into()),
        ("listen", status.listen.clone().into()),
        ("minutes", (status.uptime_s / 60).to_string().into()),
        ("away", status.away.into()),
        ("guests", status.guests.into()),
    ];
    let lines = output.text.with("status", &variables);
    output.line(&lines)
}

pub(super) fn nodes(output: &mut Output) -> Result<(), Failure> {
    let nodes = client()?.nodes()?;
    if output.is_json() {
        return output.json(&nodes);
    }
    let headings = ["nodes-node", "nodes-address", "nodes-reachable", "nodes-guests"];
    let headings = headings.map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![false, false, false, true]);
    for node in nodes {
        let reachable = match (node.this, node.reachable) {
            (true, _) => "nodes-this",
            (false, true) => "nodes-yes",
            (false, false) => "nodes-no",
        };
        table.row(vec![node.name, node.address, output.text.get(reachable), node.guests.to_string()]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

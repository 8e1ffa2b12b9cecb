//! `minka status` and `minka nodes`: this node, and the others.

use minka_node::protocol::{Closed, DeviceFigures, Figures, Node, Pool, PoolKind};

use super::client;
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::text::Text;

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
    output.line(&lines)?;
    match status.pool {
        Some(pool) => output.line(&format!("  {}", pool_line(&pool, &output.text))),
        None => Ok(()),
    }
}

/// How the node shares with the others, and whether it takes guests.
pub(super) fn pool_line(pool: &Pool, text: &Text) -> String {
    let kind = match pool.kind {
        PoolKind::Single => "pool-single",
        PoolKind::Server => "pool-server",
        PoolKind::Client => "pool-client",
        PoolKind::Adaptive => "pool-adaptive",
    };
    let closed = match pool.closed {
        None => "pool-open",
        Some(Closed::Blocked) => "pool-blocked",
        Some(Closed::Client) => return text.get(kind),
        Some(Closed::Time) => "pool-time",
        Some(Closed::Used) => "pool-used",
    };
    format!("{}: {}", text.get(kind), text.get(closed))
}

pub(super) fn nodes(output: &mut Output) -> Result<(), Failure> {
    let nodes = client()?.nodes()?;
    if output.is_json() {
        return output.json(&nodes);
    }
    let headings = [
        "nodes-node",
        "nodes-address",
        "nodes-reachable",
        "nodes-load",
        "nodes-cpus",
        "nodes-speed",
        "nodes-memory",
        "nodes-available",
        "nodes-guests",
    ];
    let mut headings = headings.map(|id| output.text.get(id)).to_vec();
    let mut right = vec![false, false, false, true, true, true, true, true, true];
    let devices = |node: &Node| node.figures.as_ref().and_then(|figures| figures.devices.clone());
    let any = nodes.iter().any(|node| devices(node).is_some_and(|devices| !devices.is_empty()));
    if any {
        headings.push(output.text.get("nodes-devices"));
        right.push(false);
    }
    let mut table = Table::new(headings, right);
    for node in nodes {
        let reachable = match (node.this, node.reachable) {
            (true, _) => "nodes-this",
            (false, true) => "nodes-yes",
            (false, false) => "nodes-no",
        };
        let accelerators = any.then(|| accelerators(devices(&node).as_deref(), &output.text));
        let mut row = vec![node.name, node.address, output.text.get(reachable)];
        row.extend(figures(node.figures.as_ref()));
        row.push(node.guests.to_string());
        row.extend(accelerators);
        table.row(row);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

/// What a node told of itself; nothing where it did not.
fn figures(figures: Option<&Figures>) -> [String; 5] {
    figures.map_or_else(Default::default, |figures| {
        [
            format!("{:.2}", figures.load),
            figures.cpus.to_string(),
            figures.speed.to_string(),
            figures.memory_mib.to_string(),
            figures.available_mib.to_string(),
        ]
    })
}

/// How many devices of each kind are free, of how many; nothing where nobody has looked.
fn accelerators(devices: Option<&[DeviceFigures]>, text: &Text) -> String {
    let kinds = devices.unwrap_or_default().iter().map(|devices| {
        let free = devices.free.map_or_else(|| "?".to_owned(), |free| free.to_string());
        let line = format!("{} {free}/{}", devices.kind.name(), devices.total);
        if devices.drained == 0 {
            return line;
        }
        text.with("nodes-drained", &[("devices", line.into()), ("count", devices.drained.to_string().into())])
    });
    kinds.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Language;

    #[test]
    fn a_pool_is_told_in_both_languages() {
        let pool = |kind, closed| Pool { kind, closed, idle_s: None };
        let check = |pool: &Pool, english: &str, spanish: &str| {
            let told = [Language::English, Language::Spanish].map(|it| pool_line(pool, &Text::new(it)));
            assert_eq!(told, [english, spanish]);
        };
        check(&pool(PoolKind::Single, None), "single pool: it takes guests", "grupo único: acepta huéspedes");
        check(
            &pool(PoolKind::Adaptive, Some(Closed::Used)),
            "adaptive pool: it takes no guests, for somebody uses the machine",
            "grupo adaptable: no acepta huéspedes, porque alguien usa la máquina",
        );
        check(
            &pool(PoolKind::Client, Some(Closed::Client)),
            "client of a server pool: it takes no guests",
            "cliente de un grupo de servidores: no acepta huéspedes",
        );
    }
}

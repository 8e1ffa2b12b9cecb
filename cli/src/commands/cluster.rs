//! `minka cluster`: the keys and lists of a cluster of real machines.

use minka_link::roster::{NODE_FILE, Roster};
use serde_json::json;

use super::node::RESERVED;
use crate::args::cluster::{Add, Cluster, What};
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(super) fn cluster(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    match &arguments.what {
        What::Init => init(arguments, output),
        What::Add(add) => self::add(arguments, add, output),
        What::Remove(remove) => {
            Roster::open(&arguments.dir)?.remove(&remove.name)?;
            said(output, "cluster-removed", &remove.name, &arguments.dir.display().to_string())
        }
        What::List => list(arguments, output),
    }
}

fn init(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    Roster::create(&arguments.dir)?;
    said(output, "cluster-made", "", &arguments.dir.display().to_string())
}

fn add(arguments: &Cluster, add: &Add, output: &mut Output) -> Result<(), Failure> {
    if RESERVED.contains(&add.name.as_str()) {
        return Err(Failure::ReservedName { name: add.name.clone() });
    }
    let directory = Roster::open(&arguments.dir)?.add(&add.name, add.address)?;
    if output.is_json() {
        let config = directory.join(NODE_FILE);
        return output.json(
            &json!({"name": add.name, "listen": add.address, "directory": directory, "config": config}),
        );
    }
    said(output, "cluster-added", &add.name, &directory.display().to_string())
}

fn said(output: &mut Output, message: &str, name: &str, directory: &str) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({"directory": directory}));
    }
    let lines = output
        .text
        .with(message, &[("name", name.to_owned().into()), ("directory", directory.to_owned().into())]);
    output.line(&lines)
}

fn list(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    let roster = Roster::open(&arguments.dir)?;
    if output.is_json() {
        return output.json(roster.nodes());
    }
    let headings = ["nodes-node", "nodes-address"].map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![false, false]);
    for (name, address) in roster.nodes() {
        table.row(vec![name.clone(), address.to_string()]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

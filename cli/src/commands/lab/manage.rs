//! `minka lab up`, `down` and `status`.

use minka_lab::{DaemonState, Lab, LabOptions, NodeStatus};
use serde::Serialize;

use crate::args::{LabDown, LabStatus, LabUp};
use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::text::Text;

pub(super) fn up(arguments: &LabUp, output: &mut Output) -> Result<(), Failure> {
    let options = LabOptions {
        nodes: arguments.nodes,
        cpus: arguments.cpus.clone(),
        memory_mib: arguments.memory.clone(),
        balance: arguments.balance.into(),
        ..LabOptions::named(&arguments.name)
    };
    let lab = Lab::up(&options)?;
    let description = lab.description();
    if output.is_json() {
        return output.json(description);
    }
    let nodes: Vec<&str> = description.nodes.iter().map(|node| node.name.as_str()).collect();
    let option = if arguments.name == crate::args::LAB {
        String::new()
    } else {
        format!("--name {} ", arguments.name)
    };
    let variables = [
        ("name", arguments.name.clone().into()),
        ("nodes", nodes.join(", ").into()),
        ("option", option.into()),
        ("node", nodes.first().copied().unwrap_or_default().into()),
    ];
    let first = output.text.with("lab-up", &variables);
    output.line(&first)?;
    let mut table = Table::new(Vec::new(), vec![false, false]);
    for id in ["lab-up-run", "lab-up-ps", "lab-up-status", "lab-up-down"] {
        let explanation = output.text.get(&format!("{id}-means"));
        table.row(vec![format!("  {}", output.text.with(id, &variables).trim_end()), explanation]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

pub(super) fn down(arguments: &LabDown, output: &mut Output) -> Result<(), Failure> {
    let directory = Lab::directory_for(&arguments.name)?;
    if !Lab::down_in(&directory)? {
        return Err(minka_lab::LabError::NotRunning(directory).into());
    }
    if output.is_json() {
        return output.json(&serde_json::json!({"down": arguments.name}));
    }
    let line = output.text.with("lab-down", &[("name", arguments.name.clone().into())]);
    output.line(&line)
}

/// A lab as `minka lab status` shows it.
#[derive(Debug, Serialize)]
struct LabView {
    name: String,
    running: bool,
    nodes: Vec<NodeStatus>,
}

pub(super) fn status(arguments: &LabStatus, output: &mut Output) -> Result<(), Failure> {
    let labs = match &arguments.name {
        Some(name) => vec![view(name, &Lab::open(name)?)?],
        None => all()?,
    };
    if output.is_json() {
        return output.json(&labs);
    }
    if labs.is_empty() {
        let line = output.text.get("lab-none");
        return output.line(&line);
    }
    let lines = table(&labs, &output.text).lines();
    lines.iter().try_for_each(|line| output.line(line))
}

fn view(name: &str, lab: &Lab) -> Result<LabView, Failure> {
    Ok(LabView { name: name.to_owned(), running: true, nodes: lab.status()? })
}

/// All labs in the usual place, those left by a crash included.
fn all() -> Result<Vec<LabView>, Failure> {
    let labs = Lab::list()?;
    let views = labs.into_iter().map(|description| {
        let open = Lab::open_in(&description.directory).ok();
        let running = open.as_ref().and_then(|lab| view(&description.name, lab).ok());
        running.unwrap_or_else(|| LabView { name: description.name, running: false, nodes: Vec::new() })
    });
    Ok(views.collect())
}

fn table(labs: &[LabView], text: &Text) -> Table {
    let headings = ["lab-lab", "lab-node", "lab-address", "lab-network", "lab-daemon"];
    let mut table = Table::new(headings.map(|id| text.get(id)).to_vec(), vec![false; headings.len()]);
    for lab in labs {
        for node in &lab.nodes {
            let network = if node.connected { "lab-connected" } else { "lab-cut" };
            let network = if node.alive { network } else { "lab-dead" };
            let cells = [lab.name.clone(), node.name.clone(), node.address.to_string(), text.get(network)];
            table.row(cells.into_iter().chain([daemon(node.daemon, text)]).collect());
        }
        if !lab.running {
            table.row(vec![
                lab.name.clone(),
                String::new(),
                String::new(),
                text.get("lab-crashed"),
                String::new(),
            ]);
        }
    }
    table
}

fn daemon(state: DaemonState, text: &Text) -> String {
    match state {
        DaemonState::Starting => text.get("lab-daemon-starting"),
        DaemonState::Running(pid) => text.with("lab-daemon-running", &[("pid", pid.to_string().into())]),
        DaemonState::Ended(status) => text.with("lab-daemon-ended", &[("status", status.into())]),
        DaemonState::Killed => text.get("lab-daemon-killed"),
    }
}

//! The cluster's authority: another one takes its place.

use minka_enroll::push::{self, Succession};
use serde_json::json;

use crate::args::cluster::{Cluster, RotateAuthority};
use crate::failure::{Failure, chain};
use crate::output::Output;

pub(super) fn rotate(
    arguments: &Cluster,
    rotate: &RotateAuthority,
    output: &mut Output,
) -> Result<(), Failure> {
    let succession = push::succeed(&arguments.dir, !rotate.refuse_old)?;
    if output.is_json() {
        output.json(&json!({
            "finished": succession.finished, "renewed": succession.renewed, "missing": succession.missing,
        }))?;
    } else {
        say(arguments, &succession, output)?;
    }
    if succession.finished {
        return Ok(());
    }
    let reason = |name: &String| {
        let found = succession.reasons.iter().find(|(node, _)| node == name);
        found.map_or_else(|| name.clone(), |(_, error)| format!("{name}: {}", chain(error)))
    };
    Err(Failure::NotRenewed { nodes: succession.missing.iter().map(reason).collect() })
}

fn say(arguments: &Cluster, succession: &Succession, output: &mut Output) -> Result<(), Failure> {
    let names = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let mut say = |message: &str, names: &[String]| {
        let directory = arguments.dir.display().to_string();
        let variables = [("nodes", names.join(", ").into()), ("directory", directory.into())];
        let lines = output.text.with(message, &variables);
        output.line(&lines)
    };
    if !succession.renewed.is_empty() {
        say("cluster-renewed", &names(&succession.renewed))?;
    }
    if !succession.finished {
        return Ok(());
    }
    if !succession.missing.is_empty() {
        say("cluster-left-behind", &names(&succession.missing))?;
    }
    say("cluster-succeeded", &[])
}

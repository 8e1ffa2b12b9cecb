//! `minka migrate`: moves a process.

use std::net::IpAddr;

use minka_node::client::Outcome;

use super::{client, openmosix};
use crate::args::Migrate;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn migrate(arguments: &Migrate, output: &mut Output) -> Result<(), Failure> {
    let to = &arguments.to;
    // Numbers and addresses are openMosix's; a node that is called like that is found, too.
    let is_figure = to.parse::<u16>().is_ok() || to.parse::<IpAddr>().is_ok();
    let to = if is_figure { openmosix::find(&client()?.nodes()?, to)?.name.clone() } else { to.clone() };
    let outcome = client()?.migrate(arguments.pid, &to, false)?;
    let Outcome::Migrated(migrated) = outcome else { return Ok(()) };
    if output.is_json() {
        return output.json(&migrated);
    }
    let variables = [
        ("pid", migrated.pid.to_string().into()),
        ("node", migrated.at.clone().into()),
        ("freeze", milliseconds(migrated.freeze_us).into()),
    ];
    let line = output.text.with(if migrated.moved { "migrate-done" } else { "migrate-already" }, &variables);
    output.line(&line)?;
    if migrated.with.is_empty() {
        return Ok(());
    }
    let with: Vec<String> = migrated.with.iter().map(i32::to_string).collect();
    output.line(&output.text.with("migrate-with", &[("with", with.join(", ").into())]))
}

/// Microseconds as milliseconds, to two places.
pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1000, microseconds % 1000 / 10)
}

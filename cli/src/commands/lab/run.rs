//! `minka lab run`: runs a program on the first node of a lab, and moves it about while it runs.
//!
//! To whoever starts it this is the program itself: it has the caller's standard streams and its exit status
//! is passed on. What Minka has to say goes to standard error and to the report.

use std::fs;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use minka_lab::{Lab, LabOptions, Lifetime, Running, shell_code};
use serde::Serialize;

use super::exec::program;
use super::shake::{Shaker, Tally};
use crate::args::LabRun;
use crate::commands::foreground::Foreground;
use crate::commands::migrate::milliseconds;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::Text;

/// The node on which programs are started.
const FIRST: u32 = 1;

/// What `--report` and `--json` tell.
#[derive(Debug, Serialize)]
struct Report {
    /// The exit status of the program, as a shell gives it.
    status: u8,
    /// What came of the moves; none without `--shake`.
    shake: Option<Tally>,
}

pub(super) fn run(arguments: &LabRun, output: &mut Output) -> Result<ExitCode, Failure> {
    let foreground = Foreground::hand_over().map_err(Failure::Prepare)?;
    let lab = lab(arguments)?;
    let mut running = lab.start(FIRST, program(&arguments.command))?;
    foreground.watch_over(running.pid());
    let (status, tally) = match arguments.shake {
        None => (running.wait()?, None),
        Some(interval) => {
            let mut shaker = shaker(&lab, running.pid(), interval)?;
            let status = shake(&mut running, &mut shaker)?;
            (status, Some(shaker.tally()))
        }
    };
    let report = Report { status: shell_code(status), shake: tally };
    drop(lab);
    tell(&report, arguments, output)?;
    Ok(ExitCode::from(report.status))
}

/// The lab of that name, or one that lives as long as this program.
fn lab(arguments: &LabRun) -> Result<Lab, Failure> {
    if let Some(name) = &arguments.lab {
        return Ok(Lab::open(name)?);
    }
    let name = format!("run-{}", std::process::id());
    let options =
        LabOptions { nodes: arguments.nodes, lifetime: Lifetime::Attached, ..LabOptions::named(name) };
    Ok(Lab::up(&options)?)
}

/// Round the other nodes, and home.
fn shaker(lab: &Lab, pid: u32, interval: Duration) -> Result<Shaker, Failure> {
    let description = lab.description();
    let others = description.nodes.iter().filter(|node| node.number != FIRST);
    let targets = others.map(|node| node.name.clone()).chain(["home".to_owned()]).collect();
    let run_dir = description.node(FIRST)?.run_directory();
    Ok(Shaker::new(pid, run_dir, targets, interval, Arc::new(|_, _| ())))
}

fn shake(running: &mut Running, shaker: &mut Shaker) -> Result<ExitStatus, Failure> {
    loop {
        shaker.look();
        if let Some(status) = running.wait_timeout(shaker.pause())? {
            return Ok(status);
        }
    }
}

fn tell(report: &Report, arguments: &LabRun, output: &Output) -> Result<(), Failure> {
    let json = serde_json::to_string(report).map_err(|error| Failure::Output(error.into()))?;
    if let Some(path) = &arguments.report {
        let written = fs::write(path, format!("{json}\n"));
        written.map_err(|source| Failure::Report { path: path.clone(), source })?;
    }
    match &report.shake {
        _ if output.is_json() => eprintln!("{json}"),
        Some(tally) => summary(tally, &output.text).iter().for_each(|line| output.remark(line)),
        None => {}
    }
    Ok(())
}

fn summary(tally: &Tally, text: &Text) -> Vec<String> {
    let arrivals: Vec<String> =
        tally.arrivals.iter().map(|(node, count)| format!("{node} {count}")).collect();
    let variables = [
        ("moves", tally.moves.into()),
        ("processes", tally.processes.into()),
        ("arrivals", arrivals.join(", ").into()),
        ("median", milliseconds(tally.freeze_median_us.unwrap_or(0)).into()),
        ("max", milliseconds(tally.freeze_max_us.unwrap_or(0)).into()),
    ];
    let first = text.with(if tally.moves == 0 { "shake-none" } else { "shake-moves" }, &variables);
    let refusals = tally.refusals.iter().map(|(reason, count)| {
        text.with("shake-refused", &[("count", (*count).into()), ("reason", reason.clone().into())])
    });
    std::iter::once(first).chain(refusals).collect()
}

//! `minka lab demo`: real programs, moved about while they run, and still right.
//!
//! Each program runs twice: first by itself on this machine, then in the lab, where it is moved from node to
//! node. The demonstration succeeds only if every one of them really moved and wrote the very same bytes.

mod programs;
mod table;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minka_lab::{Lab, LabOptions, Lifetime, Program, Running, shell_code};
use minka_node::client::Client;
use minka_node::protocol::Process;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::shake::Shaker;
use crate::failure::{Failure, Status};
use crate::output::{Output, Style, paint};
use programs::Work;
use table::Display;

const NODES: u32 = 3;

/// The node on which the programs are started.
const FIRST: u32 = 1;

/// Pause between two moves of a program.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often the display is brought up to date.
const REFRESH: Duration = Duration::from_millis(100);

/// A program that takes this long has come to harm.
const PATIENCE: Duration = Duration::from_secs(120);

/// Exit status after an interrupt, as a shell gives it.
const INTERRUPTED: u8 = 130;

/// What is shown of a program.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    name: &'static str,
    computes: String,
    /// Where it is.
    at: String,
    /// How many times it arrived somewhere, coming home included.
    moves: u64,
    /// How many of them were to another node.
    away: u64,
    freeze_us: Option<u64>,
    verdict: Option<Verdict>,
    /// Why it did not move, or came home by itself, the last time; why it was ended, if it was.
    reason: Option<String>,
}

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It wrote the same as when it was left alone.
    Right,
    /// It wrote something else.
    Wrong,
    /// It ended with another status than 0.
    Failed(u8),
}

/// A program in the lab.
struct Traveller {
    work: Work,
    running: Option<Running>,
    shaker: Shaker,
    pid: u32,
    home: String,
    row: Row,
}

pub(super) fn demo(output: &mut Output) -> Result<ExitCode, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::Demo)?;
    }
    let directory = tempfile::Builder::new().prefix("minka-demo-").tempdir().map_err(Failure::Demo)?;
    let works = programs::prepare(directory.path()).map_err(Failure::Demo)?;
    let names: Vec<&str> = works.iter().map(|work| work.name).collect();
    say(output, "demo-alone", &[("programs", names.join(", ").into())])?;
    if !run_alone(&works, directory.path(), &interrupted).map_err(Failure::Demo)? {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let name = format!("demo-{}", std::process::id());
    let options = LabOptions { nodes: NODES, lifetime: Lifetime::Attached, ..LabOptions::named(name) };
    let start = Instant::now();
    let lab = Lab::up(&options)?;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    say(output, "demo-lab", &[("nodes", NODES.into()), ("time", milliseconds.into())])?;
    let mut travellers = Vec::new();
    for (index, work) in works.into_iter().enumerate() {
        travellers.push(start_traveller(&lab, work, index, directory.path(), output)?);
    }
    let mut display = Display::new(output);
    let run_dir = lab.description().node(FIRST)?.run_directory();
    let deadline = Instant::now() + PATIENCE;
    while travellers.iter().any(|traveller| traveller.running.is_some()) {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        if Instant::now() > deadline {
            break;
        }
        for traveller in &mut travellers {
            traveller.look(directory.path())?;
        }
        observe(&mut travellers, &run_dir);
        display.update(&rows(&travellers), output)?;
        std::thread::sleep(REFRESH);
    }
    // Why one was ended is known a moment after its end.
    observe(&mut travellers, &run_dir);
    let rows = rows(&travellers);
    display.finish(&rows, output)?;
    drop((travellers, lab));
    conclude(&rows, output)
}

/// Computes the right results, here and unmoved; false when interrupted.
fn run_alone(works: &[Work], directory: &Path, interrupted: &AtomicBool) -> io::Result<bool> {
    let mut children = Vec::new();
    for work in works {
        children.push(work.start_alone(directory)?);
    }
    for child in &mut children {
        while child.try_wait()?.is_none() {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(REFRESH);
        }
    }
    Ok(true)
}

fn start_traveller(
    lab: &Lab,
    work: Work,
    index: usize,
    directory: &Path,
    output: &Output,
) -> Result<Traveller, Failure> {
    let result = File::create(work.result(directory, true)).map_err(Failure::Demo)?;
    let null = || File::options().read(true).write(true).open("/dev/null").map_err(Failure::Demo);
    let program = super::exec::program(&work.command());
    let program: Program = program.environment("LC_ALL", "C").stdin(null()?).stdout(result).stderr(null()?);
    let running = lab.start(FIRST, program)?;
    let description = lab.description();
    let mut targets: Vec<String> = description.nodes.iter().skip(1).map(|node| node.name.clone()).collect();
    // Half of them begin with the one node, half with the other.
    let begin = index % targets.len();
    targets.rotate_left(begin);
    targets.push("home".to_owned());
    let first = description.node(FIRST)?;
    let shaker = Shaker::new(running.pid(), first.run_directory(), targets, INTERVAL, Arc::new(|_, _| ()));
    let row = Row {
        name: work.name,
        computes: output.text.with(work.message, &[("figure", work.figure.into())]),
        at: first.name.clone(),
        moves: 0,
        away: 0,
        freeze_us: None,
        verdict: None,
        reason: None,
    };
    Ok(Traveller {
        work,
        pid: running.pid_in_node(),
        home: first.name.clone(),
        running: Some(running),
        shaker,
        row,
    })
}

impl Traveller {
    /// Moves on, or, when the program has ended, judges what it wrote.
    fn look(&mut self, directory: &Path) -> Result<(), Failure> {
        let Some(running) = &mut self.running else { return Ok(()) };
        self.shaker.look();
        let Some(status) = running.wait_timeout(Duration::ZERO)? else { return Ok(()) };
        self.running = None;
        self.row.verdict = Some(match shell_code(status) {
            0 if self.is_right(directory).map_err(Failure::Demo)? => Verdict::Right,
            0 => Verdict::Wrong,
            status => Verdict::Failed(status),
        });
        Ok(())
    }

    /// Takes over what its home node knows of it.
    fn observe(&mut self, process: Option<&Process>) {
        let tally = self.shaker.tally();
        self.row.away =
            tally.arrivals.iter().filter(|(node, _)| **node != self.home).map(|(_, count)| count).sum();
        match process {
            Some(process) => {
                self.row.at.clone_from(&process.at);
                self.row.moves = process.moves;
                self.row.freeze_us = process.freeze_us.or(self.row.freeze_us);
                self.row.reason.clone_from(&process.reason);
            }
            // It has never moved, so the daemon does not know it.
            None if self.row.moves == 0 => self.row.reason = tally.refusals.keys().next().cloned(),
            None => {}
        }
    }

    fn is_right(&self, directory: &Path) -> io::Result<bool> {
        let alone = fs::read(self.work.result(directory, false))?;
        let moved = fs::read(self.work.result(directory, true))?;
        Ok(alone == moved && !alone.is_empty())
    }
}

/// Asks the programs' home node where they are.
fn observe(travellers: &mut [Traveller], run_dir: &Path) {
    // Without an answer the display stays as it was; moves are counted all the same.
    let seen = Client::connect(run_dir).and_then(|mut client| client.ps(true)).unwrap_or_default();
    for traveller in travellers {
        let process = seen.iter().rfind(|process| u32::try_from(process.pid) == Ok(traveller.pid));
        traveller.observe(process);
    }
}

fn rows(travellers: &[Traveller]) -> Vec<Row> {
    travellers.iter().map(|traveller| traveller.row.clone()).collect()
}

/// Says what it all comes to.
fn conclude(rows: &[Row], output: &mut Output) -> Result<ExitCode, Failure> {
    let good = rows.iter().all(|row| row.verdict == Some(Verdict::Right) && row.away > 0);
    if output.is_json() {
        output.json(&serde_json::json!({"success": good, "programs": rows}))?;
    } else {
        output.line("")?;
        for row in rows.iter().filter(|row| row.away == 0) {
            let reason = row.reason.clone().unwrap_or_else(|| output.text.get("demo-no-reason"));
            say(output, "demo-stayed", &[("program", row.name.into()), ("reason", reason.into())])?;
        }
        for row in rows.iter().filter(|row| matches!(row.verdict, Some(Verdict::Failed(_)))) {
            let reason = row.reason.clone().unwrap_or_else(|| output.text.get("demo-by-itself"));
            say(output, "demo-failed-because", &[("program", row.name.into()), ("reason", reason.into())])?;
        }
        let moves: u64 = rows.iter().map(|row| row.moves).sum();
        let variables = [("programs", rows.len().into()), ("moves", moves.into())];
        let (id, style) = if good { ("demo-good", Style::Good) } else { ("demo-bad", Style::Bad) };
        let line = paint(&io::stdout(), style, &output.text.with(id, &variables));
        output.line(&line)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { Status::Failure.into() })
}

fn say(
    output: &mut Output,
    id: &str,
    variables: &[(&str, fluent_bundle::FluentValue<'_>)],
) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    let line = output.text.with(id, variables);
    output.line(&line)
}

//! `minka lab demo`: more work than one node can hold, which spreads over three by itself, and is still right.
//!
//! Each program runs twice: first by itself on this machine, then in the lab, where the nodes move it as they like. The
//! demonstration succeeds only if programs went from their home to a host, from one host to another and back home, and
//! every one wrote the very same bytes.

mod picture;
mod plot;
mod programs;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, Lab, LabError, LabOptions, Lifetime, Program, Running, shell_code};
use minka_node::client::Client;
use minka_node::protocol::{Node, Process, State};
use rustix::thread::CpuSet;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::commands::migrate::milliseconds;
use crate::failure::{Failure, Status};
use crate::output::{Output, Style, paint};
use picture::Picture;
use plot::Plot;
use programs::Work;

const NODES: u32 = 3;

/// The node on which the programs are started.
const FIRST: u32 = 1;

/// What each node has of a processor, so that all of them fit on a small machine.
const SHARE: f64 = 0.5;

/// Processors that are used where nodes cannot be limited, so that a large machine has too much to do as well.
const PROCESSORS: usize = 2;

/// How often the picture is brought up to date.
const REFRESH: Duration = Duration::from_millis(100);

/// How long nodes may take to find each other.
const MEET_LIMIT: Duration = Duration::from_secs(30);

/// A program that takes this long has come to harm.
const PATIENCE: Duration = Duration::from_secs(150);

/// Exit status after an interrupt, as a shell gives it.
const INTERRUPTED: u8 = 130;

/// What is shown of a program.
#[derive(Debug, Clone, Default, Serialize)]
struct Row {
    name: String,
    computes: String,
    /// Where it is.
    at: String,
    /// How many times it arrived somewhere, coming home included.
    moves: u64,
    freeze_us: Option<u64>,
    verdict: Option<Verdict>,
    /// Why it came home by itself the last time; why it was ended, if it was.
    reason: Option<String>,
}

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It wrote the same as when it was left alone.
    Right,
    /// It wrote something else.
    Wrong,
    /// It ended with another status than 0.
    Failed(u8),
}

/// The moves that were seen, by their kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Moves {
    home_to_host: u64,
    host_to_host: u64,
    host_to_home: u64,
}

/// A program in the lab.
struct Traveller {
    work: Work,
    running: Option<Running>,
    pid: u32,
    row: Row,
}

pub(super) fn demo(output: &mut Output) -> Result<ExitCode, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::Demo)?;
    }
    let directory = tempfile::Builder::new().prefix("minka-demo-").tempdir().map_err(Failure::Demo)?;
    let works = programs::prepare(directory.path()).map_err(Failure::Demo)?;
    say(output, "demo-alone", &[("programs", works.len().into())])?;
    if !run_alone(&works, directory.path(), &interrupted).map_err(Failure::Demo)? {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let start = Instant::now();
    let lab = bring_up(output)?;
    meet(&lab, &interrupted)?;
    let plot = Plot::begin(&lab)?;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let variables = [("time", milliseconds.into()), ("late", minka_lab::node_name(plot::LATE).into())];
    say(output, "demo-lab", &variables)?;
    let mut stage = Stage { home: lab.description().node(FIRST)?.name.clone(), ..Stage::default() };
    for work in works {
        stage.travellers.push(start_program(&lab, work, directory.path(), output)?);
    }
    let outcome = stage.play(&lab, plot, directory.path(), &interrupted, output)?;
    drop(lab);
    match outcome {
        Ending::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
        Ending::Played => conclude(&stage.rows(), stage.moves, output),
    }
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

/// Brings up the lab; where the system cannot limit nodes, on two processors of this machine instead.
fn bring_up(output: &mut Output) -> Result<Lab, Failure> {
    let options = LabOptions {
        nodes: NODES,
        cpus: vec![SHARE],
        balance: BalanceMode::All,
        lifetime: Lifetime::Attached,
        ..LabOptions::named(format!("demo-{}", std::process::id()))
    };
    match Lab::up(&options) {
        Err(LabError::Reported(_)) => {
            keep_to_few_processors().map_err(Failure::Demo)?;
            let lab = Lab::up(&LabOptions { lenient: true, ..options })?;
            say(output, "demo-unlimited", &[])?;
            Ok(lab)
        }
        outcome => Ok(outcome?),
    }
}

fn keep_to_few_processors() -> io::Result<()> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut few = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(PROCESSORS).for_each(|cpu| few.set(cpu));
    Ok(rustix::thread::sched_setaffinity(None, &few)?)
}

/// Waits until the first node knows the load of all others.
fn meet(lab: &Lab, interrupted: &AtomicBool) -> Result<(), Failure> {
    let run_directory = lab.description().node(FIRST)?.run_directory();
    let start = Instant::now();
    while start.elapsed() < MEET_LIMIT && !interrupted.load(Ordering::Relaxed) {
        let nodes = Client::connect(&run_directory)?.nodes()?;
        if nodes.iter().filter(|node| node.member && node.figures.is_some()).count() == NODES as usize {
            break;
        }
        std::thread::sleep(REFRESH);
    }
    Ok(())
}

fn start_program(lab: &Lab, work: Work, directory: &Path, output: &Output) -> Result<Traveller, Failure> {
    let result = File::create(work.result(directory, true)).map_err(Failure::Demo)?;
    let null = || File::options().read(true).write(true).open("/dev/null").map_err(Failure::Demo);
    let program = super::exec::program(work.command());
    let program: Program = program.environment("LC_ALL", "C").stdin(null()?).stdout(result).stderr(null()?);
    let running = lab.start(FIRST, program)?;
    let row = Row {
        name: work.name.clone(),
        computes: output.text.with(work.message, &[("figure", work.figure.into())]),
        at: minka_lab::node_name(FIRST),
        ..Row::default()
    };
    Ok(Traveller { work, pid: running.pid_in_node(), running: Some(running), row })
}

/// How the demonstration ended.
enum Ending {
    Played,
    Interrupted,
}

/// Who computes where.
#[derive(Default)]
struct Stage {
    home: String,
    travellers: Vec<Traveller>,
    nodes: Vec<Node>,
    moves: Moves,
}

impl Stage {
    fn play(
        &mut self,
        lab: &Lab,
        mut plot: Plot,
        directory: &Path,
        interrupted: &AtomicBool,
        output: &mut Output,
    ) -> Result<Ending, Failure> {
        let mut picture = Picture::new(output);
        let run_directory = lab.description().node(FIRST)?.run_directory();
        let deadline = Instant::now() + PATIENCE;
        while self.travellers.iter().any(|it| it.running.is_some()) && Instant::now() < deadline {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ending::Interrupted);
            }
            for traveller in &mut self.travellers {
                traveller.look(directory)?;
            }
            for line in self.observe(&run_directory, output) {
                picture.tell(&line, output)?;
            }
            if let Some((message, node)) = plot.go_on(lab, &self.moves)? {
                let node = minka_lab::node_name(node);
                picture.tell(&output.text.with(message, &[("node", node.into())]), output)?;
            }
            picture.update(&self.nodes, &self.rows(), output)?;
            std::thread::sleep(REFRESH);
        }
        // Why one was ended is known a moment after its end.
        self.observe(&run_directory, output);
        picture.finish(&self.rows(), output)?;
        Ok(Ending::Played)
    }

    /// Asks the programs' home node where they are, and what is known of the nodes; tells who has moved.
    fn observe(&mut self, run_directory: &Path, output: &Output) -> Vec<String> {
        let ask = || {
            let mut client = Client::connect(run_directory)?;
            Ok::<_, minka_node::client::ClientError>((client.ps(true)?, client.nodes()?))
        };
        // Without an answer the picture stays as it was.
        let Ok((processes, nodes)) = ask() else { return Vec::new() };
        self.nodes = nodes;
        let mut lines = Vec::new();
        for traveller in &mut self.travellers {
            let known = processes.iter().rfind(|it| u32::try_from(it.pid) == Ok(traveller.pid));
            let Some(known) = known.filter(|it| it.state != State::Moving) else { continue };
            let from = traveller.follow(known);
            if from == known.at {
                continue;
            }
            let kind = match (from == self.home, known.at == self.home) {
                (true, _) => &mut self.moves.home_to_host,
                (false, true) => &mut self.moves.host_to_home,
                (false, false) => &mut self.moves.host_to_host,
            };
            *kind += 1;
            let variables = [
                ("program", traveller.row.name.clone().into()),
                ("from", from.into()),
                ("to", known.at.clone().into()),
                ("freeze", milliseconds(known.freeze_us.unwrap_or(0)).into()),
            ];
            lines.push(output.text.with("demo-moved", &variables));
        }
        lines
    }

    fn rows(&self) -> Vec<Row> {
        self.travellers.iter().map(|traveller| traveller.row.clone()).collect()
    }
}

impl Traveller {
    /// Judges what the program wrote, if it has ended.
    fn look(&mut self, directory: &Path) -> Result<(), Failure> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(status) = running.wait_timeout(Duration::ZERO)? else { return Ok(()) };
        self.running = None;
        self.row.verdict = Some(match shell_code(status) {
            0 if self.is_right(directory).map_err(Failure::Demo)? => Verdict::Right,
            0 => Verdict::Wrong,
            status => Verdict::Failed(status),
        });
        Ok(())
    }

    /// Takes over what its home node knows of it; returns where it was before.
    fn follow(&mut self, process: &Process) -> String {
        self.row.moves = process.moves;
        self.row.freeze_us = process.freeze_us.or(self.row.freeze_us);
        self.row.reason.clone_from(&process.reason);
        std::mem::replace(&mut self.row.at, process.at.clone())
    }

    fn is_right(&self, directory: &Path) -> io::Result<bool> {
        let alone = fs::read(self.work.result(directory, false))?;
        let moved = fs::read(self.work.result(directory, true))?;
        Ok(alone == moved && !alone.is_empty())
    }
}

/// Says what it all comes to.
fn conclude(rows: &[Row], moves: Moves, output: &mut Output) -> Result<ExitCode, Failure> {
    let right = rows.iter().all(|row| row.verdict == Some(Verdict::Right));
    let moved = moves.home_to_host > 0 && moves.host_to_host > 0 && moves.host_to_home > 0;
    if output.is_json() {
        output.json(&serde_json::json!({"success": right && moved, "moves": moves, "programs": rows}))?;
    } else {
        output.line("")?;
        for row in rows.iter().filter(|row| matches!(row.verdict, Some(Verdict::Failed(_)))) {
            let reason = row.reason.clone().unwrap_or_else(|| output.text.get("demo-by-itself"));
            let variables = [("program", row.name.clone().into()), ("reason", reason.into())];
            say(output, "demo-failed-because", &variables)?;
        }
        let variables = [
            ("out", moves.home_to_host.into()),
            ("on", moves.host_to_host.into()),
            ("home", moves.host_to_home.into()),
        ];
        say(output, "demo-moves-seen", &variables)?;
        let (id, style) = match (right, moved) {
            (true, true) => ("demo-good", Style::Good),
            (true, false) => ("demo-unmoved", Style::Bad),
            (false, _) => ("demo-bad", Style::Bad),
        };
        let line = output.text.with(id, &[("programs", rows.len().into())]);
        output.line(&paint(&io::stdout(), style, &line))?;
    }
    Ok(if right && moved { ExitCode::SUCCESS } else { Status::Failure.into() })
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

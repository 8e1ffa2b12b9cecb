//! The run in a lab that moves the program about.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use minka_lab::{Lab, LabOptions, Lifetime};
use serde::Deserialize;

use crate::program::{Program, Run, scratch};
use crate::terminal::Terminal;

/// Nodes of a lab: enough for moves from one host to another.
const NODES: u32 = 3;

/// What came of the moves.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub struct Tally {
    /// Moves made.
    pub moves: u64,
    /// Moves refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Processes that one tried to move.
    pub processes: u64,
}

#[derive(Deserialize)]
struct Report {
    shake: Option<Tally>,
}

/// What came of a program that was moved about.
#[derive(Debug)]
pub struct Shaken {
    /// The program itself.
    pub run: Run,
    /// The moves.
    pub tally: Tally,
    /// What the nodes' daemons, deputies and hosts logged.
    pub logs: String,
}

/// A lab that goes when the test does.
#[derive(Debug)]
pub struct TestLab {
    lab: Lab,
}

impl TestLab {
    /// Brings one up.
    ///
    /// # Panics
    /// When that fails.
    pub fn up() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("programs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let options = LabOptions {
            nodes: NODES,
            helper: crate::minka(),
            lifetime: Lifetime::Attached,
            ..LabOptions::named(name)
        };
        Self { lab: Lab::up(&options).unwrap_or_else(|error| panic!("bring up a lab: {error:?}")) }
    }

    /// Puts lines in front of the configuration of all nodes. Deputy and host programs that start from now on find them.
    fn configure(&self, lines: &str) {
        for number in 1..=NODES {
            let path = self.lab.description().node(number).expect("a node").configuration();
            let text = std::fs::read_to_string(&path).expect("read a node's configuration");
            let next = path.with_extension("next");
            std::fs::write(&next, format!("{lines}{text}")).expect("write it");
            std::fs::rename(next, path).expect("put it in place");
        }
    }

    /// The command that runs a program in it and moves it about.
    pub fn command(&self, program: &Program, report: &Path) -> Command {
        let mut command = Command::new(crate::minka());
        let interval = format!("{}ms", program.interval.as_millis());
        command
            .args(["lab", "run", "--lab", &self.lab.description().name, "--shake", &interval, "--report"])
            .arg(report)
            .arg("--")
            .args(&program.words);
        command
    }

    /// The command that runs a program in it and leaves it where it is.
    pub fn still(&self, program: &Program) -> Command {
        let mut command = Command::new(crate::minka());
        command.args(["lab", "run", "--lab", &self.lab.description().name, "--"]).args(&program.words);
        command
    }

    /// The command that runs a line of the shell on the node on which programs are started, in a directory.
    pub fn on_first(&self, line: &str, directory: &Path) -> Command {
        let mut command = Command::new(crate::minka());
        let line = format!("cd '{}' && {line}", directory.display());
        command.args(["lab", "exec", "--name", &self.lab.description().name, "node1", "--", "/bin/sh", "-c"]);
        command.arg(line);
        command
    }

    /// Holds a conversation with a program on a terminal while it is moved about.
    pub fn talk(&self, program: &Program, talk: impl FnOnce(&mut Terminal)) -> Talk {
        let directory = scratch();
        let report = directory.path().join("report.json");
        let mut terminal = Terminal::start(&self.command(program, &report));
        talk(&mut terminal);
        Talk { status: terminal.end(), tally: read_tally(&report) }
    }

    /// The logs of all nodes.
    pub fn logs(&self) -> String {
        let log = |number| {
            let path = self.lab.description().node(number).expect("a node").log();
            let text = std::fs::read(path).unwrap_or_default();
            format!("--- node{number}\n{}", String::from_utf8_lossy(&text))
        };
        (1..=NODES).map(log).collect()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// What came of a conversation.
#[derive(Debug)]
pub struct Talk {
    /// The program's status as a shell gives it.
    pub status: i32,
    /// The moves.
    pub tally: Tally,
}

/// What a run's report says of its moves.
pub(crate) fn read_tally(report: &Path) -> Tally {
    let text = std::fs::read(report).unwrap_or_default();
    let report: Option<Report> = serde_json::from_slice(&text).ok();
    report.and_then(|report| report.shake).unwrap_or_default()
}

impl Program {
    /// Runs it in a lab of its own.
    pub fn shaken(&self) -> Shaken {
        let (lab, directory) = (TestLab::up(), scratch());
        if !self.configuration.is_empty() {
            lab.configure(&self.configuration);
        }
        let report = directory.path().join("report.json");
        let run = self.run(lab.command(self, &report), directory);
        Shaken { run, tally: read_tally(&report), logs: lab.logs() }
    }
}

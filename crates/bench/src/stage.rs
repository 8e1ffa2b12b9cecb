//! The lab of a benchmark, and the probes in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use minka_lab::{Lab, LabOptions, Lifetime, Program, Running};
use minka_node::client::{Client, ClientError, Outcome};
use minka_node::protocol::{GuestMemory, Migrated, Refusal};

use crate::PROBE_COMMAND;
use crate::error::BenchError;

/// The node where probes are at home.
pub(crate) const HOME: u32 = 1;
/// The node to which they are moved.
pub(crate) const AWAY: u32 = 2;

/// How long a probe may take for one order. Longer than the longest, a gigabyte walked on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long a process may be busy with its last move before the next is given up.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// A lab of two nodes that lives as long as this.
#[derive(Debug)]
pub(crate) struct Stage {
    lab: Lab,
    program: PathBuf,
}

impl Stage {
    pub(crate) fn up(benchmark: &str) -> Result<Self, BenchError> {
        let name = format!("bench-{benchmark}-{}", std::process::id());
        Self::with(LabOptions { nodes: 2, ..LabOptions::named(name) })
    }

    /// A lab of another kind, which lives as long as this too.
    pub(crate) fn with(options: LabOptions) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
        let options = LabOptions { lifetime: Lifetime::Attached, ..options };
        Ok(Stage { lab: Lab::up(&options)?, program })
    }

    /// Starts a program in a node.
    pub(crate) fn start(&self, node: u32, program: Program) -> Result<Running, BenchError> {
        Ok(self.lab.start(node, program)?)
    }

    /// Starts a probe in a node, and waits until it says that it is ready.
    pub(crate) fn probe<I, A>(&self, node: u32, arguments: I) -> Result<Probe, BenchError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        let null = File::open("/dev/null").map_err(BenchError::io("open /dev/null"))?;
        let description = self.lab.description().node(node)?;
        let program = Program::new(&self.program)
            .arguments([PROBE_COMMAND])
            .arguments(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if cfg!(debug_assertions) { Stdio::inherit() } else { null.into() });
        let mut running = self.lab.start(node, program)?;
        let (Some(stdin), Some(stdout)) = (running.take_stdin(), running.take_stdout()) else {
            return Err(BenchError::ProbeEnded { order: "start".to_owned() });
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Stops with the probe's output, or when nobody waits for its answers any more.
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let run_directory = description.run_directory();
        let mut probe = Probe { running, stdin, answers, run_directory };
        probe.hear("start")?;
        Ok(probe)
    }

    /// The address of a node in the lab.
    pub(crate) fn address(&self, node: u32) -> Result<String, BenchError> {
        Ok(self.lab.description().node(node)?.address.to_string())
    }

    /// Where the daemon of a node has its socket.
    pub(crate) fn run_directory(&self, node: u32) -> Result<PathBuf, BenchError> {
        Ok(self.lab.description().node(node)?.run_directory())
    }

    /// The control groups of a node.
    pub(crate) fn control_groups(&self, node: u32) -> Result<Vec<PathBuf>, BenchError> {
        Ok(self.lab.description().node(node)?.control_groups.clone())
    }

    /// The PID of a node's daemon, as it is seen from here: the first child of the node's first process.
    pub(crate) fn daemon(&self, node: u32) -> Result<u32, BenchError> {
        let init = self.lab.description().node(node)?.init.map_or(0, |init| init.pid);
        let path = format!("/proc/{init}/task/{init}/children");
        let children = std::fs::read_to_string(path).map_err(BenchError::io("find a node's daemon"))?;
        let first = children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
        first.ok_or_else(|| BenchError::Move("a node has no daemon".to_owned()))
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: u32) -> Result<String, BenchError> {
        Ok(self.lab.description().node(node)?.name.clone())
    }

    /// Moves a probe to the other node.
    pub(crate) fn send_away(&self, probe: &Probe) -> Result<Migrated, BenchError> {
        probe.migrate(&self.name(AWAY)?)
    }

    /// What the other node tells of a guest's memory once all of it has arrived there.
    pub(crate) fn memory_of(&self, probe: &Probe) -> Result<GuestMemory, BenchError> {
        let run_directory = self.lab.description().node(AWAY)?.run_directory();
        let pid = probe.pid();
        let until = Instant::now() + ANSWER_LIMIT;
        loop {
            let processes = Client::connect(&run_directory)?.ps(false)?;
            let guest = processes.into_iter().find(|process| process.home_pid == pid);
            if let Some(memory) = guest.and_then(|guest| guest.memory) {
                return Ok(memory);
            }
            if Instant::now() > until {
                return Err(BenchError::Move("its memory never arrived".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A running probe, which obeys lines and answers with lines of numbers.
#[derive(Debug)]
pub(crate) struct Probe {
    running: Running,
    stdin: ChildStdin,
    answers: Receiver<String>,
    run_directory: PathBuf,
}

impl Probe {
    /// Its PID in its node.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.running.pid_in_node()).unwrap_or(i32::MAX)
    }

    /// Gives it an order and waits for its answer.
    pub(crate) fn ask(&mut self, order: &str) -> Result<Vec<f64>, BenchError> {
        self.tell(order)?;
        self.hear(order)
    }

    /// Gives it an order whose answer is to be asked for later.
    pub(crate) fn tell(&mut self, order: &str) -> Result<(), BenchError> {
        writeln!(self.stdin, "{order}").map_err(|_| BenchError::ProbeEnded { order: order.to_owned() })
    }

    /// Waits for the answer to an order.
    pub(crate) fn hear(&mut self, order: &str) -> Result<Vec<f64>, BenchError> {
        let order = || order.to_owned();
        let answer = match self.answers.recv_timeout(ANSWER_LIMIT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                return Err(BenchError::ProbeSilent { order: order(), limit: ANSWER_LIMIT });
            }
            Err(RecvTimeoutError::Disconnected) => return Err(BenchError::ProbeEnded { order: order() }),
        };
        let numbers: Result<Vec<f64>, _> = answer.split_ascii_whitespace().map(str::parse).collect();
        numbers.map_err(|_| BenchError::ProbeAnswer { order: order(), answer })
    }

    /// As [`Probe::ask`], for orders that are answered with this many numbers.
    pub(crate) fn ask_for<const N: usize>(&mut self, order: &str) -> Result<[f64; N], BenchError> {
        let answer = self.ask(order)?;
        exactly(order, answer)
    }

    /// Brings it home.
    pub(crate) fn bring_home(&self) -> Result<Migrated, BenchError> {
        self.migrate("home")
    }

    fn migrate(&self, to: &str) -> Result<Migrated, BenchError> {
        let until = Instant::now() + BUSY_LIMIT;
        loop {
            let mut client = Client::connect(&self.run_directory)?;
            match client.migrate(self.pid(), to, false) {
                Ok(Outcome::Migrated(migrated)) if migrated.moved => return Ok(migrated),
                Ok(_) => return Err(BenchError::Move(format!("it was at {to} already"))),
                // The deputy of its last stay may not have ended yet.
                Err(ClientError::Refused(Refusal::Busy { .. })) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An answer of so many numbers.
pub(crate) fn exactly<const N: usize>(order: &str, answer: Vec<f64>) -> Result<[f64; N], BenchError> {
    answer.try_into().map_err(|answer: Vec<f64>| BenchError::ProbeAnswer {
        order: order.to_owned(),
        answer: format!("{answer:?}"),
    })
}

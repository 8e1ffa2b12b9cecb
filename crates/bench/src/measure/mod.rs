//! The benchmarks, one file each.

mod balance;
mod compute;
mod exec;
mod farm;
mod files;
mod freeze;
mod idle;
mod many;
mod pages;
mod syscall;
mod touch;
mod usher;

pub use farm::farm;

use crate::error::BenchError;
use crate::figures::Outcome;
use crate::stage::{AWAY, HOME, Probe, Stage};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// How long a program stands still when it is moved.
    Freeze,
    /// How fast memory follows a program.
    Pages,
    /// How little a program notices that its memory is still on the way.
    Touch,
    /// What a forwarded call costs.
    Syscall,
    /// What computing costs away from home.
    Compute,
    /// How fast a program reads a file of its home.
    Read,
    /// How fast it writes one.
    Write,
    /// What it costs to start a program on another node.
    Exec,
    /// What is left of a move once a program is home again.
    Home,
    /// How soon and how well work spreads by itself.
    Balance,
    /// What becomes of processes that want more memory than their node has.
    Usher,
    /// What the daemons cost where nothing happens.
    Idle,
    /// Many nodes on one machine.
    Many,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As much as figures need that are to be relied on.
    Full,
    /// Enough to see that it works.
    Quick,
}

impl Effort {
    /// How many turns to take.
    fn turns(self, full: usize) -> usize {
        match self {
            Effort::Full => full,
            Effort::Quick => full.div_ceil(8),
        }
    }
}

impl Benchmark {
    /// All of them, in the order in which they are run.
    pub const ALL: [Benchmark; 13] = [
        Benchmark::Freeze,
        Benchmark::Pages,
        Benchmark::Touch,
        Benchmark::Syscall,
        Benchmark::Compute,
        Benchmark::Read,
        Benchmark::Write,
        Benchmark::Exec,
        Benchmark::Home,
        Benchmark::Balance,
        Benchmark::Usher,
        Benchmark::Idle,
        Benchmark::Many,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Benchmark::Freeze => "freeze",
            Benchmark::Pages => "pages",
            Benchmark::Touch => "touch",
            Benchmark::Syscall => "syscall",
            Benchmark::Compute => "compute",
            Benchmark::Read => "read",
            Benchmark::Write => "write",
            Benchmark::Exec => "exec",
            Benchmark::Home => "home",
            Benchmark::Balance => "balance",
            Benchmark::Usher => "usher",
            Benchmark::Idle => "idle",
            Benchmark::Many => "many",
        }
    }

    /// Brings up a lab and measures.
    ///
    /// # Errors
    /// When the lab does not come up, a move fails, or a probe computes something wrong.
    pub fn run(self, effort: Effort) -> Result<Outcome, BenchError> {
        let outcome = Outcome::new(self.name());
        let measure: Measure = match self {
            // With nodes of its own.
            Benchmark::Balance => return balance::balance(effort, outcome),
            Benchmark::Usher => return usher::usher(effort, outcome),
            Benchmark::Idle => return idle::idle(effort, outcome),
            Benchmark::Many => return many::many(effort, outcome),
            Benchmark::Freeze => freeze::freeze,
            Benchmark::Pages => pages::pages,
            Benchmark::Touch => touch::touch,
            Benchmark::Syscall => syscall::syscall,
            Benchmark::Compute => compute::compute,
            Benchmark::Read => files::read,
            Benchmark::Write => files::write,
            Benchmark::Exec => exec::exec,
            Benchmark::Home => compute::home,
        };
        measure(&Stage::up(self.name())?, effort, outcome)
    }
}

/// A benchmark between the two nodes of a lab.
type Measure = fn(&Stage, Effort, Outcome) -> Result<Outcome, BenchError>;

/// Where the plain TCP peer listens.
const PORT: &str = "5000";

/// A worker at home, with so much memory.
fn worker(stage: &Stage, mebibytes: usize) -> Result<Probe, BenchError> {
    stage.probe(HOME, ["work", &mebibytes.to_string()])
}

/// A plain TCP connection: one end at home, and the one that asks and takes the time in the other node.
fn tcp(stage: &Stage) -> Result<(Probe, Probe), BenchError> {
    let serving = stage.probe(HOME, ["tcp-serve", PORT])?;
    let asking = stage.probe(AWAY, ["tcp-ask", &stage.address(HOME)?, PORT])?;
    Ok((serving, asking))
}

/// A result that must be the same wherever it is computed.
fn same(found: f64, expected: f64) -> Result<(), BenchError> {
    if found.to_bits() == expected.to_bits() { Ok(()) } else { Err(BenchError::Wrong { found, expected }) }
}

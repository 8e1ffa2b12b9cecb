//! The benchmarks behind the figures that Minka promises.
//!
//! Every benchmark brings up a lab of its own, runs *probes* in its nodes, and tells them what to do:
//!
//! ```text
//!   benchmark ──"walk 16"──► probe, a process in node1, moved to node2 and back
//!             ◄──"5123 …"───      (its pipes stay where they were: at home)
//!             ──"pull 256"─► another probe in node2, with a plain TCP connection to one in node1
//! ```
//!
//! The two sides of a ratio are measured in turns, in the same run: whatever else the machine does weighs on
//! both. What is reported is the median of the turns.
//!
//! | module | what |
//! |---|---|
//! | `figures` | what a benchmark comes to, and what was promised |
//! | `measure` | the benchmarks |
//! | `stage` | the lab, and the benchmark's side of a probe |
//! | `probe` | the programs that are moved about |
//!
//! A probe is this same program, started with [`PROBE_COMMAND`] as its first argument, which it has to hand to
//! [`probe_main`] before it does anything else: a probe has one thread and needs little memory.

mod error;
mod figures;
mod measure;
mod probe;
mod stage;
mod statistics;

pub use error::BenchError;
pub use figures::{Better, Figure, Goal, Outcome};
pub use measure::{Benchmark, Effort, farm};
pub use probe::main as probe_main;

/// The first argument by which a program finds that it is to call [`probe_main`].
pub const PROBE_COMMAND: &str = "__probe";

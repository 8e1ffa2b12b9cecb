//! What a node sees of itself: load, memory, pressure, and what each of its processes uses.
//!
//! [`Sampler::sample`] reads `/proc`, or a directory that looks like it, once a second. It is made to cost next to
//! nothing: of each process one short file is read, and of one that does not run that only every eighth time; the rest
//! is read of those that have used the processor, by at least a clock tick.
//!
//! How many tasks were runnable comes from the scheduler's own books (`schedstat`): the time that tasks ran and the time
//! that they waited to run, over the time that has passed. That is an exact mean over the whole second, where
//! `/proc/loadavg` is a sample every five seconds, smoothed over a minute.

mod limit;
pub mod parse;
mod presence;
mod sampler;
mod yardstick;

pub use limit::MemoryGroup;
pub use presence::Watch;
pub use sampler::{Process, Sample, SampleError, Sampler, Scope};
pub use yardstick::measure_speed;

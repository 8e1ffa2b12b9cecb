//! How busy a node is, in the figures that MOSIX keeps of it.
//!
//! ```text
//!  runnable tasks, once a second ──► Meter ──► mean   rises slowly, falls at once: what the node thinks of itself
//!                                         └──► upper  rises at once, falls slowly: what it tells the others
//!  ticks that were not idle ───────► Meter ──► utilisation
//!  a loop of known length ─────────► Speed
//!  CPU time of each process ───────► Usage, forgotten at the pace that Decay gives
//! ```
//!
//! The asymmetry is a hysteresis: a node is slow to call itself loaded, and so to send somebody away, and quick to
//! tell the others that it is, which keeps them from all sending to the one node that was idle a moment ago.

mod decay;
mod devices;
mod info;
mod job;
mod meter;
mod speed;
mod usage;

pub use decay::{Decay, OwnPace, Pace};
pub use devices::{DEVICES_MAX, DeviceKind, Devices};
pub use info::{Flags, Info, MIB};
pub use job::Job;
pub use meter::{Load, Meter};
pub use speed::{STANDARD_SPEED, Speed};
pub use usage::Usage;

//! The tree `/hpc`: what openMosix showed as `/proc/hpc`, and its files of processes, as `/hpc/proc/PID`.
//!
//! ```text
//!  cat, echo ──► kernel ──FUSE──► minka-hpc ──control socket──► minkad
//!                                 files.rs: who asks, which place
//!                                 content.rs: what is read     } pure
//!                                 order.rs: what is written    }
//! ```
//!
//! It is a program of its own, which the daemon starts: whoever reads in the tree waits for this program, and nobody who
//! the daemon waits for may wait for the daemon. It asks on behalf of the user who reads or writes, so that the tree
//! allows what the tools allow. When the daemon ends, in whichever way, it takes the tree away.
//!
//! What a program that waits for a file does cannot be interrupted, not even by a signal that kills. So nothing here takes
//! longer than a few seconds, and a write into `goto` waits only a moment for the move.

mod asker;
pub mod content;
mod files;
mod mount;
pub mod order;
pub mod place;
mod why;

pub use mount::{MountError, NAME, main, try_out};
pub use why::Why;

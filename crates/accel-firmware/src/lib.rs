//! Firmware of accelerators, through fwupd: it knows how each vendor's is written and checks who signed it; whoever may
//! not is refused by it.
//!
//! ```text
//!   Daemon::connect ──► parts()                        what has firmware, and which version; Wanted says which is meant
//!                  ──► details(image)                  for which parts a file is, and whether its signature is trusted
//!                  ──► install(part, image, progress)  refused here without a trusted signature, whatever the daemon
//!                                │                     would take; otherwise the daemon decides
//!                                └─ PropertiesChanged ──► progress: status and percent
//! ```
//!
//! Nothing of this is simulated: a machine without the daemon has no parts, and says so.

mod choice;
mod daemon;
mod part;

pub use choice::{Wanted, open};
pub use daemon::{Daemon, FirmwareError};
pub use part::{Detail, Part, Progress};

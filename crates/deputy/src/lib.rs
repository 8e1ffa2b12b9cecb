//! The home side of a migrated process.

use std::process::ExitCode;

/// The deputy program: takes its orders from the node daemon at descriptor 3.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}

//! The host side of a migrated process.

use std::process::ExitCode;

/// The host program: takes its orders from the node daemon at descriptor 3.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}

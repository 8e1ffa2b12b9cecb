//! What the tests of faults share: a cluster whose nodes can be made to fail, and a program that notices everything.
//!
//! | module | what |
//! |---|---|
//! | [`cluster`] | a lab, its nodes' configurations, logs and helper programs |
//! | [`subject`] | the program that is moved, as a test holds it |
//! | [`journey`] | a way out and home while something fails |
//! | [`liar`] | a peer with the right certificate that lies |
//! | [`heirs`] | the same under a lock whose owner may die |
//! | [`machine`] | what that program computes, so that both sides can |
//!
//! The tests run the `minka` program that was built beside them, or the one that `MINKA_BIN` names.

pub mod cluster;
pub mod heirs;
pub mod journey;
pub mod liar;
pub mod machine;
pub mod subject;

use std::time::{Duration, Instant};

/// How long anything may take that is not meant to take long, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits until `done` gives something.
///
/// # Panics
/// When it does not within `limit`.
pub fn eventually<T>(limit: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! Who should compute where. Each node decides for its own processes, from what it knows of the others.
//!
//! ```text
//!   candidates, own Room ──► wishes ──► Claim ──────────► consider (at the other node: exact figures, reservations)
//!   Rooms of the others ────►  │                              │
//!                              ▼                              ▼
//!                     usher: memory is short          granted: move │ refused: its Room as it is now, try elsewhere
//! ```
//!
//! The price of everything is the delay that it causes ([`cost`]), as in the opportunity-cost method: a process goes
//! where it adds less to what all wait than it takes away where it was. What is told by gossip is a few seconds old and
//! is read by everybody at the same time, so it is only used to choose whom to ask; whether a process may come is said
//! by the node that is asked, which counts what it has promised to others. So a node that was idle a moment ago is not
//! flooded, however many know of it.

mod candidate;
mod cost;
mod ledger;
mod message;
mod pool;
mod programs;
mod select;
mod usher;
mod view;

pub use candidate::{Candidate, Exclusions, Mode, ProcessId, Settings};
pub use cost::{Demand, Prices, Room, weight};
pub use ledger::{Answer, Claim, Ledger, RESERVATIONS_MAX, Refused};
pub(crate) use message::{ANSWER, CLAIM};
pub use pool::{Closed, Pool, Presence, Schedule};
pub use programs::{Calls, Expected, ProgramId, Programs};
pub use select::{Other, Wish, place, wishes};
pub use usher::{Growth, usher};
pub use view::View;

#[cfg(test)]
mod tests;

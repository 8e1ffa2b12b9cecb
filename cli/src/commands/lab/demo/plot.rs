//! What happens to the nodes while the programs compute. Nobody moves a program: nodes open and close, as when somebody
//! sits down at a machine or goes home from it, and the programs go where there is room.

use std::time::{Duration, Instant};

use minka_lab::Lab;
use minka_node::client::Client;
use minka_node::protocol::Steering;

use super::Moves;
use crate::failure::Failure;

/// The node that takes guests only later.
pub(super) const LATE: u32 = 3;

/// The node whose guests have to leave.
pub(super) const WANTED: u32 = 2;

/// How long an act lasts at least when what it is to show has been seen, and at most.
const SEEN: Duration = Duration::from_millis(1500);
const UNSEEN: Duration = Duration::from_secs(10);

/// The acts, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// There are two nodes to compute on.
    Two,
    /// The third has opened: guests go on to it from the second.
    Three,
    /// The second has sent its guests home.
    Wanted,
    /// All are open, to the end.
    All,
}

/// How far the demonstration is.
#[derive(Debug)]
pub(super) struct Plot {
    act: Act,
    since: Instant,
    seen: Option<Instant>,
}

impl Plot {
    /// Closes the node that opens later.
    pub(super) fn begin(lab: &Lab) -> Result<Self, Failure> {
        steer(lab, LATE, Steering::Block { on: true })?;
        Ok(Plot { act: Act::Two, since: Instant::now(), seen: None })
    }

    /// Goes on to the next act if it is time; the message that tells of it, and the node that it is about.
    pub(super) fn go_on(&mut self, lab: &Lab, moves: &Moves) -> Result<Option<(&'static str, u32)>, Failure> {
        let is_seen = match self.act {
            Act::Two => moves.home_to_host > 0,
            Act::Three => moves.host_to_host > 0,
            Act::Wanted => moves.host_to_home > 0,
            Act::All => return Ok(None),
        };
        let seen = *self.seen.get_or_insert_with(Instant::now);
        if !is_seen {
            self.seen = None;
        }
        if !(is_seen && seen.elapsed() >= SEEN) && self.since.elapsed() < UNSEEN {
            return Ok(None);
        }
        (self.since, self.seen) = (Instant::now(), None);
        let (next, node, what, message) = match self.act {
            Act::Two => (Act::Three, LATE, Steering::Block { on: false }, "demo-opens"),
            Act::Three => (Act::Wanted, WANTED, Steering::Expel, "demo-closes"),
            Act::Wanted | Act::All => (Act::All, WANTED, Steering::Block { on: false }, "demo-opens"),
        };
        steer(lab, node, what)?;
        self.act = next;
        Ok(Some((message, node)))
    }
}

fn steer(lab: &Lab, node: u32, what: Steering) -> Result<(), Failure> {
    let run_directory = lab.description().node(node)?.run_directory();
    Ok(Client::connect(&run_directory)?.steer(what)?)
}

//! What a liar says, where, and what may come of it.

use std::sync::Mutex;

use minka_wire::frame::Header;
use minka_wire::message::{self, FromHome, kind};
use minka_wire::preamble::Lane;

use super::fuzz::Fuzz;
use super::lane::Frame;
use super::{broken, from_home, from_host};
use crate::journey::May;

/// Who is lied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The deputy, in the name of the host program.
    Home,
    /// The host program, in the name of the deputy.
    Host,
}

/// The frame in place of which a lie is told: the `number`th of its kind, from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) to: To,
    pub(super) lane: Lane,
    pub(super) kind: u16,
    pub(super) number: u32,
}

/// What a liar does after its lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It passes everything on, as before.
    GoOn,
    /// It says nothing more that way on that lane.
    Silence,
    /// It closes the lane properly.
    Goodbye,
    /// It cuts the lane.
    Cut,
}

/// What is put in place of a frame; `reserved` is the part of the address space that the home keeps for itself.
pub(super) type Tell = Box<dyn Fn(&Frame, (u64, u64)) -> (Vec<u8>, Then) + Send + Sync>;

/// A lie.
pub struct Lie {
    /// Its name.
    pub name: String,
    /// Who is lied to.
    pub to: To,
    /// What may come of it for a process that makes no calls.
    pub quiet: May,
    /// The same for one that does.
    pub chatty: May,
    /// Whether the session goes on in spite of it.
    pub harmless: bool,
    pub(super) when: When,
    pub(super) tell: Tell,
}

impl std::fmt::Debug for Lie {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lie")
            .field("name", &self.name)
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}

impl Lie {
    /// The same, in spite of which the session goes on.
    pub(super) fn harmless(self) -> Self {
        Self { harmless: true, ..self }
    }

    /// Whether it is told when the process comes home, and not before.
    pub fn is_told_on_the_way_home(&self) -> bool {
        match self.when {
            When { to: To::Home, lane, .. } => lane == Lane::Stream,
            When { to: To::Host, lane, number, .. } => lane == Lane::Control && number > 2,
        }
    }
}

/// All lies that have a name.
pub fn lies() -> Vec<Lie> {
    [broken::lies(), from_host::lies(), from_home::lies()].into_iter().flatten().collect()
}

/// A frame that says this.
pub(super) fn say(kind: u16, message: &impl serde::Serialize) -> Vec<u8> {
    Frame { header: Header::new(kind, 0), body: Vec::new() }.with(message::encode(message)).bytes()
}

/// What a liar has in mind.
pub(super) struct Plan {
    lie: Intent,
    reserved: Mutex<(u64, u64)>,
}

enum Intent {
    One(Lie),
    Fuzz(Fuzz),
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Plan")
    }
}

impl Plan {
    pub(super) fn named(name: &str) -> Option<Self> {
        let lie = match name.strip_prefix("fuzz:") {
            Some(seed) => Intent::Fuzz(Fuzz::new(seed.parse().ok()?)),
            None => Intent::One(lies().into_iter().find(|lie| lie.name == name)?),
        };
        Some(Self { lie, reserved: Mutex::default() })
    }

    /// What to say in place of a frame, if it is to be a lie.
    pub(super) fn lie(&self, (to, lane): (To, Lane), frame: &Frame, number: u32) -> Option<(Vec<u8>, Then)> {
        let mut reserved = self.reserved.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if (to, lane) == (To::Host, Lane::Control)
            && let Ok(FromHome::Enter { image, .. }) =
                message::decode(&frame.header, &frame.body, kind::FROM_HOME, "")
        {
            *reserved = image.reserved;
        }
        match &self.lie {
            Intent::One(Lie { when, tell, .. }) => {
                let now = (when.to, when.lane) == (to, lane)
                    && (when.kind, when.number) == (frame.header.kind, number);
                now.then(|| tell(frame, *reserved))
            }
            Intent::Fuzz(fuzz) => fuzz.lie(frame),
        }
    }
}

//! Everything that Minka's programs say to each other: frames, messages, and what is said on one node.

pub mod frame;
pub mod local;
pub mod message;
pub mod preamble;

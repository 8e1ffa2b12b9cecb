//! Channels between real sockets: how they begin, what they carry, and how they end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

mod cable;
mod datagrams;
mod endings;
mod fixture;
mod frames;
mod further;
mod handshakes;
mod renewal;
mod strangers;

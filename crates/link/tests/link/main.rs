//! Channels between real sockets: how they begin, what they carry, and how they end.

mod fixture;
mod frames;

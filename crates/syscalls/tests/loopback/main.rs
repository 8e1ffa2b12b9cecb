//! Every forwarded call that can safely be made here is made twice: directly, and through the marshaller from
//! another memory. Result, error and every byte must be equal, those that the call leaves alone too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod attributes;
mod descriptors;
mod messages;
mod paths;
mod sockets;
mod state;
mod transfers;
mod waits;
mod world;

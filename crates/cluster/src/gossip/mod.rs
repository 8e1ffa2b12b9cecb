//! How nodes come to know each other's load, at a cost that does not grow with their number.
//!
//! Every step, a second long, each node makes its own entry anew, packs the newest entries that it knows into one
//! [`Datagram`] and sends that to one other node, chosen at random. So each node sends one datagram of constant size
//! and gets one on average, whatever the size of the cluster, and what it knows of most nodes is a few steps old.
//! [`ages`] says how old exactly.
//!
//! ```text
//!   own Info ──refresh──►┌────────┐──window──► Datagram ──► one node at random
//!                        │ Vector │
//!   a Datagram ───merge──►└────────┘──get, newest──► the balancer
//! ```
//!
//! Clocks of different nodes have nothing to do with each other: what travels is an entry's *age*. Which of two entries
//! of a node is the newer one is said by its own count of them.

pub mod ages;
pub(crate) mod datagram;
mod vector;

pub use datagram::{DATAGRAM_BYTES_MAX, Datagram, DatagramError, ENTRY_BYTES, HEADER_BYTES};
pub use vector::{Entry, Known, Millis, Vector, WINDOW_MAX};

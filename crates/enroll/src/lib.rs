//! How machines join a cluster, renew their certificates and leave.
//!
//! ```text
//!  the new machine                               the machine with the authority's key
//!  ───────────────                               ────────────────────────────────────
//!                                                minka cluster token ──► a token, kept as a hash
//!        ◄───────── the token, by the hands of people ─────────
//!  makes its own key
//!  minka cluster join ────── TLS 1.3 ───────────► minka cluster serve
//!     the server's authority has the digest           the token is right, and used up now
//!     that the token says                             the key is the machine's
//!     {name, port, public key, token} ────────►       a certificate, a number, the next list of nodes
//!           ◄──── {certificate, list} ─────────       ──► told to all nodes, over mutual TLS
//! ```
//!
//! The token says which authority it is, by the digest of its certificate: so the new machine knows whom it talks to before
//! it shows the token, and there is nothing to be trusted on first use. All else that the service does, it does for nodes
//! that show a certificate of the cluster.
//!
//! The key of the authority is used by a program of its own that its owner runs, not by the daemon, which talks to
//! everybody as root.
//!
//! Reading order: [`token`], [`message`], [`service`], [`client`], [`push`].

pub mod client;
pub mod message;
mod pin;
pub mod push;
pub mod service;
pub mod token;

/// Where the authority's service listens unless it is told otherwise.
pub const PORT: u16 = 4662;

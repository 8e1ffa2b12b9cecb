//! The node daemon over HTTP: at a UNIX socket of its own and, if the node's owner wants it, over TLS for other machines.
//!
//! ```text
//!   curl --unix-socket /run/minka/api.sock http://minka/v1/nodes
//!
//!            api.sock                   a thread of the daemon with a runtime of its own
//!   client ───────────► server.rs ──► paths.rs ──────► minka_node::ask ──► the daemon's lock
//!             who it is,              events.rs          (in threads that may wait)
//!             says the kernel         metrics.rs
//!   client ───TLS─────► remote.rs ──►    (the same)
//!             who it is, says a token
//! ```
//!
//! What a caller may do is what the control socket lets the same user do, or what its token's role allows. What is offered is described by itself, at
//! `/openapi.json`. Errors are those of RFC 9457. No request can keep the daemon from its work: there is a limit to
//! connections, to those of one user, to a request's size and time, and to what may wait at a time.

mod body;
mod events;
mod metrics;
mod openapi;
mod paths;
mod problem;
mod remote;
mod server;

pub use openapi::text as description;
pub use problem::Problem;
pub use remote::Remote;
pub use server::{ApiError, Service, serve, serve_remote};

//! Accelerators over HTTP.
//!
//! ```text
//!   connections ──► doorman (limits) ──► router ─┬─ /api/v1      what clients of XPU Manager call
//!                                                ├─ /rest/v1     XPU Manager 1's own interface
//!                                                ├─ /metrics     Prometheus, OpenMetrics
//!                                                └─ /openapi.json
//!                       every answer comes from the station's last reports: no request waits for a device
//! ```
//!
//! One thread serves; what takes long (checking a token for the first time, asking Python, asking another host)
//! is done beside it. Reading is open to whoever can connect, unless tokens are required; changing anything
//! takes a token whose role allows it, and is written to the audit log.
//!
//! Reading order: [`server`] (connections), [`guard`] (every request), [`problem`] (what errors look like), [`contract`],
//! [`analytics`], [`state`] (what lasts), [`settings`] (what changes devices), [`warden`] (who looks
//! after policies), [`updates`] (firmware), [`rest`], [`openapi`], [`usage`] and [`resident`] (the service in a node's daemon).

pub mod analytics;
pub mod bench;
pub mod body;
pub mod bundle;
pub mod child;
pub mod contract;
pub mod dumps;
pub mod guard;
pub mod http;
pub mod numbers;
pub mod openapi;
pub mod policies;
pub mod problem;
pub mod resident;
pub mod rest;
pub mod server;
pub mod settings;
pub mod state;
pub mod updates;
pub mod usage;
pub mod warden;

pub use resident::reside;
pub use server::{Options, ServeError, serve};

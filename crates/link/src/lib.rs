//! Mutually authenticated channels between nodes, and the keys for them.
//!
//! ```text
//!   a directory of keys ──► NodeKeys ──► Credentials ──┬─► connect(…) ─┐
//!   node.toml ──► NodeConfig                           └─► accept(…) ──┴─► Channel ─┬─► Sender    (a thread)
//!                                                                                   ├─► Receiver  (a thread)
//!                                                                                   └─► Closer    (any thread)
//! ```
//!
//! A [`Channel`] is one TCP connection under TLS 1.3 on which whole frames travel ([`minka_wire::frame`]). Both ends
//! hold a certificate from the cluster's authority, and nobody else gets past the handshake. Further channels of the same two
//! programs have the records of TLS and no handshake ([`SessionKeys`]). There is no runtime in here: calls block, and whoever wants to wait for several things gives each a thread, or polls the
//! descriptor of the [`Receiver`].
//!
//! What goes by UDP is sealed with keys that two nodes have agreed on over such a channel (`seal`).
//!
//! rustls makes the handshake; the records after it are encrypted and decrypted in `record`, whose documentation says
//! why. All input is bounded: the preamble and the handshake by a deadline and a length, frames by their class.

mod announce;
mod authority;
mod channel;
pub mod config;
mod credentials;
mod current;
mod error;
mod exchange;
mod files;
mod further;
mod handshake;
pub mod keys;
mod receiver;
mod record;
mod renewal;
pub mod roster;
mod seal;
mod sender;
mod socket;

pub use announce::{ANNOUNCEMENT_BYTES_MAX, Announced, Announcement, AnnouncementError, Announcer};
pub use authority::{AUTHORITY_NAME, NodeKey, NodeRequest, digest_of};
pub use channel::{Channel, Closer, accept, connect, read_preamble, rehearse};
pub use config::{BalanceConfig, BalanceMode, ConfigError, NodeConfig, PoolConfig, PoolKind};
pub use credentials::{Credentials, Refused, learn_of_processor};
pub use current::CurrentCredentials;
pub use error::ChannelError;
pub use exchange::{answer_roster, exchange_rosters};
pub use files::{FilesError, NodeFiles};
pub use further::SessionKeys;
pub use keys::{Authority, KeyError, NodeKeys};
pub use receiver::Receiver;
pub use renewal::{answer_renewal, offer_renewal};
pub use seal::{
    DatagramKeys, KeyId, Opened, Opener, SEAL_BYTES, SealError, Sealer, agree_on_keys, answer_keys,
    unknown_key,
};
pub use sender::Sender;
pub use socket::Tuning;

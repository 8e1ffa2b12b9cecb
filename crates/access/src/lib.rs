//! Who may ask over the network, and what: for the services that this program offers to other machines.
//!
//! A token is `name.secret`, the secret 256 random bits that this program made. The file of tokens has an Argon2
//! hash of each secret, and four bytes of a plain digest, which give away nothing of 256 bits and tell nearly
//! every wrong secret from a right one at no cost:
//!
//! ```text
//!   header ── no such name, or wrong digest ──► guess: counted by address; 401, after a few it comes late
//!         └── right digest ── known from before ──► in
//!                         └── Argon2, beside the server's thread, one at a time ──► in, or a guess
//! ```
//!
//! So whoever guesses waits for each answer, but nobody else does: a wrong secret costs a digest,
//! and a right one is never held up by the guesses of others, not even from the same address.

//!
//! Reading order: [`Gate`] (who may), [`Door`] (what every request meets), [`Crowd`] (how many may be connected),
//! [`receive`] (connections), [`Guesses`], [`tls`].

mod crowd;
mod door;
mod gate;
mod guesses;
mod header;
mod reception;
pub mod time;
pub mod tls;
mod tokens;

use serde::{Deserialize, Serialize};

pub use crowd::{Crowd, Place};
pub use door::{Door, DoorError, WAITING_MAX, Wrong};
pub use gate::{Gate, Verdict};
pub use guesses::Guesses;
pub use header::token;
pub use reception::{Peer, attend, receive};
pub use tokens::{Entry, TokenError, add, read, remove};

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To see.
    Read,
    /// To change what is done, but not what the machine is.
    Operate,
    /// To change everything.
    Admin,
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Role::Read),
            "operate" => Ok(Role::Operate),
            "admin" => Ok(Role::Admin),
            _ => Err("a role is read, operate or admin"),
        }
    }
}

/// A caller who showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose token it was.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

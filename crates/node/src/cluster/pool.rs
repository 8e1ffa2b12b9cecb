//! How this node shares with the others: its configuration as the rules have it, and what the tools are told.

use std::sync::Arc;

use minka_cluster::balance::{Closed, Pool, Presence, Schedule};
use minka_link::{PoolConfig, PoolKind};
use tracing::info;

use super::Cluster;
use crate::daemon::Daemon;
use crate::protocol;

/// Minutes of a week.
const WEEK_MIN: u16 = 7 * 24 * 60;

/// What is known where nobody looks: a node that is not adaptive does not want to know.
pub(super) const UNSEEN: Presence = Presence { minute: 0, idle_s: None };

/// What the configuration says.
pub(super) fn pool(config: &PoolConfig) -> Pool {
    match config.kind {
        PoolKind::Single => Pool::Single,
        PoolKind::Server => Pool::Server,
        PoolKind::Client => Pool::Client,
        PoolKind::Adaptive => {
            let ranges = config.times.iter().flat_map(|times| &times.ranges);
            let schedule =
                |(from, until): &(u16, u16)| Schedule { from_min: *from, until_min: until % WEEK_MIN };
            let idle_s = u64::from(config.idle_min) * 60;
            Pool::Adaptive { schedules: ranges.map(schedule).collect(), idle_s }
        }
    }
}

impl Cluster {
    /// How the node shares with the others at the moment.
    pub(crate) fn pool(&self) -> protocol::Pool {
        let state = self.lock();
        let config = state.node.config();
        let kind = match config.pool {
            Pool::Single => protocol::PoolKind::Single,
            Pool::Server => protocol::PoolKind::Server,
            Pool::Client => protocol::PoolKind::Client,
            Pool::Adaptive { .. } => protocol::PoolKind::Adaptive,
        };
        let closed = config.pool.closed(&state.presence).map(|closed| match closed {
            Closed::Client => protocol::Closed::Client,
            Closed::Time => protocol::Closed::Time,
            Closed::Used => protocol::Closed::Used,
        });
        let closed = if config.flags.blocked { Some(protocol::Closed::Blocked) } else { closed };
        protocol::Pool { kind, closed, idle_s: state.presence.idle_s }
    }
}

impl Daemon {
    /// Takes note of who uses the machine, and what time it is. Whoever is here when the node closes goes home: also those
    /// who sleep.
    pub(super) fn note_presence(self: &Arc<Self>, cluster: &Cluster, presence: Presence) {
        let closes = {
            let state = &mut *cluster.lock();
            let before = std::mem::replace(&mut state.presence, presence);
            let pool = &state.node.config().pool;
            let now = pool.closed(&presence);
            if now != pool.closed(&before) {
                info!(?now, "this node opens or closes to guests");
            }
            now.is_some() && pool.closed(&before).is_none()
        };
        if closes {
            self.tell(|state| state.book.expel_everybody());
        }
    }
}

//! What the node's owner changes while it runs.

use std::sync::Arc;

use minka_cluster::load::{Flags, Speed};

use super::Cluster;
use crate::daemon::Daemon;
use crate::protocol::{Refusal, Steering};

impl Cluster {
    fn set_flags(&self, change: impl FnOnce(&mut Flags)) {
        change(&mut self.lock().node.config_mut().flags);
    }
}

impl Daemon {
    /// Changes how this node takes part. Guests and processes that are to go are on their way when this returns.
    pub(crate) fn steer(self: &Arc<Self>, what: Steering) -> Result<(), Refusal> {
        let cluster = self.cluster().ok_or(Refusal::NotSteered)?;
        match what {
            Steering::Stay { on } => cluster.set_flags(|flags| flags.stays = on),
            Steering::Block { on } => cluster.set_flags(|flags| flags.blocked = on),
            Steering::Expel => {
                cluster.set_flags(|flags| flags.blocked = true);
                self.tell(|state| state.book.expel_everybody());
            }
            Steering::Bring => {
                cluster.set_flags(|flags| flags.stays = true);
                self.tell(|state| state.book.bring_everybody());
            }
            Steering::Speed { speed } => {
                let speed = Speed::new(speed).ok_or(Refusal::NotSteered)?;
                cluster.lock().node.config_mut().speed = speed;
            }
        }
        Ok(())
    }
}

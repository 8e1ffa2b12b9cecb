//! What the node's owner changes while it runs.

use std::sync::Arc;

use std::time::Duration;

use minka_cluster::load::{Decay, Flags, Speed};

use super::Cluster;
use crate::daemon::Daemon;
use crate::protocol::{self, Refusal, Steering};

impl Cluster {
    fn set_flags(&self, change: impl FnOnce(&mut Flags)) {
        change(&mut self.lock().node.config_mut().flags);
    }

    /// How fast what is known of processes is forgotten.
    pub(crate) fn decay(&self) -> protocol::Decay {
        let decay = self.lock().decay;
        let (slow, fast) = decay.permille();
        let interval_s = u16::try_from(decay.interval().as_secs()).unwrap_or(u16::MAX);
        protocol::Decay { interval_s, slow, fast }
    }
}

impl Cluster {
    /// This node's part in the cluster, as it has been set.
    pub(crate) fn part(&self) -> protocol::Part {
        let state = self.lock();
        let config = state.node.config();
        let settings = &config.settings;
        // Saturates, and the figures are small.
        let whole = |figure: f64| figure.round() as u64;
        protocol::Part {
            number: self.directory.own.number.get(),
            stays: config.flags.stays,
            blocked: config.flags.blocked,
            speed: config.speed.get(),
            yard: state.yard.get(),
            overheads: protocol::Overheads {
                move_us: whole(settings.move_s * 1e6),
                move_mib_s: whole(settings.move_mib_s),
                call_ns: whole(settings.call_s * 1e9),
                measured: false,
            },
        }
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
            Steering::Yard { speed } => {
                let speed = Speed::new(speed).ok_or(Refusal::NotSteered)?;
                cluster.lock().yard = speed;
            }
            Steering::Decay(decay) => {
                let interval = Duration::from_secs(decay.interval_s.into());
                let decay = Decay::new(interval, decay.slow, decay.fast).ok_or(Refusal::NotSteered)?;
                cluster.lock().decay = decay;
            }
        }
        Ok(())
    }
}

//! What the tools are told of the cluster.

use minka_cluster::NodeId;
use minka_cluster::gossip::Known;
use minka_cluster::load::{DeviceKind, Devices, Speed};

use super::{Cluster, millis, now};
use crate::protocol::{self, DeviceFigures, Figures, Node};

impl Cluster {
    /// Adds to nodes, by name, what is known of them.
    pub(crate) fn describe(&self, nodes: &mut [Node]) {
        let state = self.lock();
        let time = millis(now());
        for node in nodes {
            let Some(number) = self.directory.number(&node.name) else { continue };
            node.number = Some(number.get());
            node.member = node.this || state.node.membership().find(number).is_some();
            node.figures = state.node.vector().get(number).map(|known| figures(known, time, state.yard));
        }
    }

    /// The number of a node and its name.
    pub(crate) fn own(&self) -> (NodeId, &str) {
        (self.directory.own.number, &*self.directory.own.name)
    }
}

fn figures(known: &Known, time: u64, yard: Speed) -> Figures {
    let info = &known.info;
    Figures {
        age_ms: known.age_ms(time),
        load: info.load.tasks(),
        running: info.running.tasks(),
        standard_load: in_yards(info.standard_load().0, yard),
        cpus: info.cpus,
        speed: info.speed.get(),
        utilisation: info.utilisation,
        io_stall: info.io_stall,
        memory_mib: info.memory_mib,
        free_mib: info.free_mib,
        available_mib: info.available_mib,
        blocked: info.flags.blocked,
        stays: info.flags.stays,
        leaving: info.flags.leaving,
        devices: info.devices.as_ref().map(devices),
    }
}

/// The kinds of devices of which there are any.
fn devices(all: &[Devices; 4]) -> Vec<DeviceFigures> {
    let kinds = DeviceKind::ALL.into_iter().zip(all).filter(|(_, devices)| devices.total() > 0);
    kinds
        .map(|(kind, devices)| DeviceFigures {
            kind: match kind {
                DeviceKind::Intel => protocol::DeviceKind::Intel,
                DeviceKind::Nvidia => protocol::DeviceKind::Nvidia,
                DeviceKind::Amd => protocol::DeviceKind::Amd,
                DeviceKind::Mic => protocol::DeviceKind::Mic,
            },
            total: devices.total(),
            free: devices.free(),
            drained: devices.drained(),
        })
        .collect()
}

/// A load in standard processors as a load in processors of this speed: beside one that is twice as fast it
/// is twice as large, for everything takes twice as long as there.
fn in_yards(standard: u32, yard: Speed) -> u32 {
    // Saturates.
    (f64::from(standard) * yard.relative()).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_yardstick_makes_loads_larger() {
        let told = [10_000, 20_000, 5_000].map(|yard| in_yards(150, Speed::new(yard).unwrap()));
        assert_eq!(told, [150, 300, 75]);
    }
}

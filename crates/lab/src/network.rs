//! The lab's network: who has which address and name.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use minka_kernel::netlink::{Netlink, NetlinkError, NetworkNamespace, VethEnd};

/// The network of every lab. Labs do not meet, and no packet leaves one, so that it never clashes with a real
/// one.
pub const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// How many bits of an address name the network.
pub const PREFIX_LENGTH: u8 = 24;
/// Most nodes of a lab: the last number of an address is the node's.
pub const NODES_MAX: u32 = 250;
/// The TCP port on which a node's daemon listens for others.
pub const NODE_PORT: u16 = 4660;

/// The longest packet, in bytes: what the kernel allows an Ethernet device. Large ones make the lab's network
/// nearly as quick as the loopback interface.
const MTU: u32 = 65535;
/// The bridge in the hub's namespace.
const BRIDGE: &str = "hub";
/// The interface in each node's namespace.
const NODE_INTERFACE: &str = "eth0";

/// The address of a node, which counts from 1.
pub fn node_address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(NETWORK.to_bits() + node)
}

/// The host name of a node, which counts from 1.
pub fn node_name(node: u32) -> String {
    format!("node{node}")
}

/// How long an interface may take until it lets frames through, and how often that is looked at. A node whose
/// interface takes longer starts all the same; the first frames that it sends are lost.
const READY_LIMIT: Duration = Duration::from_secs(2);
const READY_INTERVAL: Duration = Duration::from_millis(2);

/// The hub's end of the network; it speaks for the namespace in which it was made.
#[derive(Debug)]
pub(crate) struct Hub {
    netlink: Netlink,
    bridge: u32,
}

impl Hub {
    pub(crate) fn create() -> Result<Self, NetlinkError> {
        let mut netlink = Netlink::open()?;
        let bridge = netlink.create_bridge(BRIDGE, MTU)?;
        Ok(Self { netlink, bridge })
    }

    /// Connects a node, whose init has this PID, with the bridge.
    pub(crate) fn connect(&mut self, node: u32, init: u32) -> Result<(), NetlinkError> {
        let near = VethEnd { name: &node_name(node), master: Some(self.bridge), namespace: None };
        let namespace = Some(NetworkNamespace::OfProcess(init));
        let far = VethEnd { name: NODE_INTERFACE, master: None, namespace };
        self.netlink.create_veth(near, far, MTU)
    }

    /// Pulls a node's cable out of the hub, or puts it back in.
    pub(crate) fn set_plugged(&mut self, node: u32, plugged: bool) -> Result<(), NetlinkError> {
        self.netlink.set_up(&node_name(node), plugged)
    }

    /// Has a node hear what the others send it, or not. It is heard all the same.
    pub(crate) fn set_hearing(&mut self, node: u32, hears: bool) -> Result<(), NetlinkError> {
        self.netlink.set_hearing(&node_name(node), hears)
    }

    /// Whether frames to and from a node are let through by now.
    pub(crate) fn is_ready(&mut self, node: u32) -> bool {
        self.netlink.link(&node_name(node)).is_ok_and(|link| link.running)
    }

    /// Whether a node's cable is plugged in.
    pub(crate) fn is_plugged(&mut self, node: u32) -> bool {
        self.netlink.link(&node_name(node)).is_ok_and(|link| link.up)
    }
}

/// The node's end of the network; it speaks for the namespace in which it was made.
#[derive(Debug)]
pub(crate) struct NodeNetwork {
    netlink: Netlink,
}

impl NodeNetwork {
    /// Gives the node its loopback interface.
    pub(crate) fn create() -> Result<Self, NetlinkError> {
        let mut netlink = Netlink::open()?;
        netlink.set_up("lo", true)?;
        Ok(Self { netlink })
    }

    /// Gives the node its address, once it has been connected, and waits until its interface lets frames through:
    /// those before are dropped silently.
    pub(crate) fn join(&mut self, node: u32) -> Result<(), NetlinkError> {
        self.netlink.set_up(NODE_INTERFACE, true)?;
        self.netlink.add_address(NODE_INTERFACE, node_address(node), PREFIX_LENGTH)?;
        let until = Instant::now() + READY_LIMIT;
        while !self.netlink.link(NODE_INTERFACE)?.running && Instant::now() < until {
            std::thread::sleep(READY_INTERVAL);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own_within_the_network() {
        assert_eq!(node_address(1), Ipv4Addr::new(10, 77, 0, 1));
        let last = node_address(NODES_MAX);
        assert_eq!(last.octets()[..3], NETWORK.octets()[..3]);
        assert_ne!(last.octets()[3], 255);
    }
}

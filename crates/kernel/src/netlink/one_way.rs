//! Losing what goes one way only, silently: at a bridge, as in a broken wire, and by a route, as on a router that has
//! lost its way.

use std::net::Ipv4Addr;

use super::message::Message;
use super::{Netlink, NetlinkError, change};

/// What kind of interface a port belongs to, and what is said of it as one (`linux/if_link.h`).
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// Of a bridge's port (`linux/if_link.h`): whether senders behind it are remembered, whether frames go to it whose
/// receiver is not known, and that all be forgotten that is remembered.
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_FLUSH: u16 = 24;

/// Bits of an address that a route is for: all.
const HOST_PREFIX: u8 = 32;

impl Netlink {
    /// Has a bridge's port pass on what is for the one behind it, or lose it. What comes from there passes, and so do
    /// broadcasts.
    pub fn set_hearing(&mut self, port: &str, hears: bool) -> Result<(), NetlinkError> {
        let mut message = change(port, 0, 0)?;
        let hears_as_byte = [u8::from(hears)];
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.text(IFLA_INFO_SLAVE_KIND, "bridge").nested(IFLA_INFO_SLAVE_DATA, |message| {
                message
                    .attribute(IFLA_BRPORT_LEARNING, &hears_as_byte)
                    .attribute(IFLA_BRPORT_UNICAST_FLOOD, &hears_as_byte)
                    .attribute(IFLA_BRPORT_FLUSH, &[]);
            });
        });
        let verb = if hears { "pass on" } else { "lose" };
        self.request(message, || format!("{verb} what is for the interface {port}")).map(drop)
    }

    /// Has all be lost that is sent from this namespace to an address, or takes that back. Who connects is told at once
    /// (`EINVAL`); connections that are there lose what they send without a word.
    pub fn set_blackhole(&mut self, address: Ipv4Addr, lost: bool) -> Result<(), NetlinkError> {
        let (kind, flags) = if lost {
            (libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        } else {
            (libc::RTM_DELROUTE, 0)
        };
        let mut message = Message::new(kind, flags);
        message.route_header(HOST_PREFIX, libc::RTN_BLACKHOLE).attribute(libc::RTA_DST, &address.octets());
        let verb = if lost { "lose" } else { "no longer lose" };
        self.request(message, || format!("{verb} what is for {address}")).map(drop)
    }
}

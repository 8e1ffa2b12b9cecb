//! Nodes that find each other without addresses: each says by multicast that it is there, and hears the others.
//!
//! An announcement proves who sent it ([`minka_link::Announcer`]), but not from where. So what is heard is a hint: the daemon
//! connects there, and only if that proves to be the node it is looked for there from then on. The daemon does this by
//! itself where its configuration says so, and for `omdiscd`, which tells it what it has heard.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use minka_link::config::DiscoveryConfig;
use minka_link::{ANNOUNCEMENT_BYTES_MAX, Announced, Announcement, Announcer, Credentials, KeyError};
use nix::ifaddrs::getifaddrs;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tracing::{debug, info, warn};

use crate::daemon::{Daemon, chain};

/// Where announcements are sent to: a group that is not passed on beyond an organisation (RFC 2365), and a port.
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 77), 4663);

/// On more networks nobody announces anything.
pub const INTERFACES_MAX: usize = 6;

/// How often a node announces itself: a few times soon after it has begun, and then seldom.
const FIRST: [u64; 3] = [1, 2, 4];
const INTERVAL: Duration = Duration::from_secs(10);

/// Announcements that are looked at in a second; each costs two signatures to check.
const HEARD_MAX: u32 = 200;

/// Why there can be no discovery.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It was not said on which interface, and there is no default route.
    #[error("determine the default interface: there is no default route, so an interface must be named (-i)")]
    NoRoute,
    /// There is no such interface, or it has no address of version 4.
    #[error("use the interface {name}: it is not there, or has no IPv4 address")]
    Interface {
        /// Its name.
        name: String,
    },
    /// There are too many.
    #[error("use more than {INTERFACES_MAX} interfaces")]
    Many,
    /// The sockets cannot be opened.
    #[error("listen for other nodes at {GROUP}")]
    Socket(#[source] io::Error),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A node that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its name.
    pub name: String,
    /// Where it seems to be.
    pub address: SocketAddr,
}

/// Announces a node, and hears others.
#[derive(Debug)]
pub struct Discovery {
    interfaces: Vec<String>,
    ttl: u8,
    socket: UdpSocket,
    /// The addresses of the interfaces on which it listens.
    joined: Vec<Ipv4Addr>,
    heard: Announced,
    sent: usize,
    next: Instant,
    /// Since when, and how many.
    looked_at: (Instant, u32),
}

impl Discovery {
    /// Opens the sockets.
    ///
    /// # Errors
    /// When an interface is not there, or there is no default route to choose one by.
    pub fn open(config: &DiscoveryConfig) -> Result<Self, DiscoveryError> {
        if config.interfaces.len() > INTERFACES_MAX {
            return Err(DiscoveryError::Many);
        }
        let mut interfaces = config.interfaces.clone();
        if interfaces.is_empty() {
            interfaces.push(default_interface().ok_or(DiscoveryError::NoRoute)?);
        }
        let now = Instant::now();
        let mut discovery = Discovery {
            interfaces,
            ttl: config.ttl,
            socket: listen().map_err(DiscoveryError::Socket)?,
            joined: Vec::new(),
            heard: Announced::default(),
            sent: 0,
            next: now,
            looked_at: (now, 0),
        };
        for name in discovery.interfaces.clone() {
            let address = address_of(&name).ok_or(DiscoveryError::Interface { name })?;
            discovery.join(address).map_err(DiscoveryError::Socket)?;
        }
        Ok(discovery)
    }

    /// Announces the node if it is time to, and waits for others until it is time again; returns one that was heard.
    pub fn next(
        &mut self,
        announcer: &Announcer,
        credentials: &Credentials,
        version: u64,
        port: u16,
    ) -> Option<Heard> {
        let now = Instant::now();
        if now >= self.next {
            self.announce(announcer, version, port);
            let pause = FIRST.get(self.sent).copied().map_or(INTERVAL, Duration::from_secs);
            self.sent += 1;
            self.next = now + pause;
        }
        let wait = self.next.saturating_duration_since(now).max(Duration::from_millis(1));
        // Fails only for a wait of no time.
        let _ = self.socket.set_read_timeout(Some(wait));
        let mut buffer = [0; ANNOUNCEMENT_BYTES_MAX + 1];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        if !self.may_look() {
            return None;
        }
        match self.heard.read(buffer.get(..length)?, credentials) {
            Ok((name, _)) if *name == *credentials.name() => None,
            Ok((name, announcement)) => {
                let address = SocketAddr::new(from.ip(), announcement.port);
                Some(Heard { name: name.into_string(), address })
            }
            Err(error) => {
                debug!(%from, error = %chain(&error), "threw an announcement away");
                None
            }
        }
    }

    /// Says on all networks that the node is there.
    fn announce(&mut self, announcer: &Announcer, version: u64, port: u16) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let datagram = match announcer.write(&Announcement { version, time, port }) {
            Ok(datagram) => datagram,
            Err(error) => return warn!(error = %chain(&error), "failed to sign an announcement"),
        };
        // An interface may have got another address meanwhile, or be there again.
        for name in self.interfaces.clone() {
            let Some(address) = address_of(&name) else { continue };
            let outcome = self.join(address).and_then(|()| send(address, self.ttl, &datagram));
            if let Err(error) = outcome {
                debug!(interface = name, %error, "failed to announce this node");
            }
        }
    }

    /// Listens on the network of this address, too.
    fn join(&mut self, address: Ipv4Addr) -> io::Result<()> {
        if !self.joined.contains(&address) {
            self.socket.join_multicast_v4(GROUP.ip(), &address)?;
            self.joined.push(address);
        }
        Ok(())
    }

    fn may_look(&mut self) -> bool {
        let (since, count) = &mut self.looked_at;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        *count <= HEARD_MAX
    }
}

/// Several programs may listen: the daemon, and `omdiscd`.
fn listen() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(*GROUP.ip(), GROUP.port()))?;
    Ok(UdpSocket::from(socket))
}

/// Sends on the network of this address.
fn send(address: Ipv4Addr, ttl: u8, datagram: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind((address, 0))?;
    sockopt::set_ip_multicast_if(&socket, &address)?;
    socket.set_multicast_ttl_v4(ttl.into())?;
    socket.send_to(datagram, GROUP).map(drop)
}

/// The first address of version 4 of an interface.
fn address_of(name: &str) -> Option<Ipv4Addr> {
    let mut addresses = getifaddrs().ok()?.filter(|it| it.interface_name == name);
    addresses.find_map(|it| Some(it.address?.as_sockaddr_in()?.ip()))
}

/// The interface of the default route (`/proc/net/route`: name, destination, gateway, flags …).
fn default_interface() -> Option<String> {
    default_in(&fs::read_to_string("/proc/net/route").ok()?)
}

fn default_in(routes: &str) -> Option<String> {
    let fields = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let is_default = |fields: &Vec<String>| {
        fields.get(1).is_some_and(|destination| destination == "00000000")
            && fields.get(7).is_some_and(|mask| mask == "00000000")
    };
    routes.lines().skip(1).map(fields).find(is_default)?.into_iter().next()
}

impl Daemon {
    /// Announces this node and hears others, if it was told to. Returns when that is impossible.
    pub(crate) fn discover(self: &Arc<Self>, config: &DiscoveryConfig) {
        let Some(cluster) = self.cluster() else { return };
        let mut discovery = match Discovery::open(config) {
            Ok(discovery) => discovery,
            Err(error) => return warn!(error = %chain(&error), "nodes are not found by multicast"),
        };
        info!(interfaces = ?discovery.interfaces, group = %GROUP, "finding nodes by multicast");
        let port = cluster.directory.own.address.port();
        loop {
            // It may have another certificate by now.
            let Some(announcer) = self.announcer() else { return };
            for _ in 0..HEARD_MAX {
                let credentials = cluster.keyring.credentials();
                let version = self.charter.version();
                if let Some(heard) = discovery.next(&announcer, &credentials, version, port) {
                    self.found(&heard.name, heard.address);
                }
            }
        }
    }

    fn announcer(&self) -> Option<Announcer> {
        let config = minka_link::NodeConfig::read(&self.settings.config).ok()?;
        match config.read_keys().and_then(|keys| Announcer::new(&keys)) {
            Ok(announcer) => Some(announcer),
            Err(error) => {
                warn!(error = %chain(&error), "this node is not announced");
                None
            }
        }
    }

    /// Somebody says that a node is at an address. It is looked for there unless it is up where it is known to be.
    pub(crate) fn found(self: &Arc<Self>, name: &str, address: SocketAddr) {
        let Some(cluster) = self.cluster().filter(|_| name != self.settings.node) else { return };
        let known = cluster.directory.named(name);
        let is_there = known.is_some_and(|member| member.address == address);
        // One in several networks is heard in each of them.
        if (is_there || cluster.directory.knows(name, address)) && cluster.is_up(name) {
            return;
        }
        // A name that is not known is one of a newer list, which that node has.
        self.compare(&cluster, name.to_owned(), address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_tells_the_interface() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let near = "eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let far = "eth0\t00000000\t6300000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_in(&format!("{head}{near}{far}")).as_deref(), Some("eth0"));
        assert_eq!(default_in(&format!("{head}{near}")), None);
        assert_eq!(default_in(""), None);
    }

    #[test]
    fn interfaces_that_are_not_there_are_named() {
        let config = |names: &[&str]| DiscoveryConfig {
            interfaces: names.iter().map(|it| (*it).into()).collect(),
            ..DiscoveryConfig::default()
        };
        let error = Discovery::open(&config(&["nowhere0"])).unwrap_err();
        assert_eq!(error.to_string(), "use the interface nowhere0: it is not there, or has no IPv4 address");
        assert!(matches!(Discovery::open(&config(&["lo"; 7])), Err(DiscoveryError::Many)));
    }
}

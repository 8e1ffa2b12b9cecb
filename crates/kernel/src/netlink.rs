//! Network interfaces made and changed by rtnetlink: bridges, pairs of virtual Ethernet interfaces,
//! addresses.
//!
//! Just what a laboratory network needs, so that no `ip` program has to be there:
//!
//! ```text
//! hub namespace                        node's namespace
//! ┌───────────────────────┐            ┌──────────────┐
//! │ bridge ◄─master─ veth │◄──────────►│ veth, address│
//! └───────────────────────┘            └──────────────┘
//! ```
//!
//! A [`Netlink`] speaks for the network namespace that its thread was in when it was opened; requests are
//! answered by the kernel at once, so nothing here waits for anybody.

mod message;
mod one_way;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use self::message::{Answer, LINK_HEADER_LENGTH, Message};

/// An interface's name has at most 15 bytes (`IFNAMSIZ` less the final zero).
pub const INTERFACE_NAME_LENGTH_MAX: usize = 15;

/// The only attribute in the data of a new `veth`: its other end (`linux/veth.h`, `VETH_INFO_PEER`).
const VETH_INFO_PEER: u16 = 1;
/// Longest answer accepted: the kernel itself never uses more than 32 KiB for one.
const ANSWER_LENGTH_MAX: usize = 32 << 10;

/// Why an operation on the network failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused the operation.
    #[error("{operation}{}", .explanation.as_ref().map(|text| format!(" (the kernel says: {text})")).unwrap_or_default())]
    Refused {
        /// What was to be done, as in "failed to …".
        operation: String,
        /// The kernel's own sentence about it, if it gave one.
        explanation: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// No netlink socket, or it failed.
    #[error("{operation}: netlink socket")]
    Socket {
        /// What was to be done, as in "failed to …".
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// An answer that does not have the documented layout.
    #[error("{operation}: the kernel's answer is not understood")]
    Garbled {
        /// What was to be done, as in "failed to …".
        operation: String,
    },
    /// A name that no interface can have.
    #[error("use \"{0}\" as an interface's name: 1 to 15 bytes, no blanks, no slash")]
    Name(String),
}

/// One end of a pair of virtual Ethernet interfaces that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Its name, at most [`INTERFACE_NAME_LENGTH_MAX`] bytes.
    pub name: &'a str,
    /// Number of the bridge that it joins.
    pub master: Option<u32>,
    /// In which namespace it appears; none: the socket's.
    pub namespace: Option<NetworkNamespace<'a>>,
}

/// How a network namespace is named in a request.
#[derive(Clone, Copy, Debug)]
pub enum NetworkNamespace<'a> {
    /// The namespace of the process with this PID (as the caller counts).
    OfProcess(u32),
    /// An open `/proc/PID/ns/net`.
    Open(BorrowedFd<'a>),
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Whether it was set up (`IFF_UP`).
    pub up: bool,
    /// Whether it can also carry frames: it and its peer are up (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Whether the kernel has taken note of that, and frames are let through (`IFF_RUNNING`).
    pub running: bool,
    /// Longest packet that it carries, in bytes without the Ethernet header.
    pub mtu: u32,
}

/// A netlink socket for the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed =
            |source| NetlinkError::Socket { operation: "reach the kernel's network".to_owned(), source };
        // SAFETY: `socket` takes no pointers.
        let raw = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if raw < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: `raw` was just opened and nothing else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // Errors with a sentence, and without the whole request quoted. Kernels without these options merely
        // say less.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: `on` is an int that outlives the call, and its size is given.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a bridge with the given MTU (bytes), up at once, and returns its number.
    pub fn create_bridge(&mut self, name: &str, mtu: u32) -> Result<u32, NetlinkError> {
        let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        message
            .link_header(0, libc::IFF_UP as u32, libc::IFF_UP as u32)
            .text(libc::IFLA_IFNAME, checked(name)?)
            .number(libc::IFLA_MTU, mtu)
            .nested(libc::IFLA_LINKINFO, |message| {
                message.text(libc::IFLA_INFO_KIND, "bridge");
            });
        self.request(message, || format!("create the bridge {name}"))?;
        Ok(self.link(name)?.index)
    }

    /// Makes a pair of virtual Ethernet interfaces with the given MTU (bytes). `near`, which must be in the
    /// socket's own namespace, is up at once; the kernel makes `far` before there is a pair and would not set
    /// it up.
    pub fn create_veth(&mut self, near: VethEnd<'_>, far: VethEnd<'_>, mtu: u32) -> Result<(), NetlinkError> {
        checked(near.name)?;
        checked(far.name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        veth_end(&mut message, near, libc::IFF_UP as u32, mtu);
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.text(libc::IFLA_INFO_KIND, "veth").nested(libc::IFLA_INFO_DATA, |message| {
                message.nested(VETH_INFO_PEER, |message| veth_end(message, far, 0, mtu));
            });
        });
        self.request(message, || format!("create the interface pair {} and {}", near.name, far.name))?;
        Ok(())
    }

    /// Makes an interface a port of the bridge with number `master`.
    pub fn set_master(&mut self, name: &str, master: u32) -> Result<(), NetlinkError> {
        let mut message = change(name, 0, 0)?;
        message.number(libc::IFLA_MASTER, master);
        self.request(message, || format!("attach the interface {name} to bridge number {master}"))?;
        Ok(())
    }

    /// Sets the longest packet of an interface, in bytes without the Ethernet header.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = change(name, 0, 0)?;
        message.number(libc::IFLA_MTU, mtu);
        self.request(message, || format!("set the MTU of the interface {name} to {mtu}"))?;
        Ok(())
    }

    /// Sets an interface up or down.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), NetlinkError> {
        let message = change(name, if up { libc::IFF_UP as u32 } else { 0 }, libc::IFF_UP as u32)?;
        self.request(message, || format!("set the interface {name} {}", if up { "up" } else { "down" }))?;
        Ok(())
    }

    /// Gives an interface an IPv4 address, the network of which is reached through it.
    pub fn add_address(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        prefix_length: u8,
    ) -> Result<(), NetlinkError> {
        let index = self.link(name)?.index;
        let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        message
            .address_header(prefix_length, index)
            .attribute(libc::IFA_LOCAL, &address.octets())
            .attribute(libc::IFA_ADDRESS, &address.octets());
        self.request(message, || format!("give the interface {name} the address {address}/{prefix_length}"))?;
        Ok(())
    }

    /// Looks an interface up by its name.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let operation = || format!("look at the interface {name}");
        let mut message = Message::new(libc::RTM_GETLINK, 0);
        message.link_header(0, 0, 0).text(libc::IFLA_IFNAME, checked(name)?);
        self.request(message, operation)?
            .and_then(|payload| read_link(&payload))
            .ok_or_else(|| NetlinkError::Garbled { operation: operation() })
    }

    /// Sends one request and reads up to its acknowledgement; returns the payload of the message before that.
    fn request(
        &mut self,
        message: Message,
        operation: impl Fn() -> String,
    ) -> Result<Option<Vec<u8>>, NetlinkError> {
        self.sequence += 1;
        let failed = |source| NetlinkError::Socket { operation: operation(), source };
        self.send(&message.finish(self.sequence)).map_err(failed)?;
        let mut content = None;
        loop {
            let datagram = self.receive().map_err(failed)?;
            let ours = |answer: &Answer<'_>| answer.sequence == self.sequence;
            for answer in message::answers(&datagram).filter(ours) {
                if answer.kind != libc::NLMSG_ERROR as u16 {
                    content = Some(answer.payload.to_vec());
                    continue;
                }
                let verdict = message::acknowledgement(&answer)
                    .ok_or_else(|| NetlinkError::Garbled { operation: operation() })?;
                if verdict.errno == 0 {
                    return Ok(content);
                }
                return Err(NetlinkError::Refused {
                    operation: operation(),
                    explanation: verdict.explanation,
                    source: io::Error::from_raw_os_error(verdict.errno),
                });
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of `bytes`. An unconnected netlink socket sends to the
        // kernel.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next datagram that comes from the kernel: others could write to this socket as well.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; ANSWER_LENGTH_MAX];
        loop {
            // SAFETY: all-zero bytes are a valid `sockaddr_nl`.
            let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut sender_length = size_of_val(&sender) as libc::socklen_t;
            // SAFETY: buffer and address are given with their own lengths and outlive the call.
            let received = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut sender).cast(),
                    &raw mut sender_length,
                )
            };
            match usize::try_from(received) {
                Ok(length) if sender.nl_pid == 0 => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Ok(_) => {}
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }
}

/// The start of a request that changes an existing interface.
fn change(name: &str, flags: u32, mask: u32) -> Result<Message, NetlinkError> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0);
    message.link_header(0, flags, mask).text(libc::IFLA_IFNAME, checked(name)?);
    Ok(message)
}

fn veth_end(message: &mut Message, end: VethEnd<'_>, flags: u32, mtu: u32) {
    message.link_header(0, flags, flags).text(libc::IFLA_IFNAME, end.name).number(libc::IFLA_MTU, mtu);
    if let Some(master) = end.master {
        message.number(libc::IFLA_MASTER, master);
    }
    match end.namespace {
        Some(NetworkNamespace::OfProcess(pid)) => {
            message.number(libc::IFLA_NET_NS_PID, pid);
        }
        Some(NetworkNamespace::Open(namespace)) => {
            message.number(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
        None => {}
    }
}

/// Refuses names that the kernel would cut off or refuse without saying so.
fn checked(name: &str) -> Result<&str, NetlinkError> {
    let forbidden = |byte: u8| byte.is_ascii_whitespace() || byte == b'/' || byte == b':' || byte == 0;
    let length_fits = (1..=INTERFACE_NAME_LENGTH_MAX).contains(&name.len());
    if length_fits && name != "." && name != ".." && !name.bytes().any(forbidden) {
        Ok(name)
    } else {
        Err(NetlinkError::Name(name.to_owned()))
    }
}

/// Reads the payload of an `RTM_NEWLINK` message.
fn read_link(payload: &[u8]) -> Option<Link> {
    let flags = message::read_u32(payload, 8)?;
    let mtu = message::attributes(payload.get(LINK_HEADER_LENGTH..)?)
        .find(|(kind, _)| *kind == libc::IFLA_MTU)
        .and_then(|(_, payload)| message::read_u32(payload, 0))?;
    Some(Link {
        index: message::read_u32(payload, 4)?,
        up: flags & libc::IFF_UP as u32 != 0,
        carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
        running: flags & libc::IFF_RUNNING as u32 != 0,
        mtu,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_name() {
        let link = Netlink::open().unwrap().link("lo").unwrap();
        assert!(link.index >= 1 && link.mtu >= 1500, "{link:?}");
    }

    #[test]
    fn an_unknown_interface_is_refused_with_the_operation_named() {
        let error = Netlink::open().unwrap().link("nonesuch").unwrap_err();
        assert_eq!(error.to_string(), "look at the interface nonesuch");
        let NetlinkError::Refused { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ENODEV));
    }

    /// Runs `work` in a new network namespace and returns what it does, and the namespace. `None` without
    /// privilege.
    fn in_new_network<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<(T, File)> {
        let thread = std::thread::spawn(|| {
            // SAFETY: `unshare` takes no pointers; a thread may have a network namespace of its own.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EPERM));
                return None;
            }
            Some((work(), File::open("/proc/thread-self/ns/net").unwrap()))
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_pair_joins_two_namespaces() {
        let Some((mut far, there)) = in_new_network(|| Netlink::open().unwrap()) else { return };
        in_new_network(move || {
            let mut near = Netlink::open().unwrap();
            let bridge = near.create_bridge("bridge", 9000).unwrap();
            let namespace = Some(NetworkNamespace::Open(there.as_fd()));
            let one = VethEnd { name: "near", master: None, namespace: None };
            let other = VethEnd { name: "far", master: None, namespace };
            near.create_veth(one, other, 65535).unwrap();
            let link = near.link("near").unwrap();
            assert_eq!((link.up, link.carrier, link.mtu), (true, false, 65535));
            assert!(!far.link("far").unwrap().up);
            far.set_up("far", true).unwrap();
            far.add_address("far", Ipv4Addr::new(10, 0, 0, 1), 24).unwrap();
            assert!(near.link("near").unwrap().carrier);
            near.set_mtu("near", 1400).unwrap();
            near.set_master("near", bridge).unwrap();
            assert_eq!(near.link("near").unwrap().mtu, 1400);
            near.set_up("near", false).unwrap();
            assert!(!near.link("near").unwrap().up && !far.link("far").unwrap().carrier);
            let error = near.create_bridge("bridge", 9000).unwrap_err();
            assert_eq!(error.to_string(), "create the bridge bridge");
            let error = far.add_address("far", Ipv4Addr::new(10, 0, 0, 1), 24).unwrap_err();
            assert!(
                error.to_string().starts_with("give the interface far the address 10.0.0.1/24"),
                "{error}"
            );
            let nobody = Ipv4Addr::new(10, 0, 0, 9);
            far.set_blackhole(nobody, true).unwrap();
            let error = far.set_blackhole(nobody, true).unwrap_err();
            assert!(error.to_string().starts_with("lose what is for 10.0.0.9"), "{error}");
            far.set_blackhole(nobody, false).unwrap();
            assert!(far.set_blackhole(nobody, false).is_err());
            near.set_hearing("near", false).unwrap();
            near.set_hearing("near", true).unwrap();
        });
    }

    #[test]
    fn names_that_cannot_be_are_refused_before_the_kernel_sees_them() {
        for name in ["", "a b", "a/b", ".", "..", "sixteen-letters-", "a\0"] {
            assert!(matches!(checked(name), Err(NetlinkError::Name(_))), "{name:?}");
        }
        assert_eq!(checked("fifteen-letters").unwrap(), "fifteen-letters");
    }
}

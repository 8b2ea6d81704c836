//! Route netlink: interfaces get their MTU, MAC, addresses and gateways here, and what addresses the stack has is
//! read back here.
//!
//! Requests are synchronous: the kernel answers within the call. The monitor only says that something has
//! changed; the complete list is then read anew, so that a lost or merged notification loses nothing.

mod links;
mod listeners;
mod memberships;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use vlan_core::MacAddress;
use vlan_core::wire::control::InterfaceAddress;

use crate::agent::namespace::Namespace;

pub use self::links::VethPair;
pub use self::listeners::{Listener, Listeners, listening};
pub use self::memberships::Memberships;

/// Room for one datagram of an answer: the kernel makes none above 32 KiB (`netlink_dump`).
const ANSWER_LEN: usize = 32 * 1024;
/// How often a list is read again when it changed while it was read.
const DUMP_TRIES: usize = 8;
/// The legacy multicast groups that report addresses, and who listens to an interface (rtnetlink(7)).
const ADDRESS_GROUPS: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_LINK) as u32;
/// The netlink groups that report memberships of multicast groups, of IPv4 and IPv6: RTNLGRP_IPV4_MCADDR and
/// RTNLGRP_IPV6_MCADDR of `linux/rtnetlink.h`, from Linux 6.13 on.
const MEMBERSHIP_GROUPS: [u32; 2] = [37, 38];

/// A request that the kernel refused.
#[derive(Debug)]
pub struct NetlinkError {
    doing: &'static str,
    source: io::Error,
}

impl NetlinkError {
    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// True when the kernel does not have what was asked for.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.is(libc::EOPNOTSUPP)
    }

    fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.source)
    }
}

impl std::error::Error for NetlinkError {}

/// The index that the kernel gave an interface; unique in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceIndex(u32);

/// An address that the stack has, with what matters of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackAddress {
    /// The address and its prefix.
    pub address: InterfaceAddress,
    /// Past duplicate-address detection: the stack answers for it (RFC 4862, 5.4).
    pub is_usable: bool,
    /// Another station has it already.
    pub is_duplicate: bool,
}

impl StackAddress {
    /// True for the address that IPv6 gives each link by itself.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        matches!(self.address.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// Route netlink in one namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    answer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in `namespace`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(namespace: &Namespace) -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = namespace.run(open).map_err(|source| NetlinkError { doing: "open netlink", source })?;
        Ok(Self { socket, sequence: 0, answer: Vec::with_capacity(ANSWER_LEN) })
    }

    /// The index of the interface `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn index_of(&mut self, name: &str) -> Result<InterfaceIndex, NetlinkError> {
        let doing = "find the interface";
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let mut index = None;
        self.request(doing, RouteNetlinkMessage::GetLink(message), 0, &mut |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                index = Some(InterfaceIndex(link.header.index));
            }
        })?;
        index.ok_or_else(|| NetlinkError { doing, source: io::ErrorKind::NotFound.into() })
    }

    /// Sets the MAC address of an interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_mac(&mut self, index: InterfaceIndex, mac: MacAddress) -> Result<(), NetlinkError> {
        let attribute = LinkAttribute::Address(mac.0.to_vec());
        self.set_link("set the MAC address", index, attribute)
    }

    /// Sets the MTU of an interface, in octets.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_mtu(&mut self, index: InterfaceIndex, mtu: u16) -> Result<(), NetlinkError> {
        self.set_link("set the MTU", index, LinkAttribute::Mtu(u32::from(mtu)))
    }

    /// Gives an interface a carrier, or takes it away.
    ///
    /// # Errors
    /// What the kernel says; `EOPNOTSUPP` of a device whose carrier is its own affair.
    pub fn set_carrier(&mut self, index: InterfaceIndex, has_carrier: bool) -> Result<(), NetlinkError> {
        self.set_link("set the carrier", index, LinkAttribute::Carrier(u8::from(has_carrier)))
    }

    /// Raises an interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_up(&mut self, index: InterfaceIndex) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change("raise the interface", RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Adds an address; nothing happens when the interface has it.
    ///
    /// An IPv6 address goes through duplicate-address detection before the stack answers for it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_address(
        &mut self,
        index: InterfaceIndex,
        address: InterfaceAddress,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        self.change("add the address", message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes an address away; nothing happens when the interface does not have it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_address(
        &mut self,
        index: InterfaceIndex,
        address: InterfaceAddress,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address));
        match self.change("remove the address", message, 0) {
            Err(error) if error.is(libc::EADDRNOTAVAIL) => Ok(()),
            result => result,
        }
    }

    /// Sets the default gateway of its family, by way of `index`. The interface must be up.
    ///
    /// # Errors
    /// What the kernel says: a gateway must be reachable on a configured subnet.
    pub fn set_gateway(&mut self, index: InterfaceIndex, gateway: IpAddr) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(gateway_message(index, gateway));
        self.change("set the default gateway", message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes a default gateway away; nothing happens when there is no such route.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_gateway(&mut self, index: InterfaceIndex, gateway: IpAddr) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(gateway_message(index, gateway));
        match self.change("remove the default gateway", message, 0) {
            Err(error) if error.is(libc::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Every address of every interface in the namespace, with the interface it is on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&mut self) -> Result<Vec<(InterfaceIndex, StackAddress)>, NetlinkError> {
        let doing = "read the addresses";
        for _ in 0..DUMP_TRIES {
            let mut addresses = Vec::new();
            let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
            let complete = self.request(doing, message, NLM_F_DUMP, &mut |answer| {
                if let RouteNetlinkMessage::NewAddress(message) = answer {
                    addresses.extend(stack_address(&message));
                }
            })?;
            if complete {
                return Ok(addresses);
            }
        }
        Err(NetlinkError { doing, source: io::Error::other("they change all the time") })
    }

    /// True while somebody wants all frames of an interface: a packet socket such as tcpdump's, a bridge, or
    /// `ip link set promisc on`. The flags of the interface show the last of these alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_promiscuous(&mut self, index: InterfaceIndex) -> Result<bool, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        let mut listeners = 0;
        self.request("read the interface", RouteNetlinkMessage::GetLink(message), 0, &mut |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                let counts = link.attributes.iter().filter_map(|attribute| match attribute {
                    LinkAttribute::Promiscuity(count) => Some(*count),
                    _ => None,
                });
                listeners = counts.sum();
            }
        })?;
        Ok(listeners > 0)
    }

    fn set_link(
        &mut self,
        doing: &'static str,
        index: InterfaceIndex,
        attribute: LinkAttribute,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.attributes.push(attribute);
        self.change(doing, RouteNetlinkMessage::SetLink(message), 0)
    }

    fn change(
        &mut self,
        doing: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.request(doing, message, flags | NLM_F_ACK, &mut |_| {}).map(|_| ())
    }

    /// Sends a request and gives its answers to `take`; false when a list changed while the kernel wrote it.
    fn request(
        &mut self,
        doing: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        take: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> Result<bool, NetlinkError> {
        let fail = |source| NetlinkError { doing, source };
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0).map_err(fail)?;
        let mut complete = true;
        loop {
            self.answer.clear();
            self.socket.recv(&mut self.answer, 0).map_err(fail)?;
            match read_answers(&self.answer, self.sequence, flags, &mut complete, take).map_err(fail)? {
                Progress::More => {}
                Progress::Done => return Ok(complete),
            }
        }
    }
}

enum Progress {
    More,
    Done,
}

/// Reads the messages of one datagram. An answer to an earlier request, which failed half-way, is passed over.
fn read_answers(
    octets: &[u8],
    sequence: u32,
    flags: u16,
    complete: &mut bool,
    take: &mut dyn FnMut(RouteNetlinkMessage),
) -> io::Result<Progress> {
    let mut rest = octets;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        // Messages are aligned to four octets (netlink(7)).
        let len = (message.header.length as usize).next_multiple_of(4).max(16);
        rest = rest.get(len..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        *complete &= message.header.flags & NLM_F_DUMP_INTR == 0;
        match message.payload {
            NetlinkPayload::Error(error) => match error.code {
                Some(code) => return Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
                None => return Ok(Progress::Done),
            },
            NetlinkPayload::Done(_) => return Ok(Progress::Done),
            NetlinkPayload::InnerMessage(answer) => {
                take(answer);
                if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
                    return Ok(Progress::Done);
                }
            }
            _ => {}
        }
    }
    Ok(Progress::More)
}

/// Says when addresses of a namespace, its memberships of multicast groups, or who listens to its interfaces have changed.
pub struct AddressMonitor {
    socket: Socket,
    notice: Vec<u8>,
    hears_memberships: bool,
}

impl AddressMonitor {
    /// Starts listening in `namespace`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(namespace: &Namespace) -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, ADDRESS_GROUPS))?;
            socket.set_non_blocking(true)?;
            let hears = MEMBERSHIP_GROUPS.map(|group| socket.add_membership(group).is_ok());
            Ok((socket, hears == [true; 2]))
        };
        let opened = namespace.run(open);
        let (socket, hears_memberships) =
            opened.map_err(|source| NetlinkError { doing: "listen for addresses", source })?;
        Ok(Self { socket, notice: Vec::with_capacity(ANSWER_LEN), hears_memberships })
    }

    /// True when the kernel reports memberships of multicast groups. Else the list of an interface may be old at any time,
    /// and only what its stack says by IGMP and MLD is of use.
    #[must_use]
    pub fn hears_memberships(&self) -> bool {
        self.hears_memberships
    }

    /// Takes all notices that wait; true when there was any, or when some were lost: then
    /// [`Netlink::addresses`] tells the truth.
    pub fn has_changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            self.notice.clear();
            match self.socket.recv(&mut self.notice, 0) {
                Ok(_) => changed = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return changed,
            }
        }
    }
}

impl AsRawFd for AddressMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address_message(index: InterfaceIndex, address: InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.prefix;
    message.header.index = index.0;
    message.attributes.push(AddressAttribute::Local(address.address));
    message.attributes.push(AddressAttribute::Address(address.address));
    if let IpAddr::V4(ip) = address.address {
        message.attributes.extend(broadcast(ip, address.prefix).map(AddressAttribute::Broadcast));
    }
    message
}

/// The directed broadcast address of a subnet; none where a subnet has no room for one (RFC 3021).
fn broadcast(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix))?;
    (prefix <= 30).then(|| Ipv4Addr::from_bits(address.to_bits() | host_bits))
}

fn gateway_message(index: InterfaceIndex, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Oif(index.0));
    message
}

fn stack_address(message: &AddressMessage) -> Option<(InterfaceIndex, StackAddress)> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => remote = Some(*address),
            // All the flags, of which the header holds the first eight.
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's (rtnetlink(7)).
    let address = InterfaceAddress { address: local.or(remote)?, prefix: message.header.prefix_len };
    let is_duplicate = flags.contains(AddressFlags::Dadfailed);
    let is_usable = !flags.contains(AddressFlags::Tentative) && !is_duplicate;
    Some((InterfaceIndex(message.header.index), StackAddress { address, is_usable, is_duplicate }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_a_broadcast_address_unless_it_is_too_small() {
        let address = Ipv4Addr::new(10, 1, 0, 1);
        assert_eq!(broadcast(address, 24), Some(Ipv4Addr::new(10, 1, 0, 255)));
        assert_eq!(broadcast(address, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(address, 31), None);
        assert_eq!(broadcast(address, 32), None);
    }

    #[test]
    fn a_tentative_or_duplicate_address_is_not_usable() {
        let mut message = address_message(
            InterfaceIndex(7),
            InterfaceAddress { address: "fd00::1".parse().unwrap(), prefix: 64 },
        );
        let usable = |message: &AddressMessage| stack_address(message).unwrap().1.is_usable;
        assert!(usable(&message));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Tentative));
        assert!(!usable(&message));
        message.attributes.pop();
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Dadfailed));
        assert!(!usable(&message));
        assert!(stack_address(&message).unwrap().1.is_duplicate);
    }
}

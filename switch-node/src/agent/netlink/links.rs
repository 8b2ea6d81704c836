//! Links that are made rather than found: kernel bridges, and veth pairs between two namespaces. A lab joins its
//! processes with them.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use vlan_core::wire::control::InterfaceAddress;

use super::{InterfaceIndex, Netlink, NetlinkError, address_message};

/// A veth pair to be made: one end is a port of a bridge here, the other an interface elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct VethPair<'a> {
    /// Name of the end that becomes a port.
    pub port: &'a str,
    /// The bridge that it becomes a port of.
    pub bridge: InterfaceIndex,
    /// Name of the other end.
    pub interface: &'a str,
    /// The network namespace of the other end.
    pub namespace: BorrowedFd<'a>,
    /// MTU of both ends in octets.
    pub mtu: u16,
}

impl Netlink {
    /// Makes a bridge, which is down. It runs no spanning tree, so its ports forward as soon as they are up.
    ///
    /// # Errors
    /// What the kernel says, such as that the name is taken.
    pub fn add_bridge(&mut self, name: &str) -> Result<InterfaceIndex, NetlinkError> {
        let info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        self.add_link("make the bridge", name, [LinkAttribute::LinkInfo(info)])
    }

    /// Makes a veth pair, both ends down, and gives the port's index.
    ///
    /// # Errors
    /// What the kernel says, such as that a name is taken.
    pub fn add_veth_pair(&mut self, pair: &VethPair<'_>) -> Result<InterfaceIndex, NetlinkError> {
        let mtu = LinkAttribute::Mtu(u32::from(pair.mtu));
        let mut other_end = LinkMessage::default();
        other_end.attributes.push(LinkAttribute::IfName(pair.interface.to_owned()));
        other_end.attributes.push(mtu.clone());
        other_end.attributes.push(LinkAttribute::NetNsFd(pair.namespace.as_raw_fd()));
        let info =
            vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other_end)))];
        let attributes = [mtu, LinkAttribute::Controller(pair.bridge.0), LinkAttribute::LinkInfo(info)];
        self.add_link("make the veth pair", pair.port, attributes)
    }

    /// Makes an interface a port of a bridge.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_bridge(&mut self, index: InterfaceIndex, bridge: InterfaceIndex) -> Result<(), NetlinkError> {
        self.set_link("make it a port of the bridge", index, LinkAttribute::Controller(bridge.0))
    }

    /// Takes an interface down. Its IPv4 addresses stay, its IPv6 addresses do not; the other end of a veth pair
    /// loses its carrier, no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_down(&mut self, index: InterfaceIndex) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.header.change_mask = LinkFlags::Up;
        self.change("take the interface down", RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Adds an address that no other station can have: the stack answers for it at once, without
    /// duplicate-address detection.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_sole_address(
        &mut self,
        index: InterfaceIndex,
        address: InterfaceAddress,
    ) -> Result<(), NetlinkError> {
        let mut message = address_message(index, address);
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        let message = RouteNetlinkMessage::NewAddress(message);
        self.change("add the address", message, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn add_link<const N: usize>(
        &mut self,
        doing: &'static str,
        name: &str,
        attributes: [LinkAttribute; N],
    ) -> Result<InterfaceIndex, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.extend(attributes);
        self.change(doing, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        self.index_of(name)
    }
}

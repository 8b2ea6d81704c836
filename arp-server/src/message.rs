//! Reads an ARP or ND message out of a whole private copy of a frame, and checks it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice, NdpOptionsIterator};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType, IpNumber};
use etherparse::{Icmpv6Slice, Ipv6HeaderSlice};
use vlan_core::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, EthernetHeader};
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::{DropReason, MacAddress};

use crate::bindings::is_station_address;

/// Hop limit of every ND message: it has not crossed a router (RFC 4861, 6.1, 7.1, 8.1).
pub(crate) const ND_HOP_LIMIT: u8 = 255;
/// The Solicited flag in the first octet behind the checksum of a neighbour advertisement (RFC 4861, 4.4).
pub(crate) const NA_SOLICITED: u8 = 0x40;
/// The Router flag in the same octet.
pub(crate) const NA_ROUTER: u8 = 0x80;

/// What an ARP or ND message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArpKind {
    /// "Who has this address?": an ARP request (RFC 826) or a neighbour solicitation (RFC 4861, 4.3).
    Request,
    /// The answer: an ARP reply or a solicited neighbour advertisement (RFC 4861, 4.4).
    Reply,
    /// "May I use this address?": an ARP probe (RFC 5227, 2.1.1) or the solicitation of duplicate address
    /// detection (RFC 4862, 5.4.2). Its sender has no address yet.
    Probe,
    /// "I have this address": an ARP announcement (RFC 5227, 2.3) or an unsolicited neighbour advertisement.
    Announcement,
    /// Router solicitation, router advertisement or redirect (RFC 4861, 4.1, 4.2, 4.5).
    Router,
}

/// A message that passed all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub kind: ArpKind,
    /// The address the message comes from; `None` when it is unspecified.
    pub source: Option<IpAddr>,
    /// The address whose MAC the message states or implies to be its sender's.
    pub claim: Option<IpAddr>,
    /// The message states its sender's MAC for `claim`, so that a receiver would learn it.
    pub teaches: bool,
    pub target: Option<IpAddr>,
    /// The message says of its sender whether it is a router.
    pub is_router: Option<bool>,
}

/// Reads the message in `frame`, whose sender may use `from_mac` alone.
//= spec/arp.md#the-senders-mac
//# The ARP server MUST drop, as `source-mac`, a message whose Ethernet source, or whose own hardware address in
//# the body, is not the sender's MAC.
pub(crate) fn parse(
    frame: &[u8],
    header: &EthernetHeader,
    from_mac: MacAddress,
) -> Result<Parsed, DropReason> {
    if header.source != from_mac {
        return Err(DropReason::SourceMac);
    }
    let body = &frame[ETHERNET_HEADER_LEN..];
    match header.ethertype {
        ETHERTYPE_ARP => parse_arp(body, from_mac),
        ETHERTYPE_IPV6 => parse_nd(body, from_mac),
        _ => Err(DropReason::BadArp),
    }
}

//= spec/arp.md#arp-messages
//# The ARP server MUST drop, as `bad-arp`, an ARP message that is cut short, that is not a request or a reply
//# for IPv4 over Ethernet, whose sender address no station can have, or that asks for an address that no
//# station can have.
fn parse_arp(body: &[u8], from_mac: MacAddress) -> Result<Parsed, DropReason> {
    let arp = ArpPacketSlice::from_slice(body).map_err(|_| DropReason::BadArp)?;
    if arp.hw_addr_type() != ArpHardwareId::ETHERNET || arp.proto_addr_type() != EtherType::IPV4 {
        return Err(DropReason::BadArp);
    }
    // The types imply the lengths (RFC 826): 6 and 4.
    let mac = MacAddress(arp.sender_hw_addr().try_into().map_err(|_| DropReason::BadArp)?);
    let sender = ipv4(arp.sender_protocol_addr())?;
    let target = ipv4(arp.target_protocol_addr())?;
    let is_request = match arp.operation() {
        ArpOperation::REQUEST => true,
        ArpOperation::REPLY => false,
        _ => return Err(DropReason::BadArp),
    };
    if mac != from_mac {
        return Err(DropReason::SourceMac);
    }
    arp_message(is_request, sender, target)
}

fn arp_message(is_request: bool, sender: Ipv4Addr, target: Ipv4Addr) -> Result<Parsed, DropReason> {
    let (sender_ip, target_ip) = (IpAddr::V4(sender), IpAddr::V4(target));
    if is_request && !is_station_address(target_ip) {
        return Err(DropReason::BadArp);
    }
    if is_request && sender.is_unspecified() {
        return Ok(Parsed {
            kind: ArpKind::Probe,
            source: None,
            claim: None,
            teaches: false,
            target: Some(target_ip),
            is_router: None,
        });
    }
    if !is_station_address(sender_ip) {
        return Err(DropReason::BadArp);
    }
    let kind = match (sender == target, is_request) {
        (true, _) => ArpKind::Announcement,
        (false, true) => ArpKind::Request,
        (false, false) => ArpKind::Reply,
    };
    // A reply to a probe names no target (RFC 5227, 2.1.1): its asker had no address.
    let target = (kind != ArpKind::Announcement && !target.is_unspecified()).then_some(target_ip);
    Ok(Parsed {
        kind,
        source: Some(sender_ip),
        claim: Some(sender_ip),
        teaches: true,
        target,
        is_router: None,
    })
}

fn ipv4(octets: &[u8]) -> Result<Ipv4Addr, DropReason> {
    <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).map_err(|_| DropReason::BadArp)
}

/// What the checks of the IPv6 and ICMPv6 headers leave to the checks of each message.
struct Nd {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    from_mac: MacAddress,
}

//= spec/arp.md#nd-messages
//# The ARP server MUST drop, as `bad-arp`, an ND message that RFC 4861 tells a receiver to discard, its
//# checksum apart.
fn parse_nd(body: &[u8], from_mac: MacAddress) -> Result<Parsed, DropReason> {
    let ip = Ipv6HeaderSlice::from_slice(body).map_err(|_| DropReason::BadArp)?;
    let end = ip.slice().len() + usize::from(ip.payload_length());
    let payload = body.get(ip.slice().len()..end).ok_or(DropReason::BadArp)?;
    let icmp = Icmpv6Slice::from_slice(payload).map_err(|_| DropReason::BadArp)?;
    let is_nd = ip.next_header() == IpNumber::IPV6_ICMP && ip.hop_limit() == ND_HOP_LIMIT;
    if !is_nd || icmp.code_u8() != 0 {
        return Err(DropReason::BadArp);
    }
    let nd = Nd { source: ip.source_addr(), destination: ip.destination_addr(), from_mac };
    if !nd.source.is_unspecified() && !is_station_address(IpAddr::V6(nd.source)) {
        return Err(DropReason::BadArp);
    }
    match icmp.payload_slice().map_err(|_| DropReason::BadArp)? {
        Icmpv6PayloadSlice::NeighborSolicitation(m) => {
            nd.solicitation(m.target_address(), m.options_iterator())
        }
        Icmpv6PayloadSlice::NeighborAdvertisement(m) => {
            let flags = icmp.bytes5to8()[0];
            let is_router = Some(flags & NA_ROUTER != 0);
            let solicited = flags & NA_SOLICITED != 0;
            let parsed = nd.advertisement(m.target_address(), solicited, m.options_iterator())?;
            Ok(Parsed { is_router, ..parsed })
        }
        Icmpv6PayloadSlice::RouterSolicitation(m) => nd.router_solicitation(m.options_iterator()),
        Icmpv6PayloadSlice::RouterAdvertisement(m) => nd.router_advertisement(m.options_iterator()),
        Icmpv6PayloadSlice::Redirect(m) => {
            nd.redirect(m.target_address(), m.destination_address(), m.options_iterator())
        }
        _ => Err(DropReason::BadArp),
    }
}

/// Which link-layer address options a message held.
#[derive(Clone, Copy, Default)]
struct LinkLayerOptions {
    source: bool,
    target: bool,
}

impl Nd {
    /// RFC 4861, 7.1.1.
    fn solicitation(&self, target: Ipv6Addr, options: NdpOptionsIterator<'_>) -> Result<Parsed, DropReason> {
        let stated = self.check_options(options, true, false)?;
        if !is_station_address(IpAddr::V6(target)) {
            return Err(DropReason::BadArp);
        }
        let target = Some(IpAddr::V6(target));
        if !self.source.is_unspecified() {
            return Ok(Parsed { target, ..self.of_source(ArpKind::Request, stated.source) });
        }
        if stated.source || !is_solicited_node(self.destination) {
            return Err(DropReason::BadArp);
        }
        Ok(Parsed {
            kind: ArpKind::Probe,
            source: None,
            claim: None,
            teaches: false,
            target,
            is_router: None,
        })
    }

    /// RFC 4861, 7.1.2.
    fn advertisement(
        &self,
        address: Ipv6Addr,
        solicited: bool,
        options: NdpOptionsIterator<'_>,
    ) -> Result<Parsed, DropReason> {
        let stated = self.check_options(options, false, true)?;
        let bad_flag = solicited && self.destination.is_multicast();
        if bad_flag || !is_station_address(IpAddr::V6(address)) || self.source.is_unspecified() {
            return Err(DropReason::BadArp);
        }
        let asker = (solicited && is_station_address(IpAddr::V6(self.destination)))
            .then_some(IpAddr::V6(self.destination));
        Ok(Parsed {
            kind: if solicited { ArpKind::Reply } else { ArpKind::Announcement },
            source: Some(IpAddr::V6(self.source)),
            claim: Some(IpAddr::V6(address)),
            teaches: stated.target,
            target: asker,
            is_router: None,
        })
    }

    /// RFC 4861, 6.1.1.
    fn router_solicitation(&self, options: NdpOptionsIterator<'_>) -> Result<Parsed, DropReason> {
        let stated = self.check_options(options, true, false)?;
        if self.source.is_unspecified() && stated.source {
            return Err(DropReason::BadArp);
        }
        Ok(self.of_source(ArpKind::Router, stated.source))
    }

    /// RFC 4861, 6.1.2.
    fn router_advertisement(&self, options: NdpOptionsIterator<'_>) -> Result<Parsed, DropReason> {
        let stated = self.check_options(options, true, false)?;
        if !self.source.is_unicast_link_local() {
            return Err(DropReason::BadArp);
        }
        Ok(Parsed { is_router: Some(true), ..self.of_source(ArpKind::Router, stated.source) })
    }

    /// RFC 4861, 8.1. The target's link-layer address is the better router's, not the sender's.
    fn redirect(
        &self,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        options: NdpOptionsIterator<'_>,
    ) -> Result<Parsed, DropReason> {
        self.check_options(options, false, false)?;
        let target_fits = target.is_unicast_link_local() || target == destination;
        if !self.source.is_unicast_link_local() || destination.is_multicast() || !target_fits {
            return Err(DropReason::BadArp);
        }
        let parsed = self.of_source(ArpKind::Router, false);
        Ok(Parsed { target: Some(IpAddr::V6(destination)), ..parsed })
    }

    /// A message that speaks of the address it comes from.
    fn of_source(&self, kind: ArpKind, teaches: bool) -> Parsed {
        let source = (!self.source.is_unspecified()).then_some(IpAddr::V6(self.source));
        let teaches = teaches && source.is_some();
        Parsed { kind, source, claim: source, teaches, target: None, is_router: None }
    }

    /// Reads every option: its length must be right (RFC 4861, 4.6), and a link-layer address that stands
    /// for the sender must be the sender's. Unknown options are skipped.
    fn check_options(
        &self,
        options: NdpOptionsIterator<'_>,
        source_is_own: bool,
        target_is_own: bool,
    ) -> Result<LinkLayerOptions, DropReason> {
        let mut found = LinkLayerOptions::default();
        let mut own = true;
        for option in options {
            match option.map_err(|_| DropReason::BadArp)? {
                NdpOptionSlice::SourceLinkLayerAddress(o) => {
                    found.source = true;
                    own &= !source_is_own || o.link_layer_address() == self.from_mac.0;
                }
                NdpOptionSlice::TargetLinkLayerAddress(o) => {
                    found.target = true;
                    own &= !target_is_own || o.link_layer_address() == self.from_mac.0;
                }
                _ => {}
            }
        }
        own.then_some(found).ok_or(DropReason::SourceMac)
    }
}

/// True for `ff02::1:ff00:0/104` (RFC 4291, 2.7.1).
fn is_solicited_node(address: Ipv6Addr) -> bool {
    let s = address.segments();
    s[..6] == [0xff02, 0, 0, 0, 0, 1] && s[6] >> 8 == 0xff
}

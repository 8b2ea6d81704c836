//! What a frame says of its sender: where it comes from, and which address it speaks for.
//!
//! A stack takes ARP, ND and DHCP behind tags of 802.1Q and behind extension headers as well, so they are looked for there
//! too (RFC 7113). What hides what it is cannot be judged, and is an error.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddress;
use crate::drop_reason::DropReason;
use crate::ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN,
};
use crate::ip::{ICMPV6, TCP, UDP, upper_layer};

/// Tags that are looked behind: a service and a customer tag.
const TAGS: usize = 2;
const IGMP: u8 = 2;
/// UDP ports of servers and clients: DHCP (RFC 2131, 4.1), DHCPv6 (RFC 8415, 7.2).
const DHCP: (u16, u16) = (67, 68);
const DHCPV6: (u16, u16) = (547, 546);
/// EtherType and the first octet of IPv4 without options, and of IPv6.
const IPV4_PLAIN: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const IPV6_PLAIN: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
/// Octets of a frame that [`is_plain`] needs at least: an IPv4 header without options, and ports.
pub const PLAIN_LEN: usize = 38;

/// Who may send a message like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Anybody.
    Anybody,
    /// Anybody, also who has no address yet: a DHCP client, a membership report, a solicitation.
    Unnumbered,
    /// A DHCP server or relay agent.
    DhcpServer,
    /// A router: an advertisement or a redirect.
    Router,
}

/// What a frame says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who may send such a frame.
    pub speaker: Speaker,
    /// True for ARP and IP: it comes from an address, or says that it comes from none.
    pub is_addressed: bool,
    /// True for ARP and ND: its receivers learn from it where its source is.
    pub is_resolution: bool,
    /// Where it comes from, unless from nobody.
    pub source: Option<IpAddr>,
    /// The address that it states a MAC for beside its source: the target of a neighbour advertisement.
    pub states: Option<IpAddr>,
    /// The address that its sender wants to have: a probe of ARP, or of duplicate address detection.
    pub wants: Option<IpAddr>,
}

impl Claims {
    const NONE: Self = Self {
        speaker: Speaker::Anybody,
        is_addressed: false,
        is_resolution: false,
        source: None,
        states: None,
        wants: None,
    };

    fn of(speaker: Speaker, source: IpAddr) -> Self {
        let source = (!source.is_unspecified()).then_some(source);
        Self { speaker, is_addressed: true, source, ..Self::NONE }
    }
}

/// True for a frame that makes no claim but its source, as nearly every frame does: TCP, UDP between ports that are not
/// DHCP's, and ICMP, in IP without options or extension headers. False says nothing: [`read`] tells.
#[inline(always)]
#[must_use]
pub fn is_plain(frame: &[u8]) -> bool {
    let Some(o) = frame.first_chunk::<PLAIN_LEN>() else { return false };
    // EtherType, and version and length of the header, as they lie there.
    match u32::from_le_bytes([o[12], o[13], o[14], o[15]]) & 0x00ff_ffff {
        IPV4_PLAIN => o[23] != UDP || !is_dhcp([o[34], o[35], o[36], o[37]], DHCP),
        kind if kind & 0x00f0_ffff == IPV6_PLAIN => is_plain_ipv6(frame, o[20]),
        _ => false,
    }
}

fn is_plain_ipv6(frame: &[u8], protocol: u8) -> bool {
    let ports = frame.get(54..58).and_then(<[u8]>::first_chunk);
    protocol == TCP || protocol == UDP && ports.is_some_and(|ports| !is_dhcp(*ports, DHCPV6))
}

/// The source of a frame for which [`is_plain`] is true.
#[inline]
#[must_use]
pub fn plain_source(frame: &[u8]) -> Option<IpAddr> {
    let o = frame.first_chunk::<PLAIN_LEN>()?;
    if o[12] == ETHERTYPE_IPV4.to_be_bytes()[0] {
        return Some(IpAddr::from([o[26], o[27], o[28], o[29]]));
    }
    o[22..].first_chunk::<16>().map(|source| IpAddr::from(*source))
}

/// Reads what `frame` says of its sender. `frame` holds the first octets of one of `frame_len` octets.
///
/// # Errors
/// `bad-arp` for ARP that is not of IPv4 over Ethernet, and for ND that is cut short; `source-mac` where a message states
/// a MAC for its sender that is not the frame's source; `unreadable-headers` when what there is of it does not say what
/// the frame is.
pub fn read(frame: &[u8], frame_len: usize) -> Result<Claims, DropReason> {
    let source: &[u8; 6] = frame.get(6..).and_then(<[u8]>::first_chunk).ok_or(DropReason::TooShort)?;
    let station = MacAddress(*source);
    let mut at = 12;
    for _ in 0..=TAGS {
        let ethertype = u16_at(frame, at).ok_or(DropReason::TooShort)?;
        match ethertype {
            ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => at += 4,
            ETHERTYPE_ARP => return arp(&frame[at + 2..], station),
            ETHERTYPE_IPV4 => return Ok(ipv4(&frame[at + 2..])),
            ETHERTYPE_IPV6 => return ipv6(&frame[at + 2..], frame_len.saturating_sub(at + 2), station),
            _ => return Ok(Claims::NONE),
        }
    }
    Err(DropReason::UnreadableHeaders)
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

/// True for what goes from a server's port, or to a client's: clients hear any port.
#[inline(always)]
fn is_dhcp(ports: [u8; 4], (server, client): (u16, u16)) -> bool {
    let [a, b, c, d] = ports;
    [a, b] == server.to_be_bytes() || [c, d] == client.to_be_bytes()
}

/// RFC 826 over Ethernet: the sender's MAC at 8, its address at 14, the target's at 24.
fn arp(body: &[u8], station: MacAddress) -> Result<Claims, DropReason> {
    let o = body.first_chunk::<28>().ok_or(DropReason::BadArp)?;
    if o[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(DropReason::BadArp);
    }
    if o[8..14] != station.0 {
        return Err(DropReason::SourceMac);
    }
    let is_request = o[6..8] == [0, 1];
    let sender = Ipv4Addr::new(o[14], o[15], o[16], o[17]);
    let target = Ipv4Addr::new(o[24], o[25], o[26], o[27]);
    let claims = Claims { is_resolution: true, ..Claims::of(Speaker::Anybody, sender.into()) };
    if is_request && sender.is_unspecified() {
        return Ok(Claims { wants: Some(target.into()), speaker: Speaker::Unnumbered, ..claims });
    }
    Ok(claims)
}

/// What is no IPv4 packet comes from nobody. A fragment behind the first has no ports; the first one has, for no stack
/// takes less than eight octets of a packet (RFC 791, 3.2).
fn ipv4(packet: &[u8]) -> Claims {
    let nobody = Claims { is_addressed: true, ..Claims::NONE };
    let Some(o) = packet.first_chunk::<20>().filter(|o| o[0] >> 4 == 4) else { return nobody };
    let payload = packet.get(usize::from(o[0] & 15) * 4..).unwrap_or_default();
    let is_first = u16::from_be_bytes([o[6], o[7]]) & 0x1fff == 0;
    let ports = payload.first_chunk::<4>().copied().filter(|_| is_first);
    let speaker = match (o[9], ports) {
        (UDP, Some(ports)) if is_dhcp(ports, DHCP) => Speaker::DhcpServer,
        (UDP, Some([0, from, 0, to])) if (u16::from(to), u16::from(from)) == DHCP => Speaker::Unnumbered,
        (IGMP, _) => Speaker::Unnumbered,
        _ => Speaker::Anybody,
    };
    Claims::of(speaker, Ipv4Addr::new(o[12], o[13], o[14], o[15]).into())
}

fn ipv6(packet: &[u8], packet_len: usize, station: MacAddress) -> Result<Claims, DropReason> {
    let nobody = Claims { is_addressed: true, ..Claims::NONE };
    let Some(o) = packet.first_chunk::<40>().filter(|o| o[0] >> 4 == 6) else { return Ok(nobody) };
    let source: [u8; 16] = *o[8..].first_chunk().ok_or(DropReason::TooShort)?;
    let claims = Claims::of(Speaker::Anybody, Ipv6Addr::from(source).into());
    // The end by the packet's own word: what a frame has behind it is padding.
    let end = packet_len.min(40 + usize::from(u16::from_be_bytes([o[4], o[5]])));
    let upper = upper_layer(packet, o[6])?;
    let Some(protocol) = upper.protocol else { return Ok(claims) };
    let octets = packet.get(upper.at..).ok_or(DropReason::UnreadableHeaders)?;
    match protocol {
        UDP => {
            let Some(ports) = octets.first_chunk::<4>() else { return Err(DropReason::UnreadableHeaders) };
            let speaker = if is_dhcp(*ports, DHCPV6) { Speaker::DhcpServer } else { Speaker::Anybody };
            Ok(Claims { speaker, ..claims })
        }
        ICMPV6 => {
            let is_whole = upper.fragment.is_none() && packet.len() >= end;
            let message = if is_whole { packet.get(upper.at..end).unwrap_or_default() } else { octets };
            icmpv6(message, is_whole, claims, station)
        }
        _ => Ok(claims),
    }
}

/// `is_whole`: all of the message is there, and no fragment of one.
fn icmpv6(message: &[u8], is_whole: bool, claims: Claims, station: MacAddress) -> Result<Claims, DropReason> {
    let Some(kind) = message.first() else { return Err(DropReason::UnreadableHeaders) };
    // The message as far as its options, and the option that states its sender's MAC.
    let (fixed, option) = match kind {
        133 => (8, 1),
        134 => (16, 1),
        135 => (24, 1),
        136 => (24, 2),
        // The target of a redirect is another station.
        137 => (40, 0),
        // Reports and leaves of MLD.
        131 | 132 | 143 => return Ok(Claims { speaker: Speaker::Unnumbered, ..claims }),
        _ => return Ok(claims),
    };
    let claims = Claims { is_resolution: true, ..claims };
    let speaker = if matches!(kind, 134 | 137) { Speaker::Router } else { Speaker::Anybody };
    if !is_whole {
        // A fragment of ND is taken by nobody (RFC 6980, 5).
        return if speaker == Speaker::Router {
            Ok(Claims { speaker, ..claims })
        } else {
            Err(DropReason::UnreadableHeaders)
        };
    }
    let options = message.get(fixed..).ok_or(DropReason::BadArp)?;
    check_options(options, option, station)?;
    let target = message.get(8..24).and_then(<[u8]>::first_chunk::<16>).map(|o| IpAddr::from(*o));
    Ok(match (kind, claims.source) {
        (133, _) => Claims { speaker: Speaker::Unnumbered, ..claims },
        (135, None) => Claims { speaker: Speaker::Unnumbered, wants: target, ..claims },
        (136, _) => Claims { states: target, ..claims },
        _ => Claims { speaker, ..claims },
    })
}

/// Each option that states the sender's MAC must state the frame's source.
fn check_options(mut options: &[u8], kind: u8, station: MacAddress) -> Result<(), DropReason> {
    while let Some(&[own_kind, units]) = options.first_chunk::<2>() {
        let len = usize::from(units) * 8;
        let (option, rest) = options.split_at_checked(len).filter(|_| len > 0).ok_or(DropReason::BadArp)?;
        if own_kind == kind && option.get(2..8) != Some(&station.0[..]) {
            return Err(DropReason::SourceMac);
        }
        options = rest;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

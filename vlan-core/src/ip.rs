//! What is read of an IP packet, once, before anything is decided on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::word;
use crate::drop_reason::DropReason;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::limits::ETHERNET_HEADER_LEN;

/// Where the IP header begins.
pub const IP_AT: usize = ETHERNET_HEADER_LEN;
/// The protocol number of ICMP.
pub const ICMP: u8 = 1;
/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;
/// The protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Extension headers of IPv6 (RFC 8200, 4; IANA's list of them).
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
pub(crate) const MOBILITY: u8 = 135;
pub(crate) const HOST_IDENTITY: u8 = 139;
pub(crate) const SHIM6: u8 = 140;
/// The type of a neighbour advertisement (RFC 4861, 4.4).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Octets of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Octets of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// The bit that forbids to cut a packet, in the seventh and eighth octet of an IPv4 header.
pub const DF: u16 = 0x4000;
/// The bit of all fragments but the last, in the same word.
pub const MF: u16 = 0x2000;
/// The bits of that word which say where a fragment belongs, in units of eight octets.
pub const OFFSET: u16 = 0x1fff;
/// Octets of the longest IPv4 packet.
const PACKET_LEN_MAX: usize = 65_535;

/// Which fragment of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What the fragments of one packet have in common, beside their addresses; of IPv4 with the protocol (RFC 791, 3.2).
    pub identification: u32,
    /// It is the one with the headers of what the packet carries.
    pub is_first: bool,
}

/// The facts of an IP packet in an untagged frame. All places are octets of the frame, and lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// What it carries; `None` in a later fragment, which does not say.
    pub protocol: Option<u8>,
    /// Where that begins, or what a later fragment has of it.
    pub upper_at: usize,
    /// The packet ends here; what follows is padding.
    pub end: usize,
    /// Which fragment it is, unless it is whole.
    pub fragment: Option<Fragment>,
    /// IPv4 without DF: a router may cut it.
    pub may_be_cut: bool,
}

impl Packet {
    /// Reads the packet of a frame; `None` for what is not IP.
    ///
    /// `is_super`: the frame is to be cut, and its IP header's length counts for nothing.
    ///
    /// # Errors
    /// `malformed` when the header is cut short or contradicts the frame's length, `unreadable-headers` when IPv6 extension
    /// headers do.
    //= spec/uplink.md#unsound-frames
    //# A frame MUST NOT cross an uplink whose IP header contradicts its length, or whose source no station can have.
    pub fn read(frame: &[u8], ethertype: u16, is_super: bool) -> Result<Option<Self>, DropReason> {
        match ethertype {
            ETHERTYPE_IPV4 => Self::ipv4(frame, is_super).map(Some),
            ETHERTYPE_IPV6 => Self::ipv6(frame, is_super).map(Some),
            _ => Ok(None),
        }
    }

    fn ipv4(frame: &[u8], is_super: bool) -> Result<Self, DropReason> {
        let o: &[u8; IPV4_LEN] =
            frame.get(IP_AT..).and_then(<[u8]>::first_chunk).ok_or(DropReason::Malformed)?;
        let header_len = usize::from(o[0] & 15) * 4;
        let flags = u16::from_be_bytes([o[6], o[7]]);
        let stated = usize::from(u16::from_be_bytes([o[2], o[3]]));
        let end = if is_super { frame.len() } else { IP_AT + stated };
        let upper_at = IP_AT + header_len;
        let is_sound = o[0] >> 4 == 4 && header_len >= IPV4_LEN && upper_at <= end && end <= frame.len();
        // What would end beyond the longest packet once it is put together is an attack, not a fragment.
        let whole_len = usize::from(flags & OFFSET) * 8 + end.saturating_sub(IP_AT);
        if !is_sound || !is_super && whole_len > PACKET_LEN_MAX {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            source: Ipv4Addr::new(o[12], o[13], o[14], o[15]).into(),
            destination: Ipv4Addr::new(o[16], o[17], o[18], o[19]).into(),
            protocol: (flags & OFFSET == 0).then_some(o[9]),
            upper_at,
            end,
            fragment: (flags & (MF | OFFSET) != 0).then(|| Fragment {
                identification: u32::from_be_bytes([0, o[9], o[4], o[5]]),
                is_first: flags & OFFSET == 0,
            }),
            may_be_cut: flags & DF == 0,
        })
    }

    fn ipv6(frame: &[u8], is_super: bool) -> Result<Self, DropReason> {
        let o: &[u8; IPV6_LEN] =
            frame.get(IP_AT..).and_then(<[u8]>::first_chunk).ok_or(DropReason::Malformed)?;
        let stated = usize::from(u16::from_be_bytes([o[4], o[5]]));
        let end = if is_super { frame.len() } else { IP_AT + IPV6_LEN + stated };
        if o[0] >> 4 != 6 || end > frame.len() {
            return Err(DropReason::Malformed);
        }
        let upper = upper_layer(&frame[IP_AT..end], o[6])?;
        let upper_at = IP_AT + upper.at;
        if upper_at > end && upper.protocol.is_some() {
            return Err(DropReason::UnreadableHeaders);
        }
        Ok(Self {
            source: ipv6_at(o, 8),
            destination: ipv6_at(o, 24),
            protocol: upper.protocol,
            upper_at: upper_at.min(end),
            end,
            fragment: upper.fragment,
            may_be_cut: false,
        })
    }

    /// The packet is by IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The type of the ND message that it carries or begins: a router's, a neighbour's or a redirect.
    #[must_use]
    pub fn neighbour_discovery(&self, frame: &[u8]) -> Option<u8> {
        let kind = *frame.get(self.upper_at).filter(|_| self.protocol == Some(ICMPV6) && !self.is_ipv4())?;
        (133..=137).contains(&kind).then_some(kind)
    }

    /// The address that a neighbour advertisement is about.
    #[must_use]
    pub fn advertised(&self, frame: &[u8]) -> Option<IpAddr> {
        let octets = frame.get(self.upper_at + 8..self.end)?.first_chunk::<16>()?;
        Some(Ipv6Addr::from(*octets).into())
    }

    /// The port that a UDP datagram goes to.
    #[must_use]
    pub fn udp_port(&self, frame: &[u8]) -> Option<u16> {
        if self.protocol != Some(UDP) {
            return None;
        }
        word(frame, self.upper_at + 2)
    }
}

fn ipv6_at(o: &[u8; IPV6_LEN], at: usize) -> IpAddr {
    o[at..].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |o| Ipv6Addr::from(*o)).into()
}

/// What an IPv6 packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The protocol behind the extension headers; `None` where that is in an earlier fragment.
    pub protocol: Option<u8>,
    /// Where it begins in the packet, or what a later fragment has of it.
    pub at: usize,
    /// Which fragment it is, unless it is whole.
    pub fragment: Option<Fragment>,
}

/// Finds what an IPv6 packet carries behind its extension headers, of which `first` is the next header of the fixed one.
///
/// # Errors
/// `unreadable-headers` when `packet` does not reach behind them.
//= spec/port-security.md#hidden-messages
//# Under port security a frame MUST be discarded as `unreadable-headers` when it has more than two tags, when its first
//# fragment or the private copy of its head does not reach behind its IPv6 extension headers, or when it is a fragment
//# of ND.
pub fn upper_layer(packet: &[u8], first: u8) -> Result<Upper, DropReason> {
    let (mut protocol, mut at, mut fragment) = (first, IPV6_LEN, None);
    // Ends: each step goes eight octets on at least.
    loop {
        let header = packet.get(at..).and_then(<[u8]>::first_chunk::<8>);
        let units = |header: &[u8; 8]| usize::from(header[1]);
        let len = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                header.map(|header| 8 + units(header) * 8)
            }
            AUTHENTICATION => header.map(|header| 8 + units(header) * 4),
            FRAGMENT => header.map(|_| 8),
            _ => return Ok(Upper { protocol: Some(protocol), at, fragment }),
        };
        // A first fragment that has not got all headers is refused by its receiver too (RFC 7112, 5).
        let (Some(header), Some(len)) = (header, len) else { return Err(DropReason::UnreadableHeaders) };
        if protocol == FRAGMENT {
            let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let is_first = u16::from_be_bytes([header[2], header[3]]) >> 3 == 0;
            fragment = Some(Fragment { identification, is_first });
            if !is_first {
                return Ok(Upper { protocol: None, at: at + len, fragment });
            }
        }
        (protocol, at) = (header[0], at + len);
    }
}

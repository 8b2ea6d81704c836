//! What the edge reads of an IP packet, once, before anything is decided on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vlan_core::DropReason;
use vlan_core::checksum::word;
use vlan_core::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::security::claims::upper_layer;

/// Where the IP header begins.
pub(crate) const IP_AT: usize = ETHERNET_HEADER_LEN;
/// Protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
/// The type of a neighbour advertisement (RFC 4861, 4.4).
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Octets of an IPv4 header without options, and of an IPv6 header.
pub(crate) const IPV4_LEN: usize = 20;
pub(crate) const IPV6_LEN: usize = 40;
/// Flags and offset of an IPv4 header's seventh and eighth octet.
pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;
pub(crate) const OFFSET: u16 = 0x1fff;
/// Octets of the longest IPv4 packet.
const PACKET_LEN_MAX: usize = 65_535;

/// The facts of an IP packet in an untagged frame. All places are octets of the frame, and lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// What it carries; `None` in a later fragment, which does not say.
    pub protocol: Option<u8>,
    /// Where that begins, or what a later fragment has of it.
    pub upper_at: usize,
    /// The packet ends here; what follows is padding.
    pub end: usize,
    pub is_fragment: bool,
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
            is_fragment: flags & (MF | OFFSET) != 0,
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
        let upper_at = upper.map_or(end, |upper| IP_AT + upper.at);
        if upper_at > end {
            return Err(DropReason::UnreadableHeaders);
        }
        Ok(Self {
            source: ipv6_at(o, 8),
            destination: ipv6_at(o, 24),
            protocol: upper.map(|upper| upper.protocol),
            upper_at,
            end,
            is_fragment: upper.is_none_or(|upper| upper.is_fragment),
            may_be_cut: false,
        })
    }

    /// The packet is by IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The type of the ND message that it carries or begins: a router's, a neighbour's or a redirect.
    pub fn neighbour_discovery(&self, frame: &[u8]) -> Option<u8> {
        let kind = *frame.get(self.upper_at).filter(|_| self.protocol == Some(ICMPV6) && !self.is_ipv4())?;
        (133..=137).contains(&kind).then_some(kind)
    }

    /// The address that a neighbour advertisement is about.
    pub fn advertised(&self, frame: &[u8]) -> Option<IpAddr> {
        let octets = frame.get(self.upper_at + 8..self.end)?.first_chunk::<16>()?;
        Some(Ipv6Addr::from(*octets).into())
    }

    /// The port that a UDP datagram goes to.
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

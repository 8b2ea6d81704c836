//! A super-frame is cut here into the frames that it stands for, as the kernel would cut it.

use alloc::vec::Vec;

use super::{CSUM_OFFSET, Family, GSO_TCPV4, GSO_TCPV6, GSO_UDP, IPV6_LEN, UDP_LEN};
use crate::checksum::{changed, set_word, sum_ipv4_header, word};
use crate::ethernet::{ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN};
use crate::limits::ETHERNET_HEADER_LEN;
use crate::wire::frame::Vnet;

/// 802.1Q tags that a frame may have.
const TAGS_MAX: usize = 2;
/// Where a TCP header has its sum, and how long it is without options (RFC 9293, 3.1).
const TCP_CSUM_OFFSET: u16 = 16;
const TCP_LEN_MIN: usize = 20;
/// Flags of a TCP header.
const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 0x80;

/// The frames of a super-frame, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'f> {
    frame: &'f [u8],
    vnet: Vnet,
    family: Family,
    protocol: Protocol,
    ip_at: usize,
    /// Where TCP or UDP begins.
    upper_at: usize,
    payload_at: usize,
    /// Where the next payload begins.
    at: usize,
    /// Frames so far.
    count: u16,
}

impl<'f> Segments<'f> {
    /// Looks at a super-frame; `None` when it is none, or not sound.
    #[must_use]
    pub fn of(vnet: &Vnet, frame: &'f [u8]) -> Option<Self> {
        let upper_at = usize::from(vnet.csum_start);
        let (family, ip_at) = network_header(frame)?;
        let protocol = Protocol::of_segmentation(vnet.gso_type & 0x7f, family)?;
        let is_sound = vnet.is_valid_for(frame.len())
            && vnet.csum_offset == protocol.csum_offset()
            && upper_at >= ip_at + family.header_len();
        let payload_at = upper_at + protocol.header_len(frame.get(upper_at..)?)?;
        (is_sound && payload_at < frame.len()).then_some(Self {
            frame,
            vnet: *vnet,
            family,
            protocol,
            ip_at,
            upper_at,
            payload_at,
            at: payload_at,
            count: 0,
        })
    }

    /// Octets of the headers that every segment has.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.payload_at
    }

    /// How many segments there are in all.
    #[must_use]
    pub fn total(&self) -> usize {
        (self.frame.len() - self.payload_at).div_ceil(usize::from(self.vnet.gso_size))
    }

    /// Makes the next frame in `out` and gives its state.
    //= spec/super-frames.md#cutting
    //# A node whose stack takes no super-frames of UDP MUST cut them into the datagrams that they stand for, with the state of a frame
    //# whose sum is to be completed.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Option<Vnet> {
        let rest = self.frame.get(self.at..).filter(|rest| !rest.is_empty())?;
        let payload = &rest[..rest.len().min(usize::from(self.vnet.gso_size))];
        out.clear();
        out.extend_from_slice(self.frame.get(..self.payload_at)?);
        out.extend_from_slice(payload);
        if self.protocol == Protocol::Tcp {
            self.set_tcp(out, payload.len() == rest.len());
        }
        self.at += payload.len();
        self.set_lengths(out);
        self.count = self.count.wrapping_add(1);
        Some(Vnet { gso_type: 0, gso_size: 0, hdr_len: 0, ..self.vnet })
    }

    /// Where the segment lies in the stream; FIN and PSH are said by the last one, CWR by the first (RFC 3168, 6.1.2).
    fn set_tcp(&self, out: &mut [u8], is_last: bool) {
        let behind = (self.at - self.payload_at) as u32;
        if let Some(octets) = out.get_mut(self.upper_at + 4..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *octets = u32::from_be_bytes(*octets).wrapping_add(behind).to_be_bytes();
        }
        if let Some(flags) = out.get_mut(self.upper_at + 13) {
            *flags &= if is_last { 0xff } else { !(FIN | PSH) };
            *flags &= if self.count == 0 { 0xff } else { !CWR };
        }
    }

    fn set_lengths(&self, out: &mut [u8]) {
        let (packet_len, upper_len) = (out.len() - self.ip_at, (out.len() - self.upper_at) as u16);
        match self.family {
            Family::V4 => {
                let id = word(out, self.ip_at + 4).unwrap_or(0);
                set_word(out, self.ip_at + 2, packet_len as u16);
                set_word(out, self.ip_at + 4, id.wrapping_add(self.count));
                let header_len = usize::from(out.get(self.ip_at).map_or(0, |octet| octet & 15)) * 4;
                sum_ipv4_header(out, self.ip_at, header_len);
            }
            Family::V6 => set_word(out, self.ip_at + 4, (packet_len - IPV6_LEN) as u16),
        }
        // The sum over the pseudo-header counts the length of the whole.
        let whole = (self.frame.len() - self.upper_at) as u16;
        let check_at = self.upper_at + usize::from(self.protocol.csum_offset());
        let check = word(out, check_at).unwrap_or(0);
        if self.protocol == Protocol::Udp {
            set_word(out, self.upper_at + 4, upper_len);
        }
        set_word(out, check_at, changed(check, whole, upper_len));
    }
}

/// What a super-frame has behind IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn of_segmentation(gso_type: u8, family: Family) -> Option<Self> {
        match (gso_type, family) {
            (GSO_TCPV4, Family::V4) | (GSO_TCPV6, Family::V6) => Some(Self::Tcp),
            (GSO_UDP, _) => Some(Self::Udp),
            _ => None,
        }
    }

    const fn csum_offset(self) -> u16 {
        match self {
            Self::Tcp => TCP_CSUM_OFFSET,
            Self::Udp => CSUM_OFFSET,
        }
    }

    /// Octets of the header that `octets` begins with, options included; `None` when it is not whole.
    fn header_len(self, octets: &[u8]) -> Option<usize> {
        match self {
            Self::Tcp => {
                let len = usize::from(*octets.get(12)? >> 4) * 4;
                (TCP_LEN_MIN..=octets.len()).contains(&len).then_some(len)
            }
            Self::Udp => Some(UDP_LEN),
        }
    }
}

/// Which IP header a frame has, and where.
fn network_header(frame: &[u8]) -> Option<(Family, usize)> {
    let mut at = ETHERNET_HEADER_LEN;
    for _ in 0..=TAGS_MAX {
        match word(frame, at - 2)? {
            ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => at += 4,
            ethertype => return Some((Family::of_ethertype(ethertype)?, at)),
        }
    }
    None
}

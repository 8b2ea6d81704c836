//! Frames of a stack are joined here, before they get the header that takes them across the fabric.

use super::{CSUM_OFFSET, DATAGRAMS_MAX, Family, GSO_UDP, UDP_LEN};
use crate::checksum::{changed, is_same_sum, set_word, sum, sum_ipv4_header, word};
use crate::ethernet::EthernetHeader;
use crate::limits::ETHERNET_HEADER_LEN;
use crate::wire::frame::Vnet;

/// The longest IP packet.
const IP_PACKET_LEN_MAX: usize = 65_535;
/// DF of the IPv4 header's word of flags and fragment offset.
const DF: u16 = 0x4000;

/// Joins the datagrams of a flow that follow each other. The octets stay with the caller: the first frame in a buffer,
/// behind which the payloads of the others are put.
#[derive(Clone, Copy, Debug)]
pub struct UdpCoalescer {
    family: Family,
    vnet: Vnet,
    /// Octets of each payload but the last, which may be shorter.
    payload_len: usize,
    /// Octets of the frame so far.
    len: usize,
    count: usize,
    /// How far apart the IPv4 identifications of two neighbours are, once there are two.
    id_step: Option<u16>,
    /// A shorter one came, or there is no room for another.
    is_closed: bool,
}

impl UdpCoalescer {
    /// Begins with a frame of the stack's; `None` when it is nothing that others may be joined with.
    //= spec/super-frames.md#what-is-joined
    //# A node MUST join only datagrams that are neighbours in their flow, equally long but for the last, whose headers differ in
    //# nothing but what cutting restores.
    #[inline]
    #[must_use]
    pub fn begin(vnet: &Vnet, frame: &[u8]) -> Option<Self> {
        let family = Family::of_ethertype(EthernetHeader::parse(frame)?.ethertype)?;
        let payload_len = payload_len(family, vnet, frame)?;
        let mut coalescer = Self {
            family,
            vnet: *vnet,
            payload_len,
            len: frame.len(),
            count: 1,
            id_step: None,
            is_closed: false,
        };
        coalescer.is_closed = !coalescer.has_room();
        (!coalescer.is_closed).then_some(coalescer)
    }

    /// The payload of `frame`, if it carries on what `first` began: the caller puts it behind what there is. `None`
    /// when the frame must go by itself, after this one.
    #[inline]
    #[must_use]
    pub fn admit<'f>(&mut self, first: &[u8], vnet: &Vnet, frame: &'f [u8]) -> Option<&'f [u8]> {
        if self.is_closed || *vnet != self.vnet || frame.get(..14) != first.get(..14) {
            return None;
        }
        let len = payload_len(self.family, vnet, frame)?;
        if len > self.payload_len || !self.continues(first, frame) {
            return None;
        }
        self.len += len;
        self.count += 1;
        self.is_closed = len < self.payload_len || self.count == DATAGRAMS_MAX || !self.has_room();
        frame.get(self.family.udp_at() + UDP_LEN..)
    }

    /// True when `first`, which another began with, is of the flow of `frame`, which this one began with: of two such
    /// frames none may overtake the other.
    #[inline]
    #[must_use]
    pub fn is_flow_of(&self, frame: &[u8], first: &[u8]) -> bool {
        let same = |from: usize, to: usize| frame.get(from..to) == first.get(from..to);
        same(12, 14) && same(self.family.addresses_at(), self.family.udp_at() + 4)
    }

    /// True when no more can be joined.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Datagrams so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Octets of the frame so far.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always a first frame")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes the headers in `frame`, which has all payloads, those of a super-frame, and gives its state. A datagram
    /// that is alone stays as it is.
    #[must_use]
    pub fn finish(&self, frame: &mut [u8]) -> Vnet {
        if self.count == 1 {
            return self.vnet;
        }
        let udp_at = self.family.udp_at();
        let udp_len = (self.len - udp_at) as u16;
        match self.family {
            Family::V4 => {
                set_word(frame, ETHERNET_HEADER_LEN + 2, (self.len - ETHERNET_HEADER_LEN) as u16);
                sum_ipv4_header(frame, ETHERNET_HEADER_LEN, self.family.header_len());
            }
            Family::V6 => set_word(frame, ETHERNET_HEADER_LEN + 4, udp_len),
        }
        let (was, check) = (word(frame, udp_at + 4), word(frame, udp_at + 6));
        if let (Some(was), Some(check)) = (was, check) {
            set_word(frame, udp_at + 4, udp_len);
            set_word(frame, udp_at + 6, changed(check, was, udp_len));
        }
        let hdr_len = (udp_at + UDP_LEN) as u16;
        Vnet { gso_type: GSO_UDP, gso_size: self.payload_len as u16, hdr_len, ..self.vnet }
    }

    fn has_room(&self) -> bool {
        self.len + self.payload_len <= ETHERNET_HEADER_LEN + IP_PACKET_LEN_MAX
    }

    /// True when the headers of `frame` are those of `first` but for what cutting a super-frame makes anew: lengths, the
    /// sums over them, and the identification.
    #[inline]
    fn continues(&mut self, first: &[u8], frame: &[u8]) -> bool {
        let udp_at = self.family.udp_at();
        let same = |from: usize, to: usize| frame.get(from..to) == first.get(from..to);
        let ip_is_same = match self.family {
            Family::V4 => {
                same(14, 16) && same(20, 24) && same(26, 34) && self.follows(first, frame) == Some(true)
            }
            Family::V6 => same(14, 18) && same(20, 54),
        };
        ip_is_same && same(udp_at, udp_at + 4) && has_sum_of(udp_at, first, frame) == Some(true)
    }

    /// Cutting counts the identification up from the first. What must not be fragmented may have any (RFC 6864, 4.1).
    #[inline]
    fn follows(&mut self, first: &[u8], frame: &[u8]) -> Option<bool> {
        let distance = word(frame, 18)?.wrapping_sub(word(first, 18)?);
        let is_counted = usize::from(distance) == self.count;
        let is_fixed = distance == 0 && word(first, 20)? & DF != 0;
        let step = u16::from(is_counted);
        let is_alike = (is_counted || is_fixed) && self.id_step.is_none_or(|before| before == step);
        if is_alike {
            self.id_step = Some(step);
        }
        Some(is_alike)
    }
}

/// Octets of the payload of a frame that is one datagram, whole, with nothing unusual about it, whose sum is still to be
/// completed: only then does cutting make the same sums.
#[inline]
pub(super) fn payload_len(family: Family, vnet: &Vnet, frame: &[u8]) -> Option<usize> {
    let udp_at = family.udp_at();
    let is_to_be_summed = vnet.flags == Vnet::NEEDS_CSUM
        && vnet.gso_type == 0
        && usize::from(vnet.csum_start) == udp_at
        && vnet.csum_offset == CSUM_OFFSET;
    if !is_to_be_summed {
        return None;
    }
    let is_sound = match family {
        // No options, no fragment, and a sum that is right: it will be made anew.
        Family::V4 => {
            *frame.get(14)? == 0x45
                && *frame.get(23)? == 17
                && word(frame, 20)? & !DF == 0
                && usize::from(word(frame, 16)?) + ETHERNET_HEADER_LEN == frame.len()
                && sum(frame.get(14..34)?) == u16::MAX
        }
        Family::V6 => {
            *frame.get(14)? >> 4 == 6
                && *frame.get(20)? == 17
                && usize::from(word(frame, 18)?) + udp_at == frame.len()
        }
    };
    let udp_len = usize::from(word(frame, udp_at + 4)?);
    let is_whole = is_sound && udp_len + udp_at == frame.len();
    udp_len.checked_sub(UDP_LEN).filter(|len| is_whole && *len > 0)
}

/// True when the sum over the pseudo-header that stands in `frame` is that of `first` but for its length.
#[inline]
fn has_sum_of(udp_at: usize, first: &[u8], frame: &[u8]) -> Option<bool> {
    let expected = changed(word(first, udp_at + 6)?, word(first, udp_at + 4)?, word(frame, udp_at + 4)?);
    Some(is_same_sum(word(frame, udp_at + 6)?, expected))
}

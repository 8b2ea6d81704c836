//! The header in front of every Ethernet frame that crosses the fabric.

use crate::address::{BootTag, LanId, NodeNumber, VifNumber};
use crate::drop_reason::DropReason;
use crate::limits::{ETHERNET_HEADER_LEN, FRAME_LEN_MAX};
use crate::location::{LOCATION_LEN, Location};
use crate::wire::tlv::{TlvError, TlvHeader};

/// Octets of a [`FrameHeader`] of every kind but [`FrameKind::Promiscuous`] and [`FrameKind::Arp`].
pub const FRAME_HEADER_LEN: usize = 32;
/// Octets of the header of a copy for a promiscuous listener: whose copy it is follows the common part.
pub const PROMISCUOUS_HEADER_LEN: usize = FRAME_HEADER_LEN + 8;
/// Octets of the header of an ARP or ND frame: source and target location follow the common part.
pub const ARP_HEADER_LEN: usize = FRAME_HEADER_LEN + 2 * LOCATION_LEN;

/// What kind of frame a header announces, and so who may send it where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FrameKind {
    /// Unicast between two nodes on their direct RVI.
    Unicast = 0x8001,
    /// Broadcast or multicast, to the virtual LAN server and cloned by it.
    Group = 0x8002,
    /// Unicast by way of the control node: a bare relayed frame (amendment 19).
    Relay = 0x8003,
    /// A copy of a unicast frame for a promiscuous listener (S53); its header also holds the listener's node.
    Promiscuous = 0x8006,
    /// ARP or ND on the ARP channel; its header also holds two locations.
    Arp = 0x8010,
}

impl FrameKind {
    /// The kind with the type number `kind`, if it is one.
    #[inline]
    #[must_use]
    pub const fn from_kind(kind: u16) -> Option<Self> {
        match kind {
            0x8001 => Some(Self::Unicast),
            0x8002 => Some(Self::Group),
            0x8003 => Some(Self::Relay),
            0x8006 => Some(Self::Promiscuous),
            0x8010 => Some(Self::Arp),
            _ => None,
        }
    }

    /// Octets of the header of this kind.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Arp => ARP_HEADER_LEN,
            Self::Promiscuous => PROMISCUOUS_HEADER_LEN,
            Self::Unicast | Self::Group | Self::Relay => FRAME_HEADER_LEN,
        }
    }
}

/// Checksum and segmentation state that travels with the frame (E5, E25): a virtio-net header of ten octets.
///
/// The fields are those of virtio 1.2, 5.1.6: a frame may arrive with its checksum not filled in yet, and may
/// be a super-frame of up to 64 KiB to be cut into segments of `gso_size` at the edge.
// In the order of its octets, so that reading and writing it is copying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Vnet {
    /// Bit 0: the checksum is to be completed from `csum_start`. Bit 1: it has been verified.
    pub flags: u8,
    /// 0 none, 1 TCPv4, 4 TCPv6, 5 UDP; bit 7 ECN.
    pub gso_type: u8,
    /// Octets of all headers of a super-frame.
    pub hdr_len: u16,
    /// Payload octets of each segment.
    pub gso_size: u16,
    /// Where the sum begins.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start` on.
    pub csum_offset: u16,
}

/// Octets of an encoded [`Vnet`].
pub const VNET_LEN: usize = 10;

/// Octets of the headers of IPv4 and UDP.
const UDP_HEADERS_LEN_MIN: usize = 28;

impl Vnet {
    /// The frame is to be summed from `csum_start` on.
    pub const NEEDS_CSUM: u8 = 1;
    /// The frame's sum has been verified.
    pub const DATA_VALID: u8 = 2;

    /// Reads the ten octets.
    #[inline]
    #[must_use]
    pub fn parse(o: &[u8; VNET_LEN]) -> Self {
        let u16_at = |i: usize| u16::from_le_bytes([o[i], o[i + 1]]);
        Self {
            flags: o[0],
            gso_type: o[1],
            hdr_len: u16_at(2),
            gso_size: u16_at(4),
            csum_start: u16_at(6),
            csum_offset: u16_at(8),
        }
    }

    /// Writes the ten octets.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; VNET_LEN] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// True when a kernel will take a frame of `frame_len` octets with this state: known bits only, a known
    /// segmentation type with a size, and sums that lie inside the frame.
    #[inline]
    #[must_use]
    pub fn is_valid_for(&self, frame_len: usize) -> bool {
        if self.flags | self.gso_type == 0 {
            return usize::from(self.hdr_len) <= frame_len;
        }
        self.offloads_fit(frame_len)
    }

    /// Whether an interface of a LAN with this MTU could have sent a frame of `frame_len` octets with this state.
    ///
    /// # Errors
    /// `too-long` for a plain frame, and for a datagram of a super-frame, beyond the MTU, with four octets of slack for one 802.1Q tag as on any Ethernet (IEEE 802.3,
    /// 3.2.7), and for any beyond [`FRAME_LEN_MAX`]; `malformed` when [`Self::is_valid_for`] says so.
    #[inline]
    pub fn check(&self, mtu: u16, frame_len: usize) -> Result<(), DropReason> {
        let plain_max = usize::from(mtu) + ETHERNET_HEADER_LEN + 4;
        let len_max = if self.gso_type == 0 { plain_max } else { FRAME_LEN_MAX };
        // Of UDP each part becomes a packet of its own, wherever it is cut. How long its headers are the state does not say for sure.
        let part_len = ETHERNET_HEADER_LEN + UDP_HEADERS_LEN_MIN + usize::from(self.gso_size);
        if frame_len > len_max || self.gso_type & 0x7f == 5 && part_len > plain_max {
            return Err(DropReason::TooLong);
        }
        if self.is_valid_for(frame_len) { Ok(()) } else { Err(DropReason::Malformed) }
    }

    fn offloads_fit(&self, frame_len: usize) -> bool {
        let sum_fits = self.flags & Self::NEEDS_CSUM == 0
            || usize::from(self.csum_start) + usize::from(self.csum_offset) + 2 <= frame_len;
        let segments = match self.gso_type & 0x7f {
            0 => self.gso_size == 0 || self.gso_type == 0,
            1 | 4 | 5 => self.gso_size > 0 && self.flags & Self::NEEDS_CSUM != 0,
            _ => false,
        };
        self.flags & !3 == 0 && sum_fits && segments && usize::from(self.hdr_len) <= frame_len
    }
}

/// The header in front of a frame.
///
/// Little-endian: the base header (8 octets), LAN u16, origin node u16, origin interface u16, destination
/// interface u16, [`Vnet`] (10 octets), boot tag u16, `bseq` u32. An ARP header adds the locations of source
/// and target.
//= spec/tlv.md#frame-header
//# A frame header MUST name the LAN, the origin node and interface, the destination interface, the checksum
//# and segmentation state, and for relayed and group frames the origin's boot tag and bseq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What kind of frame follows.
    pub kind: FrameKind,
    /// Flags, see the constants.
    pub flags: u8,
    /// The virtual LAN.
    pub lan: LanId,
    /// The node whose driver sent the frame; 0 for a frame made by a control node.
    pub origin: NodeNumber,
    /// The interface it was sent on.
    pub origin_vif: VifNumber,
    /// The receiver's interface; 0 towards the virtual LAN server.
    pub destination_vif: VifNumber,
    /// Checksum and segmentation state.
    pub vnet: Vnet,
    /// Which life of the origin; relayed and group frames only.
    pub boot: BootTag,
    /// Number of the frame among the relayed and group frames of its origin interface.
    pub bseq: u32,
}

impl FrameHeader {
    /// Flag: sent before, on another way or to an earlier control node.
    pub const RESENT: u8 = 1;
    /// Flag of ARP frames: a copy of a frame that also went over the direct RVI (amendment 24); not to be
    /// forwarded to the target.
    pub const ARP_COPY: u8 = 2;
    /// Flag of relayed frames: the sender has no binding for the destination and asks for one (D2).
    pub const UNBOUND: u8 = 8;
    /// Flag of relayed frames to a real server: only for the owner of its flow.
    pub const OWNER_ONLY: u8 = 16;
    /// Flag of ARP frames: the answer comes from a node of the platform (S44).
    pub const ARP_LOCAL: u8 = 4;
    /// Flag of relayed frames to a real server, and back from it: to be given back by who does not own its flow. The flags' top two
    /// bits then are its hop.
    const PASS_ON: u8 = 32;
    const HOP_SHIFT: u8 = 6;

    /// The flags of a relayed frame that a real server is to give back unless it owns its flow, after `hop` others: 3 at most.
    #[must_use]
    pub const fn flags_of_hop(hop: u8) -> u8 {
        debug_assert!(hop <= u8::MAX >> Self::HOP_SHIFT, "two bits hold a hop");
        Self::PASS_ON | hop << Self::HOP_SHIFT
    }

    /// The number of servers that were asked before the one that is to give the frame back, or does; `None` for any other frame.
    #[inline]
    #[must_use]
    pub fn hop(&self) -> Option<u8> {
        let is_asked = self.kind == FrameKind::Relay && self.flags & Self::PASS_ON != 0;
        is_asked.then_some(self.flags >> Self::HOP_SHIFT)
    }

    /// Reads the header at the start of a message of `message_len` octets; `head` holds its first octets.
    ///
    /// # Errors
    /// When the message is not a frame, is truncated or its lengths do not add up.
    #[inline]
    pub fn parse(head: &[u8], message_len: usize) -> Result<Self, TlvError> {
        let Some(o) = head.first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(Self::fault(head, message_len));
        };
        let u16_at = |i: usize| u16::from_le_bytes([o[i], o[i + 1]]);
        let (header_len, value_len) =
            (usize::from(o[3]) * 8, u32::from_le_bytes([o[4], o[5], o[6], o[7]]) as usize);
        let kind = match FrameKind::from_kind(u16_at(0)) {
            // Equal, not at least: a longer header would be a later version, which registration has excluded.
            Some(kind)
                if header_len == kind.header_len()
                    && head.len() >= header_len
                    && header_len.saturating_add(value_len) == message_len =>
            {
                kind
            }
            _ => return Err(Self::fault(head, message_len)),
        };
        let (_, state) = o.split_at(16);
        let Some(vnet) = state.first_chunk() else { return Err(Self::fault(head, message_len)) };
        Ok(Self {
            kind,
            flags: o[2],
            lan: LanId(u16_at(8)),
            origin: NodeNumber(u16_at(10)),
            origin_vif: VifNumber(u16_at(12)),
            destination_vif: VifNumber(u16_at(14)),
            vnet: Vnet::parse(vnet),
            boot: BootTag(u16_at(26)),
            bseq: u32::from_le_bytes([o[28], o[29], o[30], o[31]]),
        })
    }

    /// Why a message that starts with `head` has no header of a frame.
    #[cold]
    fn fault(head: &[u8], message_len: usize) -> TlvError {
        let tlv = match TlvHeader::parse(head, message_len) {
            Ok(tlv) => tlv,
            Err(fault) => return fault,
        };
        match FrameKind::from_kind(tlv.kind) {
            None => TlvError::UnknownKind { kind: tlv.kind },
            Some(kind) if tlv.header_len != kind.header_len() => {
                TlvError::HeaderTooShort { header_len: tlv.header_len }
            }
            Some(kind) => TlvError::Truncated { needed: kind.header_len(), len: head.len() },
        }
    }

    /// The header's octets, for a frame of `frame_len` octets; of [`FrameKind::Promiscuous`] and [`FrameKind::Arp`] the
    /// common part of them.
    #[inline]
    #[must_use]
    pub fn emit(&self, frame_len: usize) -> [u8; FRAME_HEADER_LEN] {
        let mut o = [0; FRAME_HEADER_LEN];
        TlvHeader {
            kind: self.kind as u16,
            flags: self.flags,
            header_len: self.kind.header_len(),
            value_len: frame_len,
        }
        .emit(&mut o);
        o[8..10].copy_from_slice(&self.lan.0.to_le_bytes());
        o[10..12].copy_from_slice(&self.origin.0.to_le_bytes());
        o[12..14].copy_from_slice(&self.origin_vif.0.to_le_bytes());
        o[14..16].copy_from_slice(&self.destination_vif.0.to_le_bytes());
        o[16..26].copy_from_slice(&self.vnet.emit());
        o[26..28].copy_from_slice(&self.boot.0.to_le_bytes());
        o[28..32].copy_from_slice(&self.bseq.to_le_bytes());
        o
    }

    /// The octets of the header that `head` starts with, with other flags and another destination interface; `None`
    /// when `head` is shorter than a header.
    #[inline]
    #[must_use]
    pub fn readdressed(head: &[u8], flags: u8, destination_vif: VifNumber) -> Option<[u8; FRAME_HEADER_LEN]> {
        let mut o = *head.first_chunk::<FRAME_HEADER_LEN>()?;
        o[2] = flags;
        o[14..16].copy_from_slice(&destination_vif.0.to_le_bytes());
        Some(o)
    }

    /// Gives the frame that `message` holds behind its header another destination interface. What is shorter stays as it is.
    #[inline]
    pub fn readdress(message: &mut [u8], destination_vif: VifNumber) {
        if let Some(octets) = message.get_mut(14..16) {
            octets.copy_from_slice(&destination_vif.0.to_le_bytes());
        }
    }

    /// The octets of the header of a copy: this one and the listener's node.
    #[must_use]
    pub fn emit_promiscuous(&self, listener: NodeNumber, frame_len: usize) -> [u8; PROMISCUOUS_HEADER_LEN] {
        debug_assert_eq!(self.kind, FrameKind::Promiscuous);
        let mut o = [0; PROMISCUOUS_HEADER_LEN];
        o[..32].copy_from_slice(&self.emit(frame_len));
        o[32..34].copy_from_slice(&listener.0.to_le_bytes());
        o
    }

    /// The listener's node in the header of a copy whose common part has been parsed from the same `head`; reserved
    /// octets are ignored.
    ///
    /// # Errors
    /// When `head` is shorter than such a header.
    pub fn parse_listener(head: &[u8]) -> Result<NodeNumber, TlvError> {
        let truncated = TlvError::Truncated { needed: PROMISCUOUS_HEADER_LEN, len: head.len() };
        let octets = head.get(32..40).and_then(|o| o.first_chunk::<2>()).ok_or(truncated)?;
        Ok(NodeNumber(u16::from_le_bytes(*octets)))
    }

    /// The octets of an ARP header: this one and the two locations.
    #[must_use]
    pub fn emit_arp(&self, source: &Location, target: &Location, frame_len: usize) -> [u8; ARP_HEADER_LEN] {
        debug_assert_eq!(self.kind, FrameKind::Arp);
        let mut o = [0; ARP_HEADER_LEN];
        o[..32].copy_from_slice(&self.emit(frame_len));
        o[32..56].copy_from_slice(&source.emit());
        o[56..80].copy_from_slice(&target.emit());
        o
    }

    /// Source and target location of an ARP header whose common part has been parsed from the same `head`.
    ///
    /// # Errors
    /// When `head` is shorter than an ARP header.
    pub fn parse_locations(head: &[u8]) -> Result<(Location, Location), TlvError> {
        let truncated = TlvError::Truncated { needed: ARP_HEADER_LEN, len: head.len() };
        let source = head.get(32..56).and_then(|o| o.first_chunk()).ok_or(truncated)?;
        let target = head.get(56..80).and_then(|o| o.first_chunk()).ok_or(truncated)?;
        Ok((Location::parse(source), Location::parse(target)))
    }
}

/// What the headers of a run of frames have in common, such as those from one interface to another: all but the length,
/// the checksum state and the number of a frame. Made once, so that a frame costs neither the making of each field nor its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    /// The octets, eight to a little-endian word: the frame's length is the high half of the first, its state the third and the low
    /// two octets of the fourth, its number the high half of that; all of these are zero here.
    words: [u64; FRAME_HEADER_LEN / 8],
}

impl HeaderTemplate {
    /// The run that `header` belongs to. Not for [`FrameKind::Promiscuous`] and [`FrameKind::Arp`].
    #[must_use]
    pub fn new(header: &FrameHeader) -> Self {
        let octets = FrameHeader { vnet: Vnet::default(), bseq: 0, ..*header }.emit(0);
        let (words, _) = octets.as_chunks();
        Self { words: core::array::from_fn(|i| u64::from_le_bytes(words[i])) }
    }

    /// The header's octets in front of a frame of `frame_len` octets in the state `vnet`, with the number `bseq`.
    #[inline]
    #[must_use]
    pub fn emit(&self, vnet: &Vnet, frame_len: usize, bseq: u32) -> [u8; FRAME_HEADER_LEN] {
        let [kind, ends, _, boot] = self.words;
        let state = u64::from(vnet.flags)
            | u64::from(vnet.gso_type) << 8
            | u64::from(vnet.hdr_len) << 16
            | u64::from(vnet.gso_size) << 32
            | u64::from(vnet.csum_start) << 48;
        let boot = boot | u64::from(vnet.csum_offset) | u64::from(bseq) << 32;
        let words = [kind | (frame_len as u64) << 32, ends, state, boot];
        let mut o = [0; FRAME_HEADER_LEN];
        let (chunks, _) = o.as_chunks_mut();
        for (chunk, word) in chunks.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        o
    }

    /// The frame's state, if `head`, the start of a message of `message_len` octets, begins with a header of this run
    /// up to the boot tag, with the right length. Else nothing is said: [`FrameHeader::parse`] tells.
    #[inline]
    #[must_use]
    pub fn parse(&self, head: &[u8], message_len: usize) -> Option<Vnet> {
        let o = head.first_chunk::<FRAME_HEADER_LEN>()?;
        let (chunks, _) = o.as_chunks();
        let word = |i: usize| u64::from_le_bytes(chunks[i]);
        let frame_len = (message_len as u64).checked_sub(FRAME_HEADER_LEN as u64)?;
        if word(0) != self.words[0] | frame_len << 32 || word(1) != self.words[1] {
            return None;
        }
        o[16..].first_chunk().map(Vnet::parse)
    }

    /// The same with the boot tag; and the frame's number.
    #[inline]
    #[must_use]
    pub fn parse_numbered(&self, head: &[u8], message_len: usize) -> Option<(Vnet, u32)> {
        let vnet = self.parse(head, message_len)?;
        let last = u64::from_le_bytes(*head.get(24..)?.first_chunk()?);
        let is_of_run = last as u32 & !0xffff == self.words[3] as u32;
        is_of_run.then_some((vnet, (last >> 32) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: FrameKind) -> FrameHeader {
        FrameHeader {
            kind,
            flags: FrameHeader::RESENT,
            lan: LanId(10),
            origin: NodeNumber(3),
            origin_vif: VifNumber(4),
            destination_vif: VifNumber(5),
            vnet: Vnet {
                flags: Vnet::NEEDS_CSUM,
                gso_type: 1,
                hdr_len: 54,
                gso_size: 1448,
                csum_start: 34,
                csum_offset: 16,
            },
            boot: BootTag(0xbeef),
            bseq: 0x0102_0304,
        }
    }

    #[test]
    fn a_frame_header_round_trips() {
        //= spec/tlv.md#frame-header
        //= type=test
        //# A frame header MUST name the LAN, the origin node and interface, the destination interface, the checksum
        //# and segmentation state, and for relayed and group frames the origin's boot tag and bseq.
        let header = header(FrameKind::Relay);
        let octets = header.emit(100);
        assert_eq!(FrameHeader::parse(&octets, 132), Ok(header));
        assert!(FrameHeader::parse(&octets, 131).is_err());
        assert!(FrameHeader::parse(&octets[..31], 132).is_err());
    }

    #[test]
    fn a_readdressed_header_differs_in_flags_and_destination_only() {
        let header = header(FrameKind::Relay);
        let other = FrameHeader { flags: 0, destination_vif: VifNumber(77), ..header };
        let octets = header.emit(100);
        assert_eq!(FrameHeader::readdressed(&octets, 0, VifNumber(77)), Some(other.emit(100)));
        assert_eq!(FrameHeader::readdressed(&octets[..31], 0, VifNumber(77)), None);
    }

    #[test]
    fn a_template_makes_and_knows_the_headers_of_its_run() {
        let header = FrameHeader { flags: 0, ..header(FrameKind::Unicast) };
        let template = HeaderTemplate::new(&header);
        for (vnet, len) in [(header.vnet, 100), (Vnet::default(), 65_000)] {
            let octets = template.emit(&vnet, len, header.bseq);
            assert_eq!(octets, FrameHeader { vnet, ..header }.emit(len));
            assert_eq!(template.parse(&octets, 32 + len), Some(vnet));
            assert_eq!(template.parse(&octets, 33 + len), None);
            assert_eq!(template.parse(&octets[..31], 32 + len), None);
            for at in (0..4).chain(8..16) {
                let mut other = octets;
                other[at] ^= 1;
                assert_eq!(template.parse(&other, 32 + len), None, "octet {at}");
            }
        }
    }

    #[test]
    fn an_arp_header_round_trips_with_its_locations() {
        let header = header(FrameKind::Arp);
        let source = Location { node: NodeNumber(3), ..Location::default() };
        let target = Location { node: NodeNumber(9), generation: 7, ..Location::default() };
        let octets = header.emit_arp(&source, &target, 42);
        assert_eq!(FrameHeader::parse(&octets, 80 + 42), Ok(header));
        assert_eq!(FrameHeader::parse_locations(&octets), Ok((source, target)));
        assert!(FrameHeader::parse(&octets[..40], 80 + 42).is_err());
    }

    #[test]
    fn the_header_of_a_copy_says_whose_it_is() {
        let header = header(FrameKind::Promiscuous);
        let octets = header.emit_promiscuous(NodeNumber(0x0709), 60);
        assert_eq!(FrameHeader::parse(&octets, 100), Ok(header));
        assert_eq!(FrameHeader::parse_listener(&octets), Ok(NodeNumber(0x0709)));
        assert!(FrameHeader::parse_listener(&octets[..39]).is_err());
        assert!(FrameHeader::parse(&octets[..39], 100).is_err());
        let common = header.emit(60);
        assert_eq!(common, octets[..32]);
    }

    #[test]
    fn offload_state_that_points_outside_the_frame_is_invalid() {
        let vnet = header(FrameKind::Unicast).vnet;
        assert!(vnet.is_valid_for(1514));
        assert!(!vnet.is_valid_for(51));
        assert!(!Vnet { csum_start: 1500, ..vnet }.is_valid_for(1514));
        assert!(!Vnet { gso_type: 9, ..vnet }.is_valid_for(1514));
        assert!(!Vnet { gso_size: 0, ..vnet }.is_valid_for(1514));
        assert!(Vnet::default().is_valid_for(14));
    }

    #[test]
    fn no_part_of_a_super_frame_of_datagrams_is_longer_than_its_lan_takes() {
        let parts = |gso_size| Vnet {
            flags: Vnet::NEEDS_CSUM,
            gso_type: 5,
            // Kernels say here how much lies in their first piece of memory.
            hdr_len: 4000,
            gso_size,
            csum_start: 34,
            csum_offset: 6,
        };
        assert_eq!(parts(1472).check(1500, 8042), Ok(()));
        assert_eq!(parts(4000).check(1500, 8042), Err(DropReason::TooLong));
        assert_eq!(parts(4000).check(9000, 8042), Ok(()));
    }
}

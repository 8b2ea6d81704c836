//! A super-frame is cut here into the frames that it stands for, as the kernel would cut it.

use alloc::vec::Vec;

use super::{CSUM_OFFSET, Family, GSO_UDP, IPV6_LEN, UDP_LEN};
use crate::checksum::{changed, set_word, sum_ipv4_header, word};
use crate::ethernet::ETHERTYPE_VLAN;
use crate::limits::ETHERNET_HEADER_LEN;
use crate::wire::frame::Vnet;

/// 802.1Q tags that a frame may have.
const TAGS_MAX: usize = 2;
/// EtherType of an outer tag (IEEE 802.1Q-2018, 9.4).
const ETHERTYPE_OUTER_VLAN: u16 = 0x88a8;

/// The frames of a super-frame, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct UdpSegments<'f> {
    frame: &'f [u8],
    vnet: Vnet,
    family: Family,
    ip_at: usize,
    udp_at: usize,
    /// Where the next payload begins.
    at: usize,
    /// Frames so far.
    count: u16,
}

impl<'f> UdpSegments<'f> {
    /// Looks at a super-frame; `None` when it is none of UDP, or not sound.
    #[must_use]
    pub fn of(vnet: &Vnet, frame: &'f [u8]) -> Option<Self> {
        let udp_at = usize::from(vnet.csum_start);
        let is_udp = vnet.gso_type & 0x7f == GSO_UDP
            && vnet.csum_offset == CSUM_OFFSET
            && vnet.is_valid_for(frame.len());
        let (family, ip_at) = network_header(frame)?;
        let is_behind_ip = udp_at >= ip_at + family.header_len();
        let payload_at = udp_at + UDP_LEN;
        (is_udp && is_behind_ip && payload_at < frame.len()).then_some(Self {
            frame,
            vnet: *vnet,
            family,
            ip_at,
            udp_at,
            at: payload_at,
            count: 0,
        })
    }

    /// Makes the next frame in `out` and gives its state.
    //= spec/super-frames.md#cutting
    //# A node whose stack takes no super-frames of UDP MUST cut them into the datagrams that they stand for, with the state of a frame
    //# whose sum is to be completed.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Option<Vnet> {
        let rest = self.frame.get(self.at..).filter(|rest| !rest.is_empty())?;
        let payload = &rest[..rest.len().min(usize::from(self.vnet.gso_size))];
        out.clear();
        out.extend_from_slice(self.frame.get(..self.udp_at + UDP_LEN)?);
        out.extend_from_slice(payload);
        self.at += payload.len();
        self.set_lengths(out);
        self.count = self.count.wrapping_add(1);
        Some(Vnet { gso_type: 0, gso_size: 0, hdr_len: 0, ..self.vnet })
    }

    fn set_lengths(&self, out: &mut [u8]) {
        let (packet_len, udp_len) = (out.len() - self.ip_at, (out.len() - self.udp_at) as u16);
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
        let whole = (self.frame.len() - self.udp_at) as u16;
        let check = word(out, self.udp_at + 6).unwrap_or(0);
        set_word(out, self.udp_at + 4, udp_len);
        set_word(out, self.udp_at + 6, changed(check, whole, udp_len));
    }
}

/// Which IP header a frame has, and where.
fn network_header(frame: &[u8]) -> Option<(Family, usize)> {
    let mut at = ETHERNET_HEADER_LEN;
    for _ in 0..=TAGS_MAX {
        match word(frame, at - 2)? {
            ETHERTYPE_VLAN | ETHERTYPE_OUTER_VLAN => at += 4,
            ethertype => return Some((Family::of_ethertype(ethertype)?, at)),
        }
    }
    None
}

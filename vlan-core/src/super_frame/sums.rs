//! Sums of datagrams that a network card has received.

use super::{CSUM_OFFSET, Family};
use crate::checksum::{fold, is_same_sum, pseudo_header, set_word, sum_from, word};
use crate::ethernet::EthernetHeader;
use crate::ip::UDP;
use crate::wire::frame::Vnet;

use super::coalesce::payload_len;

/// The state with which a frame from outside goes on: of a datagram whose sum is right, only the pseudo-header's part of it is left in
/// `frame`, so that others can be joined with it. Any other frame stays as it is.
//= spec/super-frames.md#finished-sums
//# A datagram from outside whose sum is right MUST go on as one whose sum is still to be completed, and one whose sum is wrong as it
//# came.
#[inline]
#[must_use]
pub fn reopen_sum(vnet: &Vnet, frame: &mut [u8]) -> Vnet {
    if vnet.flags & Vnet::NEEDS_CSUM != 0 || vnet.gso_type != 0 {
        return *vnet;
    }
    reopen(vnet, frame).unwrap_or(*vnet)
}

#[inline]
fn reopen(vnet: &Vnet, frame: &mut [u8]) -> Option<Vnet> {
    let family = Family::of_ethertype(EthernetHeader::parse(frame)?.ethertype)?;
    let udp_at = family.udp_at();
    let open = Vnet {
        flags: Vnet::NEEDS_CSUM,
        csum_start: udp_at as u16,
        csum_offset: CSUM_OFFSET,
        ..Vnet::default()
    };
    payload_len(family, &open, frame)?;
    let check_at = udp_at + usize::from(CSUM_OFFSET);
    let udp = frame.get(udp_at..)?;
    let pseudo = pseudo_header(frame.get(family.addresses_at()..udp_at)?, UDP, udp.len());
    // None was made where it is zero. Whoever has received the frame may have looked at it.
    let is_right = word(frame, check_at)? != 0
        && (vnet.flags & Vnet::DATA_VALID != 0 || is_same_sum(sum_from(pseudo, udp), u16::MAX));
    is_right.then(|| {
        set_word(frame, check_at, fold(pseudo));
        open
    })
}

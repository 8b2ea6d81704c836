//! Sums of datagrams that a network card has received.

use super::{CSUM_OFFSET, Family};
use crate::checksum::{fold, is_same_sum, pseudo_header, set_word, sum_from, word};
use crate::ethernet::EthernetHeader;
use crate::ip::UDP;
use crate::wire::frame::Vnet;

use super::coalesce::payload_len;

/// The sum of a datagram, as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct FinishedSum {
    vnet: Vnet,
    check_at: usize,
    check: u16,
}

impl FinishedSum {
    /// Puts it back, and gives the state that goes with it.
    pub fn restore(self, frame: &mut [u8]) -> Vnet {
        set_word(frame, self.check_at, self.check);
        self.vnet
    }
}

/// Leaves of the sum of a datagram, if it is right, the pseudo-header's part in `frame`, so that others can be joined with it, and gives
/// the state of that. Any other frame stays as it is.
//= spec/super-frames.md#finished-sums
//# A datagram from outside whose sum is right and that is joined with others MUST go on as one whose sum is still to be completed, and
//# any other as it came.
#[inline]
pub(super) fn reopen(vnet: &Vnet, frame: &mut [u8]) -> Option<(Vnet, FinishedSum)> {
    if vnet.flags & Vnet::NEEDS_CSUM != 0 || vnet.gso_type != 0 {
        return None;
    }
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
    let (udp, check) = (frame.get(udp_at..)?, word(frame, check_at)?);
    let pseudo = pseudo_header(frame.get(family.addresses_at()..udp_at)?, UDP, udp.len());
    // None was made where it is zero. Whoever has received the frame may have looked at it.
    let is_right =
        check != 0 && (vnet.flags & Vnet::DATA_VALID != 0 || is_same_sum(sum_from(pseudo, udp), u16::MAX));
    is_right.then(|| {
        set_word(frame, check_at, fold(pseudo));
        (open, FinishedSum { vnet: *vnet, check_at, check })
    })
}

//! Sums that whoever sent a frame has left out. On a wire there are none; but a kernel leaves them out of what stays within a machine, on a
//! veth pair or between virtual machines, and XDP does not say so.

use vlan_core::checksum::{fold, is_same_sum, pseudo_header, sum_from, word};
use vlan_core::wire::Vnet;

use crate::tag::{TAG_LEN, is_tag};
use vlan_core::ip::{IP_AT, Packet, TCP, UDP};

/// Where a frame's type stands.
const TYPE_AT: usize = 12;

/// The state of a frame of which nothing is known but its octets.
//= spec/uplink.md#sums-that-were-left-out
//# A frame from AF_XDP in whose TCP or UDP header the sum of the pseudo-header stands MUST be given on as one whose sum is still to
//# be completed, unless the sum is right as it is.
pub(super) fn state_of(frame: &[u8]) -> Vnet {
    sum_left_out(frame).unwrap_or_default()
}

/// The state of a frame whose sum was left out.
fn sum_left_out(frame: &[u8]) -> Option<Vnet> {
    let tag_len = if is_tag(word(frame, TYPE_AT)?) { TAG_LEN } else { 0 };
    // As if the tag were not there: what lies behind it has its place.
    let untagged = &frame[tag_len..];
    let packet = Packet::read(untagged, word(untagged, TYPE_AT)?, false).ok()??;
    let protocol = packet.protocol.filter(|_| packet.fragment.is_none())?;
    let csum_offset = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let upper = &untagged[packet.upper_at..packet.end];
    let addresses = if packet.is_ipv4() { IP_AT + 12..IP_AT + 20 } else { IP_AT + 8..IP_AT + 40 };
    let pseudo = pseudo_header(&untagged[addresses], protocol, upper.len());
    let is_left_out = is_same_sum(word(upper, csum_offset)?, fold(pseudo));
    if !is_left_out || is_same_sum(sum_from(pseudo, upper), u16::MAX) {
        return None;
    }
    let csum_start = u16::try_from(tag_len + packet.upper_at).ok()?;
    Some(Vnet { flags: Vnet::NEEDS_CSUM, csum_start, csum_offset: csum_offset as u16, ..Vnet::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    use vlan_core::checksum::set_word;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    /// A packet of `protocol` with `payload` behind its header, whose sum is that of the pseudo-header alone, and where that stands.
    fn left_out(is_ipv4: bool, protocol: u8, payload: &[u8]) -> (Vec<u8>, usize) {
        let (header_len, offset) = if protocol == TCP { (20, 16) } else { (8, 6) };
        let upper_len = header_len + payload.len();
        let mut frame = MACS.to_vec();
        if is_ipv4 {
            let [high, low] = (20 + upper_len as u16).to_be_bytes();
            frame.extend([
                8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2,
            ]);
        } else {
            let [high, low] = (upper_len as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
            frame.extend([0xfd; 32]);
        }
        let upper_at = frame.len();
        frame.resize(upper_at + header_len, 7);
        frame.extend(payload);
        let addresses = if is_ipv4 { 26..34 } else { 22..54 };
        let pseudo = fold(pseudo_header(&frame[addresses], protocol, upper_len));
        set_word(&mut frame, upper_at + offset, pseudo);
        (frame, upper_at)
    }

    /// Completes the sum.
    fn complete(frame: &mut [u8], upper_at: usize, offset: usize) {
        let check = !vlan_core::checksum::sum(&frame[upper_at..]);
        set_word(frame, upper_at + offset, check);
    }

    #[test]
    fn a_sum_that_was_left_out_is_to_be_completed_and_others_are_not() {
        //= spec/uplink.md#sums-that-were-left-out
        //= type=test
        //# A frame from AF_XDP in whose TCP or UDP header the sum of the pseudo-header stands MUST be given on as one whose sum is still
        //# to be completed, unless the sum is right as it is.
        for (is_ipv4, protocol, offset) in
            [(true, TCP, 16), (true, UDP, 6), (false, TCP, 16), (false, UDP, 6)]
        {
            let (mut frame, upper_at) = left_out(is_ipv4, protocol, b"some payload");
            let expected = |at: usize| Vnet {
                flags: Vnet::NEEDS_CSUM,
                csum_start: at as u16,
                csum_offset: offset as u16,
                ..Vnet::default()
            };
            assert_eq!(state_of(&frame), expected(upper_at));
            let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
            assert_eq!(state_of(&tagged), expected(upper_at + 4));
            // What pads a short frame belongs to nobody.
            assert_eq!(state_of(&[&frame[..], &[9; 20]].concat()), expected(upper_at));
            complete(&mut frame, upper_at, offset);
            assert_eq!(state_of(&frame), Vnet::default());
            // A damaged one stays so.
            frame[upper_at] ^= 1;
            assert_eq!(state_of(&frame), Vnet::default());
        }
    }

    #[test]
    fn a_right_sum_that_is_the_pseudo_headers_by_chance_is_right() {
        // The rest sums to zero, so the right sum of all is the complement of the pseudo-header's, which is its own complement.
        let (mut frame, upper_at) = left_out(true, UDP, &[]);
        let pseudo = word(&frame, upper_at + 6).unwrap();
        set_word(&mut frame, upper_at, 0);
        set_word(&mut frame, upper_at + 4, 0);
        // pseudo + rest + pseudo = 0xffff in ones' complement.
        let rest = !fold(2 * u32::from(pseudo));
        set_word(&mut frame, upper_at + 2, rest);
        assert_eq!(state_of(&frame), Vnet::default());
        set_word(&mut frame, upper_at + 2, rest ^ 1);
        assert_eq!(state_of(&frame).flags, Vnet::NEEDS_CSUM);
    }

    #[test]
    fn whatever_it_is_nothing_is_read_beyond_its_end() {
        let (frame, _) = left_out(false, TCP, b"some payload");
        for len in 0..frame.len() {
            assert_eq!(state_of(&frame[..len]), Vnet::default(), "{len}");
        }
        for octet in 0..=255 {
            for at in 0..frame.len() {
                let mut frame = frame.clone();
                frame[at] = octet;
                let state = state_of(&frame);
                assert!(state.is_valid_for(frame.len()), "{octet} at {at}");
            }
        }
    }
}

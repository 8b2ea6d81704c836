//! An IPv4 packet is cut here into fragments (RFC 791, 3.2).

use alloc::vec::Vec;

use vlan_core::checksum::{set_word, sum_ipv4_header, word};

use vlan_core::ip::{IP_AT, MF, OFFSET};

/// Options that end the list, and that mean nothing (RFC 791, 3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// The bit of an option that goes into every fragment.
const COPIED: u8 = 0x80;

/// The fragments of an IPv4 packet, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragments<'f> {
    frame: &'f [u8],
    payload_at: usize,
    /// Where the next fragment's payload begins.
    at: usize,
    /// Octets of each payload but the last, a multiple of eight.
    payload_len: usize,
    /// Flags and offset of the packet itself, which may be a fragment already.
    flags: u16,
}

impl<'f> Fragments<'f> {
    /// `frame` holds a sound IPv4 packet and nothing behind it, `mtu` is as large as IPv6 has it.
    pub fn new(frame: &'f [u8], mtu: u16) -> Self {
        let header_len = usize::from(frame.get(IP_AT).map_or(0, |octet| octet & 15)) * 4;
        let payload_at = IP_AT + header_len;
        Self {
            frame,
            payload_at,
            at: payload_at,
            payload_len: usize::from(mtu).saturating_sub(header_len).max(8) & !7,
            flags: word(frame, IP_AT + 6).unwrap_or(0),
        }
    }

    /// Makes the next fragment in `out`; false when there is no other.
    //= spec/uplink.md#fragments
    //# An IPv4 packet without DF that is longer than the device's MTU MUST go outside in fragments.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let (Some(header), false) = (self.frame.get(..self.payload_at), rest.is_empty()) else {
            return false;
        };
        let payload = &rest[..rest.len().min(self.payload_len)];
        out.clear();
        out.extend_from_slice(header);
        out.extend_from_slice(payload);
        let behind = self.at - self.payload_at;
        if behind > 0 {
            clear_options(&mut out[IP_AT + 20..self.payload_at]);
        }
        let more = if payload.len() < rest.len() { MF } else { self.flags & MF };
        let offset = (self.flags & OFFSET).wrapping_add((behind / 8) as u16) & OFFSET;
        let packet_len = (out.len() - IP_AT) as u16;
        set_word(out, IP_AT + 2, packet_len);
        set_word(out, IP_AT + 6, (self.flags & !(MF | OFFSET)) | more | offset);
        sum_ipv4_header(out, IP_AT, self.payload_at - IP_AT);
        self.at += payload.len();
        true
    }
}

/// Options that only the first fragment has mean nothing in the others.
fn clear_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            END_OF_OPTIONS => return,
            NO_OPERATION => 1,
            // A length that makes no sense ends the list, as stacks take it.
            _ => match options.get(at + 1).map(|len| usize::from(*len)) {
                Some(len) if len >= 2 && at + len <= options.len() => len,
                _ => return,
            },
        };
        if kind & COPIED == 0 {
            options[at..at + len].fill(NO_OPERATION);
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::checksum::sum;

    /// A packet of 64-octet header options and `len` octets of payload that count.
    fn packet(len: usize, flags: u16) -> Vec<u8> {
        let mut frame = [2; 12].to_vec();
        frame.extend_from_slice(&[
            8, 0, 0x47, 0, 0, 0, 0xab, 0xcd, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 9, 0, 1,
        ]);
        // A time stamp, which is not copied, and a router alert, which is.
        frame.extend_from_slice(&[0x44, 4, 5, 0, 0x94, 4, 0, 0]);
        frame.extend((0..len).map(|n| (n / 8) as u8));
        let total = (frame.len() - IP_AT) as u16;
        set_word(&mut frame, IP_AT + 2, total);
        set_word(&mut frame, IP_AT + 6, flags);
        sum_ipv4_header(&mut frame, IP_AT, 28);
        frame
    }

    #[test]
    fn a_packet_is_the_sum_of_its_fragments() {
        //= spec/uplink.md#fragments
        //= type=test
        //# An IPv4 packet without DF that is longer than the device's MTU MUST go outside in fragments.
        for (len, flags, count) in [(4000, 0, 3), (4000, MF | 100, 3), (2 * 1472, 0, 2), (1473, 7, 2)] {
            let frame = packet(len, flags);
            let mut fragments = Fragments::new(&frame, 1500);
            let (mut piece, mut payload, mut pieces) = (Vec::new(), Vec::new(), 0);
            while fragments.next_into(&mut piece) {
                let stated = word(&piece, IP_AT + 6).unwrap();
                assert!(piece.len() <= 1514 && sum(&piece[14..42]) == 0xffff);
                assert_eq!(usize::from(word(&piece, 16).unwrap()), piece.len() - 14);
                assert_eq!(usize::from(stated & OFFSET), usize::from(flags & OFFSET) + payload.len() / 8);
                let options = if pieces == 0 { [0x44, 4, 5, 0] } else { [1; 4] };
                assert_eq!((&piece[34..38], &piece[38..42]), (&options[..], &[0x94, 4, 0, 0][..]));
                payload.extend_from_slice(&piece[42..]);
                pieces += 1;
                let is_last = payload.len() == len;
                assert_eq!(stated & MF, if is_last { flags & MF } else { MF });
            }
            assert!(pieces == count && payload == frame[42..], "{len} octets in {pieces} pieces");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_left_alone() {
        for mut options in [[0x44, 0, 5, 0], [0x44, 9, 5, 0], [0, 0x44, 2, 2], [1, 1, 1, 0x44]] {
            let before = options;
            clear_options(&mut options);
            assert_eq!(options, before);
        }
    }
}

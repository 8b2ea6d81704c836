//! A stand-in for the session's AEAD: a keyed sum over the whole packet in the place of the tag.
//!
//! It notices each turned bit, each packet of another session and each packet that is sent back to its sender,
//! which is all that the transport relies on; it hides nothing.

use rvi::packet::wire::{PACKET_HEADER_LEN, TAG_LEN};

/// What the keys of one session and direction are derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealKey {
    /// The session's id.
    pub session: u64,
    /// The sending end.
    pub direction: u8,
}

/// Writes the tag of a packet: header, payload, and room for the tag.
///
/// # Panics
/// When the packet is shorter than a header and a tag.
pub fn seal(key: SealKey, packet: &mut [u8]) {
    let (body, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
    tag.copy_from_slice(&sum(key, body).to_le_bytes());
}

/// True when the tag is the one that [`seal`] wrote.
#[must_use]
pub fn is_genuine(key: SealKey, packet: &[u8]) -> bool {
    packet.len() >= PACKET_HEADER_LEN + TAG_LEN && {
        let (body, tag) = packet.split_at(packet.len() - TAG_LEN);
        tag == sum(key, body).to_le_bytes()
    }
}

fn sum(key: SealKey, octets: &[u8]) -> u128 {
    let mut high = key.session ^ 0x9e37_79b9_7f4a_7c15;
    let mut low = u64::from(key.direction) ^ (octets.len() as u64) << 8;
    for chunk in octets.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        high = (high ^ u64::from_le_bytes(word)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        high ^= high >> 31;
        low = low.rotate_left(23).wrapping_add(high);
    }
    u128::from(high) << 64 | u128::from(low.wrapping_mul(0x94d0_49bb_1331_11eb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_bit_another_session_and_a_reflection_are_noticed() {
        let key = SealKey { session: 7, direction: 0 };
        let mut packet = vec![0x5a; 100];
        seal(key, &mut packet);
        assert!(is_genuine(key, &packet));
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_genuine(key, &packet), "bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!is_genuine(SealKey { session: 8, ..key }, &packet));
        assert!(!is_genuine(SealKey { direction: 1, ..key }, &packet));
    }
}

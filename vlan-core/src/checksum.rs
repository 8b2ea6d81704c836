//! The Internet checksum (RFC 1071), and the big-endian words of IP headers that it is made of.

/// The two octets at `at`, as IP has them.
#[inline]
#[must_use]
pub fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|o| u16::from_be_bytes(*o))
}

/// Writes two octets at `at`, if they are there.
#[inline]
pub fn set_word(octets: &mut [u8], at: usize, value: u16) {
    if let Some(o) = octets.get_mut(at..at + 2) {
        o.copy_from_slice(&value.to_be_bytes());
    }
}

/// The ones' complement sum of `octets` (RFC 1071), not complemented yet. An odd octet counts as if a zero followed it.
#[inline]
#[must_use]
pub fn sum(octets: &[u8]) -> u16 {
    sum_from(0, octets)
}

/// The same, on top of what has been summed before, such as a pseudo-header.
#[inline]
#[must_use]
pub fn sum_from(start: u32, octets: &[u8]) -> u16 {
    let (quads, rest) = octets.as_chunks::<4>();
    // Four octets at a time: two words side by side give the same once they are folded.
    let wide: u64 = quads.iter().map(|o| u64::from(u32::from_be_bytes(*o))).sum();
    let rest: u32 =
        rest.chunks(2).map(|o| u32::from(o[0]) << 8 | o.get(1).map_or(0, |o| u32::from(*o))).sum();
    let wide = (wide & 0xffff_ffff) + (wide >> 32) + u64::from(rest) + u64::from(start);
    let wide = (wide & 0xffff) + (wide >> 16 & 0xffff) + (wide >> 32);
    fold(wide as u32)
}

/// Adds the carries of a sum to it.
#[inline]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// A sum that is not complemented, after one of its words has changed (RFC 1624).
#[inline]
#[must_use]
pub const fn changed(sum: u16, from: u16, to: u16) -> u16 {
    fold(sum as u32 + !from as u32 + to as u32)
}

/// A checksum as headers have it, complemented, after the octets `from` have become `to`, which are as many and begin at an
/// even place (RFC 1624).
#[must_use]
pub fn mended(check: u16, from: &[u8], to: &[u8]) -> u16 {
    let taken = !sum(from);
    !fold(u32::from(!check) + u32::from(taken) + u32::from(sum(to)))
}

/// Sums that stand for the same number: zero has two forms in ones' complement.
#[inline]
#[must_use]
pub const fn is_same_sum(a: u16, b: u16) -> bool {
    a == b || (a == 0 || a == u16::MAX) && (b == 0 || b == u16::MAX)
}

/// Writes the checksum of the IPv4 header at `at`, of `len` octets.
pub fn sum_ipv4_header(frame: &mut [u8], at: usize, len: usize) {
    set_word(frame, at + 10, 0);
    let sum = frame.get(at..at + len).map_or(0, sum);
    set_word(frame, at + 10, !sum);
}

/// The sum over the pseudo-header of a packet: its addresses, the protocol and the length behind the IP headers (RFC 9293, 3.1; RFC 8200, 8.1).
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, len: usize) -> u32 {
    u32::from(sum(addresses)) + u32::from(protocol) + (len as u32 & 0xffff) + (len as u32 >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::vec::Vec;

    /// Word by word, as RFC 1071 has it.
    fn naive(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn sums_agree_with_a_loop_over_words() {
        let mut random = Random::new(3);
        for len in (0..70).chain([1500, 65_553]) {
            let octets: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
            assert!(is_same_sum(sum(&octets), naive(&octets)), "{len} octets");
            assert_eq!(sum_from(u32::from(sum(&octets)), &[]), sum(&octets));
        }
        assert_eq!(sum(&[0xff; 65_552]), 0xffff);
    }

    #[test]
    fn a_mended_checksum_is_that_of_the_changed_octets() {
        let mut random = Random::new(4);
        for _ in 0..1000 {
            let mut octets: Vec<u8> = (0..40).map(|_| random.next_u64() as u8).collect();
            let check = !sum(&octets);
            let old: Vec<u8> = octets[8..14].to_vec();
            octets[8..14].copy_from_slice(&random.next_u64().to_be_bytes()[..6]);
            assert!(is_same_sum(mended(check, &old, &octets[8..14]), !sum(&octets)));
        }
    }
}

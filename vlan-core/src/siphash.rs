//! A keyed hash of words: nobody without the key can choose what shares a place in a table.

/// SipHash of whole words with `C` rounds for each and `D` at the end (Aumasson, Bernstein, INDOCRYPT 2012). 1 and 3 are
/// enough for tables.
#[inline]
#[must_use]
pub fn siphash<const C: usize, const D: usize, const N: usize>(key: [u64; 2], words: [u64; N]) -> u64 {
    let mut state = start(key);
    for word in words {
        absorb::<C>(&mut state, word);
    }
    absorb::<C>(&mut state, ((8 * N) as u64) << 56);
    finish::<D>(state)
}

#[inline]
fn start([k0, k1]: [u64; 2]) -> [u64; 4] {
    [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]
}

#[inline]
fn absorb<const C: usize>(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    for _ in 0..C {
        round(state);
    }
    state[0] ^= word;
}

#[inline]
fn finish<const D: usize>(mut state: [u64; 4]) -> u64 {
    state[2] ^= 0xff;
    for _ in 0..D {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash() {
        // The vector of the paper's appendix A: SipHash-2-4 of the octets 0 to 14.
        let mut state = start([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        absorb::<2>(&mut state, 0x0706_0504_0302_0100);
        absorb::<2>(&mut state, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(finish::<4>(state), 0xa129_ca61_49be_45e5);
    }
}

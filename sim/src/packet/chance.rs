//! Draws that the network's models need, in whole numbers: a seed replays alike on every machine.

use std::time::Duration;

use vlan_core::random::Random;

/// Parts per million: every probability of the network is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ppm(pub u32);

impl Ppm {
    /// Certainty.
    pub const ALL: Self = Self(1_000_000);

    /// So many of a hundred.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// Throws the dice; draws nothing when it is impossible.
    pub fn happens(self, random: &mut Random) -> bool {
        self.0 > 0 && random.below(1_000_000) < u64::from(self.0)
    }

    /// The probability that at least one of two independent things happens.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        let (a, b) = (self.0 as u64, other.0 as u64);
        Self((a + b - a * b / 1_000_000) as u32)
    }
}

/// Turns one to eight bits of a packet over, anywhere; one time in four cuts it short.
pub fn corrupt(random: &mut Random, packet: &mut Vec<u8>) {
    for _ in 0..=random.below(8) {
        let bit = random.below(packet.len() as u64 * 8) as usize;
        packet[bit / 8] ^= 1 << (bit % 8);
    }
    if random.below(4) == 0 {
        packet.truncate(random.below(packet.len() as u64) as usize);
    }
}

/// A duration drawn from the exponential distribution of the given mean.
pub fn exponential(random: &mut Random, mean: Duration) -> Duration {
    // u is uniform in (0, 1] with 53 bits; -ln u = (53 - log2 of the integer) * ln 2.
    let integer = (random.next_u64() >> 11) + 1;
    let halvings = (53 << FRACTION) - log2(integer);
    let scaled = u128::from(halvings) * LN_2 * mean.as_nanos();
    Duration::from_nanos((scaled >> (FRACTION + FRACTION)) as u64)
}

/// Bits behind the binary point of a logarithm.
const FRACTION: u32 = 24;
/// ln 2 with [`FRACTION`] bits.
const LN_2: u128 = 11_629_080;

/// The binary logarithm of `value`, at least 1, with [`FRACTION`] bits, by repeated squaring.
fn log2(value: u64) -> u64 {
    let whole = value.ilog2();
    let mut result = u64::from(whole) << FRACTION;
    // In [1, 2) with 62 bits behind the point.
    let mut mantissa = u128::from(value) << (62 - whole.min(62));
    for bit in (0..FRACTION).rev() {
        mantissa = (mantissa * mantissa) >> 62;
        if mantissa >= 1 << 63 {
            mantissa >>= 1;
            result |= 1 << bit;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_float_unit() {
        for value in [1_u64, 2, 3, 1000, 12_345_678_901, 1 << 53] {
            let ours = log2(value) as f64 / f64::from(1 << FRACTION);
            assert!((ours - (value as f64).log2()).abs() < 1e-5, "{value}");
        }
    }

    #[test]
    fn exponential_draws_have_their_mean_and_their_tail() {
        let mut random = Random::new(3);
        let mean = Duration::from_micros(100);
        let draws: Vec<_> = (0..40_000).map(|_| exponential(&mut random, mean)).collect();
        let average = draws.iter().sum::<Duration>() / draws.len() as u32;
        assert!(average > mean * 97 / 100 && average < mean * 103 / 100, "{average:?}");
        // e^-2 of them are longer than two means.
        let long = draws.iter().filter(|d| **d > mean * 2).count();
        assert!((4_900..5_900).contains(&long), "{long}");
    }

    #[test]
    fn probabilities_join_like_independent_events() {
        assert_eq!(Ppm::percent(50).or(Ppm::percent(50)), Ppm::percent(75));
        assert_eq!(Ppm::ALL.or(Ppm::percent(5)), Ppm::ALL);
        assert!(!Ppm(0).happens(&mut Random::new(1)) && Ppm::ALL.happens(&mut Random::new(1)));
    }
}

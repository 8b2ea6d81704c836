//! Keys as octets, for those who carry them; what is done with them belongs to those who seal.

use core::fmt;
use core::str::FromStr;

/// Octets of a key, public or secret.
pub const KEY_LEN: usize = 32;
/// Digits of a key in its file.
pub const KEY_DIGITS: usize = 2 * KEY_LEN;

/// A public key (X25519, RFC 7748): who a process is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_LEN]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The text was not a key: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseKeyError;

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key is {KEY_DIGITS} hexadecimal digits")
    }
}

impl core::error::Error for ParseKeyError {}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse_digits(text.as_bytes()).map(Self).ok_or(ParseKeyError)
    }
}

/// Reads the octets of a key from its digits.
#[must_use]
pub fn parse_digits(text: &[u8]) -> Option<[u8; KEY_LEN]> {
    if text.len() != KEY_DIGITS {
        return None;
    }
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let mut key = [0; KEY_LEN];
    for (octet, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *octet = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

/// A key that nobody else may learn: it never shows itself, and its memory is cleared on drop.
#[derive(Clone, Default)]
pub struct SecretKey([u8; KEY_LEN]);

impl SecretKey {
    /// A key of these octets; the caller's copy is the caller's to clear.
    #[must_use]
    pub const fn new(octets: [u8; KEY_LEN]) -> Self {
        Self(octets)
    }

    /// A key that `fill` writes in its place, so that no copy is left elsewhere.
    #[must_use]
    pub fn filled(fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Self {
        let mut key = Self::default();
        fill(&mut key.0);
        key
    }

    /// The octets, for those who seal or pass them on.
    #[must_use]
    pub const fn octets(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving out a store that nothing reads.
        core::hint::black_box(&self.0);
    }
}

/// In a time that does not depend on where two keys differ.
impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| all | (a ^ b));
        core::hint::black_box(differing) == 0
    }
}

impl Eq for SecretKey {}

//= spec/server.md#secrets
//# A grant key and a pair key MUST NOT appear in a log, in a report or in what the management interface shows.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_secret_key_never_shows_itself() {
        //= spec/server.md#secrets
        //= type=test
        //# A grant key and a pair key MUST NOT appear in a log, in a report or in what the management interface shows.
        let keys = [[0x5a; KEY_LEN], [0; KEY_LEN]].map(SecretKey::new);
        assert_eq!(format!("{:?} {:#?}", keys[0], keys[0]), format!("{:?} {:#?}", keys[1], keys[1]));
        assert!(!format!("{:?}", keys[0]).contains("5a"));
    }

    #[test]
    fn keys_are_equal_only_in_every_octet() {
        let key = SecretKey::new([7; KEY_LEN]);
        assert_eq!(key, SecretKey::filled(|octets| octets.fill(7)));
        for at in 0..KEY_LEN {
            let mut octets = *key.octets();
            octets[at] ^= 0x80;
            assert_ne!(key, SecretKey::new(octets), "octet {at}");
        }
    }
}

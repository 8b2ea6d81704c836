//! Who somebody is: X25519 keys (RFC 7748), the same for sockets of one host and for packets.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::Dh;

/// Octets of a key, private or public (RFC 7748, section 5).
pub const KEY_LEN: usize = 32;
/// Digits of a key in its file.
pub(crate) const KEY_DIGITS: usize = 2 * KEY_LEN;

/// A public key: who somebody is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A private key; its memory is cleared on drop.
#[derive(Clone)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// The key of these octets, drawn by the caller.
    #[must_use]
    pub const fn from_octets(octets: [u8; KEY_LEN]) -> Self {
        Self(octets)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut pair = curve();
        pair.set(&self.0);
        PublicKey(pair.pubkey().try_into().expect("an X25519 public key has 32 octets"))
    }

    /// The octets, for the handshake.
    pub(crate) fn octets(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving out a store that nothing reads.
        core::hint::black_box(&self.0);
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

pub(crate) fn parse_digits(text: &[u8]) -> Option<[u8; KEY_LEN]> {
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

fn curve() -> Box<dyn Dh> {
    DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("the handshake library has X25519")
}

//! Who somebody is: X25519 keys (RFC 7748), the same for sockets of one host and for packets.

use alloc::boxed::Box;
use core::fmt;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::Dh;

pub use vlan_core::key::{KEY_LEN, ParseKeyError, PublicKey};

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

fn curve() -> Box<dyn Dh> {
    DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("the handshake library has X25519")
}

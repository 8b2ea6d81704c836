//! What seals a packet: AES-256-GCM (NIST SP 800-38D), behind a trait so that a host can bring its own.

use crate::packet::wire::TAG_LEN;

/// Octets of a key.
pub const AEAD_KEY_LEN: usize = 32;
/// Octets of a nonce.
pub const AEAD_NONCE_LEN: usize = 12;

/// A packet was not sealed with this key and nonce, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTag;

/// One key of AES-256-GCM. All implementations give the same octets.
pub trait Aead: Sized {
    /// Makes a key ready for use.
    fn new(key: &[u8; AEAD_KEY_LEN]) -> Self;

    /// Encrypts `body` in place; the tag covers it and `clear`. A nonce must be used only once with a key.
    fn seal(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &mut [u8]) -> [u8; TAG_LEN];

    /// Checks the tag over `clear` and `body`, and decrypts `body` in place.
    ///
    /// # Errors
    ///
    /// [`BadTag`]; what `body` holds then is of no use.
    fn open(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag>;
}

//! What seals a packet: AES-256-GCM (NIST SP 800-38D), behind a trait so that a host can bring its own.

use alloc::vec::Vec;

use crate::packet::wire::TAG_LEN;

/// Octets of a key.
pub const AEAD_KEY_LEN: usize = 32;
/// Octets of a nonce.
pub const AEAD_NONCE_LEN: usize = 12;

/// Bodies up to this long are copied to the stack for their tag.
const SCRATCH_LEN: usize = 2048;

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

    /// The tag that [`Aead::seal`] would give; `body` stays as it is. For this the nonce counts as used.
    ///
    /// A body that is not encrypted goes through the cipher nevertheless: with the libraries that there are, this is
    /// eight times as fast as to treat it as further additional data, and no weaker. For one nonce the cipher adds the
    /// same octets to every body, so the hash below the tag still tells any two of them apart.
    fn tag(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &[u8]) -> [u8; TAG_LEN] {
        let mut stack = [0; SCRATCH_LEN];
        let mut heap = Vec::new();
        let scratch = match stack.get_mut(..body.len()) {
            Some(scratch) => {
                scratch.copy_from_slice(body);
                scratch
            }
            None => {
                heap.extend_from_slice(body);
                &mut heap[..]
            }
        };
        self.seal(nonce, clear, scratch)
    }

    /// Checks a tag of [`Aead::tag`].
    ///
    /// # Errors
    ///
    /// [`BadTag`].
    fn check(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &[u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        if is_equal(&self.tag(nonce, clear, body), tag) { Ok(()) } else { Err(BadTag) }
    }
}

/// Compares two tags; takes as long wherever they differ.
fn is_equal(one: &[u8; TAG_LEN], other: &[u8; TAG_LEN]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    core::hint::black_box(differences) == 0
}

//! The key of a pair: what the handshake of a direct association needs besides the keys of both ends, so that no
//! two nodes can have one that no control node granted.

use hkdf::Hkdf;
use sha2::Sha256;
use vlan_core::{PairEpoch, PublicKey, SecretKey};

/// Octets of what names a pair and its epoch.
const INFO_LEN: usize = 32 + 32 + 4;

/// The key of the pair of nodes with these public keys, in either order.
//= spec/server.md#pair-keys
//# The key of a pair MUST be HKDF-SHA256 of the grant key, without salt, with the lower public key, the higher public
//# key and the pair's epoch as info.
pub(super) fn pair_key(grant_key: &SecretKey, a: PublicKey, b: PublicKey, epoch: PairEpoch) -> SecretKey {
    let mut info = [0; INFO_LEN];
    info[..32].copy_from_slice(&a.min(b).0);
    info[32..64].copy_from_slice(&a.max(b).0);
    info[64..].copy_from_slice(&epoch.0.to_le_bytes());
    let derivation = Hkdf::<Sha256>::new(None, grant_key.octets());
    SecretKey::filled(|key| derivation.expand(&info, key).expect("HKDF-SHA256 gives up to 8,160 octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: [u8; 32] = [7; 32];

    fn key(grant: [u8; 32], a: u8, b: u8, epoch: u32) -> SecretKey {
        pair_key(&SecretKey::new(grant), PublicKey([a; 32]), PublicKey([b; 32]), PairEpoch(epoch))
    }

    #[test]
    fn the_key_of_a_pair_is_the_stated_derivation_in_either_order() {
        //= spec/server.md#pair-keys
        //= type=test
        //# The key of a pair MUST be HKDF-SHA256 of the grant key, without salt, with the lower public key, the higher
        //# public key and the pair's epoch as info.
        // Computed with Python's hmac and hashlib, RFC 5869 step by step.
        let expected = [
            0xdf, 0x55, 0x67, 0xdc, 0x43, 0xdd, 0xbc, 0x6d, 0xa0, 0x1d, 0xf1, 0xfe, 0x28, 0xfe, 0x48, 0xbe,
            0x84, 0xf3, 0x57, 0x54, 0x0f, 0xff, 0x4d, 0xc7, 0xf4, 0x70, 0x1f, 0x08, 0x78, 0x09, 0xaf, 0x67,
        ];
        assert_eq!(key(GRANT, 1, 2, 5).octets(), &expected);
        assert_eq!(key(GRANT, 2, 1, 5).octets(), &expected);
    }

    #[test]
    fn another_secret_pair_or_epoch_has_another_key() {
        let base = key(GRANT, 1, 2, 5);
        assert_ne!(base, key([8; 32], 1, 2, 5));
        assert_ne!(base, key(GRANT, 1, 3, 5));
        assert_ne!(base, key(GRANT, 3, 2, 5));
        assert_ne!(base, key(GRANT, 1, 2, 6));
    }
}

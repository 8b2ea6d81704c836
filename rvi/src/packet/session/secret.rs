//! Secrets, and what is derived from them: HKDF (RFC 5869) and HMAC (RFC 2104) with SHA-256.

use core::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::keys::PublicKey;
use crate::packet::wire::TAG_LEN;

/// Octets of a secret.
pub const SECRET_LEN: usize = 32;

/// 32 octets that nobody else may know: never shown, cleared on drop.
#[derive(Clone)]
pub(super) struct Secret([u8; SECRET_LEN]);

impl Secret {
    pub(super) const fn new(octets: [u8; SECRET_LEN]) -> Self {
        Self(octets)
    }

    /// Draws a uniform secret out of key material of any form (HKDF-Extract).
    pub(super) fn extract(salt: &[u8], material: &[u8]) -> Self {
        Self(Hkdf::<Sha256>::extract(Some(salt), material).0.into())
    }

    /// The secret for the purpose that `parts` name, one behind the other (HKDF-Expand). Their lengths must follow from
    /// the first of them.
    pub(super) fn derive(&self, parts: &[&[u8]]) -> Self {
        let mut derived = Self([0; SECRET_LEN]);
        self.expand(parts, &mut derived.0);
        derived
    }

    /// Eight octets for the purpose that `parts` name, as a number.
    pub(super) fn derive_u64(&self, parts: &[&[u8]]) -> u64 {
        let mut octets = [0; 8];
        self.expand(parts, &mut octets);
        u64::from_le_bytes(octets)
    }

    fn expand(&self, parts: &[&[u8]], out: &mut [u8]) {
        let expander = Hkdf::<Sha256>::from_prk(&self.0).expect("a secret is as long as a digest");
        expander.expand_multi_info(parts, out).expect("far less than 255 digests");
    }

    /// A tag over `parts`, one behind the other.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&self.mac(parts).finalize().into_bytes()[..TAG_LEN]);
        tag
    }

    /// True when `tag` is the one over `parts`; takes as long whatever is wrong.
    pub(super) fn verify(&self, parts: &[&[u8]], tag: &[u8; TAG_LEN]) -> bool {
        self.mac(parts).verify_truncated_left(tag).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("a key of any length will do");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    pub(super) const fn octets(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving out a store that nothing reads.
        core::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The key of a cluster's hashes, derived from the platform's grant key: the same on all control nodes, and on no node.
//= spec/cluster.md#keys
//# The key of a cluster's hashes MUST be derived from the platform's grant key, the LAN's number and the cluster's first address.
#[must_use]
pub fn cluster_key(grant_key: &[u8; SECRET_LEN], lan: u16, address: core::net::IpAddr) -> [u64; 2] {
    let grant = Secret::extract(b"weft grant key", grant_key);
    let address = match address {
        core::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
        core::net::IpAddr::V6(address) => address,
    };
    let word = |number: u8| {
        grant.derive_u64(&[b"weft cluster key", &lan.to_le_bytes(), &address.octets(), &[number]])
    };
    [word(0), word(1)]
}

/// What two nodes hold because a control node granted them an association.
#[derive(Clone)]
pub struct PairKey(Secret);

impl PairKey {
    /// Derives the key of two nodes from the platform's grant key; `epoch` changes whenever an older key is to be of no
    /// use any more. The order of the nodes is of no account.
    //= spec/packet-security.md#pair-keys
    //# A pair key MUST be derived from the grant key, both public keys with the lower one first, and the pair's epoch.
    #[must_use]
    pub fn derive(grant_key: &[u8; SECRET_LEN], one: &PublicKey, other: &PublicKey, epoch: u32) -> Self {
        let (lower, higher) = if one <= other { (one, other) } else { (other, one) };
        let grant = Secret::extract(b"weft grant key", grant_key);
        Self(grant.derive(&[b"weft pair key", &lower.0, &higher.0, &epoch.to_le_bytes()]))
    }

    /// The key of these octets, as a grant brings them.
    #[must_use]
    pub const fn from_octets(octets: [u8; SECRET_LEN]) -> Self {
        Self(Secret::new(octets))
    }

    /// The octets, to be put into a grant.
    #[must_use]
    pub const fn octets(&self) -> &[u8; SECRET_LEN] {
        self.0.octets()
    }

    pub(super) const fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairKey")
    }
}

/// Secrets out of one seed, each drawn once: for handshakes, which must not share theirs.
///
/// The host seeds it from the kernel's random numbers, and stirs more in when the process may exist twice (after a
/// snapshot was resumed): two copies of a pool give the same secrets.
#[derive(Clone, Debug)]
pub struct EntropyPool(Secret);

impl EntropyPool {
    /// Starts from 32 random octets.
    #[must_use]
    pub const fn new(seed: [u8; SECRET_LEN]) -> Self {
        Self(Secret::new(seed))
    }

    /// Adds random octets of the host.
    pub fn stir(&mut self, octets: &[u8]) {
        self.0 = Secret::extract(self.0.octets(), octets);
    }

    /// The next 32 octets; what was given before cannot be computed from what is left.
    #[must_use]
    pub fn draw(&mut self) -> [u8; SECRET_LEN] {
        let drawn = self.0.derive(&[b"weft entropy out"]);
        self.0 = self.0.derive(&[b"weft entropy next"]);
        *drawn.octets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_pair_key_depends_on_each_of_its_sources_and_not_on_their_order() {
        //= spec/packet-security.md#pair-keys
        //= type=test
        //# A pair key MUST be derived from the grant key, both public keys with the lower one first, and the pair's epoch.
        let (a, b, c) = (PublicKey([1; 32]), PublicKey([2; 32]), PublicKey([3; 32]));
        let key = |grant: u8, one, other, epoch| *PairKey::derive(&[grant; 32], one, other, epoch).octets();
        let known = key(9, &a, &b, 1);
        assert_eq!(known, key(9, &b, &a, 1));
        for other in [key(8, &a, &b, 1), key(9, &a, &c, 1), key(9, &c, &b, 1), key(9, &a, &b, 2)] {
            assert_ne!(known, other);
        }
    }

    #[test]
    fn a_pair_key_is_the_stated_derivation() {
        // Computed with Python's hmac and hashlib, RFC 5869 step by step.
        let key = PairKey::derive(&[7; 32], &PublicKey([2; 32]), &PublicKey([1; 32]), 5);
        let hex: std::string::String = key.octets().iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!(hex, "9d847a83fd26442e932f0a19c67c7b05582de9ee17d0b62b4babcf503e893e52");
    }

    #[test]
    fn the_derivation_is_hkdf_with_sha_256() {
        // RFC 5869, appendix A.1: its output's first 32 octets.
        let salt: [u8; 13] = core::array::from_fn(|i| i as u8);
        let info: [u8; 10] = core::array::from_fn(|i| 0xf0 + i as u8);
        let derived = Secret::extract(&salt, &[0x0b; 22]).derive(&[&info[..4], &info[4..]]);
        let hex: std::string::String = derived.octets().iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!(hex, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        let key = PairKey::from_octets([0xab; 32]);
        let text = format!("{key:?} {:?} {:?}", key.secret(), EntropyPool::new([0xab; 32]));
        assert!(!text.contains("ab,") && !text.contains("171"), "{text}");
    }

    #[test]
    fn a_pool_gives_no_secret_twice_until_it_is_copied_and_a_stirred_copy_goes_its_own_way() {
        let mut pool = EntropyPool::new([1; 32]);
        let first = pool.draw();
        assert_ne!(first, pool.draw());
        let mut copy = pool.clone();
        assert_eq!(pool.draw(), copy.draw());
        copy.stir(b"resumed");
        assert_ne!(pool.draw(), copy.draw());
    }

    #[test]
    fn a_clusters_key_is_its_own() {
        //= spec/cluster.md#keys
        //= type=test
        //# The key of a cluster's hashes MUST be derived from the platform's grant key, the LAN's number and the cluster's first address.
        let address = |tail: u8| core::net::IpAddr::from([10, 1, 0, tail]);
        let key = cluster_key(&[7; SECRET_LEN], 10, address(100));
        assert_eq!(key, cluster_key(&[7; SECRET_LEN], 10, address(100)));
        assert_ne!(key[0], key[1]);
        let others = [
            cluster_key(&[8; SECRET_LEN], 10, address(100)),
            cluster_key(&[7; SECRET_LEN], 11, address(100)),
            cluster_key(&[7; SECRET_LEN], 10, address(101)),
        ];
        assert!(others.iter().all(|other| other[0] != key[0] && other[1] != key[1]));
    }
}

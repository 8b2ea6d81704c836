//! AES-256-GCM by two libraries: one in Rust alone, for every target, and a faster one that needs an operating system's
//! C compiler.

use aes_gcm::aead::{AeadInPlace, KeyInit};

use super::aead::{AEAD_KEY_LEN, AEAD_NONCE_LEN, Aead, BadTag};
use crate::packet::wire::TAG_LEN;

/// The cipher that sessions use unless their host brings another.
#[cfg(feature = "std")]
pub type Aes256Gcm = FastAes256Gcm;
/// The cipher that sessions use unless their host brings another.
#[cfg(not(feature = "std"))]
pub type Aes256Gcm = PortableAes256Gcm;

/// AES-256-GCM by the crate `aes-gcm`.
pub struct PortableAes256Gcm(aes_gcm::Aes256Gcm);

impl Aead for PortableAes256Gcm {
    fn new(key: &[u8; AEAD_KEY_LEN]) -> Self {
        Self(aes_gcm::Aes256Gcm::new(key.into()))
    }

    fn seal(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self.0.encrypt_in_place_detached(nonce.into(), clear, body);
        tag.expect("a packet is far below the cipher's 64 GiB").into()
    }

    fn open(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        self.0.decrypt_in_place_detached(nonce.into(), clear, body, tag.into()).map_err(|_| BadTag)
    }
}

/// AES-256-GCM by the crate `ring`: several times as fast.
#[cfg(feature = "std")]
pub struct FastAes256Gcm(ring::aead::LessSafeKey);

#[cfg(feature = "std")]
impl Aead for FastAes256Gcm {
    fn new(key: &[u8; AEAD_KEY_LEN]) -> Self {
        let key = ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key);
        Self(ring::aead::LessSafeKey::new(key.expect("a key has the cipher's length")))
    }

    fn seal(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = ring::aead::Nonce::assume_unique_for_key(*nonce);
        let sealed = self.0.seal_in_place_separate_tag(nonce, ring::aead::Aad::from(clear), body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(sealed.expect("a packet is far below the cipher's 64 GiB").as_ref());
        tag
    }

    fn open(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        let nonce = ring::aead::Nonce::assume_unique_for_key(*nonce);
        let clear = ring::aead::Aad::from(clear);
        self.0.open_in_place_separate_tag(nonce, clear, (*tag).into(), body, 0..).map_err(|_| BadTag)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation (GCM)" (McGrew and Viega).
    fn check_known_answer<A: Aead>() {
        let half = "feffe9928665731c6d6a8f9467308308";
        let key: [u8; 32] = octets(&[half, half].concat()).try_into().unwrap();
        let nonce: [u8; 12] = octets("cafebabefacedbaddecaf888").try_into().unwrap();
        let clear = octets("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = octets(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                      8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662";
        let mut body = plain.clone();
        let cipher = A::new(&key);
        let tag = cipher.seal(&nonce, &clear, &mut body);
        let hex = |octets: &[u8]| octets.iter().map(|o| std::format!("{o:02x}")).collect::<String>();
        assert_eq!(hex(&body), sealed.replace(char::is_whitespace, ""));
        assert_eq!(hex(&tag), "76fc6ece0f4e1768cddf8853bb2d551b");
        assert_eq!(cipher.open(&nonce, &clear, &mut body.clone(), &[0; 16]), Err(BadTag));
        cipher.open(&nonce, &clear, &mut body, &tag).unwrap();
        assert_eq!(body, plain);
    }

    #[test]
    fn known_answers_come_out() {
        check_known_answer::<PortableAes256Gcm>();
        check_known_answer::<Aes256Gcm>();
    }

    #[cfg(feature = "std")]
    proptest! {
        #[test]
        fn both_libraries_seal_alike(
            key: [u8; 32], nonce: [u8; 12],
            clear in proptest::collection::vec(any::<u8>(), 0..200),
            body in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let (fast, portable) = (FastAes256Gcm::new(&key), PortableAes256Gcm::new(&key));
            let (mut one, mut other) = (body.clone(), body.clone());
            let tag = fast.seal(&nonce, &clear, &mut one);
            prop_assert_eq!(tag, portable.seal(&nonce, &clear, &mut other));
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(portable.open(&nonce, &clear, &mut one, &tag), Ok(()));
            prop_assert_eq!(fast.open(&nonce, &clear, &mut other, &tag), Ok(()));
            prop_assert!(one == body && other == body);
            prop_assert_eq!(fast.tag(&nonce, &clear, &body), tag);
            prop_assert_eq!(portable.check(&nonce, &clear, &body, &tag), Ok(()));
            let mut changed = tag;
            changed[usize::from(key[0] % 16)] ^= 1 << (key[1] % 8);
            prop_assert_eq!(fast.check(&nonce, &clear, &body, &changed), Err(BadTag));
        }
    }
}

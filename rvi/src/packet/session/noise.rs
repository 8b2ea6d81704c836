//! The Noise handshakes (The Noise Protocol Framework, revision 34): `KKpsk0` between nodes, which know each other's
//! keys by a grant, and `IK` from a node to a control node, which learns who comes.

use alloc::boxed::Box;

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::secret::{PairKey, SECRET_LEN, Secret};
use crate::keys::{KEY_LEN, PrivateKey, PublicKey};

const PAIR: &str = "Noise_KKpsk0_25519_ChaChaPoly_BLAKE2s";
const CONTROL_NODE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// What the two ends know of each other beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Knowledge<'a> {
    /// Both keys, and the pair key of a grant.
    Pair(&'a PublicKey, &'a PairKey),
    /// The control node's key.
    ControlNode(&'a PublicKey),
    /// Nothing yet: a control node.
    Nobody,
}

/// One end of a handshake of two messages.
pub(super) struct Noise(Box<HandshakeState>);

impl Noise {
    /// The end that speaks first; `entropy` is for this handshake alone.
    pub(super) fn initiator(
        key: &PrivateKey,
        knows: Knowledge<'_>,
        prologue: &[u8],
        entropy: &[u8; SECRET_LEN],
    ) -> Self {
        let state = builder(key, knows, prologue, entropy).build_initiator();
        Self(Box::new(state.expect("an initiator has the keys that its pattern needs")))
    }

    /// The end that answers.
    pub(super) fn responder(
        key: &PrivateKey,
        knows: Knowledge<'_>,
        prologue: &[u8],
        entropy: &[u8; SECRET_LEN],
    ) -> Self {
        let state = builder(key, knows, prologue, entropy).build_responder();
        Self(Box::new(state.expect("a responder has the keys that its pattern needs")))
    }

    /// Writes this end's message, which carries `payload`; gives its length.
    pub(super) fn write(&mut self, payload: &[u8], out: &mut [u8]) -> usize {
        self.0.write_message(payload, out).expect("the message is due and has room")
    }

    /// Reads the other end's message with a payload of `N` octets. A message that fails changes nothing.
    pub(super) fn read<const N: usize>(&mut self, message: &[u8]) -> Option<[u8; N]> {
        let mut payload = [0; N];
        // The library would panic on a message that has no room for a tag.
        if message.len() < KEY_LEN + N {
            return None;
        }
        (self.0.read_message(message, &mut payload).ok()? == N).then_some(payload)
    }

    /// Whose key the other end proved or is to prove.
    pub(super) fn peer(&self) -> Option<PublicKey> {
        self.0.get_remote_static()?.try_into().ok().map(PublicKey)
    }

    /// What both ends share after both messages.
    pub(super) fn finish(mut self) -> Secret {
        debug_assert!(self.0.is_handshake_finished(), "both messages have passed");
        let (mut there, mut back) = self.0.dangerously_get_raw_split();
        let mut material = [0; 2 * SECRET_LEN];
        material[..SECRET_LEN].copy_from_slice(&there);
        material[SECRET_LEN..].copy_from_slice(&back);
        let secret = Secret::extract(self.0.get_handshake_hash(), &material);
        for octets in [&mut there[..], &mut back, &mut material] {
            octets.fill(0);
            core::hint::black_box(&octets);
        }
        secret
    }
}

fn builder<'a>(
    key: &'a PrivateKey,
    knows: Knowledge<'a>,
    prologue: &'a [u8],
    entropy: &[u8; SECRET_LEN],
) -> Builder<'a> {
    let (pattern, peer, pair_key) = match knows {
        Knowledge::Pair(peer, pair_key) => (PAIR, Some(peer), Some(pair_key)),
        Knowledge::ControlNode(peer) => (CONTROL_NODE, Some(peer), None),
        Knowledge::Nobody => (CONTROL_NODE, None, None),
    };
    let pattern = pattern.parse().expect("the pattern is one that the library knows");
    let mut builder = Builder::with_resolver(pattern, Box::new(Given(Secret::new(*entropy))));
    builder = builder.local_private_key(key.octets()).expect("set once");
    builder = builder.prologue(prologue).expect("set once");
    if let Some(peer) = peer {
        builder = builder.remote_public_key(&peer.0).expect("set once");
    }
    if let Some(pair_key) = pair_key {
        builder = builder.psk(0, pair_key.octets()).expect("set once");
    }
    builder
}

/// The library's own primitives, with the entropy of the host.
struct Given(Secret);

impl CryptoResolver for Given {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Gives its octets once: an end draws one ephemeral key in a handshake.
struct Once(Option<Secret>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let secret = self.0.take().ok_or(snow::Error::Rng)?;
        let drawn = secret.octets().get(..out.len()).ok_or(snow::Error::Rng)?;
        out.copy_from_slice(drawn);
        Ok(())
    }
}

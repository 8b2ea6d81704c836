//! Who is at the other end: Noise IK between a node and a control node (The Noise Protocol Framework, revision
//! 34, section 7.5).
//!
//! Pure machines over datagrams. The node knows the control node's public key beforehand, the control node each
//! node's. What the two tell each other about their memory afterwards is sealed with the handshake's keys: the
//! first sealed datagram proves that the node is there now and does not replay an old HELLO.

use core::fmt;
use std::boxed::Box;

use snow::{Builder, HandshakeState, TransportState};
use vlan_core::{NodeNumber, ProcessId};

use crate::keys::{PrivateKey, PublicKey};

use super::wire::{self, BODY_LEN, DATAGRAM_LEN_MAX, DatagramBuf, Kind, NodeHello, RefusalReason, VERSION};

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: [u8; 5] = [b'w', b'e', b'f', b't', VERSION];

/// The other end did not prove what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not a datagram that belongs here; the values are its length and its kind, 0 when it has none.
    Unexpected {
        /// Octets of the datagram.
        len: usize,
        /// Its kind.
        kind: u8,
    },
    /// The other end speaks another version of set-up.
    Version {
        /// Its version.
        peer: u8,
        /// Ours.
        own: u8,
    },
    /// The proof failed: wrong key, changed or replayed octets.
    Proof,
    /// Nobody with this key is known.
    UnknownKey(PublicKey),
    /// The key is that of another node.
    NodeNumber {
        /// What the peer says it is.
        claimed: NodeNumber,
        /// Whose key it proved.
        proven: NodeNumber,
    },
    /// The control node refused this node.
    Refused(RefusalReason),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { len, kind } => {
                write!(f, "an unexpected datagram of {len} octets and kind {kind} in the handshake")
            }
            Self::Version { peer, own } => {
                write!(f, "the peer speaks version {peer} of leg set-up, we speak {own}")
            }
            Self::Proof => {
                f.write_str("the handshake failed: a wrong key, or a datagram changed or replayed")
            }
            Self::UnknownKey(key) => write!(f, "no node has the public key {key}"),
            Self::NodeNumber { claimed, proven } => {
                write!(f, "a process with the key of node {proven} says that it is node {claimed}")
            }
            Self::Refused(reason) => write!(f, "refused by the control node: {reason}"),
        }
    }
}

impl core::error::Error for HandshakeError {}

fn unexpected(datagram: &[u8]) -> HandshakeError {
    let kind = wire::split_header(datagram).map_or(0, |(_, kind, _)| kind);
    HandshakeError::Unexpected { len: datagram.len(), kind }
}

fn builder() -> Builder<'static> {
    let pattern = PATTERN.parse().expect("the pattern is one that the library knows");
    Builder::new(pattern).prologue(&PROLOGUE).expect("the prologue is set once")
}

/// Opens one handshake message whose payload is one body.
fn read_body(state: &mut HandshakeState, message: &[u8]) -> Result<[u8; BODY_LEN], HandshakeError> {
    let mut payload = [0; DATAGRAM_LEN_MAX];
    let len = state.read_message(message, &mut payload).map_err(|_| HandshakeError::Proof)?;
    payload[..len].try_into().map_err(|_| HandshakeError::Proof)
}

/// Appends one handshake message that carries `body`.
fn write_body(state: &mut HandshakeState, body: &[u8; BODY_LEN], out: &mut DatagramBuf) {
    let len = state.write_message(body, out.room()).expect("a datagram has room for a handshake message");
    out.advance(len);
}

fn into_seal(state: HandshakeState) -> Seal {
    Seal(Box::new(state.into_transport_mode().expect("both messages have passed")))
}

/// The node's half.
pub struct Initiator(Box<HandshakeState>);

impl Initiator {
    /// Begins: the datagram goes to the control node that has `control_node` as its key.
    #[must_use]
    pub fn new(key: &PrivateKey, control_node: &PublicKey, hello: &NodeHello) -> (Self, DatagramBuf) {
        let builder = builder().local_private_key(key.octets()).expect("the key is set once");
        let builder = builder.remote_public_key(&control_node.0).expect("the key is set once");
        let mut state = Box::new(builder.build_initiator().expect("both keys are there"));
        let mut datagram = DatagramBuf::empty();
        datagram.start(Kind::Hello);
        write_body(&mut state, &hello.emit(), &mut datagram);
        (Self(state), datagram)
    }

    /// Takes the control node's answer: which life of it this is, and what seals the rest.
    ///
    /// # Errors
    ///
    /// The answer does not prove the control node's key, or it is a refusal.
    //= spec/leg-setup.md#identity
    //# A node MUST tell nothing but HELLO to a control node that has not proven its key.
    pub fn handle_answer(mut self, datagram: &[u8]) -> Result<(ProcessId, Seal), HandshakeError> {
        let Some((version, kind, message)) = wire::split_header(datagram) else {
            return Err(unexpected(datagram));
        };
        if kind == Kind::Refused as u8 {
            let reason = message.first().copied().map_or(RefusalReason::Other(0), RefusalReason::from_code);
            return Err(match reason {
                RefusalReason::Version => HandshakeError::Version { peer: version, own: VERSION },
                reason => HandshakeError::Refused(reason),
            });
        }
        if version != VERSION {
            return Err(HandshakeError::Version { peer: version, own: VERSION });
        }
        if kind != Kind::Answer as u8 {
            return Err(unexpected(datagram));
        }
        let body = read_body(&mut self.0, message)?;
        let process = wire::parse_answer(&body).map_err(HandshakeError::Refused)?;
        Ok((process, into_seal(*self.0)))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator")
    }
}

/// The control node's half.
pub struct Responder(Box<HandshakeState>);

impl Responder {
    /// Waits for HELLO.
    #[must_use]
    pub fn new(key: &PrivateKey) -> Self {
        let builder = builder().local_private_key(key.octets()).expect("the key is set once");
        Self(Box::new(builder.build_responder().expect("the key is there")))
    }

    /// Takes HELLO. `lookup` says which node has a key; `process` is this control node's life. `reply` is what
    /// to send in either case, if it is not empty.
    ///
    /// A node that passed has not yet proven that it is there *now*: that is proven by the first datagram that
    /// the returned [`Seal`] opens.
    ///
    /// # Errors
    ///
    /// The peer is not a node that we know, or not the one it claims to be.
    //= spec/leg-setup.md#identity
    //# A control node MUST tell nothing to a peer that has not proven the key of a node it knows.
    //= spec/leg-setup.md#identity
    //# The node number in HELLO MUST be that of the node whose key was proven, or the node is refused.
    pub fn handle_hello(
        mut self,
        datagram: &[u8],
        lookup: &mut dyn FnMut(&PublicKey) -> Option<NodeNumber>,
        process: ProcessId,
        reply: &mut DatagramBuf,
    ) -> Result<(NodeHello, Seal), HandshakeError> {
        let message = hello_message(datagram, reply)?;
        let body = read_body(&mut self.0, message)?;
        let key = self.0.get_remote_static().and_then(|key| key.try_into().ok()).map(PublicKey);
        let key = key.ok_or(HandshakeError::Proof)?;
        let proven = lookup(&key).ok_or(HandshakeError::UnknownKey(key))?;
        let hello = NodeHello::parse(&body).ok_or(HandshakeError::Proof)?;
        let is_right = hello.node == proven;
        let answer = if is_right { Ok(process) } else { Err(RefusalReason::NodeNumber) };
        reply.start(Kind::Answer);
        write_body(&mut self.0, &wire::emit_answer(answer), reply);
        if !is_right {
            return Err(HandshakeError::NodeNumber { claimed: hello.node, proven });
        }
        Ok((hello, into_seal(*self.0)))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// The handshake message in a HELLO of our version; else an error, and perhaps a refusal to send.
//= spec/leg-setup.md#versions
//# An end that gets a datagram of another version MUST end the set-up, and a control node says so in REFUSED.
fn hello_message<'d>(datagram: &'d [u8], reply: &mut DatagramBuf) -> Result<&'d [u8], HandshakeError> {
    let Some((version, kind, message)) = wire::split_header(datagram) else {
        return Err(unexpected(datagram));
    };
    if kind != Kind::Hello as u8 {
        return Err(unexpected(datagram));
    }
    if version != VERSION {
        reply.start(Kind::Refused);
        reply.push(&[RefusalReason::Version.code()]);
        return Err(HandshakeError::Version { peer: version, own: VERSION });
    }
    Ok(message)
}

/// Seals and opens the datagrams behind a handshake, in order.
pub struct Seal(Box<TransportState>);

impl Seal {
    /// Appends `body`, sealed.
    pub(super) fn seal(&mut self, body: &[u8; BODY_LEN], out: &mut DatagramBuf) {
        let len = self.0.write_message(body, out.room()).expect("a datagram has room for a sealed body");
        out.advance(len);
    }

    /// Opens what the other end sealed; `None` when it did not.
    pub(super) fn open(&mut self, message: &[u8]) -> Option<[u8; BODY_LEN]> {
        let mut payload = [0; DATAGRAM_LEN_MAX];
        let len = self.0.read_message(message, &mut payload).ok()?;
        payload[..len].try_into().ok()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;
    use vlan_core::LegNumber;

    const HELLO: NodeHello =
        NodeHello { node: NodeNumber(7), process: ProcessId(70), leg: LegNumber(1), session: 3 };

    struct Pair {
        node: PrivateKey,
        control_node: PrivateKey,
    }

    impl Pair {
        fn new() -> Self {
            Self { node: PrivateKey::generate(), control_node: PrivateKey::generate() }
        }

        fn hello(&self) -> (Initiator, DatagramBuf) {
            Initiator::new(&self.node, &self.control_node.public(), &HELLO)
        }

        fn respond(&self, datagram: &[u8]) -> (Result<(NodeHello, Seal), HandshakeError>, DatagramBuf) {
            let mut reply = DatagramBuf::empty();
            let known = self.node.public();
            let mut lookup = |key: &PublicKey| (*key == known).then_some(NodeNumber(7));
            let result = Responder::new(&self.control_node).handle_hello(
                datagram,
                &mut lookup,
                ProcessId(1),
                &mut reply,
            );
            (result, reply)
        }
    }

    #[test]
    fn both_ends_learn_who_the_other_is_and_share_keys() {
        let pair = Pair::new();
        let (initiator, hello) = pair.hello();
        let (responded, answer) = pair.respond(hello.as_slice());
        let (seen, mut control_node_seal) = responded.unwrap();
        assert_eq!(seen, HELLO);
        let (process, mut node_seal) = initiator.handle_answer(answer.as_slice()).unwrap();
        assert_eq!(process, ProcessId(1));
        let mut datagram = DatagramBuf::empty();
        node_seal.seal(&[5; BODY_LEN], &mut datagram);
        assert_eq!(control_node_seal.open(datagram.as_slice()), Some([5; BODY_LEN]));
        assert_eq!(control_node_seal.open(datagram.as_slice()), None, "a replay does not open");
    }

    #[test]
    fn a_node_with_an_unknown_key_is_refused_and_told_nothing() {
        //= spec/leg-setup.md#identity
        //= type=test
        //# A control node MUST tell nothing to a peer that has not proven the key of a node it knows.
        let mut pair = Pair::new();
        let stranger = PrivateKey::generate();
        let (_, hello) = Initiator::new(&stranger, &pair.control_node.public(), &HELLO);
        let (result, reply) = pair.respond(hello.as_slice());
        let error = result.unwrap_err();
        assert_eq!(error, HandshakeError::UnknownKey(stranger.public()));
        assert!(error.to_string().contains(&stranger.public().to_string()), "{error}");
        assert!(reply.is_empty());
        // Nor does a node that took another for its control node get anywhere.
        let (_, hello) = pair.hello();
        pair.control_node = PrivateKey::generate();
        let (result, reply) = pair.respond(hello.as_slice());
        assert_eq!(result.unwrap_err(), HandshakeError::Proof);
        assert!(reply.is_empty());
    }

    #[test]
    fn a_node_that_claims_the_number_of_another_is_refused() {
        //= spec/leg-setup.md#identity
        //= type=test
        //# The node number in HELLO MUST be that of the node whose key was proven, or the node is refused.
        let pair = Pair::new();
        let claim = NodeHello { node: NodeNumber(8), ..HELLO };
        let (initiator, hello) = Initiator::new(&pair.node, &pair.control_node.public(), &claim);
        let (result, answer) = pair.respond(hello.as_slice());
        let expected = HandshakeError::NodeNumber { claimed: NodeNumber(8), proven: NodeNumber(7) };
        assert_eq!(result.unwrap_err(), expected);
        let refused = initiator.handle_answer(answer.as_slice()).unwrap_err();
        assert_eq!(refused, HandshakeError::Refused(RefusalReason::NodeNumber));
    }

    #[test]
    fn a_node_tells_nothing_more_to_a_control_node_without_the_key() {
        //= spec/leg-setup.md#identity
        //= type=test
        //# A node MUST tell nothing but HELLO to a control node that has not proven its key.
        let pair = Pair::new();
        let (_, other_hello) = pair.hello();
        let (_, other_answer) = pair.respond(other_hello.as_slice());
        let (initiator, _) = pair.hello();
        // An answer to another HELLO is a replay here.
        assert_eq!(initiator.handle_answer(other_answer.as_slice()).unwrap_err(), HandshakeError::Proof);
    }

    #[test]
    fn every_changed_or_shortened_octet_is_noticed() {
        let pair = Pair::new();
        let (_, hello) = pair.hello();
        for at in 4..hello.as_slice().len() {
            let mut wrong: Vec<u8> = hello.as_slice().to_vec();
            wrong[at] ^= 0x40;
            let (result, reply) = pair.respond(&wrong);
            assert!(result.is_err() && reply.is_empty(), "octet {at}");
            assert!(pair.respond(&hello.as_slice()[..at]).0.is_err(), "cut at {at}");
        }
        let (_, answer) = pair.respond(hello.as_slice());
        for at in 0..answer.as_slice().len() {
            let (initiator, hello) = pair.hello();
            let (_, answer) = pair.respond(hello.as_slice());
            let mut wrong = answer.as_slice().to_vec();
            wrong[at] ^= 0x40;
            assert!(initiator.handle_answer(&wrong).is_err(), "octet {at}");
            let (initiator, _) = pair.hello();
            assert!(initiator.handle_answer(&answer.as_slice()[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_refused_with_the_reason() {
        //= spec/leg-setup.md#versions
        //= type=test
        //# An end that gets a datagram of another version MUST end the set-up, and a control node says so in REFUSED.
        let pair = Pair::new();
        let (initiator, hello) = pair.hello();
        let mut newer = hello.as_slice().to_vec();
        newer[2] = 9;
        let (result, reply) = pair.respond(&newer);
        assert_eq!(result.unwrap_err(), HandshakeError::Version { peer: 9, own: VERSION });
        let error = initiator.handle_answer(reply.as_slice()).unwrap_err();
        assert_eq!(error, HandshakeError::Version { peer: VERSION, own: VERSION });
        let (initiator, _) = pair.hello();
        let mut older = reply.as_slice().to_vec();
        older[2] = 3;
        let error = initiator.handle_answer(&older).unwrap_err();
        assert_eq!(error, HandshakeError::Version { peer: 3, own: VERSION });
    }
}

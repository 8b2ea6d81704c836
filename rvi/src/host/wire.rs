//! The datagrams of a leg's set-up, and the one that introduces two nodes to each other.
//!
//! Each starts with four octets: `WL`, the version, the kind. Integers are little-endian. `spec/leg-setup.md`
//! has the layouts.

use core::fmt;
use vlan_core::{LanId, LegNumber, NodeNumber, PairEpoch, ProcessId};

/// The version of set-up and shared memory that this code speaks.
pub const VERSION: u8 = 1;
/// Room for any datagram of a leg's socket: the longest is HELLO with 4 + 96 + 16 + 16 octets.
pub const DATAGRAM_LEN_MAX: usize = 256;

/// Octets in front of every datagram that is not a doorbell.
pub(super) const HEADER_LEN: usize = 4;
/// Octets of the bodies of HELLO, ANSWER and SETUP before they are sealed.
pub(super) const BODY_LEN: usize = 16;

const MAGIC: [u8; 2] = *b"WL";

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Node to control node: the first handshake message.
    Hello = 1,
    /// Control node to node: the second.
    Answer = 2,
    /// Both ways, with one descriptor: here is my memory.
    Setup = 3,
    /// Control node to node, with one descriptor: here is your end of a leg to a peer.
    PeerEnd = 4,
    /// Control node to node, in the clear: versions differ.
    Refused = 5,
    /// Control node to node, with one descriptor: here is the arena of a LAN.
    Arena = 6,
}

/// A datagram to send.
#[derive(Clone)]
pub struct DatagramBuf {
    octets: [u8; DATAGRAM_LEN_MAX],
    len: usize,
}

impl DatagramBuf {
    /// One without octets: nothing to send.
    #[must_use]
    pub const fn empty() -> Self {
        Self { octets: [0; DATAGRAM_LEN_MAX], len: 0 }
    }

    /// Starts a datagram of `kind`.
    pub(super) fn start(&mut self, kind: Kind) {
        self.octets[..HEADER_LEN].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION, kind as u8]);
        self.len = HEADER_LEN;
    }

    /// Appends octets.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }

    /// The room behind what is there.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.len..]
    }

    /// Counts `len` octets that were written to the room.
    pub(super) fn advance(&mut self, len: usize) {
        self.len += len;
    }

    /// The octets to send.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for DatagramBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The version and kind octets of a datagram, and what follows; `None` for anything that has no header.
pub(super) fn split_header(datagram: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (header, body) = datagram.split_first_chunk::<HEADER_LEN>()?;
    (header[..2] == MAGIC).then_some((header[2], header[3], body))
}

/// Why a control node refuses a node that proved a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The node speaks another version of set-up.
    Version,
    /// The key belongs to another node number than the one claimed.
    NodeNumber,
    /// A reason that this version does not know.
    Other(u8),
}

impl RefusalReason {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::NodeNumber => 2,
            Self::Other(code) => code,
        }
    }

    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::NodeNumber,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("it speaks another version of leg set-up"),
            Self::NodeNumber => f.write_str("the key belongs to another node"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// What a node says about itself and the leg when it connects to a control node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHello {
    /// The node.
    pub node: NodeNumber,
    /// Which life of it.
    pub process: ProcessId,
    /// Which leg of the association this socket becomes.
    pub leg: LegNumber,
    /// The node's number of the session that the leg is meant for; 0 where there is none.
    pub session: u32,
}

impl NodeHello {
    /// Version, leg, node u16, session u32, process u64.
    pub(super) fn emit(&self) -> [u8; BODY_LEN] {
        let mut body = [0; BODY_LEN];
        body[0] = VERSION;
        body[1] = self.leg.0;
        body[2..4].copy_from_slice(&self.node.0.to_le_bytes());
        body[4..8].copy_from_slice(&self.session.to_le_bytes());
        body[8..16].copy_from_slice(&self.process.0.to_le_bytes());
        body
    }

    /// `None` when the version inside is another one.
    pub(super) fn parse(body: &[u8; BODY_LEN]) -> Option<Self> {
        let node = NodeNumber(u16::from_le_bytes([body[2], body[3]]));
        let (leg, session) = (LegNumber(body[1]), u32_at(body, 4));
        (body[0] == VERSION).then_some(Self { node, process: process_at(body), leg, session })
    }
}

/// What a control node answers: its process, or why not.
pub(super) fn emit_answer(answer: Result<ProcessId, RefusalReason>) -> [u8; BODY_LEN] {
    let mut body = [0; BODY_LEN];
    body[0] = VERSION;
    match answer {
        Ok(process) => body[8..16].copy_from_slice(&process.0.to_le_bytes()),
        Err(reason) => body[1] = reason.code(),
    }
    body
}

/// The inverse of [`emit_answer`].
pub(super) fn parse_answer(body: &[u8; BODY_LEN]) -> Result<ProcessId, RefusalReason> {
    match (body[0], body[1]) {
        (VERSION, 0) => Ok(process_at(body)),
        (VERSION, code) => Err(RefusalReason::from_code(code)),
        _ => Err(RefusalReason::Version),
    }
}

/// What each end says about the memory that it offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetupBody {
    /// Octets of the memfd.
    pub region_len: u32,
    /// A control node's number of the session that the leg is in; else 0.
    pub number: u32,
    /// This end's random part of the session's id.
    pub session: u64,
}

impl SetupBody {
    /// Region length u32, number u32, session u64.
    pub fn emit(&self) -> [u8; BODY_LEN] {
        let mut body = [0; BODY_LEN];
        body[0..4].copy_from_slice(&self.region_len.to_le_bytes());
        body[4..8].copy_from_slice(&self.number.to_le_bytes());
        body[8..16].copy_from_slice(&self.session.to_le_bytes());
        body
    }

    pub fn parse(body: &[u8; BODY_LEN]) -> Self {
        Self { region_len: u32_at(body, 0), number: u32_at(body, 4), session: process_at(body).0 }
    }
}

/// A control node introduces a peer: the descriptor beside it is this node's end of the leg's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerEnd {
    /// The peer at the other end.
    pub peer: NodeNumber,
    /// Which life of the peer.
    pub peer_process: ProcessId,
    /// Which leg of the association with that peer.
    pub leg: LegNumber,
    /// Which of their associations the leg was made for, as the control node counts them from 1.
    pub epoch: PairEpoch,
}

impl PeerEnd {
    pub(super) fn emit(&self) -> DatagramBuf {
        let session = self.epoch.0;
        let hello = NodeHello { node: self.peer, process: self.peer_process, leg: self.leg, session };
        let mut datagram = DatagramBuf::empty();
        datagram.start(Kind::PeerEnd);
        datagram.push(&hello.emit());
        datagram
    }

    /// `None` for anything but a whole PEER_END of this version, for an association that there can be.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let (VERSION, kind, body) = split_header(datagram)? else { return None };
        if kind != Kind::PeerEnd as u8 {
            return None;
        }
        let hello = NodeHello::parse(body.try_into().ok()?).filter(|hello| hello.session != 0)?;
        let epoch = PairEpoch(hello.session);
        Some(Self { peer: hello.node, peer_process: hello.process, leg: hello.leg, epoch })
    }
}

/// A control node gives a node the broadcast arena of a LAN: the descriptor beside it is its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaOffer {
    /// The LAN.
    pub lan: LanId,
    /// Octets of the memory.
    pub len: u32,
}

impl ArenaOffer {
    /// Version, reserved, LAN u16, length u32, eight reserved.
    pub(super) fn emit(&self) -> DatagramBuf {
        let mut body = [0; BODY_LEN];
        body[0] = VERSION;
        body[2..4].copy_from_slice(&self.lan.0.to_le_bytes());
        body[4..8].copy_from_slice(&self.len.to_le_bytes());
        let mut datagram = DatagramBuf::empty();
        datagram.start(Kind::Arena);
        datagram.push(&body);
        datagram
    }

    /// `None` for anything but a whole ARENA of this version.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let (VERSION, kind, body) = split_header(datagram)? else { return None };
        let body: &[u8; BODY_LEN] = body.try_into().ok()?;
        let is_arena = kind == Kind::Arena as u8 && body[0] == VERSION;
        is_arena.then(|| Self { lan: LanId(u16::from_le_bytes([body[2], body[3]])), len: u32_at(body, 4) })
    }
}

fn u32_at(body: &[u8; BODY_LEN], at: usize) -> u32 {
    u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

fn process_at(body: &[u8; BODY_LEN]) -> ProcessId {
    let mut octets = [0; 8];
    octets.copy_from_slice(&body[8..16]);
    ProcessId(u64::from_le_bytes(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: PeerEnd = PeerEnd {
        peer: NodeNumber(9),
        peer_process: ProcessId(8),
        leg: LegNumber(1),
        epoch: PairEpoch(0x0a0b_0c0d),
    };

    #[test]
    fn bodies_round_trip() {
        let hello = NodeHello {
            node: NodeNumber(0x102),
            process: ProcessId(0x0304_0506_0708_090a),
            leg: LegNumber(1),
            session: 0x0b0c_0d0e,
        };
        assert_eq!(NodeHello::parse(&hello.emit()), Some(hello));
        for answer in [Ok(ProcessId(7)), Err(RefusalReason::NodeNumber), Err(RefusalReason::Other(99))] {
            assert_eq!(parse_answer(&emit_answer(answer)), answer);
        }
        let setup = SetupBody { region_len: 0x0102_0304, number: 7, session: u64::MAX - 1 };
        assert_eq!(SetupBody::parse(&setup.emit()), setup);
        assert_eq!(PeerEnd::parse(END.emit().as_slice()), Some(END));
    }

    #[test]
    fn an_introduction_is_laid_out_as_the_specification_says() {
        let octets = [
            0x57, 0x4c, 1, 4, // WL, version, kind
            1, 1, 9, 0, // version, leg, node
            0x0d, 0x0c, 0x0b, 0x0a, // epoch
            8, 0, 0, 0, 0, 0, 0, 0, // process
        ];
        assert_eq!(END.emit().as_slice(), octets);
    }

    #[test]
    fn an_introduction_to_an_association_that_there_cannot_be_is_none() {
        let none = PeerEnd { epoch: PairEpoch(0), ..END };
        assert_eq!(PeerEnd::parse(none.emit().as_slice()), None);
        let octets = END.emit().as_slice().to_vec();
        for len in 0..octets.len() {
            assert_eq!(PeerEnd::parse(&octets[..len]), None);
        }
        assert_eq!(PeerEnd::parse(&[&octets[..], &[0]].concat()), None);
    }

    #[test]
    fn an_arena_is_laid_out_as_the_specification_says() {
        let offer = ArenaOffer { lan: LanId(0x0102), len: 0x0020_2000 };
        let octets = [0x57, 0x4c, 1, 6, 1, 0, 2, 1, 0, 0x20, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(offer.emit().as_slice(), octets);
        assert_eq!(ArenaOffer::parse(&octets), Some(offer));
        assert_eq!(PeerEnd::parse(&octets), None);
        assert_eq!(ArenaOffer::parse(END.emit().as_slice()), None);
        for len in 0..octets.len() {
            assert_eq!(ArenaOffer::parse(&octets[..len]), None);
        }
    }

    #[test]
    fn a_datagram_with_another_header_is_nothing() {
        let end = END.emit();
        for at in 0..HEADER_LEN {
            let mut wrong = end.as_slice().to_vec();
            wrong[at] ^= 1;
            assert_eq!(PeerEnd::parse(&wrong), None);
        }
        assert_eq!(PeerEnd::parse(&end.as_slice()[1..]), None);
        assert_eq!(PeerEnd::parse(&[]), None);
        assert_eq!(split_header(b"WL"), None);
    }
}

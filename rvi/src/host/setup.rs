//! The set-up of a leg: who is there, then each end's memory. Three state machines, one per kind of end, that
//! the host advances whenever the socket is readable.

use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use vlan_core::{LegNumber, NodeNumber, PairEpoch, ProcessId};

use super::established::{self, EstablishedLeg, Role};
use super::handshake::{HandshakeError, Initiator, Responder, Seal};
use super::keys::random_u64;
use super::leg_socket::{self, LegSocket, LegViolation, ReceiveError, Received, Room, SendError};
use super::memfd::{AcceptError, CreateError, OwnMemory, accept_peer_memory};
use super::wire::{
    self, BODY_LEN, DATAGRAM_LEN_MAX, DatagramBuf, Kind, NodeHello, PeerEnd, SetupBody, VERSION,
};
use crate::keys::{PrivateKey, PublicKey};
use crate::{Region, SessionTag, ShmConfig, ShmLeg, ShmLegError};

/// How long the set-up of one leg may take before its host gives it up. It takes four datagrams between two
/// processes of one machine; two seconds are for a machine that is starting a whole cabinet at once.
pub const SETUP_TIME_MAX: Duration = Duration::from_secs(2);

/// Doorbells passed over while one datagram of a set-up is received: one that floods gets no more of our time than this per
/// wake-up.
const DOORBELLS_PER_CALL: usize = 16;

/// The leg did not come up; its socket is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// Nobody could be reached at the leg's path.
    Connect(Errno),
    /// A datagram could not be sent.
    Send(SendError),
    /// The peer hung up.
    Closed,
    /// The kernel refused to receive.
    Receive(Errno),
    /// The peer broke a rule of the socket.
    Violation(LegViolation),
    /// The peer did not prove who it is, or refused us.
    Handshake(HandshakeError),
    /// This process has no memory for the leg.
    OwnMemory(CreateError),
    /// The peer's memory is refused.
    PeerMemory(AcceptError),
    /// The peer's rings have another size; the values are octets of memory.
    RegionLen {
        /// What the peer offers.
        peer: u32,
        /// What this end is set to.
        own: u32,
    },
    /// What the peer wrote into its memory's header is refused.
    Header(ShmLegError),
    /// The leg is meant for a session that a later one of the same process has followed.
    PastSession {
        /// The node's number of the session.
        number: u32,
    },
    /// The set-up has come to its end already.
    Over,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(errno) => write!(f, "connecting: {errno}"),
            Self::Send(error) => error.fmt(f),
            Self::Closed => f.write_str("the peer hung up during set-up"),
            Self::Receive(errno) => write!(f, "receiving: {errno}"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Handshake(error) => error.fmt(f),
            Self::OwnMemory(error) => error.fmt(f),
            Self::PeerMemory(error) => error.fmt(f),
            Self::RegionLen { peer, own } => {
                write!(
                    f,
                    "the peer's rings take {peer} octets, ours {own}: their sizes must be configured alike"
                )
            }
            Self::Header(error) => write!(f, "the header of the peer's memory: {error:?}"),
            Self::PastSession { number } => write!(f, "session {number} of the node is over"),
            Self::Over => f.write_str("the set-up is over"),
        }
    }
}

impl core::error::Error for SetupError {}

impl From<ReceiveError> for SetupError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Closed => Self::Closed,
            ReceiveError::Violation(violation) => Self::Violation(violation),
            ReceiveError::Os(errno) => Self::Receive(errno),
        }
    }
}

/// How far a set-up has come.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per set-up, moved once")]
pub enum SetupProgress {
    /// Call again when the socket is readable.
    Pending,
    /// The leg is up. Its memory goes to the association, the rest stays with the host under the same
    /// descriptor number.
    Up {
        /// The socket and who is at its other end.
        leg: EstablishedLeg,
        /// The memory.
        shm: ShmLeg,
    },
}

/// Takes the next datagram that is not a doorbell, if one waits.
//= spec/leg-setup.md#doorbells
//# A doorbell that arrives during set-up MUST be ignored.
fn receive(
    socket: &mut LegSocket,
    buffer: &mut [u8; DATAGRAM_LEN_MAX],
    room: Room,
) -> Result<Option<(usize, Option<OwnedFd>)>, SetupError> {
    for _ in 0..DOORBELLS_PER_CALL {
        let Received::Datagram { len, descriptor } = socket.receive(buffer, room)? else { return Ok(None) };
        if !leg_socket::is_doorbell(&buffer[..len], descriptor.as_ref()) {
            return Ok(Some((len, descriptor)));
        }
    }
    Ok(None)
}

/// The exchange of memory, the same on every kind of leg.
#[derive(Debug)]
struct Exchange {
    config: ShmConfig,
    /// On control legs, what seals SETUP.
    seal: Option<Seal>,
    /// What this end has offered.
    offered: Option<(Region, u64)>,
}

impl Exchange {
    fn new(config: &ShmConfig, seal: Option<Seal>) -> Self {
        Self { config: *config, seal, offered: None }
    }

    fn region_len(&self) -> u32 {
        u32::try_from(self.config.region_len()).expect("a leg's memory is far below 4 GiB")
    }

    /// Makes this end's memory and sends it; `number` is a control node's of the session, else 0.
    fn offer(&mut self, socket: &LegSocket, number: u32) -> Result<(), SetupError> {
        let own = OwnMemory::new(&self.config).map_err(SetupError::OwnMemory)?;
        let session = random_u64();
        let body = SetupBody { region_len: self.region_len(), number, session }.emit();
        let mut datagram = DatagramBuf::empty();
        datagram.start(Kind::Setup);
        match &mut self.seal {
            Some(seal) => seal.seal(&body, &mut datagram),
            None => datagram.push(&body),
        }
        socket.send(datagram.as_slice(), Some(own.descriptor())).map_err(SetupError::Send)?;
        self.offered = Some((own.into_region(), session));
        Ok(())
    }

    /// Takes the peer's SETUP, if one waits: its memory and what it says of it.
    fn receive(&mut self, socket: &mut LegSocket) -> Result<Option<(Region, SetupBody)>, SetupError> {
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        let Some((len, descriptor)) = receive(socket, &mut buffer, Room::OneDescriptor)? else {
            return Ok(None);
        };
        let datagram = &buffer[..len];
        let body = match self.open(datagram) {
            Ok(body) => body,
            Err(error) => {
                descriptor.into_iter().for_each(super::descriptor::discard);
                return Err(error);
            }
        };
        let descriptor = descriptor.ok_or(SetupError::Violation(LegViolation::NoDescriptor))?;
        let own = self.region_len();
        if body.region_len != own {
            super::descriptor::discard(descriptor);
            return Err(SetupError::RegionLen { peer: body.region_len, own });
        }
        let region = accept_peer_memory(descriptor, own as usize).map_err(SetupError::PeerMemory)?;
        Ok(Some((region, body)))
    }

    //= spec/leg-setup.md#freshness
    //# On a control leg SETUP MUST be sealed with the keys of the leg's own handshake, and a control node MUST
    //# NOT allocate memory for a node before it has opened that node's SETUP.
    fn open(&mut self, datagram: &[u8]) -> Result<SetupBody, SetupError> {
        let other = || SetupError::Violation(established::unexpected(datagram));
        let (version, kind, message) = wire::split_header(datagram).ok_or_else(other)?;
        if version != VERSION {
            return Err(SetupError::Handshake(HandshakeError::Version { peer: version, own: VERSION }));
        }
        if kind != Kind::Setup as u8 {
            return Err(other());
        }
        let body: [u8; BODY_LEN] = match &mut self.seal {
            Some(seal) => seal.open(message).ok_or(SetupError::Handshake(HandshakeError::Proof))?,
            None => message.try_into().map_err(|_| other())?,
        };
        Ok(SetupBody::parse(&body))
    }

    /// Builds the leg of both ends' memory.
    fn finish(&mut self, (peer, body): (Region, SetupBody)) -> Result<(ShmLeg, u64), SetupError> {
        let (own, session) = self.offered.take().ok_or(SetupError::Over)?;
        let shm = ShmLeg::new(own, peer).map_err(SetupError::Header)?;
        Ok((shm, session.wrapping_add(body.session)))
    }
}

fn up(
    socket: LegSocket,
    end: &PeerEnd,
    tag: SessionTag,
    role: Role,
    (shm, session): (ShmLeg, u64),
) -> SetupProgress {
    SetupProgress::Up { leg: EstablishedLeg::new(socket, end, session, tag, role), shm }
}

/// The other end of a leg of a control RVI, which has no epoch of a pair.
fn control_end(peer: NodeNumber, peer_process: ProcessId, leg: LegNumber) -> PeerEnd {
    PeerEnd { peer, peer_process, leg, epoch: PairEpoch::default() }
}

/// A node's end of a leg to a control node.
#[derive(Debug)]
pub struct NodeControlLeg {
    socket: Option<LegSocket>,
    state: NodeState,
    config: ShmConfig,
    leg: LegNumber,
    session: u32,
}

#[derive(Debug)]
enum NodeState {
    Answer(Initiator),
    Setup(ProcessId, Exchange),
    Over,
}

impl NodeControlLeg {
    /// Connects to the control node that listens at `path` and has `control_node` as its key, and sends HELLO.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the kernel refuses.
    pub fn connect(
        path: &Path,
        key: &PrivateKey,
        control_node: &PublicKey,
        hello: &NodeHello,
        config: &ShmConfig,
    ) -> Result<Self, SetupError> {
        let socket = LegSocket::connect(path).map_err(SetupError::Connect)?;
        Self::new(socket, key, control_node, hello, config)
    }

    /// The same over a socket that is connected already.
    ///
    /// # Errors
    ///
    /// HELLO could not be sent.
    pub fn new(
        socket: LegSocket,
        key: &PrivateKey,
        control_node: &PublicKey,
        hello: &NodeHello,
        config: &ShmConfig,
    ) -> Result<Self, SetupError> {
        let (initiator, datagram) = Initiator::new(key, control_node, hello);
        socket.send(datagram.as_slice(), None).map_err(SetupError::Send)?;
        Ok(Self {
            socket: Some(socket),
            state: NodeState::Answer(initiator),
            config: *config,
            leg: hello.leg,
            session: hello.session,
        })
    }

    /// Goes on as far as what has arrived allows.
    ///
    /// # Errors
    ///
    /// The leg does not come up; the socket is closed.
    pub fn advance(&mut self) -> Result<SetupProgress, SetupError> {
        let Some(mut socket) = self.socket.take() else { return Err(SetupError::Over) };
        match core::mem::replace(&mut self.state, NodeState::Over) {
            NodeState::Over => Err(SetupError::Over),
            NodeState::Answer(initiator) => self.advance_answer(socket, initiator),
            NodeState::Setup(process, mut exchange) => match exchange.receive(&mut socket)? {
                None => Ok(self.wait(socket, NodeState::Setup(process, exchange))),
                Some(peer) => {
                    let end = control_end(NodeNumber(0), process, self.leg);
                    let tag = SessionTag { node: self.session, control_node: peer.1.number };
                    Ok(up(socket, &end, tag, Role::TowardsControlNode, exchange.finish(peer)?))
                }
            },
        }
    }

    fn advance_answer(
        &mut self,
        mut socket: LegSocket,
        initiator: Initiator,
    ) -> Result<SetupProgress, SetupError> {
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        let Some((len, _)) = receive(&mut socket, &mut buffer, Room::Octets)? else {
            return Ok(self.wait(socket, NodeState::Answer(initiator)));
        };
        let (process, seal) = initiator.handle_answer(&buffer[..len]).map_err(SetupError::Handshake)?;
        let mut exchange = Exchange::new(&self.config, Some(seal));
        exchange.offer(&socket, 0)?;
        // The control node cannot have sent SETUP yet: it waits for ours.
        Ok(self.wait(socket, NodeState::Setup(process, exchange)))
    }

    fn wait(&mut self, socket: LegSocket, state: NodeState) -> SetupProgress {
        self.socket = Some(socket);
        self.state = state;
        SetupProgress::Pending
    }

    /// The socket to wait on; `None` when the set-up is over.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

/// A control node's end of a leg to a node.
#[derive(Debug)]
pub struct ControlNodeLeg {
    socket: Option<LegSocket>,
    state: ControlNodeState,
    process: ProcessId,
    config: ShmConfig,
}

#[derive(Debug)]
enum ControlNodeState {
    Hello,
    Setup(NodeHello, Exchange),
}

impl ControlNodeLeg {
    /// Begins with a connection that a listener took; `process` is this control node's life.
    #[must_use]
    pub fn new(socket: LegSocket, process: ProcessId, config: &ShmConfig) -> Self {
        Self { socket: Some(socket), state: ControlNodeState::Hello, process, config: *config }
    }

    /// Goes on as far as what has arrived allows. `key` is this control node's, `lookup` says which node has a
    /// public key, `session` which session the leg of a node that has proven itself would join, by this control
    /// node's number (none: only one that is over). The leg number of a leg that came up is what the node asked
    /// for: the host checks that it has such a fabric.
    ///
    /// # Errors
    ///
    /// The leg does not come up; the socket is closed. [`HandshakeError::UnknownKey`] and
    /// [`HandshakeError::NodeNumber`] belong in the log.
    //= spec/leg-setup.md#session-tags
    //# Each leg of a control RVI MUST carry the tag of its session: on shared memory the node's number of it in HELLO and
    //# the control node's in its SETUP, on packets the one in CONNECT and the other in ACCEPT.
    pub fn advance(
        &mut self,
        key: &PrivateKey,
        lookup: &mut dyn FnMut(&PublicKey) -> Option<NodeNumber>,
        session: &mut dyn FnMut(&NodeHello) -> Option<u32>,
    ) -> Result<SetupProgress, SetupError> {
        let Some(mut socket) = self.socket.take() else { return Err(SetupError::Over) };
        match core::mem::replace(&mut self.state, ControlNodeState::Hello) {
            ControlNodeState::Hello => self.advance_hello(socket, key, lookup),
            ControlNodeState::Setup(hello, mut exchange) => match exchange.receive(&mut socket)? {
                None => Ok(self.wait(socket, ControlNodeState::Setup(hello, exchange))),
                Some(peer) => {
                    let past = SetupError::PastSession { number: hello.session };
                    let tag = SessionTag { node: hello.session, control_node: session(&hello).ok_or(past)? };
                    exchange.offer(&socket, tag.control_node)?;
                    let end = control_end(hello.node, hello.process, hello.leg);
                    Ok(up(socket, &end, tag, Role::Plain, exchange.finish(peer)?))
                }
            },
        }
    }

    fn advance_hello(
        &mut self,
        mut socket: LegSocket,
        key: &PrivateKey,
        lookup: &mut dyn FnMut(&PublicKey) -> Option<NodeNumber>,
    ) -> Result<SetupProgress, SetupError> {
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        let Some((len, _)) = receive(&mut socket, &mut buffer, Room::Octets)? else {
            return Ok(self.wait(socket, ControlNodeState::Hello));
        };
        let mut reply = DatagramBuf::empty();
        let result = Responder::new(key).handle_hello(&buffer[..len], lookup, self.process, &mut reply);
        let sent = if reply.is_empty() { Ok(()) } else { socket.send(reply.as_slice(), None) };
        let (hello, seal) = result.map_err(SetupError::Handshake)?;
        sent.map_err(SetupError::Send)?;
        let exchange = Exchange::new(&self.config, Some(seal));
        Ok(self.wait(socket, ControlNodeState::Setup(hello, exchange)))
    }

    fn wait(&mut self, socket: LegSocket, state: ControlNodeState) -> SetupProgress {
        self.socket = Some(socket);
        self.state = state;
        SetupProgress::Pending
    }

    /// The socket to wait on; `None` when the set-up is over.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

/// One end of a leg between two nodes that their control node introduced to each other.
#[derive(Debug)]
pub struct PairLeg {
    socket: Option<LegSocket>,
    end: PeerEnd,
    exchange: Exchange,
}

impl PairLeg {
    /// Begins with the socket and the introduction that came from the control node, and sends this end's memory.
    ///
    /// # Errors
    ///
    /// This process has no memory for the leg, or the peer is gone already.
    pub fn new(socket: LegSocket, end: PeerEnd, config: &ShmConfig) -> Result<Self, SetupError> {
        let mut exchange = Exchange::new(config, None);
        exchange.offer(&socket, 0)?;
        Ok(Self { socket: Some(socket), end, exchange })
    }

    /// Goes on as far as what has arrived allows.
    ///
    /// # Errors
    ///
    /// The leg does not come up; the socket is closed.
    pub fn advance(&mut self) -> Result<SetupProgress, SetupError> {
        let Some(mut socket) = self.socket.take() else { return Err(SetupError::Over) };
        match self.exchange.receive(&mut socket)? {
            None => {
                self.socket = Some(socket);
                Ok(SetupProgress::Pending)
            }
            Some(peer) => {
                let built = self.exchange.finish(peer)?;
                Ok(up(socket, &self.end, SessionTag::default(), Role::Plain, built))
            }
        }
    }

    /// Whom the leg is to.
    #[must_use]
    pub fn end(&self) -> &PeerEnd {
        &self.end
    }

    /// The socket to wait on; `None` when the set-up is over.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests;

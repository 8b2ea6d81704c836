//! A leg that is up, as its host sees it: a socket for doorbells, introductions and the hang-up at the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vlan_core::{LegNumber, NodeNumber, PairEpoch, ProcessId};

use super::leg_socket::{self, LegSocket, LegViolation, ReceiveError, Received, Room, SendError};
use super::wire::{self, ArenaOffer, DATAGRAM_LEN_MAX, PeerEnd};
use crate::SessionTag;

/// What waited on a leg's socket.
#[derive(Debug)]
pub enum Datagram {
    /// Nothing.
    Nothing,
    /// The peer published something: the leg's rings may hold it.
    Doorbell,
    /// The control node introduces a peer; set the leg up with [`super::PairLeg`].
    PeerEnd(PeerEnd, LegSocket),
    /// The control node gives the arena of a LAN; take its memory with [`super::accept_peer_memory`].
    Arena(ArenaOffer, OwnedFd),
    /// The peer has hung up: the leg is gone.
    Closed,
    /// The peer broke a rule of the socket: the leg is gone, the reason belongs in the log.
    Violation(LegViolation),
}

/// Who may send what on a leg's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We are a node, the peer is a control node: it may introduce other nodes.
    TowardsControlNode,
    /// Only doorbells come.
    Plain,
}

/// One established leg without its memory, which went to the association.
///
/// Dropping it closes the socket, which tells the peer that the leg is gone: before that, an association that
/// leaves the leg in order has written its final head.
#[derive(Debug)]
pub struct EstablishedLeg {
    /// The peer; 0 stands for a control node.
    pub peer: NodeNumber,
    /// Which life of the peer.
    pub peer_process: ProcessId,
    /// Which leg of the association.
    pub leg: LegNumber,
    /// The sum of both ends' random numbers, the same at both ends.
    pub session: u64,
    /// Which session a leg of a control RVI belongs to; zero for legs between nodes.
    pub tag: SessionTag,
    /// Which association of a pair a leg between nodes was made for; zero for legs of control RVIs.
    pub epoch: PairEpoch,
    socket: LegSocket,
    role: Role,
}

impl EstablishedLeg {
    pub(super) fn new(socket: LegSocket, end: &PeerEnd, session: u64, tag: SessionTag, role: Role) -> Self {
        let PeerEnd { peer, peer_process, leg, epoch } = *end;
        Self { peer, peer_process, leg, session, tag, epoch, socket, role }
    }

    /// Takes one datagram; call it until it says [`Datagram::Nothing`], or again at the next wake-up of a level-triggered
    /// poll. After a doorbell that is cheaper: an honest peer has seldom two waiting.
    //= spec/leg-setup.md#doorbells
    //# A host MUST take a bounded number of doorbells per wake-up.
    pub fn receive(&mut self) -> Datagram {
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        match self.socket.receive(&mut buffer, self.room()) {
            Ok(Received::Nothing) => Datagram::Nothing,
            Ok(Received::Datagram { len, descriptor }) => {
                let datagram = &buffer[..len];
                if leg_socket::is_doorbell(datagram, descriptor.as_ref()) {
                    return Datagram::Doorbell;
                }
                self.handle_datagram(datagram, descriptor)
            }
            Err(ReceiveError::Violation(violation)) => Datagram::Violation(violation),
            Err(ReceiveError::Closed | ReceiveError::Os(_)) => Datagram::Closed,
        }
    }

    /// Arenas and ends of legs come with a descriptor, and who has no room for one takes neither.
    //= spec/leg-setup.md#arenas
    //# A node MUST take an arena only from its control node's leg.
    //= spec/leg-setup.md#introductions
    //# A node MUST take the end of a leg to a peer only from its control node's leg.
    fn room(&self) -> Room {
        match self.role {
            Role::TowardsControlNode => Room::OneDescriptor,
            Role::Plain => Room::Octets,
        }
    }

    //= spec/leg-setup.md#other-datagrams
    //# A datagram of any other form than those expected at that point MUST end the leg or its set-up.
    fn handle_datagram(&mut self, datagram: &[u8], descriptor: Option<OwnedFd>) -> Datagram {
        let taken = match ArenaOffer::parse(datagram) {
            Some(offer) => match descriptor {
                Some(memory) => Ok(Datagram::Arena(offer, memory)),
                None => Err(LegViolation::NoDescriptor),
            },
            None => peer_end(datagram, descriptor).map(|(end, socket)| Datagram::PeerEnd(end, socket)),
        };
        taken.unwrap_or_else(|violation| {
            self.socket.shut();
            Datagram::Violation(violation)
        })
    }

    /// Wakes the peer.
    ///
    /// # Errors
    ///
    /// The leg is gone; the socket's readiness says so too.
    pub fn ring_doorbell(&self) -> Result<(), SendError> {
        self.socket.ring_doorbell()
    }

    /// Gives the node at this leg its end of a leg to another node. The caller drops `socket` afterwards.
    ///
    /// # Errors
    ///
    /// [`SendError::Busy`]: the node does not read its socket; a control node closes the leg of such a node.
    pub fn send_peer_end(&self, end: &PeerEnd, socket: &LegSocket) -> Result<(), SendError> {
        self.socket.send(end.emit().as_slice(), Some(socket.as_fd()))
    }

    /// Gives the node at this leg the arena of a LAN.
    ///
    /// # Errors
    ///
    /// [`SendError::Busy`]: the node does not read its socket; it goes without.
    pub fn send_arena(&self, offer: &ArenaOffer, memory: BorrowedFd<'_>) -> Result<(), SendError> {
        self.socket.send(offer.emit().as_slice(), Some(memory))
    }

    /// True when the peer has closed its end, whatever still waits to be received.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.socket.is_hung_up()
    }
}

/// A datagram that nobody expects here.
pub(super) fn unexpected(datagram: &[u8]) -> LegViolation {
    let kind = wire::split_header(datagram).map_or(0, |(_, kind, _)| kind);
    LegViolation::Unexpected { len: datagram.len(), kind }
}

impl AsFd for EstablishedLeg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The end of a leg to a peer that `datagram` and its descriptor are.
fn peer_end(datagram: &[u8], descriptor: Option<OwnedFd>) -> Result<(PeerEnd, LegSocket), LegViolation> {
    let Some(end) = PeerEnd::parse(datagram) else {
        descriptor.into_iter().for_each(super::descriptor::discard);
        return Err(unexpected(datagram));
    };
    let socket = LegSocket::from_received(descriptor.ok_or(LegViolation::NoDescriptor)?)?;
    Ok((end, socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::OwnMemory;
    use std::io::Read;
    use vlan_core::LanId;

    const END: PeerEnd =
        PeerEnd { peer: NodeNumber(3), peer_process: ProcessId(33), leg: LegNumber(1), epoch: PairEpoch(5) };

    fn legs(role: Role) -> (EstablishedLeg, EstablishedLeg) {
        let (a, b) = LegSocket::pair().unwrap();
        let tag = SessionTag::default();
        (EstablishedLeg::new(a, &END, 1, tag, Role::Plain), EstablishedLeg::new(b, &END, 1, tag, role))
    }

    #[test]
    fn doorbells_are_taken_one_by_one() {
        //= spec/leg-setup.md#doorbells
        //= type=test
        //# A host MUST take a bounded number of doorbells per wake-up.
        let (a, mut b) = legs(Role::Plain);
        assert!(matches!(b.receive(), Datagram::Nothing));
        for _ in 0..2 {
            a.ring_doorbell().unwrap();
        }
        assert!(matches!(b.receive(), Datagram::Doorbell));
        assert!(matches!(b.receive(), Datagram::Doorbell));
        assert!(matches!(b.receive(), Datagram::Nothing));
        drop(a);
        assert!(matches!(b.receive(), Datagram::Closed));
    }

    #[test]
    fn a_node_gets_its_end_of_a_leg_from_its_control_node() {
        let (control_node, mut node) = legs(Role::TowardsControlNode);
        let (ours, theirs) = LegSocket::pair().unwrap();
        control_node.ring_doorbell().unwrap();
        control_node.send_peer_end(&END, &theirs).unwrap();
        drop(theirs);
        assert!(matches!(node.receive(), Datagram::Doorbell));
        let Datagram::PeerEnd(end, mut socket) = node.receive() else { panic!("an introduction") };
        assert_eq!(end, END);
        ours.send(b"through", None).unwrap();
        let received = socket.receive(&mut [0; 16], Room::Octets).unwrap();
        assert!(matches!(received, Received::Datagram { len: 7, descriptor: None }));
    }

    #[test]
    fn a_node_takes_no_introduction_from_another_node() {
        //= spec/leg-setup.md#introductions
        //= type=test
        //# A node MUST take the end of a leg to a peer only from its control node's leg.
        let (peer, mut node) = legs(Role::Plain);
        let (_ours, theirs) = LegSocket::pair().unwrap();
        peer.send_peer_end(&END, &theirs).unwrap();
        assert!(matches!(node.receive(), Datagram::Violation(LegViolation::Descriptors)));
        let (peer, mut node) = legs(Role::Plain);
        peer.socket.send(END.emit().as_slice(), None).unwrap();
        assert!(matches!(node.receive(), Datagram::Violation(LegViolation::NoDescriptor)));
        assert!(matches!(node.receive(), Datagram::Closed));
    }

    #[test]
    fn a_node_takes_an_arena_from_its_control_node_alone() {
        //= spec/leg-setup.md#arenas
        //= type=test
        //# A node MUST take an arena only from its control node's leg.
        let offer = ArenaOffer { lan: LanId(10), len: 1 << 21 };
        let memory = OwnMemory::of_len(1 << 21).unwrap();
        let (control_node, mut node) = legs(Role::TowardsControlNode);
        control_node.send_arena(&offer, memory.descriptor()).unwrap();
        let Datagram::Arena(got, descriptor) = node.receive() else { panic!("an arena") };
        assert_eq!(got, offer);
        let region = crate::host::accept_peer_memory(descriptor, 1 << 21).unwrap();
        memory.region().write(77, b"once for all");
        let mut octets = [0; 12];
        region.read(77, &mut octets);
        assert_eq!(&octets, b"once for all");
        let (peer, mut node) = legs(Role::Plain);
        peer.send_arena(&offer, memory.descriptor()).unwrap();
        assert!(matches!(node.receive(), Datagram::Violation(LegViolation::Descriptors)));
        let (peer, mut node) = legs(Role::TowardsControlNode);
        peer.socket.send(offer.emit().as_slice(), None).unwrap();
        assert!(matches!(node.receive(), Datagram::Violation(LegViolation::NoDescriptor)));
    }

    #[test]
    fn any_other_datagram_ends_the_leg() {
        //= spec/leg-setup.md#other-datagrams
        //= type=test
        //# A datagram of any other form than those expected at that point MUST end the leg or its set-up.
        let garbage: [&[u8]; 6] = [b"x", &[0, 0], b"WL", b"WL\x01\x04", &[0; 64], &[0xff; DATAGRAM_LEN_MAX]];
        for role in [Role::Plain, Role::TowardsControlNode] {
            for octets in garbage {
                let (peer, mut node) = legs(role);
                peer.socket.send(octets, None).unwrap();
                assert!(matches!(node.receive(), Datagram::Violation(_)), "{octets:?}");
                assert!(peer.is_hung_up());
            }
        }
        let (peer, mut node) = legs(Role::TowardsControlNode);
        peer.socket.send(END.emit().as_slice(), None).unwrap();
        assert!(matches!(node.receive(), Datagram::Violation(LegViolation::NoDescriptor)));
    }

    #[test]
    fn a_doorbell_or_introduction_with_a_wrong_descriptor_closes_it() {
        for octets in [&[0][..], END.emit().as_slice()] {
            let (peer, mut node) = legs(Role::TowardsControlNode);
            let (mut reader, writer) = std::io::pipe().unwrap();
            peer.socket.send(octets, Some(writer.as_fd())).unwrap();
            drop(writer);
            assert!(matches!(node.receive(), Datagram::Violation(_)));
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_control_node_is_told_when_a_node_does_not_read() {
        let (control_node, _node) = legs(Role::TowardsControlNode);
        let (ours, _theirs) = LegSocket::pair().unwrap();
        let refused = (0..100_000).find_map(|_| control_node.send_peer_end(&END, &ours).err());
        assert_eq!(refused, Some(SendError::Busy));
    }
}

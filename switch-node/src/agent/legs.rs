//! The sockets of this node's legs: set-up towards control nodes and peers, doorbells, and the hang-up that ends a
//! leg. The memory of a leg goes to the [`Node`] as soon as the leg is up.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::Shutdown;
use rvi::ShmConfig;
use rvi::host::{
    ArenaOffer, Datagram, EstablishedLeg, LegSocket, NodeControlLeg, NodeHello, PairLeg, PeerEnd, PrivateKey,
    PublicKey, SETUP_TIME_MAX, SetupError, SetupProgress, accept_peer_memory,
};
use tracing::{debug, info, warn};
use vlan_core::wire::control::GrantedLeg;
use vlan_core::{Instant, LegNumber, NodeNumber, ProcessId};

use crate::agent::poller::{Poller, Source};
use crate::node::{Node, PeerId};

/// Set-ups with other nodes under way at once: two fabrics and twice the nodes of the largest lab. A control node
/// introduces again what was refused here.
const PAIR_SETUPS_MAX: usize = 128;
/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_MAX: usize = 64;

/// A control node, as its nodes reach it.
#[derive(Clone, Debug)]
pub struct ControlNodeTarget {
    /// Its name, for messages.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it listens for each leg of shared memory.
    pub legs: Vec<(LegNumber, PathBuf)>,
    /// Where it receives packets; only for one without legs of shared memory.
    pub packet_legs: Vec<GrantedLeg>,
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number.
    pub number: NodeNumber,
    /// This life of it.
    pub process: ProcessId,
    /// Its key.
    pub key: PrivateKey,
}

enum Stage {
    Control { control_node: u8, leg: LegNumber, setup: NodeControlLeg, deadline: Instant },
    Pair { setup: PairLeg, deadline: Instant },
    Up(Up),
}

/// A leg that is up, or whose end one side has not seen yet.
struct Up {
    peer: PeerId,
    socket: EstablishedLeg,
    /// The machine has left it.
    is_left: bool,
    /// The other end has hung up.
    is_hung_up: bool,
}

impl Up {
    fn new(peer: PeerId, socket: EstablishedLeg) -> Self {
        Self { peer, socket, is_left: false, is_hung_up: false }
    }

    fn is(&self, peer: PeerId, process: ProcessId, leg: LegNumber) -> bool {
        self.peer == peer && self.socket.peer_process == process && self.socket.leg == leg
    }
}

pub(super) struct Legs {
    identity: Identity,
    targets: Vec<ControlNodeTarget>,
    config: ShmConfig,
    stages: BTreeMap<u32, Stage>,
    next_id: u32,
    /// The last failure told for each leg to a control node, so that it is told once and not at each attempt.
    told: BTreeMap<(u8, LegNumber), SetupError>,
}

impl Legs {
    pub fn new(identity: Identity, targets: Vec<ControlNodeTarget>) -> Self {
        Self {
            identity,
            targets,
            config: ShmConfig::default(),
            stages: BTreeMap::new(),
            next_id: 0,
            told: BTreeMap::new(),
        }
    }

    /// The name of a peer, for messages.
    pub fn name_of(&self, peer: PeerId) -> String {
        match peer {
            PeerId::ControlNode(index) => match self.targets.get(usize::from(index)) {
                Some(target) => target.name.clone(),
                None => peer.to_string(),
            },
            PeerId::Node(_) => peer.to_string(),
        }
    }

    /// Starts a leg to a control node; how it ends is told to `node`, now or later.
    pub fn connect(
        &mut self,
        now: Instant,
        control_node: u8,
        (leg, session): (LegNumber, u32),
        node: &mut Node,
        poller: &Poller,
    ) {
        match self.start_control(now, control_node, leg, session) {
            Ok(stage) => self.insert(stage, poller),
            Err(error) => self.connect_failed(now, control_node, leg, error, node),
        }
    }

    fn start_control(
        &self,
        now: Instant,
        control_node: u8,
        leg: LegNumber,
        session: u32,
    ) -> Result<Stage, SetupError> {
        let target = self.targets.get(usize::from(control_node));
        let place = target.and_then(|target| target.legs.iter().find(|(number, _)| *number == leg));
        let (Some(target), Some((_, path))) = (target, place) else {
            return Err(SetupError::Connect(rustix::io::Errno::NOENT));
        };
        let (number, process) = (self.identity.number, self.identity.process);
        let hello = NodeHello { node: number, process, leg, session };
        let setup =
            NodeControlLeg::connect(path, &self.identity.key, &target.public_key, &hello, &self.config)?;
        Ok(Stage::Control { control_node, leg, setup, deadline: now + SETUP_TIME_MAX })
    }

    fn connect_failed(
        &mut self,
        now: Instant,
        control_node: u8,
        leg: LegNumber,
        error: SetupError,
        node: &mut Node,
    ) {
        let name = self.name_of(PeerId::ControlNode(control_node));
        match self.told.insert((control_node, leg), error.clone()) {
            Some(told) if told == error => debug!(control_node = name, %leg, %error, "no leg"),
            _ if matches!(error, SetupError::Connect(_)) => {
                info!(control_node = name, %leg, %error, "control node not reached yet");
            }
            _ => warn!(control_node = name, %leg, %error, "no leg to the control node"),
        }
        node.handle_connect_failed(now, control_node, leg);
    }

    /// A control node introduced a peer: its end of a leg came over the control node's own leg.
    fn start_pair(&mut self, now: Instant, end: PeerEnd, socket: LegSocket, poller: &Poller) {
        let pairs = self.stages.values().filter(|stage| matches!(stage, Stage::Pair { .. })).count();
        if pairs >= PAIR_SETUPS_MAX {
            warn!(peer = %end.peer, leg = %end.leg, limit = PAIR_SETUPS_MAX, "too many introductions at once");
            return;
        }
        match PairLeg::new(socket, end, &self.config) {
            Ok(setup) => self.insert(Stage::Pair { setup, deadline: now + SETUP_TIME_MAX }, poller),
            Err(error) => warn!(peer = %end.peer, leg = %end.leg, %error, "no leg to the peer"),
        }
    }

    fn insert(&mut self, stage: Stage, poller: &Poller) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(socket) = stage.socket()
            && let Err(error) = poller.add(socket, Source::Leg(id))
        {
            // Its deadline ends a set-up that nothing wakes.
            warn!(%error, "a leg's socket cannot be watched");
        }
        self.stages.insert(id, stage);
    }

    /// A leg's socket is readable or has ended.
    pub fn handle_ready(&mut self, now: Instant, id: u32, node: &mut Node, poller: &Poller) {
        let Some(stage) = self.stages.remove(&id) else { return };
        if let Some(stage) = self.advance(now, stage, node, poller) {
            self.stages.insert(id, stage);
        }
    }

    fn advance(&mut self, now: Instant, stage: Stage, node: &mut Node, poller: &Poller) -> Option<Stage> {
        match stage {
            Stage::Control { control_node, leg, mut setup, deadline } => match setup.advance() {
                Ok(SetupProgress::Pending) => Some(Stage::Control { control_node, leg, setup, deadline }),
                Ok(SetupProgress::Up { leg: up, shm }) => {
                    self.told.remove(&(control_node, leg));
                    let peer = PeerId::ControlNode(control_node);
                    if !node.handle_control_leg_up(now, control_node, up.peer_process, leg, up.tag, shm) {
                        debug!(peer = self.name_of(peer), %leg, tag = %up.tag, "the leg's session is over");
                        poller.remove(up.as_fd());
                        return None;
                    }
                    self.close_older(peer, &up, poller);
                    Some(Stage::Up(Up::new(peer, up)))
                }
                Err(error) => {
                    self.connect_failed(now, control_node, leg, error, node);
                    None
                }
            },
            Stage::Pair { mut setup, deadline } => match setup.advance() {
                Ok(SetupProgress::Pending) => Some(Stage::Pair { setup, deadline }),
                Ok(SetupProgress::Up { leg: up, shm }) => {
                    let peer = PeerId::Node(up.peer);
                    if !node.handle_leg_up(now, up.peer, up.peer_process, up.epoch, up.leg, shm) {
                        debug!(%peer, leg = %up.leg, epoch = %up.epoch, "the leg's association is over");
                        poller.remove(up.as_fd());
                        return None;
                    }
                    self.close_older(peer, &up, poller);
                    Some(Stage::Up(Up::new(peer, up)))
                }
                Err(error) => {
                    let end = setup.end();
                    warn!(peer = %end.peer, leg = %end.leg, %error, "no leg to the peer");
                    None
                }
            },
            Stage::Up(up) => self.receive(now, up, node, poller),
        }
    }

    /// Closes what there is under the name of a new leg, which has taken its place in the machine.
    fn close_older(&mut self, peer: PeerId, new: &EstablishedLeg, poller: &Poller) {
        self.stages.retain(|_, stage| match stage {
            Stage::Up(up) if up.is(peer, new.peer_process, new.leg) => {
                poller.remove(up.socket.as_fd());
                false
            }
            _ => true,
        });
    }

    /// Takes what waits on the socket of a leg that is up.
    fn receive(&mut self, now: Instant, mut up: Up, node: &mut Node, poller: &Poller) -> Option<Stage> {
        for _ in 0..DATAGRAMS_MAX {
            match up.socket.receive() {
                // A doorbell rings for the rings, which the pump looks at in any case.
                Datagram::Nothing | Datagram::Doorbell => break,
                Datagram::PeerEnd(end, socket) => self.start_pair(now, end, socket, poller),
                Datagram::Arena(offer, memory) => self.take_arena(now, &up, offer, memory, node),
                Datagram::Closed => return hung_up(now, up, node, poller),
                Datagram::Violation(violation) => {
                    warn!(peer = self.name_of(up.peer), leg = %up.socket.leg, %violation, "leg ended");
                    return hung_up(now, up, node, poller);
                }
            }
        }
        Some(Stage::Up(up))
    }

    /// A control node gives the arena of a LAN. A node that has none gets copies, and knows no difference.
    fn take_arena(&self, now: Instant, up: &Up, offer: ArenaOffer, memory: OwnedFd, node: &mut Node) {
        let PeerId::ControlNode(index) = up.peer else { return };
        let (lan, len) = (offer.lan, offer.len as usize);
        match accept_peer_memory(memory, len) {
            Ok(memory) => {
                let is_taken = node.handle_arena(now, index, up.socket.peer_process, lan, memory);
                debug!(control_node = self.name_of(up.peer), %lan, is_taken, "arena");
            }
            Err(error) => warn!(control_node = self.name_of(up.peer), %lan, %error, "an arena is not taken"),
        }
    }

    /// Wakes the process at the other end of a leg.
    pub fn ring(&self, peer: PeerId, process: ProcessId, leg: LegNumber) {
        let up = self.stages.values().find_map(|stage| match stage {
            Stage::Up(up) if up.is(peer, process, leg) => Some(up),
            _ => None,
        });
        if let Some(up) = up {
            // A peer that has gone shows as the end of its socket.
            let _ = up.socket.ring_doorbell();
        }
    }

    /// The machine has left this leg, or gives up waiting for the other end when it says so again: the other end sees
    /// the hang-up, and hangs up in turn.
    pub fn close(&mut self, peer: PeerId, process: ProcessId, leg: LegNumber, poller: &Poller) {
        self.stages.retain(|_, stage| match stage {
            Stage::Up(up) if up.is(peer, process, leg) => {
                if up.is_left && !up.is_hung_up {
                    poller.remove(up.socket.as_fd());
                }
                // It fails only when the peer has hung up already, which is read next.
                let _ = rustix::net::shutdown(up.socket.as_fd(), Shutdown::Write);
                !std::mem::replace(&mut up.is_left, true) && !up.is_hung_up
            }
            _ => true,
        });
    }

    /// Gives up set-ups that take too long.
    pub fn handle_timeout(&mut self, now: Instant, node: &mut Node, poller: &Poller) {
        let late = |stage: &Stage| stage.deadline().is_some_and(|deadline| deadline <= now);
        let ids: Vec<u32> = self.stages.iter().filter(|(_, stage)| late(stage)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(stage) = self.stages.remove(&id) else { continue };
            if let Some(socket) = stage.socket() {
                poller.remove(socket);
            }
            match stage {
                Stage::Control { control_node, leg, .. } => {
                    let error = SetupError::Connect(rustix::io::Errno::TIMEDOUT);
                    self.connect_failed(now, control_node, leg, error, node);
                }
                Stage::Pair { setup, .. } => {
                    warn!(peer = %setup.end().peer, leg = %setup.end().leg, "the peer does not answer");
                }
                Stage::Up(_) => {}
            }
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stages.values().filter_map(Stage::deadline).min()
    }
}

impl Stage {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Control { setup, .. } => setup.as_fd(),
            Self::Pair { setup, .. } => setup.as_fd(),
            Self::Up(up) => Some(up.socket.as_fd()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Control { deadline, .. } | Self::Pair { deadline, .. } => Some(*deadline),
            Self::Up(_) => None,
        }
    }
}

/// The other end has hung up. This end keeps its own open until the machine has left the leg too: what the machine
/// still takes from it must be in its final heads before the other end finds it closed.
//= spec/rvi.md#leaving-a-leg
//# An end that leaves a leg MUST stop consuming, MUST store its final heads and CLOSED, and only then hang up.
fn hung_up(now: Instant, mut up: Up, node: &mut Node, poller: &Poller) -> Option<Stage> {
    poller.remove(up.socket.as_fd());
    node.handle_leg_gone(now, up.peer, up.socket.peer_process, up.socket.leg);
    up.is_hung_up = true;
    (!up.is_left).then_some(Stage::Up(up))
}

#[cfg(test)]
mod tests {
    use rvi::{Association, AssociationConfig, LegEnd, ShmLeg, Unsent};
    use vlan_core::CabinetNumber;

    use super::*;
    use crate::node::{Delivery, FrameSink, NodeConfig, Output};

    struct NoStack;

    impl FrameSink for NoStack {
        fn deliver(
            &mut self,
            _vif: vlan_core::VifNumber,
            _vnet: &vlan_core::wire::frame::Vnet,
            _head: &[u8],
            _rest: rvi::SharedOctets<'_>,
        ) -> Delivery {
            Delivery::Taken
        }
    }

    const NOW: Instant = Instant::ZERO;
    const PEER: PeerEnd = PeerEnd {
        peer: NodeNumber(2),
        peer_process: ProcessId(22),
        leg: LegNumber(0),
        epoch: vlan_core::PairEpoch(5),
    };

    /// A node with a leg to a peer, and the peer's end.
    fn connected(legs: &mut Legs, node: &mut Node, poller: &Poller) -> (u32, EstablishedLeg, ShmLeg) {
        let (own, other) = LegSocket::pair().unwrap();
        let own_end = PeerEnd { peer: NodeNumber(1), peer_process: ProcessId(11), ..PEER };
        let mut peer = PairLeg::new(other, own_end, &legs.config).unwrap();
        legs.start_pair(NOW, PEER, own, poller);
        let id = legs.next_id - 1;
        loop {
            legs.handle_ready(NOW, id, node, poller);
            if let SetupProgress::Up { leg, shm } = peer.advance().unwrap() {
                legs.handle_ready(NOW, id, node, poller);
                return (id, leg, shm);
            }
        }
    }

    fn lone_node() -> (Poller, Legs, Node) {
        let (number, process) = (NodeNumber(1), ProcessId(11));
        let identity = Identity { number, process, key: PrivateKey::generate() };
        let node = Node::new(NodeConfig {
            number,
            process,
            cabinet: CabinetNumber(0),
            control_node_legs: Vec::new(),
            seed: 1,
        });
        (Poller::new().unwrap(), Legs::new(identity, Vec::new()), node)
    }

    /// The machine finishes the legs that have hung up, and the host does what it says of them.
    fn leave(legs: &mut Legs, node: &mut Node, poller: &Poller) {
        node.receive(NOW, 16, &mut NoStack);
        while let Some(output) = node.poll_output() {
            if let Output::CloseLeg { peer, process, leg } = output {
                legs.close(peer, process, leg, poller);
            }
        }
    }

    #[test]
    fn a_hang_up_is_answered_when_the_machine_has_left_the_leg() {
        //= spec/rvi.md#leaving-a-leg
        //= type=test
        //# An end that leaves a leg MUST stop consuming, MUST store its final heads and CLOSED, and only then hang up.
        let (poller, mut legs, mut node) = lone_node();
        let (id, peer, _shm) = connected(&mut legs, &mut node, &poller);
        rustix::net::shutdown(peer.as_fd(), Shutdown::Write).unwrap();
        legs.handle_ready(NOW, id, &mut node, &poller);
        assert!(!peer.is_hung_up(), "the node still takes what the peer had published");
        leave(&mut legs, &mut node, &poller);
        assert!(peer.is_hung_up());
        assert!(legs.stages.is_empty());
    }

    #[test]
    fn a_leg_of_an_association_that_is_over_is_closed_with_nothing_taken() {
        //= spec/rvi.md#refused-legs
        //= type=test
        //# An end that refuses a leg MUST mark its own region CLOSED with nothing taken before it hangs up.
        let (poller, mut legs, mut node) = lone_node();
        let (id, peer, _shm) = connected(&mut legs, &mut node, &poller);
        drop(peer);
        legs.handle_ready(NOW, id, &mut node, &poller);
        leave(&mut legs, &mut node, &poller);
        let (_, peer, shm) = connected(&mut legs, &mut node, &poller);
        assert!(peer.is_hung_up() && legs.stages.is_empty());
        let mut association = Association::new(&AssociationConfig::default());
        association.handle_leg_up(NOW, LegNumber(0), shm);
        association.send_control(NOW, &[1]).unwrap();
        assert_eq!(association.handle_leg_gone(NOW, LegNumber(0)), LegEnd::Closed);
        let mut unsent = Vec::new();
        association.drain_unsent(&mut |_, octets, unsent_as| unsent.push((octets.to_vec(), unsent_as)));
        assert_eq!(unsent, [(vec![1], Unsent::Ring { maybe_taken: false })]);
    }
}

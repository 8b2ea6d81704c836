use super::*;
use std::format;
use std::io::Read;
use std::vec::Vec;

const HELLO: NodeHello =
    NodeHello { node: NodeNumber(7), process: ProcessId(70), leg: LegNumber(1), session: 4 };
/// The control node's number of the session that legs join.
const JOINED: u32 = 9;
const CONTROL_NODE: ProcessId = ProcessId(1);
const END: PeerEnd =
    PeerEnd { peer: NodeNumber(8), peer_process: ProcessId(80), leg: LegNumber(0), epoch: PairEpoch(6) };

fn config() -> ShmConfig {
    ShmConfig { slots_log2: 6, arena_len: 1 << 18 }
}

struct Keys {
    node: PrivateKey,
    control_node: PrivateKey,
}

impl Keys {
    fn new() -> Self {
        Self { node: PrivateKey::generate(), control_node: PrivateKey::generate() }
    }

    fn node(&self, socket: LegSocket) -> NodeControlLeg {
        NodeControlLeg::new(socket, &self.node, &self.control_node.public(), &HELLO, &config()).unwrap()
    }

    fn advance(&self, control_node: &mut ControlNodeLeg) -> Result<SetupProgress, SetupError> {
        let known = self.node.public();
        let mut lookup = |key: &PublicKey| (*key == known).then_some(HELLO.node);
        control_node.advance(&self.control_node, &mut lookup, &mut |_| Some(JOINED))
    }
}

fn control_legs(keys: &Keys) -> (NodeControlLeg, ControlNodeLeg) {
    let (a, b) = LegSocket::pair().unwrap();
    (keys.node(a), ControlNodeLeg::new(b, CONTROL_NODE, &config()))
}

#[track_caller]
fn expect_pending(progress: Result<SetupProgress, SetupError>) {
    assert!(matches!(progress, Ok(SetupProgress::Pending)), "{progress:?}");
}

#[track_caller]
fn expect_up(progress: Result<SetupProgress, SetupError>) -> (EstablishedLeg, ShmLeg) {
    match progress {
        Ok(SetupProgress::Up { leg, shm }) => (leg, shm),
        other => panic!("not up: {other:?}"),
    }
}

/// A datagram of set-up with a body in the clear.
fn setup_datagram(body: &[u8]) -> DatagramBuf {
    let mut datagram = DatagramBuf::empty();
    datagram.start(Kind::Setup);
    datagram.push(body);
    datagram
}

fn good_body() -> [u8; BODY_LEN] {
    SetupBody { region_len: config().region_len() as u32, number: 0, session: 5 }.emit()
}

/// A pair leg whose peer is a raw socket in the test's hands.
fn pair_leg() -> (PairLeg, LegSocket) {
    let (a, b) = LegSocket::pair().unwrap();
    (PairLeg::new(a, END, &config()).unwrap(), b)
}

#[test]
fn a_control_leg_comes_up_and_both_ends_know_each_other() {
    //= spec/leg-setup.md#session-tags
    //= type=test
    //# Each leg of a control RVI MUST carry the tag of its session: on shared memory the node's number of it in HELLO and
    //# the control node's in its SETUP, on packets the one in CONNECT and the other in ACCEPT.
    let keys = Keys::new();
    let (mut node, mut control_node) = control_legs(&keys);
    expect_pending(node.advance());
    expect_pending(keys.advance(&mut control_node));
    expect_pending(node.advance());
    let (at_control_node, _shm) = expect_up(keys.advance(&mut control_node));
    let (mut at_node, _shm) = expect_up(node.advance());
    assert_eq!((at_control_node.peer, at_control_node.peer_process), (HELLO.node, HELLO.process));
    assert_eq!((at_node.peer, at_node.peer_process), (NodeNumber(0), CONTROL_NODE));
    assert_eq!((at_control_node.leg, at_node.leg), (HELLO.leg, HELLO.leg));
    assert_eq!(at_control_node.session, at_node.session);
    let tag = SessionTag { node: HELLO.session, control_node: JOINED };
    assert_eq!((at_control_node.tag, at_node.tag), (tag, tag));
    at_control_node.ring_doorbell().unwrap();
    assert!(matches!(at_node.receive(), established::Datagram::Doorbell));
    assert_eq!(node.advance().unwrap_err(), SetupError::Over);
    assert!(node.as_fd().is_none());
}

#[test]
fn a_leg_for_a_session_that_is_over_does_not_come_up_and_costs_no_memory() {
    let keys = Keys::new();
    let (mut node, mut control_node) = control_legs(&keys);
    expect_pending(keys.advance(&mut control_node));
    expect_pending(node.advance());
    let known = keys.node.public();
    let mut asked = None;
    let result = control_node.advance(
        &keys.control_node,
        &mut |key| (*key == known).then_some(HELLO.node),
        &mut |hello| {
            asked = Some(*hello);
            None
        },
    );
    assert_eq!(result.unwrap_err(), SetupError::PastSession { number: HELLO.session });
    assert_eq!(asked, Some(HELLO));
    assert_eq!(node.advance().unwrap_err(), SetupError::Closed);
}

#[test]
fn a_pair_leg_comes_up_over_sockets_that_a_control_node_made() {
    let (a, b) = LegSocket::pair().unwrap();
    let mut one = PairLeg::new(a, END, &config()).unwrap();
    expect_pending(one.advance());
    let mut other = PairLeg::new(b, PeerEnd { peer: NodeNumber(7), ..END }, &config()).unwrap();
    let (at_other, _shm) = expect_up(other.advance());
    at_other.ring_doorbell().unwrap();
    let (mut at_one, _shm) = expect_up(one.advance());
    assert_eq!((at_one.peer, at_other.peer), (NodeNumber(8), NodeNumber(7)));
    assert_eq!(at_one.session, at_other.session);
    assert_eq!((at_one.epoch, at_other.epoch), (END.epoch, END.epoch));
    assert!(matches!(at_one.receive(), established::Datagram::Doorbell));
    drop(at_other);
    assert!(matches!(at_one.receive(), established::Datagram::Closed));
}

#[test]
fn what_one_end_writes_the_other_reads() {
    let (a, b) = LegSocket::pair().unwrap();
    let mut one = PairLeg::new(a, END, &config()).unwrap();
    let mut other = PairLeg::new(b, END, &config()).unwrap();
    let (_leg, at_one) = expect_up(one.advance());
    let (_leg, at_other) = expect_up(other.advance());
    at_one.own.write(config().region_len() - 4, b"seen");
    let mut seen = [0; 4];
    at_other.peer.read(config().region_len() - 4, &mut seen);
    assert_eq!(&seen, b"seen");
}

#[test]
fn doorbells_during_set_up_are_ignored() {
    //= spec/leg-setup.md#doorbells
    //= type=test
    //# A doorbell that arrives during set-up MUST be ignored.
    let keys = Keys::new();
    let (a, b) = LegSocket::pair().unwrap();
    for _ in 0..DOORBELLS_PER_CALL {
        a.ring_doorbell().unwrap();
        b.ring_doorbell().unwrap();
    }
    let mut node = keys.node(a);
    let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
    expect_pending(node.advance());
    for _ in 0..2 {
        expect_pending(keys.advance(&mut control_node));
    }
    expect_pending(node.advance());
    expect_up(keys.advance(&mut control_node));
    expect_up(node.advance());
}

#[test]
fn a_replayed_hello_gets_no_memory() {
    //= spec/leg-setup.md#freshness
    //= type=test
    //# On a control leg SETUP MUST be sealed with the keys of the leg's own handshake, and a control node MUST
    //# NOT allocate memory for a node before it has opened that node's SETUP.
    let keys = Keys::new();
    let mut recorded = Vec::new();
    for replay in [false, true] {
        let (wire, b) = LegSocket::pair().unwrap();
        let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
        let (mut tap, a) = LegSocket::pair().unwrap();
        let mut node = keys.node(a);
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        if !replay {
            // The attacker in the middle passes everything on and records it.
            let mut pass = |from: &mut LegSocket, to: &LegSocket| {
                let Ok(Received::Datagram { len, descriptor }) =
                    from.receive(&mut buffer, Room::OneDescriptor)
                else {
                    panic!("a datagram waits");
                };
                to.send(&buffer[..len], descriptor.as_ref().map(AsFd::as_fd)).unwrap();
                buffer[..len].to_vec()
            };
            let mut wire = wire;
            recorded.push(pass(&mut tap, &wire));
            expect_pending(keys.advance(&mut control_node));
            pass(&mut wire, &tap);
            expect_pending(node.advance());
            recorded.push(pass(&mut tap, &wire));
            expect_up(keys.advance(&mut control_node));
        } else {
            wire.send(&recorded[0], None).unwrap();
            expect_pending(keys.advance(&mut control_node));
            let memory = OwnMemory::new(&config()).unwrap();
            wire.send(&recorded[1], Some(memory.descriptor())).unwrap();
            let error = keys.advance(&mut control_node).unwrap_err();
            assert_eq!(error, SetupError::Handshake(HandshakeError::Proof));
            assert!(wire.is_hung_up());
        }
    }
}

#[test]
fn a_setup_in_the_clear_does_not_pass_on_a_control_leg() {
    let keys = Keys::new();
    let (a, b) = LegSocket::pair().unwrap();
    let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
    let (_initiator, hello) = Initiator::new(&keys.node, &keys.control_node.public(), &HELLO);
    a.send(hello.as_slice(), None).unwrap();
    expect_pending(keys.advance(&mut control_node));
    let memory = OwnMemory::new(&config()).unwrap();
    a.send(setup_datagram(&good_body()).as_slice(), Some(memory.descriptor())).unwrap();
    assert_eq!(keys.advance(&mut control_node).unwrap_err(), SetupError::Handshake(HandshakeError::Proof));
}

#[test]
fn a_stranger_and_an_impostor_are_refused_by_name() {
    let keys = Keys::new();
    let stranger = Keys { node: PrivateKey::generate(), control_node: keys.control_node.clone() };
    let (a, b) = LegSocket::pair().unwrap();
    let mut node = stranger.node(a);
    let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
    let error = keys.advance(&mut control_node).unwrap_err();
    assert_eq!(error, SetupError::Handshake(HandshakeError::UnknownKey(stranger.node.public())));
    assert!(format!("{error}").contains(&format!("{}", stranger.node.public())));
    assert_eq!(node.advance().unwrap_err(), SetupError::Closed, "the stranger is told nothing");

    let (a, b) = LegSocket::pair().unwrap();
    let claim = NodeHello { node: NodeNumber(9), ..HELLO };
    let mut node =
        NodeControlLeg::new(a, &keys.node, &keys.control_node.public(), &claim, &config()).unwrap();
    let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
    let expected = HandshakeError::NodeNumber { claimed: NodeNumber(9), proven: HELLO.node };
    assert_eq!(keys.advance(&mut control_node).unwrap_err(), SetupError::Handshake(expected));
    let refused = HandshakeError::Refused(crate::host::RefusalReason::NodeNumber);
    assert_eq!(node.advance().unwrap_err(), SetupError::Handshake(refused));
}

#[test]
fn garbage_at_each_step_ends_the_set_up_and_closes_what_came_with_it() {
    //= spec/leg-setup.md#other-datagrams
    //= type=test
    //# A datagram of any other form than those expected at that point MUST end the leg or its set-up.
    let garbage: [&[u8]; 7] = [
        b"x",
        b"WL",
        b"WL\x01\x01",
        b"WL\x01\x02short",
        b"WL\x01\x03",
        b"WL\x02\x03",
        &[0xff; 2 * DATAGRAM_LEN_MAX],
    ];
    let keys = Keys::new();
    for octets in garbage {
        for with_descriptor in [false, true] {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let send = |socket: &LegSocket| {
                socket.send(octets, with_descriptor.then(|| writer.as_fd())).unwrap();
            };
            // To a control node that waits for HELLO.
            let (a, b) = LegSocket::pair().unwrap();
            send(&a);
            let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
            assert!(keys.advance(&mut control_node).is_err(), "{octets:?}");
            assert_eq!(keys.advance(&mut control_node).unwrap_err(), SetupError::Over);
            // To a node that waits for ANSWER.
            let (a, b) = LegSocket::pair().unwrap();
            let mut node = keys.node(a);
            send(&b);
            assert!(node.advance().is_err(), "{octets:?}");
            // To both while they wait for SETUP.
            let (a, b) = LegSocket::pair().unwrap();
            let (_initiator, hello) = Initiator::new(&keys.node, &keys.control_node.public(), &HELLO);
            a.send(hello.as_slice(), None).unwrap();
            let mut control_node = ControlNodeLeg::new(b, CONTROL_NODE, &config());
            expect_pending(keys.advance(&mut control_node));
            send(&a);
            assert!(keys.advance(&mut control_node).is_err(), "{octets:?}");
            // To an end of a pair.
            let (mut pair, peer) = pair_leg();
            send(&peer);
            assert!(pair.advance().is_err(), "{octets:?}");
            drop(writer);
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "every copy of the descriptor was closed");
        }
    }
}

#[test]
fn a_hang_up_at_each_step_ends_the_set_up() {
    let keys = Keys::new();
    let (mut node, control_node) = control_legs(&keys);
    drop(control_node);
    assert_eq!(node.advance().unwrap_err(), SetupError::Closed);
    let (mut node, mut control_node) = control_legs(&keys);
    expect_pending(keys.advance(&mut control_node));
    expect_pending(node.advance());
    drop(node);
    // SETUP was sent before the hang-up: it is taken, and the answer finds nobody.
    let error = keys.advance(&mut control_node).unwrap_err();
    assert_eq!(error, SetupError::Send(SendError::Closed));
    let (mut pair, peer) = pair_leg();
    drop(peer);
    assert_eq!(pair.advance().unwrap_err(), SetupError::Closed);
}

#[test]
fn memory_that_is_not_as_agreed_is_refused() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (mut pair, peer) = pair_leg();
    peer.send(setup_datagram(&good_body()).as_slice(), Some(writer.as_fd())).unwrap();
    drop(writer);
    let error = pair.advance().unwrap_err();
    assert!(matches!(error, SetupError::PeerMemory(AcceptError::NotMemfd(_))), "{error}");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);

    let (mut pair, peer) = pair_leg();
    peer.send(setup_datagram(&good_body()).as_slice(), None).unwrap();
    assert_eq!(pair.advance().unwrap_err(), SetupError::Violation(LegViolation::NoDescriptor));

    let larger = OwnMemory::new(&ShmConfig { slots_log2: 7, ..config() }).unwrap();
    let (mut pair, peer) = pair_leg();
    peer.send(setup_datagram(&good_body()).as_slice(), Some(larger.descriptor())).unwrap();
    let error = pair.advance().unwrap_err();
    assert!(matches!(error, SetupError::PeerMemory(AcceptError::Length { .. })), "{error}");

    let own = config().region_len() as u32;
    let (mut pair, peer) = pair_leg();
    let body = SetupBody { region_len: own + 4096, number: 0, session: 5 }.emit();
    peer.send(setup_datagram(&body).as_slice(), Some(larger.descriptor())).unwrap();
    assert_eq!(pair.advance().unwrap_err(), SetupError::RegionLen { peer: own + 4096, own });
}

#[test]
fn memory_with_a_wrong_header_is_refused() {
    let (mut pair, peer) = pair_leg();
    let memory = OwnMemory::new(&config()).unwrap();
    peer.send(setup_datagram(&good_body()).as_slice(), Some(memory.descriptor())).unwrap();
    memory.into_region().write(0, &[0xff; 64]);
    let error = pair.advance().unwrap_err();
    assert!(matches!(error, SetupError::Header(ShmLegError::Peer(_))), "{error}");
}

#[test]
fn another_version_of_setup_is_refused() {
    //= spec/leg-setup.md#versions
    //= type=test
    //# An end that gets a datagram of another version MUST end the set-up, and a control node says so in REFUSED.
    let (mut pair, peer) = pair_leg();
    let memory = OwnMemory::new(&config()).unwrap();
    let mut datagram = setup_datagram(&good_body()).as_slice().to_vec();
    datagram[2] = VERSION + 1;
    peer.send(&datagram, Some(memory.descriptor())).unwrap();
    let expected = HandshakeError::Version { peer: VERSION + 1, own: VERSION };
    assert_eq!(pair.advance().unwrap_err(), SetupError::Handshake(expected));
}

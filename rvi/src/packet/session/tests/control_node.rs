//! A node and its control node.

use super::*;
use crate::association::SessionTag;

const TAG: SessionTag = SessionTag { node: 5, control_node: 70 };

/// What a control node knows: the node's configuration of its own end.
fn configs() -> [SessionConfig; 2] {
    let [mut node, mut control] = [config(0), config(1)];
    (node.kind, node.peer) = (SessionKind::ToControlNode(TAG.node), None);
    (control.kind, control.node) = (SessionKind::ToNode(TAG), NodeNumber(0));
    [node, control]
}

fn introduce(pair: &mut Pair, connect: &Flight) -> Result<Introduction, OpenError> {
    let entropy = pair.entropy.draw();
    Introduction::open(&configs()[1].own_key, &connect.octets, &entropy)
}

#[test]
fn a_node_proves_its_key_and_tells_who_it_is() {
    let mut pair = Pair::of(configs());
    pair.begin(1);
    assert!(pair.flights(1).is_empty(), "a control node never begins");
    pair.begin(0);
    let connects = pair.flights(0);
    let hint = Hint::of(&connects[0].octets).unwrap();
    assert_eq!((hint.pattern, hint.initiator), (Pattern::ControlNode, ProcessId(100)));
    let introduction = introduce(&mut pair, &connects[0]).unwrap();
    assert_eq!(*introduction.key(), configs()[0].own_key.public());
    assert_eq!((introduction.node(), introduction.process()), (NodeNumber(10), ProcessId(100)));
    assert_eq!(introduction.offer().tlv_version, 1);
    pair.ends[1].handle_introduction(pair.now, leg(0), introduction).unwrap();
    // The copy by the other leg needs no arithmetic: the session knows its answer.
    pair.deliver(&connects[1]).unwrap();
    pair.run();
    pair.assert_works();
    let SessionEvent::Established { peer, .. } = pair.events[0][0] else { panic!() };
    assert_eq!((peer.process, peer.node), (ProcessId(101), NodeNumber(0)));
}

#[test]
fn a_later_handshake_of_the_same_node_needs_no_introduction() {
    let mut pair = Pair::of(configs());
    for _ in 0..2 {
        pair.numbers = Default::default();
        pair.begin(0);
        pair.run();
        pair.assert_works();
        pair.ends[0].forget();
    }
    assert_eq!(pair.sessions(1).len(), 2);
}

#[test]
fn each_end_learns_the_others_number_of_the_control_session_and_another_session_is_not_answered() {
    //= spec/leg-setup.md#session-tags
    //= type=test
    //# Each leg of a control RVI MUST carry the tag of its session: on shared memory the node's number of it in HELLO and
    //# the control node's in its SETUP, on packets the one in CONNECT and the other in ACCEPT.
    let mut pair = Pair::of(configs());
    pair.begin(0);
    let connect = pair.flights(0).remove(0);
    let introduction = introduce(&mut pair, &connect).unwrap();
    assert_eq!(introduction.control_session(), TAG.node);
    pair.ends[1].handle_introduction(pair.now, leg(0), introduction).unwrap();
    assert!(pair.ends[1].has_seen(&Hint::of(&connect.octets).unwrap()));
    pair.run();
    let number = |event: &SessionEvent| match event {
        SessionEvent::Established { peer, .. } => peer.control_session,
        _ => 0,
    };
    assert_eq!([0, 1].map(|end: usize| number(&pair.events[end][0])), [TAG.control_node, TAG.node]);
    // The node has given that session up and wants its next one.
    let mut later = configs();
    later[0].kind = SessionKind::ToControlNode(TAG.node + 1);
    pair.ends[0] = PacketSession::new(later[0].clone());
    pair.now = pair.now + Duration::from_secs(1);
    pair.begin(0);
    let connect = pair.flights(0).remove(0);
    assert!(!pair.ends[1].has_seen(&Hint::of(&connect.octets).unwrap()));
    assert_eq!(pair.deliver(&connect), Err(OpenError::Terms));
    assert!(pair.ends[1].pending.is_none() && pair.ends[1].is_established());
}

#[test]
fn an_introduction_that_is_an_old_one_changes_nothing() {
    let mut pair = Pair::of(configs());
    pair.begin(0);
    pair.run();
    pair.assert_works();
    let (state, events) = (pair.state(), pair.events.clone());
    let connect = pair.sent[0].clone();
    let introduction = introduce(&mut pair, &connect).unwrap();
    let refused = pair.ends[1].handle_introduction(pair.now, leg(0), introduction);
    assert_eq!(refused, Err(OpenError::Stale));
    pair.collect();
    assert_eq!((pair.state(), &pair.events), (state, &events));
}

#[test]
fn a_refusal_reaches_the_node_and_only_from_its_control_node() {
    let mut pair = Pair::of(configs());
    pair.begin(0);
    let connects = pair.flights(0);
    let introduction = introduce(&mut pair, &connects[0]).unwrap();
    let mut out = [0; HANDSHAKE_PACKET_LEN_MAX];
    let len = introduction.refuse(&legs()[0], ProcessId(101), 2, &mut out).unwrap();
    let refusal = Flight { to: 0, leg: leg(0), octets: out[..len].to_vec() };
    let mut forged = refusal.clone();
    forged.octets[40] ^= 1;
    assert_eq!(pair.deliver(&forged), Err(OpenError::Mac));
    assert!(pair.ends[0].attempt.is_some());
    assert_eq!(pair.deliver(&refusal), Err(OpenError::Terms));
    assert_eq!(pair.events[0], [SessionEvent::Refused(2)]);
    assert!(pair.ends[0].attempt.is_none());
}

#[test]
fn who_does_not_know_the_control_node_gets_no_work_out_of_it() {
    let mut wrong = configs();
    wrong[0].peer_key = key(9).public();
    let mut pair = Pair::of(wrong);
    pair.begin(0);
    let connect = pair.flights(0).remove(0);
    assert_eq!(introduce(&mut pair, &connect).unwrap_err(), OpenError::Mac);
    // A pair's CONNECT is no introduction.
    let mut pair = Pair::new();
    pair.begin(0);
    let connect = pair.flights(0).remove(0);
    assert_eq!(introduce(&mut pair, &connect).unwrap_err(), OpenError::Kind);
}

#[test]
fn a_node_of_another_key_does_not_get_a_session_made_for_this_one() {
    let mut pair = Pair::of(configs());
    let mut other = configs()[0].clone();
    other.own_key = key(9);
    let mut stranger = PacketSession::<Audited>::new(other);
    stranger.begin(pair.now, &[5; 32]);
    let mut out = [0; HANDSHAKE_PACKET_LEN_MAX];
    let len = stranger.poll_handshake_packet(pair.now, leg(0), &mut out).unwrap();
    let connect = Flight { to: 1, leg: leg(0), octets: out[..len].to_vec() };
    assert_eq!(pair.deliver(&connect), Err(OpenError::Proof));
    let introduction = introduce(&mut pair, &connect).unwrap();
    assert_eq!(*introduction.key(), key(9).public());
    assert_eq!(pair.ends[1].handle_introduction(pair.now, leg(0), introduction), Err(OpenError::Proof));
    assert!(pair.ends[1].pending.is_none());
}

//! Multicast groups: what is told to control nodes, what comes through, and queries.

use super::*;
use core::net::IpAddr;
use vlan_core::group::listener::FIRST_QUERY;
use vlan_core::security::Rate;
use vlan_core::wire::control::{
    GroupCause, GroupLimits, GroupNotice, GroupPolicy, JoinedGroup, TraceEnd, TraceOrder, TraceWay,
};

const GROUP: [u8; 4] = [239, 1, 1, 1];

fn group() -> IpAddr {
    GROUP.into()
}

/// An IPv4 packet to a group, of the protocol and with the payload given.
fn packet(destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0x5e, destination[1] & 0x7f, destination[2], destination[3]];
    frame.extend_from_slice(&OWN.0);
    frame.extend_from_slice(&[
        8,
        0,
        0x45,
        0,
        0,
        20 + payload.len() as u8,
        0,
        0,
        0,
        0,
        1,
        protocol,
        0,
        0,
        10,
        1,
        0,
        1,
    ]);
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(payload);
    frame.resize(60, 0);
    frame
}

/// A report of IGMPv2 for the group, or a leave.
fn igmp(kind: u8) -> Vec<u8> {
    packet(GROUP, 2, &[[kind, 0, 0, 0], GROUP].concat())
}

fn notices(far: &mut Far) -> Vec<GroupNotice> {
    let notice = |message| match message {
        ControlMessage::Groups(notice) => Some(notice),
        _ => None,
    };
    far.told().into_iter().filter_map(notice).collect()
}

fn joined(cause: GroupCause) -> Vec<JoinedGroup> {
    vec![JoinedGroup { group: group(), cause }]
}

fn snoop(far: &mut Far, node: &mut Node) {
    let policy = GroupPolicy { vif: VIF, snoops: true, querier: [10, 1, 0, 254].into() };
    far.tell(node, &ControlMessage::GroupPolicy(policy));
}

/// A group frame of the other member as it comes from the control node.
fn relayed(bseq: u32, frame: &[u8]) -> Vec<u8> {
    [&header(FrameKind::Group, bseq).emit(frame.len())[..], frame].concat()
}

/// Gives the node a group frame of the other member; returns how many frames reach the stack.
fn deliver(far: &mut Far, node: &mut Node, bseq: u32, frame: &[u8]) -> usize {
    far.send(RELAY, &relayed(bseq, frame));
    let mut sink = Sink::default();
    node.receive(NOW, 1000, &mut sink);
    node.publish(NOW);
    sink.0
}

#[test]
fn a_control_node_is_told_what_is_joined_and_every_change() {
    //= spec/multicast.md#announcements
    //= type=test
    //# A node MUST tell each control node that accepts it every group that its interfaces have joined, and every change
    //# after that.
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    let first = notices(&mut far);
    assert!(first.len() == 1 && first[0].joined.is_empty() && !first[0].more, "{first:?}");
    node.handle_memberships(NOW, VIF, &[group(), [224, 0, 0, 251].into()]);
    node.publish(NOW);
    assert_eq!(notices(&mut far)[0].joined, joined(GroupCause::Own));
    node.send_frame(NOW, VIF, &Vnet::default(), &igmp(0x16));
    node.publish(NOW);
    assert_eq!(notices(&mut far)[0].joined, joined(GroupCause::Both));
    node.handle_memberships(NOW, VIF, &[]);
    node.publish(NOW);
    assert_eq!(notices(&mut far)[0].joined, joined(GroupCause::Reported));
    // The control node starts again: it has the groups before it has accepted the node.
    node.handle_leg_gone(NOW, PeerId::ControlNode(0), ProcessId(7), LEG);
    turn(&mut node);
    let mut far = Far::connect(&mut node, PeerId::ControlNode(0), 8, &[RELAY, ARP]);
    node.publish(NOW);
    let told = far.told();
    assert!(matches!(told[0], ControlMessage::Register { .. }), "{told:?}");
    let ControlMessage::Groups(again) = &told[1] else { panic!("{told:?}") };
    assert_eq!(again.joined, joined(GroupCause::Reported));
}

#[test]
fn what_nobody_has_joined_does_not_reach_the_stack() {
    //= spec/multicast.md#not-joined
    //= type=test
    //# The driver MUST discard a frame for a snooped group that nobody behind its interface has joined, unless it asks
    //# for every group or listens promiscuously.
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    let stream = packet(GROUP, 17, &[0; 8]);
    assert_eq!(deliver(&mut far, &mut node, 1, &stream), 1, "nobody has said that groups are sorted");
    snoop(&mut far, &mut node);
    assert_eq!(deliver(&mut far, &mut node, 2, &stream), 0);
    assert_eq!(node.interfaces().next().unwrap().counters.drops.of(DropReason::NotJoined), 1);
    assert_eq!(deliver(&mut far, &mut node, 3, &packet([224, 0, 0, 251], 17, &[0; 8])), 1);
    node.handle_memberships(NOW, VIF, &[group()]);
    assert_eq!(deliver(&mut far, &mut node, 4, &stream), 1);
}

#[test]
fn an_example_and_a_trace_name_what_nobody_has_joined() {
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    snoop(&mut far, &mut node);
    let stream = packet(GROUP, 17, &[0; 8]);
    assert_eq!(deliver(&mut far, &mut node, 1, &stream), 0);
    far.tell(&mut node, &ControlMessage::ReportRequest { id: 1 });
    let told = far.told();
    let is_example = |message: &ControlMessage| {
        matches!(message, ControlMessage::ReportDrops { drops, .. }
            if drops.len() == 1 && drops[0].reason == "not-joined" && stream.starts_with(&drops[0].headers))
    };
    assert!(told.iter().any(is_example), "{told:?}");
    let way = TraceWay::Relay;
    let order =
        |bseq| TraceOrder { id: 4, way, vif: VIF, peer: NodeNumber(2), octets: relayed(bseq, &stream) };
    let traced = node.trace(Instant::ZERO, &order(2));
    assert_eq!((traced.end, &traced.steps[0].rule[..]), (TraceEnd::Dropped, "spec/multicast.md#not-joined"));
    node.handle_memberships(NOW, VIF, &[group()]);
    assert_eq!(node.trace(Instant::ZERO, &order(2)).end, TraceEnd::Delivered);
}

#[test]
fn queries_go_to_the_interface_and_nowhere_else() {
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    snoop(&mut far, &mut node);
    far.take(1000);
    let due = NOW + FIRST_QUERY;
    assert!(node.poll_timeout().is_some_and(|at| at <= due));
    node.handle_timeout(due);
    assert_eq!(node.poll_timeout(), Some(Instant::ZERO), "at once");
    let mut sink = Sink::default();
    node.receive(due, 1000, &mut sink);
    node.publish(due);
    assert_eq!((sink.0, far.take(1000).len()), (2, 0), "one of IGMP and one of MLD");
    let received = node.interfaces().next().unwrap().counters.received_relay.frames;
    assert_eq!(received, 2);
}

#[test]
fn what_a_stack_sends_to_groups_beyond_a_limit_goes_nowhere() {
    //= spec/port-security.md#limits-where-a-storm-begins
    //= type=test
    //# A control node MUST tell a node how much each interface of it may send to groups, and the node MUST discard what is beyond that
    //# before it goes anywhere.
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    let hundred = Rate { frames: Some(100), bits: None };
    let limits = GroupLimits { vif: VIF, broadcast: hundred, ..GroupLimits::default() };
    far.tell(&mut node, &ControlMessage::GroupLimits(limits));
    far.take(1000);
    let storm = |node: &mut Node| (0..20).map(|n| send(node, MacAddress::BROADCAST, n)).collect::<Vec<_>>();
    // A tenth of a second's at once, and the one that finds the last room.
    let accepts = storm(&mut node);
    assert_eq!((&accepts[..11], &accepts[11..]), (&[Accept::Taken; 11][..], &[Accept::Limited; 9][..]));
    assert_eq!((far.take(1000).len(), drops(&node, DropReason::LimitBroadcast)), (11, 9));
    // What was said before is not begun anew, and other kinds are not met.
    far.tell(&mut node, &ControlMessage::GroupLimits(limits));
    assert_eq!(send(&mut node, MacAddress::BROADCAST, 0), Accept::Limited);
    for to in [PEER, MacAddress([0x33, 0x33, 0, 0, 0, 1])] {
        assert_eq!(send(&mut node, to, 0), Accept::Taken);
    }
    assert_eq!(far.take(1000).len(), 2);
    // Nothing is limited any more.
    far.tell(&mut node, &ControlMessage::GroupLimits(GroupLimits { vif: VIF, ..GroupLimits::default() }));
    assert_eq!(storm(&mut node), [Accept::Taken; 20]);
}

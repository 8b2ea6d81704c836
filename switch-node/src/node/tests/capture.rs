//! Captures of a node: what is copied, what is not, and what happens to copies that nobody takes.

use super::*;
use crate::node::capture::is_tapped;
use vlan_core::group::listener::FIRST_QUERY;
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::wire::control::{CaptureDirections, CaptureOrder, CapturePoint, GroupPolicy};
use vlan_core::wire::{CAPTURED_HEADER_LEN, CapturedHeader, CapturedRecord};

const WINDOW: u32 = 128 * 1024;
/// 1970 and so many nanoseconds, at the time zero of the node's clock.
const EPOCH: u64 = 1_800_000_000_000_000_000;

fn order(point: CapturePoint) -> CaptureOrder {
    let (directions, snap_octets) = (CaptureDirections::Both, MESSAGE_LEN_MAX as u32);
    CaptureOrder { id: 5, point, directions, snap_octets, window_octets: WINDOW, filter: vec![] }
}

/// A copy: when, whether it went out, its channel and its octets.
type Copy = (u64, bool, u8, Vec<u8>);

impl Far {
    fn begin(&mut self, node: &mut Node, order: CaptureOrder) {
        self.0.open_channel(Channel::RELAYED_PACKETS);
        self.tell(node, &ControlMessage::Capture(order));
        let asks = outputs(node).contains(&Output::WallClock);
        if asks {
            node.handle_wall_clock(NOW, EPOCH + NOW.as_nanos());
        }
    }

    fn end(&mut self, node: &mut Node, discard: bool) -> (CapturedHeader, Vec<Copy>) {
        self.tell(node, &ControlMessage::CaptureEnd { id: 5, discard });
        self.captured()
    }

    /// The last header that has come, and all copies.
    fn captured(&mut self) -> (CapturedHeader, Vec<Copy>) {
        let (mut last, mut copies) = (CapturedHeader::default(), Vec::new());
        for octets in self.relayed() {
            last = CapturedHeader::parse(&octets, octets.len()).expect("copies");
            let mut rest = &octets[CAPTURED_HEADER_LEN..];
            while !rest.is_empty() {
                let copy = CapturedRecord::take(&mut rest).expect("a copy");
                copies.push((copy.unix_ns, copy.is_out, copy.channel, copy.octets.to_vec()));
            }
        }
        (last, copies)
    }

    /// Sends a frame of `len` octets to the node's interface by relay.
    fn deliver(&mut self, node: &mut Node, len: usize, bseq: u32) {
        self.send(RELAY, &relayed(bseq, len));
        turn(node);
    }
}

#[test]
fn frames_of_an_interface_are_copied_whole_with_their_time_and_direction() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.begin(&mut node, order(CapturePoint::Interface(VIF)));
    send(&mut node, PEER, 1);
    control.deliver(&mut node, 1400, 0);
    let (header, copies) = control.end(&mut node, false);
    assert_eq!((header.seen, header.matched, header.lost, header.is_last), (2, 2, 0, true));
    let said: Vec<_> = copies.iter().map(|(at, is_out, _, octets)| (*at, *is_out, octets.len())).collect();
    let at = EPOCH + NOW.as_nanos();
    assert_eq!(said, [(at, true, 60), (at, false, 1400)]);
    assert_eq!((copies[0].3[20], &copies[1].3[6..13]), (1, &[&PEER.0[..], &[8]].concat()[..]));
    // Nothing is left: the next frame is nobody's.
    assert!(node.captures.is_none());
    send(&mut node, PEER, 2);
    assert!(control.captured().1.is_empty());
}

#[test]
fn directions_filters_and_a_snap_length_say_what_is_kept() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let directions = CaptureDirections::Out;
    // Broadcast or 100 octets at least.
    let filter = vec![0x17, 0x19, 100, 0, 0, 0, 0x02];
    let point = CapturePoint::Interface(VIF);
    control.begin(&mut node, CaptureOrder { directions, snap_octets: 20, filter, ..order(point) });
    send(&mut node, PEER, 1);
    send(&mut node, MacAddress([0xff; 6]), 2);
    control.deliver(&mut node, 1400, 0);
    let (header, copies) = control.end(&mut node, false);
    assert_eq!((header.seen, header.matched), (2, 1));
    assert_eq!(copies.iter().map(|copy| copy.3.len()).collect::<Vec<_>>(), [20]);
}

#[test]
fn messages_of_an_rvi_are_copied_with_their_channel_but_not_what_captures_send() {
    //= spec/capture.md#captures-of-captures
    //= type=test
    //# A node MUST NOT capture the messages that carry copies, nor those that steer captures.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.begin(&mut node, order(CapturePoint::ControlNode));
    send(&mut node, PEER, 1);
    control.tell(&mut node, &ControlMessage::Heartbeat { number: 7 });
    for _ in 0..3 {
        // Copies go, and credit comes.
        control.tell(&mut node, &ControlMessage::CaptureCredit { id: 5, octets: 4096 });
    }
    let (header, copies) = control.end(&mut node, false);
    let said: Vec<_> = copies.iter().map(|(_, is_out, channel, _)| (*channel, *is_out)).collect();
    assert_eq!(said, [(RELAY.0, true), (0, false), (0, true)]);
    assert_eq!((header.seen, header.lost), (3, 0));
    let frame = FrameHeader::parse(&copies[0].3, copies[0].3.len());
    assert!(frame.is_ok_and(|header| header.kind == FrameKind::Relay));
    assert_eq!(ControlMessage::parse(&copies[1].3), Ok(ControlMessage::Heartbeat { number: 7 }));
    assert_eq!(ControlMessage::parse(&copies[2].3), Ok(ControlMessage::HeartbeatReply { number: 7 }));
}

#[test]
fn copies_that_nobody_takes_are_lost_and_nothing_else_is() {
    //= spec/capture.md#bounds
    //= type=test
    //# A copy for which there is no room MUST be counted as lost; it MUST NOT delay or displace a frame.
    //= spec/capture.md#credit
    //= type=test
    //# A node MUST NOT have more octets of copies under way than it has credit for, each message counted as 4,096 octets at
    //# least.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.begin(&mut node, order(CapturePoint::Interface(VIF)));
    let most = 4000;
    let (mut frames, mut copies) = (0, Vec::new());
    for bseq in 0..most {
        control.deliver(&mut node, 1400, bseq);
        frames += usize::from(send(&mut node, PEER, 1) == Accept::Taken);
        for octets in control.relayed() {
            copies.push(octets);
        }
    }
    let cost: u32 = copies.iter().map(|o| CapturedHeader::cost(o.len() - CAPTURED_HEADER_LEN)).sum();
    assert!(cost <= WINDOW && cost > WINDOW - 20_000, "{cost} octets without credit");
    assert_eq!((frames, drops(&node, DropReason::EgressFull)), (most as usize, 0));
    assert_eq!(node.interfaces().map(|i| i.counters.received_relay.frames).sum::<u64>(), u64::from(most));
    let waiting = node.captures.as_ref().expect("a capture").waiting();
    assert!(waiting <= crate::node::capture::COPIES_OCTETS_MAX, "{waiting} octets wait");
    let (header, _) = control.end(&mut node, true);
    assert_eq!((header.seen, header.is_last), (2 * u64::from(most), true));
    assert!(header.lost > 0 && header.lost < header.seen, "{header:?}");
}

#[test]
fn queries_that_the_driver_makes_are_copied_as_its_stack_gets_them() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let policy = GroupPolicy { vif: VIF, snoops: true, querier: [10, 1, 0, 254].into() };
    control.tell(&mut node, &ControlMessage::GroupPolicy(policy));
    control.begin(&mut node, order(CapturePoint::Interface(VIF)));
    let due = NOW + FIRST_QUERY;
    node.handle_timeout(due);
    node.receive(due, 1000, &mut Sink::default());
    let (_, copies) = control.end(&mut node, false);
    let said: Vec<_> = copies.iter().map(|(at, is_out, ..)| (*at, *is_out)).collect();
    assert_eq!(said, [(EPOCH + due.as_nanos(), false); 2], "one of IGMP and one of MLD");
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    for wrong in [
        order(CapturePoint::Interface(VifNumber(9))),
        CaptureOrder { filter: vec![0x77], ..order(CapturePoint::ControlNode) },
    ] {
        control.begin(&mut node, wrong);
        let (header, _) = control.captured();
        assert!(header.is_refused && header.is_last && header.id == 5, "{header:?}");
        assert!(node.captures.is_none());
    }
    for id in 0..20 {
        control.begin(&mut node, CaptureOrder { id, ..order(CapturePoint::Interface(VIF)) });
    }
    let refused = control.relayed().into_iter().map(|o| CapturedHeader::parse(&o, o.len()).unwrap().id);
    assert_eq!(refused.collect::<Vec<_>>(), [16, 17, 18, 19]);
}

#[test]
fn a_capture_ends_with_its_session_and_begins_when_the_time_is_known() {
    //= spec/capture.md#the-end-of-a-capture
    //= type=test
    //# A capture MUST end with the session of the control node that asked for it.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.0.open_channel(Channel::RELAYED_PACKETS);
    control.tell(&mut node, &ControlMessage::Capture(order(CapturePoint::Interface(VIF))));
    send(&mut node, PEER, 1);
    assert!(control.captured().1.is_empty());
    node.handle_wall_clock(NOW, EPOCH);
    send(&mut node, PEER, 2);
    assert_eq!(control.captured().1.len(), 1);
    drop(control);
    lose_control(&mut node, 1);
    assert!(node.captures.is_none());
}

#[test]
fn the_key_of_a_pair_is_in_no_copy() {
    //= spec/capture.md#keys
    //= type=test
    //# A capture MUST NOT hold a key of a pair: a node overwrites it with zeros in the copy of a GRANT.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.begin(&mut node, order(CapturePoint::ControlNode));
    let association = GrantedAssociation {
        epoch: PairEpoch(77),
        pair_key: vlan_core::SecretKey::new([0x5a; 32]),
        ..GrantedAssociation::default()
    };
    let grant = Grant {
        rvi: RviNumber(7),
        lan: LanId(10),
        peer: NodeNumber(2),
        peer_process: ProcessId(22),
        channel: DIRECT,
        own_vif: VIF,
        peer_vif: VIF,
        peer_mac: PEER,
        association,
    };
    control.tell(&mut node, &ControlMessage::Grant(grant));
    let (_, copies) = control.end(&mut node, false);
    let is_grant = |copy: &&Copy| matches!(ControlMessage::parse(&copy.3), Ok(ControlMessage::Grant(_)));
    assert_eq!(copies.iter().filter(is_grant).count(), 1);
    assert!(copies.iter().all(|copy| !copy.3.windows(4).any(|octets| octets == [0x5a; 4])));
}

#[test]
fn a_capture_does_not_concern_other_interfaces_and_rvis() {
    //= spec/capture.md#what-is-not-captured
    //= type=test
    //# A capture of one interface or RVI MUST NOT have a node treat the frames of others one by one.
    let (here, there) = (PeerId::ControlNode(0), PeerId::Node(NodeNumber(2)));
    let other = VifNumber(VIF.0 + 1);
    for (point, concerned) in [
        (CapturePoint::Interface(VIF), [true, true, false, false]),
        (CapturePoint::Node(NodeNumber(2)), [false, true, false, true]),
        (CapturePoint::Node(NodeNumber(3)), [false, false, false, false]),
        (CapturePoint::ControlNode, [true, false, true, false]),
    ] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        control.begin(&mut node, order(point));
        let passes = [(VIF, here), (VIF, there), (other, here), (other, there)];
        let tapped = passes.map(|(vif, peer)| is_tapped(node.captures.as_deref(), vif, peer));
        assert_eq!(tapped, concerned, "{point:?}");
    }
}

//! A node whose control node carries packets to a peer that no direct leg reaches.

use super::packets::{FarPackets, has_link, leg};
use super::*;
use alloc::collections::BTreeSet;
use rvi::packet::wire::{PacketHeader, PacketKind};
use vlan_core::wire::RelayedPacket;

/// A node past its barrier, whose control node carries packets both ways.
fn relayed() -> (Node, FarPackets) {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.0.open_channel(Channel::RELAYED_PACKETS);
    let mut far = FarPackets::connect(&mut node, &mut control);
    far.relay = Some(control);
    let now = far.at();
    far.association.set_relay(now, leg(14), true);
    far.run(&mut node, 20);
    (node, far)
}

/// Sends frames of these numbers, ten in a millisecond; none may be refused.
fn flow(node: &mut Node, far: &mut FarPackets, numbers: core::ops::Range<u8>) {
    for number in numbers {
        assert_eq!(send(node, PEER, number), Accept::Taken);
        if number % 10 == 9 {
            far.run(node, 1);
        }
    }
}

/// The numbers of the frames that the peer has got since the last call.
fn taken(far: &mut FarPackets) -> Vec<u8> {
    let frames = core::mem::take(&mut far.received);
    let frames = frames.into_iter().filter(|(channel, _)| *channel == DIRECT);
    let number = |octets: Vec<u8>| {
        let header = FrameHeader::parse(&octets, octets.len()).ok()?;
        octets.get(header.kind.header_len() + 20).copied()
    };
    frames.filter_map(|(_, octets)| number(octets)).collect()
}

#[test]
fn a_control_node_carries_packets_while_the_direct_leg_is_silent_and_only_then() {
    let (mut node, mut far) = relayed();
    let joining = far.carried;
    assert!((1..20).contains(&joining), "{joining} packets to join");
    flow(&mut node, &mut far, 0..100);
    assert_eq!((taken(&mut far), far.carried), ((0..100).collect(), joining), "the relay is spared");
    far.is_cut = true;
    flow(&mut node, &mut far, 0..200);
    far.run(&mut node, 20);
    assert_eq!(taken(&mut far), (0..200).collect::<Vec<_>>());
    let carried = far.carried;
    assert!(carried > joining + 50, "{carried} packets");
    far.is_cut = false;
    far.run(&mut node, 500);
    let back = far.carried;
    flow(&mut node, &mut far, 0..200);
    far.run(&mut node, 20);
    assert_eq!(taken(&mut far), (0..200).collect::<Vec<_>>());
    assert!(far.carried < back + 5, "{} packets more by the control node", far.carried - back);
    assert_eq!((drops(&node, DropReason::Expired), node.relayed().full), (0, 0));
}

#[test]
fn no_number_of_a_leg_is_sealed_twice_while_relay_legs_come_and_go() {
    //= spec/packet-security.md#nonces
    //= type=test
    //# An end MUST NOT seal two packets with the same key and number.
    let (mut node, mut far) = relayed();
    let push = |node: &mut Node, far: &mut FarPackets| {
        for number in 0..50 {
            // While nothing answers there may be no room.
            let _ = send(node, PEER, number);
            far.run(node, 1);
        }
    };
    for round in 0..4 {
        far.is_cut = round % 2 == 0;
        push(&mut node, &mut far);
        node.set_relay(far.at(), 0, false);
        push(&mut node, &mut far);
        node.set_relay(far.at(), 0, true);
        push(&mut node, &mut far);
    }
    let mut sealed = BTreeSet::new();
    let mut legs = BTreeSet::new();
    for packet in &far.sent {
        let header = PacketHeader::parse_packet(packet).expect("a packet");
        let is_data = matches!(header.kind, PacketKind::Data | PacketKind::Probe);
        if is_data || matches!(header.kind, PacketKind::Confirm | PacketKind::Close) {
            let nonce = (header.session, header.leg.number(), is_data, header.number);
            assert!(sealed.insert(nonce), "sealed twice: {nonce:?}");
            legs.insert(header.leg.number());
        }
    }
    assert_eq!(legs, BTreeSet::from([0, 14]));
}

#[test]
fn the_association_outlives_the_control_node_that_carries_its_packets() {
    //= spec/leg-relay.md#carried-legs
    //= type=test
    //# A relay leg MUST be used only while its control node has accepted the node, and the end of a control session MUST NOT end
    //# an association between nodes.
    let (mut node, mut far) = relayed();
    far.is_cut = true;
    flow(&mut node, &mut far, 0..50);
    far.run(&mut node, 20);
    assert_eq!(taken(&mut far), (0..50).collect::<Vec<_>>());
    far.relay = None;
    let carried = node.relayed().sent;
    lose_control(&mut node, 1);
    flow(&mut node, &mut far, 0..20);
    far.run(&mut node, 200);
    assert!(has_link(&node));
    assert_eq!((node.relayed().sent, node.relayed().full), (carried, 0), "nobody is asked to carry");
    // What was numbered before the silence was noticed is kept; what came later had nowhere to go.
    let expired = drops(&node, DropReason::Expired) as usize;
    assert!(expired > 0, "nothing expired");
    far.is_cut = false;
    far.run(&mut node, 500);
    let kept = taken(&mut far);
    assert_eq!(kept, (0..20 - expired as u8).collect::<Vec<_>>(), "{expired} expired");
    flow(&mut node, &mut far, 50..60);
    far.run(&mut node, 20);
    assert_eq!(taken(&mut far), (50..60).collect::<Vec<_>>());
    // The next one carries as the first did, in the same session.
    let mut control = Far::control(&mut node, 2);
    control.0.open_channel(Channel::RELAYED_PACKETS);
    far.relay = Some(control);
    far.is_cut = true;
    flow(&mut node, &mut far, 60..90);
    far.run(&mut node, 100);
    assert_eq!(taken(&mut far), (60..90).collect::<Vec<_>>());
}

#[test]
fn what_a_control_node_brings_is_taken_only_where_it_belongs() {
    //= spec/leg-relay.md#receiver
    //= type=test
    //# A node MUST take a relayed packet only for the association with the node and in the epoch that its header names, only
    //# from the control node whose relay leg the packet is of, and only when it is DATA, PROBE, CONFIRM or CLOSE.
    let (mut node, mut far) = relayed();
    far.is_cut = true;
    far.send(&[1; 40], DIRECT);
    // A packet that is good, kept back.
    let mut buffer = rvi::packet::transport::TransmitBuffer::new(16, 65_000);
    let mut good = None;
    while good.is_none() {
        far.now += 1_000_000;
        let now = far.at();
        far.association.handle_timeout(now);
        while let Some(batch) = far.association.poll_transmit(now, &mut buffer) {
            if batch.leg == leg(14) {
                good = Some(buffer.octets()[..batch.segment_len].to_vec());
            }
        }
    }
    let good = good.expect("a packet by the relay leg");
    let own = RelayedPacket { node: NodeNumber(2), epoch: EPOCH };
    let other_node = RelayedPacket { node: NodeNumber(3), ..own };
    let other_epoch = RelayedPacket { epoch: PairEpoch(EPOCH.0 + 1), ..own };
    let changed = |offset: usize, value: u8| {
        let mut packet = good.clone();
        packet[offset] = value;
        packet
    };
    let wrong = [
        (other_node, good.clone()),
        (other_epoch, good.clone()),
        // Another kind, another leg, another association, another payload.
        (own, changed(1, PacketKind::Connect as u8)),
        (own, changed(1, PacketKind::Accept as u8)),
        (own, changed(1, PacketKind::Reset as u8)),
        (own, changed(2, 0)),
        (own, changed(2, 15)),
        (own, changed(4, good[4] ^ 1)),
        (own, changed(40, good[40] ^ 1)),
    ];
    let mut control = far.relay.take().expect("a control node");
    let mut bring = |node: &mut Node, header: RelayedPacket, packet: &[u8]| {
        control.send(Channel::RELAYED_PACKETS, &[&header.emit(packet.len())[..], packet].concat());
        turn(node);
        (node.relayed().received, node.relayed().refused)
    };
    let before = (node.relayed().received, node.relayed().refused);
    for (count, (header, packet)) in (1..).zip(&wrong) {
        assert_eq!(bring(&mut node, *header, packet), (before.0, before.1 + count), "case {count}");
    }
    let refused = before.1 + wrong.len() as u64;
    assert_eq!(bring(&mut node, own, &good), (before.0 + 1, refused));
    assert_eq!(bring(&mut node, own, &good), (before.0 + 1, refused + 1), "a copy");
    assert_eq!(node.drops().total(), 0);
    assert!(has_link(&node) && node.is_attached());
}

#[test]
fn a_node_drops_packets_for_which_its_control_node_has_no_room() {
    //= spec/leg-relay.md#no-room
    //= type=test
    //# A relayed packet for which there is no room at once MUST be dropped and counted: it MUST NOT wait, and it MUST NOT go
    //# before what waits.
    let (mut node, mut far) = relayed();
    // The control node takes nothing: its ring fills up.
    let control = far.relay.take();
    let accepted = (0..10_000).take_while(|_| send(&mut node, MacAddress::BROADCAST, 0) == Accept::Taken);
    assert!(accepted.count() < 10_000, "there is always room");
    far.is_cut = true;
    let sent = node.relayed().sent;
    flow(&mut node, &mut far, 0..10);
    far.run(&mut node, 20);
    let RelayedCounters { full, sent: after, .. } = *node.relayed();
    assert!(full > 0 && after == sent, "{full} dropped, {after} sent");
    assert_eq!(node.control[0].association.waiting().messages, 0, "a packet waits");
    drop(control);
}

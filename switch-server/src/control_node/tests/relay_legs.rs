//! Packets of relay legs, carried for a pair with a grant and for nobody else.

use super::legs::{join, two_hosts, udp_pair};
use super::*;
use vlan_core::wire::{RELAYED_HEADER_LEN, RelayedPacket};

/// A packet of so many octets, which nobody here can read.
fn packet(len: usize, mark: u8) -> Vec<u8> {
    vec![mark; len]
}

impl End {
    /// Gives the control node a packet for `to`; false when there is no room.
    fn relay(&mut self, to: u16, epoch: PairEpoch, packet: &[u8]) -> bool {
        let header = RelayedPacket { node: NodeNumber(to), epoch }.emit(packet.len());
        let parts = [Part::Private(&header), Part::Private(packet)];
        self.association.open_channel(Channel::RELAYED_PACKETS);
        let is_sent = self.association.offer(NOW, Channel::RELAYED_PACKETS, 0, &parts);
        self.association.publish();
        is_sent
    }

    /// The packets that have come by the control node, with the node that each is of.
    fn relayed(&mut self) -> Vec<(u16, Vec<u8>)> {
        self.association.open_channel(Channel::RELAYED_PACKETS);
        let relayed = self.arrived().into_iter().filter(|(channel, _)| *channel == Channel::RELAYED_PACKETS);
        let read = |octets: Vec<u8>| {
            let header = RelayedPacket::parse(&octets, octets.len()).expect("a relayed packet");
            (header.node.0, octets[RELAYED_HEADER_LEN..].to_vec())
        };
        relayed.map(|(_, octets)| read(octets)).collect()
    }
}

/// Nodes 1 and 2 with a grant, and its epoch.
fn pair() -> (ControlNode, [End; 2], PairEpoch) {
    let (control, mut ends, [grant, _]) = udp_pair(two_hosts());
    ends.iter_mut().for_each(|end| drop(end.relayed()));
    (control, ends, grant.association.epoch)
}

#[test]
fn a_packet_goes_from_one_end_of_a_granted_pair_to_the_other_and_nowhere_else() {
    //= spec/leg-relay.md#grants
    //= type=test
    //# A control node MUST pass a relayed packet on only from one process of a pair to the other, while both are attached and
    //# their grant is live in the epoch that the packet names.
    let (mut control, [mut one, mut two], epoch) = pair();
    let mut three = join(&mut control, 3, &[]);
    one.relay(2, epoch, &packet(300, 1));
    two.relay(1, epoch, &packet(1024, 2));
    control.pump(NOW, 1000);
    assert_eq!(two.relayed(), [(1, packet(300, 1))]);
    assert_eq!(one.relayed(), [(2, packet(1024, 2))]);
    assert_eq!(control.status().relay, RelayCounters { packets: 2, octets: 1324, ..Default::default() });
    // Another epoch, an end of no pair of this one, an own packet, a node that is none.
    one.relay(2, PairEpoch(epoch.0 + 1), &packet(100, 3));
    three.relay(2, epoch, &packet(100, 3));
    one.relay(1, epoch, &packet(100, 3));
    one.relay(99, epoch, &packet(100, 3));
    control.pump(NOW, 1000);
    assert_eq!(control.status().relay.not_granted, 4);
    // No packet at all.
    one.relay(2, epoch, &packet(47, 3));
    one.relay(2, epoch, &packet(1025, 3));
    let octets = ControlMessage::Heartbeat { number: 1 }.emit();
    let parts = [Part::Private(octets.as_slice())];
    assert!(one.association.offer(NOW, Channel::RELAYED_PACKETS, 0, &parts));
    one.association.publish();
    control.pump(NOW, 1000);
    assert_eq!(control.status().relay.malformed, 3);
    assert_eq!([one.relayed(), two.relayed(), three.relayed()], [vec![], vec![], vec![]]);
    assert_eq!(control.status().drops.total(), 0);
}

#[test]
fn a_revocation_ends_the_way_at_once_and_so_does_the_end_of_a_session() {
    let (mut control, [mut one, mut two], epoch) = pair();
    control.handle_command(NOW, Command::Cut { a: NodeNumber(1), b: NodeNumber(2), leg: None });
    one.relay(2, epoch, &packet(100, 1));
    two.relay(1, epoch, &packet(100, 1));
    control.pump(NOW, 1000);
    assert_eq!((one.relayed(), two.relayed(), control.status().relay.not_granted), (vec![], vec![], 2));

    let (mut control, [mut one, two], epoch) = pair();
    drop(two);
    control.handle_leg_gone(NOW, NodeNumber(2), process(2), LEG);
    control.pump(NOW, 1000);
    one.relay(2, epoch, &packet(100, 1));
    control.pump(NOW, 1000);
    let relay = control.status().relay;
    assert_eq!((relay.packets, relay.not_granted + relay.not_attached), (0, 1));
}

#[test]
fn two_that_take_nothing_hold_nobody_up_and_what_has_no_room_is_dropped() {
    //= spec/leg-relay.md#no-room
    //= type=test
    //# A relayed packet for which there is no room at once MUST be dropped and counted: it MUST NOT wait, and it MUST NOT go
    //# before what waits.
    let (mut control, [mut one, mut two], epoch) = pair();
    let mut three = join(&mut control, 3, &[]);
    let (mut sent, mut rounds) = (0, 0);
    while control.status().relay.full < 100 {
        for _ in 0..16 {
            sent += u64::from(one.relay(2, epoch, &packet(1000, 1)));
            sent += u64::from(two.relay(1, epoch, &packet(1000, 2)));
        }
        control.pump(NOW, 1000);
        rounds += 1;
        assert!(rounds < 10_000, "there is always room");
    }
    let relay = control.status().relay;
    assert_eq!(relay.packets + relay.full, sent, "every packet is taken, whatever is full");
    assert!(control.waiting().all(|(_, waiting)| waiting.messages == 0), "a packet waits");
    // Frames wait for room as they always do, and packets do not pass them.
    three.queue(mac(1), 0, 1400);
    control.pump(NOW, 1000);
    assert!(control.waiting().any(|(_, waiting)| waiting.messages == 1), "there is still room");
    let full = control.status().relay.full;
    two.relay(1, epoch, &packet(48, 3));
    control.pump(NOW, 1000);
    assert_eq!(control.status().relay.full, full + 1, "it passed a frame, for which it was short enough");
    assert_eq!(one.relayed().len() as u64 + two.relayed().len() as u64, relay.packets);
    two.relay(1, epoch, &packet(64, 3));
    control.pump(NOW, 1000);
    let arrived = one.arrived();
    let channels: Vec<Channel> = arrived.iter().map(|(channel, _)| *channel).collect();
    assert_eq!(channels, [RELAY, Channel::RELAYED_PACKETS]);
}

#[test]
fn packets_of_a_source_that_floods_take_turns_with_those_of_others() {
    //= spec/server.md#turns
    //= type=test
    //# A control node MUST take messages from its nodes in turns of as many octets each.
    let (mut control, [mut one, mut two], epoch) = pair();
    let mut three = join(&mut control, 3, &[super::legs::udp_offer(3)]);
    burst(&mut control, &mut three, 2);
    let other = grants(&three.told())[0].association.epoch;
    two.arrived();
    assert!((0..800).all(|_| one.relay(2, epoch, &packet(1000, 1))));
    assert!((0..100).all(|_| three.relay(2, other, &packet(1000, 3))));
    let mut of = [0; 4];
    while of[3] < 100 {
        assert!(control.pump(NOW, 40) > 0, "{of:?}");
        two.relayed().iter().for_each(|(node, _)| of[usize::from(*node)] += 1);
    }
    assert!((80..160).contains(&of[1]), "{of:?}");
}

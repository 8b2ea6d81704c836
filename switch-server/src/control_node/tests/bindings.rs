//! Where addresses are, as the control node knows it.

use super::*;
use arp_server::build::{Operation, arp};
use core::net::IpAddr;

#[test]
fn the_first_holder_of_an_address_keeps_it() {
    //= spec/server.md#address-registration
    //= type=test
    //# A control node MUST bind an address that a node registers to the interface that it was registered for, unless
    //# another interface of the LAN holds it: the first holder keeps it.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    let address = InterfaceAddress { address: "10.1.0.1".parse().expect("an address"), prefix: 24 };
    let bind = ControlMessage::Bind { vif: VifNumber(1), address };
    for end in &mut ends {
        end.tell(&mut control, &bind);
    }
    let bindings = control.status().bindings;
    assert_eq!((bindings.len(), bindings[0].node), (1, NodeNumber(1)));
    let conflict = core::iter::from_fn(|| control.poll_output())
        .any(|output| matches!(output, Output::Log(ControlNodeEvent::AddressConflict { .. })));
    assert!(conflict);
}

/// Node 1 asks everybody for 10.1.0.2.
fn ask(control: &mut ControlNode, end: &mut End) {
    let asker = (mac(1), [10, 1, 0, 1].into());
    let frame = arp(Operation::Request, MacAddress::BROADCAST, asker, [10, 1, 0, 2].into());
    let forged = Location { node: NodeNumber(77), ..Location::default() };
    let header = FrameHeader {
        kind: FrameKind::Arp,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(process(1).0 as u16),
        bseq: 0,
    };
    let octets = header.emit_arp(&forged, &forged, frame.len());
    let parts = [Part::Private(&octets), Part::Private(&frame)];
    end.association.send(NOW, ARP, 0, 0, &parts).expect("room");
    end.association.publish();
    control.pump(NOW, 100);
}

#[test]
fn a_request_is_answered_with_where_the_holder_is_and_given_to_nobody() {
    //= spec/arp.md#suppression
    //= type=test
    //# With suppression on, the ARP server MUST answer a request with a group destination for an address that another
    //# member has registered, in its name, and give the request to nobody.
    let mut config = config();
    config.lans[0].arp = ArpMode::Suppress;
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    let address = InterfaceAddress { address: "10.1.0.2".parse().expect("an address"), prefix: 24 };
    ends[1].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    ends.iter_mut().for_each(|end| _ = end.arrived());
    ask(&mut control, &mut ends[0]);
    assert!(ends[1].arrived().is_empty() && ends[2].arrived().is_empty());
    let arrived = ends[0].arrived();
    let [(ARP, octets)] = &arrived[..] else { panic!("{arrived:?}") };
    let header = FrameHeader::parse(octets, octets.len()).expect("a frame");
    let (source, target) = FrameHeader::parse_locations(octets).expect("locations");
    assert_eq!((header.origin, source.node, target.node), (NodeNumber(0), NodeNumber(2), NodeNumber(1)));
    let reply = arp(Operation::Reply, mac(1), (mac(2), [10, 1, 0, 2].into()), [10, 1, 0, 1].into());
    assert_eq!(octets[header.kind.header_len()..], reply);
    let lan = &control.status().lans[0];
    assert!(lan.arp_answered == 1 && lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn listeners_get_a_request_that_is_answered_and_the_answer() {
    //= spec/promiscuous.md#answered-requests
    //= type=test
    //# A control node that answers a request of ARP or ND MUST give each listener but the asker a copy of the answer, and
    //# the request unless the listener is the holder.
    let mut config = config();
    config.lans[0].arp = ArpMode::Suppress;
    config.lans[0].members.iter_mut().for_each(|member| member.may_listen = true);
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    for end in &mut ends {
        let (node, lan) = (NodeNumber(end.node), LAN);
        let listener = Location { node, lan, vif: VifNumber(1), ..Location::default() };
        end.tell(&mut control, &ControlMessage::Promiscuous { listener, listens: true });
    }
    let address = InterfaceAddress { address: "10.1.0.2".parse().expect("an address"), prefix: 24 };
    ends[1].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    ends.iter_mut().for_each(|end| _ = end.arrived());
    ask(&mut control, &mut ends[0]);
    let kinds = ends.each_mut().map(|end| end.frames().iter().map(|header| header.kind).collect::<Vec<_>>());
    let (answer, copy) = (FrameKind::Arp, FrameKind::Promiscuous);
    assert_eq!(kinds[..2], [vec![answer], vec![copy]], "the asker and the holder");
    assert!(kinds[2].len() == 2 && [answer, copy].iter().all(|kind| kinds[2].contains(kind)), "{kinds:?}");
    let lan = &control.status().lans[0];
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn an_arp_message_is_passed_on_with_the_location_that_the_control_node_knows() {
    //= spec/arp.md#locations
    //= type=test
    //# The control node MUST write the sender's location, as it knows it, into the header of every ARP and ND message
    //# that it passes on.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    ends[1].arrived();
    ask(&mut control, &mut ends[0]);
    let arrived = ends[1].arrived();
    let (channel, octets) = arrived.first().expect("the request");
    assert_eq!(*channel, ARP);
    let (source, target) = FrameHeader::parse_locations(octets).expect("locations");
    assert_eq!((source.node, source.generation, target.node), (NodeNumber(1), process(1).0, NodeNumber(2)));
}

/// What has arrived at a member of ARP and ND: who says that which address is its own.
fn announced(end: &mut End) -> Vec<(NodeNumber, Vec<u8>)> {
    let arrived = end.arrived().into_iter().filter(|(channel, _)| *channel == ARP);
    let said = arrived.map(|(_, octets)| {
        let (source, _) = FrameHeader::parse_locations(&octets).expect("an ARP header");
        (source.node, octets[FrameKind::Arp.header_len()..].to_vec())
    });
    said.collect()
}

#[test]
fn neighbours_are_told_of_an_address_that_has_another_mac_and_of_no_other() {
    //= spec/arp.md#addresses-that-move
    //= type=test
    //# When a node registers an address under another MAC than the address had before, a control node MUST announce it to the
    //# other members as its holder would unasked, for at most 100 addresses of a LAN in a second.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    let bind = |tail: u8| {
        let address = InterfaceAddress { address: IpAddr::from([10, 1, 0, tail]), prefix: 24 };
        ControlMessage::Bind { vif: VifNumber(1), address }
    };
    let unbind = |tail: u8| {
        let address = IpAddr::from([10, 1, 0, tail]);
        ControlMessage::Unbind { vif: VifNumber(1), address }
    };
    ends.iter_mut().for_each(|end| _ = end.arrived());
    ends[1].tell(&mut control, &bind(9));
    ends[1].tell(&mut control, &bind(9));
    ends[1].tell(&mut control, &unbind(9));
    ends[1].tell(&mut control, &bind(9));
    assert_eq!(announced(&mut ends[0]), [], "it was the same interface each time");

    ends[1].tell(&mut control, &unbind(9));
    ends[2].tell(&mut control, &bind(9));
    let said =
        arp(Operation::Request, MacAddress::BROADCAST, (mac(3), [10, 1, 0, 9].into()), [10, 1, 0, 9].into());
    for told in &mut ends[..2] {
        assert_eq!(announced(told), [(NodeNumber(3), said.to_vec())]);
    }
    assert_eq!(announced(&mut ends[2]), [], "a stack would take its own announcement for another station");

    // Whoever moves an address to and fro is heard a hundred times a second.
    for _ in 0..150 {
        ends[2].tell(&mut control, &unbind(9));
        ends[1].tell(&mut control, &bind(9));
        ends[1].tell(&mut control, &unbind(9));
        ends[2].tell(&mut control, &bind(9));
    }
    assert_eq!(announced(&mut ends[0]).len(), 99);
    let status = control.status();
    assert!(status.lans[0].ledger.closes(status.lans[0].drops.total()));
}

#[test]
fn an_announcement_that_does_not_reach_a_member_is_counted() {
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    let address = InterfaceAddress { address: IpAddr::from([10, 1, 0, 9]), prefix: 24 };
    ends[1].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    ends[1].tell(&mut control, &ControlMessage::Unbind { vif: VifNumber(1), address: address.address });
    // Its last leg turns out to be broken in this very batch.
    let place = control.session_of(NodeNumber(1), process(1)).expect("a session");
    let session = control.sessions[place].as_mut().expect("not taken out");
    let _ = session.association.handle_leg_gone(NOW, LEG);
    let before = control.status().lans[0].drops.of(DropReason::NotAttached);
    ends[2].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    assert_eq!(announced(&mut ends[1]).len(), 1);
    let status = control.status();
    assert_eq!(status.lans[0].drops.of(DropReason::NotAttached), before + 1);
    assert!(status.lans[0].ledger.closes(status.lans[0].drops.total()));
}

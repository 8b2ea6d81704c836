//! Where addresses are, as the control node knows it.

use super::*;

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

#[test]
fn an_arp_message_is_passed_on_with_the_location_that_the_control_node_knows() {
    //= spec/arp.md#locations
    //= type=test
    //# The control node MUST write the sender's location, as it knows it, into the header of every ARP and ND message
    //# that it passes on.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    ends[1].arrived();
    let mut frame = vec![0; 42];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac(1).0);
    frame[28..32].copy_from_slice(&[10, 1, 0, 1]);
    frame[38..42].copy_from_slice(&[10, 1, 0, 2]);
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
    ends[0].association.send(NOW, ARP, 0, 0, &parts).expect("room");
    ends[0].association.publish();
    control.pump(NOW, 100);
    let arrived = ends[1].arrived();
    let (channel, octets) = arrived.first().expect("the request");
    assert_eq!(*channel, ARP);
    let (source, target) = FrameHeader::parse_locations(octets).expect("locations");
    assert_eq!((source.node, source.generation, target.node), (NodeNumber(1), process(1).0, NodeNumber(2)));
}

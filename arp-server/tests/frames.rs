//! Real frames of every kind, valid and invalid, through the ARP server.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arp_server::build::{
    ALL_NODES, ALL_ROUTERS, NdAddresses, Operation, arp, group_mac, nd, neighbour_advertisement,
    neighbour_solicitation, solicited_node,
};
use arp_server::{ArpConfig, ArpKind, ArpMessage, ArpServer, ArpVerdict, Binding, Owner};
use vlan_core::{DropReason, MacAddress};

const MAC_1: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
const MAC_2: MacAddress = MacAddress([2, 0, 1, 0, 0, 2]);
const IP_1: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const IP_2: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const LINK_1: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const LINK_2: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2);
const GLOBAL_1: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

fn server() -> ArpServer {
    ArpServer::new(&ArpConfig { capacity: 256, suppress: false })
}

/// The frame from member 1, on a server that knows nothing yet.
fn verdict(frame: &[u8]) -> ArpVerdict {
    server().handle_frame(frame, Owner(1), MAC_1)
}

fn message(kind: ArpKind, sender: Option<IpAddr>, target: Option<IpAddr>) -> ArpMessage {
    ArpMessage {
        kind,
        sender: sender.map(|address| (address, MAC_1)),
        source: sender,
        target,
        learned: sender.is_some(),
        conflict: None,
    }
}

fn group(source: Ipv6Addr, destination: Ipv6Addr) -> NdAddresses {
    NdAddresses { destination_mac: group_mac(destination), source_mac: MAC_1, source, destination }
}

fn unicast(source: Ipv6Addr, destination: Ipv6Addr) -> NdAddresses {
    NdAddresses { destination_mac: MAC_2, source_mac: MAC_1, source, destination }
}

/// `frame` with the octet at `at` replaced.
fn with(frame: &[u8], at: usize, octet: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = octet;
    frame
}

fn assert_bad(what: &str, frame: &[u8]) {
    assert_eq!(verdict(frame), ArpVerdict::Drop(DropReason::BadArp), "{what}");
}

#[test]
fn an_arp_request_teaches_its_sender_and_floods() {
    //= spec/arp.md#learning
    //= type=test
    //# The ARP server MUST record the address and MAC that a valid message states for its own sender, unless
    //# another member holds the address or there is no room.
    let mut server = server();
    let frame = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, IP_1), IP_2);
    let expected = message(ArpKind::Request, Some(IP_1.into()), Some(IP_2.into()));
    assert_eq!(server.handle_frame(&frame, Owner(1), MAC_1), ArpVerdict::Flood { message: expected });
    let bound = Binding { address: IP_1.into(), mac: MAC_1, owner: Owner(1), registered: false };
    assert_eq!(server.lookup(IP_1.into()), Some(bound));
    let again = ArpMessage { learned: false, ..expected };
    assert_eq!(server.handle_frame(&frame, Owner(1), MAC_1), ArpVerdict::Flood { message: again });
}

#[test]
fn a_reply_goes_to_its_asker_alone_and_a_group_destination_to_all() {
    //= spec/arp.md#who-gets-a-message
    //= type=test
    //# The ARP server MUST send a message with a group destination to every member but its sender, and one
    //# with a unicast destination to the member with that MAC alone.
    let reply = message(ArpKind::Reply, Some(IP_1.into()), Some(IP_2.into()));
    let frame = arp(Operation::Reply, MAC_2, (MAC_1, IP_1), IP_2);
    assert_eq!(verdict(&frame), ArpVerdict::Unicast { to: MAC_2, message: reply });
    let frame = arp(Operation::Reply, MacAddress::BROADCAST, (MAC_1, IP_1), IP_2);
    assert_eq!(verdict(&frame), ArpVerdict::Flood { message: reply });
    let frame = arp(Operation::Request, MAC_1, (MAC_1, IP_1), IP_2);
    assert_eq!(verdict(&frame), ArpVerdict::Drop(DropReason::Hairpin));
}

#[test]
fn a_padded_frame_and_a_unicast_probe_of_a_neighbour_are_understood() {
    let mut frame = arp(Operation::Request, MAC_2, (MAC_1, IP_1), IP_2).to_vec();
    frame.resize(60, 0xa5);
    let expected = message(ArpKind::Request, Some(IP_1.into()), Some(IP_2.into()));
    assert_eq!(verdict(&frame), ArpVerdict::Unicast { to: MAC_2, message: expected });
}

#[test]
fn announcements_are_known_as_request_and_as_reply() {
    let expected = message(ArpKind::Announcement, Some(IP_1.into()), None);
    for operation in [Operation::Request, Operation::Reply] {
        let frame = arp(operation, MacAddress::BROADCAST, (MAC_1, IP_1), IP_1);
        assert_eq!(verdict(&frame), ArpVerdict::Flood { message: expected });
    }
}

#[test]
fn probes_of_both_families_flood_and_bind_nothing() {
    //= spec/arp.md#probes
    //= type=test
    //# A probe MUST NOT make or change a binding.
    let mut server = server();
    assert_eq!(server.bind(IP_2.into(), MAC_2, Owner(2)), Ok(()));
    let before: Vec<_> = server.bindings().collect();
    let probe = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, Ipv4Addr::UNSPECIFIED), IP_2);
    let expected = message(ArpKind::Probe, None, Some(IP_2.into()));
    assert_eq!(server.handle_frame(&probe, Owner(1), MAC_1), ArpVerdict::Flood { message: expected });
    let detection = neighbour_solicitation(&group(Ipv6Addr::UNSPECIFIED, solicited_node(GLOBAL_1)), GLOBAL_1);
    let expected = message(ArpKind::Probe, None, Some(GLOBAL_1.into()));
    assert_eq!(server.handle_frame(&detection, Owner(1), MAC_1), ArpVerdict::Flood { message: expected });
    assert_eq!(server.bindings().collect::<Vec<_>>(), before);
}

#[test]
fn the_answer_to_a_probe_names_no_target() {
    let frame = arp(Operation::Reply, MAC_2, (MAC_1, IP_1), Ipv4Addr::UNSPECIFIED);
    let expected = message(ArpKind::Reply, Some(IP_1.into()), None);
    assert_eq!(verdict(&frame), ArpVerdict::Unicast { to: MAC_2, message: expected });
}

#[test]
fn a_contradiction_is_delivered_and_reported_and_changes_nothing() {
    //= spec/arp.md#conflicts-stay-visible
    //= type=test
    //# A message that contradicts a binding MUST be delivered like any other, and the contradiction reported.
    let mut server = server();
    assert_eq!(server.bind(IP_1.into(), MAC_2, Owner(2)), Ok(()));
    assert_eq!(server.bind(GLOBAL_1.into(), MAC_2, Owner(2)), Ok(()));
    let before: Vec<_> = server.bindings().collect();
    let frame = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, IP_1), IP_1);
    let kind = ArpKind::Announcement;
    let expected =
        ArpMessage { learned: false, conflict: Some(MAC_2), ..message(kind, Some(IP_1.into()), None) };
    assert_eq!(server.handle_frame(&frame, Owner(1), MAC_1), ArpVerdict::Flood { message: expected });
    let frame = neighbour_advertisement(&group(LINK_1, ALL_NODES), GLOBAL_1, false);
    let expected = ArpMessage {
        source: Some(LINK_1.into()),
        learned: false,
        conflict: Some(MAC_2),
        ..message(kind, Some(GLOBAL_1.into()), None)
    };
    assert_eq!(server.handle_frame(&frame, Owner(1), MAC_1), ArpVerdict::Flood { message: expected });
    assert_eq!(server.bindings().collect::<Vec<_>>(), before);
}

#[test]
fn a_solicitation_teaches_its_source_when_it_states_the_link_layer_address() {
    let addresses = group(LINK_1, solicited_node(LINK_2));
    let expected = message(ArpKind::Request, Some(LINK_1.into()), Some(LINK_2.into()));
    let frame = neighbour_solicitation(&addresses, LINK_2);
    assert_eq!(verdict(&frame), ArpVerdict::Flood { message: expected });
    let mut body = vec![0; 4];
    body.extend_from_slice(&LINK_2.octets());
    let frame = nd(&unicast(LINK_1, LINK_2), 135, &body);
    let unlearned = ArpMessage { learned: false, ..expected };
    assert_eq!(verdict(&frame), ArpVerdict::Unicast { to: MAC_2, message: unlearned });
}

#[test]
fn an_advertisement_teaches_its_target_and_answers_the_asker() {
    let expected = ArpMessage {
        source: Some(LINK_1.into()),
        ..message(ArpKind::Reply, Some(GLOBAL_1.into()), Some(LINK_2.into()))
    };
    let frame = neighbour_advertisement(&unicast(LINK_1, LINK_2), GLOBAL_1, true);
    assert_eq!(verdict(&frame), ArpVerdict::Unicast { to: MAC_2, message: expected });
}

#[test]
fn router_messages_are_passed_on() {
    let solicitation = nd(&group(Ipv6Addr::UNSPECIFIED, ALL_ROUTERS), 133, &[0; 4]);
    let expected = message(ArpKind::Router, None, None);
    assert_eq!(verdict(&solicitation), ArpVerdict::Flood { message: expected });

    let mut body = vec![64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    body.extend_from_slice(&MAC_1.0);
    let advertisement = nd(&group(LINK_1, ALL_NODES), 134, &body);
    let expected = message(ArpKind::Router, Some(LINK_1.into()), None);
    assert_eq!(verdict(&advertisement), ArpVerdict::Flood { message: expected });

    // A redirect to LINK_2, whose link-layer address is stated: not the sender's, so not compared.
    let mut body = vec![0; 4];
    body.extend_from_slice(&LINK_2.octets());
    body.extend_from_slice(&GLOBAL_1.octets());
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&MAC_2.0);
    let redirect = nd(&unicast(LINK_1, LINK_2), 137, &body);
    let expected =
        ArpMessage { learned: false, ..message(ArpKind::Router, Some(LINK_1.into()), Some(GLOBAL_1.into())) };
    assert_eq!(verdict(&redirect), ArpVerdict::Unicast { to: MAC_2, message: expected });
}

#[test]
fn a_message_with_anothers_mac_is_dropped() {
    //= spec/arp.md#the-senders-mac
    //= type=test
    //# The ARP server MUST drop, as `source-mac`, a message whose Ethernet source, or whose own hardware address in
    //# the body, is not the sender's MAC.
    let request = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, IP_1), IP_2);
    let solicitation = neighbour_solicitation(&group(LINK_1, solicited_node(LINK_2)), LINK_2);
    let advertisement = neighbour_advertisement(&unicast(LINK_1, LINK_2), LINK_1, true);
    let forged = [
        with(&request, 11, 2),
        with(&request, 27, 2),
        with(&solicitation, 11, 2),
        with(&solicitation, solicitation.len() - 1, 2),
        with(&advertisement, 11, 2),
        with(&advertisement, advertisement.len() - 1, 2),
    ];
    for frame in forged {
        assert_eq!(verdict(&frame), ArpVerdict::Drop(DropReason::SourceMac), "{frame:02x?}");
    }
    let group_source = server().handle_frame(&request, Owner(1), MacAddress::BROADCAST);
    assert_eq!(group_source, ArpVerdict::Drop(DropReason::BadSource));
}

#[test]
fn an_arp_message_that_breaks_a_rule_is_dropped() {
    //= spec/arp.md#arp-messages
    //= type=test
    //# The ARP server MUST drop, as `bad-arp`, an ARP message that is cut short, that is not a request or a reply
    //# for IPv4 over Ethernet, whose sender address no station can have, or that asks for an address that no
    //# station can have.
    let request = |sender, target| arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, sender), target);
    let good = request(IP_1, IP_2);
    for len in 14..good.len() {
        assert_bad("cut short", &good[..len]);
    }
    assert_eq!(verdict(&good[..13]), ArpVerdict::Drop(DropReason::TooShort));
    assert_bad("hardware type", &with(&good, 15, 6));
    assert_bad("protocol type", &with(&good, 17, 1));
    assert_bad("hardware length", &with(&good, 18, 5));
    assert_bad("protocol length", &with(&good, 19, 3));
    assert_bad("reverse ARP", &with(&good, 21, 3));
    assert_bad("other ethertype", &with(&good, 13, 0));
    let multicast = Ipv4Addr::new(224, 0, 0, 1);
    for none in [Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, multicast, Ipv4Addr::new(0, 1, 2, 3)] {
        assert_bad("sender address", &request(none, IP_2));
        assert_bad("target address", &request(IP_1, none));
    }
    assert_bad("nothing asked", &request(IP_1, Ipv4Addr::UNSPECIFIED));
    let nobody = arp(Operation::Reply, MAC_2, (MAC_1, Ipv4Addr::UNSPECIFIED), IP_2);
    assert_bad("a reply from nobody", &nobody);
}

#[test]
fn an_nd_message_that_breaks_a_rule_is_dropped() {
    //= spec/arp.md#nd-messages
    //= type=test
    //# The ARP server MUST drop, as `bad-arp`, an ND message that RFC 4861 tells a receiver to discard, its
    //# checksum apart.
    let solicitation = neighbour_solicitation(&group(LINK_1, solicited_node(LINK_2)), LINK_2);
    for len in 14..solicitation.len() {
        assert_bad("cut short", &solicitation[..len]);
    }
    assert_bad("IP version", &with(&solicitation, 14, 0x40));
    assert_bad("next header", &with(&solicitation, 20, 17));
    assert_bad("hop limit", &with(&solicitation, 21, 254));
    assert_bad("multicast source", &with(&solicitation, 22, 0xff));
    assert_bad("another ICMPv6 type", &with(&solicitation, 54, 128));
    assert_bad("code", &with(&solicitation, 55, 1));
    assert_bad("multicast target", &with(&solicitation, 62, 0xff));
    assert_bad("option of length zero", &with(&solicitation, 79, 0));
    assert_bad("option longer than the message", &with(&solicitation, 79, 2));
    assert_bad("payload cut in the option", &with(&solicitation, 19, 31));

    let detection = |destination| {
        let none = NdAddresses { source: Ipv6Addr::UNSPECIFIED, ..group(LINK_1, destination) };
        neighbour_solicitation(&none, LINK_1)
    };
    assert_bad("a probe to all nodes", &detection(ALL_NODES));
    let mut stating = vec![0; 4];
    stating.extend_from_slice(&LINK_1.octets());
    stating.extend_from_slice(&[1, 1]);
    stating.extend_from_slice(&MAC_1.0);
    let none = group(Ipv6Addr::UNSPECIFIED, solicited_node(LINK_1));
    assert_bad("a probe that states a link-layer address", &nd(&none, 135, &stating));
    assert_bad("a router solicitation likewise", &nd(&none, 133, &[&[0; 4], &stating[20..]].concat()));

    assert_bad("solicited to a group", &neighbour_advertisement(&group(LINK_1, ALL_NODES), LINK_1, true));
    let nobody = group(Ipv6Addr::UNSPECIFIED, ALL_NODES);
    assert_bad("an advertisement from nobody", &neighbour_advertisement(&nobody, LINK_1, false));
    assert_bad("a router with a global address", &nd(&group(GLOBAL_1, ALL_NODES), 134, &[0; 12]));
    assert_bad("a short router advertisement", &nd(&group(LINK_1, ALL_NODES), 134, &[0; 11]));

    let redirect = |source, target: Ipv6Addr, destination: Ipv6Addr| {
        let body = [&[0; 4][..], &target.octets(), &destination.octets()].concat();
        nd(&unicast(source, LINK_2), 137, &body)
    };
    assert_bad("a redirect from afar", &redirect(GLOBAL_1, LINK_2, GLOBAL_1));
    assert_bad("a redirect of a group", &redirect(LINK_1, LINK_2, ALL_NODES));
    assert_bad("a redirect to no router", &redirect(LINK_1, GLOBAL_1, IP_1.to_ipv6_mapped()));
}

#[test]
fn built_nd_frames_carry_a_right_checksum() {
    let frame = neighbour_advertisement(&unicast(LINK_1, LINK_2), GLOBAL_1, true);
    let icmp = etherparse::Icmpv6Slice::from_slice(&frame[54..]).unwrap();
    assert!(icmp.is_checksum_valid(LINK_1.octets(), LINK_2.octets()));
}

/// A server that answers, and knows that member 2 has its addresses.
fn suppressing() -> ArpServer {
    let mut server = ArpServer::new(&ArpConfig { capacity: 256, suppress: true });
    for address in [IpAddr::from(IP_2), LINK_2.into()] {
        server.bind(address, MAC_2, Owner(2)).expect("free");
    }
    server
}

fn asks_for(address: Ipv6Addr) -> Vec<u8> {
    neighbour_solicitation(&group(LINK_1, solicited_node(address)), address)
}

#[test]
fn requests_for_what_is_registered_are_answered_in_the_holders_name() {
    //= spec/arp.md#suppression
    //= type=test
    //# With suppression on, the ARP server MUST answer a request with a group destination for an address that another
    //# member has registered, in its name, and give the request to nobody.
    let mut server = suppressing();
    let request = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, IP_1), IP_2);
    let reply = arp(Operation::Reply, MAC_1, (MAC_2, IP_2), IP_1).to_vec();
    let message = message(ArpKind::Request, Some(IP_1.into()), Some(IP_2.into()));
    let expected = ArpVerdict::Answer { message, frame: reply, holder: Owner(2) };
    assert_eq!(server.handle_frame(&request, Owner(1), MAC_1), expected);
    let to_1 = NdAddresses { destination_mac: MAC_1, source_mac: MAC_2, source: LINK_2, destination: LINK_1 };
    let advertisement = neighbour_advertisement(&to_1, LINK_2, true);
    match server.handle_frame(&asks_for(LINK_2), Owner(1), MAC_1) {
        ArpVerdict::Answer { frame, holder, .. } => assert_eq!((frame, holder), (advertisement, Owner(2))),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.answered(), 2);
    // By unicast the holder itself is asked, and without suppression everybody.
    let unicast = arp(Operation::Request, MAC_2, (MAC_1, IP_1), IP_2);
    assert!(matches!(server.handle_frame(&unicast, Owner(1), MAC_1), ArpVerdict::Unicast { .. }));
    server.set_suppression(false);
    assert!(matches!(server.handle_frame(&request, Owner(1), MAC_1), ArpVerdict::Flood { .. }));
    // What was registered meanwhile counts at once.
    let mut relaying = self::server();
    relaying.bind(IP_2.into(), MAC_2, Owner(2)).expect("free");
    assert!(matches!(relaying.handle_frame(&request, Owner(1), MAC_1), ArpVerdict::Flood { .. }));
    relaying.set_suppression(true);
    assert!(matches!(relaying.handle_frame(&request, Owner(1), MAC_1), ArpVerdict::Answer { .. }));
}

#[test]
fn what_stacks_must_hear_of_each_other_is_never_answered() {
    //= spec/arp.md#what-is-not-suppressed
    //= type=test
    //# The ARP server MUST NOT answer a probe, an announcement, a request whose sender contradicts a binding, or a
    //# solicitation for an address of a router: they go to every other member.
    let mut server = suppressing();
    let ask =
        |sender, target| arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, sender), target).to_vec();
    let unbound = Ipv4Addr::new(10, 1, 0, 9);
    server.bind(GLOBAL_1.into(), MAC_1, Owner(1)).expect("free");
    for (what, frame) in [
        ("a probe", ask(Ipv4Addr::UNSPECIFIED, IP_2)),
        ("an announcement", ask(IP_1, IP_1)),
        ("nobody's address", ask(IP_1, unbound)),
        ("its own address", asks_for(GLOBAL_1)),
        ("a contradiction", ask(IP_2, unbound)),
        (
            "duplicate address detection",
            neighbour_solicitation(&group(Ipv6Addr::UNSPECIFIED, solicited_node(LINK_2)), LINK_2),
        ),
    ] {
        let verdict = server.handle_frame(&frame, Owner(1), MAC_1);
        assert!(matches!(verdict, ArpVerdict::Flood { .. }), "{what}: {verdict:?}");
    }
    // What was only seen in a message may be gone.
    let learned = Ipv4Addr::new(10, 1, 0, 3);
    let mac_3 = MacAddress([2, 0, 1, 0, 0, 3]);
    let announced = arp(Operation::Request, MacAddress::BROADCAST, (mac_3, learned), learned);
    server.handle_frame(&announced, Owner(3), mac_3);
    assert!(matches!(server.handle_frame(&ask(IP_1, learned), Owner(1), MAC_1), ArpVerdict::Flood { .. }));
    // A router is asked itself, until it says that it is none any more.
    let router = |flags: u8| {
        let to_all = NdAddresses {
            destination_mac: group_mac(ALL_NODES),
            source_mac: MAC_2,
            source: LINK_2,
            destination: ALL_NODES,
        };
        with(&neighbour_advertisement(&to_all, LINK_2, false), 58, flags)
    };
    for (flags, is_answered) in [(0xa0, false), (0x20, true)] {
        server.handle_frame(&router(flags), Owner(2), MAC_2);
        let verdict = server.handle_frame(&asks_for(LINK_2), Owner(1), MAC_1);
        assert_eq!(matches!(verdict, ArpVerdict::Answer { .. }), is_answered, "{flags:#x}");
    }
}

#[test]
fn a_reserved_address_is_answered_for_here_and_nobody_else_speaks_for_it() {
    //= spec/arp.md#reserved-addresses
    //= type=test
    //# The ARP server MUST drop a message that speaks for a reserved address, and answer every request and probe for one itself.
    let (v4, v6) = (Ipv4Addr::new(10, 1, 0, 100), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100));
    let mac = MacAddress([2, 0, 1, 0, 0, 9]);
    let mut server = server();
    server.bind(IpAddr::V4(v4), MAC_2, Owner(2)).unwrap();
    server.reserve([(IpAddr::V4(v4), mac), (IpAddr::V6(v6), mac)]);
    assert_eq!(server.lookup(IpAddr::V4(v4)), None, "its binding has ended");
    assert!(server.bind(IpAddr::V4(v4), MAC_2, Owner(2)).is_err());
    let speaks = |server: &mut ArpServer, frame: &[u8]| server.handle_frame(frame, Owner(1), MAC_1);
    for frame in [
        arp(Operation::Reply, MAC_2, (MAC_1, v4), IP_2).to_vec(),
        arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, v4), v4).to_vec(),
        arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, v4), IP_2).to_vec(),
        neighbour_advertisement(&unicast(LINK_1, LINK_2), v6, true),
    ] {
        assert_eq!(speaks(&mut server, &frame), ArpVerdict::Drop(DropReason::ClusterAddress));
    }
    let answer = |verdict: ArpVerdict| match verdict {
        ArpVerdict::Answer { frame, holder, .. } => {
            assert_eq!(holder, vlan_core::server::CLUSTER);
            frame
        }
        other => panic!("{other:?}"),
    };
    // Asked by everybody's address or by its own, with and without an address of the asker's.
    for (to, sender) in
        [(MacAddress::BROADCAST, IP_1), (mac, IP_1), (MacAddress::BROADCAST, Ipv4Addr::UNSPECIFIED)]
    {
        let request = arp(Operation::Request, to, (MAC_1, sender), v4);
        let expected = arp(Operation::Reply, MAC_1, (mac, v4), sender);
        assert_eq!(answer(speaks(&mut server, &request)), expected);
        assert_eq!(server.answer_outside(&request), Some(expected.to_vec()));
    }
    let to_group = group(LINK_1, solicited_node(v6));
    let answered = answer(speaks(&mut server, &neighbour_solicitation(&to_group, v6)));
    let addresses = NdAddresses { destination_mac: MAC_1, source_mac: mac, source: v6, destination: LINK_1 };
    assert_eq!(answered, neighbour_advertisement(&addresses, v6, true));
    let probe = group(Ipv6Addr::UNSPECIFIED, solicited_node(v6));
    let defended = answer(speaks(&mut server, &neighbour_solicitation(&probe, v6)));
    assert_eq!(defended[..6], group_mac(ALL_NODES).0);
    // Other addresses are none of its business, and what is said outside is said of reserved ones too.
    let other = arp(Operation::Request, MacAddress::BROADCAST, (MAC_1, IP_1), IP_2);
    assert!(matches!(speaks(&mut server, &other), ArpVerdict::Flood { .. }));
    assert_eq!(server.answer_outside(&other), None);
    assert!(server.announcement(IpAddr::V4(v4)).is_some());
    assert!(server.addresses().any(|address| address == IpAddr::V6(v6)));
    server.reserve([]);
    assert!(server.bind(IpAddr::V4(v4), MAC_2, Owner(2)).is_ok());
}

//! What members say of cluster addresses.

use super::*;

const CLUSTER: [u8; 4] = [10, 1, 0, 100];

fn arp(operation: u8, destination: MacAddress, sender: [u8; 4], target: [u8; 4]) -> [u8; 60] {
    let mut frame = frame(destination, OWN, ETHERTYPE_ARP);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&OWN.0);
    frame[28..32].copy_from_slice(&sender);
    frame[38..42].copy_from_slice(&target);
    frame
}

#[test]
fn a_server_neither_answers_nor_announces_its_cluster_and_asks_the_control_node() {
    //= spec/cluster.md#who-speaks-for-the-address
    //= type=test
    //# The driver of a member MUST NOT send an answer or an announcement of ARP or ND in the name of a cluster address, and give a request in its name to the control node alone.
    let mut driver = driver();
    raise(&mut driver, Instant::ZERO);
    let own = [10, 1, 0, 1];
    let answer = arp(2, PEER, CLUSTER, [10, 1, 0, 2]);
    let before = classify(&driver, &answer);
    assert!(!matches!(before, Egress::Drop(_)), "{before:?}");
    driver.handle_configuration(InterfaceConfig { cluster_addresses: vec![CLUSTER.into()], ..config() });
    let dropped = Egress::Drop(DropReason::ClusterAddress);
    assert_eq!(classify(&driver, &answer), dropped);
    assert_eq!(classify(&driver, &arp(1, MacAddress::BROADCAST, CLUSTER, CLUSTER)), dropped);
    assert_eq!(classify(&driver, &arp(2, MacAddress::BROADCAST, CLUSTER, CLUSTER)), dropped);
    // Also of a neighbour to which there is a direct RVI.
    assert_eq!(classify(&driver, &arp(1, PEER, CLUSTER, [10, 1, 0, 2])), Egress::Arp);
    assert_eq!(classify(&driver, &arp(1, MacAddress::BROADCAST, CLUSTER, [10, 1, 0, 2])), Egress::Arp);
    // What it says in its own name goes as ever.
    assert_eq!(classify(&driver, &arp(2, PEER, own, [10, 1, 0, 2])), before);
}

/// A packet of IPv6 from the peer with this header's number behind it.
fn ipv6(next: u8, source: [u8; 16], upper: &[u8]) -> Vec<u8> {
    let mut frame =
        [&OWN.0[..], &PEER.0, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, upper.len() as u8, next, 255]].concat();
    frame.extend([&source[..], &[0; 16], upper].concat());
    frame
}

/// A neighbour advertisement of `target`.
fn advertisement(target: [u8; 16]) -> Vec<u8> {
    [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &target, &[2, 1], &PEER.0].concat()
}

/// What is said to the interface by its peer, whose name the messages have in front.
fn said_by_peer(cluster: ([u8; 4], [u8; 16])) -> Vec<Vec<u8>> {
    let answer = |operation, sender: [u8; 4]| {
        let mut frame = arp(operation, OWN, sender, [10, 1, 0, 1]).to_vec();
        frame[6..12].copy_from_slice(&PEER.0);
        frame[22..28].copy_from_slice(&PEER.0);
        frame
    };
    let tagged = |frame: Vec<u8>| [&frame[..12], &[0x81, 0, 0, 0], &frame[12..]].concat();
    let local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let behind_options = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &advertisement(cluster.1)].concat();
    let mut solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &local, &[1, 1], &PEER.0].concat();
    solicitation.truncate(32);
    vec![
        answer(2, cluster.0),
        answer(1, cluster.0),
        tagged(answer(2, cluster.0)),
        ipv6(58, local, &advertisement(cluster.1)),
        ipv6(0, local, &behind_options),
        tagged(ipv6(58, local, &advertisement(cluster.1))),
        ipv6(58, cluster.1, &solicitation),
    ]
}

#[test]
fn nobody_is_heard_who_speaks_for_a_cluster_by_any_way() {
    //= spec/cluster.md#who-is-not-heard
    //= type=test
    //# The driver of a member MUST drop an ARP or ND message of another member in the name of a cluster address of its LAN, and on a LAN with clusters any frame that hides whether it is one, whichever way it comes.
    let cluster_v6 = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];
    let other = ([10, 1, 0, 9], [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    // With another's MAC, as those say it who answer for others.
    let proxied = |addresses| {
        let mut said: Vec<u8> = said_by_peer(addresses).remove(0);
        said[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 66]);
        said
    };
    for security in [PortSecurity::Off, PortSecurity::Mac] {
        let mut driver = driver();
        raise(&mut driver, Instant::ZERO);
        driver.handle_configuration(InterfaceConfig {
            cluster_addresses: vec![CLUSTER.into(), cluster_v6.into()],
            port_security: security,
            ..config()
        });
        let incoming = driver.incoming_run(SLOT).expect("a direct RVI");
        let relayed = |bseq| FrameHeader { kind: FrameKind::Relay, bseq, ..direct_header() };
        let _ = driver.admit_relayed(&relayed(1), &frame(OWN, PEER, 0x0800), 60);
        let run = driver.relayed_run(&relayed(1)).expect("a run");
        let whole = |header: FrameHeader, frame: &[u8]| [&header.emit(frame.len())[..], frame].concat();
        let mut admit = |frame: &[u8]| {
            let message = whole(direct_header(), frame);
            assert_eq!(incoming.admit(&message, message.len()), None, "looked at whole");
            let message = whole(relayed(2), frame);
            assert_eq!(driver.take(&run, &message, message.len()), None, "looked at whole");
            let direct = driver.admit_direct(Instant::ZERO, SLOT, &direct_header(), frame, frame.len());
            [direct, driver.admit_relayed(&relayed(2), frame, frame.len())]
        };
        for frame in said_by_peer((CLUSTER, cluster_v6)) {
            assert_eq!(admit(&frame), [Ingress::Drop(DropReason::ClusterAddress); 2], "{frame:?}");
        }
        assert_eq!(admit(&proxied((CLUSTER, cluster_v6))), [Ingress::Drop(DropReason::ClusterAddress); 2]);
        let is_let_through = matches!(admit(&proxied(other))[0], Ingress::Deliver(_));
        assert_eq!(is_let_through, security == PortSecurity::Off);
        for frame in said_by_peer(other) {
            assert!(matches!(admit(&frame)[0], Ingress::Deliver(_)), "{frame:?}");
        }
        assert_eq!(driver.counters().drops.of(DropReason::ClusterAddress), 16);
        // What a control node says itself.
        let of_nobody = FrameHeader { origin: NodeNumber(0), ..relayed(0) };
        let answer = said_by_peer((CLUSTER, cluster_v6)).remove(0);
        assert!(matches!(driver.admit_relayed(&of_nobody, &answer, 60), Ingress::Deliver(_)));
    }
}

#[test]
fn plain_frames_of_a_lan_with_clusters_go_in_runs() {
    let mut driver = driver();
    raise(&mut driver, Instant::ZERO);
    let port_security = PortSecurity::Off;
    let cluster_addresses = vec![CLUSTER.into()];
    driver.handle_configuration(InterfaceConfig { cluster_addresses, port_security, ..config() });
    let mut plain = frame(OWN, PEER, 0x0800);
    (plain[14], plain[23]) = (0x45, 6);
    let message = [&direct_header().emit(60)[..], &plain].concat();
    assert!(driver.incoming_run(SLOT).expect("a direct RVI").admit(&message, 92).is_some());
}

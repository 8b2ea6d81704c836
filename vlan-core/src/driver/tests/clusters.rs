//! What a real server says of the cluster addresses that its stack has.

use super::*;
use crate::wire::control::ServedCluster;

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
    //# The driver of a real server MUST NOT send an answer or an announcement of ARP or ND in the name of a cluster address, and give a request in its name to the control node alone.
    let mut driver = driver();
    raise(&mut driver, Instant::ZERO);
    let own = [10, 1, 0, 1];
    let answer = arp(2, PEER, CLUSTER, [10, 1, 0, 2]);
    let before = classify(&driver, &answer);
    assert!(!matches!(before, Egress::Drop(_)), "{before:?}");
    driver.handle_configuration(InterfaceConfig {
        clusters: vec![ServedCluster { addresses: vec![CLUSTER.into()], services: vec![] }],
        ..config()
    });
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

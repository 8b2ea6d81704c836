//! Which legs a pair gets, and what its ends are told of them.

use super::*;
use core::time::Duration;
use vlan_core::wire::control::{Fault, FaultDirection, GrantedAssociation};
use vlan_core::{EtherAddress, EtherPort};

const A: LegNumber = LegNumber(0);
const B: LegNumber = LegNumber(1);

fn udp(node: u16, leg: LegNumber) -> LegAddress {
    LegAddress::Udp(([192, 0, 2, node as u8], 7000 + u16::from(leg.0)).into())
}

fn ether(node: u16) -> LegAddress {
    LegAddress::Ether(EtherAddress { mac: mac(node), port: EtherPort(u32::from(node)) })
}

fn offer(leg: LegNumber, address: LegAddress) -> OfferedLeg {
    OfferedLeg { leg, address }
}

/// Where a node's leg on the first fabric ends.
pub(super) fn udp_offer(node: u16) -> OfferedLeg {
    offer(A, udp(node, A))
}

/// Nodes of different hosts that have udp legs on both fabrics.
pub(super) fn two_hosts() -> ControlNodeConfig {
    let mut config = config();
    for entry in &mut config.nodes {
        entry.host = Some(alloc::format!("h{}", entry.number));
        entry.legs = vec![vec![LegKind::Unix, LegKind::Udp], vec![LegKind::Udp]];
    }
    config
}

pub(super) fn join(control: &mut ControlNode, node: u16, legs: &[OfferedLeg]) -> End {
    let mut end = End::connect(control, node, process(node), &ShmConfig::default());
    end.tell(control, &register_with(node, process(node), vec![], vec![], legs.to_vec()));
    end
}

/// Nodes 1 and 2 with udp on both fabrics, and what each was granted.
pub(super) fn udp_pair(config: ControlNodeConfig) -> (ControlNode, [End; 2], [Grant; 2]) {
    let mut control = ControlNode::new(config);
    let mut ends =
        [1, 2].map(|node| join(&mut control, node, &[offer(A, udp(node, A)), offer(B, udp(node, B))]));
    burst(&mut control, &mut ends[0], 2);
    let granted = ends.each_mut().map(|end| {
        let grants = grants(&end.told());
        assert_eq!(grants.len(), 1, "{grants:?}");
        grants[0].clone()
    });
    (control, ends, granted)
}

fn addresses(association: &GrantedAssociation) -> Vec<(LegNumber, LegAddress)> {
    association.legs.iter().map(|leg| (leg.leg, leg.address)).collect()
}

#[test]
fn a_pair_of_two_hosts_is_granted_packet_legs_and_one_key() {
    let (mut control, _ends, [one, two]) = udp_pair(two_hosts());
    assert_eq!(introduced(&mut control), []);
    assert_eq!(addresses(&one.association), [(A, udp(2, A)), (B, udp(2, B))]);
    assert_eq!(addresses(&two.association), [(A, udp(1, A)), (B, udp(1, B))]);
    let fabrics: Vec<_> = one.association.legs.iter().map(|leg| (leg.is_trusted, leg.fabric_key)).collect();
    assert_eq!(fabrics, [(false, 0x11), (true, 0x22)]);
    assert_eq!(
        (one.association.epoch, &one.association.pair_key),
        (two.association.epoch, &two.association.pair_key)
    );
    assert_ne!(one.association.epoch, PairEpoch(0));
    assert_eq!(
        (one.association.peer_key, two.association.peer_key),
        (PublicKey([2; 32]), PublicKey([1; 32]))
    );
    let status = control.status();
    let legs: Vec<_> = status.rvis[0].legs.iter().map(|leg| (leg.leg, leg.kind, leg.addresses)).collect();
    let expected = |leg| (leg, LegKind::Udp, Some([udp(1, leg), udp(2, leg)]));
    assert_eq!(legs, [expected(A), expected(B)]);
}

#[test]
fn each_fabric_gives_a_pair_the_first_kind_that_both_can_use() {
    //= spec/server.md#legs-of-a-pair
    //= type=test
    //# On each fabric a control node MUST give a pair that is not cut there one leg: of shared memory when both nodes
    //# list it, share a host and are attached by it there; else of the first kind in the list of the node with the lower
    //# number that both list and have said an address of; else none.
    use LegKind::{Ether, Udp, Unix};
    let all: &[LegKind] = &[Unix, Udp, Ether];
    // The fabric, one host or two, what the nodes list, what they get.
    type Case<'a> = (LegNumber, bool, [&'a [LegKind]; 2], Option<LegKind>);
    let cases: &[Case<'_>] = &[
        (A, true, [all, all], Some(Unix)),
        (A, true, [&[Udp, Unix], &[Udp, Unix]], Some(Unix)),
        (A, false, [all, all], Some(Udp)),
        (A, true, [&[Udp], all], Some(Udp)),
        (A, false, [&[Ether, Udp], &[Udp, Ether]], Some(Ether)),
        (A, false, [&[Udp, Ether], &[Ether, Udp]], Some(Udp)),
        (A, false, [&[Unix], &[Unix]], None),
        (A, true, [&[Udp], &[Ether]], None),
        // On the second fabric neither is attached by shared memory.
        (B, true, [all, all], Some(Udp)),
        (B, true, [&[Unix], &[Unix]], None),
    ];
    for &(leg, one_host, lists, expected) in cases {
        let mut config = config();
        for (entry, list) in config.nodes.iter_mut().zip(lists) {
            entry.legs = vec![vec![]; 2];
            entry.legs[usize::from(leg.0)] = list.to_vec();
            entry.host = (!one_host).then(|| alloc::format!("h{}", entry.number));
        }
        let mut control = ControlNode::new(config);
        let mut ends = [1, 2]
            .map(|node| join(&mut control, node, &[offer(leg, udp(node, leg)), offer(leg, ether(node))]));
        burst(&mut control, &mut ends[0], 2);
        let case = alloc::format!("leg {leg}, one host {one_host}, {lists:?}");
        let kinds: Vec<_> = control.status().rvis[0].legs.iter().map(|leg| leg.kind).collect();
        assert_eq!(kinds, expected.as_slice(), "{case}");
        let is_unix = expected == Some(Unix);
        assert_eq!(introduced(&mut control).len(), usize::from(is_unix), "{case}");
        let granted = grants(&ends[1].told())[0].association.legs.len();
        assert_eq!(granted, usize::from(expected.is_some() && !is_unix), "{case}");
    }
}

#[test]
fn an_address_is_taken_only_of_a_listed_kind_and_of_one_station() {
    //= spec/server.md#leg-addresses
    //= type=test
    //# A control node MUST take the address of a packet leg only from the node whose leg it is, only of a kind that the
    //# platform file lists for that node on that fabric, and only when it is the address of one station.
    let mut control = ControlNode::new(two_hosts());
    let multicast = LegAddress::Udp(([224, 0, 0, 1], 7000).into());
    let wrong = [
        offer(LegNumber(2), udp(1, A)),
        offer(A, ether(1)),
        offer(B, multicast),
        offer(B, LegAddress::Udp(([192, 0, 2, 1], 0).into())),
        // A second one of its kind on its fabric.
        offer(A, udp(99, A)),
    ];
    let mut one = join(&mut control, 1, &[&[offer(A, udp(1, A))][..], &wrong].concat());
    let mut two = join(&mut control, 2, &[offer(A, udp(2, A)), offer(B, udp(2, B))]);
    let refused = outputs(&mut control);
    let refused = refused
        .iter()
        .filter(|output| matches!(output, Output::Log(ControlNodeEvent::LegAddressRefused { .. })))
        .count();
    assert_eq!(refused, wrong.len());
    burst(&mut control, &mut one, 2);
    assert_eq!(addresses(&grants(&two.told())[0].association), [(A, udp(1, A))]);
    assert_eq!(addresses(&grants(&one.told())[0].association), [(A, udp(2, A))]);
}

#[test]
fn another_address_is_granted_to_the_peer_in_the_same_epoch() {
    let (mut control, mut ends, before) = udp_pair(two_hosts());
    let moved = LegAddress::Udp(([198, 51, 100, 1], 9).into());
    let legs = vec![offer(A, moved), offer(B, udp(1, B))];
    for round in 0..2 {
        let told = ends[0].tell(&mut control, &ControlMessage::LegAddresses { legs: legs.clone() });
        assert_eq!(grants(&told).len(), usize::from(round == 0), "told once");
    }
    let again = grants(&ends[1].told());
    assert_eq!(again.len(), 1);
    assert_eq!(addresses(&again[0].association), [(A, moved), (B, udp(1, B))]);
    let known = |grant: &Grant| (grant.rvi, grant.channel, grant.association.epoch);
    assert_eq!(known(&again[0]), known(&before[1]));
    assert_eq!(again[0].association.pair_key, before[1].association.pair_key);
    // Nothing is left of the legs that a node no longer offers.
    ends[0].tell(&mut control, &ControlMessage::LegAddresses { legs: vec![] });
    assert_eq!(addresses(&grants(&ends[1].told())[0].association), []);
}

#[test]
fn a_packet_leg_is_cut_at_both_ends_and_granted_again_when_healed() {
    let (mut control, mut ends, _) = udp_pair(two_hosts());
    let (a, b) = (NodeNumber(1), NodeNumber(2));
    control.handle_command(NOW, Command::Cut { a, b, leg: Some(B) });
    for (end, peer) in ends.iter_mut().zip([b, a]) {
        assert_eq!(end.told(), [ControlMessage::LegCut { peer, leg: B.0 }]);
    }
    // What is granted meanwhile goes without it.
    let legs = vec![offer(A, udp(9, A)), offer(B, udp(1, B))];
    ends[0].tell(&mut control, &ControlMessage::LegAddresses { legs });
    assert_eq!(addresses(&grants(&ends[1].told())[0].association), [(A, udp(9, A))]);
    assert_eq!(control.status().rvis[0].legs_cut, [B]);
    control.handle_command(NOW, Command::Heal { a, b, leg: Some(B) });
    assert_eq!(addresses(&grants(&ends[1].told())[0].association), [(A, udp(9, A)), (B, udp(1, B))]);
}

#[test]
fn a_pair_moves_to_shared_memory_when_both_are_attached_by_it() {
    let mut config = config();
    config
        .nodes
        .iter_mut()
        .for_each(|entry| entry.legs = vec![vec![LegKind::Unix], vec![LegKind::Unix, LegKind::Udp]]);
    let (mut control, mut ends, granted) = udp_pair(config);
    assert_eq!(addresses(&granted[0].association), [(B, udp(2, B))]);
    assert_eq!(introduced(&mut control), [A]);
    let _kept = ends.each_ref().map(|end| come_up(&mut control, end, B));
    assert_eq!(introduced(&mut control), [B]);
    control.pump(NOW, 1000);
    for end in &mut ends {
        assert_eq!(addresses(&grants(&end.told())[0].association), []);
    }
    //= spec/server.md#introduced-legs
    //= type=test
    //# A control node that introduces both ends of a pair for a leg MUST tell them so.
    let [a, b] = [1, 2].map(NodeNumber);
    control.handle_command(NOW, Command::Cut { a, b, leg: Some(B) });
    control.handle_command(NOW, Command::Heal { a, b, leg: Some(B) });
    control.pump(NOW, 1000);
    assert_eq!(introduced(&mut control), [B]);
    for (end, peer) in ends.iter_mut().zip([b, a]) {
        let of = (peer, B.0);
        let [cut, healed] = [
            ControlMessage::LegCut { peer: of.0, leg: of.1 },
            ControlMessage::LegIntroduced { peer: of.0, leg: of.1 },
        ];
        assert_eq!(end.told(), [cut, healed]);
    }
}

#[test]
fn both_ends_are_introduced_again_when_one_lacks_a_leg() {
    //= spec/server.md#missing-legs
    //= type=test
    //# When an end of a direct association says that a leg of shared memory is missing, a control node MUST introduce both ends
    //# again, once a second at most.
    let mut config = config();
    config.nodes.iter_mut().for_each(|entry| entry.legs = vec![vec![LegKind::Unix], vec![LegKind::Udp]]);
    let (mut control, [mut one, mut two], _) = udp_pair(config);
    assert_eq!(introduced(&mut control), [A]);
    let missing =
        |process, leg: LegNumber| ControlMessage::LegMissing { peer: NodeNumber(1), process, leg: leg.0 };
    let mut again_after = |millis, message: &ControlMessage| {
        two.say(message);
        control.pump(NOW + Duration::from_millis(millis), 1000);
        introduced(&mut control)
    };
    assert_eq!(again_after(500, &missing(process(1), A)), [], "just introduced");
    assert_eq!(again_after(1000, &missing(ProcessId(999), A)), [], "another process");
    assert_eq!(again_after(1000, &missing(process(1), B)), [], "of no shared memory");
    assert_eq!(again_after(1000, &missing(process(1), A)), [A]);
    assert_eq!(again_after(1900, &missing(process(1), A)), [], "just introduced");
    assert_eq!(again_after(2000, &missing(process(1), A)), [A]);
    let healed = ControlMessage::LegIntroduced { peer: NodeNumber(2), leg: A.0 };
    assert_eq!(one.told().iter().filter(|message| **message == healed).count(), 2);
    let (a, b) = (NodeNumber(1), NodeNumber(2));
    control.handle_command(NOW, Command::Cut { a, b, leg: Some(A) });
    two.say(&missing(process(1), A));
    control.pump(NOW + Duration::from_secs(5), 1000);
    assert_eq!(introduced(&mut control), [], "it is cut");
}

#[test]
fn peers_of_a_replaced_process_are_told_and_get_another_key() {
    //= spec/server.md#another-process
    //= type=test
    //# When another process of a node registers, a control node MUST revoke the direct RVIs with packet legs that peers
    //# have with the former one.
    let (mut control, [_old, mut two], before) = udp_pair(two_hosts());
    let mut new = End::connect(&mut control, 1, ProcessId(999), &ShmConfig::default());
    let legs = vec![offer(A, udp(1, A))];
    new.tell(&mut control, &register_with(1, ProcessId(999), vec![], vec![], legs));
    assert_eq!(revoked(&two.told()), [RevokeReason::Membership]);
    two.tell(&mut control, &ControlMessage::DirectLost { peer: NodeNumber(1), process: process(1) });
    burst(&mut control, &mut two, 1);
    let after = grants(&two.told());
    assert_eq!(after[0].peer_process, ProcessId(999));
    assert_ne!(after[0].association.epoch, before[1].association.epoch);
    assert_ne!(after[0].association.pair_key, before[1].association.pair_key);
}

#[test]
fn an_end_hears_once_that_the_other_is_over() {
    //= spec/server.md#one-end-that-is-over
    //= type=test
    //# When one end of a direct association says that it is over, a control node MUST tell the other end, unless that has said
    //# so too.
    for is_cut in [false, true] {
        let (mut control, [mut one, mut two], _) = udp_pair(two_hosts());
        if is_cut {
            control.handle_command(NOW, Command::Cut { a: NodeNumber(1), b: NodeNumber(2), leg: None });
            assert_eq!(revoked(&two.told()), [RevokeReason::Cut]);
        }
        let lost = |peer| ControlMessage::DirectLost { peer: NodeNumber(peer), process: process(peer) };
        one.tell(&mut control, &lost(2));
        one.tell(&mut control, &lost(2));
        assert_eq!(revoked(&two.told()), [RevokeReason::Ended]);
        one.told();
        two.tell(&mut control, &lost(1));
        assert_eq!(revoked(&one.told()), []);
        assert!(control.pairs.pairs.is_empty());
    }
}

#[test]
fn a_fault_reaches_the_node_that_is_meant_or_all() {
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends.iter_mut().for_each(|end| drop(end.told()));
    let fault = Fault::new(Some(B), FaultDirection::Out, "loss=5%").expect("a short text");
    let told = ControlMessage::Fault(fault.clone());
    control.handle_command(NOW, Command::Fault { node: Some(NodeNumber(2)), fault: fault.clone() });
    assert_eq!(ends.each_mut().map(End::told), [vec![], vec![told.clone()], vec![]]);
    control.handle_command(NOW, Command::Fault { node: None, fault });
    assert_eq!(ends.each_mut().map(End::told), [0, 1, 2].map(|_| vec![told.clone()]));
}

#[test]
fn nodes_are_introduced_in_the_epoch_that_they_are_granted() {
    //= spec/rvi.md#epochs-of-a-pair
    //= type=test
    //# A leg between two nodes MUST carry the epoch of the association that it was made for, and an end MUST take a leg or a
    //# grant only into the association of that epoch: it ends one of another epoch first.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    let mut seen = Vec::new();
    for _ in 0..2 {
        burst(&mut control, &mut ends[0], 2);
        let introduced = outputs(&mut control).into_iter().find_map(|output| match output {
            Output::Introduce { epoch, .. } => Some(epoch),
            _ => None,
        });
        let granted = ends.each_mut().map(|end| grants(&end.told())[0].association.epoch);
        assert_eq!(granted.map(Some), [introduced; 2]);
        assert!(!seen.contains(&granted[0]), "each life has an epoch of its own");
        seen.push(granted[0]);
        for (end, peer) in ends.iter_mut().zip([2, 1]) {
            let lost = ControlMessage::DirectLost { peer: NodeNumber(peer), process: process(peer) };
            end.tell(&mut control, &lost);
        }
    }
}

fn come_up(control: &mut ControlNode, end: &End, leg: LegNumber) -> [Region; 2] {
    let config = ShmConfig::default();
    let regions = [0, 1].map(|_| Region::heap(config.region_len()));
    regions.iter().for_each(|region| ShmLeg::format(region, &config));
    let shm = ShmLeg::new(regions[0].clone(), regions[1].clone()).expect("a leg");
    let tag = tag_of(control, end.node);
    assert!(control.handle_leg_up(NOW, NodeNumber(end.node), process(end.node), leg, tag, shm));
    regions
}

#[test]
fn a_leg_that_both_nodes_have_only_later_is_introduced_then_and_once() {
    let mut control = control_node();
    let (mut one, two) = (member(&mut control, 1), member(&mut control, 2));
    burst(&mut control, &mut one, 2);
    let late = LegNumber(LEG.0 + 1);
    assert_eq!(introduced(&mut control), [LEG]);
    let mut kept = Vec::new();
    kept.push(come_up(&mut control, &one, late));
    assert_eq!(introduced(&mut control), [], "the other end has no such leg yet");
    kept.push(come_up(&mut control, &two, late));
    assert_eq!(introduced(&mut control), [late]);
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), late);
    control.pump(NOW, 1000);
    kept.push(come_up(&mut control, &one, late));
    assert_eq!(introduced(&mut control), [], "the pair's own leg did not go with it");
}

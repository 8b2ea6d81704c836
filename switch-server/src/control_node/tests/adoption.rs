//! What nodes had before they registered here.

use super::*;

const EPOCH: PairEpoch = PairEpoch(40);
const SECOND: LegNumber = LegNumber(1);

fn held(peer: u16, rvi: u32) -> HeldDirect {
    HeldDirect {
        rvi: RviNumber(rvi),
        lan: LAN,
        peer: NodeNumber(peer),
        channel: Channel(1),
        own_vif: VifNumber(1),
        peer_vif: VifNumber(1),
    }
}

fn association(peer: u16, legs: &[(LegNumber, LegKind)]) -> HeldAssociation {
    let legs = legs.iter().map(|&(leg, kind)| HeldLeg { leg, kind }).collect();
    HeldAssociation { peer: NodeNumber(peer), process: process(peer), epoch: EPOCH, legs }
}

const UNIX: &[(LegNumber, LegKind)] = &[(LEG, LegKind::Unix)];

fn connect(control: &mut ControlNode, node: u16) -> End {
    End::connect(control, node, process(node), &ShmConfig::default())
}

impl End {
    /// Registers with the direct RVI `rvi` to `peer`.
    fn claim(
        &mut self,
        control: &mut ControlNode,
        (peer, rvi): (u16, u32),
        association: HeldAssociation,
    ) -> Vec<ControlMessage> {
        let direct = vec![held(peer, rvi)];
        let register = register_with(self.node, process(self.node), direct, vec![association], vec![]);
        self.tell(control, &register)
    }
}

fn state(control: &ControlNode, rvi: u32) -> Option<RviState> {
    control.status().rvis.iter().find(|status| status.rvi == RviNumber(rvi)).map(|status| status.state)
}

#[test]
fn direct_rvis_that_both_ends_hold_outlive_a_control_node_and_others_do_not() {
    //= spec/server.md#adoption
    //= type=test
    //# A control node MUST leave direct RVIs untouched that both ends hold in the same epoch and the configuration allows
    //# when they register, and revoke the others.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| connect(&mut control, node));
    // Node 3 is first: it has to wait for what the others say.
    let register = register_with(
        3,
        process(3),
        vec![held(1, 9), held(50, 10)],
        vec![association(1, UNIX), association(50, UNIX)],
        vec![],
    );
    assert_eq!(revoked(&ends[2].tell(&mut control, &register)), [RevokeReason::Mismatch], "one to nobody");
    assert_eq!(state(&control, 9), Some(RviState::Adopting));
    assert_eq!(revoked(&ends[0].claim(&mut control, (2, 7), association(2, UNIX))), []);
    assert_eq!(revoked(&ends[2].told()), [RevokeReason::Mismatch], "one that node 1 does not have");
    assert_eq!(state(&control, 7), Some(RviState::Adopting));
    assert_eq!(revoked(&ends[1].claim(&mut control, (1, 7), association(1, UNIX))), []);
    assert_eq!(state(&control, 7), Some(RviState::Granted));
    control.handle_timeout(NOW + pairs::END_WAIT);
    assert_eq!(revoked(&ends[0].told()), []);
    assert_eq!(introduced(&mut control), [], "both have the leg");
    assert_eq!(state(&control, 7), Some(RviState::Granted));
}

#[test]
fn ends_that_hold_different_associations_are_both_revoked() {
    let other_epoch = HeldAssociation { epoch: PairEpoch(41), ..association(1, UNIX) };
    let other_process = HeldAssociation { process: ProcessId(5), ..association(1, UNIX) };
    for claimed in [other_epoch, other_process] {
        let mut control = control_node();
        let mut ends = [1, 2].map(|node| connect(&mut control, node));
        ends[0].claim(&mut control, (2, 7), association(2, UNIX));
        let told = ends[1].claim(&mut control, (1, 7), claimed.clone());
        assert_eq!(revoked(&told), [RevokeReason::Mismatch], "{claimed:?}");
        assert_eq!(revoked(&ends[0].told()), [RevokeReason::Mismatch], "{claimed:?}");
    }
}

#[test]
fn an_rvi_without_its_association_is_revoked() {
    let mut control = control_node();
    let mut one = connect(&mut control, 1);
    let told = one.tell(&mut control, &register_with(1, process(1), vec![held(2, 7)], vec![], vec![]));
    assert_eq!(revoked(&told), [RevokeReason::Mismatch]);
    assert!(control.status().rvis.is_empty());
}

#[test]
fn a_leg_that_an_adopted_pair_has_lost_is_introduced_again() {
    for (first, second, expected) in
        [(UNIX, UNIX, &[][..]), (UNIX, &[][..], &[LEG]), (&[], UNIX, &[LEG]), (&[], &[], &[LEG])]
    {
        let mut control = control_node();
        let mut ends = [1, 2].map(|node| connect(&mut control, node));
        ends[0].claim(&mut control, (2, 7), association(2, first));
        assert_eq!(introduced(&mut control), [], "only one end is there");
        ends[1].claim(&mut control, (1, 7), association(1, second));
        assert_eq!(introduced(&mut control), expected, "{first:?} {second:?}");
    }
}

#[test]
fn a_leg_that_was_cut_is_not_given_to_an_adopted_pair() {
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| connect(&mut control, node));
    control.handle_command(NOW, Command::Cut { a: NodeNumber(1), b: NodeNumber(2), leg: Some(LEG) });
    for (end, peer) in [(0, 2), (1, 1)] {
        let told = ends[end].claim(&mut control, (peer, 7), association(peer, UNIX));
        assert!(told.contains(&ControlMessage::LegCut { peer: NodeNumber(peer), leg: LEG.0 }), "{told:?}");
    }
    assert_eq!(introduced(&mut control), []);
    assert!(control.status().rvis[0].legs.is_empty());
    control.handle_command(NOW, Command::Heal { a: NodeNumber(1), b: NodeNumber(2), leg: Some(LEG) });
    assert_eq!(introduced(&mut control), [LEG]);
}

#[test]
fn packet_legs_of_an_adopted_pair_are_granted_again_in_its_epoch() {
    let mut config = config();
    for entry in &mut config.nodes {
        entry.host = Some(alloc::format!("h{}", entry.number));
        entry.legs = vec![vec![LegKind::Unix], vec![LegKind::Udp]];
    }
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2].map(|node| connect(&mut control, node));
    let udp = |node: u16| LegAddress::Udp(([192, 0, 2, node as u8], 7401).into());
    for (end, peer) in [(0, 2), (1, 1)] {
        let node = ends[end].node;
        let held = (vec![held(peer, 7)], vec![association(peer, &[(SECOND, LegKind::Udp)])]);
        let legs = vec![OfferedLeg { leg: SECOND, address: udp(node) }];
        let told = ends[end].tell(&mut control, &register_with(node, process(node), held.0, held.1, legs));
        assert_eq!(grants(&told).len(), end, "when both have come");
        if end == 1 {
            let grant = &grants(&told)[0];
            assert_eq!((grant.rvi, grant.association.epoch), (RviNumber(7), EPOCH));
            assert_eq!(grant.association.legs[0].address, udp(1));
        }
    }
    let again = grants(&ends[0].told());
    assert_eq!((again.len(), again[0].association.epoch), (1, EPOCH));
    assert_eq!(again[0].association.legs[0].address, udp(2));
    assert_eq!(introduced(&mut control), []);
}

/// A pair with one direct RVI, and what it has.
fn granted() -> (ControlNode, [End; 2], Grant) {
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    burst(&mut control, &mut ends[0], 2);
    let grant = grants(&ends[0].told())[0].clone();
    ends[1].told();
    (control, ends, grant)
}

fn of(grant: &Grant, peer: u16) -> HeldAssociation {
    HeldAssociation { epoch: grant.association.epoch, ..association(peer, UNIX) }
}

#[test]
fn a_node_that_loses_its_control_node_for_a_moment_keeps_its_direct_rvis() {
    let (mut control, [one, mut two], grant) = granted();
    outputs(&mut control);
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    drop(one);
    assert_eq!(state(&control, grant.rvi.0), Some(RviState::Adopting));
    control.handle_timeout(NOW + pairs::END_WAIT);
    let mut one = connect(&mut control, 1);
    let told = one.claim(&mut control, (2, grant.rvi.0), of(&grant, 2));
    assert_eq!((revoked(&told), revoked(&two.told())), (vec![], vec![]));
    assert_eq!(state(&control, grant.rvi.0), Some(RviState::Granted));
    assert_eq!(introduced(&mut control), []);
}

#[test]
fn a_node_that_comes_back_without_its_direct_rvi_has_it_revoked_at_the_peer() {
    let (mut control, [one, mut two], grant) = granted();
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    drop(one);
    let mut one = connect(&mut control, 1);
    assert_eq!(revoked(&one.register(&mut control)), []);
    assert_eq!(revoked(&two.told()), [RevokeReason::Mismatch]);
    two.tell(&mut control, &ControlMessage::DirectLost { peer: NodeNumber(1), process: process(1) });
    assert_eq!(state(&control, grant.rvi.0), None);
}

#[test]
fn an_rvi_that_only_one_end_of_a_pair_holds_is_granted_to_both_again() {
    let mut config = config();
    let mut blue = config.lans[0].clone();
    (blue.id, blue.name) = (LanId(11), "blue".into());
    blue.members.iter_mut().for_each(|member| {
        member.vif = VifNumber(2);
        member.mac.0[3] = 2;
    });
    config.lans.push(blue);
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2].map(|node| connect(&mut control, node));
    let second = |peer| HeldDirect {
        rvi: RviNumber(8),
        lan: LanId(11),
        channel: Channel(2),
        own_vif: VifNumber(2),
        peer_vif: VifNumber(2),
        ..held(peer, 8)
    };
    let register =
        register_with(1, process(1), vec![held(2, 7), second(2)], vec![association(2, UNIX)], vec![]);
    assert_eq!(revoked(&ends[0].tell(&mut control, &register)), []);
    let told = ends[1].claim(&mut control, (1, 7), association(1, UNIX));
    assert_eq!(revoked(&told), []);
    for told in [told, ends[0].told()] {
        let again: Vec<_> = grants(&told).iter().map(|grant| (grant.rvi, grant.channel)).collect();
        assert_eq!(again, [(RviNumber(8), Channel(2))]);
    }
}

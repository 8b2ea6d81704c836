//! What a node says of itself to its control nodes.

use super::*;

/// What the node registers with at its control node.
fn registered(node: &mut Node) -> (Vec<HeldAssociation>, Vec<OfferedLeg>, usize) {
    let mut control = Far::connect(node, PeerId::ControlNode(0), 2, &[]);
    turn(node);
    let told = control.told();
    let Some(ControlMessage::Register { associations, legs, direct, .. }) = told.first() else {
        panic!("no registration but {told:?}")
    };
    (associations.clone(), legs.clone(), direct.len())
}

#[test]
fn a_node_registers_with_what_it_holds_and_where_its_packet_legs_end() {
    let mut node = node();
    let offered = [OfferedLeg { leg: LegNumber(1), address: udp(1) }];
    node.handle_leg_addresses(NOW, &offered);
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    control.tell(&mut node, &grant(&[1]));
    lose_control(&mut node, 1);
    let (associations, legs, direct) = registered(&mut node);
    let leg = |leg, kind| HeldLeg { leg, kind };
    let expected = HeldAssociation {
        peer: NodeNumber(2),
        process: ProcessId(22),
        epoch: EPOCH,
        legs: vec![leg(LEG, LegKind::Unix), leg(LegNumber(1), LegKind::Udp)],
    };
    assert_eq!((associations, legs, direct), (vec![expected], offered.to_vec(), 1));
}

#[test]
fn a_node_does_not_claim_what_it_is_leaving() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    let (rvi, peer, reason) = (RviNumber(7), NodeNumber(2), RevokeReason::Cut);
    control.tell(&mut node, &ControlMessage::Revoke { rvi, peer, reason });
    lose_control(&mut node, 1);
    assert_eq!(registered(&mut node), (vec![], vec![], 0));
}

#[test]
fn control_nodes_are_told_of_other_leg_addresses_once() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.told();
    let legs = vec![OfferedLeg { leg: LegNumber(0), address: udp(3) }];
    for _ in 0..2 {
        node.handle_leg_addresses(NOW, &legs);
        node.publish(NOW);
    }
    assert_eq!(control.told(), [ControlMessage::LegAddresses { legs }]);
}

#[test]
fn a_registration_is_given_up_when_nobody_answers_it_and_not_while_the_answer_is_carried_out() {
    //= spec/driver.md#registration
    //= type=test
    //# A node MUST give up a registration that nobody answers for a second, and MUST NOT give up one for being long
    //# about what the answer says.
    let second = NOW + Duration::from_secs(1);
    for is_answered in [false, true] {
        let mut node = node();
        let mut control = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[RELAY, ARP]);
        if is_answered {
            control.tell(&mut node, &ControlMessage::Registered { epoch: 1 });
        }
        node.handle_timeout(second);
        let is_closed = core::iter::from_fn(|| node.poll_output())
            .any(|output| matches!(output, Output::CloseLeg { peer: PeerId::ControlNode(0), .. }));
        assert_eq!(is_closed, !is_answered);
    }
}

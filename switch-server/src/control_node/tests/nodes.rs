//! Nodes that come, go or change while frames flow.

use super::apply::applied;
use super::*;
use crate::control_node::{AddedMember, Changes};

const OTHER_KEY: PublicKey = PublicKey([77; 32]);

fn refusals(told: &[ControlMessage]) -> usize {
    told.iter().filter(|message| matches!(message, ControlMessage::Refused { .. })).count()
}

/// Node 2 as `change` makes it.
fn with_node_2(change: impl FnOnce(&mut NodeEntry)) -> Changes {
    let mut nodes = config().nodes;
    change(nodes.iter_mut().find(|entry| entry.number == NodeNumber(2)).expect("node 2"));
    Changes { nodes: Some(nodes), ..Changes::default() }
}

fn is_attached(control: &ControlNode, node: u16) -> bool {
    control.status().nodes.iter().any(|entry| entry.number == NodeNumber(node) && entry.process.is_some())
}

#[test]
fn a_node_that_is_removed_is_refused_and_may_come_again() {
    let mut control = control_node();
    let [mut one, mut two, _three] = [1, 2, 3].map(|node| member(&mut control, node));
    burst(&mut control, &mut one, 2);
    [&mut one, &mut two].into_iter().for_each(|end| _ = end.arrived());
    let mut nodes = config().nodes;
    nodes.retain(|entry| entry.number != NodeNumber(2));
    let removed_members = vec![(LAN, NodeNumber(2))];
    control
        .handle_command(NOW, applied(Changes { removed_members, nodes: Some(nodes), ..Changes::default() }));
    let told = two.told();
    assert_eq!((refusals(&told), revoked(&told)), (1, vec![RevokeReason::Membership]));
    assert_eq!(revoked(&one.told()), [RevokeReason::Membership]);
    assert!(!is_attached(&control, 2));
    assert_eq!(control.node_of_key(&config().nodes[1].public_key), None);
    two.send(&mut control, mac(1), 0);
    assert_eq!(one.frames().len(), 0);

    outputs(&mut control);
    let config = MemberConfig { vif: VifNumber(2), mac: mac(9), ..config().lans[0].members[1].clone() };
    let added = AddedMember { lan: LAN, config, gets_every_group: false };
    let back =
        Changes { nodes: Some(super::config().nodes), added_members: vec![added], ..Changes::default() };
    control.handle_command(NOW, applied(back));
    let is_closed = |output: &Output| matches!(output, Output::CloseLeg { node: NodeNumber(2), .. });
    assert!(outputs(&mut control).iter().any(is_closed), "so that it asks again");
    let mut again = End::connect(&mut control, 2, process(2), &ShmConfig::default());
    assert_eq!(refusals(&again.register(&mut control)), 0);
    assert!(is_attached(&control, 2));
}

#[test]
fn a_node_with_another_key_is_refused_until_its_next_process_and_keeps_its_memberships() {
    //= spec/control-node.md#nodes-that-change
    //= type=test
    //# When an applied file has a node no more, or with another key, host or legs, a control node MUST refuse the process that is
    //# attached, take nothing more from it, and revoke its direct RVIs.
    let changes: [fn(&mut NodeEntry); 3] = [
        |node| node.public_key = OTHER_KEY,
        |node| node.host = Some("elsewhere".into()),
        |node| node.legs.push(vec![LegKind::Unix]),
    ];
    for change in changes {
        let mut control = control_node();
        let [mut one, mut two, mut three] = [1, 2, 3].map(|node| member(&mut control, node));
        burst(&mut control, &mut one, 2);
        burst(&mut control, &mut one, 3);
        [&mut one, &mut two, &mut three].into_iter().for_each(|end| _ = end.arrived());
        control.handle_command(NOW, applied(with_node_2(change)));
        let told = two.told();
        assert_eq!((refusals(&told), revoked(&told)), (1, vec![RevokeReason::Membership]));
        assert_eq!(revoked(&one.told()), [RevokeReason::Membership], "of the pair with node 2 alone");
        two.send(&mut control, mac(1), 0);
        assert_eq!(one.frames().len(), 0);
        let mut next = End::connect(&mut control, 2, ProcessId(999), &ShmConfig::default());
        let told = next.tell(&mut control, &register(2, ProcessId(999)));
        assert_eq!(refusals(&told), 0);
        one.send(&mut control, mac(2), 0);
        assert_eq!(next.frames().len(), 1);
    }
}

#[test]
fn a_node_with_another_name_stays_attached() {
    let mut control = control_node();
    let [mut one, mut two] = [1, 2].map(|node| member(&mut control, node));
    burst(&mut control, &mut one, 2);
    [&mut one, &mut two].into_iter().for_each(|end| _ = end.arrived());
    control.handle_command(NOW, applied(with_node_2(|node| node.name = "other".into())));
    assert!(two.told().is_empty() && one.told().is_empty());
    assert_eq!(control.status().nodes[1].name, "other");
}

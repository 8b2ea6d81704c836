//! LANs and members that come and go while frames flow.

use super::apply::applied;
use super::*;
use crate::control_node::{AddedMember, Changes};
use vlan_core::wire::control::HeldInterface;

const BLUE: LanId = LanId(20);

fn removed(node: u16) -> Command {
    applied(Changes { removed_members: vec![(LAN, NodeNumber(node))], ..Changes::default() })
}

/// A member that comes, with what no former one had.
fn added(node: u16, vif: u16, last: u16) -> Command {
    let config = MemberConfig {
        node: NodeNumber(node),
        vif: VifNumber(vif),
        mac: mac(last),
        ..config().lans[0].members[0].clone()
    };
    let member = AddedMember { lan: LAN, config, gets_every_group: false };
    applied(Changes { added_members: vec![member], ..Changes::default() })
}

fn interfaces(told: &[ControlMessage]) -> Vec<(VifNumber, bool)> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Interface(config) => Some((config.vif, true)),
        ControlMessage::InterfaceRemoved { vif } => Some((*vif, false)),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

fn came_and_went(told: &[ControlMessage]) -> Vec<(NodeNumber, VifNumber, bool)> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Member(notice) => Some((notice.node, notice.vif, notice.attached)),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[test]
fn a_member_that_is_removed_is_told_revoked_and_given_nothing_more() {
    //= spec/control-node.md#removed-members
    //= type=test
    //# When a member is removed, a control node MUST tell its node to take the interface away, tell the others that it has
    //# gone, revoke its direct RVIs, drop its bindings, and count every later frame for it as dropped.
    let mut control = control_node();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|node| member(&mut control, node));
    let address = InterfaceAddress { address: "10.1.0.2".parse().expect("an address"), prefix: 24 };
    two.tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    burst(&mut control, &mut one, 2);
    assert_eq!(control.status().rvis.len(), 1);
    [&mut one, &mut two, &mut three].into_iter().for_each(|end| _ = end.arrived());
    control.handle_command(NOW, removed(2));

    let told = two.told();
    assert_eq!(
        (interfaces(&told), revoked(&told)),
        (vec![(VifNumber(1), false)], vec![RevokeReason::Membership])
    );
    let told = one.told();
    let gone = (NodeNumber(2), VifNumber(1), false);
    assert_eq!((came_and_went(&told), revoked(&told)), (vec![gone], vec![RevokeReason::Membership]));
    let told = three.told();
    assert_eq!((came_and_went(&told), revoked(&told)), (vec![gone], vec![]));
    let status = control.status();
    assert!(status.bindings.is_empty() && status.lans[0].members.len() == 2);

    one.send(&mut control, mac(2), 0);
    two.send(&mut control, mac(1), 0);
    assert_eq!((two.frames().len(), one.frames().len()), (0, 0));
    one.send(&mut control, MacAddress::BROADCAST, 0);
    assert_eq!((two.frames().len(), three.frames().len()), (0, 1));
    let status = control.status();
    assert_eq!(status.lans[0].drops.of(DropReason::UnknownDestination), 1);
    assert_eq!(status.drops.of(DropReason::NoChannel), 1);
    assert!(status.lans[0].ledger.closes(status.lans[0].drops.total()));
    // What the others had of each other goes on.
    one.send(&mut control, mac(3), 0);
    assert_eq!(three.frames().len(), 1);
}

#[test]
fn a_member_that_comes_again_is_another_one_in_another_place_while_the_former_one_ends() {
    let mut control = control_node();
    let [mut one, mut two, _three] = [1, 2, 3].map(|node| member(&mut control, node));
    burst(&mut control, &mut one, 2);
    control.handle_command(NOW, removed(2));
    [&mut one, &mut two].into_iter().for_each(|end| _ = end.arrived());
    control.handle_command(NOW, added(2, 2, 9));
    assert_eq!(interfaces(&two.told()), [(VifNumber(2), true)]);
    let named = [false, true].map(|attached| (NodeNumber(2), VifNumber(2), attached));
    assert_eq!(came_and_went(&one.told()), named, "it is named before its first frame can come");
    assert_eq!(control.lans[0].routes.len(), 4, "the pair that ends still names the former place");
    two.association.open_channel(Channel(3));
    one.send(&mut control, mac(9), 0);
    assert_eq!(two.frames().len(), 1);

    // Places are taken again when nothing names them any more.
    control.handle_timeout(NOW + pairs::END_WAIT);
    control.handle_command(NOW, removed(2));
    control.handle_command(NOW, added(2, 3, 10));
    assert_eq!(control.lans[0].routes.len(), 4);
    let members: Vec<_> = control.status().lans[0].members.iter().map(|m| (m.node.0, m.vif.0)).collect();
    assert_eq!(members, [(1, 1), (2, 3), (3, 1)]);
}

#[test]
fn a_lan_comes_with_its_members_and_goes_with_them() {
    let mut control = control_node();
    let [mut one, mut two] = [1, 2].map(|node| member(&mut control, node));
    let blue = LanConfig {
        id: BLUE,
        name: "blue".into(),
        members: (1..=2)
            .map(|node| MemberConfig {
                node: NodeNumber(node),
                vif: VifNumber(2),
                mac: mac(node + 20),
                ..config().lans[0].members[0].clone()
            })
            .collect(),
        ..config().lans[0].clone()
    };
    for _ in 0..3 {
        [&mut one, &mut two].into_iter().for_each(|end| _ = end.arrived());
        let added_lans = vec![blue.clone()];
        control.handle_command(NOW, applied(Changes { added_lans, ..Changes::default() }));
        assert_eq!(interfaces(&one.told()), [(VifNumber(2), true)]);
        let told = two.told();
        assert_eq!(
            (interfaces(&told), came_and_went(&told)),
            (vec![(VifNumber(2), true)], vec![(NodeNumber(1), VifNumber(2), true)])
        );
        assert_eq!(control.status().lans.iter().map(|lan| lan.id).collect::<Vec<_>>(), [LAN, BLUE]);
        let removed_lans = vec![BLUE];
        control.handle_command(NOW, applied(Changes { removed_lans, ..Changes::default() }));
        assert_eq!(interfaces(&one.told()), [(VifNumber(2), false)]);
        assert_eq!(interfaces(&two.told()), [(VifNumber(2), false)]);
        assert_eq!(control.status().lans.len(), 1);
    }
    assert_eq!(control.lans.len(), 2, "its place is taken again");
    one.send(&mut control, mac(2), 0);
    assert_eq!(two.frames().len(), 1, "the other LAN goes on");
}

#[test]
fn a_node_that_registers_is_told_what_it_has_no_more() {
    //= spec/control-node.md#interfaces-of-former-memberships
    //= type=test
    //# A control node MUST tell a node that registers to take away each interface that it has and the configuration does not
    //# name with the same number, MAC and LAN, before it names any.
    let held = |vif: u16, last: u16, lan: LanId| HeldInterface { lan, vif: VifNumber(vif), mac: mac(last) };
    let own = held(1, 1, LAN);
    for (former, is_former) in
        [(own, false), (held(2, 1, LAN), true), (held(1, 9, LAN), true), (held(1, 1, BLUE), true)]
    {
        let mut control = control_node();
        let mut end = End::connect(&mut control, 1, process(1), &ShmConfig::default());
        let mut claim = register(1, process(1));
        let ControlMessage::Register { interfaces: held, .. } = &mut claim else { panic!("{claim:?}") };
        *held = vec![former];
        let told = interfaces(&end.tell(&mut control, &claim));
        let expected = [(former.vif, false), (VifNumber(1), true)];
        assert_eq!(told, expected[usize::from(!is_former)..], "{former:?}");
    }
}

#[test]
fn a_node_that_was_refused_may_ask_again_when_it_is_a_member() {
    let mut control = control_node();
    let mut end = End::connect(&mut control, 4, process(4), &ShmConfig::default());
    assert!(matches!(end.register(&mut control)[..], [ControlMessage::Refused { .. }]));
    outputs(&mut control);
    control.handle_command(NOW, added(4, 1, 4));
    let closed = outputs(&mut control);
    assert!(closed.iter().any(|output| matches!(output, Output::CloseLeg { node: NodeNumber(4), .. })));
    let mut again = End::connect(&mut control, 4, process(4), &ShmConfig::default());
    assert_eq!(interfaces(&again.register(&mut control)), [(VifNumber(1), true)]);
}

#[test]
fn a_node_that_was_refused_may_ask_again_beside_its_former_process_that_is_registered() {
    let mut control = control_node();
    let _former = member(&mut control, 3);
    control.handle_command(NOW, removed(3));
    let newer = ProcessId(1000);
    let mut end = End::connect(&mut control, 3, newer, &ShmConfig::default());
    end.association.send_control(NOW, &register(3, newer).emit()).expect("room");
    end.association.publish();
    control.pump(NOW, 1000);
    assert!(matches!(end.told()[..], [ControlMessage::Refused { .. }]));
    outputs(&mut control);
    control.handle_command(NOW, added(3, 2, 9));
    let is_newers = |output: &Output| matches!(output, Output::CloseLeg { process, .. } if *process == newer);
    assert!(outputs(&mut control).iter().any(is_newers), "who comes for the member is not known to live");
}

//! Who is taken for a node, and which of its processes.

use super::*;

#[test]
fn a_registration_must_match_its_proof_its_version_and_a_membership() {
    //= spec/server.md#registration
    //= type=test
    //# A control node MUST accept a registration only for the node and the process that the handshake proved, in the
    //# same version of the TLV layer, and only from a node that is a member of a virtual LAN.
    for (node, claim) in [
        (1, register(2, process(1))),
        (1, register(1, process(2))),
        (4, register(4, process(4))),
        (1, version(register(1, process(1)), TLV_VERSION + 1)),
    ] {
        let mut control = control_node();
        let mut end = End::connect(&mut control, node, process(node), &ShmConfig::default());
        let told = end.tell(&mut control, &claim);
        assert!(matches!(told[..], [ControlMessage::Refused { .. }]), "{claim:?}: {told:?}");
        assert!(control.status().nodes.iter().all(|node| node.process.is_none()));
        assert!(end.register(&mut control).is_empty(), "a refused session goes on");
    }
    let mut control = control_node();
    member(&mut control, 1);
}

#[test]
fn an_older_process_is_fenced_and_heard_no_more() {
    //= spec/server.md#fencing
    //= type=test
    //# When a newer process of a node registers, the control node MUST tell the older one that it is fenced and take
    //# nothing more from it.
    let mut control = control_node();
    let mut old = member(&mut control, 1);
    let mut other = member(&mut control, 2);
    let mut new = End::connect(&mut control, 1, ProcessId(999), &ShmConfig::default());
    new.tell(&mut control, &register(1, ProcessId(999)));
    assert!(old.told().contains(&ControlMessage::Fenced));
    other.arrived();
    old.send(&mut control, mac(2), 0);
    assert!(other.frames().is_empty());
}

#[test]
fn a_leg_joins_only_the_session_that_it_was_set_up_for() {
    //= spec/leg-setup.md#session-tags
    //= type=test
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    let (number, process, other) = (NodeNumber(1), process(1), LegNumber(1));
    let mut control = control_node();
    let _one = member(&mut control, 1);
    let tag = tag_of(&control, 1);
    assert_eq!(control.session_tag(number, process, tag.node), Some(tag));
    assert_eq!(control.session_tag(number, process, tag.node - 1), None);
    for wrong in
        [SessionTag { node: tag.node - 1, ..tag }, SessionTag { control_node: tag.control_node + 9, ..tag }]
    {
        assert!(!control.handle_leg_up(NOW, number, process, other, wrong, lone_leg()));
    }
    assert!(control.handle_leg_up(NOW, number, process, other, tag, lone_leg()));
    assert_eq!(control.status().nodes[0].legs, [LEG, other]);
    while control.poll_output().is_some() {}

    let later = control.session_tag(number, process, tag.node + 1).expect("a later session");
    assert!(later.control_node > tag.control_node);
    assert!(control.handle_leg_up(NOW, number, process, other, later, lone_leg()));
    assert_eq!(control.status().nodes[0].process, None, "the later session has not registered");
    let closed: Vec<_> = core::iter::from_fn(|| control.poll_output())
        .filter_map(|output| match output {
            Output::CloseLeg { leg, .. } => Some(leg),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [LEG], "the leg of the same name is the later session's");
    // The earlier session's hang-up is seen only now.
    control.handle_leg_gone(NOW, number, process, LEG);
    control.pump(NOW, 1000);
    assert_eq!(tag_of(&control, 1), later);
    // A tag that was given out before another session took its number.
    let stale = control.session_tag(number, process, later.node + 1).expect("a later session");
    let _two = member(&mut control, 2);
    assert!(!control.handle_leg_up(NOW, number, process, other, stale, lone_leg()));
}

/// `lans` LANs with the members 1 to `members` each.
fn crowd(lans: u16, members: u16) -> ControlNode {
    let mut config = config();
    let [lan] = &config.lans[..] else { panic!("one LAN") };
    let member = |node: u16, vif: u16| MemberConfig {
        node: NodeNumber(node),
        vif: VifNumber(vif),
        mac: MacAddress([2, 0, 1, 0, vif as u8, node as u8]),
        ..lan.members[0].clone()
    };
    let lan = |number: u16| LanConfig {
        id: LanId(number),
        name: alloc::format!("lan{number}"),
        members: (1..=members).map(|node| member(node, number)).collect(),
        ..lan.clone()
    };
    let entry = |node: u16| NodeEntry { number: NodeNumber(node), ..config.nodes[0].clone() };
    (config.lans, config.nodes) = ((1..=lans).map(lan).collect(), (1..=members).map(entry).collect());
    ControlNode::new(config)
}

/// A node that has registered and has not looked at the answer.
fn registering(control: &mut ControlNode, node: u16) -> End {
    let mut end = End::connect(control, node, process(node), &ShmConfig::default());
    end.association.send_control(NOW, &register(node, process(node)).emit()).expect("room");
    end.association.publish();
    control.pump(NOW, 1000);
    end
}

#[test]
fn a_node_hears_the_end_of_a_long_answer() {
    //= spec/server.md#room-for-the-answer
    //= type=test
    //# A control session MUST have room for the answer to the registration of a node with 127 interfaces, on LANs of 128
    //# members each, however late the node takes it.
    let (lans, members) = (127, 20);
    let mut control = crowd(lans, members);
    let ends: Vec<End> = (1..=members).map(|node| registering(&mut control, node)).collect();
    for (later, mut end) in (0..members).rev().zip(ends) {
        let mut told = Vec::new();
        loop {
            let more = end.told();
            control.pump(NOW, 1000);
            if more.is_empty() {
                break;
            }
            told.extend(more);
        }
        let count = |is_it: fn(&ControlMessage) -> bool| told.iter().filter(|message| is_it(message)).count();
        assert_eq!(count(|message| matches!(message, ControlMessage::ConfigurationEnd { .. })), 1);
        assert_eq!(count(|message| matches!(message, ControlMessage::Interface(_))), usize::from(lans));
        let attached = |message: &ControlMessage| matches!(message, ControlMessage::Member(m) if m.attached);
        assert_eq!(count(attached), usize::from(lans) * usize::from(members - 1));
        let away = |message: &ControlMessage| matches!(message, ControlMessage::Member(m) if !m.attached);
        assert_eq!(count(away), usize::from(lans) * usize::from(later));
    }
}

#[test]
fn a_member_that_is_away_is_named_all_the_same() {
    //= spec/server.md#members-that-are-named
    //= type=test
    //# A control node MUST name every other member of its LANs to a node that it accepts, also those that are not attached.
    let mut control = crowd(1, 3);
    let mut first = registering(&mut control, 1);
    let named = |end: &mut End| -> Vec<(u16, bool)> {
        let told = end.told().into_iter();
        told.filter_map(|message| match message {
            ControlMessage::Member(notice) => Some((notice.node.0, notice.attached)),
            _ => None,
        })
        .collect()
    };
    assert_eq!(named(&mut first), [(2, false), (3, false)]);
    let mut second = registering(&mut control, 2);
    assert_eq!(named(&mut second), [(1, true), (3, false)]);
    assert_eq!(named(&mut first), [(2, true)]);
}

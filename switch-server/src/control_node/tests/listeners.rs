//! Promiscuous listeners: who may listen, who is told, and relayed copies.

use super::*;
use crate::control_node::ListenRefusal;
use rvi::Part;

/// Three members, of which the third may listen.
fn permitted() -> ControlNode {
    let mut config = config();
    config.lans[0].members[2].may_listen = true;
    ControlNode::new(config)
}

fn says(node: u16, listens: bool) -> ControlMessage {
    let (node, lan) = (NodeNumber(node), LAN);
    ControlMessage::Promiscuous {
        listener: Location { node, lan, vif: VifNumber(1), ..Location::default() },
        listens,
    }
}

/// What an end is told of listeners: node, process and whether it listens.
fn heard(told: Vec<ControlMessage>) -> Vec<(u16, u64, bool)> {
    let heard = told.into_iter().filter_map(|message| match message {
        ControlMessage::Promiscuous { listener, listens } => {
            assert_eq!((listener.lan, listener.vif, listener.cabinet), (LAN, VifNumber(1), CabinetNumber(1)));
            Some((listener.node.0, listener.generation, listens))
        }
        _ => None,
    });
    heard.collect()
}

fn refusals(control: &mut ControlNode) -> Vec<(NodeNumber, ListenRefusal)> {
    let refusals = outputs(control).into_iter().filter_map(|output| match output {
        Output::Log(ControlNodeEvent::ListenerRefused { node, why, .. }) => Some((node, why)),
        _ => None,
    });
    refusals.collect()
}

#[test]
fn who_may_not_listen_is_refused_counted_and_told_once() {
    //= spec/promiscuous.md#permission
    //= type=test
    //# A control node MUST refuse a member that listens promiscuously without permission of the platform file, count it,
    //# and tell the operator the first time.
    let mut control = permitted();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends.iter_mut().for_each(|end| drop(end.told()));
    refusals(&mut control);
    for _ in 0..2 {
        ends[1].tell(&mut control, &says(2, true));
        ends[1].tell(&mut control, &says(2, false));
    }
    assert_eq!(refusals(&mut control), [(NodeNumber(2), ListenRefusal::NotPermitted)]);
    //= spec/promiscuous.md#former-listeners
    //= type=test
    //# Of a member that has said in its session that it listens or does not, and is no listener, a control node MUST say so once
    //# to the attached members, and to each that attaches.
    assert_eq!(heard(ends[0].told()), [(2, 102, false)]);
    ends[2].tell(&mut control, &says(3, false));
    assert_eq!(heard(ends[0].told()), [(3, 103, false)]);
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    ends[0] = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    assert_eq!(heard(ends[0].register(&mut control)), [(2, 102, false), (3, 103, false)]);
    let members = control.status().lans.remove(0).members;
    let shown = |place: usize| {
        let member = &members[place];
        (member.may_listen, member.listens, member.refused_listens)
    };
    assert_eq!((shown(1), shown(2)), ((false, false, 2), (true, false, 0)));
    // One that speaks for another is refused whoever that is.
    ends[1].tell(&mut control, &says(3, true));
    assert_eq!(heard(ends[0].told()), []);
}

#[test]
fn everybody_is_told_where_a_listener_is_and_when_it_ends() {
    //= spec/promiscuous.md#announcements
    //= type=test
    //# A control node MUST tell every other attached member of a LAN where a listener is when it begins to listen and in
    //# each session that it says so again, and when it ends; and a member that attaches where all listeners are.
    let mut control = permitted();
    let mut ends = [1, 3].map(|node| member(&mut control, node));
    assert_eq!(heard(ends[1].tell(&mut control, &says(3, true))), [], "it knows itself");
    assert_eq!(heard(ends[0].told()), [(3, 103, true)]);
    assert!(control.status().lans[0].members[2].listens);
    let mut late = End::connect(&mut control, 2, process(2), &ShmConfig::default());
    assert_eq!(heard(late.register(&mut control)), [(3, 103, true)], "one that attaches later");
    ends[1].tell(&mut control, &says(3, false));
    assert_eq!((heard(ends[0].told()), heard(late.told())), (vec![(3, 103, false)], vec![(3, 103, false)]));
    ends[1].tell(&mut control, &says(3, true));
    heard(late.told());
    // Another session of it.
    control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
    control.pump(NOW, 1000);
    assert!(!control.status().lans[0].members[2].listens);
    ends[1] = member(&mut control, 3);
    assert_eq!(heard(late.told()), [], "it has not said so again");
    ends[1].tell(&mut control, &says(3, true));
    assert_eq!(heard(late.told()), [(3, 103, true)]);
}

#[test]
fn a_lan_has_so_many_listeners() {
    let mut config = config();
    let member_of = |node: u16| MemberConfig {
        node: NodeNumber(node),
        mac: mac(node),
        may_listen: true,
        ..config.lans[0].members[0].clone()
    };
    config.lans[0].members = (1..=9).map(member_of).collect();
    let mut control = ControlNode::new(config);
    for node in 1..=9 {
        member(&mut control, node).tell(&mut control, &says(node, true));
    }
    assert_eq!(refusals(&mut control), [(NodeNumber(9), ListenRefusal::NoRoom)]);
    assert_eq!(control.status().lans[0].members.iter().filter(|member| member.listens).count(), 8);
}

/// Sends a copy of a frame to node 2 for the listener at a node.
fn send_copy(control: &mut ControlNode, end: &mut End, listener: u16) {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&mac(2).0);
    frame[6..12].copy_from_slice(&mac(end.node).0);
    let header = FrameHeader {
        kind: FrameKind::Promiscuous,
        destination_vif: VifNumber(1),
        ..end.header(mac(2), 0, frame.len())
    };
    end.bseq += 1;
    let octets = header.emit_promiscuous(NodeNumber(listener), frame.len());
    end.association.send(NOW, RELAY, 0, 0, &[Part::Private(&octets), Part::Private(&frame)]).expect("room");
    end.association.publish();
    control.pump(NOW, 1000);
}

#[test]
fn a_copy_comes_to_its_listener_alone() {
    //= spec/promiscuous.md#relayed-copies
    //= type=test
    //# The server MUST give a copy to the listener that its header names and to nobody else, and drop it when that member
    //# does not listen.
    let mut control = permitted();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends[2].tell(&mut control, &says(3, true));
    ends.iter_mut().for_each(|end| drop(end.arrived()));
    send_copy(&mut control, &mut ends[0], 3);
    let [none, destination, listener] = ends.each_mut().map(|end| end.frames());
    assert_eq!((none.len(), destination.len(), listener.len()), (0, 0, 1));
    assert_eq!((listener[0].kind, listener[0].origin), (FrameKind::Promiscuous, NodeNumber(1)));
    for nobody in [2, 9] {
        send_copy(&mut control, &mut ends[0], nobody);
    }
    assert!(ends.iter_mut().all(|end| end.frames().is_empty()));
    ends[2].tell(&mut control, &says(3, false));
    send_copy(&mut control, &mut ends[0], 3);
    assert!(ends[2].frames().is_empty());
    let lan = control.status().lans.remove(0);
    assert_eq!(lan.drops.of(DropReason::NotListening), 3);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn a_full_listener_loses_copies_and_nothing_waits_for_it() {
    //= spec/promiscuous.md#no-room
    //= type=test
    //# A copy for which there is no room at once MUST be dropped and counted as listener-full: it MUST NOT delay or displace
    //# a frame of the interface.
    let mut control = permitted();
    let mut from = member(&mut control, 1);
    let small = ShmConfig { slots_log2: 4, ..ShmConfig::default() };
    let mut listener = End::connect(&mut control, 3, process(3), &small);
    listener.register(&mut control);
    listener.tell(&mut control, &says(3, true));
    listener.arrived();
    for _ in 0..40 {
        send_copy(&mut control, &mut from, 3);
    }
    let lan = control.status().lans.remove(0);
    let lost = lan.drops.of(DropReason::ListenerFull);
    assert!(lost > 0 && lan.drops.total() == lost, "{:?}", lan.drops);
    assert_eq!(control.waiting().map(|(_, waiting)| waiting.messages).sum::<usize>(), 0);
    // What nobody takes any more is no frame of anybody's.
    control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
    control.pump(NOW, 1000);
    let lan = control.status().lans.remove(0);
    //= spec/promiscuous.md#lost-listeners
    //= type=test
    //# A copy that its listener's process had not taken when it died MUST be counted as listener-gone.
    assert_eq!(lan.drops.of(DropReason::ListenerGone), 40 - lost);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn a_listener_gets_groups_that_it_has_not_joined_and_copies_are_worth_a_direct_rvi() {
    let mut control = permitted();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends[2].tell(&mut control, &says(3, true));
    for end in &mut ends {
        let notice = vlan_core::wire::control::GroupNotice {
            vif: VifNumber(1),
            more: false,
            every_group: false,
            joined: vec![],
            left: vec![],
        };
        end.tell(&mut control, &ControlMessage::Groups(notice));
        end.arrived();
    }
    let mut stream = vec![0; 60];
    stream[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    stream[6..12].copy_from_slice(&mac(1).0);
    stream[12..15].copy_from_slice(&[8, 0, 0x45]);
    stream[23] = 17;
    stream[30..34].copy_from_slice(&[239, 1, 1, 1]);
    ends[0].send_frame(&mut control, &stream);
    assert_eq!(ends.each_mut().map(|end| end.frames().len()), [0, 0, 1]);
    for _ in 0..GRANT_AFTER_FRAMES {
        send_copy(&mut control, &mut ends[0], 3);
    }
    assert_eq!(grants(&ends[2].told()).len(), 1);
}

//! Multicast groups: joins, frames for those who have joined, and what is read back.

use super::*;
use crate::control_node::{GroupSource, GroupStatus};
use vlan_core::group::members::EveryGroup;
use vlan_core::wire::control::{GroupCause, GroupNotice, JoinedGroup};

const GROUP: &str = "239.1.1.1";

fn says(joined: &[&str], left: &[&str]) -> ControlMessage {
    let joined =
        joined.iter().map(|text| JoinedGroup { group: text.parse().unwrap(), cause: GroupCause::Own });
    ControlMessage::Groups(GroupNotice {
        vif: VifNumber(1),
        more: false,
        every_group: false,
        joined: joined.collect(),
        left: left.iter().map(|text| text.parse().unwrap()).collect(),
    })
}

/// A datagram to [`GROUP`].
fn stream() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[23] = 17;
    frame[30..34].copy_from_slice(&[239, 1, 1, 1]);
    frame
}

fn three(control: &mut ControlNode) -> [End; 3] {
    [1, 2, 3].map(|node| {
        let mut end = member(control, node);
        end.tell(control, &says(&[], &[]));
        end
    })
}

#[test]
fn a_groups_frames_go_to_those_who_have_joined_it() {
    //= spec/multicast.md#joined-members
    //= type=test
    //# The server MUST give a frame of a snooped group to the members that have joined it and to those that get every
    //# group, once to each and never to its sender, and to nobody else.
    let mut control = control_node();
    let mut ends = three(&mut control);
    let taken = |control: &mut ControlNode, ends: &mut [End; 3]| {
        ends.iter_mut().for_each(|end| drop(end.arrived()));
        ends[0].send_frame(control, &stream());
        [0, 1, 2].map(|end| ends[end].frames().len())
    };
    assert_eq!(taken(&mut control, &mut ends), [0, 0, 0]);
    for end in &mut ends[..2] {
        end.tell(&mut control, &says(&[GROUP], &[]));
    }
    assert_eq!(taken(&mut control, &mut ends), [0, 1, 0]);
    ends[1].tell(&mut control, &says(&[], &[GROUP]));
    ends[2].tell(&mut control, &says(&[GROUP], &[]));
    assert_eq!(taken(&mut control, &mut ends), [0, 0, 1]);
    let lan = control.status().lans.remove(0);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
    // A member that comes again has joined nothing, and gets everything until it has said so.
    control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
    control.pump(NOW, 1000);
    ends[2] = member(&mut control, 3);
    assert_eq!(taken(&mut control, &mut ends), [0, 0, 1]);
    ends[2].tell(&mut control, &says(&[], &[]));
    assert_eq!(taken(&mut control, &mut ends), [0, 0, 0]);
}

#[test]
fn a_trace_goes_to_those_who_have_joined_the_group() {
    let mut control = control_node();
    let mut ends = three(&mut control);
    ends[2].tell(&mut control, &says(&[GROUP], &[]));
    let header = ends[0].header(MacAddress([1, 0, 0x5e, 1, 1, 1]), 0, stream().len());
    let message = [&header.emit(stream().len())[..], &stream()].concat();
    let judgement = control.judge(NOW, NodeNumber(1), VifNumber(1), &message);
    let receivers: Vec<_> = judgement.receivers.iter().map(|receiver| receiver.node).collect();
    assert_eq!(receivers, [NodeNumber(3)]);
    assert_eq!(judgement.steps[0].rule, "spec/multicast.md#joined-members");
    ends[2].tell(&mut control, &says(&[], &[GROUP]));
    let nobody = control.judge(NOW, NodeNumber(1), VifNumber(1), &message);
    assert!(nobody.receivers.is_empty() && nobody.steps.len() == 2, "{nobody:?}");
}

#[test]
fn a_node_is_told_what_each_lan_does_with_groups() {
    //= spec/multicast.md#group-policies
    //= type=test
    //# A control node MUST tell a node what a LAN does with multicast with each interface of it.
    for floods in [false, true] {
        let mut config = config();
        config.lans[0].multicast.floods = floods;
        let mut control = ControlNode::new(config);
        let mut end = End::connect(&mut control, 1, process(1), &ShmConfig::default());
        let told = end.register(&mut control);
        let policy = told.iter().find_map(|message| match message {
            ControlMessage::GroupPolicy(policy) => Some((policy.vif, policy.snoops)),
            _ => None,
        });
        assert_eq!(policy, Some((VifNumber(1), !floods)));
    }
}

#[test]
fn who_gets_which_group_is_read_back_with_its_age() {
    let mut control = control_node();
    let mut one = member(&mut control, 1);
    let _two = member(&mut control, 2);
    one.tell(&mut control, &says(&["ff05::7", GROUP], &[]));
    let later = NOW + core::time::Duration::from_secs(3);
    let shown: Vec<_> = control
        .groups(later)
        .into_iter()
        .map(|GroupStatus { group, members, .. }| (group, members.len(), members[0].source, members[0].age))
        .collect();
    let (own, age) = (GroupSource::Joined(GroupCause::Own), Some(core::time::Duration::from_secs(3)));
    let expected = [
        (None, 1, GroupSource::Every(EveryGroup::Unsaid), None),
        (Some(GROUP.parse().unwrap()), 1, own, age),
        (Some("ff05::7".parse().unwrap()), 1, own, age),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_notice_about_what_cannot_be_joined_is_told_to_the_operator() {
    let mut control = control_node();
    let mut one = member(&mut control, 1);
    while control.poll_output().is_some() {}
    one.tell(&mut control, &says(&["ff02::1", GROUP], &[]));
    let bad = Output::Log(ControlNodeEvent::BadControlMessage { node: NodeNumber(1) });
    assert_eq!(control.poll_output(), Some(bad));
    assert_eq!(control.groups(NOW).len(), 1, "the rest counts");
}

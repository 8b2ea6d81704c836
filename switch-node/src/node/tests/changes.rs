//! Interfaces that come and go while a control node is there.

use super::*;

fn names(outputs: &[Output]) -> Vec<(VifNumber, bool)> {
    let name = |output: &Output| match output {
        Output::Interface(config) => Some((config.vif, true)),
        Output::InterfaceRemoved { vif } => Some((*vif, false)),
        _ => None,
    };
    outputs.iter().filter_map(name).collect()
}

#[test]
fn an_interface_that_is_taken_away_ends_its_direct_rvis_and_what_it_held_is_counted() {
    //= spec/driver.md#interfaces-that-are-taken-away
    //= type=test
    //# When a node takes an interface away, it MUST end the direct associations that carry an RVI of it, and count the frames
    //# that the interface held as not-member.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    node.leave_direct_leg(NOW, NodeNumber(2), LEG);
    send(&mut node, PEER, 3);
    assert_eq!(node.interfaces().map(|interface| interface.held).sum::<usize>(), 1);
    outputs(&mut node);
    control.tell(&mut node, &ControlMessage::InterfaceRemoved { vif: VIF });
    assert_eq!(names(&outputs(&mut node)), [(VIF, false)]);
    assert_eq!(node.former_counters().drops.of(DropReason::NotMember), 1);
    // The two that the peer had not taken come back for nobody.
    node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
    turn(&mut node);
    assert!(node.direct_to(NodeNumber(2)).is_none());
    assert_eq!(node.former_counters().drops.of(DropReason::PeerGone), 0);
    // What its stack sends before its host has taken the device away is counted as well.
    let before = node.former_counters().drops.of(DropReason::NotMember);
    send(&mut node, PEER, 4);
    assert_eq!(node.former_counters().drops.of(DropReason::NotMember), before + 1);
    control.send(RELAY, &relayed(1, 60));
    turn(&mut node);
    assert!(node.drops().of(DropReason::NoChannel) > 0);
}

#[test]
fn a_leg_that_carries_an_rvi_of_an_interface_that_is_taken_away_is_left() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    outputs(&mut node);
    control.tell(&mut node, &ControlMessage::InterfaceRemoved { vif: VIF });
    let peer = PeerId::Node(NodeNumber(2));
    let is_its =
        |output: &Output| matches!(output, Output::CloseLeg { peer: of, leg: LEG, .. } if *of == peer);
    assert!(outputs(&mut node).iter().any(is_its));
}

#[test]
fn another_interface_on_the_same_lan_takes_the_place_of_the_former_one() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    outputs(&mut node);
    let mut config = node.interfaces().next().expect("an interface").config.clone();
    (config.vif, config.mac) = (VifNumber(2), MacAddress([2, 0, 1, 0, 0, 9]));
    (config.relay_channel, config.arp_channel) = (Channel(3), Channel(4));
    control.tell(&mut node, &ControlMessage::Interface(config.clone()));
    assert_eq!(names(&outputs(&mut node)), [(VIF, false), (VifNumber(2), true)]);
    assert_eq!(node.interfaces().count(), 1);
    // It says at once what it has joined, so that it does not get every group for ever.
    assert!(
        control.told().iter().any(|message| {
            matches!(message, ControlMessage::Groups(notice) if notice.vif == VifNumber(2))
        })
    );
    config.mac = OWN;
    control.tell(&mut node, &ControlMessage::Interface(config.clone()));
    assert_eq!(names(&outputs(&mut node)), [(VifNumber(2), false), (VifNumber(2), true)]);
    config.mtu = 1400;
    control.tell(&mut node, &ControlMessage::Interface(config));
    assert_eq!(names(&outputs(&mut node)), [(VifNumber(2), true)]);
}

#[test]
fn a_held_frame_waits_with_those_of_its_receiver_once_that_is_known() {
    //= spec/driver.md#held-frames-of-a-receiver
    //= type=test
    //# A frame MUST NOT overtake a held one to the same receiver, also when the receiver's binding was learned in between.
    let mut node = node();
    let _control = Far::control(&mut node, 1);
    lose_control(&mut node, 1);
    let unknown = MacAddress([2, 0, 1, 0, 0, 7]);
    send(&mut node, unknown, 1);
    let notice = MemberNotice {
        lan: LanId(10),
        node: NodeNumber(7),
        vif: VIF,
        mac: unknown,
        process: ProcessId(77),
        attached: true,
    };
    let interface = node.interface_mut(VIF).expect("an interface");
    assert!(interface.held.holds(None));
    interface.handle_member(&notice);
    let slot = interface.driver.find_peer(NodeNumber(7), VIF);
    assert!(slot.is_some() && interface.held.holds(slot) && !interface.held.holds(None));
}

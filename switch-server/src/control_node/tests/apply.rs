//! Options of LANs and of members that change while frames flow.

use super::*;
use crate::control_node::{Changes, LanOptions, MemberOptions, SenderConfig};
use core::net::IpAddr;
use vlan_core::security::{Limits, Rate};
use vlan_core::wire::control::{
    GroupCause, GroupLimits, GroupNotice, InterfaceConfig, JoinedGroup, SenderNotice,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Members 1 to 3 with 10.1.0.1 to 10.1.0.3, and a direct RVI of the first two.
fn paired(port_security: PortSecurity) -> (ControlNode, [End; 3]) {
    let mut config = config();
    config.lans[0].port_security = port_security;
    for (member, n) in config.lans[0].members.iter_mut().zip(1..) {
        member.addresses = vec![InterfaceAddress { address: IpAddr::from([10, 1, 0, n]), prefix: 24 }];
    }
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    for _ in 0..3 * GRANT_AFTER_FRAMES {
        ends[0].send_frame(&mut control, &datagram(1, 2, 1));
    }
    ends.iter_mut().for_each(|end| _ = end.arrived());
    (control, ends)
}

/// A datagram of the member `from` that says it comes from 10.1.0.`address`.
fn datagram(from: u16, to: u16, address: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&mac(to).0);
    frame[6..12].copy_from_slice(&mac(from).0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[26..30].copy_from_slice(&[10, 1, 0, address]);
    frame
}

pub(super) fn applied(changes: Changes) -> Command {
    Command::Apply { epoch: 9, changes: Box::new(changes) }
}

/// The second member has 10.1.0.22 from now on, and this alias if any.
fn change(control: &mut ControlNode, alias: Option<&str>, learn: u16) {
    let options = MemberOptions {
        addresses: vec![InterfaceAddress { address: ip("10.1.0.22"), prefix: 24 }],
        sender: SenderConfig { aliases: alias.into_iter().map(ip).collect(), learn, ..Default::default() },
        ..plain(2)
    };
    apply_options(control, options);
}

/// A member that has nothing and may do nothing special.
fn plain(node: u16) -> MemberOptions {
    MemberOptions {
        lan: LAN,
        node: NodeNumber(node),
        addresses: vec![],
        gateways: vec![],
        may_listen: false,
        gets_every_group: false,
        sender: SenderConfig::default(),
    }
}

fn apply_options(control: &mut ControlNode, options: MemberOptions) {
    control.handle_command(NOW, applied(Changes { options: vec![options], ..Changes::default() }));
}

/// What the LAN does before anything changes.
const BEFORE: LanOptions =
    LanOptions { lan: LAN, mtu: 1500, arp: ArpMode::Relay, port_security: PortSecurity::Mac, floods: false };

fn change_lan(control: &mut ControlNode, options: LanOptions) {
    control.handle_command(NOW, applied(Changes { lans: vec![options], ..Changes::default() }));
}

fn interfaces(told: &[ControlMessage]) -> Vec<InterfaceConfig> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Interface(interface) => Some(interface.clone()),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

fn notices(told: &[ControlMessage]) -> Vec<SenderNotice> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Sender(notice) => Some(notice.clone()),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[test]
fn a_changed_member_and_its_peers_are_told_and_nobody_else() {
    //= spec/control-node.md#what-an-applied-file-changes
    //= type=test
    //# When a configuration is applied, a control node MUST tell the nodes and everybody who judges direct frames what has
    //# changed for them, and judge by it itself from then on; it MUST NOT end a session or a binding of anybody else.
    let (mut control, mut ends) = paired(PortSecurity::Address);
    for (end, address) in ends.iter_mut().zip(["10.1.0.1", "10.1.0.2", "10.1.0.3"]) {
        let address = InterfaceAddress { address: ip(address), prefix: 24 };
        end.tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    }
    let link_local = InterfaceAddress { address: ip("fe80::2"), prefix: 64 };
    ends[1].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address: link_local });
    ends.iter_mut().for_each(|end| _ = end.arrived());
    change(&mut control, Some("10.1.0.77"), 4);
    let [one, two, three] = ends.each_mut().map(End::told);
    let addresses: Vec<_> = interfaces(&two)[0].addresses.iter().map(|a| a.address).collect();
    assert_eq!(addresses, [ip("10.1.0.22")]);
    let told = notices(&one);
    let [notice] = &told[..] else { panic!("{one:?}") };
    assert_eq!((notice.node, notice.learn), (NodeNumber(2), 4));
    assert_eq!(notice.addresses, [ip("10.1.0.22"), ip("10.1.0.77"), ip("fe80::2")]);
    assert!(three.iter().all(|message| matches!(message, ControlMessage::GroupPolicy(_))), "{three:?}");
    let bound: Vec<_> = control.status().bindings.iter().map(|binding| binding.address).collect();
    assert_eq!(bound, ["10.1.0.1", "10.1.0.3", "fe80::2"].map(ip), "the former address is nobody's");
    assert_eq!((control.status().epoch, control.status().rvis.len()), (9, 1));
    // It judges by what it has said.
    for (address, arrives) in [(2, false), (22, true), (77, true)] {
        ends[1].send_frame(&mut control, &datagram(2, 3, address));
        assert_eq!(ends[2].frames().len(), usize::from(arrives), "{address}");
    }
}

#[test]
fn who_may_do_nothing_special_any_more_is_told_of_as_well() {
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    change(&mut control, None, 4);
    ends.iter_mut().for_each(|end| _ = end.arrived());
    change(&mut control, None, 0);
    let told = notices(&ends[0].told());
    assert_eq!(told.iter().map(|notice| notice.learn).collect::<Vec<_>>(), [0]);
}

/// A request of the first member for 10.1.0.2, from this address.
fn request(sender: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac(1).0);
    frame[28..32].copy_from_slice(&sender);
    frame[38..42].copy_from_slice(&[10, 1, 0, 2]);
    frame
}

fn frames(ends: &mut [End; 3]) -> [usize; 3] {
    ends.each_mut().map(|end| end.frames().len())
}

#[test]
fn a_lan_answers_for_what_was_registered_before_it_began_to() {
    //= spec/control-node.md#changed-options-of-a-lan
    //= type=test
    //# When the options of a LAN change, its control node MUST judge by them from then on and tell each node of it; what is
    //# bound, registered or joined MUST stay known, and direct RVIs MUST stay.
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    let address = InterfaceAddress { address: ip("10.1.0.2"), prefix: 24 };
    ends[1].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    let mut asks = |control: &mut ControlNode, arp| {
        change_lan(control, LanOptions { arp, ..BEFORE });
        ends.iter_mut().for_each(|end| _ = end.arrived());
        ends[0].send_frame(control, &request([10, 1, 0, 1]));
        frames(&mut ends)
    };
    assert_eq!(asks(&mut control, ArpMode::Suppress), [1, 0, 0], "answered by the control node");
    assert_eq!(asks(&mut control, ArpMode::Relay), [0, 1, 1]);
    assert_eq!(asks(&mut control, ArpMode::Suppress), [1, 0, 0]);
    assert_eq!(control.status().rvis.len(), 1);
}

#[test]
fn an_mtu_is_told_to_every_node_and_judged_by_at_once() {
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    let long = [datagram(1, 3, 1), vec![0; 1400]].concat();
    for (mtu, arrives) in [(1500, true), (1280, false), (9000, true)] {
        change_lan(&mut control, LanOptions { mtu, ..BEFORE });
        for end in &mut ends {
            let told = interfaces(&end.told());
            assert_eq!(told.iter().map(|interface| interface.mtu).collect::<Vec<_>>(), [mtu]);
        }
        ends[0].send_frame(&mut control, &long);
        assert_eq!(ends[2].frames().len(), usize::from(arrives), "{mtu}");
    }
    let status = control.status();
    assert_eq!((status.lans[0].mtu, status.lans[0].drops.of(DropReason::TooLong)), (9000, 1));
    // The place of a member that has gone is nobody's.
    let removed_members = vec![(LAN, NodeNumber(3))];
    control.handle_command(NOW, applied(Changes { removed_members, ..Changes::default() }));
    ends[2].arrived();
    change_lan(&mut control, BEFORE);
    assert!(interfaces(&ends[2].told()).is_empty());
    assert_eq!(status.rvis.len(), 1, "it stays");
}

#[test]
fn drivers_know_addresses_before_they_check_them() {
    //= spec/port-security.md#changed-port-security
    //= type=test
    //# When a LAN begins to check addresses, each link-local address that is bound to a member MUST count as its own, and
    //# its control node MUST tell drivers the addresses of their peers before it tells them to check.
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    for address in ["10.1.0.1", "10.1.0.99"] {
        let address = InterfaceAddress { address: ip(address), prefix: 24 };
        ends[0].tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    }
    // Heard of, and not registered: it is of a host behind the interface.
    ends[0].send_frame(&mut control, &request([169, 254, 0, 1]));
    ends.iter_mut().for_each(|end| _ = end.arrived());
    change_lan(&mut control, LanOptions { port_security: PortSecurity::Address, ..BEFORE });
    let told = ends[1].told();
    let place = |is_it: fn(&ControlMessage) -> bool| told.iter().position(is_it).expect("told");
    let sender = place(|message| matches!(message, ControlMessage::Sender(_)));
    assert!(sender < place(|message| matches!(message, ControlMessage::Interface(_))), "{told:?}");
    assert_eq!(notices(&told)[0].addresses, [ip("10.1.0.1"), ip("169.254.0.1")]);
    assert_eq!(interfaces(&told)[0].port_security, PortSecurity::Address);
    let bound: Vec<_> = control.status().bindings.iter().map(|binding| binding.address).collect();
    assert_eq!(bound, ["10.1.0.1", "169.254.0.1"].map(ip), "what is not its own is not bound any more");
    for (port_security, arrives) in [
        (PortSecurity::Address, 0),
        (PortSecurity::Mac, 1),
        (PortSecurity::Address, 0),
        (PortSecurity::Off, 1),
    ] {
        change_lan(&mut control, LanOptions { port_security, ..BEFORE });
        ends[2].arrived();
        ends[0].send_frame(&mut control, &datagram(1, 3, 99));
        assert_eq!(ends[2].frames().len(), arrives, "{port_security:?}");
    }
    assert_eq!(control.status().rvis.len(), 1, "it stays");
}

fn says(listens: bool) -> ControlMessage {
    let (node, lan) = (NodeNumber(3), LAN);
    let listener = Location { node, lan, vif: VifNumber(1), ..Location::default() };
    ControlMessage::Promiscuous { listener, listens }
}

#[test]
fn a_listener_ends_with_its_permission() {
    //= spec/promiscuous.md#changed-permission
    //= type=test
    //# When a member loses its permission to listen, its control node MUST end it as a listener at once; when it gets one, its
    //# node MUST say at once that its interface is promiscuous, if it is.
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    let heard = |told: &[ControlMessage]| {
        let of = |message: &ControlMessage| match message {
            ControlMessage::Promiscuous { listens, .. } => Some(*listens),
            _ => None,
        };
        told.iter().filter_map(of).collect::<Vec<_>>()
    };
    for may_listen in [true, false, true] {
        apply_options(&mut control, MemberOptions { may_listen, ..plain(3) });
        assert_eq!(interfaces(&ends[2].told())[0].may_listen, may_listen);
        if may_listen {
            // Its node answers that it does.
            ends[2].tell(&mut control, &says(true));
        }
        for end in &mut ends[..2] {
            assert_eq!(heard(&end.told()), [may_listen]);
        }
        let member = control.status().lans.remove(0).members.remove(2);
        assert_eq!((member.may_listen, member.listens), (may_listen, may_listen));
    }
    apply_options(&mut control, MemberOptions { may_listen: true, ..plain(3) });
    assert!(control.status().lans[0].members[2].listens, "what has not changed ends nothing");
}

/// A datagram to 239.1.1.`group`.
fn stream(group: u8) -> Vec<u8> {
    let mut frame = datagram(1, 2, 1);
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, group]);
    frame[23] = 17;
    frame[30..34].copy_from_slice(&[239, 1, 1, group]);
    frame
}

#[test]
fn what_is_joined_stays_known_when_groups_are_not_sorted() {
    //= spec/multicast.md#changed-policies
    //= type=test
    //# When a LAN begins or ends to flood, or a member to get every group, what members have joined MUST stay known.
    let (mut control, mut ends) = paired(PortSecurity::Mac);
    let joined = |group: &str| vec![JoinedGroup { group: ip(group), cause: GroupCause::Own }];
    for (end, joined) in ends.iter_mut().zip([vec![], joined("239.1.1.1"), joined("239.1.1.9")]) {
        let (vif, left) = (VifNumber(1), vec![]);
        let notice = GroupNotice { vif, more: false, every_group: false, joined, left };
        end.tell(&mut control, &ControlMessage::Groups(notice));
    }
    let sorted = |told: &[ControlMessage]| {
        let of = |message: &ControlMessage| match message {
            ControlMessage::GroupPolicy(policy) => Some(policy.snoops),
            _ => None,
        };
        told.iter().find_map(of)
    };
    for (floods, is_third_all) in
        [(false, false), (true, false), (false, false), (false, true), (false, false)]
    {
        change_lan(&mut control, LanOptions { floods, ..BEFORE });
        ends.iter_mut().for_each(|end| _ = end.arrived());
        apply_options(&mut control, MemberOptions { gets_every_group: is_third_all, ..plain(3) });
        let policies = ends.each_mut().map(|end| sorted(&end.told()));
        assert_eq!(policies, [!floods, !floods, !floods && !is_third_all].map(Some));
        ends[0].send_frame(&mut control, &stream(1));
        assert_eq!(frames(&mut ends), [0, 1, usize::from(floods || is_third_all)]);
        ends[0].send_frame(&mut control, &stream(9));
        assert_eq!(frames(&mut ends), [0, usize::from(floods), 1]);
    }
}

/// What was said of how much interfaces may send to groups.
fn group_limits(told: &[ControlMessage]) -> Vec<GroupLimits> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::GroupLimits(limits) => Some(*limits),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[test]
fn a_member_is_told_how_much_it_may_send_to_groups() {
    //= spec/port-security.md#limits-where-a-storm-begins
    //= type=test
    //# A control node MUST tell a node how much each interface of it may send to groups, and the node MUST discard what is beyond that
    //# before it goes anywhere.
    let mut control = control_node();
    let mut one = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    let none = GroupLimits { vif: VifNumber(1), ..GroupLimits::default() };
    assert_eq!(group_limits(&one.register(&mut control)), [none]);
    let broadcast = Rate { frames: Some(1000), bits: None };
    let limits = Limits { broadcast, total: broadcast, ..Limits::default() };
    let limited = || MemberOptions { sender: SenderConfig { limits, ..Default::default() }, ..plain(1) };
    apply_options(&mut control, limited());
    assert_eq!(group_limits(&one.told()), [GroupLimits { broadcast, ..none }]);
    apply_options(&mut control, limited());
    assert_eq!(group_limits(&one.told()), []);
}

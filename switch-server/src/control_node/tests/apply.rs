//! Options of members that change while frames flow.

use super::*;
use crate::control_node::{Changes, MemberOptions, SenderConfig};
use core::net::IpAddr;
use vlan_core::wire::control::SenderNotice;

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
        lan: LAN,
        node: NodeNumber(2),
        addresses: vec![InterfaceAddress { address: ip("10.1.0.22"), prefix: 24 }],
        gateways: vec![],
        sender: SenderConfig { aliases: alias.into_iter().map(ip).collect(), learn, ..Default::default() },
    };
    control.handle_command(NOW, applied(Changes { options: vec![options], ..Changes::default() }));
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
    let interface = two.iter().find_map(|message| match message {
        ControlMessage::Interface(interface) => Some(interface.clone()),
        _ => None,
    });
    let addresses: Vec<_> = interface.expect("its interface").addresses.iter().map(|a| a.address).collect();
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

//! Who may send what: what is told to the ends of direct RVIs, and what nodes may register.

use super::*;
use crate::control_node::SenderConfig;
use core::net::IpAddr;
use vlan_core::security::{Limits, Rate, Roles};
use vlan_core::wire::control::SenderNotice;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bind(address: &str) -> ControlMessage {
    let address = InterfaceAddress { address: ip(address), prefix: 64 };
    ControlMessage::Bind { vif: VifNumber(1), address }
}

/// Members 1 to 3 with 10.1.0.1 to 10.1.0.3, where addresses are checked.
fn checked() -> ControlNode {
    let mut config = config();
    config.lans[0].port_security = PortSecurity::Address;
    for (member, n) in config.lans[0].members.iter_mut().zip(1..) {
        member.addresses = vec![InterfaceAddress { address: IpAddr::from([10, 1, 0, n]), prefix: 24 }];
    }
    config.lans[0].members[1].sender = SenderConfig {
        roles: Roles { dhcp_server: false, router: true },
        aliases: vec![ip("10.1.0.102")],
        learn: 4,
        limits: Limits { total: Rate { frames: Some(1000), bits: None }, ..Limits::default() },
    };
    ControlNode::new(config)
}

/// What was said of senders, and whether grants came behind it.
fn senders(told: &[ControlMessage]) -> (Vec<SenderNotice>, bool) {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Sender(notice) => Some(notice.clone()),
        _ => None,
    };
    let is_grant = |message: &ControlMessage| matches!(message, ControlMessage::Grant(_));
    let last = told.iter().rposition(|message| of(message).is_some());
    let is_first = last.is_some_and(|last| told.iter().position(is_grant).is_none_or(|grant| last < grant));
    (told.iter().filter_map(of).collect(), is_first)
}

/// A datagram between two members, which goes on with the traffic of its pair.
fn datagrams(control: &mut ControlNode, end: &mut End, to: u16) {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&mac(to).0);
    frame[6..12].copy_from_slice(&mac(end.node).0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[26..30].copy_from_slice(&[10, 1, 0, end.node as u8]);
    for _ in 0..3 * GRANT_AFTER_FRAMES {
        end.send_frame(control, &frame);
    }
}

#[test]
fn the_ends_of_a_direct_rvi_are_told_of_each_other_before_it_is_granted() {
    //= spec/port-security.md#senders
    //= type=test
    //# A control node MUST tell each end of a direct RVI what the other one may send before it grants the RVI, and again
    //# when that changes.
    let mut control = checked();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    datagrams(&mut control, &mut one, 2);
    let (of_two, is_first) = senders(&one.told());
    assert!(is_first);
    let [of_two] = &of_two[..] else { panic!("{of_two:?}") };
    assert_eq!((of_two.node, of_two.router, of_two.dhcp_server), (NodeNumber(2), true, false));
    assert_eq!((of_two.total, of_two.learn), (Rate { frames: Some(1000), bits: None }, 4));
    assert_eq!(of_two.addresses, [ip("10.1.0.2"), ip("10.1.0.102")]);
    let (of_one, is_first) = senders(&two.told());
    assert!(is_first && of_one.len() == 1 && of_one[0].addresses == [ip("10.1.0.1")], "{of_one:?}");
    // One that is no end of it is told nothing.
    let mut three = member(&mut control, 3);
    one.tell(&mut control, &bind("fe80::1"));
    let (of_one, _) = senders(&two.told());
    assert_eq!(of_one[0].addresses, [ip("10.1.0.1"), ip("fe80::1")]);
    assert!(senders(&three.told()).0.is_empty());
    let unbind = ControlMessage::Unbind { vif: VifNumber(1), address: ip("fe80::1") };
    one.tell(&mut control, &unbind);
    assert_eq!(senders(&two.told()).0[0].addresses, [ip("10.1.0.1")]);
}

#[test]
fn addresses_are_told_where_they_are_not_checked_as_well() {
    let mut control = control_node();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    burst(&mut control, &mut one, 2);
    assert_eq!((grants(&one.told()).len(), senders(&two.told()).0[0].addresses.len()), (1, 0));
    one.tell(&mut control, &bind("fe80::1"));
    assert_eq!(senders(&two.told()).0[0].addresses, [ip("fe80::1")]);
}

#[test]
fn an_address_that_is_not_the_interfaces_is_not_bound() {
    //= spec/port-security.md#registered-addresses
    //= type=test
    //# Under port security `address` a control node MUST NOT bind an address for a node that is neither one of the
    //# interface's in the platform file nor link-local.
    let mut control = checked();
    let mut two = member(&mut control, 2);
    for address in ["10.1.0.2", "10.1.0.102", "fe80::2", "10.1.0.3", "10.1.0.99"] {
        two.tell(&mut control, &bind(address));
    }
    let bound: Vec<_> = control.status().bindings.iter().map(|binding| binding.address).collect();
    assert_eq!(bound, ["10.1.0.2", "10.1.0.102", "fe80::2"].map(ip));
    let is_refusal = |output: &Output| matches!(output, Output::Log(ControlNodeEvent::AddressRefused { .. }));
    assert_eq!(outputs(&mut control).iter().filter(|output| is_refusal(output)).count(), 2);
}

#[test]
fn a_spoofed_reply_is_dropped_and_teaches_nobody() {
    let mut control = checked();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    two.arrived();
    let mut frame = vec![0; 42];
    frame[..6].copy_from_slice(&mac(2).0);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame[22..28].copy_from_slice(&mac(1).0);
    frame[28..32].copy_from_slice(&[10, 1, 0, 3]);
    frame[38..42].copy_from_slice(&[10, 1, 0, 2]);
    let mut send = |control: &mut ControlNode, frame: &[u8]| one.send_frame(control, frame);
    send(&mut control, &frame);
    assert!(two.frames().is_empty() && control.status().bindings.is_empty());
    let lan = control.status().lans.remove(0);
    assert_eq!(lan.drops.of(DropReason::SourceAddress), 1);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
    frame[31] = 1;
    send(&mut control, &frame);
    assert_eq!((two.frames().len(), control.status().bindings.len()), (1, 1));
}

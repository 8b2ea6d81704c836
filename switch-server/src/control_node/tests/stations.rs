//! Stations behind members' interfaces: who is told of them, and what goes with them.

use super::*;
use arp_server::build::{Operation, arp};
use core::time::Duration;
use vlan_core::security::learned::AGEING;

const STATION: MacAddress = MacAddress([2, 7, 7, 7, 7, 1]);
const LATER: Instant = Instant::from_nanos(2_001_000_000);

/// Three members, of which the first two may have two stations each behind them.
fn bridged() -> (ControlNode, [End; 3]) {
    let mut config = config();
    for member in &mut config.lans[0].members[..2] {
        member.sender.learn = 2;
    }
    let mut control = ControlNode::new(config);
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends.iter_mut().for_each(|end| _ = end.arrived());
    (control, ends)
}

/// The station announces 10.1.0.9.
fn announce(control: &mut ControlNode, end: &mut End, now: Instant) {
    let address = [10, 1, 0, 9].into();
    let frame = arp(Operation::Request, MacAddress::BROADCAST, (STATION, address), address);
    end.queue_frame(MacAddress::BROADCAST, 0, &frame);
    control.pump(now, 1000);
}

/// Nodes that an end was told the station to be behind.
fn told(end: &mut End) -> Vec<NodeNumber> {
    let nodes = end.told().into_iter().filter_map(|message| match message {
        ControlMessage::Binding { mac: STATION, location } => Some(location.node),
        _ => None,
    });
    nodes.collect()
}

/// The stations behind each member.
fn stations(control: &ControlNode) -> Vec<Vec<MacAddress>> {
    control.status().lans.remove(0).members.into_iter().map(|member| member.stations).collect()
}

/// The nodes that hold the station's address.
fn holders(control: &ControlNode) -> Vec<NodeNumber> {
    control.status().bindings.iter().filter(|b| b.mac == STATION).map(|binding| binding.node).collect()
}

#[test]
fn everybody_is_told_where_a_station_is_that_has_moved_and_its_address_goes_with_it() {
    //= spec/port-security.md#moved-stations
    //= type=test
    //# When a station has moved, a control node MUST tell every attached member where it is.
    let (mut control, mut ends) = bridged();
    announce(&mut control, &mut ends[0], NOW);
    assert_eq!(
        (told(&mut ends[1]), told(&mut ends[2])),
        (vec![], vec![]),
        "nothing that the message does not say"
    );
    assert_eq!(stations(&control), [vec![STATION], vec![], vec![]]);
    assert_eq!(holders(&control), [NodeNumber(1)]);
    announce(&mut control, &mut ends[1], LATER);
    assert_eq!(ends.each_mut().map(told), [[NodeNumber(2)], [NodeNumber(2)], [NodeNumber(2)]]);
    assert_eq!(stations(&control), [vec![], vec![STATION], vec![]]);
    assert_eq!(holders(&control), [NodeNumber(2)]);
    let conflict = |output: &Output| matches!(output, Output::Log(ControlNodeEvent::AddressConflict { .. }));
    assert!(!outputs(&mut control).iter().any(conflict));
    let lan = control.status().lans.remove(0);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn who_has_no_binding_for_a_station_is_told_where_it_is() {
    //= spec/server.md#binding-notices
    //= type=test
    //# A control node MUST answer a relayed frame whose sender has no binding for its destination with a binding
    //# notice.
    let (mut control, mut ends) = bridged();
    announce(&mut control, &mut ends[0], NOW);
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&STATION.0);
    frame[6..12].copy_from_slice(&mac(3).0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    ends[0].arrived();
    ends[2].queue_frame(STATION, FrameHeader::UNBOUND, &frame);
    control.pump(NOW, 1000);
    assert_eq!((told(&mut ends[2]), ends[0].frames().len()), (vec![NodeNumber(1)], 1));
}

#[test]
fn a_silent_station_is_forgotten_with_its_address_and_one_that_speaks_is_not() {
    //= spec/port-security.md#learned-stations
    //= type=test
    //# Behind an interface with `learn = N` up to N further stations MUST be learned from the frames that come from it; a
    //# station that has been silent for 300 s MUST be forgotten, and one that is heard behind another interface with room
    //# MUST be there from then on.
    let (mut control, mut ends) = bridged();
    announce(&mut control, &mut ends[0], NOW);
    let until = |at: Instant| at + AGEING;
    announce(&mut control, &mut ends[0], LATER);
    let just_before = LATER + (AGEING - Duration::from_nanos(1));
    control.handle_timeout(until(NOW));
    assert_eq!(stations(&control)[0], [STATION], "heard since");
    assert!(control.poll_timeout().is_some_and(|timeout| timeout <= until(LATER)));
    control.handle_timeout(just_before);
    assert_eq!((stations(&control)[0].len(), holders(&control).len()), (1, 1));
    control.handle_timeout(until(LATER));
    assert_eq!((stations(&control)[0].len(), holders(&control).len()), (0, 0));
}

#[test]
fn a_station_beyond_those_that_may_be_there_is_dropped_and_counted() {
    let (mut control, mut ends) = bridged();
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&mac(3).0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    for n in 1..=3 {
        frame[6..12].copy_from_slice(&[2, 7, 7, 7, 7, n]);
        ends[0].send_frame(&mut control, &frame);
    }
    assert_eq!(ends[2].frames().len(), 2);
    let lan = control.status().lans.remove(0);
    assert_eq!((lan.drops.of(DropReason::StationsFull), lan.drops.total()), (1, 1));
    assert!(lan.ledger.closes(1), "{:?}", lan.ledger);
}

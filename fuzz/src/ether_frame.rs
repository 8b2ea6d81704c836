//! Whole frames into the parser of ether legs: nothing outside of a frame is taken for its packet, and what is written is
//! read again.

use rvi::packet::ether_frame::{HEADER_LEN, parse, write_header};
use vlan_core::{ControlNodeSerial, EtherAddress, EtherPort, MacAddress, NodeNumber};

/// Reads `data` as a frame, and, if it is one, writes it again without its padding.
pub fn run(data: &[u8]) {
    let mut octets = data.to_vec();
    let Ok(frame) = parse(&mut octets) else { return };
    assert!(frame.from.mac.is_station() && !frame.packet.is_empty());
    assert!(HEADER_LEN + frame.packet.len() <= data.len());
    let header = write_header(frame.to, frame.from, frame.packet.len() as u16);
    assert_eq!([&header[..], frame.packet].concat(), data[..HEADER_LEN + frame.packet.len()]);
}

/// Frames to a node and to the group of control nodes, padded and not, and one that is cut.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let from = EtherAddress { mac: MacAddress([2; 6]), port: EtherPort::of_node(NodeNumber(1)) };
    let group = EtherAddress::of_control_node(ControlNodeSerial(1));
    let frame = |to, len: u16, octets: usize| [&write_header(to, from, len)[..], &vec![7; octets]].concat();
    vec![frame(from, 34, 34), frame(group, 3, 34), frame(group, 1488, 1488), frame(from, 100, 99)]
}

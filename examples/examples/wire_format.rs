//! What does a message look like on the wire?
//!
//! Prints a frame header and a control message octet by octet; the layouts are in `spec/tlv.md`.
//!
//!     cargo run -p examples --example wire_format

use examples::mac_of;
use vlan_core::wire::{ControlMessage, FrameHeader, FrameKind, TlvHeader, UnknownAction, Vnet};
use vlan_core::{BootTag, LanId, Location, NodeNumber, VifNumber};

fn main() {
    let header = FrameHeader {
        kind: FrameKind::Relay,
        flags: 0,
        lan: LanId(10),
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(2),
        vnet: Vnet::default(),
        boot: BootTag(0xbeef),
        bseq: 7,
    };
    let octets = header.emit(64);
    print("header of a relayed frame of 64 octets", &octets);
    // A receiver has the first octets of the message and is told its length by the leg.
    assert_eq!(FrameHeader::parse(&octets, octets.len() + 64), Ok(header));
    let error = FrameHeader::parse(&octets, 90).expect_err("the lengths do not add up");
    println!("the same in a message of 90 octets: {error}");

    let location = Location { node: NodeNumber(2), vif: VifNumber(1), lan: LanId(10), ..Location::default() };
    let binding = ControlMessage::Binding { mac: mac_of(NodeNumber(2)), location };
    let octets = binding.emit();
    print("a binding notice", &octets);
    assert_eq!(ControlMessage::parse(&octets), Ok(binding));

    let unknown = TlvHeader { kind: 0x1234, flags: 0, header_len: 8, value_len: 0 };
    assert_eq!(unknown.unknown_action(), UnknownAction::Ignore);
    println!("a message of type 0x1234, which nobody knows: {:?}", unknown.unknown_action());
}

fn print(title: &str, octets: &[u8]) {
    println!("{title}, {} octets", octets.len());
    for (row, chunk) in octets.chunks(8).enumerate() {
        let hex: Vec<_> = chunk.iter().map(|o| format!("{o:02x}")).collect();
        println!("   {:4}  {}", row * 8, hex.join(" "));
    }
}

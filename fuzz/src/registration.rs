//! Control messages built field by field, as a hostile node would: lists longer than they say, texts that are
//! no texts, counts that promise more than the message holds.

use vlan_core::wire::ControlMessage;
use vlan_core::wire::control::{
    HeldAssociation, HeldDirect, HeldInterface, HeldLeg, LegAddress, LegKind, OfferedLeg, ReportItem,
    TLV_VERSION,
};
use vlan_core::wire::tlv::{TLV_HEADER_LEN, TlvHeader};
use vlan_core::{
    Channel, EtherAddress, EtherPort, LanId, LegNumber, MacAddress, NodeNumber, PairEpoch, ProcessId,
    RviNumber, VifNumber,
};

use crate::script::Script;
use crate::tlv;

/// Types of the messages that a node sends.
const KINDS: [u16; 10] = [0x0020, 0x0021, 0xc030, 0xc032, 0xc033, 0xc066, 0xc068, 0xc069, 0x006f, 0xc03c];

/// Reads the input as messages: a type, a length and a value each, with a right base header.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    while let Some(()) = message(&mut script) {}
}

fn message(script: &mut Script<'_>) -> Option<()> {
    let kind = KINDS[usize::from(script.below(KINDS.len() as u8)?)];
    let len = usize::from(script.u16()?) % 1024;
    let value = script.octets(len).unwrap_or_else(|| script.rest());
    let mut octets = vec![0; TLV_HEADER_LEN];
    TlvHeader { kind, flags: 0, header_len: TLV_HEADER_LEN, value_len: value.len() }.emit(&mut octets);
    octets.extend_from_slice(value);
    tlv::control(&octets);
    Some(())
}

/// A registration with interfaces and direct RVIs, and a report.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let udp = |text: &str| LegAddress::Udp(text.parse().expect("an address and a port"));
    let ether = LegAddress::Ether(EtherAddress { mac: MacAddress([2; 6]), port: EtherPort(1) });
    let offered: Vec<_> = [udp("192.0.2.1:7401"), udp("[fd00::1]:1"), ether]
        .map(|address| OfferedLeg { leg: LegNumber(1), address })
        .into();
    let register = ControlMessage::Register {
        version: TLV_VERSION,
        node: NodeNumber(1),
        process: ProcessId(0x0102_0304_0506_0708),
        interfaces: vec![HeldInterface { lan: LanId(10), vif: VifNumber(1), mac: MacAddress([2; 6]) }],
        direct: vec![HeldDirect {
            rvi: RviNumber(4),
            lan: LanId(10),
            peer: NodeNumber(2),
            channel: Channel(3),
            own_vif: VifNumber(1),
            peer_vif: VifNumber(1),
        }],
        associations: vec![HeldAssociation {
            peer: NodeNumber(2),
            process: ProcessId(9),
            epoch: PairEpoch(77),
            legs: vec![HeldLeg { leg: LegNumber(1), kind: LegKind::Udp }],
        }],
        legs: offered.clone(),
    };
    let addresses = ControlMessage::LegAddresses { legs: offered };
    let items = vec![ReportItem { name: "vif.1.tx.frames".into(), value: 12 }];
    let report = ControlMessage::Report { id: 1, last: true, items };
    [(2_u8, register), (8, report), (9, addresses)]
        .map(|(kind, message)| {
            let value = &message.emit()[TLV_HEADER_LEN..];
            [&[kind][..], &(value.len() as u16).to_le_bytes(), value].concat()
        })
        .into()
}

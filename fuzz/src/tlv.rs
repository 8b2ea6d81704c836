//! Whole messages into the parsers of the TLV layer: what parses must survive being written and read again.

use vlan_core::cluster::{CheckKind, CheckResult, Flow, Protocol};
use vlan_core::limits::RELAYED_PACKET_LEN_MAX;
use vlan_core::location::{LOCATION_LEN, Location};
use vlan_core::wire::control::{
    CheckOrder, Checked, FlowNotice, InterfaceAddress, Listening, ListeningNotice,
};
use vlan_core::wire::frame::{ARP_HEADER_LEN, FRAME_HEADER_LEN, PROMISCUOUS_HEADER_LEN};
use vlan_core::wire::{
    ControlMessage, FrameHeader, FrameKind, RELAYED_HEADER_LEN, RelayedPacket, TlvHeader, Vnet,
};
use vlan_core::{BootTag, LanId, MacAddress, NodeNumber, PairEpoch, VifNumber};

/// Reads `data` as a frame header, a relayed packet, a control message and a location record.
pub fn run(data: &[u8]) {
    frame(data);
    relayed(data);
    control(data);
    if let Some(record) = data.first_chunk::<LOCATION_LEN>() {
        let location = Location::parse(record);
        assert_eq!(Location::parse(&location.emit()), location);
    }
}

fn frame(data: &[u8]) {
    // A consumer sees the first octets of a message and its length.
    let head = &data[..data.len().min(256)];
    if let Ok(tlv) = TlvHeader::parse(head, data.len()) {
        assert_eq!(tlv.header_len + tlv.value_len, data.len());
        let _ = tlv.unknown_action();
    }
    let Ok(header) = FrameHeader::parse(head, data.len()) else { return };
    let frame_len = data.len() - header.kind.header_len();
    if header.vnet.is_valid_for(frame_len) && header.vnet.flags & Vnet::NEEDS_CSUM != 0 {
        let sum_at = usize::from(header.vnet.csum_start) + usize::from(header.vnet.csum_offset);
        assert!(sum_at + 2 <= frame_len, "a sum outside the frame is valid: {:?}", header.vnet);
    }
    if header.kind == FrameKind::Arp {
        let (source, target) = FrameHeader::parse_locations(head).expect("an ARP header holds two locations");
        let octets = header.emit_arp(&source, &target, frame_len);
        assert_eq!(FrameHeader::parse(&octets, ARP_HEADER_LEN + frame_len), Ok(header));
        assert_eq!(FrameHeader::parse_locations(&octets), Ok((source, target)));
    } else if header.kind == FrameKind::Promiscuous {
        let listener = FrameHeader::parse_listener(head).expect("the header of a copy names its listener");
        let octets = header.emit_promiscuous(listener, frame_len);
        assert_eq!(octets[..34], head[..34]);
        assert_eq!(FrameHeader::parse(&octets, PROMISCUOUS_HEADER_LEN + frame_len), Ok(header));
    } else {
        assert_eq!(header.emit(frame_len), head[..FRAME_HEADER_LEN]);
    }
}

fn relayed(data: &[u8]) {
    let head = &data[..data.len().min(256)];
    let Ok(header) = RelayedPacket::parse(head, data.len()) else { return };
    let packet_len = data.len() - RELAYED_HEADER_LEN;
    assert!((48..=RELAYED_PACKET_LEN_MAX).contains(&packet_len), "a packet of {packet_len} octets");
    assert_eq!(header.emit(packet_len), head[..RELAYED_HEADER_LEN]);
}

/// Reads `data` as a control message.
pub(crate) fn control(data: &[u8]) {
    let Ok(message) = ControlMessage::parse(data) else { return };
    let octets = message.emit();
    assert_eq!(ControlMessage::parse(&octets), Ok(message.clone()));
    let has_reserved = matches!(message, ControlMessage::Binding { .. } | ControlMessage::Promiscuous { .. });
    let canonical = data[2] == 0 && data[3] == 1 && !has_reserved;
    assert!(!canonical || octets == data, "{message:?} has two forms");
}

/// One message of each kind of frame and a few control messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let header = |kind| FrameHeader {
        kind,
        flags: 0,
        lan: LanId(10),
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(1),
        vnet: Vnet { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1448, csum_start: 34, csum_offset: 16 },
        boot: BootTag(7),
        bseq: 1,
    };
    let frame = [2; 60];
    let mut seeds: Vec<Vec<u8>> = [FrameKind::Unicast, FrameKind::Group, FrameKind::Relay]
        .map(|kind| [&header(kind).emit(frame.len())[..], &frame].concat())
        .into();
    let location = Location { node: NodeNumber(2), ..Location::default() };
    let arp = header(FrameKind::Arp).emit_arp(&location, &location, frame.len());
    seeds.push([&arp[..], &frame].concat());
    let copy = header(FrameKind::Promiscuous).emit_promiscuous(NodeNumber(3), frame.len());
    seeds.push([&copy[..], &frame].concat());
    let address = InterfaceAddress { address: [10, 1, 0, 1].into(), prefix: 24 };
    let (cluster, protocol) = ([10, 1, 0, 100].into(), Protocol::Tcp);
    let flow =
        Flow { protocol, client: [10, 1, 0, 9].into(), client_port: 40_000, address: cluster, port: 80 };
    let listening = Listening { address: cluster, protocol, port: 80, listens: true };
    let kind = CheckKind::Http { path: "/health".into() };
    let check = CheckOrder { vif: VifNumber(1), id: 7, address: cluster, port: 80, within_ms: 750, kind };
    let result = CheckResult::Status(503);
    let checked = Checked { vif: VifNumber(1), id: 7, address: cluster, port: 80, result };
    let relayed = RelayedPacket { node: NodeNumber(2), epoch: PairEpoch(5) };
    seeds.push([&relayed.emit(frame.len())[..], &frame].concat());
    seeds.extend([
        ControlMessage::Heartbeat { number: 1 }.emit(),
        ControlMessage::Bind { vif: VifNumber(1), address }.emit(),
        ControlMessage::Promiscuous { listener: location, listens: true }.emit(),
        ControlMessage::Binding { mac: MacAddress([2; 6]), location }.emit(),
        ControlMessage::Claims(FlowNotice { vif: VifNumber(1), flows: vec![flow, flow] }).emit(),
        ControlMessage::FlowsTold { vif: VifNumber(1) }.emit(),
        ControlMessage::Listening(ListeningNotice { vif: VifNumber(1), services: vec![listening] }).emit(),
        ControlMessage::Check(check).emit(),
        ControlMessage::Checked(checked).emit(),
        ControlMessage::ClusterRole { has: false }.emit(),
    ]);
    seeds
}

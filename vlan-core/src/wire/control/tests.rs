//! Every control message there and back, and nothing that is not one.

use super::*;
use crate::address::Channel;
use alloc::vec;

fn examples() -> Vec<ControlMessage> {
    let address = InterfaceAddress { address: "fd00:1::1".parse().unwrap(), prefix: 64 };
    vec![
        ControlMessage::Heartbeat { number: 1 },
        ControlMessage::HeartbeatReply { number: u32::MAX },
        ControlMessage::Register {
            version: TLV_VERSION,
            node: NodeNumber(1),
            process: ProcessId(99),
            interfaces: vec![HeldInterface { lan: LanId(10), vif: VifNumber(1), mac: MacAddress([2; 6]) }],
            direct: vec![HeldDirect {
                rvi: RviNumber(4),
                lan: LanId(10),
                peer: NodeNumber(2),
                channel: Channel(3),
                own_vif: VifNumber(1),
                peer_vif: VifNumber(1),
            }],
        },
        ControlMessage::Registered { epoch: 3 },
        ControlMessage::Refused { reason: "no such node".into() },
        ControlMessage::Fenced,
        ControlMessage::Interface(InterfaceConfig {
            lan: LanId(10),
            vif: VifNumber(1),
            mac: MacAddress([2, 0, 1, 0, 0, 1]),
            mtu: 16_896,
            relay_channel: Channel(1),
            arp_channel: Channel(2),
            check_source: true,
            name: "red0".into(),
            lan_name: "red".into(),
            addresses: vec![address],
            gateways: vec!["10.1.0.254".parse().unwrap()],
        }),
        ControlMessage::InterfaceRemoved { vif: VifNumber(2) },
        ControlMessage::ConfigurationEnd { epoch: 3 },
        ControlMessage::Bind { vif: VifNumber(1), address },
        ControlMessage::Unbind { vif: VifNumber(1), address: address.address },
        ControlMessage::Member(MemberNotice {
            lan: LanId(10),
            node: NodeNumber(2),
            vif: VifNumber(1),
            mac: MacAddress([2; 6]),
            process: ProcessId(8),
            attached: true,
        }),
        ControlMessage::Binding { mac: MacAddress([2; 6]), location: Location::default() },
        ControlMessage::Grant(Grant {
            rvi: RviNumber(7),
            lan: LanId(10),
            peer: NodeNumber(2),
            peer_process: ProcessId(8),
            channel: Channel(1),
            own_vif: VifNumber(1),
            peer_vif: VifNumber(1),
            peer_mac: MacAddress([2; 6]),
        }),
        ControlMessage::Revoke { rvi: RviNumber(7), peer: NodeNumber(2), reason: RevokeReason::Cut },
        ControlMessage::Revoked { rvi: RviNumber(7) },
        ControlMessage::LegCut { peer: NodeNumber(2), leg: 1 },
        ControlMessage::DirectIdle { rvi: RviNumber(7) },
        ControlMessage::DirectLost { peer: NodeNumber(2), process: ProcessId(8) },
        ControlMessage::Barrier {
            lan: LanId(10),
            origin: NodeNumber(1),
            origin_vif: VifNumber(1),
            destination: NodeNumber(2),
            destination_vif: VifNumber(1),
            boot: BootTag(7),
            id: 5,
        },
        ControlMessage::BarrierEcho { id: 5 },
        ControlMessage::RelayDrained { waiting: true },
        ControlMessage::ReportRequest { id: 9 },
        ControlMessage::Report {
            id: 9,
            last: true,
            items: vec![ReportItem { name: "vif.1.tx.frames".into(), value: 12 }],
        },
    ]
}

#[test]
fn every_control_message_round_trips() {
    for message in examples() {
        assert_eq!(ControlMessage::parse(&message.emit()), Ok(message));
    }
}

#[test]
fn every_cut_or_lengthened_control_message_is_refused() {
    //= spec/tlv.md#control-messages
    //= type=test
    //# A receiver MUST refuse a control message that is longer than 16 KiB, that ends inside a field or that has
    //# octets left over.
    for message in examples() {
        let octets = message.emit();
        for len in 0..octets.len() {
            let mut cut = octets[..len].to_vec();
            assert!(ControlMessage::parse(&cut).is_err());
            if len >= TLV_HEADER_LEN {
                cut[4..8].copy_from_slice(&((len - TLV_HEADER_LEN) as u32).to_le_bytes());
                assert!(ControlMessage::parse(&cut).is_err(), "{message:?} cut to {len}");
            }
        }
        let mut longer = octets.clone();
        longer.push(0);
        longer[4..8].copy_from_slice(&((octets.len() + 1 - TLV_HEADER_LEN) as u32).to_le_bytes());
        assert!(ControlMessage::parse(&longer).is_err(), "{message:?}");
    }
    assert!(ControlMessage::parse(&vec![0; CONTROL_MESSAGE_LEN_MAX + 1]).is_err());
}

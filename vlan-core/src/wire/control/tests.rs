//! Every control message there and back, and nothing that is not one.

use super::*;
use crate::address::{Channel, EtherAddress, EtherPort, LegNumber, PairEpoch};
use crate::cluster::{CheckKind, CheckResult, Flow, Protocol};
use crate::key::{KEY_LEN, PublicKey, SecretKey};
use crate::security::Rate;
use alloc::format;
use alloc::vec;

fn examples() -> Vec<ControlMessage> {
    let address = InterfaceAddress { address: "fd00:1::1".parse().unwrap(), prefix: 64 };
    let flow = Flow {
        protocol: Protocol::Tcp,
        client: "10.1.0.9".parse().unwrap(),
        client_port: 40_000,
        address: "fd00::100".parse().unwrap(),
        port: 80,
    };
    let (vif, cluster) = (VifNumber(1), "fd00::100".parse().unwrap());
    let check = |kind| CheckOrder { vif, id: 5, address: cluster, port: 80, within_ms: 750, kind };
    let checked = |result| Checked { vif, id: 5, address: cluster, port: 80, result };
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
            associations: vec![HeldAssociation {
                peer: NodeNumber(2),
                process: ProcessId(8),
                epoch: PairEpoch(77),
                legs: [(0, LegKind::Unix), (1, LegKind::Udp), (2, LegKind::Ether)]
                    .map(|(leg, kind)| HeldLeg { leg: LegNumber(leg), kind })
                    .into(),
            }],
            legs: offered(),
        },
        ControlMessage::LegAddresses { legs: offered() },
        ControlMessage::ArenaReady { lan: LanId(10), arena: 0x0100_0007 },
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
            port_security: crate::security::PortSecurity::Mac,
            may_listen: false,
            has_carrier: true,
            name: "red0".into(),
            lan_name: "red".into(),
            addresses: vec![address],
            gateways: vec!["10.1.0.254".parse().unwrap()],
            clusters: vec![ServedCluster {
                addresses: vec!["10.1.0.100".parse().unwrap(), "fd00::100".parse().unwrap()],
                services: vec![ServedService { protocol: Protocol::Udp, port: 53, is_kept: true }],
            }],
            cluster_addresses: vec!["fd00::101".parse().unwrap()],
        }),
        ControlMessage::InterfaceRemoved { vif: VifNumber(2) },
        ControlMessage::ConfigurationEnd { epoch: 3 },
        ControlMessage::Bind { vif: VifNumber(1), address },
        ControlMessage::Unbind { vif: VifNumber(1), address: address.address },
        ControlMessage::Groups(GroupNotice {
            vif: VifNumber(1),
            more: true,
            every_group: false,
            joined: vec![JoinedGroup { group: "ff05::7".parse().unwrap(), cause: GroupCause::Both }],
            left: vec!["239.1.1.1".parse().unwrap()],
        }),
        ControlMessage::GroupPolicy(GroupPolicy {
            vif: VifNumber(1),
            snoops: true,
            querier: "10.1.0.254".parse().unwrap(),
        }),
        ControlMessage::Promiscuous {
            listener: Location { vif: VifNumber(2), ..Location::default() },
            listens: true,
        },
        ControlMessage::Claims(FlowNotice { vif: VifNumber(1), flows: vec![flow] }),
        ControlMessage::FlowsGone(FlowNotice { vif: VifNumber(1), flows: vec![flow, flow] }),
        ControlMessage::FlowsTold { vif: VifNumber(1) },
        ControlMessage::Listening(ListeningNotice {
            vif: VifNumber(1),
            services: vec![Listening {
                address: "10.1.0.100".parse().unwrap(),
                protocol: Protocol::Tcp,
                port: 80,
                listens: true,
            }],
        }),
        ControlMessage::ClusterRole { has: true },
        ControlMessage::Check(check(CheckKind::Tcp)),
        ControlMessage::Check(check(CheckKind::Http { path: "/health?deep=1".into() })),
        ControlMessage::Checked(checked(CheckResult::Passed)),
        ControlMessage::Checked(checked(CheckResult::Status(503))),
        ControlMessage::Checked(checked(CheckResult::NotTried)),
        ControlMessage::Member(MemberNotice {
            lan: LanId(10),
            node: NodeNumber(2),
            vif: VifNumber(1),
            mac: MacAddress([2; 6]),
            process: ProcessId(8),
            attached: true,
        }),
        ControlMessage::Binding { mac: MacAddress([2; 6]), location: Location::default() },
        ControlMessage::Sender(SenderNotice {
            lan: LanId(10),
            node: NodeNumber(2),
            vif: VifNumber(1),
            dhcp_server: true,
            router: false,
            learn: 4,
            total: Rate { frames: Some(1000), bits: Some(u64::MAX) },
            addresses: vec!["10.1.0.2".parse().unwrap(), "fe80::2".parse().unwrap()],
        }),
        ControlMessage::GroupLimits(GroupLimits {
            vif: VifNumber(1),
            broadcast: Rate { frames: Some(1000), bits: None },
            multicast: Rate { frames: None, bits: Some(1 << 40) },
        }),
        ControlMessage::Grant(Grant {
            rvi: RviNumber(7),
            lan: LanId(10),
            peer: NodeNumber(2),
            peer_process: ProcessId(8),
            channel: Channel(1),
            own_vif: VifNumber(1),
            peer_vif: VifNumber(1),
            peer_mac: MacAddress([2; 6]),
            association: GrantedAssociation {
                epoch: PairEpoch(77),
                pair_key: SecretKey::new([0x5a; KEY_LEN]),
                peer_key: PublicKey([3; KEY_LEN]),
                legs: offered().into_iter().map(granted).collect(),
            },
        }),
        ControlMessage::Revoke { rvi: RviNumber(7), peer: NodeNumber(2), reason: RevokeReason::Cut },
        ControlMessage::Revoked { rvi: RviNumber(7) },
        ControlMessage::LegCut { peer: NodeNumber(2), leg: 1 },
        ControlMessage::LegMissing { peer: NodeNumber(2), process: ProcessId(8), leg: 1 },
        ControlMessage::LegIntroduced { peer: NodeNumber(2), leg: 1 },
        fault(None, FaultDirection::Both, "off"),
        fault(Some(LegNumber(1)), FaultDirection::In, "loss=5%,delay=2ms"),
        fault(Some(LegNumber(0)), FaultDirection::Out, ""),
        ControlMessage::Capture(capture(CapturePoint::Interface(VifNumber(1)), CaptureDirections::Both)),
        ControlMessage::Capture(capture(CapturePoint::Node(NodeNumber(2)), CaptureDirections::In)),
        ControlMessage::Capture(capture(CapturePoint::ControlNode, CaptureDirections::Out)),
        ControlMessage::CaptureCredit { id: 3, octets: 16_384 },
        ControlMessage::CaptureEnd { id: 3, discard: true },
        ControlMessage::Trace(TraceOrder {
            id: 8,
            way: TraceWay::Direct,
            vif: VifNumber(1),
            peer: NodeNumber(2),
            octets: vec![2; 60],
        }),
        ControlMessage::Traced(Traced {
            id: 8,
            steps: vec![TraceStep { what: "held".into(), rule: "spec/driver.md#held-frames".into() }],
            end: TraceEnd::Held,
            peer: NodeNumber(2),
            peer_vif: VifNumber(1),
            message: vec![2; 92],
        }),
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
        ControlMessage::ReportDrops {
            id: 9,
            drops: vec![ReportedDrop {
                vif: VifNumber(1),
                reason: "too-long".into(),
                age_ms: 12,
                frame_octets: 1800,
                headers: vec![2; 14],
            }],
        },
        ControlMessage::Report {
            id: 9,
            last: true,
            items: vec![ReportItem { name: "vif.1.tx.frames".into(), value: 12 }],
        },
    ]
}

fn offered() -> Vec<OfferedLeg> {
    let udp = |text: &str| LegAddress::Udp(text.parse().unwrap());
    [
        udp("192.0.2.1:7401"),
        udp("[fd00::1]:65535"),
        LegAddress::Ether(EtherAddress { mac: MacAddress([2; 6]), port: EtherPort(65_537) }),
    ]
    .into_iter()
    .zip(0..)
    .map(|(address, leg)| OfferedLeg { leg: LegNumber(leg), address })
    .collect()
}

fn granted(offered: OfferedLeg) -> GrantedLeg {
    let OfferedLeg { leg, address } = offered;
    GrantedLeg { leg, address, is_trusted: leg.0 == 1, fabric_key: 0x1234 }
}

fn fault(leg: Option<LegNumber>, direction: FaultDirection, spec: &str) -> ControlMessage {
    ControlMessage::Fault(Fault::new(leg, direction, spec).unwrap())
}

fn capture(point: CapturePoint, directions: CaptureDirections) -> CaptureOrder {
    let (snap_octets, window_octets) = (65_553, 131_072);
    CaptureOrder { id: 3, point, directions, snap_octets, window_octets, filter: vec![0x14, 6] }
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

#[test]
fn a_packet_leg_of_no_packet_kind_is_refused() {
    let message = ControlMessage::LegAddresses { legs: offered() }.emit();
    // Behind the count and the first leg's number.
    let kind = TLV_HEADER_LEN + 3;
    assert_eq!(message[kind], LegKind::Udp as u8);
    for wrong in [LegKind::Unix as u8, 3, 255] {
        let mut message = message.clone();
        message[kind] = wrong;
        assert_eq!(ControlMessage::parse(&message), Err(TlvError::BadField { field: "leg kind" }));
    }
}

#[test]
fn a_check_of_no_kind_for_no_path_and_a_result_of_no_kind_are_refused() {
    let kind = CheckKind::Http { path: "/x".into() };
    let order = CheckOrder {
        vif: VifNumber(1),
        id: 1,
        address: "10.1.0.100".parse().unwrap(),
        port: 80,
        within_ms: 750,
        kind,
    };
    let whole = ControlMessage::Check(order).emit();
    // The kind, the path's length, the path.
    let kind_at = whole.len() - 4;
    let refused = |at: usize, octet: u8, field| {
        let mut message = whole.clone();
        message[at] = octet;
        assert_eq!(ControlMessage::parse(&message), Err(TlvError::BadField { field }));
    };
    refused(kind_at, 3, "kind of check");
    refused(kind_at + 2, b'x', "path of a check");
    for octet in [b' ', b'\n', 0] {
        refused(kind_at + 3, octet, "path of a check");
    }
    let result = CheckResult::NotTried;
    let mut checked = ControlMessage::Checked(Checked {
        vif: VifNumber(1),
        id: 1,
        address: "10.1.0.100".parse().unwrap(),
        port: 80,
        result,
    })
    .emit();
    *checked.last_mut().unwrap() = 6;
    assert_eq!(ControlMessage::parse(&checked), Err(TlvError::BadField { field: "result of a check" }));
}

#[test]
fn a_message_with_a_key_shows_it_to_nobody() {
    for message in examples() {
        let shown = format!("{message:?} {message:#?}");
        assert!(!shown.contains("5a") && !shown.contains("90"), "{shown}");
    }
}

#[test]
fn no_captured_message_holds_a_key() {
    //= spec/capture.md#keys
    //= type=test
    //# A capture MUST NOT hold a key of a pair: a node overwrites it with zeros in the copy of a GRANT.
    let holds_key = |octets: &[u8]| octets.windows(8).any(|octets| octets == [0x5a; 8]);
    let mut keys = 0;
    for message in examples() {
        let whole = message.emit();
        keys += usize::from(holds_key(&whole));
        for len in 0..=whole.len() {
            let mut copy = whole[..len].to_vec();
            ControlMessage::conceal_keys(&mut copy);
            assert!(!holds_key(&copy), "{message:?} cut to {len}");
            assert!(len == whole.len() || copy.len() == len);
        }
        // Nothing else is changed.
        let mut copy = whole.clone();
        ControlMessage::conceal_keys(&mut copy);
        let changed = whole.iter().zip(&copy).filter(|(one, other)| one != other).count();
        assert_eq!(changed, if holds_key(&whole) { KEY_LEN } else { 0 }, "{message:?}");
    }
    assert_eq!(keys, 1);
}

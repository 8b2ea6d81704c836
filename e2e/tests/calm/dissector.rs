//! The Wireshark dissector against what the code emits and what a lab sends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use e2e::Lab;
use e2e::capture::{dissector, fields, tshark};
use e2e::lab::examples;
use e2e::pair::wait_for_legs;
use std::process::Stdio;
use vlan_core::cluster::{CheckKind, CheckResult, Flow, Protocol};
use vlan_core::security::Rate;
use vlan_core::wire::control::{
    CaptureDirections, CaptureOrder, CapturePoint, CheckOrder, Checked, Fault, FaultDirection, FlowNotice,
    Grant, GrantedAssociation, GrantedLeg, GroupCause, GroupLimits, GroupNotice, GroupPolicy,
    HeldAssociation, HeldDirect, HeldInterface, HeldLeg, InterfaceAddress, InterfaceConfig, JoinedGroup,
    LegAddress, LegKind, Listening, ListeningNotice, MemberNotice, OfferedLeg, ReportItem, ReportedDrop,
    RevokeReason, SenderNotice, ServedCluster, ServedService, TraceEnd, TraceOrder, TraceStep, TraceWay,
    Traced,
};
use vlan_core::wire::reference::Place;
use vlan_core::wire::{ControlMessage, FrameHeader, FrameKind, Reference, Vnet};
use vlan_core::{
    BootTag, Channel, EtherAddress, EtherPort, LanId, LegNumber, Location, MacAddress, NodeNumber, PairEpoch,
    ProcessId, PublicKey, RviNumber, SecretKey, VifNumber,
};

/// A classic pcap file of the first link type for users, each message behind a capture's header of a direct RVI.
fn pcap(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 147] {
        file.extend(word.to_le_bytes());
    }
    for message in messages {
        let len = message.len() as u32 + 8;
        [0, 0, len, len].iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend([1, 3, 2, 1, 2, 0, 1, 0]);
        file.extend(message);
    }
    file
}

fn messages() -> Vec<(&'static str, ControlMessage)> {
    let (vif, peer, rvi, lan) = (VifNumber(1), NodeNumber(2), RviNumber(7), LanId(10));
    let (process, mac, leg) = (ProcessId(99), MacAddress([2, 0, 1, 0, 0, 1]), LegNumber(0));
    let address = InterfaceAddress { address: [10, 1, 0, 1].into(), prefix: 24 };
    let udp = LegAddress::Udp("[fd00::1]:7401".parse().expect("an address"));
    let ether = LegAddress::Ether(EtherAddress { mac, port: EtherPort(65_537) });
    let legs: Vec<_> = [udp, ether].map(|address| OfferedLeg { leg, address }).into();
    let granted = GrantedLeg { leg, address: udp, is_trusted: true, fabric_key: 0x1234 };
    let association = GrantedAssociation {
        epoch: PairEpoch(77),
        pair_key: SecretKey::new([0; 32]),
        peer_key: PublicKey([3; 32]),
        legs: vec![granted],
    };
    let (cluster, protocol) = ([10, 1, 0, 100].into(), Protocol::Tcp);
    let flow = Flow {
        protocol,
        client: "fd00::9".parse().expect("an address"),
        client_port: 40_000,
        address: cluster,
        port: 80,
    };
    let flows = FlowNotice { vif, flows: vec![flow, flow] };
    let listening = Listening { address: cluster, protocol, port: 80, listens: true };
    let check = |kind| CheckOrder { vif, id: 4, address: cluster, port: 80, within_ms: 750, kind };
    let checked = |result| Checked { vif, id: 4, address: cluster, port: 80, result };
    let order = CaptureOrder {
        id: 3,
        point: CapturePoint::Interface(vif),
        directions: CaptureDirections::Both,
        snap_octets: 96,
        window_octets: 4096,
        filter: vec![0x14, 6],
    };
    use ControlMessage as M;
    vec![
        ("HEARTBEAT", M::Heartbeat { number: 1 }),
        ("HEARTBEAT_REPLY", M::HeartbeatReply { number: 1 }),
        (
            "REGISTER",
            M::Register {
                version: 1,
                node: peer,
                process,
                interfaces: vec![HeldInterface { lan, vif, mac }],
                direct: vec![HeldDirect { rvi, lan, peer, channel: Channel(3), own_vif: vif, peer_vif: vif }],
                associations: vec![HeldAssociation {
                    peer,
                    process,
                    epoch: PairEpoch(77),
                    legs: vec![HeldLeg { leg, kind: LegKind::Udp }],
                }],
                legs: legs.clone(),
            },
        ),
        ("REGISTERED", M::Registered { epoch: 3 }),
        ("BIND", M::Bind { vif, address }),
        ("UNBIND", M::Unbind { vif, address: address.address }),
        ("MEMBER", M::Member(MemberNotice { lan, node: peer, vif, mac, process, attached: true })),
        ("BINDING", M::Binding { mac, location: Location::default() }),
        ("REFUSED", M::Refused { reason: "no such node".into() }),
        ("FENCED", M::Fenced),
        (
            "GROUPS",
            M::Groups(GroupNotice {
                vif,
                more: false,
                every_group: true,
                joined: vec![JoinedGroup { group: [239, 1, 1, 1].into(), cause: GroupCause::Both }],
                left: vec!["ff05::7".parse().expect("an address")],
            }),
        ),
        ("GROUP_POLICY", M::GroupPolicy(GroupPolicy { vif, snoops: true, querier: [10, 1, 0, 254].into() })),
        ("PROMISCUOUS", M::Promiscuous { listener: Location::default(), listens: true }),
        ("LEG_ADDRESSES", M::LegAddresses { legs }),
        ("ARENA_READY", M::ArenaReady { lan, arena: 3 }),
        ("CLAIMS", M::Claims(flows.clone())),
        ("FLOWS_GONE", M::FlowsGone(flows)),
        ("FLOWS_TOLD", M::FlowsTold { vif }),
        ("LISTENING", M::Listening(ListeningNotice { vif, services: vec![listening] })),
        ("CLUSTER_ROLE", M::ClusterRole { has: false }),
        ("CHECK", M::Check(check(CheckKind::Tcp))),
        ("CHECK", M::Check(check(CheckKind::Http { path: "/health".into() }))),
        ("CHECKED", M::Checked(checked(CheckResult::Passed))),
        ("CHECKED", M::Checked(checked(CheckResult::Status(503)))),
        (
            "INTERFACE",
            M::Interface(InterfaceConfig {
                lan,
                vif,
                mac,
                mtu: 16_896,
                relay_channel: Channel(1),
                arp_channel: Channel(2),
                port_security: vlan_core::security::PortSecurity::Mac,
                may_listen: false,
                has_carrier: true,
                name: "red0".into(),
                lan_name: "red".into(),
                addresses: vec![address],
                gateways: vec!["fd00::fe".parse().expect("an address")],
                clusters: vec![ServedCluster {
                    addresses: vec![[10, 1, 0, 100].into()],
                    services: vec![ServedService { protocol: Protocol::Tcp, port: 80, is_kept: true }],
                }],
                cluster_addresses: vec![[10, 1, 0, 100].into(), [10, 1, 0, 101].into()],
            }),
        ),
        ("INTERFACE_REMOVED", M::InterfaceRemoved { vif }),
        ("CONFIGURATION_END", M::ConfigurationEnd { epoch: 3 }),
        (
            "SENDER",
            M::Sender(SenderNotice {
                lan,
                node: peer,
                vif,
                dhcp_server: true,
                router: false,
                learn: 4,
                total: Rate { frames: Some(1000), bits: None },
                addresses: vec!["fd00::2".parse().expect("an address")],
            }),
        ),
        (
            "GROUP_LIMITS",
            M::GroupLimits(GroupLimits {
                vif,
                broadcast: Rate { frames: Some(1000), bits: None },
                multicast: Rate { frames: None, bits: Some(1_000_000) },
            }),
        ),
        (
            "GRANT",
            M::Grant(Grant {
                rvi,
                lan,
                peer,
                peer_process: process,
                channel: Channel(3),
                own_vif: vif,
                peer_vif: vif,
                peer_mac: mac,
                association,
            }),
        ),
        ("REVOKE", M::Revoke { rvi, peer, reason: RevokeReason::Cut }),
        ("REVOKED", M::Revoked { rvi }),
        ("LEG_CUT", M::LegCut { peer, leg: 1 }),
        ("LEG_MISSING", M::LegMissing { peer, process, leg: 1 }),
        ("LEG_INTRODUCED", M::LegIntroduced { peer, leg: 1 }),
        ("DIRECT_IDLE", M::DirectIdle { rvi }),
        ("DIRECT_LOST", M::DirectLost { peer, process }),
        (
            "BARRIER",
            M::Barrier {
                lan,
                origin: peer,
                origin_vif: vif,
                destination: peer,
                destination_vif: vif,
                boot: BootTag(7),
                id: 5,
            },
        ),
        ("BARRIER_ECHO", M::BarrierEcho { id: 5 }),
        ("RELAY_DRAINED", M::RelayDrained { waiting: true }),
        ("DIRECT_DONE", M::DirectDone),
        ("FAULT", M::Fault(Fault::new(Some(leg), FaultDirection::In, "loss=5%").expect("a fault"))),
        ("CAPTURE", M::Capture(order)),
        ("CAPTURE_CREDIT", M::CaptureCredit { id: 3, octets: 4096 }),
        ("CAPTURE_END", M::CaptureEnd { id: 3, discard: true }),
        ("TRACE", M::Trace(TraceOrder { id: 8, way: TraceWay::Direct, vif, peer, octets: vec![2; 60] })),
        (
            "TRACED",
            M::Traced(Traced {
                id: 8,
                steps: vec![TraceStep { what: "held".into(), rule: "spec/driver.md#held-frames".into() }],
                end: TraceEnd::Held,
                peer,
                peer_vif: vif,
                message: vec![2; 92],
            }),
        ),
        ("REPORT_REQUEST", M::ReportRequest { id: 9 }),
        (
            "REPORT_DROPS",
            M::ReportDrops {
                id: 9,
                drops: vec![ReportedDrop {
                    vif,
                    reason: "too-long".into(),
                    age_ms: 12,
                    frame_octets: 1800,
                    headers: vec![2; 14],
                }],
            },
        ),
        (
            "REPORT",
            M::Report { id: 9, last: true, items: vec![ReportItem { name: "vif.1".into(), value: 12 }] },
        ),
    ]
}

/// What it shows of a file must have no fault.
fn expect_no_fault(file: &Path) -> Result<()> {
    let faults = tshark(file, &["-V", "-Y", "weft.bad || weft.unknown || _ws.malformed || _ws.lua.error"])?;
    ensure!(faults.code == Some(0) && faults.out.is_empty(), "{faults:?}");
    ensure!(!faults.err.contains("Error"), "{faults:?}");
    Ok(())
}

#[test]
fn every_control_message_is_read_to_its_last_octet() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("messages.pcap");
    let messages = messages();
    let octets: Vec<_> = messages.iter().map(|(_, message)| message.emit()).collect();
    fs::write(&file, pcap(&octets))?;
    expect_no_fault(&file)?;
    let names = fields(&file, "weft", &["weft.name"])?.concat();
    let expected: Vec<_> = messages.iter().map(|(name, _)| *name).collect();
    ensure!(names == expected, "{names:?}");
    let grant =
        ["weft.msg.rvi", "weft.msg.mac", "weft.msg.leg_address", "weft.msg.trusted", "weft.msg.fabric_key"];
    let read = fields(&file, "weft.name == \"GRANT\"", &grant)?.concat();
    ensure!(
        read[..3] == ["7", "02:00:01:00:00:01", "udp fd00::1 port 7401"] && read[4] == "4660",
        "{read:?}"
    );
    let read = fields(&file, "weft.name == \"REPORT\"", &["weft.msg.counter", "weft.msg.value"])?.concat();
    ensure!(read == ["vif.1", "0x000000000000000c"], "{read:?}");
    let read = fields(&file, "weft.msg.path", &["weft.msg.check_kind", "weft.msg.path"])?.concat();
    ensure!(read == ["2", "/health"], "{read:?}");
    let read = fields(&file, "weft.msg.http_status", &["weft.msg.http_status"])?.concat();
    ensure!(read == ["503"], "{read:?}");

    // One that is a character short, and one that has an octet too many, are shown to be wrong.
    let mut short = ControlMessage::Refused { reason: "why".into() }.emit();
    short.pop();
    short[4] -= 1;
    let mut long = ControlMessage::Heartbeat { number: 1 }.emit();
    long.push(0);
    long[4] += 1;
    fs::write(&file, pcap(&[short, long]))?;
    ensure!(fields(&file, "weft.bad", &["weft.name"])?.len() == 2);
    Ok(())
}

#[test]
fn the_dissector_has_the_messages_of_the_specification() -> Result<()> {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/tlv.md"))?;
    let script = fs::read_to_string(dissector())?;
    let stated: BTreeMap<String, String> = table
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
            Some((rest.split('`').next()?.to_owned(), number.to_owned()))
        })
        .filter(|(_, number)| number.starts_with("0x"))
        .collect();
    ensure!(stated.len() > 20, "{stated:?}");
    for (name, number) in &stated {
        ensure!(script.contains(&format!("[{number}] = {{ \"{name}\"")), "no {name} {number}");
    }
    let tested: Vec<_> = messages().into_iter().map(|(name, _)| name.to_owned()).collect();
    let untested: Vec<_> = stated.keys().filter(|name| !tested.contains(name)).collect();
    ensure!(untested.is_empty(), "{untested:?}");
    Ok(())
}

#[test]
fn frames_are_read_with_their_headers_and_what_is_in_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("frames.pcap");
    let header = |kind| FrameHeader {
        kind,
        flags: FrameHeader::RESENT,
        lan: LanId(10),
        origin: NodeNumber(1),
        origin_vif: VifNumber(2),
        destination_vif: VifNumber(3),
        vnet: Vnet { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1448, csum_start: 34, csum_offset: 16 },
        boot: BootTag(0xbeef),
        bseq: 77,
    };
    let mut frame = [[0xff; 6], [2; 6]].concat();
    frame.extend([0x88, 0xb6]);
    frame.extend([0; 46]);
    let mut frames: Vec<Vec<u8>> = [FrameKind::Unicast, FrameKind::Group, FrameKind::Relay]
        .map(|kind| [&header(kind).emit(frame.len())[..], &frame].concat())
        .into();
    let location = Location { node: NodeNumber(2), ..Location::default() };
    let arp = header(FrameKind::Arp).emit_arp(&location, &location, frame.len());
    frames.push([&arp[..], &frame].concat());
    let copy = header(FrameKind::Promiscuous).emit_promiscuous(NodeNumber(4), frame.len());
    frames.push([&copy[..], &frame].concat());
    fs::write(&file, pcap(&frames))?;
    expect_no_fault(&file)?;
    let names =
        ["weft.name", "weft.lan", "weft.origin", "weft.vnet.gso_size", "weft.bseq", "weft.boot", "eth.src"];
    for (frame, kind) in
        fields(&file, "weft", &names)?.into_iter().zip(["unicast", "group", "relay", "ARP", "promiscuous"])
    {
        ensure!(frame == [kind, "10", "1", "1448", "77", "0xbeef", "02:02:02:02:02:02"], "{frame:?}");
    }
    Ok(())
}

#[test]
fn references_to_group_frames_say_where_those_lie() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("references.pcap");
    let place = Place { segment: 9, offset: 4096, len: 92 };
    let reference =
        Reference { lan: LanId(10), destination_vif: VifNumber(3), arena: 77, place, stay: 5 }.emit();
    fs::write(&file, pcap(&[reference.to_vec(), reference[..24].to_vec()]))?;
    let names =
        ["lan_id", "vif", "arena", "segment", "offset", "octets", "stay"].map(|n| format!("weft.msg.{n}"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let read = fields(&file, "weft.name == \"reference\" && !weft.bad", &names)?;
    ensure!(read == [["10", "3", "77", "9", "4096", "92", "5"]], "{read:?}");
    ensure!(fields(&file, "weft.bad", &["weft.name"])?.concat() == ["reference"]);
    Ok(())
}

#[test]
fn packets_between_hosts_are_read_by_udp_and_by_ethernet_and_their_contents_where_they_are_readable()
-> Result<()> {
    // Fabric b carries readable packets in Ethernet frames, fabric a encrypted ones by UDP.
    let text = fs::read_to_string(examples().join("two-hosts-ether.toml"))?;
    let text = text.replace("name = \"b\"\n", "name = \"b\"\ntrusted = true\n");
    let lab = Lab::start_text(&text, "e2edissc")?;
    wait_for_both(&lab)?;
    for (fabric, sees_contents) in [("a", false), ("b", true)] {
        let file = lab.file().with_file_name(format!("{fabric}.pcap"));
        let name = file.to_string_lossy().into_owned();
        let other = if fabric == "a" { "b" } else { "a" };
        lab.switchctl(&["fabric", other, "down"])?.ok()?;
        let underlay = format!("--net=/proc/{}/ns/net", lab.pid("web1")?);
        let words = [
            "40", "nsenter", &underlay, "tcpdump", "-i", fabric, "-U", "-Z", "root", "-w", &name, "-c", "60",
        ];
        let mut tcpdump = std::process::Command::new("timeout").args(words).stderr(Stdio::null()).spawn()?;
        while tcpdump.try_wait()?.is_none() {
            lab.exec("web1", 20, &["ping", "-q", "-i", "0.02", "-c", "20", "10.1.0.2"])?;
        }
        lab.switchctl(&["fabric", other, "up"])?.ok()?;
        let packets =
            fields(&file, "weft.packet", &["weft.packet.kind", "weft.packet.leg", "weft.packet.tag"])?;
        ensure!(packets.len() > 30 && packets.iter().all(|packet| !packet[2].is_empty()), "{packets:?}");
        let leg = if fabric == "a" { "0" } else { "1" };
        ensure!(packets.iter().any(|packet| packet[..2] == ["1", leg]), "no DATA on leg {leg}: {packets:?}");
        let sealed = fields(&file, "weft.packet.kind == 1 && weft.packet.sealed", &["frame.number"])?.len();
        let frames = fields(&file, "weft.name == \"unicast\" && icmp", &["ip.src"])?.len();
        ensure!(
            (sealed == 0) == sees_contents && (frames > 0) == sees_contents,
            "{fabric}: {sealed} {frames}"
        );
        let frames = fields(&file, "weft.ether", &["weft.ether.len"])?.len();
        ensure!((frames > 0) == (fabric == "b"), "{fabric}: {frames} Ethernet frames");
        expect_no_fault(&file)?;
    }
    lab.stop()
}

/// Traffic until the direct RVI of web1 and web2 has both of its legs.
fn wait_for_both(lab: &Lab) -> Result<()> {
    lab.exec("web1", 20, &["ping", "-q", "-i", "0.02", "-c", "50", "10.1.0.2"])?.ok()?;
    wait_for_legs(lab, &[["a", "udp"], ["b", "ether"]])
}

#[test]
fn tshark_loads_the_dissector_without_a_word() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nothing.pcap");
    fs::write(&file, pcap(&[]))?;
    let done = tshark(&file, &[])?;
    ensure!(done.code == Some(0) && !done.err.to_lowercase().contains("lua"), "{}", done.err);
    Ok(())
}

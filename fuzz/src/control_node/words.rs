//! Control messages of the script's choice.

use vlan_core::cluster::{CheckResult, Flow, Protocol};
use vlan_core::wire::ControlMessage;
use vlan_core::wire::control::{
    Checked, Fault, FaultDirection, FlowNotice, HeldAssociation, HeldDirect, HeldLeg, InterfaceAddress,
    LegAddress, LegKind, Listening, ListeningNotice, OfferedLeg, ReportItem, TLV_VERSION,
};
use vlan_core::{
    Channel, EtherAddress, EtherPort, LegNumber, Location, MacAddress, NodeNumber, PairEpoch, ProcessId,
    RviNumber, VifNumber,
};

use super::{BLUE, RED};
use crate::script::{Script, mac};

/// An address of a packet leg of `node`, good or bad.
pub(super) fn offered(node: u8, choice: u8) -> OfferedLeg {
    let udp = |ip: [u8; 4]| LegAddress::Udp((std::net::Ipv4Addr::from(ip), 7000 + u16::from(node)).into());
    let port = EtherPort(u32::from(node));
    let ether = |mac| LegAddress::Ether(EtherAddress { mac, port });
    let address = match choice / 4 {
        0 => udp([192, 0, 2, node]),
        1 => udp([192, 0, 2, node + 100]),
        2 => udp([224, 0, 0, 1]),
        3 => LegAddress::Udp((std::net::Ipv4Addr::LOCALHOST, 0).into()),
        4 => ether(mac(node)),
        _ => ether(MacAddress::BROADCAST),
    };
    OfferedLeg { leg: LegNumber(choice % 4), address }
}

fn legs(script: &mut Script<'_>, node: NodeNumber) -> Option<Vec<OfferedLeg>> {
    let count = script.below(4)?;
    (0..count).map(|_| Some(offered(node.0 as u8, script.below(24)?))).collect()
}

/// What a node says that it holds of its association with `peer`.
fn association(script: &mut Script<'_>, peer: NodeNumber) -> Option<HeldAssociation> {
    const KINDS: [LegKind; 3] = [LegKind::Unix, LegKind::Udp, LegKind::Ether];
    let legs = script.below(3)?;
    let leg = |leg| Some(HeldLeg { leg: LegNumber(leg), kind: KINDS[usize::from(script.below(3)?)] });
    let legs = (0..legs).map(leg).collect::<Option<Vec<_>>>()?;
    let process = ProcessId(u64::from(peer.0) + u64::from(script.below(2)?));
    Some(HeldAssociation { peer, process, epoch: PairEpoch(script.below(3)?.into()), legs })
}

/// Flows that a node speaks of, of the cluster or not.
fn flows(script: &mut Script<'_>) -> Option<Vec<Flow>> {
    let count = script.below(3)?;
    let flow = |_| {
        let client = [10, 1, 0, script.below(5)?].into();
        let address = if script.below(4)? == 0 { [10, 1, 0, 1] } else { super::platform::CLUSTER }.into();
        let (client_port, port) = (u16::from(script.below(4)?), 80 + u16::from(script.below(2)?));
        Some(Flow { protocol: Protocol::Tcp, client, client_port, address, port })
    };
    (0..count).map(flow).collect()
}

/// Whether a service listens, or what a check of it has come to, asked for or not.
fn service_state(script: &mut Script<'_>, vif: VifNumber) -> Option<ControlMessage> {
    const RESULTS: [CheckResult; 3] = [CheckResult::Passed, CheckResult::Silent, CheckResult::Status(500)];
    let (address, port) = (super::platform::CLUSTER.into(), 80);
    Some(match script.below(5)? {
        listens @ (0 | 1) => {
            let (protocol, listens) = (Protocol::Tcp, listens == 1);
            let services = vec![Listening { address, protocol, port, listens }];
            ControlMessage::Listening(ListeningNotice { vif, services })
        }
        result => {
            let (id, result) = (script.below(4)?.into(), RESULTS[usize::from(result - 2)]);
            ControlMessage::Checked(Checked { vif, id, address, port, result })
        }
    })
}

/// A control message that only a node sends, with fields of the script's choice.
pub(super) fn control_message(script: &mut Script<'_>, node: NodeNumber) -> Option<ControlMessage> {
    let vif = VifNumber(script.below(4)?.into());
    let rvi = RviNumber(script.below(8)?.into());
    let peer = NodeNumber(script.below(5)?.into());
    let address = std::net::Ipv4Addr::new(10, 1, 0, script.octet()?).into();
    Some(match script.below(16)? {
        0 => ControlMessage::Heartbeat { number: 1 },
        1 | 2 => ControlMessage::Bind { vif, address: InterfaceAddress { address, prefix: 24 } },
        3 => ControlMessage::Unbind { vif, address },
        4 => ControlMessage::DirectIdle { rvi },
        5 => ControlMessage::DirectLost { peer, process: ProcessId(u64::from(peer.0)) },
        6 => ControlMessage::Revoked { rvi },
        7 => ControlMessage::Report {
            id: 1,
            last: script.flag()?,
            items: vec![ReportItem { name: "x".into(), value: 1 }; 40],
        },
        8 => ControlMessage::LegAddresses { legs: legs(script, node)? },
        10 => {
            let lan = if script.flag()? { RED } else { BLUE };
            let node = if script.octet()? == 0 { peer } else { node };
            let listener = Location { node, vif, lan, ..Location::default() };
            ControlMessage::Promiscuous { listener, listens: script.flag()? }
        }
        12 => ControlMessage::Claims(FlowNotice { vif, flows: flows(script)? }),
        13 => ControlMessage::FlowsGone(FlowNotice { vif, flows: flows(script)? }),
        14 => ControlMessage::FlowsTold { vif },
        15 => service_state(script, vif)?,
        9 if script.flag()? => {
            ControlMessage::LegMissing { peer, process: ProcessId(u64::from(peer.0)), leg: script.below(3)? }
        }
        9 => ControlMessage::Fault(Fault::new(None, FaultDirection::Out, "off")?),
        _ => {
            let held = HeldDirect {
                rvi,
                lan: if script.flag()? { RED } else { BLUE },
                peer,
                channel: Channel(script.below(4)?),
                own_vif: vif,
                peer_vif: VifNumber(script.below(3)?.into()),
            };
            ControlMessage::Register {
                version: TLV_VERSION - 2 + u16::from(script.below(3)?),
                node: if script.octet()? == 0 { peer } else { node },
                process: ProcessId(script.octet()?.into()),
                interfaces: Vec::new(),
                direct: vec![held; usize::from(script.below(3)?)],
                associations: vec![association(script, peer)?; usize::from(script.below(3)?)],
                legs: legs(script, node)?,
            }
        }
    })
}

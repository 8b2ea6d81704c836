//! Sequences of registrations and frames into the ARP server, beside a model of the bound addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arp_server::build::{
    ALL_NODES, NdAddresses, Operation, arp, group_mac, neighbour_advertisement, neighbour_solicitation,
};
use arp_server::{ArpConfig, ArpKind, ArpMessage, ArpServer, ArpVerdict, BindError, Owner};
use vlan_core::MacAddress;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;

use crate::script::{Script, mac};

const CAPACITY: usize = 80;
const MEMBERS: u8 = 4;

/// Address, then MAC and member.
type Model = BTreeMap<IpAddr, (MacAddress, Owner)>;

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let suppress = data.last().is_some_and(|octet| octet & 1 == 1);
    let mut server = ArpServer::new(&ArpConfig { capacity: CAPACITY, suppress });
    let mut model = Model::new();
    let mut script = Script::new(data);
    while let Some(()) = step(&mut script, &mut server, &mut model) {
        check_bounds(&server);
    }
    let bound: Model = server.bindings().map(|b| (b.address, (b.mac, b.owner))).collect();
    assert_eq!(bound, model);
}

fn check_bounds(server: &ArpServer) {
    assert!(server.len() <= CAPACITY);
    for owner in 0..MEMBERS {
        let held = server.bindings().filter(|b| b.owner == Owner(owner.into())).count();
        assert!(held <= ADDRESSES_PER_VIF_MAX, "member {owner} holds {held} addresses");
    }
}

fn step(script: &mut Script<'_>, server: &mut ArpServer, model: &mut Model) -> Option<()> {
    let operation = script.below(8)?;
    let member = script.below(MEMBERS)?;
    let owner = Owner(member.into());
    match operation {
        0 => bind(server, model, address(script)?, mac(member), owner),
        1 => {
            let address = address(script)?;
            let held = model.get(&address).is_some_and(|(_, holder)| *holder == owner);
            assert_eq!(server.unbind(address, owner), held);
            if held {
                model.remove(&address);
            }
        }
        2 => {
            server.forget(owner);
            model.retain(|_, (_, holder)| *holder != owner);
        }
        3 => frame(server, model, script.block()?, owner, mac(member)),
        _ => {
            let mut octets = built(script, mac(member))?;
            patch(script, &mut octets)?;
            frame(server, model, &octets, owner, mac(member));
        }
    }
    Some(())
}

fn bind(server: &mut ArpServer, model: &mut Model, address: IpAddr, mac: MacAddress, owner: Owner) {
    match server.bind(address, mac, owner) {
        Ok(()) => {
            let before = model.insert(address, (mac, owner));
            assert!(before.is_none_or(|(_, holder)| holder == owner), "{address} was taken from its holder");
            // A learned binding of the same member may have given way.
            model.retain(|address, (_, holder)| *holder != owner || server.lookup(*address).is_some());
        }
        Err(BindError::Conflict { holder }) => {
            let (held, other) = model[&address];
            assert!(held == holder && other != owner);
        }
        Err(BindError::Full { .. }) => {
            assert!(!model.contains_key(&address));
            assert!(server.bindings().filter(|b| b.owner == owner).all(|b| b.registered));
        }
        Err(_) => assert!(!model.contains_key(&address)),
    }
}

fn frame(server: &mut ArpServer, model: &mut Model, octets: &[u8], owner: Owner, mac: MacAddress) {
    let message = match server.handle_frame(octets, owner, mac) {
        ArpVerdict::Drop(_) => return,
        ArpVerdict::Flood { message } => message,
        ArpVerdict::Unicast { to, message } => {
            assert!(!to.is_group() && to != mac);
            message
        }
        ArpVerdict::Answer { message, frame, holder } => {
            check_answer(server, model, &message, &frame, holder);
            assert_ne!(holder, owner);
            message
        }
    };
    assert_eq!(octets[6..12], mac.0, "a foreign source passed");
    check_message(model, &message, owner, mac);
}

/// An answer is what the holder could have sent to the asker.
fn check_answer(server: &ArpServer, model: &Model, message: &ArpMessage, frame: &[u8], holder: Owner) {
    let address = message.target.expect("a question");
    let (mac, known) = model[&address];
    assert!(known == holder && message.kind == ArpKind::Request);
    match server.clone().handle_frame(frame, holder, mac) {
        ArpVerdict::Unicast { to, message: reply } => {
            assert_eq!(Some((address, mac)), reply.sender);
            assert_eq!(message.sender.map(|(_, mac)| mac), Some(to));
        }
        other => panic!("an answer that its holder could not have sent: {other:?}"),
    }
}

fn check_message(model: &mut Model, message: &ArpMessage, owner: Owner, mac: MacAddress) {
    let Some((address, stated)) = message.sender else {
        assert!(!message.learned && message.conflict.is_none());
        return;
    };
    assert!(stated == mac && message.kind != ArpKind::Probe);
    let held = model.get(&address).copied();
    let rival = held.filter(|(_, holder)| *holder != owner).map(|(mac, _)| mac);
    assert_eq!(message.conflict, rival);
    if message.learned {
        assert!(rival.is_none() && held != Some((mac, owner)));
        model.insert(address, (mac, owner));
    }
}

fn address(script: &mut Script<'_>) -> Option<IpAddr> {
    let choice = script.octet()?;
    let tail = script.below(100)?;
    Some(match choice & 7 {
        0..4 => Ipv4Addr::new(10, 1, 0, tail).into(),
        4 => Ipv4Addr::from(script.u32()?).into(),
        _ => v6(tail).into(),
    })
}

fn v6(tail: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, tail.into())
}

fn built(script: &mut Script<'_>, source_mac: MacAddress) -> Option<Vec<u8>> {
    let kind = script.below(6)?;
    let (own, other) = (script.octet()?, script.octet()?);
    let destination_mac = if script.flag()? { mac(other) } else { MacAddress::BROADCAST };
    let (own4, other4) = (Ipv4Addr::new(10, 1, 0, own), Ipv4Addr::new(10, 1, 0, other));
    let nd = |source, destination| NdAddresses {
        destination_mac: if destination_mac.is_group() { group_mac(destination) } else { destination_mac },
        source_mac,
        source,
        destination,
    };
    Some(match kind {
        0 => arp(Operation::Request, destination_mac, (source_mac, own4), other4).into(),
        1 => arp(Operation::Reply, destination_mac, (source_mac, own4), other4).into(),
        2 => arp(Operation::Request, destination_mac, (source_mac, own4), own4).into(),
        3 => neighbour_solicitation(&nd(v6(own), v6(other)), v6(other)),
        4 => neighbour_advertisement(&nd(v6(own), v6(other)), v6(own), true),
        _ => neighbour_advertisement(&nd(v6(own), ALL_NODES), v6(own), false),
    })
}

/// Changes up to three octets, and the length.
fn patch(script: &mut Script<'_>, octets: &mut Vec<u8>) -> Option<()> {
    for _ in 0..script.below(4)? {
        let at = usize::from(script.octet()?) % octets.len();
        octets[at] = script.octet()?;
    }
    if script.octet()? & 0x0f == 0 {
        octets.truncate(usize::from(script.octet()?));
    }
    Some(())
}

/// Registrations, conversations of both families, and a member that fills its share.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let conversation = [
        &[0, 0, 0, 1, 0, 1, 5, 2][..],
        &[4, 0, 0, 1, 2, 0, 0, 1, 4, 1, 1, 2, 1, 1, 0, 1],
        &[4, 0, 3, 1, 2, 0, 0, 1, 4, 1, 4, 2, 1, 1, 0, 1, 4, 2, 5, 1, 1, 0, 0, 1],
        &[1, 0, 0, 1, 2, 1],
    ];
    let crowd: Vec<u8> = (0..80).flat_map(|tail| [4, 1, 2, tail, 0, 0, 0, 1]).chain([0, 1, 0, 90]).collect();
    let mut raw = vec![3, 0, 42];
    let probe = arp(
        Operation::Request,
        MacAddress::BROADCAST,
        (mac(0), Ipv4Addr::UNSPECIFIED),
        Ipv4Addr::new(10, 1, 0, 7),
    );
    raw.extend_from_slice(&probe);
    vec![conversation.concat(), crowd, raw]
}

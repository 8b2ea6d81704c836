//! The ARP server against a naive model, and against hostile octets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arp_server::build::{
    ALL_NODES, NdAddresses, Operation, arp, group_mac, neighbour_advertisement, neighbour_solicitation,
    solicited_node,
};
use arp_server::{ArpConfig, ArpKind, ArpMessage, ArpServer, ArpVerdict, BindError, Binding, Owner};
use proptest::prelude::*;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;
use vlan_core::{DropReason, MacAddress};

const MEMBERS: u16 = 3;
const CAPACITY: usize = 100;

#[derive(Clone, Debug)]
enum Step {
    Bind { address: IpAddr, owner: u16, second_mac: bool },
    Unbind { address: IpAddr, owner: u16 },
    Forget { owner: u16 },
    Announce { address: IpAddr, owner: u16, second_mac: bool },
    Ask { address: IpAddr, owner: u16, about: u8 },
    Probe { address: IpAddr, owner: u16 },
}

fn mac(owner: u16, second: bool) -> MacAddress {
    MacAddress([2, 0, 1, u8::from(second), 0, owner as u8])
}

fn v6(tail: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(tail) + 1)
}

fn address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0..90_u8).prop_map(|(four, tail)| {
        if four { Ipv4Addr::new(10, 1, 0, tail + 1).into() } else { v6(tail).into() }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let owner = || 0..MEMBERS;
    prop_oneof![
        3 => (address(), owner(), any::<bool>())
            .prop_map(|(address, owner, second_mac)| Step::Bind { address, owner, second_mac }),
        2 => (address(), owner()).prop_map(|(address, owner)| Step::Unbind { address, owner }),
        1 => owner().prop_map(|owner| Step::Forget { owner }),
        8 => (address(), owner(), any::<bool>())
            .prop_map(|(address, owner, second_mac)| Step::Announce { address, owner, second_mac }),
        8 => (address(), owner(), any::<u8>())
            .prop_map(|(address, owner, about)| Step::Ask { address, owner, about }),
        2 => (address(), owner()).prop_map(|(address, owner)| Step::Probe { address, owner }),
    ]
}

fn announce(address: IpAddr, mac: MacAddress) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => arp(Operation::Request, MacAddress::BROADCAST, (mac, a), a).to_vec(),
        IpAddr::V6(a) => neighbour_advertisement(&nd_addresses(mac, a, ALL_NODES), a, false),
    }
}

fn ask(address: IpAddr, mac: MacAddress, about: u8) -> Vec<u8> {
    match address {
        // Never the sender's own address: that would be an announcement.
        IpAddr::V4(a) => {
            let target = Ipv4Addr::new(10, 2, 0, about);
            arp(Operation::Request, MacAddress::BROADCAST, (mac, a), target).to_vec()
        }
        IpAddr::V6(a) => {
            let target = v6(about);
            neighbour_solicitation(&nd_addresses(mac, a, solicited_node(target)), target)
        }
    }
}

fn probe(address: IpAddr, mac: MacAddress) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => {
            arp(Operation::Request, MacAddress::BROADCAST, (mac, Ipv4Addr::UNSPECIFIED), a).to_vec()
        }
        IpAddr::V6(a) => {
            neighbour_solicitation(&nd_addresses(mac, Ipv6Addr::UNSPECIFIED, solicited_node(a)), a)
        }
    }
}

fn nd_addresses(mac: MacAddress, source: Ipv6Addr, destination: Ipv6Addr) -> NdAddresses {
    NdAddresses { destination_mac: group_mac(destination), source_mac: mac, source, destination }
}

/// The naive model: a list, searched from the front.
#[derive(Default)]
struct Model(Vec<Binding>);

impl Model {
    fn holder(&mut self, address: IpAddr) -> Option<&mut Binding> {
        self.0.iter_mut().find(|b| b.address == address)
    }

    fn has_room(&self, owner: Owner) -> bool {
        self.0.len() < CAPACITY && self.0.iter().filter(|b| b.owner == owner).count() < ADDRESSES_PER_VIF_MAX
    }

    fn bind(&mut self, address: IpAddr, mac: MacAddress, owner: Owner) -> Result<(), Option<MacAddress>> {
        let registered = Binding { address, mac, owner, registered: true };
        if let Some(holder) = self.holder(address) {
            if holder.owner != owner {
                return Err(Some(holder.mac));
            }
            *holder = registered;
            return Ok(());
        }
        if !self.has_room(owner) {
            // The learned binding with the least address gives way.
            self.0.sort_by_key(|b| b.address);
            let Some(at) = self.0.iter().position(|b| b.owner == owner && !b.registered) else {
                return Err(None);
            };
            self.0.remove(at);
        }
        self.0.push(registered);
        Ok(())
    }

    /// Returns (learned, conflict).
    fn learn(&mut self, address: IpAddr, mac: MacAddress, owner: Owner) -> (bool, Option<MacAddress>) {
        if let Some(holder) = self.holder(address) {
            if holder.owner != owner {
                return (false, Some(holder.mac));
            }
            let changed = holder.mac != mac;
            holder.mac = mac;
            return (changed, None);
        }
        if !self.has_room(owner) {
            return (false, None);
        }
        self.0.push(Binding { address, mac, owner, registered: false });
        (true, None)
    }

    /// Who is asked for by `message` of `owner`, if the server is to answer.
    fn answers(&mut self, message: &ArpMessage, owner: Owner) -> Option<Binding> {
        let is_request = message.kind == ArpKind::Request && message.conflict.is_none();
        let holder = *self.holder(message.target?)?;
        (is_request && holder.registered && holder.owner != owner).then_some(holder)
    }
}

fn flooded(verdict: ArpVerdict) -> ArpMessage {
    match verdict {
        ArpVerdict::Flood { message } => message,
        other => panic!("a valid message to a group was not flooded: {other:?}"),
    }
}

/// Expects an answer where `model` knows one, which the holder itself could have sent to the asker.
fn answered(server: &ArpServer, model: &mut Model, verdict: ArpVerdict, owner: Owner) -> ArpMessage {
    let ArpVerdict::Answer { message, frame, holder } = verdict else {
        let message = flooded(verdict);
        assert_eq!(model.answers(&message, owner), None, "{message:?} was not answered");
        return message;
    };
    let known = model.answers(&message, owner).expect("nobody to answer for");
    let (asker, asker_mac) = message.sender.expect("nobody to answer");
    assert_eq!((holder, Some(known.address)), (known.owner, message.target));
    match server.clone().handle_frame(&frame, holder, known.mac) {
        ArpVerdict::Unicast { to, message: reply } => {
            assert_eq!((to, reply.kind, reply.target), (asker_mac, ArpKind::Reply, Some(asker)));
            assert_eq!(reply.sender, Some((known.address, known.mac)));
        }
        other => panic!("an answer that nobody could have sent: {other:?}"),
    }
    message
}

fn run(server: &mut ArpServer, model: &mut Model, step: Step, suppress: bool) {
    match step {
        Step::Bind { address, owner, second_mac } => {
            let mac = mac(owner, second_mac);
            let result = server.bind(address, mac, Owner(owner)).map_err(|error| match error {
                BindError::Conflict { holder } => Some(holder),
                _ => None,
            });
            assert_eq!(result, model.bind(address, mac, Owner(owner)));
        }
        Step::Unbind { address, owner } => {
            let before = model.0.len();
            model.0.retain(|b| b.address != address || b.owner != Owner(owner));
            assert_eq!(server.unbind(address, Owner(owner)), model.0.len() < before);
        }
        Step::Forget { owner } => {
            server.forget(Owner(owner));
            model.0.retain(|b| b.owner != Owner(owner));
        }
        Step::Announce { address, owner, second_mac } => {
            let mac = mac(owner, second_mac);
            let message = flooded(server.handle_frame(&announce(address, mac), Owner(owner), mac));
            let expected = model.learn(address, mac, Owner(owner));
            assert_eq!((message.learned, message.conflict), expected);
        }
        Step::Ask { address, owner, about } => {
            let mac = mac(owner, false);
            let verdict = server.handle_frame(&ask(address, mac, about), Owner(owner), mac);
            let expected = model.learn(address, mac, Owner(owner));
            let message =
                if suppress { answered(server, model, verdict, Owner(owner)) } else { flooded(verdict) };
            assert_eq!((message.learned, message.conflict), expected);
        }
        Step::Probe { address, owner } => {
            let mac = mac(owner, false);
            let message = flooded(server.handle_frame(&probe(address, mac), Owner(owner), mac));
            assert_eq!((message.sender, message.target, message.learned), (None, Some(address), false));
        }
    }
}

fn cases(default: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(default) }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_server_agrees_with_a_list_searched_from_the_front(
        steps in prop::collection::vec(step(), 1..400),
        suppress in any::<bool>(),
    ) {
        let mut server = ArpServer::new(&ArpConfig { capacity: CAPACITY, suppress });
        let mut model = Model::default();
        for step in steps {
            run(&mut server, &mut model, step, suppress);
            model.0.sort_by_key(|b| b.address);
            prop_assert_eq!(server.bindings().collect::<Vec<_>>(), model.0.clone());
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn hostile_octets_are_dropped_or_keep_the_rules(
        address in address(),
        kind in 0..3_u8,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let own = mac(1, false);
        let mut frame = match kind {
            0 => announce(address, own),
            1 => ask(address, own, 9),
            _ => probe(address, own),
        };
        for (at, octet) in flips {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        if cuts {
            frame.truncate(cut.index(frame.len()));
        }
        let mut server = ArpServer::new(&ArpConfig { capacity: 4, suppress: false });
        match server.handle_frame(&frame, Owner(1), own) {
            ArpVerdict::Drop(reason) => {
                let known = [DropReason::BadArp, DropReason::SourceMac, DropReason::TooShort, DropReason::Hairpin];
                prop_assert!(known.contains(&reason), "{}", reason);
                prop_assert!(server.is_empty());
            }
            ArpVerdict::Flood { message }
            | ArpVerdict::Unicast { message, .. }
            | ArpVerdict::Answer { message, .. } => {
                prop_assert_eq!(&frame[6..12], &own.0[..]);
                prop_assert_eq!(message.learned, server.len() == 1);
                prop_assert!(message.sender.is_none_or(|(_, mac)| mac == own));
                prop_assert!(server.bindings().all(|b| b.mac == own && b.owner == Owner(1)));
            }
        }
    }

    #[test]
    fn random_octets_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200), seven in any::<bool>()) {
        let mut frame = frame;
        if frame.len() >= 14 {
            frame[12..14].copy_from_slice(if seven { &[0x86, 0xdd] } else { &[0x08, 0x06] });
        }
        let source = frame.get(6..).and_then(MacAddress::from_octets).unwrap_or(mac(1, false));
        let mut server = ArpServer::new(&ArpConfig { capacity: 4, suppress: true });
        let _ = server.handle_frame(&frame, Owner(1), source);
    }
}

//! The fabrics between hosts: where processes have their sockets, and what becomes of a packet on its way.
//!
//! Each two processes that have packet legs to each other are joined by a [`Link`] for each fabric and direction, so
//! that a fault may lie on one direction, on one pair, on one host's port, or on a whole fabric.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vlan_core::random::Random;
use vlan_core::wire::control::LegAddress;
use vlan_core::{Instant, LegNumber};

use super::connections::Party;
use super::{Event, World};
use crate::packet::chance::corrupt;
use crate::packet::link::{Conditions, Link, LinkCounts, Overlay, OverlayId};
use crate::simulation::Simulation;

/// Octets that the sockets of one process hold: what a kernel gives a socket that asks for more than the default.
const SOCKET_OCTETS_MAX: usize = 1 << 20;
/// Packets of one batch, as the pumps take them.
const PACKETS_MAX: usize = 256;
/// The port of every socket.
const PORT: u16 = 7401;
/// In the last octet of an address: nodes from 1 on, control nodes from here on.
const FIRST_CONTROL: u8 = 200;

/// Where a process receives on a fabric. Another life of it receives there too.
pub(super) fn address(party: Party, leg: LegNumber) -> LegAddress {
    let last = match party {
        Party::Node(node) => node as u8 + 1,
        Party::Control(control) => FIRST_CONTROL + control as u8,
    };
    LegAddress::Udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2 + leg.0, last)), PORT))
}

/// Who receives at an address.
fn party_at(address: LegAddress) -> Option<Party> {
    let LegAddress::Udp(SocketAddr::V4(address)) = address else { return None };
    match address.ip().octets()[3] {
        0 => None,
        node if node < FIRST_CONTROL => Some(Party::Node(usize::from(node) - 1)),
        control => Some(Party::Control(usize::from(control - FIRST_CONTROL))),
    }
}

/// A packet in a socket.
#[derive(Debug)]
pub(super) struct Datagram {
    leg: LegNumber,
    from: LegAddress,
    octets: Vec<u8>,
}

/// The sockets of a process, one a fabric, as one queue.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    waiting: VecDeque<Datagram>,
    octets: usize,
}

impl Sockets {
    /// A packet arrives; it is lost when there is no room.
    fn arrive(&mut self, datagram: Datagram) {
        if self.octets + datagram.octets.len() <= SOCKET_OCTETS_MAX {
            self.octets += datagram.octets.len();
            self.waiting.push_back(datagram);
        }
    }

    fn take(&mut self) -> Option<Datagram> {
        let datagram = self.waiting.pop_front()?;
        self.octets -= datagram.octets.len();
        Some(datagram)
    }
}

/// Which links a fault lies on: those that fit all that is given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub leg: Option<LegNumber>,
    pub from: Option<Party>,
    pub to: Option<Party>,
}

impl Place {
    fn has(&self, (leg, from, to): &(LegNumber, Party, Party)) -> bool {
        self.leg.is_none_or(|own| own == *leg)
            && self.from.is_none_or(|own| own == *from)
            && self.to.is_none_or(|own| own == *to)
    }

    /// The opposite direction.
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from, ..self }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Underlay {
    links: BTreeMap<(LegNumber, Party, Party), Link>,
    random: Random,
    overlays: u64,
}

impl Underlay {
    /// Fabrics of these legs between these processes, each way with the conditions of its leg.
    pub fn new(fabrics: &[Conditions], parties: &[Party], seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7563_6465_726c_6179);
        let mut links = BTreeMap::new();
        for (leg, way) in (0..).map(LegNumber).zip(fabrics) {
            for &from in parties {
                for &to in parties.iter().filter(|to| **to != from) {
                    links.insert((leg, from, to), Link::new(*way, random.next_u64()));
                }
            }
        }
        Self { links, random, overlays: 0 }
    }

    /// Takes a packet and says when it arrives, and as what: not at all, once or twice.
    fn carry(
        &mut self,
        now: Instant,
        name: (LegNumber, Party, Party),
        octets: &[u8],
    ) -> Vec<(Instant, Vec<u8>)> {
        let Some(link) = self.links.get_mut(&name) else { return Vec::new() };
        let (first, copy) = link.carry(now, octets.len());
        let mut arriving = Vec::new();
        for arrival in first.into_iter().chain(copy) {
            let mut octets = octets.to_vec();
            if arrival.is_corrupt {
                corrupt(&mut self.random, &mut octets);
            }
            arriving.push((arrival.at, octets));
        }
        arriving
    }

    /// Lays a fault over all links of these places.
    pub fn lay(&mut self, places: &[Place], overlay: Overlay) -> OverlayId {
        self.overlays += 1;
        let id = OverlayId(self.overlays);
        let is_meant = |name: &(LegNumber, Party, Party)| places.iter().any(|place| place.has(name));
        self.links.iter_mut().filter(|(name, _)| is_meant(name)).for_each(|(_, link)| link.lay(id, overlay));
        id
    }

    /// Takes a fault away.
    pub fn lift(&mut self, id: OverlayId) {
        self.links.values_mut().for_each(|link| link.lift(id));
    }

    /// Takes all faults away.
    pub fn heal(&mut self) {
        self.links.values_mut().for_each(Link::heal);
    }

    /// What happened on all links together.
    pub fn counts(&self) -> LinkCounts {
        let mut sum = LinkCounts::default();
        for link in self.links.values() {
            sum.add(&link.counts);
        }
        sum
    }
}

impl World {
    /// The sockets of a process.
    fn sockets(&mut self, party: Party) -> &mut Sockets {
        match party {
            Party::Node(node) => &mut self.nodes[node].sockets,
            Party::Control(control) => &mut self.controls[control].sockets,
        }
    }

    /// A packet reaches the socket of a process, which wakes if it lives.
    pub(super) fn packet_arrives(&mut self, to: Party, leg: LegNumber, from: LegAddress, octets: Vec<u8>) {
        if self.is_running(to) {
            self.sockets(to).arrive(Datagram { leg, from, octets });
            self.wake(to);
        }
    }

    /// The packets that a batch takes from its sockets, before anything else: no verdict may come before what has
    /// arrived is looked at.
    pub(super) fn take_packets(
        &mut self,
        now: Instant,
        party: Party,
    ) -> Vec<(LegNumber, LegAddress, Vec<u8>)> {
        let sockets = self.sockets(party);
        let taken: Vec<_> = std::iter::from_fn(|| sockets.take()).take(PACKETS_MAX).collect();
        let name = self.place_of(party);
        for datagram in &taken {
            self.journal.record(now, &[6, name, u64::from(datagram.leg.0), datagram.octets.len() as u64]);
        }
        taken.into_iter().map(|Datagram { leg, from, octets }| (leg, from, octets)).collect()
    }

    /// True when a batch left packets in the sockets.
    pub(super) fn has_packets(&mut self, party: Party) -> bool {
        !self.sockets(party).waiting.is_empty()
    }

    /// A process sends packets of `segment_len` octets each, the last perhaps shorter.
    pub(super) fn send_packets(
        &mut self,
        now: Instant,
        party: Party,
        (leg, to, segment_len): (LegNumber, LegAddress, usize),
        octets: &[u8],
    ) {
        let Some(receiver) = party_at(to) else { return };
        let from = address(party, leg);
        for packet in octets.chunks(segment_len.max(1)) {
            for (at, octets) in self.underlay.carry(now, (leg, party, receiver), packet) {
                self.queue.schedule(at, Event::Arrive { to: receiver, leg, from, octets });
            }
        }
    }

    /// A number for each process, for the journal.
    fn place_of(&self, party: Party) -> u64 {
        match party {
            Party::Node(node) => node as u64,
            Party::Control(control) => (self.nodes.len() + control) as u64,
        }
    }

    /// True while a process serves this place.
    pub(super) fn is_running(&self, party: Party) -> bool {
        match party {
            Party::Node(node) => self.nodes[node].machine.is_some(),
            Party::Control(control) => self.controls[control].machine.is_some(),
        }
    }

    /// Lays a fault over the fabrics until `until`.
    pub(super) fn lay_until(&mut self, places: &[Place], overlay: Overlay, until: Instant) {
        let id = self.underlay.lay(places, overlay);
        self.queue.schedule(until, Event::Lift { id });
    }

    /// Nothing passes between a node and everybody else, by one fabric or by all, for `lasts`.
    pub fn isolate(&mut self, node: usize, leg: Option<LegNumber>, lasts: Duration) {
        let out = Place { leg, from: Some(Party::Node(node)), to: None };
        let until = self.now() + lasts;
        self.lay_until(&[out, out.back()], Overlay::Dead, until);
    }

    /// The same for the control node.
    pub fn isolate_control(&mut self, leg: Option<LegNumber>, lasts: Duration) {
        let out = Place { leg, from: Some(Party::Control(0)), to: None };
        let until = self.now() + lasts;
        self.lay_until(&[out, out.back()], Overlay::Dead, until);
    }

    /// Nothing passes between two nodes, by one fabric or by all, for `lasts`; what they have to others does.
    pub fn part(&mut self, a: usize, b: usize, leg: Option<LegNumber>, lasts: Duration) {
        let place = Place { leg, from: Some(Party::Node(a)), to: Some(Party::Node(b)) };
        let until = self.now() + lasts;
        self.lay_until(&[place, place.back()], Overlay::Dead, until);
    }

    /// A fault lies over all fabrics everywhere until everything is healed.
    pub fn lay_everywhere(&mut self, overlay: Overlay) {
        let _ = self.underlay.lay(&[Place::default()], overlay);
    }

    /// A fault lies over the way from the control node to a node, by all fabrics, for `lasts`.
    pub fn lay_towards(&mut self, node: usize, overlay: Overlay, lasts: Duration) {
        let place = Place { leg: None, from: Some(Party::Control(0)), to: Some(Party::Node(node)) };
        let until = self.now() + lasts;
        self.lay_until(&[place], overlay, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Party = Party::Node(3);
    const CONTROL: Party = Party::Control(0);
    const LEG: LegNumber = LegNumber(1);

    fn arrivals(underlay: &mut Underlay, from: Party, to: Party) -> usize {
        underlay.carry(Instant::ZERO, (LEG, from, to), &[7; 60]).len()
    }

    #[test]
    fn an_address_names_its_process_and_fabric() {
        for party in [NODE, CONTROL, Party::Node(0)] {
            assert_eq!(party_at(address(party, LEG)), Some(party));
        }
        assert_ne!(address(NODE, LEG), address(NODE, LegNumber(0)));
    }

    #[test]
    fn a_fault_lies_on_its_place_alone_and_is_taken_away() {
        let way = Conditions::calm(Duration::from_micros(10));
        let mut underlay = Underlay::new(&[way; 2], &[CONTROL, NODE, Party::Node(0)], 1);
        let out = Place { leg: Some(LEG), from: Some(NODE), to: None };
        let id = underlay.lay(&[out], Overlay::Dead);
        assert_eq!([arrivals(&mut underlay, NODE, CONTROL), arrivals(&mut underlay, CONTROL, NODE)], [0, 1]);
        assert_eq!(arrivals(&mut underlay, CONTROL, Party::Node(0)), 1);
        underlay.lay(&[out.back()], Overlay::Dead);
        assert_eq!(arrivals(&mut underlay, CONTROL, NODE), 0);
        underlay.lift(id);
        assert_eq!(arrivals(&mut underlay, NODE, CONTROL), 1);
        underlay.heal();
        assert_eq!(arrivals(&mut underlay, CONTROL, NODE), 1);
        assert_eq!(underlay.counts().lost, 2);
    }
}

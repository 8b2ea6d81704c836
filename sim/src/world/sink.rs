//! The devices of a node: what its machine delivers goes to the checker and to the stacks.

use std::collections::BTreeMap;

use rvi::SharedOctets;
use switch_node::node::{Delivery, FrameSink};
use vlan_core::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, EthernetHeader, is_neighbour_resolution};
use vlan_core::group::query::QUERIER_MAC;
use vlan_core::random::Random;
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, VifNumber};

use super::outside::SYSTEM_MAC;
use crate::checker::{Checker, StationIndex, Violation};
use crate::frame;
use crate::journal::Journal;
use crate::plan::{Plan, StationPlan};
use crate::segment::Segment;
use crate::stack::Stack;

/// The devices of one node during one batch.
pub(super) struct Devices<'a> {
    pub now: Instant,
    pub node: usize,
    pub plan: &'a Plan,
    pub stations: &'a [StationPlan],
    /// Which stations' devices are promiscuous.
    pub promiscuous: &'a [bool],
    pub stacks: &'a mut BTreeMap<u16, Stack>,
    pub checker: &'a mut Checker,
    pub journal: &'a mut Journal,
    pub random: &'a mut Random,
    /// Of 100 frames, how many the device refuses.
    pub refuse_percent: u64,
    pub violation: &'a mut Option<Violation>,
    /// Nothing that comes here is judged.
    pub is_hostile: bool,
    pub refused: u64,
    pub delivered: u64,
    /// Segments of TCP that stacks got, with their stations.
    pub segments: Vec<(usize, Segment)>,
}

impl FrameSink for Devices<'_> {
    fn deliver(&mut self, vif: VifNumber, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        let mut octets = head.to_vec();
        octets.resize(head.len() + rest.len(), 0);
        rest.copy_to(&mut octets[head.len()..]);
        if !self.stacks.contains_key(&vif.0) {
            // The machine has just got this interface; its host has not made the device yet.
            self.journal.trace(self.now, format_args!("node {}: no device {vif} yet", self.node));
            self.refused += 1;
            return Delivery::DeviceFull;
        }
        let refuse = self.refuse_percent > 0 && self.random.below(100) < self.refuse_percent;
        let verdict = self.judge(vif, vnet, &octets, refuse);
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
        if refuse {
            self.refused += 1;
            Delivery::DeviceFull
        } else {
            self.delivered += 1;
            Delivery::Taken
        }
    }
}

impl Devices<'_> {
    fn judge(&mut self, vif: VifNumber, vnet: &Vnet, octets: &[u8], refuse: bool) -> Result<(), Violation> {
        let Some(station) = self.stations.iter().position(|s| s.node == self.node && s.vif == vif) else {
            return Err(self.broken(vif, "a frame for an interface that the platform does not have"));
        };
        if self.promiscuous[station] && self.plan.listeners.contains(&station) {
            // A machine that has just heard of the permission may have copies before its host has heard of it.
            self.checker.set_listens(self.now, StationIndex(station), true);
        }
        let is_resolution =
            EthernetHeader::parse(octets).is_some_and(|h| is_neighbour_resolution(h.ethertype, octets));
        if is_resolution {
            self.check_lan(vif, station, octets)?;
            if !self.is_own(station, octets) {
                return self.check_listens(vif, station);
            }
            self.journal.record(self.now, &[3, station as u64, octets.len() as u64]);
            if let (Some(stack), false) = (self.stacks.get_mut(&vif.0), refuse) {
                stack.handle_resolution(self.now, octets);
            }
            return Ok(());
        }
        // What comes from outside for nobody comes to listeners, as it was there.
        if EthernetHeader::parse(octets).is_some_and(|h| h.destination == SYSTEM_MAC) {
            return self.check_listens(vif, station);
        }
        // Queries are the fabric's own; these stacks answer none, as their hosts say what they have joined.
        let is_query = EthernetHeader::parse(octets).is_some_and(|h| h.source == QUERIER_MAC);
        if is_query || self.is_hostile || self.is_hostiles_own(station, octets) {
            return Ok(());
        }
        if let Some(segment) = Segment::parse(octets) {
            if !self.is_own(station, octets) {
                return self.check_listens(vif, station);
            }
            self.segments.extend((!refuse).then_some((station, segment)));
            return Ok(());
        }
        let numbering = self.checker.frame_arrived(self.now, StationIndex(station), vnet, octets, refuse)?;
        self.journal.record(
            self.now,
            &[4, station as u64, u64::from(numbering.flow), u64::from(numbering.number), u64::from(refuse)],
        );
        self.journal.trace(
            self.now,
            format_args!("station {station} gets flow {} number {}", numbering.flow, numbering.number),
        );
        debug_assert_eq!(frame::parse(octets), Some(numbering));
        Ok(())
    }

    /// The IP addresses in ARP and ND say which LAN they were made on.
    fn check_lan(&self, vif: VifNumber, station: usize, octets: &[u8]) -> Result<(), Violation> {
        let lan = self.plan.lans[self.stations[station].lan].id;
        let of = match EthernetHeader::parse(octets).map(|h| h.ethertype) {
            Some(ETHERTYPE_ARP) => octets.get(39).copied(),
            Some(ETHERTYPE_IPV6) => octets.get(65).copied(),
            _ => None,
        };
        if of == Some(lan.0 as u8) || self.plan.hostile.is_some() {
            return Ok(());
        }
        Err(self.broken(vif, "ARP or ND of another LAN"))
    }

    /// True for a frame to the station itself or to a group: its stack takes no others.
    fn is_own(&self, station: usize, octets: &[u8]) -> bool {
        let destination = EthernetHeader::parse(octets).map(|header| header.destination);
        destination.is_none_or(|to| to.is_group() || to == self.stations[station].mac)
    }

    /// A frame to somebody else comes to listeners alone.
    fn check_listens(&self, vif: VifNumber, station: usize) -> Result<(), Violation> {
        if self.checker.may_overhear(self.now, StationIndex(station))
            || self.plan.hostile.is_some()
            || self.is_hostile
        {
            return Ok(());
        }
        Err(self.broken(vif, "ARP or ND for somebody else"))
    }

    /// What a hostile member makes up under its own MAC may reach the other members of that MAC's LAN.
    fn is_hostiles_own(&self, station: usize, octets: &[u8]) -> bool {
        let source = EthernetHeader::parse(octets).map(|h| h.source);
        let of_hostile = |s: &&StationPlan| Some(s.node) == self.plan.hostile && Some(s.mac) == source;
        self.stations.iter().find(of_hostile).is_some_and(|s| s.lan == self.stations[station].lan)
    }

    fn broken(&self, vif: VifNumber, what: &str) -> Violation {
        let detail = format!("node {} vif {vif}: {what}", Plan::number(self.node));
        Violation { invariant: "nothing reaches a non-member", at: self.now, detail }
    }
}

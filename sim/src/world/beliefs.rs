//! What stacks believe of their neighbours: where addresses are checked, no station has another one's.

use std::net::{IpAddr, Ipv6Addr};

use switch_node::node::Node;
use vlan_core::{DropReason, Instant, VifNumber};

use super::World;
use crate::checker::Violation;
use crate::simulation::Simulation;
use crate::stack::{PLAIN, advertisement, arp};

impl World {
    /// Checks that the stacks of a node know each address at its own station, on the LANs that check addresses.
    pub(super) fn check_beliefs(&mut self, node: usize) {
        if self.plan.hostile.is_none() || self.plan.hostile == Some(node) {
            return;
        }
        let own = self.stations.iter().filter(|s| s.node == node && self.plan.lans[s.lan].checks_addresses);
        let believed =
            own.filter_map(|station| Some((station.lan, self.nodes[node].stacks.get(&station.vif.0)?)));
        let wrong = believed
            .flat_map(|(lan, stack)| stack.neighbours().map(move |(a, mac)| (lan, a, mac)))
            .find(|&(lan, address, mac)| {
                let mut of_lan = self.stations.iter().filter(|station| station.lan == lan);
                let has = |s: &crate::plan::StationPlan| [s.ipv4.address, s.ipv6.address].contains(&address);
                !of_lan.any(|station| has(station) && station.mac == mac)
            });
        if let Some((_, address, mac)) = wrong {
            let detail = format!("node {node} believes that {address} is at {mac}");
            let invariant = "nobody has another one's address";
            self.break_invariant(Violation { invariant, at: self.now(), detail });
        }
    }

    /// Says of the addresses of others that they are the hostile node's, to everybody and to one of them.
    pub(super) fn send_forged(&mut self, now: Instant, machine: &mut Node, vif: VifNumber) {
        let Some(node) = self.plan.hostile else { return };
        let own = self.stations.iter().find(|s| s.node == node && s.vif == vif);
        let Some(own) = own.filter(|own| self.plan.lans[own.lan].checks_addresses).copied() else { return };
        let others: Vec<_> =
            self.stations.iter().filter(|s| s.lan == own.lan && s.node != node).copied().collect();
        let mut pick = || others[self.random.below(others.len() as u64) as usize];
        let (victim, listener) = (pick(), pick());
        let (IpAddr::V4(address), IpAddr::V4(asker)) = (victim.ipv4.address, listener.ipv4.address) else {
            return;
        };
        let (IpAddr::V6(neighbour), IpAddr::V6(to)) = (victim.ipv6.address, listener.ipv6.address) else {
            return;
        };
        let probe = Ipv6Addr::from(neighbour.to_bits());
        for frame in [
            arp(2, own.mac, address.octets(), listener.mac, asker.octets()),
            arp(1, own.mac, address.octets(), listener.mac, asker.octets()),
            advertisement(own.mac, probe, Some((to, listener.mac))),
            advertisement(own.mac, probe, None),
        ] {
            let _ = machine.send_frame(now, vif, &PLAIN, &frame);
        }
    }

    /// Frames must have been refused for an address that is not their sender's.
    ///
    /// # Errors
    /// When fewer were.
    pub fn expect_refused_sources(&self, least: u64) -> Result<(), Violation> {
        let refused = self.losses().drops.of(DropReason::SourceAddress);
        if refused >= least {
            return Ok(());
        }
        let detail = format!("{refused} frames were refused, {least} are expected");
        Err(Violation { invariant: "forged frames are refused", at: self.now(), detail })
    }
}

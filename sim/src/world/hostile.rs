//! A node whose tenant is root: it runs the ordinary machine, so that it is attached and has legs, and writes
//! what it likes into its own memory and its own interfaces.

use std::time::Duration;

use rvi::ring::layout::{self, SLOTS};
use switch_node::node::Node;
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, VifNumber};

use super::connections::{Party, Side};
use super::{Event, World};
use crate::coverage::Fault;

/// Pause between two acts.
const PAUSE: Duration = Duration::from_millis(2);
/// Words of a region that say something to the other end.
const WORDS: [usize; 7] = [
    layout::DATA_TAIL,
    layout::CONTROL_TAIL,
    layout::DATA_HEAD,
    layout::DATA_HEAD + 4,
    layout::CONTROL_HEAD,
    layout::CONTROL_HEAD + 4,
    layout::STATE,
];

impl World {
    pub(super) fn hostile_acts(&mut self, now: Instant) {
        let Some(node) = self.plan.hostile else { return };
        let next = self.soon(PAUSE * 2) + Duration::from_micros(50);
        if self.plan.fault_menu.contains(&Fault::Hostile) {
            self.queue.schedule(next, Event::Hostile);
        } else {
            return;
        }
        self.count_fault_of(Fault::Hostile, Party::Node(node));
        match self.random.below(4) {
            0 => self.send(now, node, Self::send_nonsense_on),
            1 => self.send(now, node, Self::send_forged),
            _ => self.write_nonsense(node),
        }
        self.wake(Party::Node(node));
    }

    /// Changes octets of a region that the hostile node owns: anything, a control word, or a bit of a slot.
    fn write_nonsense(&mut self, node: usize) {
        let own = self.open_connections().filter_map(|(_, c)| {
            let of = |side| (c.end(side).party == Party::Node(node)).then(|| c.end(side));
            let end = of(Side::First).or_else(|| of(Side::Second))?;
            let peer = if of(Side::First).is_some() { c.second.party } else { c.first.party };
            if c.is_whole() { Some((end.region.clone()?, peer)) } else { None }
        });
        let regions: Vec<_> = own.collect();
        if regions.is_empty() {
            return;
        }
        let (region, peer) = regions[self.random.below(regions.len() as u64) as usize].clone();
        match self.random.below(10) {
            0 => {
                let at = self.random.below(region.len() as u64 - 8) as usize;
                region.write(at, &self.random.next_u64().to_le_bytes());
            }
            1 => {
                let word = WORDS[self.random.below(WORDS.len() as u64) as usize];
                let value = (self.random.next_u64() >> self.random.below(64)) as u32;
                region.write(word, &value.to_le_bytes());
            }
            _ => {
                // Slots hold whole headers and short frames: one bit of one that is likely to be in use.
                for _ in 0..8 {
                    let span = (region.len() - SLOTS).min(64 * 64) as u64;
                    let at = SLOTS + self.random.below(span) as usize;
                    let mut octet = [0];
                    region.read(at, &mut octet);
                    if octet[0] != 0 {
                        octet[0] ^= 1 << self.random.below(8);
                        region.write(at, &octet);
                    }
                }
            }
        }
        self.wake(peer);
    }

    /// Sends something on each interface of the node.
    fn send(&mut self, now: Instant, node: usize, send_on: fn(&mut Self, Instant, &mut Node, VifNumber)) {
        let Some(mut machine) = self.nodes[node].machine.take() else { return };
        let vifs: Vec<u16> = self.nodes[node].stacks.keys().copied().collect();
        for vif in vifs {
            send_on(self, now, &mut machine, VifNumber(vif));
        }
        self.nodes[node].machine = Some(machine);
    }

    /// Sends frames that no honest stack would: false sources, no length, wrong lengths, any octets.
    fn send_nonsense_on(&mut self, now: Instant, machine: &mut Node, vif: VifNumber) {
        let target = self.stations[self.random.below(self.stations.len() as u64) as usize];
        let other = self.stations[self.random.below(self.stations.len() as u64) as usize];
        let mut frame = vec![0; self.random.below(400) as usize];
        for octet in &mut frame {
            *octet = self.random.next_u64() as u8;
        }
        if frame.len() >= 64 && self.chance(80) {
            frame[..6].copy_from_slice(&target.mac.0);
            frame[6..12].copy_from_slice(&other.mac.0);
            let ethertype = [[0x08, 0x00], [0x08, 0x06], [0x86, 0xdd]][self.random.below(3) as usize];
            frame[12..14].copy_from_slice(&ethertype);
        }
        let vnet = Vnet {
            flags: self.random.below(4) as u8,
            gso_type: [0, 1, 4, 5, 9][self.random.below(5) as usize],
            gso_size: self.random.below(3000) as u16,
            ..Vnet::default()
        };
        let _ = machine.send_frame(now, vif, &vnet, &frame);
    }
}

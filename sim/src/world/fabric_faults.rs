//! Faults of the fabrics between hosts: what each does to the packets of one host, where, and for how long.

use std::time::Duration;

use vlan_core::{Instant, LegNumber};

use super::World;
use super::connections::Party;
use super::underlay::Place;
use crate::coverage::Fault;
use crate::packet::chance::Ppm;
use crate::packet::link::{Bursts, Overlay};

impl World {
    /// Lays a fault over ways of a node that is on a host of its own.
    pub(super) fn inject_into_fabrics(&mut self, now: Instant, fault: Fault) {
        if self.plan.elsewhere.is_empty() {
            return;
        }
        let node = self.plan.elsewhere[self.random.below(self.plan.elsewhere.len() as u64) as usize];
        let overlay = self.draw_overlay(fault);
        let lasts = self.draw_length(fault);
        let places = self.draw_places(fault, Party::Node(node));
        self.count_fault_of(fault, Party::Node(node));
        self.lay_until(&places, overlay, now + lasts);
    }

    fn draw_overlay(&mut self, fault: Fault) -> Overlay {
        let percent = Ppm::percent(1 + self.random.below(40) as u32);
        match fault {
            Fault::Loss => Overlay::Loss(percent),
            Fault::Bursts => {
                let bad = Duration::from_micros([50, 100, 1_000, 5_000][self.random.below(4) as usize]);
                let good = bad * (4 + self.random.below(30) as u32);
                Overlay::Bursts(Bursts { good, bad, loss: Ppm::percent(50 + self.random.below(51) as u32) })
            }
            Fault::Corruption => Overlay::Corruption(percent),
            Fault::Duplication => Overlay::Duplication(percent),
            Fault::Reordering => {
                Overlay::Reordering(percent, Duration::from_micros(10 + self.random.below(2_000)))
            }
            Fault::DelaySpike => Overlay::Delay(Duration::from_micros(100 + self.random.below(10_000))),
            _ => Overlay::Dead,
        }
    }

    /// Most faults are short against a verdict on a leg; some isolations outlast a control session.
    fn draw_length(&mut self, fault: Fault) -> Duration {
        let us = match self.random.below(4) {
            0 => 50 + self.random.below(2_000),
            1 | 2 => 1_000 + self.random.below(30_000),
            _ if fault == Fault::Isolation => 200_000 + self.random.below(1_300_000),
            _ => 10_000 + self.random.below(150_000),
        };
        Duration::from_micros(us)
    }

    /// The ways that a fault lies on: of one fabric or of all, one direction or both, of a host's port or of one pair.
    fn draw_places(&mut self, fault: Fault, party: Party) -> Vec<Place> {
        let one = Some(LegNumber(self.random.below(u64::from(self.plan.fabrics)) as u8));
        let is_pair = self.chance(30);
        let other = self.draw_other(party);
        let out = Place { leg: one, from: Some(party), to: other.filter(|_| is_pair) };
        match fault {
            Fault::Isolation => {
                let all = Place { leg: None, to: None, ..out };
                vec![all, all.back()]
            }
            Fault::PortDeath => vec![out, out.back()],
            Fault::OneWayDeath => vec![if self.chance(50) { out } else { out.back() }],
            _ => {
                let out = Place { leg: one.filter(|_| !self.chance(40)), ..out };
                match self.random.below(4) {
                    0 => vec![out],
                    1 => vec![out.back()],
                    _ => vec![out, out.back()],
                }
            }
        }
    }

    /// Another process.
    fn draw_other(&mut self, party: Party) -> Option<Party> {
        let control = self.random.below(self.controls.len() as u64) as usize;
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let drawn = if self.chance(50) { Party::Control(control) } else { Party::Node(node) };
        Some(drawn).filter(|drawn| *drawn != party)
    }
}

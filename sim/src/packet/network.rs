//! The fabrics and the relay between the two ends: each leg is two links, one a direction.

use std::time::Duration;

use vlan_core::Instant;
use vlan_core::random::Random;

use super::chance::{Ppm, corrupt};
use super::link::{Arrival, Conditions, Link, Overlay, OverlayId};
use super::side::Side;

/// The id of the relay leg.
pub const RELAY_LEG: u8 = 14;

/// A leg of the plan.
#[derive(Clone, Copy, Debug)]
pub struct LegPlan {
    /// Its id: the fabric's number, or [`RELAY_LEG`].
    pub id: u8,
    /// The longest packet that both ends send on it.
    pub packet_len_max: usize,
    /// The direction from [`Side::A`] to [`Side::B`], and back.
    pub ways: [Conditions; 2],
}

impl LegPlan {
    /// A leg that is the same both ways, with packets as they pass a fabric with an MTU of 1500.
    #[must_use]
    pub const fn both_ways(id: u8, way: Conditions) -> Self {
        Self { id, packet_len_max: 1472, ways: [way, way] }
    }

    /// True for a leg through a control node.
    #[must_use]
    pub const fn is_relay(&self) -> bool {
        self.id >= RELAY_LEG
    }
}

/// A leg of the network.
#[derive(Debug)]
struct NetworkLeg {
    plan: LegPlan,
    /// By sending side.
    links: [Link; 2],
}

/// A packet that will arrive.
#[derive(Debug)]
pub struct Delivery {
    /// When.
    pub at: Instant,
    /// On which leg's socket.
    pub leg: u8,
    /// The packet as it arrives.
    pub packet: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    legs: Vec<NetworkLeg>,
    /// The cables of legs 0 and 1 are exchanged at one end.
    pub is_crossed: bool,
    random: Random,
    overlays: u64,
}

impl Network {
    /// The network of `legs`.
    #[must_use]
    pub fn new(legs: &[LegPlan], seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6e65_7477_6f72_6b73);
        let legs = legs
            .iter()
            .map(|plan| NetworkLeg {
                plan: *plan,
                links: plan.ways.map(|way| Link::new(way, random.next_u64())),
            })
            .collect();
        Self { legs, is_crossed: false, random, overlays: 0 }
    }

    /// The legs as planned.
    pub fn legs(&self) -> impl Iterator<Item = &LegPlan> {
        self.legs.iter().map(|leg| &leg.plan)
    }

    /// Takes a packet that `from` sends on `leg`; says what arrives, in the order of the sending.
    pub fn send(
        &mut self,
        now: Instant,
        from: Side,
        leg: u8,
        packet: &[u8],
        mut arrives: impl FnMut(Delivery),
    ) {
        let Some(place) = self.legs.iter().position(|l| l.plan.id == leg) else { return };
        let (first, copy) = self.legs[place].links[from.index()].carry(now, packet.len());
        let leg = if self.is_crossed && leg < 2 { 1 - leg } else { leg };
        for Arrival { at, is_corrupt } in [first, copy].into_iter().flatten() {
            let mut packet = packet.to_vec();
            if is_corrupt {
                corrupt(&mut self.random, &mut packet);
            }
            arrives(Delivery { at, leg, packet });
        }
    }

    /// A link: the direction of a leg that `from` sends on.
    #[must_use]
    pub fn link(&self, leg: u8, from: Side) -> Option<&Link> {
        self.legs.iter().find(|l| l.plan.id == leg).map(|l| &l.links[from.index()])
    }

    /// Lays a fault over the direction of a leg that `from` sends on, or over both without one.
    pub fn lay(&mut self, leg: u8, from: Option<Side>, overlay: Overlay) -> OverlayId {
        self.overlays += 1;
        let id = OverlayId(self.overlays);
        for side in Side::BOTH {
            if from.is_none_or(|from| from == side)
                && let Some(found) = self.legs.iter_mut().find(|l| l.plan.id == leg)
            {
                found.links[side.index()].lay(id, overlay);
            }
        }
        id
    }

    /// Takes a fault away.
    pub fn lift(&mut self, id: OverlayId) {
        self.links_mut().for_each(|link| link.lift(id));
    }

    /// Takes all faults away.
    pub fn heal(&mut self) {
        self.is_crossed = false;
        self.links_mut().for_each(Link::heal);
    }

    fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.legs.iter_mut().flat_map(|leg| &mut leg.links)
    }

    /// True when some direct leg delivers 95 of 100 packets each way.
    #[must_use]
    pub fn has_able_leg(&self) -> bool {
        let able = |leg: &NetworkLeg| {
            !leg.plan.is_relay() && leg.links.iter().all(|l| l.conditions().is_able(leg.plan.packet_len_max))
        };
        !self.is_crossed && self.legs.iter().any(able)
    }

    /// True when nothing can have been lost or turned over on any leg, as far as the conditions say.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        let lossless = |link: &Link| {
            let c = link.conditions();
            c.loss.or(c.corruption) == Ppm(0) && c.bursts.is_none() && !c.is_dead && c.rate.is_none()
        };
        !self.is_crossed && self.legs.iter().flat_map(|leg| &leg.links).all(lossless)
    }

    /// How much the way of a packet may vary on any direct leg, one direction.
    #[must_use]
    pub fn jitter_max(&self) -> Duration {
        let links = self.legs.iter().filter(|l| !l.plan.is_relay()).flat_map(|l| &l.links);
        links.map(|l| l.conditions().jitter).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let way = Conditions::calm(Duration::from_micros(10));
        let ids = [0, 1, RELAY_LEG];
        Network::new(&ids.map(|id| LegPlan::both_ways(id, way)), 1)
    }

    fn arrivals(network: &mut Network, leg: u8) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        network.send(Instant::ZERO, Side::A, leg, &[7; 60], |d| all.push((d.leg, d.packet)));
        all
    }

    #[test]
    fn a_dead_direction_leaves_the_other_alone() {
        let mut network = network();
        let id = network.lay(0, Some(Side::B), Overlay::Dead);
        assert_eq!(arrivals(&mut network, 0), [(0, vec![7; 60])]);
        assert!(network.has_able_leg() && !network.is_lossless());
        network.lay(1, None, Overlay::Dead);
        assert!(!network.has_able_leg());
        network.lift(id);
        assert!(network.has_able_leg());
    }

    #[test]
    fn crossed_cables_deliver_on_the_other_leg_and_corruption_changes_octets() {
        let mut network = network();
        network.is_crossed = true;
        assert_eq!(arrivals(&mut network, 0)[0].0, 1);
        assert_eq!(arrivals(&mut network, RELAY_LEG)[0].0, RELAY_LEG);
        network.heal();
        network.lay(1, None, Overlay::Corruption(Ppm::ALL));
        assert_ne!(arrivals(&mut network, 1), [(1, vec![7; 60])]);
    }
}

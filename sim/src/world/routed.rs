//! Packets of members for stations that only the cluster's routers lead to: each goes to a router's stack, which takes it for passed on.
//!
//! They check S129: none reaches anybody else, a router that drains, or one router twice; and at the end that every member has a way
//! to everywhere, and that all packets between two stations go one way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use vlan_core::Instant;

use super::World;
use super::cluster::Cluster;
use crate::checker::{StationIndex, Violation};
use crate::segment::{Segment, flags};
use crate::simulation::Simulation;

/// The port of all of them, which no call has.
pub(super) const ROUTED_PORT: u16 = 9;
/// Stations behind the routers, of each family.
const FAR: u64 = 16;
/// How long the packets of the end may take: neighbours are asked for again within 150 ms.
const WAY_MAX: Duration = Duration::from_secs(3);

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed {
    source: IpAddr,
    far: IpAddr,
    sent: Instant,
    /// The node whose stack has got it last.
    taken: Option<usize>,
}

impl World {
    /// A member sends something far away now and then.
    pub(super) fn send_far_away(&mut self, now: Instant) {
        if !self.cluster.as_ref().is_some_and(Cluster::routes) || !self.chance(30) {
            return;
        }
        let clients = self.members_that_call();
        if !clients.is_empty() {
            let client = clients[self.random.below(clients.len() as u64) as usize];
            let (far, over_ipv4) = (self.random.below(FAR) as u8, self.chance(50));
            self.send_to_far(now, client, far, over_ipv4);
        }
    }

    /// Returns the packet's number.
    fn send_to_far(&mut self, now: Instant, client: usize, far: u8, over_ipv4: bool) -> usize {
        let station = self.stations[client];
        let (source, far): (_, IpAddr) = match over_ipv4 {
            true => (station.ipv4.address, Ipv4Addr::new(198, 18, 0, far).into()),
            false => (station.ipv6.address, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, far.into()).into()),
        };
        let Some(cluster) = &mut self.cluster else { return 0 };
        let (number, gateway) = (cluster.routed.len(), cluster.addresses[usize::from(!over_ipv4)]);
        cluster.routed.push(Routed { source, far, sent: now, taken: None });
        let [source, destination] = [source, far].map(|address| SocketAddr::new(address, ROUTED_PORT));
        let segment = Segment { source, destination, flags: flags::ACK, call: number as u32, value: 0 };
        self.send_segment_by(now, StationIndex(client), segment, gateway);
        number
    }

    /// A stack gets one.
    pub(super) fn routed_arrives(&mut self, now: Instant, station: usize, segment: &Segment) {
        let node = self.stations[station].node;
        let Some(cluster) = &mut self.cluster else { return };
        if let Err(detail) = cluster.router_gets(node, segment) {
            self.break_invariant(Violation { invariant: "S129 routers", at: now, detail });
        }
    }

    /// Every member has a way to every station far away, and one alone.
    pub(super) fn everybody_is_routed(&mut self) -> Result<(), Violation> {
        if !self.cluster.as_ref().is_some_and(Cluster::routes) || !self.has_live_server() {
            return Ok(());
        }
        let ways =
            |client: usize| (0..FAR as u8).flat_map(move |far| [true, false].map(|ipv4| (client, far, ipv4)));
        let wanted: Vec<_> = self.members_that_call().into_iter().flat_map(ways).collect();
        let (first, until) = (self.routed().len(), self.now() + WAY_MAX);
        let mut is_second = false;
        loop {
            let now = self.now();
            let sent: Vec<_> =
                wanted.iter().map(|&(client, far, v4)| self.send_to_far(now, client, far, v4)).collect();
            self.run_for(Duration::from_millis(60))?;
            let missing =
                sent.iter().map(|number| self.routed()[*number]).find(|packet| packet.taken.is_none());
            let Some(missing) = missing else {
                // A second packet of each two stations takes the same way.
                if std::mem::replace(&mut is_second, true) {
                    break;
                }
                continue;
            };
            if now >= until {
                return Err(self.stuck(format!("routed by nobody: {missing:?}")));
            }
        }
        self.judge_ways(first)
    }

    fn judge_ways(&self, first: usize) -> Result<(), Violation> {
        let mut ways = BTreeMap::new();
        for packet in self.routed()[first..].iter().filter(|packet| packet.taken.is_some()) {
            let way = *ways.entry((packet.source, packet.far)).or_insert(packet.taken);
            if way != packet.taken {
                let detail = format!("{packet:?} came by another router than node {way:?}");
                return Err(Violation { invariant: "S129 routers", at: self.now(), detail });
            }
        }
        Ok(())
    }

    fn routed(&self) -> &[Routed] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.routed)
    }

    /// So many packets must have come to routers.
    ///
    /// # Errors
    /// When they have not.
    pub fn expect_routed(&self, least: usize) -> Result<(), Violation> {
        let count = self.routed().iter().filter(|packet| packet.taken.is_some()).count();
        if count >= least {
            return Ok(());
        }
        let detail = format!("{count} packets came to routers, {least} are expected");
        Err(Violation { invariant: "packets for others are routed", at: self.now(), detail })
    }
}

impl Cluster {
    /// The next stack of a node may get once more what a former one had.
    pub(super) fn forget_taken(&mut self, node: usize) {
        let taken = self.routed.iter_mut().filter(|packet| packet.taken == Some(node));
        taken.for_each(|packet| packet.taken = None);
    }

    fn router_gets(&mut self, node: usize, segment: &Segment) -> Result<(), String> {
        let is_router = self.routes() && self.serves(node);
        let drains_since = self.draining.get(&node).copied();
        let packet = self.routed.get_mut(segment.call as usize);
        let is_it = |packet: &&mut Routed| {
            [packet.source, packet.far] == [segment.source, segment.destination].map(|end| end.ip())
        };
        let Some(packet) = packet.filter(is_it) else { return Err(format!("nobody has sent {segment:?}")) };
        if !is_router {
            return Err(format!("{packet:?} reached node {node}, which is no router"));
        }
        if drains_since.is_some_and(|since| packet.sent > since) {
            return Err(format!("{packet:?} reached node {node}, which drains"));
        }
        if packet.taken.replace(node) == Some(node) {
            return Err(format!("{packet:?} reached node {node} twice"));
        }
        Ok(())
    }
}

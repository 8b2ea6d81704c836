//! Clusters: frames to a cluster address go to the real server that its proxy names, and its ARP and ND are answered here.
//!
//! On the walk: the LAN's server says that a frame is for a cluster, or an uplink has taken one in for it; it is copied whole, the
//! proxy reads it and names a member, and the frame goes there with that member's MAC as its destination. What the member answers
//! goes to the client like any other frame.

mod checks;
mod packets;
mod resolution;
mod status;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use cluster_proxy::{Balance, ClusterProxy, Limits, ServiceKey, Tables};
use vlan_core::cluster::CheckKind;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{
    ControlMessage, FlowNotice, Listening, ListeningNotice, ServedCluster, ServedService,
};
use vlan_core::{Instant, LanId, MacAddress, NodeNumber, VifNumber};

use super::session::Session;
use super::{ControlNode, ControlNodeEvent, Lan};
use checks::Checks;
pub(super) use packets::Chosen;

pub use checks::{CheckCounters, CheckFailure};
pub use status::{ClusterStatus, ServerStatus, ServiceStatus};

/// What each flow in a message counts for in its node's turn, beside the octets of the message.
const FLOW_OCTETS: i32 = 256;

/// A cluster of a LAN, as the host has made it ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEntry {
    /// Its addresses, each with its MAC, which is on disk already.
    pub addresses: Vec<(IpAddr, MacAddress)>,
    /// Its tables, in which each server's slot is [`server_name`] of its node.
    pub tables: Tables,
    /// How those of its services that are checked are.
    pub checks: Vec<(ServiceKey, CheckKind)>,
    /// How much its proxy holds, from its start on.
    pub limits: Limits,
}

/// What a cluster's tables call the real server on a node: a node is a member of a LAN once, and keeps its number.
#[must_use]
pub const fn server_name(node: NodeNumber) -> MemberSlot {
    MemberSlot(node.0)
}

/// What a control node does for its clusters: one of a platform has them at a time, and the others stand by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterRole {
    /// Its proxies choose, and it speaks for the addresses.
    #[default]
    Has,
    /// Another one does. Its proxies hear of flows, services and checks.
    StandsBy,
}

/// A cluster and its proxy.
pub(super) struct Cluster {
    addresses: Vec<(IpAddr, MacAddress)>,
    proxy: ClusterProxy,
    /// By their names.
    servers: Vec<Server>,
    checks: Checks,
}

/// A real server.
#[derive(Clone, Copy, Debug)]
struct Server {
    name: MemberSlot,
    /// None while its node is no member.
    slot: Option<MemberSlot>,
    /// Packets whose flow may be its, or another's.
    asked: u64,
}

impl Cluster {
    /// The others hear the same claims.
    pub fn new(now: Instant, entry: ClusterEntry, role: ClusterRole) -> Self {
        let mut proxy = ClusterProxy::new(now, entry.tables, &entry.limits);
        if role == ClusterRole::Has {
            proxy.handle_takeover(now);
        }
        let (servers, checks) = (Vec::new(), Checks::default());
        let mut new = Self { addresses: entry.addresses, proxy, servers, checks };
        new.checks.configure(&entry.checks, new.proxy.tables());
        new.list_servers();
        new
    }

    /// Flows and what is known of servers stay.
    fn change(&mut self, now: Instant, entry: ClusterEntry) {
        self.addresses = entry.addresses;
        self.proxy.apply(now, entry.tables);
        self.checks.configure(&entry.checks, self.proxy.tables());
        self.list_servers();
    }

    fn list_servers(&mut self) {
        let before = core::mem::take(&mut self.servers);
        let of = |name: &MemberSlot| {
            let known = before.iter().find(|server| server.name == *name);
            known.copied().unwrap_or(Server { name: *name, slot: None, asked: 0 })
        };
        self.servers = self.proxy.tables().servers().iter().map(of).collect();
    }

    fn server(&self, name: MemberSlot) -> Option<&Server> {
        let place = self.servers.binary_search_by_key(&name, |server| server.name).ok()?;
        self.servers.get(place)
    }

    fn server_mut(&mut self, name: MemberSlot) -> Option<&mut Server> {
        let place = self.servers.binary_search_by_key(&name, |server| server.name).ok()?;
        self.servers.get_mut(place)
    }

    /// The member that a server is.
    fn slot_of(&self, name: MemberSlot) -> Option<MemberSlot> {
        self.server(name)?.slot
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// What the member on a node serves of it.
    fn served_by(&self, node: NodeNumber) -> Option<ServedCluster> {
        let serves = |service: &&cluster_proxy::ServiceConfig| service.servers.iter().any(|s| s.node == node);
        let services = self.proxy.tables().services().filter(serves).map(|service| ServedService {
            protocol: service.key.protocol,
            port: service.key.port,
            is_kept: service.balance != Balance::PerPacket,
        });
        let services: Vec<_> = services.collect();
        let addresses = self.addresses.iter().map(|(address, _)| *address).collect();
        (!services.is_empty()).then_some(ServedCluster { addresses, services })
    }
}

impl Lan {
    /// What the member on a node serves.
    pub(super) fn clusters_served_by(&self, node: NodeNumber) -> Vec<ServedCluster> {
        self.clusters.iter().filter_map(|cluster| cluster.served_by(node)).collect()
    }

    /// The MAC of a cluster address.
    #[inline]
    pub(super) fn cluster_mac(&self, address: IpAddr) -> Option<MacAddress> {
        self.cluster_addresses.get(&address).map(|(_, mac)| *mac)
    }

    /// The servers know the addresses and MACs of the clusters that there are now.
    pub(super) fn name_clusters(&mut self) {
        let numbered = (0..).zip(&self.clusters);
        let named =
            numbered.flat_map(|(number, c)| c.addresses.iter().map(move |(ip, mac)| (*ip, (number, *mac))));
        self.cluster_addresses = named.collect();
        let macs = self.cluster_addresses.values().map(|(number, mac)| (*mac, *number));
        self.server.set_clusters(&macs.collect::<Vec<_>>());
        self.arp.reserve(self.clusters.iter().flat_map(|cluster| cluster.addresses.iter().copied()));
    }

    /// The number of the cluster that has an address.
    fn cluster_of(&self, address: IpAddr) -> Option<u16> {
        self.cluster_addresses.get(&address).map(|(number, _)| *number)
    }

    fn cluster_mut(&mut self, address: IpAddr) -> Option<&mut Cluster> {
        let number = self.cluster_of(address)?;
        self.clusters.get_mut(usize::from(number))
    }
}

impl ControlNode {
    /// Puts other clusters of a LAN in the place of those that it has. One is the same as before when it has an address of it.
    //= spec/cluster.md#changed-clusters
    //# When a cluster changes, its control node MUST keep the flows that are claimed and what it knows of servers that stay.
    pub(super) fn change_clusters(&mut self, now: Instant, lan: LanId, entries: Vec<ClusterEntry>) {
        let Some(lan) = self.lan_place(lan) else { return };
        let addresses_before = core::mem::take(&mut self.lans[lan].cluster_addresses);
        let mut before = core::mem::take(&mut self.lans[lan].clusters);
        for entry in entries {
            let is_it =
                |cluster: &Cluster| entry.addresses.iter().any(|(address, _)| cluster.has_address(*address));
            let cluster = match before.iter().position(is_it) {
                Some(place) => {
                    let mut cluster = before.remove(place);
                    cluster.change(now, entry);
                    cluster
                }
                None => Cluster::new(now, entry, self.cluster_role),
            };
            self.lans[lan].clusters.push(cluster);
        }
        self.begin_clusters(now, lan);
        //= spec/cluster.md#who-is-not-heard
        //# A control node MUST tell every member of a LAN the addresses of its clusters, and again when they change.
        if !self.lans[lan].cluster_addresses.keys().eq(addresses_before.keys()) {
            for slot in self.lans[lan].slots() {
                self.tell_interface(now, lan, slot);
            }
        }
    }

    /// Clusters are new or others: everybody knows their addresses, and their proxies know of their servers.
    pub(super) fn begin_clusters(&mut self, now: Instant, lan: usize) {
        self.lans[lan].name_clusters();
        self.place_servers(now, lan);
        self.announce_clusters(now, lan);
    }

    /// This control node has its clusters from now on, or stands by for them: the host says which, once control nodes have agreed on it.
    /// It has them from its start on.
    //= spec/cluster.md#told-roles
    //# A control node that stands by MUST say so to each node that it accepts, before the end of its configuration, and every control node MUST say when that changes.
    pub fn handle_cluster_role(&mut self, now: Instant, role: ClusterRole) {
        if core::mem::replace(&mut self.cluster_role, role) == role {
            return;
        }
        for cluster in self.lans.iter_mut().flat_map(|lan| &mut lan.clusters) {
            match role {
                ClusterRole::Has => cluster.proxy.handle_takeover(now),
                ClusterRole::StandsBy => cluster.proxy.stand_by(),
            }
        }
        for session in self.sessions.iter_mut().flatten().filter(|session| session.is_registered()) {
            session.send_control(now, &ControlMessage::ClusterRole { has: role == ClusterRole::Has });
        }
        for lan in 0..self.lans.len() {
            self.announce_clusters(now, lan);
        }
        self.publish(now);
    }

    /// Its role, where that is not what a node takes it for.
    pub(super) fn tell_cluster_role(&self, now: Instant, session: &mut Session) {
        if self.cluster_role == ClusterRole::StandsBy {
            session.send_control(now, &ControlMessage::ClusterRole { has: false });
        }
    }

    /// Has all addresses of a LAN's clusters announced outside, which a control node that stands by leaves to the other.
    fn announce_clusters(&mut self, now: Instant, lan: usize) {
        let addresses: Vec<IpAddr> = self.lans[lan].arp.reserved().map(|(address, _)| address).collect();
        for address in addresses {
            self.announce(now, lan, address);
        }
    }

    /// Tells the proxies of a LAN which servers can be reached, and which drain.
    fn place_servers(&mut self, now: Instant, lan: usize) {
        let Lan { clusters, routes, .. } = &mut self.lans[lan];
        let by_node: BTreeMap<NodeNumber, usize> =
            routes.iter().enumerate().map(|(place, route)| (route.node, place)).collect();
        let drains = &self.drains;
        for Cluster { servers, proxy, .. } in clusters {
            proxy.together(|proxy| {
                for server in servers {
                    let node = NodeNumber(server.name.0);
                    let place = by_node.get(&node).copied();
                    server.slot = place.map(|place| MemberSlot(place as u16));
                    let is_there = place.is_some_and(|place| routes[place].session.is_some());
                    proxy.set_reachable(now, server.name, is_there);
                    set_drain(proxy, server.name, drains.get(&node));
                }
            });
        }
    }

    /// A node's session as a member has begun or ended, or it is a member no more.
    //= spec/cluster.md#reachable-servers
    //# A real server MUST count as reachable while its node is attached to the control node as a member of the LAN, and as another life of it when its process is another.
    pub(super) fn server_changed(&mut self, now: Instant, lan: usize, node: NodeNumber) {
        let Lan { clusters, routes, .. } = &mut self.lans[lan];
        if clusters.is_empty() {
            return;
        }
        let place = routes.iter().position(|route| route.node == node);
        let is_there = place.is_some_and(|place| routes[place].session.is_some());
        for cluster in clusters {
            let Some(server) = cluster.server_mut(server_name(node)) else { continue };
            server.slot = place.map(|place| MemberSlot(place as u16));
            cluster.proxy.set_reachable(now, server_name(node), is_there);
        }
    }

    /// Takes new flows from a node's servers, until `deadline` at most, or lets them have new ones again.
    pub(super) fn drain_node(&mut self, node: NodeNumber, drain: Option<Option<Instant>>) {
        match drain {
            Some(deadline) => _ = self.drains.insert(node, deadline),
            None => _ = self.drains.remove(&node),
        }
        for cluster in self.lans.iter_mut().flat_map(|lan| &mut lan.clusters) {
            set_drain(&mut cluster.proxy, server_name(node), drain.as_ref());
        }
    }

    // --- what real servers say ------------------------------------------------------------------------------

    //= spec/cluster.md#who-may-claim
    //# A control node MUST take what a node says of flows and services for the members of that node alone.
    pub(super) fn handle_flows(
        &mut self,
        now: Instant,
        session: &mut Session,
        notice: &FlowNotice,
        claims: bool,
    ) {
        let Some((lan, name)) = self.server_of(session, notice.vif) else { return };
        session.turn -= FLOW_OCTETS * notice.flows.len() as i32;
        for flow in &notice.flows {
            let Some(cluster) = self.lans[lan].cluster_mut(flow.address) else { continue };
            // What is refused is counted there.
            if claims {
                let _ = cluster.proxy.handle_claim(now, name, flow);
            } else {
                cluster.proxy.handle_gone(now, name, flow);
            }
        }
    }

    pub(super) fn handle_flows_told(&mut self, now: Instant, session: &Session, vif: VifNumber) {
        let Some((lan, name)) = self.server_of(session, vif) else { return };
        self.lans[lan].clusters.iter_mut().for_each(|cluster| cluster.proxy.handle_told(now, name));
    }

    pub(super) fn handle_listening(&mut self, session: &Session, notice: &ListeningNotice) {
        let Some((lan, name)) = self.server_of(session, notice.vif) else { return };
        let lan = &mut self.lans[lan];
        let of = |said: &Listening| {
            let key = ServiceKey { protocol: said.protocol, port: said.port };
            Some((lan.cluster_of(said.address)?, key, said.listens))
        };
        let mut said: Vec<_> = notice.services.iter().filter_map(of).collect();
        said.sort_by_key(|(cluster, ..)| *cluster);
        for of_one in said.chunk_by(|(one, ..), (other, ..)| one == other) {
            lan.clusters[usize::from(of_one[0].0)].proxy.together(|proxy| {
                of_one.iter().for_each(|&(_, key, listens)| proxy.set_listens(name, key, listens));
            });
        }
    }

    fn server_of(&mut self, session: &Session, vif: VifNumber) -> Option<(usize, MemberSlot)> {
        let found = self.membership(session, vif);
        if found.is_none() {
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
        }
        found.map(|(lan, _)| (lan, server_name(session.node)))
    }

    // --- time -----------------------------------------------------------------------------------------------

    pub(super) fn cluster_timeouts(&mut self, now: Instant) {
        for cluster in self.lans.iter_mut().flat_map(|lan| &mut lan.clusters) {
            cluster.proxy.handle_timeout(now);
        }
        (0..self.lans.len()).for_each(|lan| self.ask_for_checks(now, lan));
    }

    pub(super) fn clusters_timeout(&self) -> Option<Instant> {
        self.lans
            .iter()
            .flat_map(|lan| &lan.clusters)
            .filter_map(|cluster| cluster.proxy.poll_timeout())
            .min()
    }
}

fn set_drain(proxy: &mut ClusterProxy, server: MemberSlot, drain: Option<&Option<Instant>>) {
    match drain {
        Some(deadline) => proxy.drain(server, *deadline),
        None => proxy.undrain(server),
    }
}

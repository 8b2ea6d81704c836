//! What a run consists of: the platform, the traffic, and which faults may come. A function of the seed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cluster_proxy::Limits;
use rvi::ShmConfig;
use rvi::keys::PrivateKey;
use vlan_core::cluster::Balance;
use vlan_core::random::Random;
use vlan_core::wire::control::InterfaceAddress;
use vlan_core::{ControlNodeSerial, LanId, MacAddress, NodeNumber, VifNumber};

use crate::coverage::Fault;
use crate::packet::link::Conditions;
use crate::stack::StackTimes;

/// A LAN of the platform.
#[derive(Clone, Debug)]
pub struct LanPlan {
    /// Its number.
    pub id: LanId,
    /// Its MTU in octets.
    pub mtu: u16,
    /// Whether port security checks IP addresses as well as MACs.
    pub checks_addresses: bool,
    /// Whether control nodes answer requests for addresses in the name of their holders.
    pub suppresses_arp: bool,
    /// Whether group frames go to every member.
    pub floods: bool,
    /// Its members, as places in the list of nodes.
    pub members: Vec<usize>,
}

/// A station: one node's membership in one LAN.
#[derive(Clone, Copy, Debug)]
pub struct StationPlan {
    /// The node, as its place in the list.
    pub node: usize,
    /// Its interface's number in the node.
    pub vif: VifNumber,
    /// The LAN, as its place in the list.
    pub lan: usize,
    /// Its MAC.
    pub mac: MacAddress,
    /// Its IPv4 address.
    pub ipv4: InterfaceAddress,
    /// Its IPv6 address.
    pub ipv6: InterfaceAddress,
}

/// How the first LAN is bridged to a network outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutsidePlan {
    /// Outside sees one MAC.
    Filtered,
    /// It sees the members' own.
    Unfiltered,
}

/// A claim or two for each server, and a handful of half-open flows.
pub(crate) const TINY_LIMITS: Limits =
    Limits { flows_max: 1, half_open_max: 1, fragmented_max: 1, passed_max: 1024 };

/// A cluster of the first LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// How its first service balances; the clients of the second stay with their servers.
    pub balance: Balance,
    /// Its real servers: places in the list of nodes, and weights.
    pub servers: Vec<(usize, u16)>,
    /// They are its routers, too.
    pub routes: bool,
    /// How much its proxies hold.
    pub limits: Limits,
}

/// How much is sent, and how large it is.
#[derive(Clone, Debug)]
pub struct TrafficPlan {
    /// Flows of each ordered pair of stations of a LAN.
    pub flows_per_pair: usize,
    /// Mean pause between two bursts of a flow.
    pub interval: Duration,
    /// Datagrams of a burst, at most.
    pub burst_max: u64,
    /// Of 100 datagrams, how many are longer than a kilobyte.
    pub large_percent: u64,
    /// Broadcast flows of each station.
    pub group_flows: usize,
    /// Flows to stations of other LANs, in the whole platform.
    pub misdirected_flows: usize,
}

/// Everything about a run that is fixed before it starts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that the run is a function of.
    pub seed: u64,
    /// Fabrics, so legs of each association: 1 or 2.
    pub fabrics: u8,
    /// Nodes; their numbers start from 1.
    pub nodes: usize,
    /// Control nodes.
    pub control_nodes: usize,
    /// LANs.
    pub lans: Vec<LanPlan>,
    /// What the first LAN's uplink is like, if it has one.
    pub outside: Option<OutsidePlan>,
    /// The first LAN's cluster, if it has one.
    pub cluster: Option<ClusterPlan>,
    /// Stations that may listen promiscuously, as places in the list of stations.
    pub listeners: Vec<usize>,
    /// Stations that send to multicast groups.
    pub streamers: Vec<usize>,
    /// Stations that have joined these groups when they start.
    pub joined: Vec<usize>,
    /// The node that writes what it likes into its legs, if any. It is a member of no LAN with others' traffic
    /// expectations: nothing sent by it or to it is judged.
    pub hostile: Option<usize>,
    /// Nodes on hosts of their own: everybody reaches them by packet legs alone.
    pub elsewhere: Vec<usize>,
    /// What the fabrics between hosts are like.
    pub way: Conditions,
    /// Octets of the longest packet that they carry.
    pub packet_len_max: usize,
    /// Rings of legs to control nodes.
    pub control_rings: ShmConfig,
    /// Rings of legs between nodes.
    pub pair_rings: ShmConfig,
    /// How fast neighbour caches age.
    pub stack_times: StackTimes,
    /// What is sent.
    pub traffic: TrafficPlan,
    /// Faults to inject, at random times; empty for scripted scenarios.
    pub fault_menu: Vec<Fault>,
    /// How many of them.
    pub faults: usize,
    /// Of 100 faults, how many wait for a rare state of a pair of two hosts.
    pub waiting_percent: u64,
    /// How long traffic and faults last after the platform is up.
    pub duration: Duration,
}

impl LanPlan {
    /// A LAN that does nothing special.
    #[must_use]
    pub fn calm(id: LanId, mtu: u16, members: Vec<usize>) -> Self {
        Self { id, mtu, checks_addresses: false, suppresses_arp: false, floods: false, members }
    }
}

impl Plan {
    /// A calm platform of `nodes` nodes in one LAN over two fabrics, full-sized rings, no faults: what scripted
    /// scenarios start from.
    #[must_use]
    pub fn calm(seed: u64, nodes: usize) -> Self {
        let lan = LanPlan::calm(LanId(10), 16_896, (0..nodes).collect());
        Self {
            seed,
            fabrics: 2,
            nodes,
            control_nodes: 1,
            lans: vec![lan],
            outside: None,
            cluster: None,
            listeners: Vec::new(),
            streamers: Vec::new(),
            joined: Vec::new(),
            hostile: None,
            elsewhere: Vec::new(),
            way: Conditions::calm(Duration::from_micros(20)).with_jitter(Duration::from_micros(5)),
            packet_len_max: 1472,
            control_rings: ShmConfig { slots_log2: 10, arena_len: 1 << 18 },
            pair_rings: ShmConfig { slots_log2: 10, arena_len: 1 << 18 },
            stack_times: StackTimes {
                reachable: Duration::from_millis(150),
                retransmit: Duration::from_millis(50),
            },
            traffic: TrafficPlan {
                flows_per_pair: 2,
                interval: Duration::from_millis(2),
                burst_max: 4,
                large_percent: 5,
                group_flows: 1,
                misdirected_flows: 0,
            },
            fault_menu: Vec::new(),
            faults: 0,
            waiting_percent: 0,
            duration: Duration::from_millis(200),
        }
    }

    /// The plan that belongs to `seed`: two to five nodes, one or two LANs, often a node outside a LAN, small and
    /// large rings, and `faults` faults out of the whole menu.
    #[must_use]
    pub fn of_seed(seed: u64, faults: usize) -> Self {
        let mut random = Random::new(seed ^ 0x7765_6674_2d73_696d);
        let nodes = 2 + random.below(4) as usize;
        let mut plan = Self::calm(seed, nodes);
        plan.fabrics = 1 + u8::from(random.below(4) > 0);
        plan.lans[0].checks_addresses = random.below(2) == 0;
        if nodes > 2 && random.below(2) == 0 {
            // The last node is no member: in another LAN, or in none.
            plan.lans[0].members.pop();
        }
        if random.below(2) == 0 {
            let from = random.below(nodes as u64 - 1) as usize;
            let checks_addresses = random.below(2) == 0;
            let lan = LanPlan::calm(LanId(20), 1500, (from..nodes).collect());
            plan.lans.push(LanPlan { checks_addresses, ..lan });
            plan.traffic.misdirected_flows = 1 + random.below(2) as usize;
        }
        if nodes > 2 && random.below(4) == 0 {
            plan.hostile = Some(random.below(nodes as u64) as usize);
        }
        plan.control_rings = rings(&mut random);
        plan.pair_rings = rings(&mut random);
        plan.traffic.flows_per_pair = 1 + random.below(3) as usize;
        // The more nodes, the more flows: about as many frames in each run.
        plan.traffic.interval = Duration::from_micros((300 + random.below(4000)) * nodes as u64 / 2);
        plan.traffic.burst_max = 1 + random.below(16);
        plan.traffic.large_percent = [0, 2, 20][random.below(3) as usize];
        plan.traffic.group_flows = random.below(3) as usize;
        let of_processes = Fault::ON_ONE_HOST.into_iter().filter(|fault| !Fault::DRAWN_APART.contains(fault));
        plan.fault_menu = of_processes.filter(|_| random.below(3) > 0).collect();
        // By the seed itself: what the others draw stays theirs.
        plan.lans.iter_mut().for_each(|lan| lan.suppresses_arp = seed & 1 == 1);
        plan.faults = faults;
        plan.duration = Duration::from_millis(150 + random.below(350));
        plan.draw_outside();
        plan.draw_listeners();
        plan.draw_groups();
        plan.draw_applies();
        plan.draw_cluster();
        plan
    }

    /// A third of the plans without a hostile node have an uplink, drawn apart from the rest.
    fn draw_outside(&mut self) {
        let mut random = Random::new(self.seed ^ 0x6f75_7473_6964_6521);
        let modes = [None, None, None, None, Some(OutsidePlan::Filtered), Some(OutsidePlan::Unfiltered)];
        self.outside = modes[random.below(6) as usize].filter(|_| self.hostile.is_none());
    }

    /// Half of the plans have one or two listeners, drawn apart from the rest.
    fn draw_listeners(&mut self) {
        let mut random = Random::new(self.seed ^ 0x6c69_7374_656e_6572);
        let stations = self.stations().len() as u64;
        if random.below(2) == 0 {
            self.listeners = (0..1 + random.below(2)).map(|_| random.below(stations) as usize).collect();
            self.fault_menu.push(Fault::Listening);
        }
    }

    /// In half of the plans stations send to multicast groups, join and leave them, drawn apart from the rest.
    fn draw_groups(&mut self) {
        let mut random = Random::new(self.seed ^ 0x6772_6f75_7073_2121);
        let stations = self.stations().len() as u64;
        let mut some =
            |most: u64| (0..1 + random.below(most)).map(|_| random.below(stations) as usize).collect();
        let (streamers, joined) = (some(2), some(3));
        if random.below(2) == 0 {
            (self.streamers, self.joined) = (streamers, joined);
            self.streamers.dedup();
            self.fault_menu.extend([Fault::Joining; 2]);
        }
    }

    /// In two of three plans files are applied, drawn apart from the rest.
    fn draw_applies(&mut self) {
        let mut random = Random::new(self.seed ^ 0x6170_706c_7966_696c);
        if random.below(3) > 0 {
            // Twice: there are several things that a file can change.
            self.fault_menu.extend([Fault::Apply; 2]);
        }
    }

    /// A third of the plans without a hostile node have a cluster, drawn apart from the rest: one to three of the first LAN's
    /// members serve it, and one at least calls.
    fn draw_cluster(&mut self) {
        let mut random = Random::new(self.seed ^ 0x636c_7573_7465_7221);
        let mut members = self.lans[0].members.clone();
        if random.below(3) > 0 || self.hostile.is_some() || members.len() < 2 {
            return;
        }
        let servers = 1 + random.below(3.min(members.len() as u64 - 1));
        let mut draw = |_| {
            let place = random.below(members.len() as u64) as usize;
            (members.remove(place), 1 + random.below(3) as u16)
        };
        let servers = (0..servers).map(&mut draw).collect();
        let balances = [Balance::Hash, Balance::RoundRobin, Balance::LeastConnections];
        let balance = balances[random.below(3) as usize];
        let routes = random.below(2) == 0;
        // In a third of them claims find no room. A choice by load has to be remembered.
        let is_tiny = random.below(3) == 0 && balance != Balance::LeastConnections;
        let limits = if is_tiny { TINY_LIMITS } else { Limits::default() };
        self.cluster = Some(ClusterPlan { balance, servers, routes, limits });
        self.fault_menu.extend([Fault::Drain, Fault::Service]);
    }

    /// The same with a cluster of its first LAN.
    #[must_use]
    pub fn with_cluster(mut self, balance: Balance, servers: &[usize]) -> Self {
        let servers = servers.iter().map(|node| (*node, 1)).collect();
        self.cluster = Some(ClusterPlan { balance, servers, routes: false, limits: Limits::default() });
        self
    }

    /// The same with these servers as routers, too.
    #[must_use]
    pub fn with_routers(mut self) -> Self {
        self.cluster.iter_mut().for_each(|cluster| cluster.routes = true);
        self
    }

    /// The same with a cluster whose proxies hold next to nothing.
    #[must_use]
    pub fn with_tiny_limits(mut self) -> Self {
        self.cluster.iter_mut().for_each(|cluster| cluster.limits = TINY_LIMITS);
        self
    }

    /// The same with so many control nodes, of which the first has the clusters at the start.
    #[must_use]
    pub fn with_control_nodes(mut self, control_nodes: usize) -> Self {
        self.control_nodes = control_nodes;
        self
    }

    /// A calm platform on which these stations may listen promiscuously.
    #[must_use]
    pub fn with_listeners(mut self, stations: &[usize]) -> Self {
        self.listeners = stations.to_vec();
        self
    }

    /// The same with an uplink of its first LAN.
    #[must_use]
    pub fn with_outside(mut self, outside: OutsidePlan) -> Self {
        self.outside = Some(outside);
        self
    }

    /// The same with nodes on a calm platform that are on other hosts than the control nodes.
    #[must_use]
    pub fn with_elsewhere(mut self, nodes: &[usize]) -> Self {
        self.elsewhere = nodes.to_vec();
        self
    }

    /// The plan of `seed` with some or all of its nodes on hosts of their own, and everything that networks do in the menu.
    #[must_use]
    pub fn of_hosts(seed: u64, faults: usize) -> Self {
        let mut plan = Self::of_seed(seed, faults);
        let mut random = Random::new(seed ^ 0x686f_7374_732d_7369);
        let first = random.below(plan.nodes as u64) as usize;
        let is_all = random.below(3) == 0;
        plan.elsewhere = (0..plan.nodes).filter(|n| *n == first || is_all || random.below(2) == 0).collect();
        let delay = Duration::from_micros([5, 10, 20, 60, 300][random.below(5) as usize]);
        plan.way = Conditions::calm(delay).with_jitter(delay * random.below(3) as u32 / 4);
        plan.packet_len_max = [1232, 1472, 8972][random.below(3) as usize];
        plan.fault_menu.extend(Fault::OF_FABRICS.into_iter().filter(|_| random.below(3) > 0));
        plan.waiting_percent = 25;
        plan
    }

    /// True when this node and that one have no memory in common.
    #[must_use]
    pub fn are_apart(&self, a: usize, b: usize) -> bool {
        self.elsewhere.contains(&a) || self.elsewhere.contains(&b)
    }

    /// The stations, LAN by LAN and member by member.
    #[must_use]
    pub fn stations(&self) -> Vec<StationPlan> {
        let mut stations = Vec::new();
        let mut vifs = vec![0_u16; self.nodes];
        for (place, lan) in self.lans.iter().enumerate() {
            for &node in &lan.members {
                vifs[node] += 1;
                let count = stations.len() as u32 + 1;
                let mac = MacAddress::from_counter(SERIAL, count).unwrap_or(MacAddress::NULL);
                stations.push(StationPlan {
                    node,
                    vif: VifNumber(vifs[node]),
                    lan: place,
                    mac,
                    ipv4: ipv4(lan.id, node),
                    ipv6: ipv6(lan.id, node),
                });
            }
        }
        stations
    }

    /// The key by which the node at a place proves itself.
    #[must_use]
    pub fn key(node: usize) -> PrivateKey {
        PrivateKey::from_octets([node as u8 + 1; 32])
    }

    /// The same of a control node.
    #[must_use]
    pub fn control_key(control: usize) -> PrivateKey {
        PrivateKey::from_octets([0x80 + control as u8; 32])
    }

    /// What a fabric's packets carry, so that a swapped cable would be noticed.
    #[must_use]
    pub const fn fabric_key(leg: u8) -> u16 {
        leg as u16 + 1
    }

    /// Packets of this fabric are authenticated and not encrypted.
    #[must_use]
    pub const fn is_trusted(leg: u8) -> bool {
        leg == 1
    }

    /// The number of the node at a place.
    #[must_use]
    pub fn number(node: usize) -> NodeNumber {
        NodeNumber(node as u16 + 1)
    }
}

/// The serial of the control node that all MACs come from.
pub const SERIAL: ControlNodeSerial = ControlNodeSerial(1);

fn ipv4(lan: LanId, node: usize) -> InterfaceAddress {
    let address = Ipv4Addr::new(10, lan.0 as u8, 0, node as u8 + 1);
    InterfaceAddress { address: IpAddr::V4(address), prefix: 24 }
}

fn ipv6(lan: LanId, node: usize) -> InterfaceAddress {
    let address = Ipv6Addr::new(0xfd00, lan.0, 0, 0, 0, 0, 0, node as u16 + 1);
    InterfaceAddress { address: IpAddr::V6(address), prefix: 64 }
}

/// Rings from starved to comfortable; the arena is often the least that one may have.
fn rings(random: &mut Random) -> ShmConfig {
    let slots_log2 = [3, 5, 7, 10][random.below(4) as usize];
    let arena_len = [1 << 18, 1 << 19][random.below(2) as usize];
    ShmConfig { slots_log2, arena_len }
}

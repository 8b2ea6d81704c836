//! A cluster of some servers, and packets of clients.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cluster_proxy::*;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, Instant, NodeNumber};

pub const KEY: HashKey = HashKey([0x1234, 0x5678]);
pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
pub const RST: u8 = 4;
pub const WEB: ServiceKey = ServiceKey { protocol: Protocol::Tcp, port: 80 };
pub const DNS: ServiceKey = ServiceKey { protocol: Protocol::Udp, port: 53 };

pub fn cluster_v4() -> IpAddr {
    Ipv4Addr::new(10, 1, 0, 100).into()
}

pub fn cluster_v6() -> IpAddr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 100).into()
}

/// Client `number` of IPv4 or IPv6, each of these in a network of its own.
pub fn client(number: u16, is_v6: bool) -> IpAddr {
    let [a, b] = number.to_be_bytes();
    match is_v6 {
        false => Ipv4Addr::new(192, 0, a, b).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into(),
    }
}

pub fn server(number: u16, weight: u16) -> ServerConfig {
    ServerConfig { slot: MemberSlot(number), node: NodeNumber(number), weight }
}

pub fn service(key: ServiceKey, balance: Balance, servers: u16) -> ServiceConfig {
    let servers = (1..=servers).map(|number| server(number, 1)).collect();
    ServiceConfig { key, balance, sticky: Sticky::None, servers, check: None }
}

pub fn config(services: Vec<ServiceConfig>) -> ClusterConfig {
    let addresses = vec![cluster_v4(), cluster_v6()];
    ClusterConfig { addresses, services, routers: Vec::new(), rows: 4096, epoch: 7 }
}

pub fn tables(config: &ClusterConfig) -> Tables {
    Tables::new(config, KEY).expect("a sound configuration")
}

pub const LIMITS: Limits =
    Limits { flows_max: 4096, half_open_max: 1024, fragmented_max: 256, passed_max: 64 };

/// A flow of IPv4 from a port of client 1 to a service.
pub fn flow(service: ServiceKey, client_port: u16) -> Flow {
    flow_of(client(1, false), client_port, service)
}

pub fn flow_of(client: IpAddr, client_port: u16, service: ServiceKey) -> Flow {
    let address = if client.is_ipv4() { cluster_v4() } else { cluster_v6() };
    Flow { protocol: service.protocol, client, client_port, address, port: service.port }
}

/// A frame with an IP packet.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 1, 0, 0, 100, 0x52, 0x54, 0, 1, 2, 3];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [a, b] = (20 + payload.len() as u16).to_be_bytes();
            frame.extend([8, 0, 0x45, 0, a, b, 0, 0, 0, 0, 64, protocol, 0, 0]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [a, b] = (payload.len() as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, a, b, protocol, 64]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        _ => panic!("two families in one packet"),
    }
    frame.extend_from_slice(payload);
    frame
}

/// What comes first in a segment or datagram of a flow.
pub fn upper(flow: &Flow, flags: u8) -> Vec<u8> {
    let ports = [flow.client_port.to_be_bytes(), flow.port.to_be_bytes()].concat();
    match flow.protocol {
        Protocol::Tcp => [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]].concat(),
        Protocol::Udp => [&ports[..], &[0, 9, 0, 0, 7]].concat(),
    }
}

/// A segment with these flags, or a datagram.
pub fn segment(flow: &Flow, flags: u8) -> Vec<u8> {
    packet(flow.client, flow.address, flow.protocol as u8, &upper(flow, flags))
}

/// A fragment of a datagram of `flow`: the first with its ports, or a later one.
pub fn fragment(flow: &Flow, identification: u16, is_first: bool) -> Vec<u8> {
    let payload = if is_first { upper(flow, SYN) } else { vec![7; 16] };
    if flow.client.is_ipv6() {
        let [a, b] = identification.to_be_bytes();
        let offset = if is_first { [0, 1] } else { [0, 0x10] };
        let header = [flow.protocol as u8, 0, offset[0], offset[1], 0, 0, a, b];
        return packet(flow.client, flow.address, 44, &[&header[..], &payload].concat());
    }
    let mut frame = packet(flow.client, flow.address, flow.protocol as u8, &payload);
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    frame[20..22].copy_from_slice(if is_first { &[0x20, 0] } else { &[0, 2] });
    frame
}

/// An ICMP error of a router about an answer to `flow`.
pub fn error(flow: &Flow, router: IpAddr) -> Vec<u8> {
    let mut answer = upper(flow, ACK);
    answer[..4].rotate_left(2);
    // As much as the oldest routers quote.
    let quoted = packet(flow.address, flow.client, flow.protocol as u8, &answer[..8]);
    let (kind, protocol) = if flow.client.is_ipv4() { ([3, 4], 1) } else { ([2, 0], 58) };
    let message = [&kind[..], &[0, 0, 0, 0, 5, 0], &quoted[14..]].concat();
    packet(router, flow.address, protocol, &message)
}

/// A proxy, and what time it is.
pub struct World {
    pub proxy: ClusterProxy,
    pub now: Instant,
}

impl World {
    /// It has the cluster for a second; all servers can be reached and have told their flows.
    pub fn new(config: &ClusterConfig) -> Self {
        Self::with(config, &LIMITS)
    }

    pub fn with(config: &ClusterConfig, limits: &Limits) -> Self {
        let now = Instant::ZERO + Duration::from_secs(1000);
        let mut world = Self { proxy: ClusterProxy::new(now, tables(config), limits), now };
        world.proxy.handle_takeover(now);
        config.services.iter().flat_map(|service| &service.servers).for_each(|server| {
            world.proxy.set_reachable(now, server.slot, true);
            world.proxy.handle_told(now, server.slot);
        });
        config.routers.iter().for_each(|router| world.proxy.set_reachable(now, router.slot, true));
        world.now = now + Duration::from_secs(1);
        world
    }

    /// Time goes on, with every timeout in between.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.proxy.poll_timeout().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.proxy.handle_timeout(self.now);
        }
        self.now = until;
    }

    /// Also of one who asks beforehand, for whom nothing changes.
    pub fn verdict(&mut self, frame: &[u8]) -> Verdict<'_> {
        let mut asked = self.proxy.for_one(&Vnet::default(), frame);
        let said = asked.handle(self.now, &Vnet::default(), frame);
        let verdict = self.proxy.handle(self.now, &Vnet::default(), frame);
        assert_eq!(said, verdict);
        verdict
    }

    /// The servers that a packet goes to, the first one first.
    pub fn hops(&mut self, frame: &[u8]) -> Vec<u16> {
        match self.verdict(frame) {
            Verdict::Forward(forward) => forward.hops.as_slice().iter().map(|slot| slot.0).collect(),
            other => panic!("not forwarded but {other:?}"),
        }
    }

    /// The one server that a packet goes to.
    pub fn to(&mut self, frame: &[u8]) -> u16 {
        self.hops(frame)[0]
    }

    /// A client's SYN.
    pub fn syn(&mut self, flow: &Flow) -> u16 {
        self.to(&segment(flow, SYN))
    }

    /// A segment of a flow that has begun.
    pub fn ack(&mut self, flow: &Flow) -> u16 {
        self.to(&segment(flow, ACK))
    }

    pub fn dropped(&mut self, frame: &[u8]) -> Option<DropReason> {
        match self.verdict(frame) {
            Verdict::Dropped(reason) => Some(reason),
            _ => None,
        }
    }

    pub fn claim(&mut self, from: u16, flow: &Flow) -> Result<Claimed, Refusal> {
        self.proxy.handle_claim(self.now, MemberSlot(from), flow)
    }

    /// A flow begins and is claimed by the server that gets it.
    pub fn establish(&mut self, flow: &Flow) -> u16 {
        let server = self.syn(flow);
        assert_eq!(self.claim(server, flow), Ok(Claimed::New), "{flow:?} at {server}");
        server
    }

    /// Every packet was counted once.
    pub fn check_ledger(&self) {
        let counters = self.proxy.counters();
        let done = counters.forwarded.frames + counters.asked.frames + counters.answered.frames;
        assert_eq!(counters.packets.frames, done + counters.drops.total());
    }

    /// The same for each service, where all packets were for one of these and nothing came in fragments.
    pub fn check_services_ledger(&self) {
        let (counters, proxy) = (self.proxy.counters(), &self.proxy);
        let (mut to_servers, mut chosen) = (0, 0);
        for service in proxy.tables().services().chain(proxy.tables().routing()) {
            let counted = proxy.service_counters(service.key);
            to_servers += counted.asked.frames + counted.given.given.frames;
            chosen += counted.given.chosen;
        }
        assert_eq!(to_servers, counters.forwarded.frames + counters.asked.frames);
        assert_eq!(chosen, counters.chosen);
    }
}

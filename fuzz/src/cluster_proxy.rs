//! Any packets, claims and changes into the proxy of a cluster, beside a model of who owns which flow: claimed flows stay (I-30), nothing
//! goes to unknown ports (I-31) or to a server that may not have it (I-36), no packet has more than four hops (I-38), and everything is counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cluster_proxy::{
    Balance, CheckConfig, Claimed, ClusterConfig, ClusterProxy, Flow, Forward, HashKey, Limits, Manner,
    Protocol, ROUTING, Refusal, ServerConfig, ServiceConfig, ServiceKey, Sticky, Tables, Verdict,
};
use vlan_core::server::MemberSlot;
use vlan_core::wire::frame::VNET_LEN;
use vlan_core::wire::{FrameHeader, FrameKind, Vnet};
use vlan_core::{BootTag, DropReason, Instant, LanId, NodeNumber, VifNumber};

use crate::script::Script;

const SERVERS: u8 = 4;
const LIMITS: Limits = Limits { flows_max: 64, half_open_max: 32, fragmented_max: 16, passed_max: 16 };
/// Every service of any of the configurations, and one of none.
const SERVICES: [ServiceKey; 5] = [
    ServiceKey { protocol: Protocol::Tcp, port: 80 },
    ServiceKey { protocol: Protocol::Udp, port: 53 },
    ServiceKey { protocol: Protocol::Tcp, port: 443 },
    ServiceKey { protocol: Protocol::Udp, port: 443 },
    ServiceKey { protocol: Protocol::Tcp, port: 81 },
];
/// A flow is in use for so long after each packet at least; the tests know exactly.
const USED: Duration = Duration::from_secs(29);

struct World {
    now: Instant,
    proxy: ClusterProxy,
    config: ClusterConfig,
    up: [bool; SERVERS as usize],
    /// Who owns a flow, and when it was last used.
    owned: BTreeMap<Flow, (MemberSlot, Instant)>,
    /// When a server loses its flows.
    deadlines: BTreeMap<MemberSlot, Instant>,
    /// What servers were given to pass on, the last at the end: to whom, behind which header, and when.
    given: Vec<(MemberSlot, FrameHeader, Vec<u8>, Instant)>,
    /// Packets so far.
    packets: u32,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let now = Instant::ZERO + Duration::from_secs(100);
    let config = config(0);
    let proxy = ClusterProxy::new(now, tables(&config), &LIMITS);
    let up = [false; SERVERS as usize];
    let (owned, deadlines) = (BTreeMap::new(), BTreeMap::new());
    let mut world = World { now, proxy, config, up, owned, deadlines, given: Vec::new(), packets: 0 };
    let mut script = Script::new(data);
    while let Some(()) = world.step(&mut script) {
        let counters = world.proxy.counters();
        let done = counters.forwarded.frames + counters.asked.frames + counters.answered.frames;
        assert_eq!(counters.packets.frames, done + counters.drops.total());
        let services = world.config.services.iter().map(|service| service.key).chain([ROUTING]);
        let services = services.map(|service| world.proxy.service_counters(service));
        let to_servers: u64 = services.map(|counted| counted.given.given.frames + counted.asked.frames).sum();
        assert!(to_servers <= counters.forwarded.frames + counters.asked.frames);
        let flows: u32 = (0..SERVERS).map(|server| world.proxy.flows_of(slot(server))).sum();
        assert!(flows as usize <= 2 * LIMITS.flows_max);
    }
}

fn config(which: u8) -> ClusterConfig {
    let balances = [Balance::Hash, Balance::RoundRobin, Balance::LeastConnections, Balance::PerPacket];
    let service = |(at, key): (usize, &ServiceKey)| {
        let weight = |server: u8| 1 + u16::from(which & 3) * u16::from(server);
        let server = |n| ServerConfig { slot: slot(n), node: NodeNumber(n.into()), weight: weight(n) };
        let is_there = |server: &u8| *server == at as u8 || (which >> 2 & 3) != *server;
        ServiceConfig {
            key: *key,
            balance: balances[at],
            sticky: if which & 16 == 0 { Sticky::None } else { Sticky::Client },
            servers: (0..SERVERS).filter(is_there).map(server).collect(),
            check: (at == 0).then_some(CheckConfig { interval: Duration::from_millis(10), fall: 2, rise: 1 }),
        }
    };
    let count = 4 - usize::from(which >> 5 & 3);
    let services = SERVICES.iter().enumerate().take(count).map(service).collect();
    let routers = (0..SERVERS).filter(|_| which & 128 != 0).map(|n| ServerConfig {
        slot: slot(n),
        node: NodeNumber(n.into()),
        weight: 1 + u16::from(n),
    });
    ClusterConfig {
        addresses: addresses().to_vec(),
        services,
        routers: routers.collect(),
        rows: 256,
        epoch: which.into(),
    }
}

fn tables(config: &ClusterConfig) -> Tables {
    Tables::new(config, HashKey([3, 4])).expect("a sound configuration")
}

fn addresses() -> [IpAddr; 2] {
    [Ipv4Addr::new(10, 1, 0, 100).into(), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x64).into()]
}

fn slot(server: u8) -> MemberSlot {
    MemberSlot(server.into())
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (operation, server) = (script.below(11)?, script.below(SERVERS)?);
        let slot = slot(server);
        match operation {
            0 => {
                self.now = self.now + Duration::from_millis(u64::from(script.u16()?));
                self.proxy.handle_timeout(self.now);
                let now = self.now;
                let over: Vec<_> =
                    self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(s, _)| *s).collect();
                for slot in over {
                    self.deadlines.remove(&slot);
                    self.owned.retain(|_, (owner, _)| *owner != slot);
                }
            }
            1 => {
                let is_up = script.flag()?;
                self.up[usize::from(server)] = is_up;
                self.proxy.set_reachable(self.now, slot, is_up);
                if !is_up {
                    self.owned.retain(|_, (owner, _)| *owner != slot);
                }
            }
            2 => self.drain(script, slot)?,
            3 => self.proxy.set_listens(slot, SERVICES[usize::from(script.below(5)?)], script.flag()?),
            4 => {
                self.config = config(script.octet()?);
                self.proxy.apply(self.now, Box::new(tables(&self.config)));
                for server in 0..SERVERS {
                    self.proxy.set_reachable(self.now, self::slot(server), self.up[usize::from(server)]);
                }
            }
            5 => {
                if script.flag()? {
                    self.proxy.handle_takeover(self.now)
                } else {
                    self.proxy.handle_told(self.now, slot)
                }
                while let Some(request) = self.proxy.poll_check() {
                    self.proxy.handle_checked(&request, script.flag()?);
                }
            }
            6 => self.claim(slot, flow(script)?),
            7 => {
                let flow = flow(script)?;
                let is_owner = self.owner(&flow) == Some(slot);
                let is_gone = self.proxy.handle_gone(self.now, slot, &flow);
                assert!(is_gone || !is_owner, "an owner cannot give up {flow:?}");
                if is_gone {
                    self.owned.remove(&flow);
                }
            }
            8 => {
                let (flow, flags) = (flow(script)?, script.octet()?);
                self.segment(&flow, flags);
            }
            10 => self.give_back(script, slot)?,
            _ => {
                let vnet = if script.flag()? {
                    Vnet::parse(script.octets(VNET_LEN)?.first_chunk()?)
                } else {
                    Vnet::default()
                };
                let frame = any_frame(script)?;
                self.any(&vnet, &frame);
            }
        }
        Some(())
    }

    fn drain(&mut self, script: &mut Script<'_>, slot: MemberSlot) -> Option<()> {
        if script.flag()? {
            self.proxy.undrain(slot);
            self.deadlines.remove(&slot);
            return Some(());
        }
        let deadline = script.flag()?.then_some(self.now + Duration::from_millis(500));
        self.proxy.drain(slot, deadline);
        // A server without anything to do with the cluster is not drained.
        self.deadlines.remove(&slot);
        if let Some(deadline) = deadline {
            self.deadlines.insert(slot, deadline);
        }
        Some(())
    }

    /// Who owns a flow for sure.
    fn owner(&self, flow: &Flow) -> Option<MemberSlot> {
        let (owner, used) = self.owned.get(flow)?;
        (self.now.since(*used) < USED).then_some(*owner)
    }

    fn claim(&mut self, slot: MemberSlot, flow: Flow) {
        let owner = self.owner(&flow);
        match self.proxy.handle_claim(self.now, slot, &flow) {
            Ok(claimed) => {
                assert!(self.up[usize::from(slot.0)]);
                assert!(owner.is_none_or(|owner| owner == slot && claimed == Claimed::Known));
                self.owned.insert(flow, (slot, self.now));
            }
            Err(Refusal::Conflict { owner: of }) => assert!(owner.is_none_or(|owner| owner == of)),
            Err(_) => assert_ne!(owner, Some(slot), "an owner may always say so"),
        }
    }

    fn segment(&mut self, flow: &Flow, flags: u8) {
        let begins = flow.protocol == Protocol::Udp || flags & 0x16 == 2;
        let is_served = self.config.services.iter().any(|service| service.key == flow.service());
        let owner = self.owner(flow);
        let frame = frame_of(flow, flags);
        match self.proxy.handle(self.now, &Vnet::default(), &frame) {
            Verdict::Forward(forward) => {
                let hops: Vec<_> = forward.hops.as_slice().to_vec();
                self.is_given(&forward, &Vnet::default(), &frame);
                if let Some(owner) = owner {
                    assert_eq!(hops, [owner]);
                    self.owned.insert(*flow, (owner, self.now));
                } else if begins && !self.owned.contains_key(flow) {
                    assert!(is_served && self.proxy.takes_flows(hops[0], flow.service()));
                }
            }
            Verdict::Owners => assert!(owner.is_none() && is_served),
            Verdict::Dropped(reason) => {
                assert_eq!(owner, None);
                assert!(is_served || reason == DropReason::UnknownService);
            }
            Verdict::Answer(_) => panic!("an answer to {flow:?}"),
        }
    }

    /// A frame from a client is given to servers.
    fn is_given(&mut self, forward: &Forward, vnet: &Vnet, frame: &[u8]) {
        self.packets += 1;
        let header = FrameHeader {
            kind: FrameKind::Relay,
            flags: 0,
            lan: LanId(1),
            origin: NodeNumber(9),
            origin_vif: VifNumber(1),
            destination_vif: VifNumber(0),
            vnet: *vnet,
            boot: BootTag(1),
            bseq: self.packets,
        };
        self.is_given_with(forward, &header, frame);
    }

    fn is_given_with(&mut self, forward: &Forward, header: &FrameHeader, frame: &[u8]) {
        let hops = forward.hops.as_slice();
        assert!((1..=4).contains(&hops.len()) && hops.iter().all(|hop| self.up[usize::from(hop.0)]));
        match self.proxy.manner(self.now, forward, header, frame) {
            Manner::Plain(to) => assert_eq!(hops, [to]),
            Manner::PassOn(to, hop) => {
                assert_eq!(hops[usize::from(hop)], to);
                let header = FrameHeader { flags: FrameHeader::flags_of_hop(hop), ..*header };
                self.given.push((to, header, frame.to_vec(), self.now));
            }
            Manner::OwnerOnly(servers) => assert!(hops.ends_with(servers.as_slice())),
        }
    }

    /// A server gives back what it was given last, or something like it.
    fn give_back(&mut self, script: &mut Script<'_>, slot: MemberSlot) -> Option<()> {
        let change = script.below(4)?;
        let Some((to, header, frame, at)) = self.given.pop() else { return Some(()) };
        let (mut from, mut changed_header, mut changed) = (to, header, frame.clone());
        match change {
            0 => from = slot,
            1 => changed_header.flags = script.octet()?,
            2 => {
                let at = usize::from(script.octet()?) % frame.len();
                changed[at] = script.octet()?;
            }
            _ => {}
        }
        let is_it = (from, changed_header) == (to, header) && changed.get(6..) == frame.get(6..);
        let may_come_back = is_it && self.now.since(at) <= Duration::from_millis(100);
        match self.proxy.handle_given_back(self.now, from, &changed_header, &changed) {
            Verdict::Forward(forward) => {
                assert!(may_come_back, "{from:?} had {changed_header:?} passed on, {to:?} has {header:?}");
                self.is_given_with(&forward, &changed_header, &changed);
                let again = self.proxy.handle_given_back(self.now, from, &changed_header, &changed);
                assert_eq!(again, Verdict::Dropped(DropReason::NotGiven));
            }
            Verdict::Dropped(_) => {}
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn any(&mut self, vnet: &Vnet, frame: &[u8]) {
        match self.proxy.handle(self.now, vnet, frame) {
            Verdict::Forward(forward) => {
                assert!(!self.config.routers.is_empty() || !is_for_others(frame), "routed by nobody");
                self.is_given(&forward, vnet, frame);
            }
            Verdict::Answer(answer) => {
                assert_eq!(answer[..6], frame[6..12]);
                assert!(answer.len() <= frame.len());
            }
            Verdict::Owners => assert!(self.up.contains(&true)),
            Verdict::Dropped(_) => {}
        }
    }
}

fn flow(script: &mut Script<'_>) -> Option<Flow> {
    let (service, is_v6) = (SERVICES[usize::from(script.below(5)?)], script.flag()?);
    let tail = script.below(16)?;
    let client = match is_v6 {
        false => IpAddr::from([192, 0, 2, 1 + tail]),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, tail.into(), 0, 0, 0, 1).into(),
    };
    let address = addresses()[usize::from(is_v6)];
    Some(Flow {
        protocol: service.protocol,
        client,
        client_port: script.below(8)?.into(),
        address,
        port: service.port,
    })
}

fn frame_of(flow: &Flow, flags: u8) -> Vec<u8> {
    let ports = [flow.client_port.to_be_bytes(), flow.port.to_be_bytes()].concat();
    let payload = [&ports[..], &[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
    packet(flow.client, flow.address, flow.protocol as u8, &payload)
}

fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [[2; 12].as_slice()].concat();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [a, b] = (20 + payload.len() as u16).to_be_bytes();
            frame.extend([8, 0, 0x45, 0, a, b, 0, 0, 0, 0, 64, protocol, 0, 0]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let [a, b] = (payload.len() as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, a, b, protocol, 64]);
            frame.extend([octets(from), octets(to)].concat());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Any octets, or what begins as a packet for the cluster or for others does; or an error that quotes one of its packets.
fn any_frame(script: &mut Script<'_>) -> Option<Vec<u8>> {
    let (kind, is_v6, protocol) = (script.below(5)?, script.flag()?, script.octet()?);
    let (client, cluster) = match is_v6 {
        false => (IpAddr::from([192, 0, 2, 1]), addresses()[0]),
        true => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), addresses()[1]),
    };
    let octets = script.block()?;
    let mut frame = match kind {
        0 => return Some(octets.to_vec()),
        1 => {
            let quoted = packet(cluster, client, protocol, octets);
            let (start, icmp) = if is_v6 { ([2, 0], 58) } else { ([3, 4], 1) };
            packet(client, cluster, icmp, &[&start[..], &[0; 6], &quoted[14..]].concat())
        }
        4 => packet(client, remote(is_v6, octets), protocol, octets),
        _ => packet(client, cluster, protocol, octets),
    };
    if kind >= 3 && !is_v6 {
        // A fragment, or a header that says so much.
        let word = script.u16()?.to_be_bytes();
        frame[20..22].copy_from_slice(&word);
    }
    Some(frame)
}

fn is_for_others(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0])
        && frame
            .get(30..34)
            .is_some_and(|to| <[u8; 4]>::try_from(to).is_ok_and(|to| IpAddr::from(to) != addresses()[0]))
}

/// A station that only a router leads to, or one that none does.
fn remote(is_v6: bool, octets: &[u8]) -> IpAddr {
    let mut address = [7; 16];
    address.iter_mut().zip(octets).for_each(|(octet, drawn)| *octet = *drawn);
    match is_v6 {
        false => IpAddr::from([address[0], address[1], address[2], address[3]]),
        true => IpAddr::from(address),
    }
}

/// Flows begin, are claimed and go on while servers drain and configurations change; an echo; an error; fragments; a takeover.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let up: Vec<u8> = (0..SERVERS).flat_map(|server| [1, server, 1]).collect();
    let flow = [0, 0, 3, 5];
    let segment = |flags: u8| [&[8, 0][..], &flow, &[flags]].concat();
    let claims: Vec<u8> = (0..SERVERS).flat_map(|server| [&[6, server][..], &flow].concat()).collect();
    let told: Vec<u8> = (0..SERVERS).flat_map(|server| [5, server, 0]).collect();
    let begun = [&up[..], &told, &segment(2), &claims, &segment(16)].concat();
    let drained =
        [&[2, 0, 0, 0, 2, 1, 0, 1][..], &[0, 0, 0xff, 3], &segment(16), &[4, 0, 0x1e], &segment(16)].concat();
    let taken =
        [&[5, 0, 1][..], &segment(16), &claims, &segment(16), &[0, 0, 0xff, 0xff], &segment(24)].concat();
    // Of another client, to the first service: asked about, given back unchanged, and at last changed.
    let unknown = [8, 0, 0, 0, 9, 3, 16];
    let passed = [10, 0, 3, 10, 0, 3, 10, 0, 3, 10, 0, 3, 8, 0, 0, 0, 9, 3, 16, 10, 1, 2, 30, 7];
    let echo = [9, 0, 0, 2, 0, 1, 12, 8, 0, 0, 0, 1, 2, 0, 3, 9, 9, 9, 9];
    let error = [9, 0, 0, 1, 0, 6, 8, 0, 80, 0, 5, 0, 0, 0, 1];
    let first = [9, 0, 0, 3, 0, 17, 16, 0, 5, 0, 53, 0, 16, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0x20, 0];
    let later = [9, 0, 0, 3, 0, 17, 8, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2];
    let behind =
        [9, 0, 0, 2, 1, 44, 24, 17, 0, 0, 1, 0, 0, 0, 7, 0, 5, 0, 53, 0, 16, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    let route = [9, 0, 0, 4, 0, 17, 6, 198, 18, 0, 1, 5, 5, 0, 0];
    let routed = [&up[..], &[4, 0, 0x80], &route, &[2, 0, 0, 0], &route, &[1, 1, 0], &route].concat();
    vec![
        routed,
        [&begun[..], &drained].concat(),
        [&begun[..], &taken].concat(),
        [&up[..], &told, &[4, 0, 0], &told, &[0, 0, 0xff, 0x2f], &unknown, &passed].concat(),
        [&up[..], &echo, &error, &first, &later, &behind].concat(),
        [&begun[..], &[1, 0, 0, 1, 1, 0], &segment(16), &[1, 0, 1], &segment(16), &segment(2)].concat(),
        [&up[..], &[0, 0, 30, 0, 5, 0, 1, 0, 0, 1, 0, 0, 30, 0], &segment(2), &[7, 0, 0, 0, 3, 5]].concat(),
    ]
}

//! A model IP stack: what the kernel above one virtual interface does, as far as the fabric can tell.
//!
//! It resolves neighbours by ARP and neighbour discovery, answers for its own addresses, does duplicate address
//! detection, confirms neighbours by unicast probes (amendment 24), and sends and takes numbered frames.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use vlan_core::cluster::addresses_of;
use vlan_core::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, EthernetHeader};
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::wire::control::{InterfaceAddress, InterfaceConfig};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, MacAddress};

use crate::frame::internet_checksum;

/// Frames that wait for the fabric to take them: the kernel's queue on a TAP device. What comes when it is full
/// is never offered to the fabric.
const QUEUE_FRAMES_MAX: usize = 512;
/// Datagrams that wait for one neighbour to be resolved.
const WAITING_MAX: usize = 32;
/// Unanswered requests after which a neighbour is given up, or unicast probes after which it is asked for anew
/// (RFC 4861, 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const REQUESTS_MAX: u32 = 3;
/// How long duplicate address detection waits for an objection; RFC 4862 has a second.
const DETECTION: Duration = Duration::from_millis(20);

/// How fast the stack's neighbour cache ages; kernels take 30 s and 1 s.
#[derive(Clone, Copy, Debug)]
pub struct StackTimes {
    /// A neighbour confirmed longer ago than this is probed when it is next used.
    pub reachable: Duration,
    /// Pause between two requests.
    pub retransmit: Duration,
}

/// One datagram to send, before its neighbour's MAC is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The flow it belongs to.
    pub flow: u32,
    /// Source address: the stack's own.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// Octets of the frame it will be.
    pub frame_len: usize,
}

/// A frame on its way to the fabric.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// A whole frame, which nobody counts: ARP, ND, or a segment of TCP.
    Frame(Vec<u8>),
    /// A datagram with its neighbour's MAC; it becomes a frame when the fabric takes it.
    Datagram(Datagram, MacAddress),
}

#[derive(Debug)]
enum Neighbour {
    Asked { requests: u32, next: Instant, waiting: VecDeque<Datagram> },
    Known { mac: MacAddress, confirmed: Instant, probes: u32, next_probe: Instant },
}

/// The stack above one interface, in one life of its node.
#[derive(Debug)]
pub struct Stack {
    /// The interface's configuration, as the node gave it.
    pub config: InterfaceConfig,
    times: StackTimes,
    usable: Vec<InterfaceAddress>,
    detecting: Vec<(InterfaceAddress, Instant)>,
    neighbours: BTreeMap<IpAddr, Neighbour>,
    queue: VecDeque<Outgoing>,
    /// Datagrams given up because a neighbour did not answer or a queue was full: they never reached the fabric.
    pub unsent: u64,
    /// Addresses that another station objected to.
    pub duplicates: u64,
}

impl Stack {
    /// A stack on a new interface: IPv4 addresses are usable at once, IPv6 ones after detection.
    #[must_use]
    pub fn new(now: Instant, config: InterfaceConfig, times: StackTimes) -> Self {
        let mut stack = Self {
            config,
            times,
            usable: Vec::new(),
            detecting: Vec::new(),
            neighbours: BTreeMap::new(),
            queue: VecDeque::new(),
            unsent: 0,
            duplicates: 0,
        };
        stack.reconfigure(now, stack.config.clone());
        stack
    }

    /// Takes a new configuration of the same interface; addresses it has already stay as they are.
    pub fn reconfigure(&mut self, now: Instant, config: InterfaceConfig) {
        let wanted = config.addresses.clone();
        self.usable.retain(|a| wanted.contains(a));
        self.detecting.retain(|(a, _)| wanted.contains(a));
        self.config = config;
        let plain_max = usize::from(self.config.mtu) + ETHERNET_HEADER_LEN;
        self.queue.retain(|outgoing| match outgoing {
            // Kernels send no super-frames to groups.
            Outgoing::Datagram(datagram, mac) => !mac.is_group() || datagram.frame_len <= plain_max,
            Outgoing::Frame(_) => true,
        });
        for address in wanted {
            if self.usable.contains(&address) || self.detecting.iter().any(|(a, _)| *a == address) {
                continue;
            }
            match address.address {
                IpAddr::V4(own) => {
                    self.usable.push(address);
                    let announcement = arp(1, self.config.mac, own.octets(), MacAddress::NULL, own.octets());
                    self.push(Outgoing::Frame(announcement));
                }
                IpAddr::V6(own) => {
                    self.detecting.push((address, now + DETECTION));
                    self.push(Outgoing::Frame(solicitation(self.config.mac, None, own, None)));
                }
            }
        }
    }

    /// The addresses usable now, for `Node::handle_addresses`.
    #[must_use]
    pub fn addresses(&self) -> &[InterfaceAddress] {
        &self.usable
    }

    /// The neighbours whose MAC is known.
    pub fn neighbours(&self) -> impl Iterator<Item = (IpAddr, MacAddress)> + '_ {
        self.neighbours.iter().filter_map(|(&address, neighbour)| match neighbour {
            Neighbour::Known { mac, .. } => Some((address, *mac)),
            Neighbour::Asked { .. } => None,
        })
    }

    /// True for an address of a cluster that is served here.
    #[must_use]
    pub fn is_on_loopback(&self, address: IpAddr) -> bool {
        addresses_of(&self.config.clusters).any(|own| own == address)
    }

    /// True when `address` is usable.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.usable.iter().any(|a| a.address == address)
    }

    /// Sends a datagram to a unicast address: at once when the neighbour is known, else after asking for it.
    pub fn send(&mut self, now: Instant, datagram: Datagram) {
        if !self.has(datagram.source) {
            self.unsent += 1;
            return;
        }
        match self.neighbours.get_mut(&datagram.destination) {
            Some(Neighbour::Known { mac, confirmed, probes, next_probe }) => {
                let mac = *mac;
                if *probes == 0 && now.since(*confirmed) > self.times.reachable {
                    *probes = 1;
                    *next_probe = now + self.times.retransmit;
                    self.push_request(None, datagram.destination, Some(mac));
                }
                self.push(Outgoing::Datagram(datagram, mac));
            }
            Some(Neighbour::Asked { waiting, .. }) => {
                if waiting.len() == WAITING_MAX {
                    self.unsent += 1;
                } else {
                    waiting.push_back(datagram);
                }
            }
            None => self.ask(now, None, datagram.destination, VecDeque::from([datagram])),
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        source: Option<IpAddr>,
        destination: IpAddr,
        waiting: VecDeque<Datagram>,
    ) {
        let asked = Neighbour::Asked { requests: 1, next: now + self.times.retransmit, waiting };
        self.neighbours.insert(destination, asked);
        self.push_request(source, destination, None);
    }

    /// Sends a frame to a unicast address when its neighbour is known, and asks for it in the name of `source` when it is not:
    /// the frame is lost then, as whoever sends it tries again.
    pub fn send_frame(
        &mut self,
        now: Instant,
        (source, destination): (IpAddr, IpAddr),
        make: impl FnOnce(MacAddress, MacAddress) -> Vec<u8>,
    ) {
        match self.neighbours.get_mut(&destination) {
            Some(Neighbour::Known { mac, confirmed, probes, next_probe }) => {
                let mac = *mac;
                if *probes == 0 && now.since(*confirmed) > self.times.reachable {
                    *probes = 1;
                    *next_probe = now + self.times.retransmit;
                    self.push_request(Some(source), destination, Some(mac));
                }
                self.push(Outgoing::Frame(make(self.config.mac, mac)));
            }
            Some(Neighbour::Asked { .. }) => {}
            None => self.ask(now, Some(source), destination, VecDeque::new()),
        }
    }

    /// Sends a datagram to a MAC without asking: group traffic, and what no honest stack would send.
    pub fn send_to(&mut self, datagram: Datagram, mac: MacAddress) {
        self.push(Outgoing::Datagram(datagram, mac));
    }

    /// The frame that goes to the fabric next.
    #[must_use]
    pub fn peek(&self) -> Option<&Outgoing> {
        self.queue.front()
    }

    /// Removes what [`Self::peek`] showed: the fabric took it.
    pub fn pop(&mut self) {
        self.queue.pop_front();
    }

    /// Takes an ARP or ND frame.
    pub fn handle_resolution(&mut self, now: Instant, frame: &[u8]) {
        match EthernetHeader::parse(frame) {
            Some(header) if header.ethertype == ETHERTYPE_ARP => self.handle_arp(now, frame),
            Some(header) if header.ethertype == ETHERTYPE_IPV6 => self.handle_discovery(now, frame),
            _ => {}
        }
    }

    /// Moves timers on; returns true when the set of usable addresses has changed.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.usable.len();
        while let Some(at) = self.detecting.iter().position(|(_, until)| *until <= now) {
            let (address, _) = self.detecting.remove(at);
            self.usable.push(address);
        }
        let due: Vec<IpAddr> = self
            .neighbours
            .iter()
            .filter(|(_, n)| due_at(n) <= Some(now) && due_at(n).is_some())
            .map(|(a, _)| *a)
            .collect();
        for address in due {
            self.retry(now, address);
        }
        self.usable.len() != before
    }

    /// When [`Self::handle_timeout`] is next of use.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let detection = self.detecting.iter().map(|(_, until)| *until).min();
        let requests = self.neighbours.values().filter_map(due_at).min();
        [detection, requests].into_iter().flatten().min()
    }

    fn retry(&mut self, now: Instant, address: IpAddr) {
        let Some(neighbour) = self.neighbours.get_mut(&address) else { return };
        let next = now + self.times.retransmit;
        let probe_to = match neighbour {
            Neighbour::Asked { requests, waiting, .. } if *requests >= REQUESTS_MAX => {
                self.unsent += waiting.len() as u64;
                self.neighbours.remove(&address);
                return;
            }
            Neighbour::Asked { requests, next: at, .. } => {
                *requests += 1;
                *at = next;
                None
            }
            Neighbour::Known { probes, .. } if *probes >= REQUESTS_MAX => {
                self.neighbours.remove(&address);
                return;
            }
            Neighbour::Known { mac, probes, next_probe, .. } => {
                *probes += 1;
                *next_probe = next;
                Some(*mac)
            }
        };
        self.push_request(None, address, probe_to);
    }

    fn handle_arp(&mut self, now: Instant, frame: &[u8]) {
        let Some(o) = frame.get(14..42) else { return };
        let sender_mac = MacAddress([o[8], o[9], o[10], o[11], o[12], o[13]]);
        let sender: [u8; 4] = [o[14], o[15], o[16], o[17]];
        let target: [u8; 4] = [o[24], o[25], o[26], o[27]];
        if sender_mac == self.config.mac {
            return;
        }
        self.learn(now, IpAddr::from(sender), sender_mac, o[7] == 2);
        // A kernel answers for every address that it has, also on its loopback.
        let is_own = self.has(IpAddr::from(target)) || self.is_on_loopback(IpAddr::from(target));
        if o[7] == 1 && sender != target && is_own {
            self.push(Outgoing::Frame(arp(2, self.config.mac, target, sender_mac, sender)));
        }
    }

    fn handle_discovery(&mut self, now: Instant, frame: &[u8]) {
        let Some(body) = frame.get(54..78) else { return };
        let Some(target) = body[8..24].first_chunk::<16>().map(|o| Ipv6Addr::from(*o)) else { return };
        let Some(source) = frame[22..38].first_chunk::<16>().map(|o| Ipv6Addr::from(*o)) else { return };
        let option = frame.get(80..86).and_then(MacAddress::from_octets);
        match body[0] {
            135 if self.detecting.iter().any(|(a, _)| a.address == IpAddr::V6(target)) => {
                self.duplicates += u64::from(
                    source.is_unspecified()
                        && EthernetHeader::parse(frame).is_some_and(|h| h.source != self.config.mac),
                );
            }
            135 if self.has(IpAddr::V6(target)) => {
                let asker = if source.is_unspecified() { None } else { option.map(|mac| (source, mac)) };
                if let Some((address, mac)) = asker {
                    self.learn(now, IpAddr::V6(address), mac, false);
                }
                self.push(Outgoing::Frame(advertisement(self.config.mac, target, asker)));
            }
            136 => {
                if self.detecting.iter().any(|(a, _)| a.address == IpAddr::V6(target)) {
                    self.duplicates += 1;
                } else if let Some(mac) = option {
                    self.learn(now, IpAddr::V6(target), mac, true);
                }
            }
            _ => {}
        }
    }

    /// An answer makes or confirms an entry; a request from a known neighbour updates its MAC only.
    fn learn(&mut self, now: Instant, address: IpAddr, mac: MacAddress, is_answer: bool) {
        let waiting = match self.neighbours.get_mut(&address) {
            Some(Neighbour::Asked { waiting, .. }) => std::mem::take(waiting),
            Some(Neighbour::Known { mac: known, confirmed, probes, .. }) => {
                *known = mac;
                if is_answer {
                    *confirmed = now;
                    *probes = 0;
                }
                return;
            }
            None if is_answer => return,
            None => VecDeque::new(),
        };
        let known = Neighbour::Known { mac, confirmed: now, probes: 0, next_probe: now };
        self.neighbours.insert(address, known);
        for datagram in waiting {
            self.push(Outgoing::Datagram(datagram, mac));
        }
    }

    /// Asks in the name of the address that it sends from, if it is of IPv4, as kernels do; else of its own.
    fn push_request(&mut self, source: Option<IpAddr>, target: IpAddr, probe_to: Option<MacAddress>) {
        let own = self.usable.iter().map(|a| a.address).find(|a| a.is_ipv4() == target.is_ipv4());
        let own = source.filter(IpAddr::is_ipv4).or(own);
        let request = match (own, target) {
            (Some(IpAddr::V4(own)), IpAddr::V4(target)) => {
                let mut frame = arp(1, self.config.mac, own.octets(), MacAddress::NULL, target.octets());
                if let Some(mac) = probe_to {
                    frame[..6].copy_from_slice(&mac.0);
                }
                frame
            }
            (Some(IpAddr::V6(own)), IpAddr::V6(target)) => {
                solicitation(self.config.mac, Some(own), target, probe_to)
            }
            _ => return,
        };
        self.push(Outgoing::Frame(request));
    }

    fn push(&mut self, outgoing: Outgoing) {
        if self.queue.len() < QUEUE_FRAMES_MAX {
            self.queue.push_back(outgoing);
        } else {
            self.unsent += u64::from(matches!(outgoing, Outgoing::Datagram(..)));
        }
    }
}

fn due_at(neighbour: &Neighbour) -> Option<Instant> {
    match neighbour {
        Neighbour::Asked { next, .. } => Some(*next),
        Neighbour::Known { probes: 0, .. } => None,
        Neighbour::Known { next_probe, .. } => Some(*next_probe),
    }
}

/// The vnet state of ARP and ND frames.
pub(crate) const PLAIN: Vnet =
    Vnet { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

/// An ARP message (RFC 826): `operation` 1 is a request, sent to all; 2 an answer, sent to `target_mac`.
pub(crate) fn arp(
    operation: u8,
    mac: MacAddress,
    sender: [u8; 4],
    target_mac: MacAddress,
    target: [u8; 4],
) -> Vec<u8> {
    let destination = if operation == 1 { MacAddress::BROADCAST } else { target_mac };
    let mut frame = Vec::with_capacity(60);
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&sender);
    frame.extend_from_slice(&target_mac.0);
    frame.extend_from_slice(&target);
    frame.resize(60, 0);
    frame
}

/// A neighbour solicitation (RFC 4861, 4.3): to the target's solicited-node group, or to `probe_to`. Without
/// `source` it is a probe of duplicate address detection and carries no link-layer address.
fn solicitation(
    mac: MacAddress,
    source: Option<Ipv6Addr>,
    target: Ipv6Addr,
    probe_to: Option<MacAddress>,
) -> Vec<u8> {
    let t = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15]]);
    let (destination_mac, destination) = match probe_to {
        Some(mac) => (mac, target),
        None => (MacAddress([0x33, 0x33, 0xff, t[13], t[14], t[15]]), group),
    };
    let option = source.map(|_| (1, mac));
    let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
    discovery((mac, destination_mac), (source, destination), [135, 0, 0, 0], target, option)
}

/// A neighbour advertisement (RFC 4861, 4.4): to who asked, or to all nodes when nobody can be answered.
pub(crate) fn advertisement(
    mac: MacAddress,
    target: Ipv6Addr,
    asker: Option<(Ipv6Addr, MacAddress)>,
) -> Vec<u8> {
    let all = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), MacAddress([0x33, 0x33, 0, 0, 0, 1]));
    let (destination, destination_mac) = asker.unwrap_or(all);
    let flags = if asker.is_some() { 0x60 } else { 0x20 };
    discovery((mac, destination_mac), (target, destination), [136, flags, 0, 0], target, Some((2, mac)))
}

fn discovery(
    macs: (MacAddress, MacAddress),
    addresses: (Ipv6Addr, Ipv6Addr),
    [kind, flags, ..]: [u8; 4],
    target: Ipv6Addr,
    option: Option<(u8, MacAddress)>,
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    if let Some((number, mac)) = option {
        body.extend_from_slice(&[number, 1]);
        body.extend_from_slice(&mac.0);
    }
    let mut frame = Vec::with_capacity(54 + body.len());
    frame.extend_from_slice(&macs.1.0);
    frame.extend_from_slice(&macs.0.0);
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, body.len() as u8, 58, 255]);
    frame.extend_from_slice(&addresses.0.octets());
    frame.extend_from_slice(&addresses.1.octets());
    // RFC 4443, 2.3: the pseudo-header is both addresses, the length and the next header.
    let sum = body.len() as u32 + 58 + u32::from(!internet_checksum(0, &frame[22..54]));
    let sum = internet_checksum(sum, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::{Channel, LanId, VifNumber};

    fn stack(number: u8) -> Stack {
        let address = |text: String, prefix| InterfaceAddress { address: text.parse().unwrap(), prefix };
        let config = InterfaceConfig {
            lan: LanId(10),
            vif: VifNumber(1),
            mac: MacAddress([2, 0, 1, 0, 0, number]),
            mtu: 1500,
            port_security: vlan_core::security::PortSecurity::Mac,
            may_listen: false,
            has_carrier: true,
            relay_channel: Channel(1),
            arp_channel: Channel(2),
            name: "red0".into(),
            lan_name: "red".into(),
            addresses: vec![
                address(format!("10.1.0.{number}"), 24),
                address(format!("fd00:1::{number}"), 64),
            ],
            gateways: vec![],
            clusters: vec![],
            cluster_addresses: vec![],
        };
        let times =
            StackTimes { reachable: Duration::from_millis(100), retransmit: Duration::from_millis(10) };
        Stack::new(Instant::ZERO, config, times)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Carries everything both ways; returns the datagrams that arrived at `b`.
    fn exchange(now: Instant, a: &mut Stack, b: &mut Stack) -> usize {
        let mut arrived = 0;
        for _ in 0..10 {
            for (from, to) in [(&mut *a, &mut *b)] {
                while let Some(outgoing) = from.peek().cloned() {
                    from.pop();
                    match outgoing {
                        Outgoing::Frame(frame) => to.handle_resolution(now, &frame),
                        Outgoing::Datagram(..) => arrived += 1,
                    }
                }
            }
            while let Some(Outgoing::Frame(frame)) = b.peek().cloned() {
                b.pop();
                a.handle_resolution(now, &frame);
            }
        }
        arrived
    }

    #[test]
    fn datagrams_wait_for_their_neighbour_and_then_all_go_in_order() {
        let (mut a, mut b) = (stack(1), stack(2));
        a.handle_timeout(at(30));
        b.handle_timeout(at(30));
        for (source, destination) in [("10.1.0.1", "10.1.0.2"), ("fd00:1::1", "fd00:1::2")] {
            for flow in 0..3 {
                let datagram = Datagram {
                    flow,
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    frame_len: 100,
                };
                a.send(at(30), datagram);
            }
            assert_eq!(exchange(at(30), &mut a, &mut b), 3, "{source}");
        }
        assert_eq!((a.duplicates, b.duplicates), (0, 0));
    }

    #[test]
    fn a_silent_neighbour_is_asked_three_times_and_given_up() {
        let mut a = stack(1);
        let datagram = Datagram {
            flow: 1,
            source: "10.1.0.1".parse().unwrap(),
            destination: "10.1.0.9".parse().unwrap(),
            frame_len: 100,
        };
        a.send(at(0), datagram);
        for millis in [10, 20, 30] {
            a.handle_timeout(at(millis));
        }
        assert_eq!(a.unsent, 1);
        assert!(a.neighbours.is_empty());
    }

    #[test]
    fn discovery_messages_sum_to_zero_with_their_pseudo_header() {
        let frame = solicitation(
            MacAddress([2; 6]),
            Some("fd00::1".parse().unwrap()),
            "fd00::2".parse().unwrap(),
            None,
        );
        let pseudo = u32::from(!internet_checksum(0, &frame[22..54])) + 58 + (frame.len() - 54) as u32;
        assert_eq!(internet_checksum(pseudo, &frame[54..]), 0);
    }
}

//! What a real server's driver knows of the flows that its stack owns: it sees them leave, and claims them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use super::flow_set::FlowSet;
use super::{Flow, Protocol, ServiceKey};
use crate::ethernet::EthernetHeader;
use crate::ip::Packet;
use crate::time::Instant;
use crate::wire::control::ServedCluster;

/// Flows that one interface claims at a time.
pub const FLOWS_MAX: usize = 65_536;
/// Of these, flows of UDP: a client makes as many as it likes.
const UDP_FLOWS_MAX: usize = 32_768;
const _: () = assert!(UDP_FLOWS_MAX == FLOWS_MAX / 2);
/// How long a TCP flow is known whose segments have ended (RFC 5382, 5: four minutes at most; the time that a stack waits).
const CLOSING_TIME: Duration = Duration::from_secs(60);
/// How long one is known for which a RST came that may be a guess.
const GUESSED_TIME: Duration = Duration::from_secs(15 * 60);
/// How long a TCP flow is known that is idle (RFC 5382, 5).
const TCP_IDLE: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// How long one of UDP is.
const UDP_IDLE: Duration = Duration::from_secs(30);
/// Between two looks for flows that are too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Where the numbers and the flags of a TCP header are.
const SEQUENCE_AT: usize = 4;
const ACKNOWLEDGED_AT: usize = 8;
const FLAGS_AT: usize = 13;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// What is to be told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The stack owns it.
    Claimed(Flow),
    /// The stack has it no more.
    Gone(Flow),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    end: End,
    /// What the stack acknowledged last: the next sequence number that it expects.
    expected: u32,
}

/// How far a TCP flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not at all.
    None,
    /// A RST has come for it, from whomever: the stack knows whether it counts, and has sent nothing since. It may be a guess.
    Doubtful { is_guess: bool },
    /// The stack sends nothing more.
    Closing,
}

/// The clusters that an interface serves, and the flows that its stack owns.
#[derive(Clone, Debug)]
pub struct Served {
    /// The addresses of the clusters, in order, and their services that keep flows.
    addresses: Vec<IpAddr>,
    services: Vec<(IpAddr, ServiceKey)>,
    flows: FlowSet<Seen>,
    /// Those of UDP.
    udp: usize,
    news: VecDeque<News>,
    sweep_at: Option<Instant>,
    /// Flows that found no room.
    unclaimed: u64,
}

/// What a packet says of its flow.
enum Said {
    /// It is there.
    Alive,
    /// This side sends nothing more.
    Closing,
    /// It is over.
    Over,
}

impl Served {
    /// Serves nothing yet. The seed is nobody else's.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            addresses: Vec::new(),
            services: Vec::new(),
            flows: FlowSet::new(seed),
            udp: 0,
            news: VecDeque::new(),
            sweep_at: None,
            unclaimed: 0,
        }
    }

    /// The interface serves these from now on. Flows of others are forgotten.
    pub fn set_clusters(&mut self, clusters: &[ServedCluster]) {
        self.addresses = addresses_of(clusters).collect();
        self.addresses.sort_unstable();
        let kept = |cluster: &ServedCluster| -> Vec<_> {
            let keys: Vec<_> = cluster.services.iter().filter(|s| s.is_kept).map(|s| s.key()).collect();
            cluster.addresses.iter().flat_map(|address| keys.iter().map(|key| (*address, *key))).collect()
        };
        self.services = clusters.iter().flat_map(kept).collect();
        self.services.sort_unstable();
        let gone: Vec<Flow> =
            self.flows.iter().map(|(flow, _)| *flow).filter(|flow| !self.keeps(flow)).collect();
        for flow in gone {
            self.forget(&flow);
        }
    }

    /// True while the interface serves anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Flows that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True when no flow is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.len() == 0
    }

    /// Flows that found no room, so that nobody claims them.
    #[must_use]
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    /// Hears what the stack sends: what follows the answer to a SYN, or a datagram, shows that the stack owns the flow.
    //= spec/cluster.md#whose-flow-it-is
    //# The driver of a real server MUST claim a flow when its stack sends a segment of it that is neither SYN nor RST, or a datagram, and give it up when its stack resets it, 60 s after its end, or when it is idle.
    pub fn handle_outgoing(&mut self, now: Instant, frame: &[u8]) {
        let Some((packet, protocol, said)) = read(frame) else { return };
        if !self.is_address(packet.source) {
            return;
        }
        let Some((source_port, port)) = ports(frame, &packet) else { return };
        let flow = Flow {
            protocol,
            client: packet.destination,
            client_port: port,
            address: packet.source,
            port: source_port,
        };
        match said {
            Some(Said::Over) => self.forget(&flow),
            Some(said) => {
                self.own(now, flow, matches!(said, Said::Closing), number(frame, &packet, ACKNOWLEDGED_AT))
            }
            None => {}
        }
    }

    /// Hears what comes for the stack.
    pub fn handle_incoming(&mut self, now: Instant, frame: &[u8]) {
        let Some((packet, protocol, said)) = read(frame) else { return };
        if !self.is_address(packet.destination) {
            return;
        }
        let Some((client_port, port)) = ports(frame, &packet) else { return };
        let flow = Flow { protocol, client: packet.source, client_port, address: packet.destination, port };
        let Some(seen) = self.flows.known_mut(&flow) else { return };
        match said {
            Some(Said::Over) => seen.doubt(now, number(frame, &packet, SEQUENCE_AT)),
            _ => seen.at = now,
        }
    }

    /// True for a packet that this stack is to have though only the owner of its flow may: it owns it, or the packet is of no flow.
    //= spec/cluster.md#asked-servers
    //# The driver of a real server MUST drop a segment that is for the owner of its flow alone, as `not-owner`, unless its stack owns the flow.
    #[must_use]
    pub fn may_have(&self, frame: &[u8]) -> bool {
        let Some((packet, protocol, _)) = read(frame) else { return true };
        let Some((client_port, port)) = ports(frame, &packet) else { return true };
        let flow = Flow { protocol, client: packet.source, client_port, address: packet.destination, port };
        self.flows.known(&flow).is_some()
    }

    /// The next thing to be told.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The next flow to be told, when it is claimed, or when it is gone.
    pub fn poll_news_of(&mut self, is_claim: bool) -> Option<Flow> {
        let is_it = matches!(self.news.front()?, News::Claimed(_)) == is_claim;
        match self.news.pop_front_if(|_| is_it)? {
            News::Claimed(flow) | News::Gone(flow) => Some(flow),
        }
    }

    /// Things that are to be told.
    #[must_use]
    pub fn news_len(&self) -> usize {
        self.news.len()
    }

    /// The known flows at these places, of those that there are. Who goes through them from the last to the first sees each that is there
    /// all the time, whatever comes and goes meanwhile.
    pub fn flows(&self, range: Range<usize>) -> impl Iterator<Item = Flow> + '_ {
        self.flows.part(range).map(|(flow, _)| *flow)
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Forgets what is too old.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        let old: Vec<Flow> = self.flows.iter().filter(|entry| is_old(now, entry)).map(|(f, _)| *f).collect();
        for flow in old {
            self.forget(&flow);
        }
        self.sweep_at = (self.flows.len() > 0).then(|| now + SWEEP_INTERVAL);
    }

    fn own(&mut self, now: Instant, flow: Flow, is_closing: bool, expected: u32) {
        if let Some(seen) = self.flows.known_mut(&flow) {
            seen.sent(now, is_closing, expected);
            return;
        }
        if !self.keeps(&flow) {
            return;
        }
        let is_udp = flow.protocol == Protocol::Udp;
        if self.flows.len() == FLOWS_MAX || is_udp && self.udp == UDP_FLOWS_MAX {
            self.unclaimed += 1;
            return;
        }
        let end = if is_closing { End::Closing } else { End::None };
        self.udp += usize::from(is_udp);
        self.flows.insert(flow, Seen { at: now, end, expected });
        self.news.push_back(News::Claimed(flow));
        self.sweep_at = self.sweep_at.or(Some(now + SWEEP_INTERVAL));
    }

    fn forget(&mut self, flow: &Flow) {
        if self.flows.remove(flow).is_some() {
            self.udp -= usize::from(flow.protocol == Protocol::Udp);
            self.news.push_back(News::Gone(*flow));
        }
    }

    /// The flow is of a service that is served here and keeps its flows.
    fn keeps(&self, flow: &Flow) -> bool {
        self.services.binary_search(&(flow.address, flow.service())).is_ok()
    }

    fn is_address(&self, address: IpAddr) -> bool {
        self.addresses.binary_search(&address).is_ok()
    }
}

impl Seen {
    /// The stack has sent something of it.
    fn sent(&mut self, now: Instant, is_closing: bool, expected: u32) {
        let is_closing = is_closing || self.end == End::Closing;
        *self = Self { at: now, end: if is_closing { End::Closing } else { End::None }, expected };
    }

    /// Somebody says that it is over; more of them do not make it last longer.
    //= spec/cluster.md#resets-that-come
    //# The driver of a real server MUST keep a flow for which a RST comes for 60 s where its sequence number is what the stack expects next, else for 15 min, and as ever when its stack sends a segment of it meanwhile.
    fn doubt(&mut self, now: Instant, sequence: u32) {
        let is_guess = sequence != self.expected;
        if self.end == End::None || self.end == (End::Doubtful { is_guess: true }) && !is_guess {
            *self = Self { at: now, end: End::Doubtful { is_guess }, ..*self };
        }
    }
}

fn is_old(now: Instant, (flow, seen): &(&Flow, &Seen)) -> bool {
    let kept = match flow.protocol {
        Protocol::Udp => UDP_IDLE,
        Protocol::Tcp => match seen.end {
            End::None => TCP_IDLE,
            End::Doubtful { is_guess: true } => GUESSED_TIME,
            End::Doubtful { is_guess: false } | End::Closing => CLOSING_TIME,
        },
    };
    now.since(seen.at) > kept
}

/// A whole packet of TCP or UDP, and what it says of its flow: nothing, when it begins it.
fn read(frame: &[u8]) -> Option<(Packet, Protocol, Option<Said>)> {
    let header = EthernetHeader::parse(frame)?;
    // The length in the header is the sender's affair: ports and flags lie in front.
    let packet = Packet::read(frame, header.ethertype, true).ok()??;
    let protocol = Protocol::from_number(packet.protocol?)?;
    if protocol == Protocol::Udp {
        return Some((packet, protocol, Some(Said::Alive)));
    }
    let flags = *frame.get(packet.upper_at + FLAGS_AT)?;
    let said = match flags {
        flags if flags & RST != 0 => Some(Said::Over),
        flags if flags & SYN != 0 => None,
        flags if flags & FIN != 0 => Some(Said::Closing),
        _ => Some(Said::Alive),
    };
    Some((packet, protocol, said))
}

/// Source and destination port.
fn ports(frame: &[u8], packet: &Packet) -> Option<(u16, u16)> {
    let &[a, b, c, d] = frame.get(packet.upper_at..)?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// A number of a TCP header; 0 of a datagram, which has none.
fn number(frame: &[u8], packet: &Packet, at: usize) -> u32 {
    let is_tcp = packet.protocol == Some(Protocol::Tcp as u8);
    let octets = frame.get(packet.upper_at + at..).and_then(<[u8]>::first_chunk::<4>).filter(|_| is_tcp);
    octets.map_or(0, |octets| u32::from_be_bytes(*octets))
}

/// The addresses that are to be on the loopback.
pub fn addresses_of(clusters: &[ServedCluster]) -> impl Iterator<Item = IpAddr> + '_ {
    clusters.iter().flat_map(|cluster| cluster.addresses.iter().copied())
}

#[cfg(test)]
mod tests;

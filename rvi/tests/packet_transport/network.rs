//! Two transports joined by a network that loses, delays, reorders and duplicates as a seed says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use rvi::Part;
use rvi::packet::receiver::{ChannelWindows, PooledBuf};
use rvi::packet::sender::{Outgoing, PacketLegConfig, PacketLegState, PacketLegStatus, TransportEvent};
use rvi::packet::transport::{PacketTransport, TransmitBuffer, TransportConfig};
use rvi::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketLeg, TAG_LEN};
use vlan_core::random::Random;
use vlan_core::{Channel, Instant};

pub const DATA: Channel = Channel(1);

pub fn leg(number: u8) -> PacketLeg {
    PacketLeg::new(number).expect("a leg")
}

/// One direction of a leg.
#[derive(Clone, Debug)]
pub struct Link {
    pub is_dead: bool,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay: Duration,
    /// Added at random: more than the gap between packets reorders them.
    pub jitter: Duration,
    /// Octets of the longest packet that arrives; nobody says so.
    pub len_most: usize,
}

impl Default for Link {
    fn default() -> Self {
        let (delay, jitter) = (Duration::from_micros(20), Duration::ZERO);
        Self { is_dead: false, loss_percent: 0, duplicate_percent: 0, delay, jitter, len_most: usize::MAX }
    }
}

/// What an association keeps of delivered messages.
#[derive(Debug, Default)]
pub struct Windows {
    channels: BTreeMap<u8, (u32, BTreeSet<u32>)>,
}

impl Windows {
    pub fn deliver(&mut self, channel: Channel, mseq: u32) -> bool {
        let (cum, above) = self.channels.entry(channel.0).or_default();
        let is_new = mseq >= *cum && above.insert(mseq);
        while above.remove(cum) {
            *cum += 1;
        }
        is_new
    }
}

impl ChannelWindows for Windows {
    fn is_open(&self, _: Channel) -> bool {
        true
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        self.channels.get(&channel.0).is_some_and(|(cum, above)| mseq < *cum || above.contains(&mseq))
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        let Some((cum, above)) = self.channels.get(&channel.0) else { return (0, 0) };
        (*cum, above.last().map_or(*cum, |last| last + 1))
    }
}

/// A message that the application wants to send.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub channel: Channel,
    pub lane: u16,
    pub len: usize,
    pub is_after_all: bool,
}

pub struct End {
    pub transport: PacketTransport,
    pub windows: Windows,
    pub settles: bool,
    /// The host gives octets back as soon as it has the message.
    pub recycles: bool,
    pub lent: Vec<PooledBuf>,
    pub probes_allowed: bool,
    pub wishes: VecDeque<Wish>,
    next: BTreeMap<u8, u32>,
    /// When each message that came was accepted by its sender, and delivered here.
    pub sent_at: BTreeMap<(u8, u32), Instant>,
    pub delays: Vec<(Instant, Duration)>,
    last_of_lane: BTreeMap<(u8, u16), u32>,
    pub delivered: u64,
    pub events: Vec<(Instant, TransportEvent)>,
    pub asleep_until: Instant,
    pub tx_packets: u64,
    inbox: VecDeque<Vec<u8>>,
    buffer: TransmitBuffer,
}

impl End {
    fn new(config: &TransportConfig) -> Self {
        Self {
            transport: PacketTransport::new(config),
            windows: Windows::default(),
            settles: true,
            recycles: true,
            lent: Vec::new(),
            probes_allowed: true,
            wishes: VecDeque::new(),
            next: BTreeMap::new(),
            sent_at: BTreeMap::new(),
            delays: Vec::new(),
            last_of_lane: BTreeMap::new(),
            delivered: 0,
            events: Vec::new(),
            asleep_until: Instant::ZERO,
            tx_packets: 0,
            inbox: VecDeque::new(),
            buffer: TransmitBuffer::new(64, 65_000),
        }
    }

    /// Sends what the application wants until the transport says Full.
    fn send(&mut self, now: Instant) {
        while let Some(wish) = self.wishes.front() {
            let mseq = self.next.entry(wish.channel.0).or_default();
            let octets = content(wish.channel, *mseq, wish.lane, wish.len);
            let message = Outgoing {
                channel: wish.channel,
                lane: wish.lane,
                mseq: *mseq,
                is_resent: false,
                is_after_all: wish.is_after_all,
                parts: &[Part::Private(&octets)],
            };
            if self.transport.send(now, message).is_err() {
                return;
            }
            self.sent_at.insert((wish.channel.0, *mseq), now);
            *mseq += 1;
            self.wishes.pop_front();
        }
    }

    pub fn status(&self, number: u8) -> PacketLegStatus {
        self.transport.leg_status().find(|status| status.leg == leg(number)).expect("the leg is there")
    }

    pub fn state(&self, number: u8) -> PacketLegState {
        self.status(number).state
    }

    /// When a leg first became what `state` says, after `from`.
    pub fn when(&self, number: u8, state: PacketLegState, from: Instant) -> Option<Instant> {
        let wanted = TransportEvent::LegState(leg(number), state);
        self.events.iter().find(|(at, event)| *at >= from && *event == wanted).map(|(at, _)| *at)
    }

    pub fn has_seen(&self, wanted: TransportEvent) -> bool {
        self.events.iter().any(|(_, event)| *event == wanted)
    }
}

/// What a message says: any octet in the wrong place shows.
fn content(channel: Channel, mseq: u32, lane: u16, len: usize) -> Vec<u8> {
    let seed = u32::from(channel.0) ^ mseq.wrapping_mul(0x9e37_79b9) ^ u32::from(lane) << 8;
    (0..len as u32).map(|i| (seed.wrapping_add(i.wrapping_mul(0x0101_6b55)) >> 11) as u8).collect()
}

type Arrival = Reverse<(Instant, u64, usize, Vec<u8>)>;

pub struct World {
    pub now: Instant,
    pub ends: [End; 2],
    /// By the sending end, and the leg's index.
    pub links: [[Link; PacketLeg::COUNT]; 2],
    pub random: Random,
    flying: BinaryHeap<Arrival>,
    count: u64,
    /// Octets of the longest packet that the route of each leg takes.
    pub packet_len_max: usize,
    /// Packets that were too long for their link.
    pub too_long: u64,
}

impl World {
    pub fn new(config: &TransportConfig, seed: u64, legs: &[u8]) -> Self {
        let peer = TransportConfig { seed: config.seed + 1, ..config.clone() };
        let mut world = Self {
            now: Instant::from_nanos(1_000_000),
            ends: [End::new(config), End::new(&peer)],
            links: Default::default(),
            random: Random::new(seed),
            flying: BinaryHeap::new(),
            count: 0,
            packet_len_max: 1472,
            too_long: 0,
        };
        for &number in legs {
            world.leg_up(number);
        }
        world
    }

    pub fn leg_up(&mut self, number: u8) {
        let config = PacketLegConfig { leg: leg(number), packet_len_max: self.packet_len_max };
        for end in &mut self.ends {
            end.transport.leg_up(self.now, config);
        }
    }

    /// Both directions of a leg.
    pub fn set_dead(&mut self, number: u8, is_dead: bool) {
        for links in &mut self.links {
            links[leg(number).index()].is_dead = is_dead;
        }
    }

    pub fn each_link(&mut self, mut f: impl FnMut(&mut Link)) {
        self.links.iter_mut().flatten().for_each(&mut f);
    }

    pub fn wish(&mut self, end: usize, lane: u16, len: usize) {
        self.ends[end].wishes.push_back(Wish { channel: DATA, lane, len, is_after_all: false });
    }

    /// A message of `len` octets each `gap` from each end in `ends`, for `time`, in 64 lanes.
    pub fn stream(&mut self, ends: &[usize], gap: Duration, len: usize, time: Duration) {
        let end_at = self.now + time;
        while self.now < end_at {
            for &end in ends {
                let lane = self.random.below(64) as u16;
                self.wish(end, lane, len);
            }
            let next = self.now + gap;
            self.run_until(next);
        }
    }

    /// The next message of `from` comes to the other end by a leg of another kind.
    pub fn deliver_elsewhere(&mut self, from: usize) {
        let mseq = self.ends[from].next.get(&DATA.0).copied().unwrap_or(0);
        let end = &mut self.ends[1 - from];
        assert!(end.windows.deliver(DATA, mseq), "message {mseq} still waits for room");
        end.transport.receiver_mut().handle_delivered(DATA, mseq, &end.windows);
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub fn run_until(&mut self, until: Instant) {
        let mut rounds = 0;
        self.pump_all();
        while let Some(next) = self.next_event().filter(|at| *at <= until) {
            // A verdict on one leg may make something else due at once, but not again and again.
            rounds = if next > self.now { 0 } else { rounds + 1 };
            assert!(rounds < 100, "due again and again at {next}: {}", self.describe());
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse(first)| first.0 <= self.now) {
                let Some(Reverse((_, _, to, packet))) = self.flying.pop() else { break };
                self.ends[to].inbox.push_back(packet);
            }
            self.pump_all();
        }
        self.now = until;
    }

    /// Runs until everything wished for has been delivered and acknowledged; panics if that takes longer than `limit`.
    pub fn run_to_the_end(&mut self, limit: Duration) {
        let end_at = self.now + limit;
        loop {
            let is_done = self.ends.iter().all(|e| e.wishes.is_empty() && e.transport.is_drained());
            if is_done {
                break;
            }
            assert!(self.now < end_at, "no progress: {}", self.describe());
            self.run_for(Duration::from_micros(500));
        }
        for end in 0..2 {
            assert_eq!(self.ends[end].delivered, self.ends[1 - end].sent_at.len() as u64);
        }
    }

    fn describe(&self) -> String {
        let of = |end: &End| {
            let legs: Vec<_> = end.transport.leg_status().collect();
            let lowest = end.transport.lowest_unacked(DATA);
            format!(
                "{} wishes, {} sent, lowest {lowest:?}, {legs:#?}\n{:?}",
                end.wishes.len(),
                end.sent_at.len(),
                end.transport.receiver_counters()
            )
        };
        format!("{}\n{}", of(&self.ends[0]), of(&self.ends[1]))
    }

    fn next_event(&self) -> Option<Instant> {
        let flying = self.flying.peek().map(|Reverse(first)| first.0);
        let timer = |end: &End| end.transport.poll_timeout().map(|at| at.max(end.asleep_until));
        self.ends.iter().filter_map(timer).chain(flying).min()
    }

    fn pump_all(&mut self) {
        for end in 0..2 {
            if self.ends[end].asleep_until <= self.now {
                self.pump(end);
            }
        }
    }

    /// One round of a host.
    fn pump(&mut self, index: usize) {
        let now = self.now;
        while let Some(packet) = self.ends[index].inbox.pop_front() {
            let header = PacketHeader::parse_packet(&packet).expect("our own packet");
            let payload = &packet[PACKET_HEADER_LEN..packet.len() - TAG_LEN];
            let end = &mut self.ends[index];
            end.transport.handle_packet(now, &header, payload, &end.windows).expect("an honest peer");
        }
        self.deliver(index);
        let end = &mut self.ends[index];
        end.send(now);
        if end.transport.poll_timeout().is_some_and(|at| at <= now) {
            let allowed = end.probes_allowed;
            end.transport.handle_timeout(now, &mut || allowed);
        }
        while let Some(event) = end.transport.poll_event() {
            end.events.push((now, event));
        }
        end.send(now);
        self.transmit(index);
    }

    fn deliver(&mut self, index: usize) {
        let now = self.now;
        let [first, second] = &mut self.ends;
        let (end, peer) = if index == 0 { (first, second) } else { (second, first) };
        while let Some(message) = end.transport.poll_message(&end.windows) {
            let (channel, mseq, lane) = (message.channel, message.mseq, message.lane);
            assert!(end.windows.deliver(channel, mseq), "message {mseq} came twice");
            let expected = content(channel, mseq, lane, message.octets.len());
            assert!(message.octets[..] == expected[..], "message {mseq} is not what was sent");
            if let Some(last) = end.last_of_lane.insert((channel.0, lane), mseq) {
                assert!(last < mseq, "lane {lane}: {mseq} came after {last}");
            }
            let sent_at = *peer.sent_at.get(&(channel.0, mseq)).expect("it was sent");
            end.delays.push((now, now.since(sent_at)));
            end.delivered += 1;
            if end.recycles {
                end.transport.recycle(message.octets);
            } else {
                end.lent.push(message.octets);
            }
        }
    }

    fn transmit(&mut self, index: usize) {
        loop {
            let end = &mut self.ends[index];
            let Some(batch) =
                end.transport.poll_transmit(self.now, &end.windows, end.settles, &mut end.buffer)
            else {
                return;
            };
            let octets = end.buffer.octets().to_vec();
            assert_eq!(octets.len(), batch.len);
            assert_eq!(octets.len().div_ceil(batch.segment_len), batch.count, "{batch:?}");
            assert!(batch.segment_len <= self.packet_len_max);
            end.tx_packets += batch.count as u64;
            for packet in octets.chunks(batch.segment_len) {
                self.launch(index, batch.leg, packet);
            }
        }
    }

    fn launch(&mut self, from: usize, leg: PacketLeg, packet: &[u8]) {
        let link = &self.links[from][leg.index()];
        let copies = 1 + u64::from(self.random.below(100) < link.duplicate_percent);
        for _ in 0..copies {
            let is_too_long = packet.len() > link.len_most;
            self.too_long += u64::from(is_too_long);
            if link.is_dead || is_too_long || self.random.below(100) < link.loss_percent {
                continue;
            }
            let jitter = self.random.below(link.jitter.as_nanos() as u64 + 1);
            let at = self.now + link.delay + Duration::from_nanos(jitter);
            self.count += 1;
            self.flying.push(Reverse((at, self.count, 1 - from, packet.to_vec())));
        }
    }
}

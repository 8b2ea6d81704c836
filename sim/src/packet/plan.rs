//! What a run consists of: the network, both ends, the traffic, which faults may come, and what must hold.

use std::time::Duration;

use rvi::packet::receiver::{Receiver, ReceiverConfig};
use rvi::packet::sender::{PacketScheduler, WaitPolicy};
use rvi::packet::transport::TransportConfig;
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::random::Random;
use vlan_core::{Channel, Instant};

use super::chance::Ppm;
use super::coverage::Fault;
use super::link::Conditions;
use super::network::{LegPlan, RELAY_LEG};
use super::side::Side;

/// How an end waits for packets, which decides how long it may sit on an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It looks all the time: a packet is seen within a microsecond.
    Poll,
    /// It sleeps: a packet is seen after 5 to 30 us.
    Interrupt,
}

impl Wait {
    /// The longest time that an acknowledgement waits.
    #[must_use]
    pub const fn ack_delay(self) -> Duration {
        match self {
            Self::Poll => Duration::from_micros(20),
            Self::Interrupt => Duration::from_micros(200),
        }
    }

    /// The same for the transport.
    #[must_use]
    pub const fn policy(self) -> WaitPolicy {
        match self {
            Self::Poll => WaitPolicy::Poll,
            Self::Interrupt => WaitPolicy::Interrupt,
        }
    }

    /// The shortest wait for a proof that makes sense.
    #[must_use]
    pub const fn granularity(self) -> Duration {
        match self {
            Self::Poll => Duration::from_micros(10),
            Self::Interrupt => Duration::from_micros(200),
        }
    }

    /// The longest time until a packet that arrived is looked at.
    #[must_use]
    pub const fn wake_max(self) -> Duration {
        Duration::from_micros(self.wake_us().1)
    }

    /// When a packet that arrives wakes its end: at the least, and at the most.
    #[must_use]
    pub const fn wake_us(self) -> (u64, u64) {
        match self {
            Self::Poll => (0, 1),
            Self::Interrupt => (5, 30),
        }
    }
}

/// How long messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Mostly small ones, some of a few packets, one in thirty a super-frame.
    Mixed,
}

impl Sizes {
    /// Draws a length in octets.
    pub fn draw(self, random: &mut Random) -> usize {
        let between =
            |random: &mut Random, low: u64, high: u64| (low + random.below(high - low + 1)) as usize;
        match self {
            Self::Fixed(len) => len,
            Self::Mixed => match random.below(30) {
                0 => between(random, 9000, MESSAGE_LEN_MAX as u64),
                1..=4 => between(random, 1400, 9000),
                5..=12 => between(random, 129, 1600),
                _ => between(random, 1, 128),
            },
        }
    }
}

/// Where messages come from.
#[derive(Clone, Copy, Debug)]
pub struct SourcePlan {
    /// The sending end.
    pub side: Side,
    /// The channel.
    pub channel: Channel,
    /// Its lanes: each message draws one of so many.
    pub lanes: u16,
    /// Mean pause between two bursts.
    pub interval: Duration,
    /// The pause is always the same.
    pub is_regular: bool,
    /// Messages of a burst, at most.
    pub burst_max: u64,
    /// How long they are.
    pub sizes: Sizes,
    /// How many are barriers, which come behind everything before them.
    pub after_all: Ppm,
}

/// What is particular to an end.
#[derive(Clone, Copy, Debug)]
pub struct EndPlan {
    /// The rate error of its clock.
    pub ppm: i32,
    /// What its clock shows at the start.
    pub clock_start: Instant,
    /// Octets that its socket holds.
    pub socket_octets_max: usize,
}

/// What may be demanded of a run.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// While a direct leg delivers 95 of 100 packets each way and both ends run, nothing takes longer (I-2, I-8).
    pub delay_max: Duration,
    /// No leg that delivers 90 of 100 packets may ever be DOWN (I-12).
    pub no_false_down: bool,
}

/// Everything about a run that is fixed before it starts.
#[derive(Clone, Debug)]
pub struct PacketPlan {
    /// The seed that the run is a function of.
    pub seed: u64,
    /// The legs.
    pub legs: Vec<LegPlan>,
    /// How messages are spread over them.
    pub scheduler: PacketScheduler,
    /// How both ends wait.
    pub wait: Wait,
    /// Packets after which a receiver acknowledges at the latest.
    pub ack_every: u32,
    /// Octets that a receiver holds.
    pub hold_octets_max: usize,
    /// Octets that a sender keeps.
    pub send_octets_max: usize,
    /// Octets that may be on their way by one leg.
    pub window_octets_max: usize,
    /// The ends.
    pub ends: [EndPlan; 2],
    /// Channels, from 0 (control) on.
    pub channels: usize,
    /// What is sent.
    pub sources: Vec<SourcePlan>,
    /// Faults that may come, at random times.
    pub fault_menu: Vec<Fault>,
    /// How many of them.
    pub faults: usize,
    /// How long traffic and faults last.
    pub duration: Duration,
    /// What must hold.
    pub promise: Promise,
}

/// The control channel and a data channel.
const CHANNELS: usize = 2;

impl PacketPlan {
    /// Two like legs of 10 us and a relay of 30, both ends waiting in poll mode; a source of small messages each
    /// way, 5,000 a second, in 64 lanes; a little control traffic; no faults.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        let fabric = Conditions::calm(Duration::from_micros(10)).with_jitter(Duration::from_micros(2));
        let mut relay = Conditions::calm(Duration::from_micros(30)).with_jitter(Duration::from_micros(10));
        relay.rate = Some((1_000_000_000, 1 << 18));
        let end = EndPlan { ppm: 0, clock_start: Instant::ZERO, socket_octets_max: 4 << 20 };
        let mut plan = Self {
            seed,
            legs: vec![
                LegPlan::both_ways(0, fabric),
                LegPlan::both_ways(1, fabric),
                LegPlan::both_ways(RELAY_LEG, relay),
            ],
            scheduler: PacketScheduler::Lane,
            wait: Wait::Poll,
            ack_every: 32,
            hold_octets_max: 1 << 20,
            send_octets_max: 1 << 20,
            window_octets_max: 4 << 20,
            ends: [end; 2],
            channels: CHANNELS,
            sources: Vec::new(),
            fault_menu: Vec::new(),
            faults: 0,
            duration: Duration::from_millis(200),
            promise: Promise { delay_max: Duration::from_millis(50), no_false_down: true },
        };
        for side in Side::BOTH {
            plan.sources.push(Self::steady(side, Duration::from_micros(200), 256));
            plan.sources.push(SourcePlan {
                channel: Channel::CONTROL,
                lanes: 1,
                is_regular: false,
                ..Self::steady(side, Duration::from_millis(5), 300)
            });
        }
        plan
    }

    /// A source of messages of one length at a steady rate.
    #[must_use]
    pub const fn steady(side: Side, interval: Duration, len: usize) -> SourcePlan {
        SourcePlan {
            side,
            channel: Channel(1),
            lanes: 64,
            interval,
            is_regular: true,
            burst_max: 1,
            sizes: Sizes::Fixed(len),
            after_all: Ppm(0),
        }
    }

    /// The plan that belongs to `seed`, with `faults` faults out of a menu: any scheduler, any wait, small and
    /// large memories, like and unlike legs, with a relay or without.
    #[must_use]
    pub fn of_seed(seed: u64, faults: usize) -> Self {
        let mut random = Random::new(seed ^ 0x7061_636b_6574_7321);
        let mut plan = Self::calm(seed);
        plan.legs = random_legs(&mut random);
        plan.scheduler = SCHEDULERS[random.below(4) as usize];
        plan.wait = [Wait::Poll, Wait::Interrupt][random.below(2) as usize];
        plan.ack_every = [4, 16, 32][random.below(3) as usize];
        plan.hold_octets_max = [1 << 17, 1 << 18, 1 << 20, 4 << 20][random.below(4) as usize];
        plan.send_octets_max = [1 << 17, 1 << 18, 1 << 20, 4 << 20][random.below(4) as usize];
        plan.window_octets_max = [1 << 16, 1 << 18, 4 << 20][random.below(3) as usize];
        plan.ends = [random_end(&mut random), random_end(&mut random)];
        plan.channels = CHANNELS + random.below(3) as usize;
        plan.sources.clear();
        for side in Side::BOTH {
            for channel in 0..plan.channels as u8 {
                plan.sources.push(random_source(&mut random, side, Channel(channel)));
            }
        }
        plan.fault_menu = Fault::ALL.into_iter().filter(|_| random.below(3) > 0).collect();
        plan.faults = faults;
        plan.duration = Duration::from_millis(100 + random.below(400));
        // Probes of a leg that was down for long are up to 250 ms apart, with 25 % of jitter.
        plan.promise = Promise { delay_max: Duration::from_millis(700), no_false_down: false };
        plan
    }

    /// What both transports are made with.
    #[must_use]
    pub fn transport_config(&self) -> TransportConfig {
        let receiver = ReceiverConfig {
            octets_max: self.hold_octets_max,
            ack_every: self.ack_every,
            ack_delay: self.wait.ack_delay(),
        };
        TransportConfig {
            scheduler: self.scheduler,
            wait: self.wait.policy(),
            send_octets_max: self.send_octets_max,
            window_octets_max: self.window_octets_max,
            receiver,
            // What the handshake would tell: both ends are alike.
            credit_kib: Receiver::new(&receiver).granted_kib(),
            ..TransportConfig::default()
        }
    }

    /// The longest packet of a leg.
    #[must_use]
    pub fn packet_len_max(&self, leg: u8) -> usize {
        self.legs.iter().find(|plan| plan.id == leg).map_or(0, |plan| plan.packet_len_max)
    }

    /// Every link of every direct leg gets these conditions.
    pub fn set_fabrics(&mut self, way: Conditions) {
        for leg in self.legs.iter_mut().filter(|leg| !leg.is_relay()) {
            leg.ways = [way, way];
        }
    }

    /// Leaves only these data sources.
    pub fn set_sources(&mut self, sources: &[SourcePlan]) {
        self.sources.retain(|source| source.channel == Channel::CONTROL);
        self.sources.extend(sources);
    }
}

/// Every scheduler.
const SCHEDULERS: [PacketScheduler; 4] =
    [PacketScheduler::Lane, PacketScheduler::Alternate, PacketScheduler::Failover, PacketScheduler::Both];

fn random_legs(random: &mut Random) -> Vec<LegPlan> {
    let mut legs = Vec::new();
    let fabrics = 1 + u8::from(random.below(5) > 0);
    let packet_len_max = [1472, 1472, 8972, 600][random.below(4) as usize];
    for id in 0..fabrics {
        let delay = Duration::from_micros([5, 10, 10, 60, 300][random.below(5) as usize]);
        let mut way = Conditions::calm(delay).with_jitter(delay * random.below(3) as u32 / 4);
        if random.below(3) == 0 {
            // From a fast port down to what the traffic hardly fits.
            way.rate =
                Some(([125, 250, 1250][random.below(3) as usize] * 1_000_000, 1 << (16 + random.below(4))));
        }
        legs.push(LegPlan { packet_len_max, ..LegPlan::both_ways(id, way) });
    }
    if random.below(4) > 0 {
        let mut way = Conditions::calm(Duration::from_micros(30)).with_jitter(Duration::from_micros(20));
        way.rate = Some((250_000_000, 1 << 18));
        legs.push(LegPlan { packet_len_max, ..LegPlan::both_ways(RELAY_LEG, way) });
    }
    legs
}

fn random_end(random: &mut Random) -> EndPlan {
    // The 32 bits of microseconds of a packet's time wrap after 4,295 seconds; one end in three is close to it.
    let wraps = (1_u64 << 32) * 1000 - random.below(400_000_000);
    EndPlan {
        ppm: random.below(1001) as i32 - 500,
        clock_start: Instant::from_nanos([0, random.below(1 << 45), wraps][random.below(3) as usize]),
        socket_octets_max: [1 << 18, 4 << 20][random.below(2) as usize],
    }
}

fn random_source(random: &mut Random, side: Side, channel: Channel) -> SourcePlan {
    if channel == Channel::CONTROL {
        let interval = Duration::from_micros(1000 + random.below(9000));
        let plan = PacketPlan::steady(side, interval, 10 + random.below(2000) as usize);
        return SourcePlan { channel, lanes: 1, is_regular: false, ..plan };
    }
    SourcePlan {
        channel,
        lanes: [1, 4, 64, 1024][random.below(4) as usize],
        is_regular: random.below(2) == 0,
        burst_max: 1 + random.below(24),
        sizes: [Sizes::Mixed, Sizes::Fixed(1 + random.below(1600) as usize)][random.below(2) as usize],
        after_all: [Ppm(0), Ppm(0), Ppm::percent(2)][random.below(3) as usize],
        ..PacketPlan::steady(side, Duration::from_micros(200 + random.below(2000)), 0)
    }
}

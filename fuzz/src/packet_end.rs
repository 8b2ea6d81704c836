//! One end of packet legs as a host runs it, beside a model: what was accepted, what was delivered, what is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rvi::Part;
use rvi::packet::receiver::{ChannelWindows, PooledBuf, Receiver, ReceiverConfig};
use rvi::packet::sender::{Outgoing, PacketLegConfig, PacketScheduler, WaitPolicy};
use rvi::packet::transport::{PacketTransport, TransmitBuffer, TransportConfig};
use rvi::packet::wire::{MESSAGE_OVERHEAD, PacketLeg};
use vlan_core::limits::{MESSAGE_LEN_MAX, MESSAGE_WINDOW};
use vlan_core::window::{Window, WindowVerdict};
use vlan_core::{Channel, Instant};

use crate::script::Script;

/// Channels in use: control, and two with data.
pub const CHANNELS: u8 = 3;
/// Lanes in use on each.
pub const LANES: u8 = 4;
/// Octets of the longest packet of a leg that nothing has made narrower.
pub const PACKET_LEN_MAX: usize = 1472;

/// What a receiver may hold: the least that one has.
const HOLD_OCTETS_MAX: usize = 4 * (MESSAGE_LEN_MAX + MESSAGE_OVERHEAD);
/// What a sender may keep.
const KEEP_OCTETS_MAX: usize = 200_000;
/// Batches that are due at one moment: what the window admits in packets of one record each, and more.
const BATCHES_MAX: usize = 4096;

/// What of each channel was delivered, as an association keeps it.
#[derive(Debug)]
pub struct Windows(Vec<(Window, u32)>);

impl Windows {
    fn deliver(&mut self, channel: Channel, mseq: u32) -> bool {
        let (seen, lowest) = &mut self.0[usize::from(channel.0)];
        let is_new = seen.insert(mseq) == WindowVerdict::New;
        *lowest = seen.first_missing(*lowest);
        is_new
    }
}

impl ChannelWindows for Windows {
    fn is_open(&self, channel: Channel) -> bool {
        usize::from(channel.0) < self.0.len()
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        self.0.get(usize::from(channel.0)).is_some_and(|(seen, _)| seen.contains(mseq))
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        self.0.get(usize::from(channel.0)).map_or((0, 0), |(seen, lowest)| (*lowest, seen.next()))
    }
}

/// What is done with a message that is delivered: its channel, number and lane, and what it says.
pub type OnMessage<'a> = dyn FnMut(Channel, u32, u16, &[u8]) + 'a;

/// A message that the transport accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its lane.
    pub lane: u16,
    /// It is to come after every message with a lower number.
    pub is_after_all: bool,
    /// What it says.
    pub octets: Vec<u8>,
}

/// See the module.
pub struct PacketEnd {
    /// The machine.
    pub transport: PacketTransport,
    /// What was delivered here.
    pub windows: Windows,
    /// Messages may be acknowledged.
    pub settles: bool,
    /// Messages accepted here, by channel and number.
    pub accepted: BTreeMap<(u8, u32), Accepted>,
    /// Messages delivered here.
    pub delivered: BTreeSet<(u8, u32)>,
    /// The highest number delivered in each channel and lane.
    last_of_lane: BTreeMap<(u8, u16), u32>,
    next: [u32; CHANNELS as usize],
    lent: Vec<PooledBuf>,
    buffer: TransmitBuffer,
}

impl PacketEnd {
    /// An end without legs, with choices by `options`.
    #[must_use]
    pub fn new(options: u8) -> Self {
        const SCHEDULERS: [PacketScheduler; 4] = [
            PacketScheduler::Lane,
            PacketScheduler::Alternate,
            PacketScheduler::Failover,
            PacketScheduler::Both,
        ];
        let receiver = ReceiverConfig { octets_max: 0, ack_every: 4, ack_delay: Duration::from_micros(200) };
        let config = TransportConfig {
            seed: options.into(),
            scheduler: SCHEDULERS[usize::from(options) % SCHEDULERS.len()],
            wait: WaitPolicy::Poll,
            idle_probe: TransportConfig::default().idle_probe,
            receiver,
            send_octets_max: KEEP_OCTETS_MAX,
            window_octets_max: 1 << 20,
            credit_messages: 64,
            credit_kib: Receiver::new(&receiver).granted_kib(),
        };
        let channels = (0..CHANNELS).map(|_| (Window::new(MESSAGE_WINDOW, 0), 0));
        Self {
            transport: PacketTransport::new(&config),
            windows: Windows(channels.collect()),
            settles: true,
            accepted: BTreeMap::new(),
            delivered: BTreeSet::new(),
            last_of_lane: BTreeMap::new(),
            next: [0; CHANNELS as usize],
            lent: Vec::new(),
            buffer: TransmitBuffer::new(16, 16 * PACKET_LEN_MAX),
        }
    }

    /// A leg comes up, or goes and comes back.
    pub fn leg_up(&mut self, now: Instant, leg: PacketLeg) {
        self.transport.leg_up(now, PacketLegConfig { leg, packet_len_max: PACKET_LEN_MAX });
    }

    /// Offers a message of the script's choice to the transport.
    pub fn send(&mut self, script: &mut Script<'_>, now: Instant) -> Option<()> {
        let (channel, lane) = (Channel(script.below(CHANNELS)?), u16::from(script.below(LANES)?));
        let (size, marks) = (usize::from(script.u16()?), script.octet()?);
        // Mostly short, sometimes of many packets.
        let len = if marks & 0xf0 == 0 { size } else { size % 256 };
        let mseq = self.next[usize::from(channel.0)];
        let octets = content(channel, mseq, len);
        let accepted = Accepted { lane, is_after_all: marks & 15 == 0, octets };
        let message = Outgoing {
            channel,
            lane,
            mseq,
            is_resent: false,
            is_after_all: accepted.is_after_all,
            parts: &[Part::Private(&accepted.octets)],
        };
        let can_send = self.transport.can_send(channel, len);
        let is_accepted = self.transport.send(now, message).is_ok();
        assert_eq!(is_accepted, can_send, "`can_send` and `send` disagree on {len} octets");
        if is_accepted {
            self.next[usize::from(channel.0)] += 1;
            self.accepted.insert((channel.0, mseq), accepted);
        }
        Some(())
    }

    /// Takes every message whose turn it is, and lends the last `lends` of them on.
    ///
    /// # Panics
    /// When one comes twice.
    pub fn poll_messages(&mut self, lends: usize, f: &mut OnMessage<'_>) {
        while let Some(message) = self.transport.poll_message(&self.windows) {
            let (channel, mseq) = (message.channel, message.mseq);
            assert!(self.windows.deliver(channel, mseq), "message {mseq} of {channel:?} is not new");
            assert!(self.delivered.insert((channel.0, mseq)), "message {mseq} of {channel:?} came twice");
            f(channel, mseq, message.lane, &message.octets);
            self.lent.push(message.octets);
            if self.lent.len() > lends {
                let oldest = self.lent.remove(0);
                self.transport.recycle(oldest);
            }
        }
        self.check_bounds();
    }

    /// The same at an end whose peer is honest: each message is what was sent, in the order of its lane.
    ///
    /// # Panics
    /// When one is not.
    pub fn poll_messages_of(&mut self, peer: &Self, lends: usize) {
        let mut came = Vec::new();
        self.poll_messages(lends, &mut |channel, mseq, lane, octets| {
            let sent = peer.accepted.get(&(channel.0, mseq)).expect("nobody sent this message");
            assert!(sent.octets == octets && sent.lane == lane, "message {mseq} is not what was sent");
            came.push((channel, mseq, lane, sent.is_after_all));
        });
        for (channel, mseq, lane, is_after_all) in came {
            let last = self.last_of_lane.insert((channel.0, lane), mseq);
            assert!(last.is_none_or(|last| last < mseq), "lane {lane}: {mseq} came after {last:?}");
            let has_all = || (0..mseq).all(|before| self.delivered.contains(&(channel.0, before)));
            assert!(!is_after_all || has_all(), "{mseq} did not wait for all before it");
        }
    }

    /// Gives back every message that was lent.
    pub fn recycle_all(&mut self) {
        for octets in self.lent.drain(..) {
            self.transport.recycle(octets);
        }
    }

    /// Hands every packet that is to go now to `f`.
    ///
    /// # Panics
    /// When there is no end of them, or one is longer than its leg carries.
    pub fn transmit(&mut self, now: Instant, f: &mut dyn FnMut(PacketLeg, &[u8])) {
        for batches in 0.. {
            assert!(batches < BATCHES_MAX, "packets without end are due at one moment");
            let settles = self.settles;
            let Some(batch) = self.transport.poll_transmit(now, &self.windows, settles, &mut self.buffer)
            else {
                break;
            };
            assert!(batch.segment_len <= PACKET_LEN_MAX && batch.len == self.buffer.octets().len());
            assert_eq!(batch.len.div_ceil(batch.segment_len), batch.count);
            self.buffer.octets().chunks(batch.segment_len).for_each(|packet| f(batch.leg, packet));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now, &mut || true);
        while self.transport.poll_event().is_some() {}
    }

    fn check_bounds(&mut self) {
        let held = self.transport.receiver_mut().octets_held();
        assert!(held <= HOLD_OCTETS_MAX, "{held} octets are held");
    }

    /// The session ends: what the peer has not acknowledged comes back once, as it was and in order.
    ///
    /// # Panics
    /// When it does not.
    pub fn end(&mut self) {
        let mut last = BTreeMap::new();
        let (mut kept, accepted) = (0, &self.accepted);
        self.transport.drain_unsent(&mut |unacked| {
            let sent = accepted.get(&(unacked.channel.0, unacked.mseq)).expect("nobody sent this message");
            assert!(sent.octets == unacked.octets && sent.lane == unacked.lane);
            let before = last.insert(unacked.channel.0, unacked.mseq);
            assert!(before.is_none_or(|before| before < unacked.mseq), "{:?} comes back late", unacked.mseq);
            kept += unacked.octets.len();
        });
        assert!(kept <= KEEP_OCTETS_MAX, "{kept} octets were kept");
        assert!(self.transport.is_drained());
    }
}

/// What a message says: an octet in the wrong place shows.
fn content(channel: Channel, mseq: u32, len: usize) -> Vec<u8> {
    let seed = u32::from(channel.0) ^ mseq.wrapping_mul(0x9e37_79b9);
    (0..len as u32).map(|i| (seed.wrapping_add(i.wrapping_mul(0x0101_6b55)) >> 11) as u8).collect()
}

//! What a transport costs its process: memory while idle, allocations while busy.

use std::mem::size_of;

#[path = "packet_transport/network.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod network;
#[path = "heap/tally.rs"]
mod tally;

use std::time::Duration;

use network::{DATA, World, leg};
use rvi::Part;
use rvi::packet::receiver::{ChannelWindows, ReceiverConfig};
use rvi::packet::sender::{Outgoing, PacketLegConfig, PacketScheduler, WaitPolicy};
use rvi::packet::transport::{PacketTransport, TransmitBuffer, TransportConfig};
use rvi::packet::wire::{PACKET_HEADER_LEN, PacketHeader, TAG_LEN};
use tally::{allocations, held};
use vlan_core::{Channel, Instant};

fn config() -> TransportConfig {
    TransportConfig {
        scheduler: PacketScheduler::Failover,
        wait: WaitPolicy::Poll,
        receiver: ReceiverConfig { ack_delay: Duration::from_micros(20), ..ReceiverConfig::default() },
        credit_kib: 4096,
        ..TransportConfig::default()
    }
}

/// Nothing is kept of what was delivered: the test delivers in order.
#[derive(Default)]
struct InOrder(u32);

impl ChannelWindows for InOrder {
    fn is_open(&self, _: Channel) -> bool {
        true
    }
    fn is_delivered(&self, _: Channel, mseq: u32) -> bool {
        mseq < self.0
    }
    fn window(&self, _: Channel) -> (u32, u32) {
        (self.0, self.0)
    }
}

#[test]
fn an_idle_transport_with_two_legs_takes_less_than_eight_kib() {
    let mut world = World::new(&config(), 1, &[0, 1]);
    world.stream(&[0, 1], Duration::from_micros(20), 1400, Duration::from_millis(50));
    // Many messages that wait at once, short and long: each end has buffers to give back for all of them.
    for end in [0, 1] {
        (0..64).for_each(|lane| world.wish(end, lane, 1400));
        (0..4).for_each(|lane| world.wish(end, lane, 60_000));
    }
    world.run_to_the_end(Duration::from_millis(50));
    let busy = held();
    world.run_for(Duration::from_secs(5));
    let given_back = busy - held();
    let before = held();
    let [first, second] = &mut world.ends;
    for end in [first, second] {
        drop(std::mem::replace(&mut end.transport, PacketTransport::new(&config())));
    }
    let empty = {
        let before = held();
        let transport = PacketTransport::new(&config());
        let cost = held() - before;
        drop(transport);
        cost
    };
    let each = (before - held()) / 2 + empty + size_of::<PacketTransport>() as isize;
    assert!(
        each < 8 << 10,
        "{each} octets each while idle, {} of them not on the heap",
        size_of::<PacketTransport>()
    );
    assert!(given_back > 0);
}

/// Sender and receiver joined back to back.
struct Pair {
    ends: [PacketTransport; 2],
    windows: [InOrder; 2],
    buffer: TransmitBuffer,
    now: u64,
    mseq: u32,
}

impl Pair {
    fn new() -> Self {
        let mut ends = [PacketTransport::new(&config()), PacketTransport::new(&config())];
        for number in [0, 1] {
            for end in &mut ends {
                end.leg_up(Instant::ZERO, PacketLegConfig { leg: leg(number), packet_len_max: 1472 });
            }
        }
        let windows = [InOrder::default(), InOrder::default()];
        Self { ends, windows, buffer: TransmitBuffer::new(64, 65_000), now: 1000, mseq: 0 }
    }

    /// Sends `count` messages and lets both ends talk until they are quiet.
    fn round(&mut self, count: u32, octets: &[u8]) {
        let now = Instant::from_nanos(self.now);
        for _ in 0..count {
            let (mseq, parts) = (self.mseq, [Part::Private(octets)]);
            let lane = (mseq % 64) as u16;
            let (is_resent, is_after_all) = (false, false);
            let message = Outgoing { channel: DATA, lane, mseq, is_resent, is_after_all, parts: &parts };
            self.ends[0].send(now, message).expect("there is room");
            self.mseq += 1;
        }
        for _ in 0..4 {
            self.now += 20_000;
            self.carry(0);
            self.carry(1);
        }
        assert!(self.ends[0].is_drained());
    }

    fn carry(&mut self, from: usize) {
        let now = Instant::from_nanos(self.now);
        let [first, second] = &mut self.ends;
        let (end, peer) = if from == 0 { (first, second) } else { (second, first) };
        if end.poll_timeout().is_some_and(|at| at <= now) {
            end.handle_timeout(now, &mut || true);
        }
        while let Some(batch) = end.poll_transmit(now, &self.windows[from], true, &mut self.buffer) {
            for packet in self.buffer.octets().chunks(batch.segment_len) {
                let header = PacketHeader::parse_packet(packet).expect("a good packet");
                let payload = &packet[PACKET_HEADER_LEN..packet.len() - TAG_LEN];
                peer.handle_packet(now, &header, payload, &self.windows[1 - from]).expect("good");
            }
            while let Some(message) = peer.poll_message(&self.windows[1 - from]) {
                let windows = &mut self.windows[1 - from];
                windows.0 = windows.0.max(message.mseq + 1);
                peer.recycle(message.octets);
            }
        }
    }
}

#[test]
fn a_busy_transport_allocates_nothing_once_things_run() {
    for len in [64, 1400, 60_000] {
        let octets = vec![7; len];
        let mut pair = Pair::new();
        for _ in 0..50 {
            pair.round(8, &octets);
        }
        let before = allocations();
        for _ in 0..100 {
            pair.round(8, &octets);
        }
        let count = allocations() - before;
        assert_eq!(count, 0, "allocations for 800 messages of {len} octets");
    }
}

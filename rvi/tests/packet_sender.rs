//! A sender against a peer that is played by hand: who gets which packet, and what acks do.

use std::collections::BTreeSet;
use std::time::Duration;

use rvi::Part;
use rvi::packet::receiver::{ChannelWindows, ReceiverConfig};
use rvi::packet::sender::{
    Outgoing, PacketLegConfig, PacketLegState, PacketScheduler, TransportEvent, WaitPolicy,
};
use rvi::packet::transport::{PacketTransport, TransmitBuffer, TransportConfig};
use rvi::packet::wire::{
    AckBlock, AckRanges, AckSectionWriter, PACKET_HEADER_LEN, PacketError, PacketFlags, PacketHeader,
    PacketKind, PacketLeg, Payload, RecordHeader, RecordKind, TAG_LEN,
};
use vlan_core::{Channel, Instant};

const DATA: Channel = Channel(1);
/// Shorter than the base, so that no length is tried.
const LEN_MAX: usize = 1152;

fn leg(number: u8) -> PacketLeg {
    PacketLeg::new(number).expect("a leg")
}

fn at(us: u64) -> Instant {
    Instant::from_nanos(us * 1000)
}

/// Everything is open, nothing was delivered.
struct Nothing;

impl ChannelWindows for Nothing {
    fn is_open(&self, _: Channel) -> bool {
        true
    }
    fn is_delivered(&self, _: Channel, _: u32) -> bool {
        false
    }
    fn window(&self, _: Channel) -> (u32, u32) {
        (0, 0)
    }
}

/// A packet that the sender made.
#[derive(Clone, Debug)]
struct Sent {
    header: PacketHeader,
    len: usize,
    records: Vec<RecordHeader>,
}

impl Sent {
    fn data(&self) -> impl Iterator<Item = &RecordHeader> {
        self.records.iter().filter(|record| record.kind == RecordKind::Data)
    }
}

struct Bench {
    transport: PacketTransport,
    buffer: TransmitBuffer,
    numbers: [u64; PacketLeg::COUNT],
    mseq: u32,
}

impl Bench {
    fn new(scheduler: PacketScheduler, legs: &[u8]) -> Self {
        let config = TransportConfig {
            scheduler,
            wait: WaitPolicy::Poll,
            receiver: ReceiverConfig { ack_delay: Duration::from_micros(20), ..ReceiverConfig::default() },
            ..TransportConfig::default()
        };
        let mut bench = Self {
            transport: PacketTransport::new(&config),
            buffer: TransmitBuffer::new(64, 65_000),
            numbers: [0; PacketLeg::COUNT],
            mseq: 0,
        };
        legs.iter().for_each(|number| bench.leg_up(*number, LEN_MAX));
        bench
    }

    fn leg_up(&mut self, number: u8, packet_len_max: usize) {
        self.transport.leg_up(at(0), PacketLegConfig { leg: leg(number), packet_len_max });
    }

    /// Legs whose first probe was answered after 40 us.
    fn good(scheduler: PacketScheduler, legs: &[u8]) -> Self {
        Self::good_after(Duration::from_micros(40), scheduler, legs)
    }

    /// Legs whose first probe was answered after `trip`.
    fn good_after(trip: Duration, scheduler: PacketScheduler, legs: &[u8]) -> Self {
        let mut bench = Self::new(scheduler, legs);
        let probes = bench.flush(at(0));
        let blocks: Vec<_> = probes.iter().map(|probe| (probe.header.leg.number(), 0, 0)).collect();
        bench.ack(at(0) + trip, legs[0], &blocks).expect("good acks");
        for &number in legs {
            assert_eq!(bench.state(number), PacketLegState::Good);
        }
        bench
    }

    fn state(&self, number: u8) -> PacketLegState {
        let mut legs = self.transport.leg_status();
        legs.find(|status| status.leg == leg(number)).expect("the leg is there").state
    }

    fn send(&mut self, now: Instant, channel: Channel, lane: u16, len: usize) {
        let octets = vec![7; len];
        let parts = [Part::Private(&octets)];
        let (mseq, is_resent, is_after_all) = (self.mseq, false, false);
        let message = Outgoing { channel, lane, mseq, is_resent, is_after_all, parts: &parts };
        self.transport.send(now, message).expect("there is room");
        self.mseq += 1;
    }

    /// All packets that the sender has.
    fn flush(&mut self, now: Instant) -> Vec<Sent> {
        let mut packets = Vec::new();
        while let Some(batch) = self.transport.poll_transmit(now, &Nothing, true, &mut self.buffer) {
            for packet in self.buffer.octets().chunks(batch.segment_len) {
                let header = PacketHeader::parse_packet(packet).expect("a good packet");
                let payload = &packet[PACKET_HEADER_LEN..packet.len() - TAG_LEN];
                let payload = Payload::parse(header.flags.has_ack, payload).expect("a good payload");
                let records = payload.records().map(|record| record.header).collect();
                packets.push(Sent { header, len: packet.len(), records });
            }
        }
        packets
    }

    /// The peer acknowledges packets by `by`: for each leg the lowest and highest number of one range.
    fn ack(&mut self, now: Instant, by: u8, blocks: &[(u8, u64, u64)]) -> Result<(), PacketError> {
        let blocks: Vec<_> = blocks
            .iter()
            .map(|&(number, lowest, highest)| {
                let mut ranges = AckRanges::default();
                assert!(ranges.push(lowest, highest));
                let (leg, largest) = (leg(number), highest);
                AckBlock { leg, delay_us: 0, rx_count: 0, largest, ts_echo: 0, ranges }
            })
            .collect();
        self.ack_blocks(now, by, &blocks)
    }

    fn ack_blocks(&mut self, now: Instant, by: u8, blocks: &[AckBlock]) -> Result<(), PacketError> {
        let mut payload = [0; 400];
        let mut section = AckSectionWriter::new(&mut payload);
        assert!(blocks.iter().all(|block| section.push(block)));
        let len = section.finish();
        let flags = PacketFlags { ack_now: false, has_ack: true };
        let header = self.header(leg(by), flags, len);
        self.transport.handle_packet(now, &header, &payload[..len], &Nothing)
    }

    /// The header of the peer's next packet.
    fn header(&mut self, leg: PacketLeg, flags: PacketFlags, len: usize) -> PacketHeader {
        let number = self.numbers[leg.index()];
        self.numbers[leg.index()] += 1;
        PacketHeader {
            kind: PacketKind::Data,
            leg,
            flags,
            dst_cid: 0,
            session: 0,
            number,
            ts_us: 0,
            payload_len: len as u16,
            fabric_key: 0,
        }
    }

    /// The peer acknowledges several ranges of one leg, highest first.
    fn ack_of(&mut self, now: Instant, by: u8, leg: PacketLeg, told: &[(u64, u64)]) {
        let mut ranges = AckRanges::default();
        assert!(told.iter().all(|&(lowest, highest)| ranges.push(lowest, highest)));
        let largest = told[0].1;
        self.ack_blocks(now, by, &[AckBlock { leg, delay_us: 0, rx_count: 0, largest, ts_echo: 0, ranges }])
            .expect("good acks");
    }

    fn timeout(&mut self) -> Instant {
        let now = self.transport.poll_timeout().expect("something is due");
        self.transport.handle_timeout(now, &mut || true);
        now
    }
}

fn legs_of(packets: &[Sent]) -> Vec<u8> {
    packets.iter().map(|packet| packet.header.leg.number()).collect()
}

#[test]
fn a_super_frame_is_one_batch_of_full_packets() {
    let mut bench = Bench::good(PacketScheduler::Failover, &[0, 1]);
    bench.send(at(100), DATA, 3, 65_536);
    bench.send(at(100), DATA, 3, 100);
    let packets = bench.flush(at(100));
    // 65,536 octets in pieces of 1,088, the 60 packets' worth of them, and the other message behind the rest.
    assert_eq!(packets.len(), 61);
    assert!(packets[..60].iter().all(|packet| packet.len == LEN_MAX));
    assert_eq!(packets[60].data().map(|record| record.mseq).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(packets[60].data().map(|record| record.prev).collect::<Vec<_>>(), [0, 1]);
    let covered: u32 = packets.iter().flat_map(|p| p.data().next()).map(|r| u32::from(r.frag_len)).sum();
    assert_eq!(covered, 65_536);
    assert!(packets.iter().zip(0..).all(|(packet, i)| packet.header.number == 1 + i));
}

#[test]
fn small_messages_fill_packets_of_one_length() {
    const LEN_MAX: usize = 1472;
    for len in [10, 64, 72, 96, 100, 500, 700, 1000, 1400, 1408, 1500] {
        let mut bench = searched(LEN_MAX);
        for lane in 0..100 {
            bench.send(at(100), DATA, lane, len);
        }
        let batch = bench.transport.poll_transmit(at(100), &Nothing, true, &mut bench.buffer);
        let batch = batch.expect("packets");
        let wanted = (100 * (len.next_multiple_of(8) + 16)).div_ceil(LEN_MAX - 48);
        let most = 65_000 / LEN_MAX;
        assert!(batch.count >= wanted.min(most), "{len}: {batch:?}");
        assert!(batch.count <= (wanted * 10 / 8 + 1).min(most), "{len}: {batch:?}, {wanted} at best");
        assert!(batch.segment_len > LEN_MAX * 7 / 8, "{len}: {batch:?}");
    }
}

//= spec/packet-sender.md#control-channel
//= type=test
//# A message of the control channel MUST go by two legs if there are two, and before data.
#[test]
fn control_goes_first_and_by_two_legs() {
    let mut bench = Bench::good(PacketScheduler::Failover, &[0, 1, 2]);
    bench.send(at(100), DATA, 3, 100);
    bench.mseq = 0;
    bench.send(at(100), Channel::CONTROL, 0, 200);
    let packets = bench.flush(at(100));
    assert_eq!(legs_of(&packets), [0, 1]);
    let channels: Vec<_> = packets[0].data().map(|record| record.channel).collect();
    assert_eq!(channels, [Channel::CONTROL, DATA]);
    assert_eq!(packets[1].data().map(|record| record.channel).collect::<Vec<_>>(), [Channel::CONTROL]);
}

//= spec/packet-sender.md#choice-of-legs
//= type=test
//# With no good leg a sender MUST use the best of those that answered within the last 10 ms, and all when none did.
#[test]
fn with_no_good_leg_the_one_that_answered_is_used_and_all_when_none_did() {
    let mut bench = Bench::new(PacketScheduler::Lane, &[0, 1, 2, 14]);
    bench.send(at(0), DATA, 3, 100);
    let packets = bench.flush(at(0));
    let with_data = packets.iter().filter(|packet| packet.data().count() > 0).cloned().collect::<Vec<_>>();
    assert_eq!(legs_of(&with_data), [0, 1], "two copies are enough");
    assert_eq!(packets.len(), 4, "each leg is asked");
    bench.ack(at(40), 1, &[(1, 0, 0)]).expect("good acks");
    bench.send(at(50), DATA, 4, 100);
    assert_eq!(legs_of(&bench.flush(at(50))), [1]);
}

//= spec/packet-sender.md#recovery
//= type=test
//# Pieces of a lost packet MUST go again at once, before anything new, by another leg when one is usable.
#[test]
fn a_lost_piece_goes_again_by_another_leg_before_anything_new() {
    let mut bench = Bench::good(PacketScheduler::Failover, &[0, 1]);
    for lane in 0..5 {
        bench.send(at(100 + u64::from(lane)), DATA, lane, 1000);
        assert_eq!(legs_of(&bench.flush(at(100 + u64::from(lane)))), [0]);
    }
    // Number 0 was the probe; number 2 is missing.
    bench.ack(at(143), 0, &[(0, 0, 1)]).expect("good acks");
    assert!(bench.flush(at(143)).is_empty(), "nothing is lost yet");
    bench.send(at(145), DATA, 9, 10);
    bench.ack_of(at(145), 0, leg(0), &[(3, 5), (1, 1)]);
    let packets = bench.flush(at(145));
    assert_eq!(packets.len(), 2);
    let packets: Vec<_> = packets.into_iter().filter(|packet| packet.header.leg == leg(1)).collect();
    let record = packets[0].data().next().expect("the piece");
    assert_eq!((record.mseq, record.is_resent), (1, true));
}

//= spec/packet-sender.md#probe-timeout
//= type=test
//# When a packet was not proven to have arrived or to be lost for one PTO, its pieces MUST go again, by another leg when
//# one is usable, in a packet that asks for an answer; that is no evidence against its leg.
#[test]
fn after_a_timeout_the_oldest_pieces_go_by_the_other_leg_with_a_question() {
    let mut bench = Bench::good(PacketScheduler::Failover, &[0, 1]);
    for lane in 0..5 {
        bench.send(at(100), DATA, lane, 1000);
    }
    assert_eq!(legs_of(&bench.flush(at(100))), [0; 5]);
    let now = bench.timeout();
    assert!(now.since(at(100)) <= Duration::from_micros(40 + 80 + 20), "{now}");
    let packets = bench.flush(now);
    assert_eq!(legs_of(&packets), [1; 2]);
    assert!(packets[0].header.wants_answer());
    let again: Vec<_> = packets.iter().flat_map(Sent::data).collect();
    assert!(again.iter().all(|record| record.is_resent));
    let numbers: BTreeSet<_> = again.iter().map(|record| record.mseq).collect();
    assert_eq!(numbers, [0, 1].into(), "two packets' worth");
    for _ in 0..50 {
        let now = bench.timeout();
        bench.flush(now);
    }
    let scores: Vec<_> = bench.transport.leg_status().map(|status| status.score).collect();
    assert_eq!(scores, [0, 0], "silence is no evidence");
    assert!(bench.transport.leg_status().all(|status| status.state == PacketLegState::Good));
}

//= spec/packet-sender.md#dead-legs
//= type=test
//# When a leg goes down, everything sent by it that is not proven MUST go again by another leg.
#[test]
fn everything_unproven_leaves_a_leg_that_goes_down() {
    const TRIP_US: u64 = 5000;
    const DEATH_US: u64 = 4 * TRIP_US;
    let mut bench = Bench::good_after(Duration::from_micros(TRIP_US), PacketScheduler::Alternate, &[0, 1]);
    // From its death on leg 0 loses all; leg 1 loses nothing.
    let mut sent: Vec<(u64, Sent)> = Vec::new();
    let mut now = TRIP_US;
    loop {
        now += 100;
        bench.transport.handle_timeout(at(now), &mut || true);
        if bench.state(0) == PacketLegState::Down {
            break;
        }
        bench.send(at(now), DATA, 0, 100);
        bench.send(at(now), DATA, 1, 100);
        sent.extend(bench.flush(at(now)).into_iter().map(|packet| (now, packet)));
        let last_by = |number, until| {
            let mut by_leg = sent.iter().filter(|(at, sent)| sent.header.leg == leg(number) && *at <= until);
            by_leg.next_back().map_or(0, |(_, sent)| sent.header.number)
        };
        let told = now - TRIP_US;
        let blocks = [(1, 0, last_by(1, told)), (0, 0, last_by(0, told.min(DEATH_US)))];
        bench.ack(at(now), 1, &blocks).expect("good acks");
    }
    // An ack tells of it a round trip later, and of a packet when it should have arrived.
    assert!(now <= DEATH_US + TRIP_US * 9 / 4 + 6000, "after {} us", now - DEATH_US);
    let waiting = |sent: &[(u64, Sent)]| {
        let by_leg = |number, from| {
            let packets = sent.iter().filter(move |(at, sent)| sent.header.leg == leg(number) && *at > from);
            packets.flat_map(|(_, sent)| sent.data()).map(|record| record.mseq).collect::<BTreeSet<u32>>()
        };
        by_leg(0, DEATH_US).difference(&by_leg(1, 0)).count()
    };
    assert!(waiting(&sent) > 20, "{} of a round trip's messages have no proof", waiting(&sent));
    sent.extend(bench.flush(at(now)).into_iter().map(|packet| (now, packet)));
    assert_eq!(waiting(&sent), 0);
    let mut events = std::iter::from_fn(|| bench.transport.poll_event());
    assert!(events.any(|event| event == TransportEvent::LegState(leg(0), PacketLegState::Down)));
}

//= spec/packet-sender.md#round-trips
//= type=test
//# A sender MUST measure a round trip only with a packet that asked for an ack, and only when the ack says for how long it
//# was kept back.
#[test]
fn a_round_trip_is_measured_with_a_question_whose_ack_tells_for_how_long_it_was_kept() {
    let mut bench = Bench::good(PacketScheduler::Failover, &[0]);
    let trip = |bench: &Bench| bench.transport.leg_status().next().expect("leg 0").rtt_ns;
    assert_eq!(trip(&bench), 40_000);
    let header = bench.header(leg(0), PacketFlags { ack_now: true, has_ack: false }, 0);
    bench.transport.handle_packet(at(100), &header, &[], &Nothing).expect("a question");
    let packets = bench.flush(at(100));
    assert!(packets.len() == 1 && !packets[0].header.wants_answer() && packets[0].records.is_empty());
    bench.ack(at(300_000), 0, &[(0, 0, 1)]).expect("good acks");
    assert_eq!(trip(&bench), 40_000, "an ack of nothing but an ack");
    // Round trips of 40 us and 8 more: each counts for an eighth.
    let acks = [(u16::MAX, 70_000, 40_000), (u16::MAX - 1, 65_534 + 48, 41_000), (0, 49, 42_000)];
    for (number, (delay_us, took_us, expected)) in (2..).zip(acks) {
        let sent = 1_000_000 * number;
        bench.send(at(sent), DATA, 0, 100);
        assert_eq!(bench.flush(at(sent)).len(), 1);
        let mut ranges = AckRanges::default();
        assert!(ranges.push(0, number));
        let block = AckBlock { leg: leg(0), delay_us, rx_count: 0, largest: number, ts_echo: 0, ranges };
        bench.ack_blocks(at(sent + took_us), 0, &[block]).expect("good acks");
        assert_eq!(trip(&bench), expected, "kept back for {delay_us} us");
    }
}

//= spec/packet-sender.md#acks-of-nothing
//= type=test
//# An ack of a packet that was never sent MUST end the session, and nothing of it may be applied.
#[test]
fn an_ack_of_what_was_never_sent_is_an_error() {
    let mut bench = Bench::new(PacketScheduler::Lane, &[0, 1]);
    assert_eq!(bench.flush(at(0)).len(), 2);
    assert_eq!(bench.ack(at(40), 0, &[(0, 0, 0), (1, 0, 1)]), Err(PacketError::NeverSent(1)));
    assert_eq!(bench.state(0), PacketLegState::Starting, "nothing of it was applied");
    assert_eq!(bench.ack(at(40), 0, &[(3, 0, 0)]), Err(PacketError::NeverSent(0)), "a leg that never was");
    assert_eq!(bench.ack(at(40), 0, &[(0, 0, 0)]), Ok(()));
    bench.transport.leg_down(at(50), leg(0));
    assert_eq!(bench.ack(at(60), 1, &[(0, 0, 0)]), Ok(()), "it was sent while the leg was there");
}

//= spec/packet-sender.md#where-acks-go
//= type=test
//# Acks MUST go by the good leg with the shortest round trip, and by all legs that are not down while any of them is
//# not wholly good.
#[test]
fn acks_go_by_the_fastest_leg_and_by_both_in_doubt() {
    let mut bench = Bench::new(PacketScheduler::Lane, &[0, 1]);
    bench.flush(at(0));
    bench.ack(at(40), 0, &[(1, 0, 0)]).expect("good acks");
    bench.flush(at(40));
    bench.ack(at(90), 0, &[(0, 0, 0)]).expect("good acks");
    let by = |bench: &mut Bench, now: Instant| {
        let header = bench.header(leg(0), PacketFlags { ack_now: true, has_ack: false }, 0);
        bench.transport.handle_packet(now, &header, &[], &Nothing).expect("a question");
        let packets = bench.flush(now);
        let mut legs = legs_of(&packets.into_iter().filter(|p| p.header.flags.has_ack).collect::<Vec<_>>());
        legs.sort_unstable();
        legs
    };
    // Leg 1 answers after 40 us, leg 0 after 90: the answer goes where it was asked for, and by the fastest.
    assert_eq!(by(&mut bench, at(1000)), [0, 1]);
    let fast = |bench: &mut Bench, now: Instant| {
        let record = RecordHeader::control(Channel::CONTROL, 8);
        let mut payload = [0; 24];
        record.emit((&mut payload[..16]).try_into().expect("16 octets"));
        let header = bench.header(leg(0), PacketFlags::default(), 24);
        bench.transport.handle_packet(now, &header, &payload, &Nothing).expect("padding");
        let later = now + Duration::from_micros(20);
        let packets = bench.flush(later);
        legs_of(&packets.into_iter().filter(|p| p.header.flags.has_ack).collect::<Vec<_>>())
    };
    assert_eq!(fast(&mut bench, at(2000)), [1]);
    // A loss on leg 0: number 1 is passed by 4.
    for lane in 0..8 {
        bench.send(at(3000), DATA, lane, 1400);
    }
    let highest = bench.flush(at(3000)).iter().filter(|p| p.header.leg == leg(0)).count() as u64;
    assert!(highest >= 4);
    let next = bench.transport.leg_status().next().expect("leg 0").tx_packets - 1;
    bench.ack(at(3040), 1, &[(0, next, next)]).expect("good acks");
    bench.ack(at(3050), 1, &[(0, 0, 0)]).expect("an old ack");
    bench.ack_of(at(3060), 1, leg(0), &[(next, next), (0, 0)]);
    assert_eq!(fast(&mut bench, at(3100)), [0, 1], "both while one is in doubt");
    assert_eq!(fast(&mut bench, at(100_000)), [1]);
}

/// Answers the question of a leg that takes `len` octets, and the packet that tried them.
fn searched(len: usize) -> Bench {
    let mut bench = Bench::new(PacketScheduler::Failover, &[]);
    bench.leg_up(0, len);
    bench.transport.handle_timeout(at(0), &mut || true);
    let packets = bench.flush(at(0));
    let told: Vec<_> = packets.iter().map(|packet| (packet.len, packet.header.kind)).collect();
    assert_eq!(told, [(len, PacketKind::Probe), (told[1].0, PacketKind::Probe)]);
    assert_eq!(packets[0].records.len(), 1, "padding alone");
    assert!(packets[0].header.wants_answer() && !packets[0].header.flags.has_ack && told[1].0 < 1200);
    bench.ack(at(40), 0, &[(0, 0, 1)]).expect("good acks");
    bench
}

//= spec/packet-sender.md#control-fits
//= type=test
//# A packet with a piece of a message of the control channel MUST NOT be longer than 1,200 octets.
#[test]
fn control_goes_in_short_packets_where_data_goes_in_long_ones() {
    let mut bench = searched(8968);
    for round in 0..4 {
        let now = at(100 + round);
        for (channel, len) in
            [(DATA, 20_000), (Channel::CONTROL, 10_000), (DATA, 8000), (Channel::CONTROL, 50)]
        {
            bench.mseq = 2 * round as u32 + u32::from(len < 10_000);
            bench.send(now, channel, 0, len);
        }
        let packets = bench.flush(now);
        let has_control = |packet: &Sent| packet.data().any(|record| record.channel == Channel::CONTROL);
        assert!(packets.iter().filter(|packet| has_control(packet)).all(|packet| packet.len <= 1200));
        assert!(packets.iter().any(has_control) && packets.iter().any(|packet| packet.len > 8000));
        let of = |channel| {
            let records = packets.iter().flat_map(Sent::data).filter(move |r| r.channel == channel);
            records.map(|record| u32::from(record.frag_len)).sum::<u32>()
        };
        assert_eq!([of(DATA), of(Channel::CONTROL)], [28_000, 10_050]);
    }
}

#[test]
fn lost_control_behind_lost_data_goes_in_short_packets_too() {
    let mut bench = searched(8968);
    bench.send(at(100), DATA, 0, 8000);
    bench.flush(at(100));
    bench.mseq = 0;
    bench.send(at(101), Channel::CONTROL, 0, 3000);
    bench.flush(at(101));
    let mut seen = 0;
    for _ in 0..4 {
        let now = bench.timeout();
        for packet in bench.flush(now) {
            let has_control = packet.data().any(|record| record.channel == Channel::CONTROL);
            assert!(!has_control || packet.len <= 1200, "{packet:?}");
            seen += usize::from(has_control);
        }
    }
    assert!(seen >= 3, "{seen}");
}

//= spec/packet-sender.md#silent-black-holes
//= type=test
//# A leg that goes down or falls silent MUST go on with the base length.
#[test]
fn a_silent_leg_goes_on_with_short_packets() {
    let mut bench = searched(8968);
    bench.send(at(100), DATA, 0, 8800);
    assert!(bench.flush(at(100)).iter().any(|packet| packet.len > 8800));
    let is_stalled = |bench: &mut Bench| {
        let mut events = std::iter::from_fn(|| bench.transport.poll_event());
        events.any(|event| event == TransportEvent::Stalled)
    };
    for round in 0.. {
        let now = bench.timeout();
        if is_stalled(&mut bench) {
            break;
        }
        bench.flush(now);
        assert!(round < 50, "nothing answers");
    }
    let mut again = 0;
    for _ in 0..50 {
        let now = bench.timeout();
        let packets = bench.flush(now);
        assert!(packets.iter().all(|packet| packet.len <= 1200), "{packets:?}");
        again += packets.iter().flat_map(Sent::data).filter(|record| record.is_resent).count();
    }
    assert!(again >= 8, "8,800 octets are cut anew: {again} pieces");
}

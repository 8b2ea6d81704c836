//! The receiver behind a network that loses, repeats and reorders, compared with plain lists.

use proptest::prelude::*;
use vlan_core::random::Random;

use super::*;

/// What the sender knows of one message.
struct Sent {
    record: RecordHeader,
    is_acked: bool,
}

/// One packet under way.
#[derive(Clone)]
struct Packet {
    header: PacketHeader,
    records: Vec<RecordHeader>,
}

/// A sender, a network and a receiver, and what each of them must have seen.
struct Model {
    bench: Bench,
    octets_max: usize,
    random: Random,
    loss: u64,
    sent: BTreeMap<(u8, u32), Sent>,
    /// Numbers of each (channel, lane) in the order of sending that are not delivered.
    lanes: BTreeMap<(u8, u16), VecDeque<u32>>,
    pending: VecDeque<RecordHeader>,
    network: Vec<Packet>,
    numbers: [u64; PacketLeg::COUNT],
    /// Packet numbers of each leg that were taken.
    taken: BTreeMap<PacketLeg, BTreeSet<u64>>,
    lent: Vec<PooledBuf>,
    granted: u64,
}

impl Model {
    fn new(seed: u64, loss: u64, octets_max: usize) -> Self {
        let config = ReceiverConfig { octets_max, ..ReceiverConfig::default() };
        Self {
            bench: Bench::with(&config),
            octets_max: octets_max.max(4 * RESERVE),
            random: Random::new(seed),
            loss,
            sent: BTreeMap::new(),
            lanes: BTreeMap::new(),
            pending: VecDeque::new(),
            network: Vec::new(),
            numbers: [0; PacketLeg::COUNT],
            taken: BTreeMap::new(),
            lent: Vec::new(),
            granted: (octets_max.max(4 * RESERVE) - RESERVE) as u64,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Gives one more message to send.
    fn send_message(&mut self) {
        let channel = Channel(1 + self.random.below(2) as u8);
        let lane = self.random.below(4) as u16;
        let mseq = self.sent.range((channel.0, 0)..=(channel.0, u32::MAX)).count() as u32;
        let msg_len = match self.random.below(20) {
            0 => self.random.below(MESSAGE_LEN_MAX as u64 + 1) as u32,
            1..5 => self.random.below(20_000) as u32,
            _ => self.random.below(1600) as u32,
        };
        let before = self.lanes.entry((channel.0, lane)).or_default();
        let prev = before.back().map_or(0, |last| (mseq - last) as u16);
        before.push_back(mseq);
        let is_after_all = self.chance(3);
        let record = RecordHeader { channel, lane, is_after_all, ..message(mseq, prev, msg_len) };
        let record = RecordHeader { frag_len: 0, ..record };
        self.sent.insert((channel.0, mseq), Sent { record, is_acked: false });
        self.cut(record, 0, msg_len);
    }

    /// Cuts `[start, end)` of a message into pieces and queues them.
    fn cut(&mut self, of: RecordHeader, start: u32, end: u32) {
        let most = [64, 1408, 8960, 60_032][self.random.below(4) as usize];
        let mut at = start;
        loop {
            let len = (end - at).min(most);
            self.pending.push_back(piece(of, at, len as u16));
            at += len;
            if at >= end {
                return;
            }
        }
    }

    /// Puts some pieces that wait into a packet; it may be lost at once.
    fn transmit(&mut self) {
        let leg = if self.chance(60) { LEG } else { OTHER };
        let mut records = Vec::new();
        for _ in 0..=self.random.below(5) {
            let Some(record) = self.pending.pop_front() else { break };
            if !self.sent[&(record.channel.0, record.mseq)].is_acked {
                records.push(record);
            }
        }
        let number = self.numbers[leg.index()];
        self.numbers[leg.index()] += 1;
        let packet = Packet { header: header(leg, number), records };
        if self.chance(self.loss) {
            self.lose(packet);
        } else {
            self.network.push(packet);
        }
    }

    /// What was in a packet goes again, cut in another way.
    fn lose(&mut self, packet: Packet) {
        for record in packet.records {
            let (start, end) = (record.frag_off, record.frag_off + u32::from(record.frag_len));
            let of = RecordHeader { is_resent: true, ..record };
            self.cut(of, start, end);
        }
    }

    /// A packet arrives, now and then not the oldest, now and then not for the last time.
    fn arrive(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let reach = if self.chance(70) { 1 } else { self.network.len() as u64 };
        let place = self.random.below(reach) as usize;
        let packet = if self.chance(5) { self.network[place].clone() } else { self.network.remove(place) };
        let arrival = self.bench.arrive(packet.header, &packet.records).expect("nothing contradicts");
        let fresh =
            !self.taken.get(&packet.header.leg).is_some_and(|taken| taken.contains(&packet.header.number));
        match arrival {
            Arrival::Taken => {
                assert!(fresh, "a number is taken twice");
                self.taken.entry(packet.header.leg).or_default().insert(packet.header.number);
                if self.chance(5) {
                    // Its sender takes it for lost nevertheless.
                    self.lose(packet);
                }
            }
            Arrival::Duplicate => assert!(!fresh, "a number that did not come before"),
            Arrival::TooOld | Arrival::NoRoom => {
                if fresh {
                    self.lose(packet);
                }
            }
        }
        self.check_room();
    }

    fn check_room(&self) {
        let held = self.bench.receiver.octets_held();
        assert!(held <= self.octets_max, "{held} octets are held");
    }

    /// Takes messages; some buffers are kept for a while.
    fn poll(&mut self, count: u64) {
        for _ in 0..count {
            let Some(message) = self.bench.receiver.poll_message(&self.bench.windows) else {
                self.give_back();
                break;
            };
            let (channel, mseq) = (message.channel, message.mseq);
            let sent = &self.sent[&(channel.0, mseq)].record;
            assert_eq!((message.lane, message.octets.len()), (sent.lane, sent.msg_len as usize));
            let good = message.octets.iter().enumerate().all(|(i, &o)| o == octet(channel, mseq, i));
            assert!(good, "the octets of message {mseq}");
            let next = self.lanes.get_mut(&(channel.0, sent.lane)).and_then(VecDeque::pop_front);
            assert_eq!(next, Some(mseq), "the order of lane {}", sent.lane);
            if sent.is_after_all {
                assert_eq!(self.bench.windows.window(channel).0, mseq, "all before it");
            }
            self.bench.windows.deliver(channel, mseq);
            self.lent.push(message.octets);
        }
        while self.lent.len() > 3 {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(octets) = self.lent.pop() {
            self.granted += (octets.len() + OVERHEAD) as u64;
            self.bench.receiver.recycle(octets);
        }
        assert_eq!(u64::from(self.bench.receiver.granted_kib()), self.granted / 1024);
    }

    /// The ack section tells the newest eight runs of what was taken, and nothing else.
    fn check_acks(&mut self) {
        for block in self.bench.acks() {
            let taken = &self.taken[&block.leg];
            assert_eq!((block.rx_count as usize, Some(&block.largest)), (taken.len(), taken.last()));
            assert_eq!(block.ts_echo, block.largest as u32 + 1000);
            let mut runs: Vec<(u64, u64)> = Vec::new();
            for &number in taken.iter().rev() {
                match runs.last_mut() {
                    Some((lowest, _)) if *lowest == number + 1 => *lowest = number,
                    _ => runs.push((number, number)),
                }
            }
            runs.truncate(8);
            assert_eq!(block.ranges.as_slice(), runs);
        }
    }

    /// The sender learns what is delivered.
    fn learn(&mut self) {
        for (channel, cum, ranges) in self.bench.reports(1400) {
            for (first, len) in core::iter::once((0, cum)).chain(ranges) {
                for mseq in first..first + len {
                    assert!(self.bench.windows.is_delivered(channel, mseq), "{mseq} is not delivered");
                    self.sent.get_mut(&(channel.0, mseq)).expect("a message that was sent").is_acked = true;
                }
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..4 => self.transmit(),
            4..9 => self.arrive(),
            9 => {
                let count = self.random.below(10);
                self.poll(count);
            }
            10 => self.check_acks(),
            _ => self.learn(),
        }
    }

    fn run(&mut self, messages: usize) {
        let mut steps = 0;
        while self.sent.values().any(|sent| !sent.is_acked) || self.sent.len() < messages {
            if self.sent.len() < messages && self.pending.len() < 50 {
                self.send_message();
            }
            self.step();
            steps += 1;
            assert!(steps < 50_000, "no progress");
        }
        while let Some(octets) = self.lent.pop() {
            self.bench.receiver.recycle(octets);
        }
        while !self.network.is_empty() {
            self.arrive();
        }
        assert!(self.bench.receiver.poll_message(&self.bench.windows).is_none(), "everything was delivered");
        assert_eq!(self.bench.receiver.octets_held(), 0);
        assert_eq!(self.bench.receiver.counters().messages as usize, messages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_delivered_once_and_in_order(
        seed: u64,
        loss in prop_oneof![Just(0), Just(5), Just(40)],
        octets_max in prop_oneof![Just(0), Just(4 << 20)],
        messages in 1..150_usize,
    ) {
        Model::new(seed, loss, octets_max).run(messages);
    }
}

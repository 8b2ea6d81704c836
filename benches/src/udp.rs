//! An association over UDP or Ethernet frames: sealed packets in runs through real sockets, every message acknowledged and put in order.
//!
//! Beside it stands a raw stream of datagrams as long as its packets, measured in the same run. Both processes sleep
//! when they have nothing to do, so that what they use of their cores says something.

use rvi::host::fault::{Faults, Probability};
use rvi::{Message, Part};
use vlan_core::Instant;

use crate::endpoints::Terms;
use crate::ends::{End, Open};
use crate::packet_end::{CHANNEL, PacketEnd, clock};
use crate::process::{self, COUNT, Figure, Meeting, READY, Run, STOP};
use crate::raw_udp;

/// Messages that are offered in one round, as a TAP's pump reads frames.
const BATCH: usize = 64;
/// Flows that the messages belong to, one after the other; each is a lane.
const FLOWS: u32 = 64;
/// How long the legs may take to come up, and the last messages to arrive.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// Where the receiver says how many messages did not have the number they should.
const WRONG: usize = 5;

/// What is asked for besides the run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses of each leg, the sender's first.
    pub ends: Vec<[End; 2]>,
    /// `udp` or `ether`.
    pub kind: &'static str,
    pub is_trusted: bool,
    /// Octets of the longest packet.
    pub packet_len_max: usize,
    /// Packets lost on arrival, in percent.
    pub loss_percent: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    pub figure: Figure,
    /// A raw stream of datagrams of the longest packet's length; its loss belongs to it.
    pub raw: Figure,
    /// Of the sender's packets: proven lost, sent again for want of proof, and of those the ones that had arrived.
    pub packets_lost: u64,
    pub packets_rescued: u64,
    pub packets_spurious: u64,
    /// Packets that the receiver's kernel had no room for.
    pub kernel_drops: u64,
}

/// Measures the raw stream, then the association.
pub fn measure<S: Open>(run: &Run, settings: &Settings) -> anyhow::Result<Findings> {
    let raw_run = Run { size: settings.packet_len_max, ..*run };
    let raw = raw_udp::measure::<S>(&raw_run, &settings.ends[0])?;
    let terms =
        Terms { legs: run.legs, is_trusted: settings.is_trusted, packet_len_max: settings.packet_len_max };
    let sockets = settings.ends.iter().map(|[one, other]| Ok([one.open::<S>(1)?, other.open::<S>(2)?]));
    let [mut sender, mut receiver] =
        PacketEnd::pair(clock(), &terms, sockets.collect::<anyhow::Result<_>>()?);
    let loss = Probability::from_millionths(settings.loss_percent * 10_000);
    for (seed, end) in [(1, &mut sender), (2, &mut receiver)] {
        end.set_faults(seed, Faults { loss, ..Faults::NONE });
    }
    let figure = process::pair(
        run,
        |meeting| take_all(&mut receiver, meeting),
        |meeting| send_all(run, &mut sender, meeting),
    )??;
    let sum = |of: fn(&rvi::packet::sender::PacketLegStatus) -> u64| {
        sender.association.packet_legs().map(|leg| of(&leg)).sum()
    };
    Ok(Findings {
        figure,
        raw,
        packets_lost: sum(|leg| leg.lost),
        packets_rescued: sum(|leg| leg.rescued),
        packets_spurious: sum(|leg| leg.spurious),
        kernel_drops: receiver.kernel_drops(),
    })
}

/// The receiving process.
fn take_all<S: Open>(end: &mut PacketEnd<S>, meeting: &Meeting) {
    let mut taker = Taker::new();
    meeting.store(READY, 1);
    while meeting.load(STOP) == 0 {
        let now = clock();
        let packets = end.receive(now, |message| taker.take(message));
        end.transmit(now);
        meeting.store(WRONG, taker.wrong);
        meeting.store(COUNT, taker.received);
        if packets == 0 && end.rest(now).is_err() {
            return;
        }
    }
}

/// The sending process.
fn send_all<S: Open>(run: &Run, end: &mut PacketEnd<S>, meeting: &Meeting) -> anyhow::Result<Figure> {
    let mut source = Source { octets: vec![0x5a; run.size], number: 0 };
    let is_up = |end: &PacketEnd<S>| end.association.packet_legs().count() == usize::from(run.legs);
    idle_until(end, |end| meeting.load(READY) == 1 && is_up(end));
    anyhow::ensure!(is_up(end), "the legs did not come up");
    let figure = process::count(run, meeting, || {
        let now = clock();
        let packets = end.receive(now, |_| {});
        let sent = source.send(now, end);
        end.transmit(now);
        if packets == 0 && sent == 0 {
            // A failed sleep is a short one.
            let _ = end.rest(now);
        }
        meeting.load(COUNT)
    });
    idle_until(end, |_| meeting.load(COUNT) >= u64::from(source.number));
    let missing = u64::from(source.number).abs_diff(meeting.load(COUNT));
    Ok(Figure { lost: missing.max(meeting.load(WRONG)), ..figure })
}

/// Sends nothing more, until `is_done` or patience ends.
fn idle_until<S: Open>(end: &mut PacketEnd<S>, is_done: impl Fn(&PacketEnd<S>) -> bool) {
    let start = clock();
    loop {
        let now = clock();
        let packets = end.receive(now, |_| {});
        end.transmit(now);
        if is_done(end) || now.since(start) > PATIENCE {
            return;
        }
        if packets == 0 {
            // A failed sleep is a short one.
            let _ = end.rest(now);
        }
    }
}

/// Makes one message after another.
struct Source {
    octets: Vec<u8>,
    /// Messages sent so far.
    number: u32,
}

impl Source {
    /// Offers a batch, until a message finds no room; says how many did.
    fn send<S: Open>(&mut self, now: Instant, end: &mut PacketEnd<S>) -> usize {
        for sent in 0..BATCH {
            self.octets[..4].copy_from_slice(&self.number.to_le_bytes());
            let parts = [Part::Private(&self.octets)];
            if end.association.send(now, CHANNEL, self.number % FLOWS, 0, &parts).is_err() {
                return sent;
            }
            self.number = self.number.wrapping_add(1);
        }
        BATCH
    }
}

/// Copies each message out, and checks that the numbers of each flow follow one another.
struct Taker {
    out: Vec<u8>,
    next: [u32; FLOWS as usize],
    received: u64,
    wrong: u64,
}

impl Taker {
    fn new() -> Self {
        Self { out: vec![0; 70_000], next: std::array::from_fn(|flow| flow as u32), received: 0, wrong: 0 }
    }

    fn take(&mut self, message: &Message<'_>) {
        let head = message.head.len();
        self.out[..head].copy_from_slice(message.head);
        message.rest.copy_to(&mut self.out[head..head + message.rest.len()]);
        let number = u32::from_le_bytes([self.out[0], self.out[1], self.out[2], self.out[3]]);
        let next = &mut self.next[(number % FLOWS) as usize];
        self.wrong += u64::from(number != *next);
        *next = number.wrapping_add(FLOWS);
        self.received += 1;
    }
}

//! Thousands of associations that carried something once and are idle now: what they hold and what they say.
//!
//! Two processes with one association for each pair, joined by a network that is a queue; time is counted, not waited
//! for. Everything else is as it ships: machines, handshakes, seals, and one budget of probes for each process.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rvi::packet::probe_budget::ProbeBudget;
use rvi::packet::transport::TransmitBuffer;
use rvi::packet::wire::PacketLeg;
use rvi::{Association, Part, Scratch};
use vlan_core::Instant;

use crate::endpoints::{self, Terms};
use crate::heap;
use crate::packet_end::{CHANNEL, association};
use crate::process::{self, Run};

/// How long a packet is under way.
const DELAY: Duration = Duration::from_micros(50);
/// Between one pair's handshake and the next one's.
const GAP: Duration = Duration::from_micros(200);
/// Messages that each association sends before it falls idle.
const MESSAGES: u32 = 32;
/// From the last handshake to the measuring: every association has given back what only traffic needs.
const SETTLING: Duration = Duration::from_secs(15);

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// Octets that one association holds while idle: its own size and what it allocated.
    pub octets_each: f64,
    /// What one process sends in a second, by its own clock: packets of all kinds, and probes nobody asked for.
    pub packets_per_second: f64,
    pub probes_per_second: f64,
    /// CPU time that one process needs for a second of its own clock.
    pub cpu_per_second: Duration,
}

/// Measures `count` pairs for the run's seconds of the machines' time.
pub fn measure(run: &Run, count: u32) -> anyhow::Result<Findings> {
    process::pin(run.cores[0])?;
    let terms = Terms { legs: run.legs, is_trusted: false, packet_len_max: 1472 };
    let mut world = World::new();
    for pair in 0..count {
        world.add(pair, &terms)?;
    }
    world.run_for(SETTLING);
    let (packets, probes, cpu) = (world.packets, world.probes(), process::own_cpu_time());
    let seconds = run.seconds as f64;
    world.run_for(Duration::from_secs(run.seconds));
    Ok(Findings {
        cpu_per_second: (process::own_cpu_time() - cpu).div_f64(2.0 * seconds),
        packets_per_second: (world.packets - packets) as f64 / 2.0 / seconds,
        probes_per_second: (world.probes() - probes) as f64 / 2.0 / seconds,
        octets_each: world.drop_all() / f64::from(2 * count),
    })
}

/// Names an association: its process, 0 or 1, and its pair.
type Name = (usize, u32);

struct Flying {
    at: Instant,
    to: Name,
    leg: PacketLeg,
    octets: Vec<u8>,
}

/// All associations of both processes and what is between them.
struct World {
    now: Instant,
    ends: [Vec<Association>; 2],
    budgets: [ProbeBudget; 2],
    network: VecDeque<Flying>,
    /// When each association wants to be called; what is no longer so is passed over.
    deadlines: BinaryHeap<Reverse<(Instant, Name)>>,
    buffer: TransmitBuffer,
    scratch: Scratch,
    /// Packets sent so far, by both.
    packets: u64,
    received: u64,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            ends: Default::default(),
            budgets: Default::default(),
            network: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            buffer: TransmitBuffer::new(64, 65_000),
            scratch: Scratch::default(),
            packets: 0,
            received: 0,
        }
    }

    /// Lets a pair agree on a session and send a little both ways.
    fn add(&mut self, pair: u32, terms: &Terms) -> anyhow::Result<()> {
        for process in 0..2 {
            let mut own = association();
            own.set_packets(self.now, endpoints::endpoint(process, pair, terms));
            self.ends[process].push(own);
            self.settle((process, pair));
        }
        self.run_for(10 * DELAY);
        let before = self.received;
        for name in [(0, pair), (1, pair)] {
            let (now, end) = (self.now, &mut self.ends[name.0][pair as usize]);
            let legs = end.packet_legs().count();
            anyhow::ensure!(legs == usize::from(terms.legs), "pair {pair} has {legs} legs");
            for flow in 0..MESSAGES {
                end.send(now, CHANNEL, flow, 0, &[Part::Private(&[0x5a; 1400])])?;
            }
            self.settle(name);
        }
        self.run_for(GAP);
        let received = self.received - before;
        anyhow::ensure!(received == u64::from(2 * MESSAGES), "{received} messages of pair {pair} arrived");
        Ok(())
    }

    /// Lets time pass, from one thing that happens to the next.
    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.network.front().map_or(until, |flying| flying.at);
            let deadline = self.deadlines.peek().map_or(until, |Reverse((at, _))| *at);
            let next = arrival.min(deadline);
            if next >= until {
                break;
            }
            self.now = self.now.max(next);
            if arrival <= deadline { self.arrive() } else { self.fire() }
        }
        self.now = until;
    }

    fn arrive(&mut self) {
        let Some(Flying { to, leg, mut octets, .. }) = self.network.pop_front() else { return };
        let end = &mut self.ends[to.0][to.1 as usize];
        // Copies of a handshake by the second leg are refused, as they should be.
        let _ = end.handle_packet(self.now, leg, &mut octets);
        while end.receive(&mut self.scratch).is_some() {
            self.received += 1;
        }
        end.release();
        self.settle(to);
    }

    fn fire(&mut self) {
        let Some(Reverse((at, name))) = self.deadlines.pop() else { return };
        let (now, budget) = (self.now, &mut self.budgets[name.0]);
        let end = &mut self.ends[name.0][name.1 as usize];
        if end.poll_timeout() == Some(at) {
            end.handle_timeout_with(now, &mut || budget.take(now));
            self.settle(name);
        }
    }

    /// Sends what an association has to send, and notes when it wants to be called.
    fn settle(&mut self, name: Name) {
        let end = &mut self.ends[name.0][name.1 as usize];
        end.publish();
        while let Some(batch) = end.poll_transmit(self.now, &mut self.buffer) {
            let (at, to) = (self.now + DELAY, (1 - name.0, name.1));
            self.packets += batch.count as u64;
            for octets in self.buffer.octets().chunks(batch.segment_len) {
                self.network.push_back(Flying { at, to, leg: batch.leg, octets: octets.into() });
            }
        }
        while end.poll_event().is_some() {}
        if let Some(at) = end.poll_timeout() {
            self.deadlines.push(Reverse((at, name)));
        }
    }

    fn probes(&self) -> u64 {
        self.ends.iter().flatten().flat_map(Association::packet_legs).map(|leg| leg.probes).sum()
    }

    /// Ends all associations; says how many octets they held in all.
    fn drop_all(&mut self) -> f64 {
        let (before, mut own) = (heap::held(), 0);
        for end in &mut self.ends {
            own += size_of::<Association>() * end.len();
            // The table that they stood in stays.
            end.clear();
        }
        (before - heap::held()) as f64 + own as f64
    }
}

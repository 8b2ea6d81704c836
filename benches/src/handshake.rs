//! Handshakes of packet sessions, both ends in one thread: what it costs to agree on keys, and what to send somebody
//! away who asks for too much.

use std::time::{Duration, Instant as Clock};

use anyhow::Context;
use rvi::keys::PrivateKey;
use rvi::packet::session::{Admission, EntropyPool, Gate, HANDSHAKE_PACKET_LEN_MAX, PacketSession};
use rvi::packet::wire::{PacketHeader, PacketKind, PacketLeg};
use vlan_core::Instant;

use crate::endpoints::{self, Terms};
use crate::process::{self, Run, own_cpu_time};

/// The machines' time between two handshakes: a gate lets so many pass from one source.
const GAP: Duration = Duration::from_millis(50);
/// The address that CONNECTs come from, as a gate sees it.
const SOURCE: [u8; 18] = [9; 18];

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    pub handshakes: u64,
    /// The CPU time that each end took for all of them, the initiator first.
    pub times: [Duration; 2],
    /// CONNECTs that were answered with a cookie, and the CPU time that it took.
    pub cookies: u64,
    pub cookies_time: Duration,
}

/// Half of the run's time for handshakes, half for cookies.
pub fn measure(run: &Run) -> anyhow::Result<Findings> {
    process::pin(run.cores[0])?;
    let half = Duration::from_secs(run.seconds) / 2;
    let mut pair = Pair::new(run.legs);
    let (mut handshakes, start) = (0, Clock::now());
    while start.elapsed() < half {
        pair.shake_hands()?;
        handshakes += 1;
    }
    let connect = pair.connect()?;
    let (mut cookies, cpu, start) = (0, own_cpu_time(), Clock::now());
    let mut reply = [0; HANDSHAKE_PACKET_LEN_MAX];
    while start.elapsed() < half {
        let answer = pair.gate.admit(pair.now, &SOURCE, &connect, true, &mut reply);
        anyhow::ensure!(matches!(answer, Admission::Cookie(_)), "no cookie: {answer:?}");
        cookies += 1;
    }
    Ok(Findings { handshakes, times: pair.times, cookies, cookies_time: own_cpu_time() - cpu })
}

/// Two sessions and the gate before the second.
struct Pair {
    ends: [PacketSession; 2],
    legs: u8,
    gate: Gate,
    entropy: EntropyPool,
    now: Instant,
    times: [Duration; 2],
}

impl Pair {
    fn new(legs: u8) -> Self {
        let terms = Terms { legs, is_trusted: false, packet_len_max: 1472 };
        let own = PrivateKey::from_octets([2; 32]).public();
        Self {
            ends: [0, 1].map(|end| PacketSession::new(endpoints::session(end, 1, &terms))),
            legs,
            gate: Gate::new(&own, [3; 32]),
            entropy: EntropyPool::new([4; 32]),
            now: Instant::from_nanos(1_000_000_000),
            times: [Duration::ZERO; 2],
        }
    }

    /// Agrees on another session, until neither end has anything to say.
    fn shake_hands(&mut self) -> anyhow::Result<()> {
        let before = self.ends[1].id();
        self.begin();
        while self.exchange(0)? | self.exchange(1)? {}
        let ids = self.ends.each_ref().map(PacketSession::id);
        anyhow::ensure!(ids[0] == ids[1] && ids[1] != before, "no session came of a handshake");
        Ok(())
    }

    /// Carries what one end has to say to the other; false when it has nothing.
    fn exchange(&mut self, from: usize) -> anyhow::Result<bool> {
        let mut packet = [0; HANDSHAKE_PACKET_LEN_MAX];
        let mut has_spoken = false;
        for leg in endpoints::legs(self.legs) {
            while let Some(len) = self.poll(from, leg, &mut packet) {
                has_spoken = true;
                self.deliver(1 - from, leg, &mut packet[..len])?;
            }
        }
        Ok(has_spoken)
    }

    /// The CONNECT of another handshake, which goes no further.
    fn connect(&mut self) -> anyhow::Result<Vec<u8>> {
        self.begin();
        let mut packet = [0; HANDSHAKE_PACKET_LEN_MAX];
        let len = endpoints::legs(self.legs).find_map(|leg| self.poll(0, leg, &mut packet));
        Ok(packet[..len.context("no CONNECT")?].to_vec())
    }

    fn begin(&mut self) {
        self.now = self.now + GAP;
        let start = own_cpu_time();
        let entropy = self.entropy.draw();
        self.ends[0].begin(self.now, &entropy);
        self.times[0] += own_cpu_time() - start;
    }

    fn poll(&mut self, end: usize, leg: PacketLeg, packet: &mut [u8]) -> Option<usize> {
        let start = own_cpu_time();
        let len = self.ends[end].poll_handshake_packet(self.now, leg, packet);
        self.times[end] += own_cpu_time() - start;
        len
    }

    fn deliver(&mut self, end: usize, leg: PacketLeg, packet: &mut [u8]) -> anyhow::Result<()> {
        let start = own_cpu_time();
        let kind = PacketHeader::parse_packet(packet)?.kind;
        if kind == PacketKind::Connect {
            let mut reply = [0; HANDSHAKE_PACKET_LEN_MAX];
            let admission = self.gate.admit(self.now, &SOURCE, packet, false, &mut reply);
            anyhow::ensure!(admission == Admission::Admitted, "{admission:?}");
        }
        let entropy = self.entropy.draw();
        // Of copies by several legs the first is answered, the others are refused.
        let _ = self.ends[end].handle_handshake(self.now, leg, packet, &entropy);
        while self.ends[end].poll_event().is_some() {}
        self.times[end] += own_cpu_time() - start;
        Ok(())
    }
}

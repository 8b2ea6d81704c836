//! Two transports, and between them a network that loses, keeps, doubles and reorders packets as the script says.
//!
//! Checked: every message is delivered once, whole and in the order of its lane, one after all others when it asks for
//! that; memory stays within its bounds; packets fit their leg and end at some time; and once the network is whole
//! again, everything arrives and is acknowledged.

use rvi::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketLeg, TAG_LEN};
use vlan_core::Instant;

use crate::packet_end::PacketEnd;
use crate::script::Script;

/// Packets that are under way at most; what is more is lost.
const AIR_MAX: usize = 256;
/// Timers that may fire, and packets fly, before all has arrived: far more than a session as long as a script needs.
const ROUNDS_MAX: usize = 200_000;

/// A packet under way.
#[derive(Clone)]
struct Flight {
    to: usize,
    octets: Vec<u8>,
}

struct Run {
    ends: [PacketEnd; 2],
    legs: Vec<PacketLeg>,
    air: Vec<Flight>,
    /// How many messages each end lends on.
    lends: [usize; 2],
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    let mut run = start(options);
    while run.step(&mut script).is_some() {}
    run.finish();
}

fn start(options: u8) -> Run {
    // Two fabrics, or one fabric and the relay.
    let numbers = if options & 0x80 == 0 { [0, 1] } else { [0, 14] };
    let mut run = Run {
        ends: [PacketEnd::new(options & 3), PacketEnd::new(options >> 2 & 3)],
        legs: numbers.iter().filter_map(|&number| PacketLeg::new(number)).collect(),
        air: Vec::new(),
        lends: [0; 2],
        now: Instant::from_nanos(1_000_000_000),
    };
    for leg in run.legs.clone() {
        run.ends.iter_mut().for_each(|end| end.leg_up(run.now, leg));
    }
    run
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let operation = script.below(16)?;
        let end = usize::from(script.below(2)?);
        match operation {
            0..4 => self.ends[end].send(script, self.now)?,
            4..6 => self.transmit(end),
            6..9 => self.deliver(script, false)?,
            9 => self.deliver(script, true)?,
            10 => {
                // Lost.
                let place = usize::from(script.octet()?);
                if place < self.air.len() {
                    self.air.remove(place);
                }
            }
            11 => {
                script.advance(&mut self.now)?;
                self.ends[end].handle_timeout(self.now);
            }
            12 => self.exchange(),
            13 => self.ends[end].settles ^= true,
            14 => self.lends[end] = usize::from(script.below(4)?),
            _ => self.change_leg(script, end)?,
        }
        Some(())
    }

    fn change_leg(&mut self, script: &mut Script<'_>, end: usize) -> Option<()> {
        let leg = self.legs[usize::from(script.below(2)?)];
        match script.below(3)? {
            0 => self.ends[end].transport.leg_down(self.now, leg),
            1 => self.ends[end].leg_up(self.now, leg),
            _ => {
                let len = 600 + usize::from(script.u16()?) % 800;
                self.ends[end].transport.set_packet_len_max(leg, len);
            }
        }
        Some(())
    }

    fn transmit(&mut self, end: usize) {
        let air = &mut self.air;
        self.ends[end].transmit(self.now, &mut |_, packet| {
            if air.len() < AIR_MAX {
                air.push(Flight { to: 1 - end, octets: packet.to_vec() });
            }
        });
    }

    fn deliver(&mut self, script: &mut Script<'_>, again: bool) -> Option<()> {
        let place = usize::from(script.octet()?);
        if !self.air.is_empty() {
            let place = place % self.air.len();
            let flight = if again { self.air[place].clone() } else { self.air.remove(place) };
            self.arrive(&flight);
        }
        Some(())
    }

    fn arrive(&mut self, flight: &Flight) {
        let header = PacketHeader::parse_packet(&flight.octets).expect("our own packet");
        let payload = &flight.octets[PACKET_HEADER_LEN..flight.octets.len() - TAG_LEN];
        let end = &mut self.ends[flight.to];
        let handled = end.transport.handle_packet(self.now, &header, payload, &end.windows);
        assert_eq!(handled, Ok(()), "an honest packet is refused");
        let [first, second] = &mut self.ends;
        let (end, peer) = if flight.to == 0 { (first, second) } else { (second, first) };
        end.poll_messages_of(peer, self.lends[flight.to]);
        let no_room = end.transport.receiver_counters().no_room;
        assert_eq!(no_room, 0, "no room for what its own credit admits");
    }

    /// Everything that is under way arrives in order, and what comes of it goes out.
    fn exchange(&mut self) {
        (0..2).for_each(|end| self.transmit(end));
        for flight in core::mem::take(&mut self.air) {
            self.arrive(&flight);
        }
    }

    /// The network is whole again: everything arrives, whatever happened before.
    fn finish(&mut self) {
        self.lends = [0; 2];
        for end in &mut self.ends {
            end.settles = true;
            end.recycle_all();
        }
        for leg in self.legs.clone() {
            self.ends.iter_mut().for_each(|end| end.leg_up(self.now, leg));
        }
        for rounds in 0.. {
            self.exchange();
            if self.is_done() && self.air.is_empty() {
                break;
            }
            assert!(rounds < ROUNDS_MAX, "no progress");
            let timers = self.ends.iter().filter_map(|end| end.transport.poll_timeout());
            self.now = timers.min().expect("something is under way, and nobody waits for it").max(self.now);
            self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
        }
        for (end, peer) in [(0, 1), (1, 0)] {
            assert_eq!(self.ends[end].delivered.len(), self.ends[peer].accepted.len());
            self.ends[end].end();
        }
    }

    fn is_done(&self) -> bool {
        self.ends.iter().all(|end| end.transport.is_drained())
    }
}

/// Conversations on both legs, losses, copies, a leg that goes and comes back, a slow consumer, long messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let talk: &[u8] = &[0, 0, 1, 0, 60, 0, 17, 0, 1, 1, 1, 90, 0, 17, 4, 0, 4, 1, 6, 0, 0, 6, 0, 0, 12, 0];
    let long: &[u8] = &[0, 0, 1, 2, 0, 200, 1, 0, 1, 2, 3, 255, 255, 2, 12, 0, 12, 0];
    let lossy: &[u8] = &[4, 0, 10, 0, 0, 10, 0, 1, 11, 0, 200, 0, 11, 1, 200, 0, 12, 0, 9, 0, 0, 6, 0, 2];
    let legs: &[u8] = &[15, 0, 0, 0, 15, 1, 1, 0, 4, 0, 12, 0, 15, 0, 0, 1, 15, 1, 1, 1, 15, 0, 0, 2, 9, 1];
    let slow: &[u8] = &[14, 0, 3, 13, 0, 0, 1, 1, 0, 60, 0, 16, 12, 0, 11, 0, 100, 3, 13, 0, 12, 0];
    let after: &[u8] = &[0, 0, 1, 0, 60, 0, 16, 0, 0, 1, 1, 60, 0, 17, 4, 0, 6, 0, 1, 6, 0, 0];
    let meet: &[u8] = &[12, 0, 12, 0, 12, 0];
    let overtaken: &[u8] = &[0, 0, 1, 0, 60, 0, 17, 4, 0, 0, 0, 1, 0, 61, 0, 17, 4, 0, 6, 0, 1, 6, 0, 0];
    vec![
        [&[0][..], meet, overtaken, talk, overtaken].concat(),
        [&[1][..], meet, after, overtaken, lossy, overtaken].concat(),
        [&[0][..], talk, long, lossy, talk].concat(),
        [&[5][..], talk, legs, talk, long, legs].concat(),
        [&[0x8a][..], talk, lossy, legs, talk].concat(),
        [&[15][..], slow, talk, slow, long, lossy].concat(),
        [&[6][..], after, after, lossy, after, legs, after].concat(),
    ]
}

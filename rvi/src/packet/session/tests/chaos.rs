//! Two ends, a network without mercy, and somebody who makes packets up.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    /// What both ends have to send goes under way.
    Poll,
    /// The packet under way at this place arrives, and stays under way if it is to come again.
    Arrive(usize, bool),
    Lose(usize),
    Data(usize, u8),
    /// Flips a bit of a packet under way.
    Flip(usize, usize),
    Garbage(usize, u8, Vec<u8>),
    Pass(u16),
    Close(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..1000usize;
    prop_oneof![
        2 => (0..2usize).prop_map(Step::Begin),
        6 => Just(Step::Poll),
        12 => (place.clone(), proptest::bool::weighted(0.2)).prop_map(|(at, again)| Step::Arrive(at, again)),
        2 => place.clone().prop_map(Step::Lose),
        6 => (0..2usize, 0..2u8).prop_map(|(end, leg)| Step::Data(end, leg)),
        2 => (place, 0..3000usize).prop_map(|(at, bit)| Step::Flip(at, bit)),
        1 => (0..2usize, 0..2u8, proptest::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(end, leg, octets)| Step::Garbage(end, leg, octets)),
        3 => (0..400u16).prop_map(Step::Pass),
        1 => (0..2usize).prop_map(Step::Close),
        1 => (0..2usize).prop_map(Step::Release),
    ]
}

struct Run {
    pair: Pair,
    /// Packets under way, and as they were sent.
    air: Vec<(Flight, Vec<u8>)>,
    /// How often each payload arrived, and the session it was sealed in.
    arrived: BTreeMap<Vec<u8>, u32>,
    serial: u64,
}

impl Run {
    fn take(&mut self, step: &Step) {
        let at = |at: usize, len: usize| if len == 0 { 0 } else { at % len };
        match step {
            Step::Begin(end) => self.pair.begin(*end),
            Step::Poll => {
                for end in 0..2 {
                    let flights = self.pair.flights(end);
                    flights.into_iter().for_each(|flight| self.launch(flight));
                }
            }
            Step::Arrive(place, again) if !self.air.is_empty() => {
                let place = at(*place, self.air.len());
                let (flight, sent) = if *again { self.air[place].clone() } else { self.air.remove(place) };
                self.arrive(&flight, flight.octets == sent);
            }
            Step::Lose(place) if !self.air.is_empty() => {
                let place = at(*place, self.air.len());
                self.air.remove(place);
            }
            Step::Data(end, number) => self.send(*end, leg(*number)),
            Step::Flip(place, bit) if !self.air.is_empty() => {
                let place = at(*place, self.air.len());
                let octets = &mut self.air[place].0.octets;
                let bit = bit % (8 * octets.len());
                octets[bit / 8] ^= 1 << (bit % 8);
            }
            Step::Garbage(end, number, octets) => {
                self.arrive(&Flight { to: *end, leg: leg(*number), octets: octets.clone() }, false);
            }
            Step::Pass(ms) => {
                self.pair.now = self.pair.now + Duration::from_millis((*ms).into());
                let now = self.pair.now;
                self.pair.ends.iter_mut().for_each(|end| end.handle_timeout(now));
            }
            Step::Close(end) => self.pair.ends[*end].close(),
            Step::Release(end) => self.pair.ends[*end].release_keys(),
            _ => {}
        }
        self.collect();
    }

    /// Numbers start again with each session.
    fn collect(&mut self) {
        let before: [usize; 2] = [0, 1].map(|end| self.pair.sessions(end).len());
        self.pair.collect();
        for (end, before) in before.into_iter().enumerate() {
            if self.pair.sessions(end).len() > before {
                self.pair.numbers[end] = Default::default();
            }
        }
    }

    fn send(&mut self, end: usize, leg: PacketLeg) {
        let Some(id) = self.pair.ends[end].id() else { return };
        self.serial += 1;
        let payload = [self.serial.to_le_bytes(), id.to_le_bytes()].concat();
        let number = self.pair.numbers[end][leg.index()];
        self.pair.numbers[end][leg.index()] = number + 1;
        let flight = self.pair.data_of(end, leg, number, &payload).unwrap();
        self.launch(flight);
    }

    fn launch(&mut self, flight: Flight) {
        let sent = flight.octets.clone();
        self.air.push((flight, sent));
    }

    fn arrive(&mut self, flight: &Flight, is_genuine: bool) {
        let kind = PacketHeader::parse(&flight.octets).map(|header| header.kind);
        let mut octets = flight.octets.clone();
        let end = &mut self.pair.ends[flight.to];
        let id = end.id();
        if let Ok(PacketKind::Data | PacketKind::Probe) = kind {
            let opened = end.open(flight.leg, &mut octets).is_ok();
            if opened {
                assert!(is_genuine, "a packet that was changed was opened");
                let payload = octets[PACKET_HEADER_LEN..octets.len() - TAG_LEN].to_vec();
                assert_eq!(payload[8..], end.id().unwrap().to_le_bytes(), "of another session");
                *self.arrived.entry(payload).or_default() += 1;
            }
        } else {
            let entropy = self.pair.entropy.draw();
            let handled =
                self.pair.ends[flight.to].handle_handshake(self.pair.now, flight.leg, &mut octets, &entropy);
            let is_reset = kind == Ok(PacketKind::Reset);
            assert!(is_genuine || is_reset || handled.is_err(), "a packet that was changed was taken");
            assert!(is_genuine || self.pair.ends[flight.to].id() == id);
        }
        self.collect();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_happens_the_two_find_together_and_nothing_is_taken_twice(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let (air, arrived) = (Vec::new(), BTreeMap::new());
        let mut run = Run { pair: Pair::new(), air, arrived, serial: 0 };
        steps.iter().for_each(|step| run.take(step));
        prop_assert!(run.arrived.values().all(|count| *count == 1), "a packet was taken twice");
        // The network heals; what is under way arrives.
        for (flight, sent) in core::mem::take(&mut run.air) {
            run.arrive(&flight, flight.octets == sent);
        }
        for _ in 0..3 {
            settle(&mut run);
        }
        let pair = &mut run.pair;
        prop_assert_eq!(pair.ends[0].id(), pair.ends[1].id());
        pair.assert_works();
    }
}

/// What two hosts do: whoever has no session begins; data goes, and what is not known is answered by RESET.
fn settle(run: &mut Run) {
    for end in 0..2 {
        if !run.pair.ends[end].is_established() {
            run.pair.begin(end);
        }
    }
    for _ in 0..20 {
        for end in 0..2 {
            let flights = run.pair.flights(end);
            flights.iter().for_each(|flight| run.arrive(flight, true));
        }
    }
    let mut gate = Gate::new(&config(0).own_key.public(), [9; 32]);
    for end in 0..2 {
        run.send(end, leg(0));
        let Some((flight, _)) = run.air.pop() else { continue };
        let header = PacketHeader::parse(&flight.octets).unwrap();
        let peer = &run.pair.ends[1 - end];
        let pending = peer.pending.as_ref().map(|pending| pending.traffic.id());
        let is_known = [peer.id(), pending].contains(&Some(header.session));
        run.arrive(&flight, true);
        let mut out = [0; 48];
        if !is_known && gate.write_reset(run.pair.now, &header, &mut out).is_some() {
            run.arrive(&Flight { to: end, leg: leg(0), octets: out.to_vec() }, true);
        }
    }
    for _ in 0..8 {
        run.take(&Step::Pass(300));
        for end in 0..2 {
            let flights = run.pair.flights(end);
            flights.iter().for_each(|flight| run.arrive(flight, true));
        }
    }
    for end in 0..2 {
        if run.pair.events[end].last() == Some(&SessionEvent::Forgotten) {
            run.pair.begin(end);
        }
    }
    for _ in 0..20 {
        for end in 0..2 {
            let flights = run.pair.flights(end);
            flights.iter().for_each(|flight| run.arrive(flight, true));
        }
    }
}

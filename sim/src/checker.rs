//! The checker: knows every numbered frame that a node accepted, and judges each delivery and the end of a run.
//!
//! It checks I-1 (no duplicate within the lives of both processes), I-3 and I-15 (order within each flow, over
//! relay, barrier and direct together), I-4 (every accepted frame ends once), I-5 (every octet and the vnet state
//! as sent), I-44 (a promiscuous listener gets a copy of each unicast frame once and in order, and what it does not get is counted as a
//! lost copy), I-45 (a member that was removed gets no group frame that was accepted later), and that nothing reaches a stack
//! that is not a member of the frame's LAN, or has not joined its group while groups are sorted.

mod audit;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, LanId};

use crate::frame::{self, Addressing, Numbering};
use crate::memberships::{Memberships, Spell};

pub use audit::Audit;

/// A rule that was broken, with what broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name, such as `I-3 order`.
    pub invariant: &'static str,
    /// When it was seen.
    pub at: Instant,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {}: {}", self.invariant, self.at, self.detail)
    }
}

/// A place where a stack may be: one node's membership in one LAN, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StationIndex(pub usize);

/// A flow, by its place in the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowIndex(pub usize);

/// Who may get the frames of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// One station.
    One(StationIndex),
    /// Every other member of the LAN.
    Group,
    /// Every other member of the LAN that has joined the group which the flow goes to.
    Joined,
    /// Nobody: an attempt to reach another LAN or to use another's address.
    Nobody,
}

/// What the checker knows of a flow: its frames are numbered from 0 in the order in which they are accepted.
#[derive(Debug)]
pub struct Flow {
    /// The sending station.
    pub from: StationIndex,
    /// Who may get it.
    pub to: Receivers,
    /// Addresses and ports.
    pub addressing: Addressing,
    lan: LanId,
    frames: Vec<FrameRecord>,
    /// Deliveries of all of them.
    deliveries: usize,
    /// For each station: its life and the highest number it got.
    last: Vec<(StationIndex, u32, u32)>,
}

#[derive(Debug)]
struct FrameRecord {
    len: u32,
    /// The MTU of its sender's interface: a longer one is a super-frame.
    mtu: u16,
    accepted: Instant,
    from_life: u32,
    /// Stations that should get it, with their lives when it was accepted.
    expected: Vec<(StationIndex, u32)>,
    delivered: Vec<(StationIndex, u32)>,
    refused_by_device: Vec<StationIndex>,
    /// Listeners that the sender's driver knew, with their lives when it was accepted.
    copies_expected: Vec<(StationIndex, u32)>,
    /// Listeners whose devices got a copy, or refused it.
    copied: Vec<(StationIndex, u32)>,
}

#[derive(Debug)]
struct Station {
    lan: LanId,
    /// The number of this life, and whether it lives.
    life: u32,
    is_up: bool,
    /// Nothing sent by it or to it is judged.
    is_hostile: bool,
    /// Its device is promiscuous, and it may listen.
    listens: bool,
    /// When it last did, unless it does.
    listened_until: Option<Instant>,
    /// Times at which no control node served it, and the start of one that goes on.
    detached: Vec<(Instant, Instant)>,
    detached_since: Option<Instant>,
    /// When it ceased to be a member.
    removed: Option<Instant>,
    /// It gets every group by the platform file.
    every_group: Spell,
}

/// What a LAN does.
#[derive(Clone, Copy, Debug, Default)]
struct LanRecord {
    /// The smallest MTU that it has had.
    mtu_min: u16,
    /// Its groups are not sorted.
    floods: Spell,
}

/// How long a frame may wait in the ring of a node that does not run.
const RING_DWELL: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug, Default)]
pub struct Checker {
    stations: Vec<Station>,
    flows: Vec<Flow>,
    lans: BTreeMap<LanId, LanRecord>,
    /// Who is a member of which multicast group.
    pub memberships: Memberships,
    /// Frames that stacks got, of any kind.
    pub deliveries: u64,
}

impl Checker {
    /// Makes a station known; it is down.
    pub fn add_station(&mut self, lan: LanId) -> StationIndex {
        self.stations.push(Station {
            lan,
            life: 0,
            is_up: false,
            is_hostile: false,
            listens: false,
            listened_until: None,
            detached: Vec::new(),
            detached_since: Some(Instant::ZERO),
            removed: None,
            every_group: Spell::default(),
        });
        StationIndex(self.stations.len() - 1)
    }

    /// The LAN has this MTU from now on.
    pub fn note_mtu(&mut self, lan: LanId, mtu: u16) {
        let lan = self.lans.entry(lan).or_insert(LanRecord { mtu_min: mtu, ..LanRecord::default() });
        lan.mtu_min = lan.mtu_min.min(mtu);
    }

    /// The LAN's groups are not sorted from now on, or they are.
    pub fn set_floods(&mut self, now: Instant, lan: LanId, floods: bool) {
        self.lans.entry(lan).or_default().floods.set(now, floods);
    }

    /// The station gets every group from now on, or those that it has joined.
    pub fn set_every_group(&mut self, now: Instant, station: StationIndex, gets_every_group: bool) {
        self.stations[station.0].every_group.set(now, gets_every_group);
    }

    /// Nothing sent by the station, or to it, is to be judged.
    pub fn mark_hostile(&mut self, station: StationIndex) {
        self.stations[station.0].is_hostile = true;
    }

    /// A stack came up at `station`: a new life.
    pub fn station_up(&mut self, station: StationIndex) {
        let station = &mut self.stations[station.0];
        station.life += 1;
        station.is_up = true;
    }

    /// The station is no member of its LAN any more; its node may not know it yet.
    pub fn retire(&mut self, now: Instant, station: StationIndex) {
        self.stations[station.0].removed = Some(now);
    }

    /// The station's device is promiscuous and it may listen, or no more.
    pub fn set_listens(&mut self, now: Instant, station: StationIndex, listens: bool) {
        let station = &mut self.stations[station.0];
        if std::mem::replace(&mut station.listens, listens) && !listens {
            station.listened_until = Some(now);
        }
    }

    /// True while frames for others may come to the station that nobody numbers: what was under way when it ended may come a little later.
    #[must_use]
    pub fn may_overhear(&self, now: Instant, station: StationIndex) -> bool {
        let station = &self.stations[station.0];
        station.listens || station.listened_until.is_some_and(|until| now.since(until) < RING_DWELL)
    }

    /// True while frames for others may come to the station.
    #[must_use]
    pub fn listens(&self, station: StationIndex) -> bool {
        self.stations[station.0].listens
    }

    /// A control node serves the station from now on, or none does.
    pub fn attach(&mut self, now: Instant, station: StationIndex, attached: bool) {
        let station = &mut self.stations[station.0];
        match (attached, station.detached_since) {
            (true, Some(since)) => {
                station.detached.push((since, now));
                station.detached_since = None;
            }
            (false, None) => station.detached_since = Some(now),
            _ => {}
        }
    }

    /// The stack at `station` is gone.
    pub fn station_down(&mut self, now: Instant, station: StationIndex) {
        self.memberships.end_life(now, station);
        self.stations[station.0].is_up = false;
    }

    /// Makes a flow known.
    pub fn add_flow(&mut self, from: StationIndex, to: Receivers, addressing: Addressing) -> FlowIndex {
        let lan = self.stations[from.0].lan;
        let flow = Flow { from, to, addressing, lan, frames: Vec::new(), deliveries: 0, last: Vec::new() };
        self.flows.push(flow);
        FlowIndex(self.flows.len() - 1)
    }

    /// A flow's record.
    #[must_use]
    pub fn flow(&self, flow: FlowIndex) -> &Flow {
        &self.flows[flow.0]
    }

    /// How many frames of `flow` were accepted, and how many deliveries it had.
    #[must_use]
    pub fn progress(&self, flow: FlowIndex) -> (usize, usize) {
        let flow = &self.flows[flow.0];
        (flow.frames.len(), flow.deliveries)
    }

    /// The octets and vnet state of the flow's next frame, from an interface with this MTU.
    #[must_use]
    pub fn next_frame(&self, flow: FlowIndex, len: usize, mtu: u16) -> (Vnet, Vec<u8>) {
        let number = self.flows[flow.0].frames.len() as u32;
        self.frame(flow, number, (len, mtu))
    }

    /// The MTU of the interface that sent a frame.
    #[must_use]
    pub fn mtu_of(&self, numbering: Numbering) -> u16 {
        let frame = self.flows[numbering.flow as usize].frames.get(numbering.number as usize);
        frame.map_or(u16::MAX, |frame| frame.mtu)
    }

    /// The node took the frame that [`Self::next_frame`] made; its driver knew these listeners.
    pub fn frame_accepted(
        &mut self,
        now: Instant,
        flow: FlowIndex,
        (len, mtu): (usize, u16),
        listeners: &[StationIndex],
    ) {
        let Self { stations, flows, memberships, .. } = self;
        let record = &mut flows[flow.0];
        let up = |i: &usize| stations[*i].is_up && !stations[*i].is_hostile;
        let expected: Vec<_> = match record.to {
            Receivers::One(StationIndex(to)) => vec![to],
            Receivers::Group => {
                let is_receiver = |i: &usize| stations[*i].lan == record.lan && *i != record.from.0;
                (0..stations.len()).filter(is_receiver).collect()
            }
            Receivers::Joined => {
                let group = record.addressing.destination;
                let is_receiver = |i: &usize| {
                    stations[*i].lan == record.lan
                        && *i != record.from.0
                        && memberships.must_get(StationIndex(*i), group, now, Duration::ZERO)
                };
                (0..stations.len()).filter(is_receiver).collect()
            }
            Receivers::Nobody => Vec::new(),
        };
        let is_unicast = matches!(record.to, Receivers::One(_) | Receivers::Nobody);
        let gets_copy = |i: &usize| {
            let is_other = !matches!(record.to, Receivers::One(to) if to.0 == *i);
            is_unicast && is_other && up(i)
        };
        let copied = listeners.iter().map(|listener| listener.0).filter(gets_copy);
        let copies_expected = copied.map(|i| (StationIndex(i), stations[i].life)).collect();
        record.frames.push(FrameRecord {
            len: len as u32,
            mtu,
            copies_expected,
            copied: Vec::new(),
            accepted: now,
            from_life: stations[record.from.0].life,
            expected: expected.into_iter().filter(up).map(|i| (StationIndex(i), stations[i].life)).collect(),
            delivered: Vec::new(),
            refused_by_device: Vec::new(),
        });
    }

    /// The frame that [`Self::next_frame`] made came in by an uplink for nobody of the LAN: at most listeners see it.
    pub fn frame_for_nobody(&mut self, now: Instant, flow: FlowIndex, len: (usize, u16)) {
        self.frame_accepted(now, flow, len, &[]);
        if let Some(frame) = self.flows[flow.0].frames.last_mut() {
            frame.expected.clear();
        }
    }

    /// True when the station had the frame in an earlier life.
    #[must_use]
    pub fn had_before(&self, station: StationIndex, numbering: Numbering) -> bool {
        let life = self.stations[station.0].life;
        let frames = self.flows.get(numbering.flow as usize).map(|flow| &flow.frames);
        let frame = frames.and_then(|frames| frames.get(numbering.number as usize));
        frame.is_some_and(|frame| frame.delivered.iter().any(|&(s, of)| s == station && of < life))
    }

    /// A numbered frame is at the device of `station`, which refuses it when `refuse`.
    ///
    /// # Errors
    /// When the frame breaks an invariant.
    pub fn frame_arrived(
        &mut self,
        now: Instant,
        station: StationIndex,
        vnet: &Vnet,
        octets: &[u8],
        refuse: bool,
    ) -> Result<Numbering, Violation> {
        let broken = |invariant, detail: String| Err(Violation { invariant, at: now, detail });
        let Some(numbering) = frame::parse(octets) else {
            return broken(
                "I-5 content",
                format!("{} octets that nobody sent, at {station:?}", octets.len()),
            );
        };
        let (flow, number) = (FlowIndex(numbering.flow as usize), numbering.number);
        let Some(record) = self.flows.get(flow.0) else {
            return broken("I-5 content", format!("{numbering:?} at {station:?}: no such flow"));
        };
        let Some(sent) = record.frames.get(number as usize) else {
            return broken("I-5 content", format!("{numbering:?} at {station:?}: never accepted"));
        };
        self.check_receiver(now, station, record, numbering)?;
        self.check_removed(now, station, record, numbering)?;
        let (expected_vnet, expected) = self.frame(flow, number, (sent.len as usize, sent.mtu));
        if expected != octets || expected_vnet != *vnet {
            let at = expected.iter().zip(octets).position(|(a, b)| a != b);
            return broken(
                "I-5 content",
                format!(
                    "{numbering:?}: {} of {} octets, first difference at {at:?}, {vnet:?}",
                    octets.len(),
                    sent.len
                ),
            );
        }
        self.check_order(now, station, numbering)?;
        let life = self.stations[station.0].life;
        let is_copy = self.is_copy(&self.flows[flow.0], station);
        let record = &mut self.flows[flow.0];
        let sent = &mut record.frames[number as usize];
        if is_copy {
            sent.copied.push((station, life));
        } else if refuse {
            sent.refused_by_device.push(station);
        } else {
            sent.delivered.push((station, life));
            record.deliveries += 1;
            self.deliveries += 1;
        }
        Ok(numbering)
    }

    fn frame(&self, flow: FlowIndex, number: u32, (len, mtu): (usize, u16)) -> (Vnet, Vec<u8>) {
        let record = &self.flows[flow.0];
        let numbering = Numbering { lan: record.lan.0, flow: flow.0 as u32, number };
        let vnet = frame::vnet_of(&record.addressing, number, len, mtu);
        (vnet, frame::make(&record.addressing, numbering, len))
    }

    fn check_receiver(
        &self,
        now: Instant,
        station: StationIndex,
        flow: &Flow,
        numbering: Numbering,
    ) -> Result<(), Violation> {
        let lan = self.stations[station.0].lan;
        let meant = match flow.to {
            _ if self.stations[station.0].listens => flow.from != station,
            Receivers::One(one) => one == station,
            Receivers::Group => flow.from != station,
            Receivers::Joined => flow.from != station && self.may_get_group(station, flow, numbering),
            Receivers::Nobody => false,
        };
        if meant && lan == flow.lan && self.stations[station.0].is_up {
            return Ok(());
        }
        let detail =
            format!("{numbering:?} from {:?} to {:?} came to {station:?} of LAN {lan}", flow.from, flow.to);
        Err(Violation { invariant: "nothing reaches a non-member", at: now, detail })
    }

    /// Members of the group, and everybody who is to get all groups.
    fn may_get_group(&self, station: StationIndex, flow: &Flow, numbering: Numbering) -> bool {
        let accepted = flow.frames[numbering.number as usize].accepted;
        self.memberships.is_member(station, flow.addressing.destination)
            || self.stations[station.0].every_group.has_met(accepted)
            || self.lans.get(&flow.lan).is_some_and(|lan| lan.floods.has_met(accepted))
    }

    /// What goes to a group goes by a control node, which knows at once that a member has been removed. A sender with a direct
    /// RVI may not know it yet.
    fn check_removed(
        &self,
        now: Instant,
        station: StationIndex,
        flow: &Flow,
        numbering: Numbering,
    ) -> Result<(), Violation> {
        let accepted = flow.frames[numbering.number as usize].accepted;
        let is_group = matches!(flow.to, Receivers::Group | Receivers::Joined);
        let removed = self.stations[station.0].removed;
        if !is_group || removed.is_none_or(|removed| accepted <= removed) {
            return Ok(());
        }
        let detail = format!("{numbering:?} of {accepted} came to {station:?}, removed at {removed:?}");
        Err(Violation { invariant: "I-45 removed members", at: now, detail })
    }

    /// True for what comes to a station as a listener only.
    fn is_copy(&self, flow: &Flow, station: StationIndex) -> bool {
        match flow.to {
            Receivers::One(to) => to != station,
            Receivers::Nobody => true,
            Receivers::Joined => {
                self.stations[station.0].listens
                    && !self.memberships.is_member(station, flow.addressing.destination)
            }
            Receivers::Group => false,
        }
    }

    /// Numbers of a flow only grow at one life of a receiver.
    fn check_order(
        &mut self,
        now: Instant,
        station: StationIndex,
        numbering: Numbering,
    ) -> Result<(), Violation> {
        let life = self.stations[station.0].life;
        let record = &mut self.flows[numbering.flow as usize];
        let Some(entry) = record.last.iter_mut().find(|(s, ..)| *s == station) else {
            record.last.push((station, life, numbering.number));
            return Ok(());
        };
        if entry.1 != life || numbering.number > entry.2 {
            (entry.1, entry.2) = (life, numbering.number);
            return Ok(());
        }
        let last = entry.2;
        let frame = &record.frames[numbering.number as usize];
        let again = frame.delivered.contains(&(station, life)) || frame.refused_by_device.contains(&station);
        let is_copied = frame.copied.contains(&(station, life));
        let is_copy = self.is_copy(&self.flows[numbering.flow as usize], station);
        let frame = &self.flows[numbering.flow as usize].frames[numbering.number as usize];
        let invariant = match (is_copy, again || is_copied) {
            (true, true) => "I-44 each copy once",
            (true, false) => "I-44 order of copies",
            (false, true) => "I-1 no duplicate",
            (false, false) => "I-3 order",
        };
        let detail = format!(
            "{numbering:?} (accepted at {}) came to {station:?} after number {}",
            frame.accepted, last
        );
        Err(Violation { invariant, at: now, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::MacAddress;

    fn two_stations() -> (Checker, StationIndex, FlowIndex) {
        let mut checker = Checker::default();
        let a = checker.add_station(LanId(10));
        let b = checker.add_station(LanId(10));
        checker.add_station(LanId(20));
        for i in 0..3 {
            checker.station_up(StationIndex(i));
            checker.attach(Instant::ZERO, StationIndex(i), true);
        }
        let addressing = Addressing {
            source_mac: MacAddress([2, 0, 1, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 1, 0, 0, 2]),
            source: "10.1.0.1".parse().unwrap(),
            destination: "10.1.0.2".parse().unwrap(),
            source_port: 9,
        };
        let flow = checker.add_flow(a, Receivers::One(b), addressing);
        (checker, b, flow)
    }

    /// Accepts `count` frames and returns them.
    fn send(checker: &mut Checker, flow: FlowIndex, count: usize) -> Vec<(Vnet, Vec<u8>)> {
        (0..count)
            .map(|_| {
                let frame = checker.next_frame(flow, 100, 1500);
                checker.frame_accepted(Instant::from_nanos(1), flow, (100, 1500), &[]);
                frame
            })
            .collect()
    }

    fn arrive(checker: &mut Checker, station: StationIndex, frame: &(Vnet, Vec<u8>)) -> Option<&'static str> {
        checker.frame_arrived(Instant::ZERO, station, &frame.0, &frame.1, false).err().map(|v| v.invariant)
    }

    #[test]
    fn each_broken_rule_is_named() {
        let (mut checker, b, flow) = two_stations();
        let frames = send(&mut checker, flow, 4);
        assert_eq!(arrive(&mut checker, b, &frames[0]), None);
        assert_eq!(arrive(&mut checker, b, &frames[2]), None);
        assert_eq!(arrive(&mut checker, b, &frames[2]), Some("I-1 no duplicate"));
        assert_eq!(arrive(&mut checker, b, &frames[1]), Some("I-3 order"));
        assert_eq!(arrive(&mut checker, StationIndex(2), &frames[3]), Some("nothing reaches a non-member"));
        let mut changed = frames[3].clone();
        changed.1[99] ^= 1;
        assert_eq!(arrive(&mut checker, b, &changed), Some("I-5 content"));
        let mut unsummed = frames[3].clone();
        unsummed.0.flags ^= Vnet::NEEDS_CSUM;
        assert_eq!(arrive(&mut checker, b, &unsummed), Some("I-5 content"));
        let audit = checker.audit();
        assert_eq!((audit.accepted, audit.delivered, audit.lost, audit.apart), (4, 2, 2, 0));
    }

    #[test]
    fn a_listener_gets_each_copy_once_and_in_order() {
        let (mut checker, b, flow) = two_stations();
        let listener = checker.add_station(LanId(10));
        checker.station_up(listener);
        checker.attach(Instant::ZERO, listener, true);
        let frames: Vec<_> = (0..4)
            .map(|_| {
                let frame = checker.next_frame(flow, 100, 1500);
                checker.frame_accepted(Instant::from_nanos(1), flow, (100, 1500), &[listener, b]);
                frame
            })
            .collect();
        assert_eq!(arrive(&mut checker, listener, &frames[0]), Some("nothing reaches a non-member"));
        checker.set_listens(Instant::ZERO, listener, true);
        assert_eq!(arrive(&mut checker, listener, &frames[0]), None);
        assert_eq!(arrive(&mut checker, listener, &frames[2]), None);
        assert_eq!(arrive(&mut checker, listener, &frames[2]), Some("I-44 each copy once"));
        assert_eq!(arrive(&mut checker, listener, &frames[1]), Some("I-44 order of copies"));
        let audit = checker.audit();
        let copies = (audit.copies_expected, audit.copies_delivered, audit.copies_lost, audit.copies_apart);
        assert_eq!((copies, audit.delivered), ((4, 2, 2, 0), 0), "none of the destination's own");
        checker.station_down(Instant::ZERO, listener);
        assert_eq!(checker.audit().copies_apart, 2);
    }

    #[test]
    fn a_new_life_of_the_receiver_begins_anew_and_excuses_what_the_old_one_did_not_get() {
        let (mut checker, b, flow) = two_stations();
        let frames = send(&mut checker, flow, 3);
        assert_eq!(arrive(&mut checker, b, &frames[1]), None);
        checker.station_down(Instant::ZERO, b);
        checker.station_up(b);
        assert_eq!(arrive(&mut checker, b, &frames[1]), None);
        let audit = checker.audit();
        assert_eq!((audit.delivered, audit.lost, audit.apart), (1, 0, 2));
    }
}

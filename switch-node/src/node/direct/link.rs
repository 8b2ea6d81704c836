//! The association with one other node as this node keeps it: what was granted to it, its RVIs, and how far its end has
//! come.

use alloc::vec::Vec;

use rvi::{Association, Scheduler};
use vlan_core::counters::FrameCount;
use vlan_core::driver::PeerSlot;
use vlan_core::limits::DIRECT_IDLE;
use vlan_core::wire::control::{GrantedAssociation, GrantedLeg};
use vlan_core::{Channel, Instant, LanId, LegNumber, NodeNumber, PairEpoch, ProcessId, RviNumber, VifNumber};

use super::introduced::IntroducedLegs;
use crate::node::association;
use crate::node::control::Heartbeat;
use crate::node::packets::LinkPackets;

/// A direct RVI of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct DirectRvi {
    pub number: RviNumber,
    pub lan: LanId,
    pub channel: Channel,
    pub vif: VifNumber,
    pub peer_vif: VifNumber,
    /// The peer in the interface's driver.
    pub slot: PeerSlot,
}

/// The association with another node.
pub(in crate::node) struct DirectLink {
    pub node: NodeNumber,
    pub process: ProcessId,
    pub association: Association,
    /// What the control node granted to it last; nothing but the epoch while only sockets have come.
    pub(super) granted: GrantedAssociation,
    /// Packet legs that were granted and are cut: what it takes to send by them again.
    cut: Vec<GrantedLeg>,
    /// Legs of shared memory that it has or had. A hang-up of another is one of an earlier association's.
    legs_had: Vec<LegNumber>,
    pub(super) introduced: IntroducedLegs,
    pub(super) rvis: Vec<DirectRvi>,
    /// Place in `rvis` by channel; 255 is none.
    pub(super) by_channel: [u8; 256],
    /// Legs that this end has left, with when it stops waiting for the other's hang-up.
    pub(super) leaving: Vec<(LegNumber, Instant)>,
    /// Set when the whole association is being left.
    pub(super) closing: bool,
    pub heard: Instant,
    pub(super) heartbeat: Heartbeat,
    /// Frames sent to the peer, and taken from it.
    pub sent: FrameCount,
    pub received: FrameCount,
    /// How many frames there were either way when that last changed, and when.
    pub(super) idle: (u64, Instant),
    pub(super) idle_told: bool,
    pub packets: LinkPackets,
}

impl DirectLink {
    pub fn new(now: Instant, (node, process): (NodeNumber, ProcessId), epoch: PairEpoch, seed: u64) -> Self {
        let mut heartbeat = Heartbeat::default();
        heartbeat.start(now);
        Self {
            node,
            process,
            association: association(Scheduler::Lane, seed),
            granted: GrantedAssociation { epoch, ..GrantedAssociation::default() },
            cut: Vec::new(),
            legs_had: Vec::new(),
            introduced: IntroducedLegs::default(),
            rvis: Vec::new(),
            by_channel: [u8::MAX; 256],
            leaving: Vec::new(),
            closing: false,
            heard: now,
            heartbeat,
            sent: FrameCount::default(),
            received: FrameCount::default(),
            idle: (0, now),
            idle_told: false,
            packets: LinkPackets::default(),
        }
    }

    /// The RVI on a channel.
    #[inline]
    pub fn rvi_of(&self, channel: Channel) -> Option<DirectRvi> {
        self.rvis.get(usize::from(self.by_channel[usize::from(channel.0)])).copied()
    }

    /// Takes what the control node grants in place of what it granted before.
    //= spec/driver.md#packet-legs-behind-shared-memory
    //# A node MUST go on sending by a packet leg in whose place its association was granted shared memory.
    pub(super) fn take_granted(&mut self, association: &GrantedAssociation) {
        let mut former = core::mem::replace(&mut self.granted, association.clone());
        let is_named = |leg: &GrantedLeg| association.legs.iter().any(|named| named.leg == leg.leg);
        former.legs.retain(|leg| !is_named(leg));
        self.cut.retain(|leg| !is_named(leg));
        association.legs.iter().for_each(|leg| self.introduced.withdraw(leg.leg));
        self.granted.legs.append(&mut former.legs);
    }

    /// Nothing is sent by a packet leg that is cut, and shared memory is not missed.
    pub(super) fn cut_leg(&mut self, leg: LegNumber) {
        self.introduced.withdraw(leg);
        let is_cut = |granted: &mut GrantedLeg| granted.leg == leg;
        self.cut.extend(self.granted.legs.extract_if(.., is_cut));
    }

    /// What is sent by packets may go by that leg again, if it was cut.
    //= spec/driver.md#cut-packet-legs
    //# A node MUST go on sending by a packet leg that was cut when it is granted again or a control node says that both ends were
    //# introduced for it.
    pub(super) fn handle_introduced_leg(&mut self, now: Instant, leg: LegNumber) {
        self.introduced.add(now, leg);
        let is_healed = |cut: &mut GrantedLeg| cut.leg == leg;
        self.granted.legs.extend(self.cut.extract_if(.., is_healed));
    }

    /// A leg of shared memory comes up, in the place of any earlier one of its name: what was still to be waited for of that
    /// one is not any more.
    pub(super) fn note_leg(&mut self, now: Instant, leg: LegNumber) {
        self.introduced.handle_up(now, leg);
        self.leaving.retain(|&(left, _)| left != leg);
        if !self.has_had(leg) {
            self.legs_had.push(leg);
        }
    }

    /// The next leg of shared memory to be told of as missing.
    pub(super) fn next_missing(&mut self, now: Instant) -> Option<LegNumber> {
        let legs = &self.association;
        self.introduced.next_missing(now, |leg| legs.legs().any(|status| status.number == leg))
    }

    pub(super) fn has_had(&self, leg: LegNumber) -> bool {
        self.legs_had.contains(&leg)
    }

    /// The packet legs that the control node has granted and not cut.
    pub fn packet_legs(&self) -> &[GrantedLeg] {
        &self.granted.legs
    }

    /// What the control node granted.
    pub fn granted(&self) -> &GrantedAssociation {
        &self.granted
    }

    /// True while this end waits for the hang-up of a leg that it has left.
    pub fn is_leaving_a_leg(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Which life of the association it is, as the control node counts them.
    pub fn epoch(&self) -> PairEpoch {
        self.granted.epoch
    }

    /// True when the whole association is being left.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    pub fn rvis(&self) -> impl Iterator<Item = &DirectRvi> {
        self.rvis.iter()
    }

    pub(super) fn add(&mut self, rvi: DirectRvi) {
        match self.rvis.iter().position(|known| known.channel == rvi.channel) {
            Some(place) => self.rvis[place] = rvi,
            // 255 channels at most, so the place fits and 255 stays free to mean none.
            None if self.rvis.len() < 255 => {
                self.by_channel[usize::from(rvi.channel.0)] = self.rvis.len() as u8;
                self.rvis.push(rvi);
            }
            None => {}
        }
        self.association.open_channel(rvi.channel);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(|&(_, until)| until);
        let idle = (!self.idle_told).then(|| self.idle.1 + DIRECT_IDLE);
        let closes = self.packets.closes_at.filter(|_| self.closing);
        let timers = leaving.chain(self.association.poll_timeout()).chain(idle).chain(closes);
        let introduced = self.introduced.poll_timeout().filter(|_| !self.closing);
        timers.chain(self.heartbeat.poll_timeout()).chain(introduced).min()
    }
}

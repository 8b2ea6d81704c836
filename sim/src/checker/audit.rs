//! The end of a run: how each frame ended, and which were lost.

use std::time::Duration;

use vlan_core::Instant;

use super::{Checker, Flow, FlowIndex, FrameRecord, Receivers, StationIndex};

/// How the frames of a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Unicast frames that nodes accepted.
    pub accepted: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Refused by the receiver's device and counted as `device-full`.
    pub device_full: u64,
    /// Sent by or to a process that was killed before they arrived: counted apart (DESIGN.md, section 1).
    pub apart: u64,
    /// None of these, with every control node serving both ends: each must stand in a permitted-loss counter.
    pub lost: u64,
    /// Lost frames and group drops that may have been too long for the smallest MTU of their LAN.
    pub long_lost: u64,
    /// The same of those in `detached`.
    pub long_detached: u64,
    /// Lost while no control node served the receiver, which a control node counts as `not-attached`.
    pub detached: u64,
    /// Group frames times receivers that should have had them.
    pub group_expected: u64,
    /// Of these, delivered.
    pub group_delivered: u64,
    /// Of these, refused by a device.
    pub group_device_full: u64,
    /// Of these, to or from killed processes.
    pub group_apart: u64,
    /// Of these, not for a receiver that no control node served.
    pub group_detached: u64,
    /// Of these, lost.
    pub group_lost: u64,
    /// Drops that account for these: one for a frame that no receiver had, as its origin may have dropped it
    /// before it was cloned; else one for each receiver.
    pub group_drops: u64,
    /// Unicast frames times listeners that their sender's driver knew.
    pub copies_expected: u64,
    /// Of these, at the listener's device.
    pub copies_delivered: u64,
    /// Of these, from or to killed processes.
    pub copies_apart: u64,
    /// Of these, lost: each must stand in a counter of lost copies.
    pub copies_lost: u64,
    /// Lost copies that may have been too long.
    pub copies_long_lost: u64,
}

/// How long after it was accepted a frame may still wait in rings to and from a control node that does not run.
const RELAY_DWELL: Duration = Duration::from_millis(300);

impl Checker {
    /// How every frame ended. To be called when nothing is under way any more.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for flow in self.flows.iter().filter(|flow| self.is_judged(flow)) {
            for frame in &flow.frames {
                self.audit_copies(&mut audit, flow, frame);
                match flow.to {
                    Receivers::One(to) => self.audit_unicast(&mut audit, flow, frame, to),
                    Receivers::Group | Receivers::Joined => self.audit_group(&mut audit, flow, frame),
                    Receivers::Nobody => {}
                }
            }
        }
        audit
    }

    /// Frames of a station's latest life that a receiver did not get which has lived since they were accepted.
    #[must_use]
    pub fn missing_from(&self, from: StationIndex) -> usize {
        let life = self.stations[from.0].life;
        let lives =
            |&(s, life): &(StationIndex, u32)| self.stations[s.0].is_up && self.stations[s.0].life == life;
        let frames = self.flows.iter().filter(|flow| flow.from == from).flat_map(|flow| &flow.frames);
        let of_life = frames.filter(|frame| frame.from_life == life);
        of_life
            .map(|frame| {
                let came = |to: &StationIndex| {
                    frame.delivered.iter().any(|(s, _)| s == to) || frame.refused_by_device.contains(to)
                };
                frame.expected.iter().filter(|to| lives(to) && !came(&to.0)).count()
            })
            .sum()
    }

    /// Lost unicast frames, for a failure's report: flow, number, when it was accepted.
    pub fn lost(&self) -> impl Iterator<Item = (FlowIndex, u32, Instant)> + '_ {
        let judged = self.flows.iter().enumerate().filter(|(_, flow)| self.is_judged(flow));
        judged.flat_map(move |(i, flow)| {
            flow.frames.iter().enumerate().filter_map(move |(number, frame)| {
                let mut audit = Audit::default();
                match flow.to {
                    Receivers::One(to) => self.audit_unicast(&mut audit, flow, frame, to),
                    Receivers::Group | Receivers::Joined => self.audit_group(&mut audit, flow, frame),
                    Receivers::Nobody => {}
                }
                (audit.lost + audit.group_lost > 0).then_some((FlowIndex(i), number as u32, frame.accepted))
            })
        })
    }

    fn audit_unicast(&self, audit: &mut Audit, flow: &Flow, frame: &FrameRecord, to: StationIndex) {
        audit.accepted += 1;
        if !frame.delivered.is_empty() {
            audit.delivered += 1;
        } else if !frame.refused_by_device.is_empty() {
            audit.device_full += 1;
        } else if !self.both_lived(flow, frame, to) {
            audit.apart += 1;
        } else if self.was_detached(frame, to) {
            audit.detached += 1;
            audit.long_detached += u64::from(self.may_be_too_long(flow, frame));
        } else {
            audit.lost += 1;
            audit.long_lost += u64::from(self.may_be_too_long(flow, frame));
        }
    }

    /// True for one that is no super-frame and longer than the LAN has taken at some time.
    fn may_be_too_long(&self, flow: &Flow, frame: &FrameRecord) -> bool {
        let mtu_min = self.lans.get(&flow.lan).map_or(frame.mtu, |lan| lan.mtu_min);
        let plain_max = |mtu: u16| u32::from(mtu) + 14;
        (plain_max(mtu_min) + 1..=plain_max(frame.mtu)).contains(&frame.len)
    }

    /// Lost copies, for a failure's report: flow, number, when it was accepted, and by whom it was expected.
    pub fn lost_copies(&self) -> impl Iterator<Item = (FlowIndex, u32, Instant, StationIndex)> + '_ {
        let judged = self.flows.iter().enumerate().filter(|(_, flow)| self.is_judged(flow));
        let frames = judged.flat_map(|(at, flow)| flow.frames.iter().zip(0..).map(move |f| (at, flow, f)));
        frames.flat_map(move |(at, flow, (frame, number))| {
            let is_lost = move |expected: &&(StationIndex, u32)| {
                let mut audit = Audit::default();
                self.audit_copy(&mut audit, flow, frame, **expected);
                audit.copies_lost > 0
            };
            let lost = frame.copies_expected.iter().filter(is_lost);
            lost.map(move |(listener, _)| (FlowIndex(at), number, frame.accepted, *listener))
        })
    }

    fn audit_copies(&self, audit: &mut Audit, flow: &Flow, frame: &FrameRecord) {
        frame.copies_expected.iter().for_each(|&expected| self.audit_copy(audit, flow, frame, expected));
    }

    fn audit_copy(
        &self,
        audit: &mut Audit,
        flow: &Flow,
        frame: &FrameRecord,
        (listener, life): (StationIndex, u32),
    ) {
        let lives = |s: StationIndex, life| self.stations[s.0].is_up && self.stations[s.0].life == life;
        audit.copies_expected += 1;
        if frame.copied.iter().any(|(station, _)| *station == listener) {
            audit.copies_delivered += 1;
        } else if !lives(flow.from, frame.from_life) || !lives(listener, life) {
            audit.copies_apart += 1;
        } else {
            audit.copies_lost += 1;
            audit.copies_long_lost += u64::from(self.may_be_too_long(flow, frame));
        }
    }

    fn audit_group(&self, audit: &mut Audit, flow: &Flow, frame: &FrameRecord) {
        let lost_before = audit.group_lost;
        for &(to, _) in frame.expected.iter().filter(|&&(to, _)| self.is_still_expected(flow, frame, to)) {
            audit.group_expected += 1;
            if frame.delivered.iter().any(|(s, _)| *s == to) {
                audit.group_delivered += 1;
            } else if frame.refused_by_device.contains(&to) {
                audit.group_device_full += 1;
            } else if !self.both_lived(flow, frame, to) {
                audit.group_apart += 1;
            } else if self.was_detached(frame, to) {
                audit.group_detached += 1;
            } else {
                audit.group_lost += 1;
            }
        }
        let reached = !frame.delivered.is_empty() || !frame.refused_by_device.is_empty();
        let lost = audit.group_lost - lost_before;
        let drops = if reached { lost } else { lost.min(1) };
        audit.group_drops += drops;
        audit.long_lost += if self.may_be_too_long(flow, frame) { drops } else { 0 };
    }

    /// One that has left a group while a frame was under way need not get it.
    fn is_still_expected(&self, flow: &Flow, frame: &FrameRecord, to: StationIndex) -> bool {
        let group = flow.addressing.destination;
        flow.to != Receivers::Joined || self.memberships.must_get(to, group, frame.accepted, RELAY_DWELL)
    }

    /// Deliveries of frames to those who have joined their group.
    #[must_use]
    pub fn streamed(&self) -> usize {
        self.flows.iter().filter(|flow| flow.to == Receivers::Joined).map(|flow| flow.deliveries).sum()
    }

    fn is_judged(&self, flow: &Flow) -> bool {
        let hostile = |s: StationIndex| self.stations[s.0].is_hostile;
        !hostile(flow.from) && !matches!(flow.to, Receivers::One(to) if hostile(to))
    }

    /// True when no control node served the receiver at some time while the frame may have been at one.
    fn was_detached(&self, frame: &FrameRecord, to: StationIndex) -> bool {
        let station = &self.stations[to.0];
        let until = frame.accepted + RELAY_DWELL;
        let now = station.detached_since.map(|since| (since, until));
        station.detached.iter().copied().chain(now).any(|(from, to)| from < until && to >= frame.accepted)
    }

    fn both_lived(&self, flow: &Flow, frame: &FrameRecord, to: StationIndex) -> bool {
        let lives = |s: StationIndex, life| self.stations[s.0].is_up && self.stations[s.0].life == life;
        let receiver = frame.expected.iter().find(|(s, _)| *s == to);
        lives(flow.from, frame.from_life) && receiver.is_some_and(|&(s, life)| lives(s, life))
    }
}

//! The broadcast arena of a LAN at its control node: when there is one, who reads it, and how far each reader has come.
//!
//! Members come and go seldom and group frames come in bursts, so an arena is made when there are many of them and nobody has
//! come or gone for a while; until then, and for whoever has none, there are copies.

mod share;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rvi::arena::layout::SEGMENTS;
use rvi::ring::slot::INLINE_LEN_MAX;
use rvi::{ArenaConfig, ArenaWriter, Region, RingMark};
use vlan_core::server::MemberSlot;
use vlan_core::wire::reference::Place;
use vlan_core::{Instant, LanId, LegNumber, NodeNumber, ProcessId};

use crate::control_node::session::Session;
use crate::control_node::{ControlNode, Output};

/// The time within which the frames come that are worth an arena: they are a burst, and not the announcements of a quiet LAN.
const WORTH_TIME: Duration = Duration::from_secs(1);

/// When a LAN has an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaPolicy {
    /// Group frames within a second for which a LAN is given an arena; 64 by default.
    pub worth_frames: u32,
    /// How long after a member came or went a LAN has none, as members mostly come and go together; 100 ms by default.
    pub rest: Duration,
    /// The shortest message that counts for it, header included: 221 octets by default. A shorter one lies in the slots of a ring, two
    /// lines of a cache for a frame of 64 octets; a reference is one, but the member that has read it must then fetch the two of the
    /// arena. While there is an arena they go in all the same, or what an evicted member is given would be out of order.
    pub message_len_min: usize,
}

impl Default for ArenaPolicy {
    fn default() -> Self {
        Self { worth_frames: 64, rest: Duration::from_millis(100), message_len_min: INLINE_LEN_MAX + 1 }
    }
}

/// What a LAN has of an arena.
pub(super) struct LanArena {
    phase: Phase,
    /// Frames that a member was told of by a reference.
    references: u64,
    /// How often a member fell behind too far.
    evictions: u64,
}

enum Phase {
    /// None.
    Copies {
        /// None before this.
        rests_until: Instant,
        /// Group frames since then.
        frames: u32,
        since: Instant,
    },
    /// The host has been asked for the memory of one.
    Asked(ArenaConfig),
    /// There is one.
    Shared(Box<Shared>),
}

/// An arena in use.
struct Shared {
    number: u32,
    writer: ArenaWriter<Region>,
    /// By member slot.
    members: Vec<Member>,
}

/// Where in an arena something begins: a life, and octets in it.
type Position = (u32, u32);

/// One who may read an arena.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// It gets references. Else, what it was given before is all of its stay.
    is_in: bool,
    /// Which of its stays it is.
    stay: u16,
    /// Where the frames of its stay begin.
    first: Option<Position>,
    /// Where they end, when it gets no references any more.
    end: Option<Position>,
    /// Where its ring stood when the life of each segment ended, or its stay: its references to that life are before.
    marks: [Option<RingMark>; SEGMENTS as usize],
    /// Where its ring stood when its stay ended.
    left_at: Option<RingMark>,
}

/// An arena, read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaStatus {
    /// Octets that there are; 0 while there is no arena.
    pub octets: u32,
    /// Octets in use.
    pub used: u32,
    /// Members that read it.
    pub members: usize,
    /// Frames that members were told of by references.
    pub references: u64,
    /// How often a member had fallen behind too far.
    pub evictions: u64,
}

impl Default for LanArena {
    fn default() -> Self {
        Self { phase: Phase::copies(Instant::ZERO), references: 0, evictions: 0 }
    }
}

impl Phase {
    fn copies(rests_until: Instant) -> Self {
        Self::Copies { rests_until, frames: 0, since: Instant::ZERO }
    }
}

impl LanArena {
    /// A member comes or goes: nothing is written into the arena any more. Those who have it map memory that does not change.
    //= spec/arena.md#members-that-come-and-go
    //# When a member joins or leaves a LAN, its control node MUST NOT write another frame into the arena that the LAN had.
    pub fn end(&mut self, now: Instant, policy: &ArenaPolicy) {
        self.phase = Phase::copies(now + policy.rest);
    }

    /// The arena that the host has been asked for.
    #[cfg(test)]
    pub fn asked(&self) -> Option<ArenaConfig> {
        if let Phase::Asked(config) = &self.phase { Some(*config) } else { None }
    }

    /// Reads it back.
    pub fn status(&self) -> ArenaStatus {
        let (references, evictions) = (self.references, self.evictions);
        let Phase::Shared(shared) = &self.phase else {
            return ArenaStatus { references, evictions, ..ArenaStatus::default() };
        };
        let (used, octets) = shared.writer.load();
        let members = shared.members.iter().filter(|member| member.is_in).count();
        ArenaStatus { octets, used, members, references, evictions }
    }

    /// Counts a group frame that would be in an arena; true when it is time to have one.
    fn is_worth(&mut self, now: Instant, policy: &ArenaPolicy) -> bool {
        let Phase::Copies { rests_until, frames, since } = &mut self.phase else { return false };
        if now < *rests_until {
            return false;
        }
        if now.since(*since) >= WORTH_TIME {
            (*frames, *since) = (0, now);
        }
        *frames += 1;
        *frames >= policy.worth_frames
    }
}

impl Shared {
    /// How many members get references.
    fn readers(&self) -> usize {
        self.members.iter().filter(|member| member.is_in).count()
    }
}

impl Member {
    /// It gets references from now on, of a stay of its own.
    fn enter(&mut self) {
        *self = Self { is_in: true, stay: self.stay.wrapping_add(1), ..Self::default() };
    }

    /// It gets copies from now on, until it has taken what it was told of: its ring stands at `mark`.
    fn leave(&mut self, end: Position, mark: Option<RingMark>) {
        self.is_in = false;
        self.end = Some(end);
        self.left_at = mark;
        self.marks[(end.0 % SEGMENTS) as usize] = mark;
    }

    /// True when it was told of the message at `place`, if it is not its own.
    fn was_told_of(&self, place: &Place, oldest: u32) -> bool {
        // Lives are compared by their distance from the oldest, as they run freely; what begins before it begins with it.
        let key = |(life, offset): Position| match life.wrapping_sub(oldest) {
            ahead if ahead < SEGMENTS => (ahead, offset),
            _ => (0, 0),
        };
        let at = key((place.segment, place.offset));
        self.first.is_some_and(|first| key(first) <= at) && self.end.is_none_or(|end| at < key(end))
    }
}

impl ControlNode {
    /// Decides anew when LANs have arenas.
    pub fn set_arena_policy(&mut self, policy: ArenaPolicy) {
        self.arena_policy = policy;
    }

    /// The memory of the arena that [`Output::MakeArena`] asked for, or of a smaller one of that number: zero octets that only this
    /// machine writes. Gives the nodes that are to map it for reading, each with the leg to tell it by; none when the arena is not
    /// wanted any more.
    pub fn handle_arena(
        &mut self,
        lan: LanId,
        config: &ArenaConfig,
        memory: Region,
    ) -> Vec<(NodeNumber, ProcessId, LegNumber)> {
        let Some(place) = self.lan_place(lan) else {
            return Vec::new();
        };
        let entry = &mut self.lans[place];
        if !matches!(&entry.arena.phase, Phase::Asked(asked) if asked.number == config.number)
            || memory.len() != config.region_len()
        {
            return Vec::new();
        }
        let members = alloc::vec![Member::default(); entry.routes.len()];
        let writer = ArenaWriter::new(memory, config);
        entry.arena.phase = Phase::Shared(Box::new(Shared { number: config.number, writer, members }));
        self.arena_receivers(place)
    }

    /// The nodes of a LAN that can be given an arena. One that has not answered for the last one is given no other: what it
    /// holds is bounded by that.
    fn arena_receivers(&mut self, lan: usize) -> Vec<(NodeNumber, ProcessId, LegNumber)> {
        let mut receivers = Vec::new();
        for session in self.sessions.iter_mut().flatten() {
            let is_member = session.is_registered() && session.memberships.iter().any(|&(of, _)| of == lan);
            if !is_member || !session.takes_arenas || session.arenas_unanswered.contains(&lan) {
                continue;
            }
            if let Some(leg) = session.association.legs().next() {
                session.arenas_unanswered.push(lan);
                receivers.push((session.node, session.process, leg.number));
            }
        }
        receivers
    }

    /// A node has mapped an arena; with the number 0, it could map one.
    //= spec/arena.md#who-gets-references
    //# A control node MUST give references only to members whose node has said that it has mapped the arena.
    pub(super) fn arena_ready(&mut self, session: &mut Session, lan: LanId, arena: u32) {
        session.takes_arenas |= arena == 0;
        let Some(place) = self.lan_place(lan) else { return };
        session.arenas_unanswered.retain(|&of| of != place);
        let Phase::Shared(shared) = &mut self.lans[place].arena.phase else { return };
        if shared.number != arena {
            return;
        }
        for &(_, slot) in session.memberships.iter().filter(|&&(of, _)| of == place) {
            let member = &mut shared.members[usize::from(slot.0)];
            if member.stay == 0 {
                member.enter();
            }
        }
    }

    /// Asks the host for an arena for a LAN.
    pub(super) fn ask_for_arena(&mut self, lan: usize) {
        let config = ArenaConfig::new(self.next_arena);
        self.next_arena = self.next_arena.wrapping_add(1).max(1);
        self.lans[lan].arena.phase = Phase::Asked(config);
        self.outputs.push_back(Output::MakeArena { lan: self.lans[lan].config.id, config });
    }

    /// True when an arena of a LAN would have readers enough, `from` apart.
    fn has_enough_readers(&self, lan: usize, from: MemberSlot) -> bool {
        let others =
            self.lans[lan].routes.iter().enumerate().filter(|&(slot, _)| slot != usize::from(from.0));
        let sessions = others.filter_map(|(_, route)| self.sessions[route.session?].as_ref());
        sessions.filter(|session| session.takes_arenas).take(share::READERS_MIN).count() == share::READERS_MIN
    }
}

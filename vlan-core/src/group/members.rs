//! The LAN server's side of multicast: which members get the frames of which group.
//!
//! A frame asks one hash table for its group's row, and the row for each member: a bit. Everything else is done when
//! members join and leave.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::group::Group;
use crate::limits::{GROUPS_PER_LAN_MAX, GROUPS_PER_VIF_MAX};
use crate::server::MemberSlot;
use crate::time::Instant;
use crate::wire::control::{GroupCause, GroupNotice};

/// What a LAN does with multicast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MulticastConfig {
    /// Group frames go to every member, as broadcasts do.
    pub floods: bool,
    /// Members that get every group.
    pub every_group: Vec<MemberSlot>,
}

/// The row of a group that somebody has joined. It holds until the next change of memberships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRow(u16);

/// Why a member gets every group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EveryGroup {
    /// The platform file says so.
    Configured,
    /// It has not said yet what it has joined.
    Unsaid,
    /// It asks for every group: a multicast router is behind it, or it has joined more than it can say.
    Asked,
    /// What it has joined found no room.
    NoRoom,
    /// It listens promiscuously.
    Listens,
}

/// One member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member.
    pub slot: MemberSlot,
    /// How its driver knows.
    pub cause: GroupCause,
    /// When it joined.
    pub since: Instant,
}

#[derive(Clone, Debug)]
struct Row {
    group: Group,
    /// A bit for each member.
    bits: Box<[u64]>,
    joined: Vec<Joined>,
}

#[derive(Clone, Copy, Debug, Default)]
struct MemberState {
    is_configured: bool,
    has_said: bool,
    asks: bool,
    no_room: bool,
    listens: bool,
    /// Groups that it has joined.
    groups: u16,
}

impl MemberState {
    fn every_group(self) -> Option<EveryGroup> {
        match self {
            Self { is_configured: true, .. } => Some(EveryGroup::Configured),
            Self { has_said: false, .. } => Some(EveryGroup::Unsaid),
            Self { asks: true, .. } => Some(EveryGroup::Asked),
            Self { no_room: true, .. } => Some(EveryGroup::NoRoom),
            Self { listens: true, .. } => Some(EveryGroup::Listens),
            _ => None,
        }
    }
}

/// The groups of one LAN.
#[derive(Clone, Debug)]
pub struct GroupMembers {
    /// Row plus one, by the hash of its group; 0 is an empty place. At most half of them are taken.
    places: Box<[u16]>,
    rows: Vec<Option<Row>>,
    /// Rows that are none.
    free: Vec<u16>,
    len: usize,
    seed: u64,
    members: Vec<MemberState>,
    /// A bit for each member that gets every group.
    every_group: Box<[u64]>,
}

impl GroupMembers {
    /// Makes the table of a LAN with so many members; nobody has said anything.
    #[must_use]
    pub fn new(members: usize, config: &MulticastConfig, seed: u64) -> Self {
        let words = members.div_ceil(64).max(1);
        let mut states = vec![MemberState::default(); members];
        for slot in &config.every_group {
            if let Some(state) = states.get_mut(usize::from(slot.0)) {
                state.is_configured = true;
            }
        }
        Self {
            places: vec![0; (GROUPS_PER_LAN_MAX * 2).next_power_of_two()].into_boxed_slice(),
            rows: Vec::new(),
            free: Vec::new(),
            len: 0,
            seed: seed | 1,
            members: states,
            // Nobody has said anything yet.
            every_group: vec![u64::MAX; words].into_boxed_slice(),
        }
    }

    // --- for each frame -------------------------------------------------------------------------------------

    /// The row of a group, if anybody has joined it.
    #[inline]
    #[must_use]
    pub fn lookup(&self, group: Group) -> Option<GroupRow> {
        match self.places[self.find(group)] {
            0 => None,
            row => Some(GroupRow(row - 1)),
        }
    }

    /// True when the member gets the frames of this row's group, or, of none, those that only members that get every
    /// group have.
    #[inline]
    #[must_use]
    pub fn wants(&self, row: Option<GroupRow>, slot: MemberSlot) -> bool {
        let (word, bit) = (usize::from(slot.0) / 64, 1 << (slot.0 % 64));
        let joined = row.and_then(|row| self.rows.get(usize::from(row.0))?.as_ref());
        let of_row = joined.and_then(|row| row.bits.get(word)).copied().unwrap_or(0);
        (of_row | self.every_group.get(word).copied().unwrap_or(0)) & bit != 0
    }

    // --- changes --------------------------------------------------------------------------------------------

    /// A member has gone, or another process serves it: it has joined nothing, and says anew what it wants.
    pub fn forget(&mut self, slot: MemberSlot) {
        for row in 0..self.rows.len() {
            self.leave_row(row, slot);
        }
        self.change(slot, |state| {
            *state = MemberState { is_configured: state.is_configured, ..MemberState::default() };
        });
    }

    /// A member has come to the LAN, at a place that has none; it has said nothing yet.
    pub(crate) fn add_member(&mut self, slot: MemberSlot, gets_every_group: bool) {
        let place = usize::from(slot.0);
        if place >= self.members.len() {
            self.members.resize(place + 1, MemberState::default());
            self.widen(place / 64 + 1);
        }
        self.change(slot, |state| {
            *state = MemberState { is_configured: gets_every_group, ..MemberState::default() };
        });
    }

    /// A member has gone for good.
    pub(crate) fn remove_member(&mut self, slot: MemberSlot) {
        self.forget(slot);
        self.set_configured(slot, false);
    }

    /// Makes room for the bits of more members.
    fn widen(&mut self, words: usize) {
        let wider = |bits: &[u64], fill: u64| {
            let more = words.saturating_sub(bits.len());
            bits.iter().copied().chain(core::iter::repeat_n(fill, more)).collect()
        };
        // Who has said nothing gets every group.
        self.every_group = wider(&self.every_group, u64::MAX);
        for row in self.rows.iter_mut().flatten() {
            row.bits = wider(&row.bits, 0);
        }
    }

    //= spec/multicast.md#members-that-get-every-group
    //# The server MUST give every group to a member that the platform file names, that has not said yet what it has
    //# joined, that asks for it, of which a group has found no room, or that listens promiscuously.
    /// Takes what a member's driver says. False: an address in it is no snooped group; the rest of it counts.
    pub fn handle_notice(&mut self, now: Instant, slot: MemberSlot, notice: &GroupNotice) -> bool {
        let mut is_sound = true;
        for &address in &notice.left {
            match Group::new(address) {
                Some(group) => self.leave(slot, group),
                None => is_sound = false,
            }
        }
        let mut no_room = false;
        for joined in &notice.joined {
            match Group::new(joined.group) {
                Some(group) => no_room |= !self.join(now, slot, group, joined.cause),
                None => is_sound = false,
            }
        }
        self.change(slot, |state| {
            state.has_said |= !notice.more;
            state.asks = notice.every_group;
            state.no_room |= no_room;
        });
        is_sound
    }

    /// The platform file says that a member gets every group, or says so no more.
    pub(crate) fn set_configured(&mut self, slot: MemberSlot, is_configured: bool) {
        self.change(slot, |state| state.is_configured = is_configured);
    }

    /// A member listens promiscuously from now on, or no more.
    pub fn set_listens(&mut self, slot: MemberSlot, listens: bool) {
        self.change(slot, |state| state.listens = listens);
    }

    fn change(&mut self, slot: MemberSlot, change: impl FnOnce(&mut MemberState)) {
        let Some(state) = self.members.get_mut(usize::from(slot.0)) else { return };
        change(state);
        let (word, bit) = (usize::from(slot.0) / 64, 1_u64 << (slot.0 % 64));
        match state.every_group() {
            Some(_) => self.every_group[word] |= bit,
            None => self.every_group[word] &= !bit,
        }
    }

    /// False when there was no room.
    fn join(&mut self, now: Instant, slot: MemberSlot, group: Group, cause: GroupCause) -> bool {
        let Some(&state) = self.members.get(usize::from(slot.0)) else { return true };
        let known = self.lookup(group).map(|row| usize::from(row.0));
        if let Some(joined) = known.and_then(|row| self.joined_mut(row, slot)) {
            joined.cause = cause;
            return true;
        }
        if usize::from(state.groups) >= GROUPS_PER_VIF_MAX {
            return false;
        }
        let Some(row) = known.or_else(|| self.add_row(group)) else { return false };
        let Some(row) = &mut self.rows[row] else { return false };
        row.bits[usize::from(slot.0) / 64] |= 1 << (slot.0 % 64);
        row.joined.push(Joined { slot, cause, since: now });
        self.members[usize::from(slot.0)].groups += 1;
        true
    }

    fn joined_mut(&mut self, row: usize, slot: MemberSlot) -> Option<&mut Joined> {
        self.rows[row].as_mut()?.joined.iter_mut().find(|joined| joined.slot == slot)
    }

    fn leave(&mut self, slot: MemberSlot, group: Group) {
        if let Some(row) = self.lookup(group) {
            self.leave_row(usize::from(row.0), slot);
        }
    }

    fn leave_row(&mut self, place: usize, slot: MemberSlot) {
        let Some(row) = &mut self.rows[place] else { return };
        let before = row.joined.len();
        row.joined.retain(|joined| joined.slot != slot);
        if row.joined.len() == before {
            return;
        }
        row.bits[usize::from(slot.0) / 64] &= !(1 << (slot.0 % 64));
        self.members[usize::from(slot.0)].groups -= 1;
        if row.joined.is_empty() {
            let group = row.group;
            self.remove_row(place, group);
        }
    }

    // --- the table ------------------------------------------------------------------------------------------

    //= spec/multicast.md#groups-of-a-lan
    //# The server MUST hold at most 4096 groups of a LAN, and at most 512 of one member.
    fn add_row(&mut self, group: Group) -> Option<usize> {
        if self.len >= GROUPS_PER_LAN_MAX {
            return None;
        }
        let place = self.free.pop().map_or_else(
            || {
                self.rows.push(None);
                self.rows.len() - 1
            },
            usize::from,
        );
        let bits = vec![0; self.every_group.len()].into_boxed_slice();
        self.rows[place] = Some(Row { group, bits, joined: Vec::new() });
        let at = self.find(group);
        self.places[at] = place as u16 + 1;
        self.len += 1;
        Some(place)
    }

    fn remove_row(&mut self, place: usize, group: Group) {
        let mut hole = self.find(group);
        self.rows[place] = None;
        self.free.push(place as u16);
        self.len -= 1;
        // Close the gap: move back each follower whose home does not lie behind the hole.
        let mask = self.places.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.places[next] != 0 {
            let home = self.home(self.group_at(next));
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.places[hole] = 0;
    }

    /// The place of a group, or the empty one where it would go.
    #[inline]
    fn find(&self, group: Group) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.home(Some(group));
        // Ends: at most half of the places are taken.
        while self.places[place] != 0 && self.group_at(place) != Some(group) {
            place = (place + 1) & mask;
        }
        place
    }

    #[inline]
    fn group_at(&self, place: usize) -> Option<Group> {
        let row = usize::from(self.places[place]).checked_sub(1)?;
        Some(self.rows.get(row)?.as_ref()?.group)
    }

    #[inline]
    fn home(&self, group: Option<Group>) -> usize {
        let (high, low) = match group.map(Group::address) {
            Some(IpAddr::V4(address)) => (0, u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => ((address.to_bits() >> 64) as u64, address.to_bits() as u64),
            None => (0, 0),
        };
        fold(fold(self.seed, high), low) as usize & (self.places.len() - 1)
    }

    // --- read back ------------------------------------------------------------------------------------------

    /// Groups that somebody has joined.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nobody has joined a group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every group that somebody has joined, with its members.
    pub fn groups(&self) -> impl Iterator<Item = (Group, &[Joined])> {
        self.rows.iter().flatten().map(|row| (row.group, &*row.joined))
    }

    /// Why a member gets every group, if it does.
    #[must_use]
    pub fn every_group(&self, slot: MemberSlot) -> Option<EveryGroup> {
        self.members.get(usize::from(slot.0)).and_then(|state| state.every_group())
    }
}

#[inline]
fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests;

//! Group frames for everybody: written once where that saves something, copied to whoever has no part in it.
//!
//! On the walk: the frame goes into the LAN's arena, and a reference to it into the ring of each member that reads the arena.

use alloc::vec::Vec;

use rvi::arena::layout::SEGMENTS;
use rvi::{Association, Body, Framed};
use vlan_core::server::MemberSlot;
use vlan_core::wire::frame::FrameHeader;
use vlan_core::wire::reference::Reference;
use vlan_core::{DropReason, Instant, VifNumber};

use crate::control_node::ControlNode;
use crate::control_node::arena::{Phase, Shared};
use crate::control_node::relay::Inbound;
use crate::control_node::session::Account;
use crate::control_node::uplink::OUTSIDE;

/// Fewer readers than this save nothing.
pub(super) const READERS_MIN: usize = 2;

impl ControlNode {
    /// Gives a frame to every attached member of its LAN but its sender.
    //= spec/server.md#group-frames
    //# The server MUST give a group frame that is for everybody once to every attached member of the LAN but its sender.
    //= spec/arena.md#frames-without-numbers
    //# A control node MUST NOT put a frame into an arena that comes from outside.
    //= spec/arena.md#what-goes-in
    //# A control node MUST put only frames into an arena that every attached member of the LAN gets, but its sender.
    pub(in crate::control_node) fn give_everybody(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
    ) {
        let Inbound { lan, from, message, .. } = *inbound;
        if from == OUTSIDE {
            return self.give_copies(now, account, inbound);
        }
        let policy = self.arena_policy;
        let arena = &mut self.lans[lan].arena;
        match core::mem::replace(&mut arena.phase, Phase::copies(now)) {
            Phase::Shared(mut shared) => {
                if shared.readers() < READERS_MIN {
                    self.readmit(account, lan, &mut shared);
                }
                self.share(now, account, inbound, &mut shared);
                self.lans[lan].arena.phase = Phase::Shared(shared);
            }
            phase => {
                arena.phase = phase;
                let is_long = message.len >= policy.message_len_min;
                if is_long && arena.is_worth(now, &policy) && self.has_enough_readers(lan, from) {
                    self.ask_for_arena(lan);
                }
                self.give_copies(now, account, inbound);
            }
        }
    }

    fn give_copies(&mut self, now: Instant, account: &mut Account<'_>, inbound: &Inbound<'_>) {
        self.give_others(now, account, inbound, |control, account, to| {
            control.forward(now, account, inbound, to);
        });
    }

    /// Writes a frame into the arena and tells its readers of it; the others get copies, as does a reader whose ring has no room.
    fn share(&mut self, now: Instant, account: &mut Account<'_>, inbound: &Inbound<'_>, shared: &mut Shared) {
        let Inbound { lan, message, .. } = *inbound;
        let is_possible = message.len <= shared.writer.len_max() && shared.readers() > 0;
        if is_possible && !shared.writer.has_room(message.len) {
            self.next_segment(now, account, lan, shared);
        }
        let flags = inbound.header.flags & FrameHeader::RESENT;
        let header = FrameHeader::readdressed(message.head, flags, VifNumber(0)).filter(|_| is_possible);
        let frame = Body { head: inbound.head(), rest: message.rest };
        let place = header.and_then(|header| shared.writer.put(Framed { header, frame }));
        let reference = place.map(|place| Reference {
            lan: self.lans[lan].config.id,
            destination_vif: VifNumber(0),
            arena: shared.number,
            place,
            stay: 0,
        });
        let end = place.map_or((shared.writer.life(), u32::MAX), |place| (place.segment, place.offset));
        let frame_len = inbound.frame_len();
        self.give_others(now, account, inbound, |control, account, to| {
            let member = &mut shared.members[usize::from(to.0)];
            if !member.is_in {
                return control.forward(now, account, inbound, to);
            }
            let reference = reference.map(|reference| Reference { stay: member.stay, ..reference });
            if reference.is_some_and(|reference| control.refer(now, account, lan, to, reference)) {
                let entry = &mut control.lans[lan];
                entry.server.delivered(to, frame_len);
                entry.arena.references += 1;
                member.first.get_or_insert(end);
            } else {
                //= spec/arena.md#full-rings
                //# When a reference finds no room at once, a control node MUST give the member copies until it has settled the
                //# references that it has.
                let mark =
                    control.association_of(account, lan, to).and_then(|association| association.ring_mark());
                member.leave(end, mark);
                control.forward(now, account, inbound, to);
            }
        });
    }

    /// Lets those read the arena again who have settled what they had been given when their stay ended.
    #[cold]
    fn readmit(&mut self, account: &mut Account<'_>, lan: usize, shared: &mut Shared) {
        for (slot, member) in (0..).map(MemberSlot).zip(&mut shared.members) {
            if let Some(mark) = member.left_at.filter(|_| !member.is_in)
                && self.association_of(account, lan, slot).is_some_and(|other| other.is_settled_to(mark))
            {
                member.enter();
            }
        }
    }

    /// Puts a reference into the ring of a member. False: there is no room at once.
    #[inline]
    fn refer(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        lan: usize,
        to: MemberSlot,
        reference: Reference,
    ) -> bool {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let Some(association) = self.association_of(account, lan, to) else { return false };
        association.offer(now, route.relay, 0, Reference { destination_vif: route.vif, ..reference }.emit())
    }

    #[inline]
    fn association_of<'s>(
        &'s mut self,
        account: &'s mut Account<'_>,
        lan: usize,
        to: MemberSlot,
    ) -> Option<&'s mut Association> {
        let place = self.lans[lan].routes[usize::from(to.0)].session?;
        Some(&mut account.session_at(&mut self.sessions, place)?.association)
    }

    /// Goes on with the segment that was filled longest ago, once nobody needs what it held.
    //= spec/arena.md#reuse
    //# A control node MUST NOT begin a segment again before every member has settled the references to it that it was given, or
    //# has been evicted.
    fn next_segment(&mut self, now: Instant, account: &mut Account<'_>, lan: usize, shared: &mut Shared) {
        let ended = shared.writer.life() % SEGMENTS;
        let victim = shared.writer.next_victim();
        for slot in 0..shared.members.len() {
            let to = MemberSlot(slot as u16);
            let Some(association) = self.association_of(account, lan, to) else { continue };
            let member = &mut shared.members[slot];
            if member.is_in {
                member.marks[ended as usize] = association.ring_mark();
            }
            let needed = victim.and_then(|life| member.marks[(life % SEGMENTS) as usize].take());
            let is_late = needed.is_some_and(|needed| !association.is_settled_to(needed));
            let is_lost = member.is_in && member.marks[ended as usize].is_none();
            if is_late || is_lost {
                self.evict(now, account, lan, shared, to);
            } else if !member.is_in && member.left_at.is_some_and(|mark| association.is_settled_to(mark)) {
                member.enter();
            }
        }
        shared.writer.begin_segment();
    }

    /// Ends the stay of a member that has fallen behind too far. It is given copies of all that it may not have taken; not, though,
    /// when it has been given copies of later frames already, which they would follow out of order: those are lost to it.
    //= spec/arena.md#evicted-members
    //# A control node MUST copy what an evicted member may not have taken to the member's own queue, or count it as egress-full,
    //# and MUST publish the copies before it writes over any of it.
    #[cold]
    fn evict(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        lan: usize,
        shared: &mut Shared,
        to: MemberSlot,
    ) {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let Some(association) = self.association_of(account, lan, to) else { return };
        let Shared { writer, members, .. } = shared;
        let member = &mut members[usize::from(to.0)];
        let oldest = writer.oldest();
        let lives = writer.life().wrapping_sub(oldest);
        let (mut lost, mut octets) = (0, Vec::new());
        let messages = (0..=lives).flat_map(|ahead| writer.messages(oldest.wrapping_add(ahead)));
        for place in messages.filter(|place| member.was_told_of(place, oldest)) {
            writer.read_back(&place, &mut octets);
            let is_own = FrameHeader::parse(&octets, octets.len())
                .is_ok_and(|header| (header.origin, header.origin_vif) == (route.node, route.vif));
            if is_own {
                continue;
            }
            FrameHeader::readdress(&mut octets, route.vif);
            // On nobody's account: their senders were told long ago that they are the receiver's.
            let is_copied = member.is_in && association.send(now, route.relay, 0, 0, &octets[..]).is_ok();
            lost += u64::from(!is_copied);
        }
        if member.is_in {
            association.publish();
            let mark = association.ring_mark();
            member.leave((writer.life(), u32::MAX), mark);
        }
        // What it was told of in this stay is copied or lost; it follows no more of those references once one is gone.
        member.marks = Default::default();
        let entry = &mut self.lans[lan];
        entry.arena.evictions += 1;
        entry.server.lost_after_delivery(DropReason::EgressFull, lost);
    }
}

//! Segments of unknown flows on their way from server to server. Each that does not own the flow gives the segment back, and it goes on to
//! the next; nobody but those who were given a segment can have one passed on.

use alloc::boxed::Box;
use alloc::vec;
use core::time::Duration;

use vlan_core::server::MemberSlot;
use vlan_core::wire::{FrameHeader, FrameKind};
use vlan_core::{DropReason, Instant, VifNumber};

use crate::hash;
use crate::packet::{self, Content, Read};
use crate::proxy::verdict::{Forward, Hops, Manner, Verdict};
use crate::proxy::{ClusterProxy, admits_len};

/// How long a server may take to give a segment back. What the owner keeps is forgotten then: so many that all that may be given in that
/// time have room.
const GIVEN_TIME: Duration = Duration::from_millis(100);
/// Places for the hash of a segment.
const WAYS: usize = 4;
/// Where a frame's destination ends, which is each server's own.
const DESTINATION_END: usize = 6;

/// A segment that a server may give back.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// 0 in an empty place.
    hash: u64,
    until: Instant,
}

/// What was given to servers, to be passed on.
#[derive(Clone, Debug)]
pub(super) struct Given(Box<[[Note; WAYS]]>);

impl Given {
    pub fn new(notes_max: usize) -> Self {
        let lines = notes_max.div_ceil(WAYS).max(1).next_power_of_two();
        Self(vec![[Note::default(); WAYS]; lines].into_boxed_slice())
    }

    /// Octets of memory.
    pub fn memory_len(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Remembers a segment by its hash. False: there is no room.
    fn note(&mut self, now: Instant, hash: u64) -> bool {
        let place = self.line(hash).iter_mut().find(|note| note.hash == 0 || note.until < now);
        place.map(|note| *note = Note { hash: hash.max(1), until: now + GIVEN_TIME }).is_some()
    }

    /// Forgets a segment. False: it is not remembered, or not any more.
    fn take(&mut self, now: Instant, hash: u64) -> bool {
        let place = self.line(hash).iter_mut().find(|note| note.hash == hash.max(1) && note.until >= now);
        place.map(|note| *note = Note::default()).is_some()
    }

    fn line(&mut self, hash: u64) -> &mut [Note; WAYS] {
        let line = hash as usize & (self.0.len() - 1);
        &mut self.0[line]
    }
}

impl ClusterProxy {
    /// How a frame with this header is given to the servers that a verdict of this proxy has just named. It is remembered where it is to
    /// come back.
    //= spec/cluster.md#segments-that-come-back
    //# A proxy MUST NOT begin to give more than 50,000 segments or 600 Mbit a second to be passed on; those beyond that number, those that it has no room to remember, and first fragments, go to all servers of the list that are left at once, for the flow's owner alone.
    pub fn manner(&mut self, now: Instant, forward: &Forward, header: &FrameHeader, frame: &[u8]) -> Manner {
        if !forward.may_refuse {
            return Manner::OwnerOnly(forward.left());
        }
        if let [only] = *forward.hops.as_slice() {
            return Manner::Plain(only);
        }
        let asked = forward.hops.as_slice().get(..=usize::from(forward.hop));
        let Some((asked, to)) = asked.and_then(|asked| Some((asked, *asked.last()?))) else {
            return Manner::OwnerOnly(Hops::default());
        };
        // Those on their way have been counted.
        let is_admitted = forward.hop > 0 || admits_len(&mut self.passes, now, frame.len());
        let is_noted = is_admitted && {
            let hash = self.hash_of_passed(asked, header, frame);
            self.given.note(now, hash)
        };
        if is_noted { Manner::PassOn(to, forward.hop) } else { Manner::OwnerOnly(forward.left()) }
    }

    /// Says what becomes of a segment that the server `from` gives back with this header, since it does not own its flow.
    pub fn handle_given_back(
        &mut self,
        now: Instant,
        from: MemberSlot,
        header: &FrameHeader,
        frame: &[u8],
    ) -> Verdict<'_> {
        self.counters.packets.add(frame.len());
        self.counters.given_back.add(frame.len());
        match self.next_hop(now, from, header, frame) {
            Ok((at, hops, hop)) => {
                let may_refuse = self.may_refuse(now);
                if may_refuse && hops.as_slice().len() == 1 {
                    self.count_given(frame, at, &hops);
                }
                self.forward_at(frame, (hops, hop), may_refuse)
            }
            Err(reason) => self.dropped(reason),
        }
    }

    //= spec/cluster.md#segments-of-unknown-flows
    //# A control node MUST pass a segment that comes back on to the owner of its flow if it has one by now, else to the next server of the list, worked out anew, and where all have been asked to the server that had the flow when it was lost, or else to the first.
    fn next_hop(
        &mut self,
        now: Instant,
        from: MemberSlot,
        header: &FrameHeader,
        frame: &[u8],
    ) -> Result<(usize, Hops, u8), DropReason> {
        let Ok(Read { content: Content::Flow { flow, .. }, .. }) =
            packet::read(&self.tables, &header.vnet, frame)
        else {
            return Err(DropReason::NotGiven);
        };
        let hash = hash::of_flow(&self.tables.key, &flow);
        let at = self.tables.find(flow.service()).ok_or(DropReason::NotGiven)?;
        let (hops, hop) = (self.hops(at, &flow, hash), header.hop().ok_or(DropReason::NotGiven)?);
        self.take_back(now, from, hops.as_slice(), (header, hop), frame)?;
        if let Some(owner) = self.owner(now, hash).or_else(|| self.remembered(now, hash)) {
            return Ok((at, Hops::one(self.slot(owner)), 0));
        }
        if usize::from(hop) + 1 < hops.as_slice().len() {
            return Ok((at, hops, hop + 1));
        }
        let last = self.former_owner(hash).unwrap_or(hops.as_slice()[0]);
        Ok((at, Hops::one(last), 0))
    }

    //= spec/cluster.md#segments-that-come-back
    //# A control node MUST take a segment back once, within 100 ms, from the server that it gave it to, with the same header and the same octets behind its destination, while the list up to that server is what it was; any other MUST be dropped as `not-given`.
    fn take_back(
        &mut self,
        now: Instant,
        from: MemberSlot,
        hops: &[MemberSlot],
        (header, hop): (&FrameHeader, u8),
        frame: &[u8],
    ) -> Result<(), DropReason> {
        let asked = hops.get(..=usize::from(hop)).filter(|asked| asked.last() == Some(&from));
        let hash = asked.map(|asked| self.hash_of_passed(asked, header, frame));
        let is_given = hash.is_some_and(|hash| self.given.take(now, hash));
        if is_given { Ok(()) } else { Err(DropReason::NotGiven) }
    }

    /// Stands for a segment, and for all who have been asked about it.
    fn hash_of_passed(&self, asked: &[MemberSlot], header: &FrameHeader, frame: &[u8]) -> u64 {
        let mut servers = [0; 2 * super::HOPS_MAX];
        for (octets, slot) in servers.chunks_mut(2).zip(asked) {
            octets.copy_from_slice(&slot.0.to_le_bytes());
        }
        let flags = header.flags & FrameHeader::RESENT;
        let (kind, destination_vif) = (FrameKind::Relay, VifNumber(0));
        let header = FrameHeader { kind, flags, destination_vif, ..*header }.emit(frame.len());
        let behind_destination = frame.get(DESTINATION_END..).unwrap_or_default();
        hash::of_passed(&self.tables.key, &[&servers[..2 * asked.len()], &header, behind_destination])
    }

    /// The server that can be reached and had a flow when it was lost, unless somebody else has had it since.
    fn former_owner(&self, hash: u64) -> Option<MemberSlot> {
        let (_, entry) = self.flows.find(hash)?;
        let is_its = self.servers.was_of(entry.server, entry);
        let server = self.servers.server(entry.server).filter(|server| is_its && server.is_reachable)?;
        Some(server.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_back_once_and_in_time() {
        let mut given = Given::new(8);
        let now = Instant::ZERO + Duration::from_secs(1);
        let late = now + GIVEN_TIME + Duration::from_nanos(1);
        assert!(!given.take(now, 0), "an empty place is no segment");
        for hash in [0, 7, u64::MAX] {
            assert!(given.note(now, hash));
            assert!(!given.take(now, hash ^ 1 << 63));
            assert!(given.take(now + GIVEN_TIME, hash));
            assert!(!given.take(now, hash), "once");
            assert!(given.note(now, hash));
            assert!(!given.take(late, hash));
        }
    }

    #[test]
    fn a_full_line_has_room_again_when_what_is_in_it_is_too_old() {
        let mut given = Given::new(8);
        let now = Instant::ZERO;
        assert!((1..=WAYS as u64).all(|n| given.note(now, n << 8)));
        assert!(!given.note(now + GIVEN_TIME, 99 << 8));
        assert!(given.note(now + GIVEN_TIME + Duration::from_nanos(1), 99 << 8));
    }
}

//! Relay legs: packets of the association of a pair, carried from one of its ends to the other.
//!
//! What happens to a packet here: [`ControlNode::carry`] finds the other end by the grant of the pair, writes whose packet
//! it is in front of it and puts it into that end's control RVI; or it drops it, with a counter. It can neither read nor
//! change the packet, and keeps nothing of it. Rules: `spec/leg-relay.md`.

use rvi::{Message, Part};
use vlan_core::wire::{RELAYED_HEADER_LEN, RelayedPacket};
use vlan_core::{Channel, Instant};

use super::{PairState, key};
use crate::control_node::ControlNode;
use crate::control_node::session::Session;

/// What a control node has done for relay legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounters {
    /// Packets passed on.
    pub packets: u64,
    /// Octets of them.
    pub octets: u64,
    /// Packets dropped because there was no room for them on the way to the other end.
    pub full: u64,
    /// Packets dropped because the pair has no live grant in the epoch that they name.
    pub not_granted: u64,
    /// Packets dropped because the other end is not attached.
    pub not_attached: u64,
    /// Messages that were no relayed packets.
    pub malformed: u64,
}

impl RelayCounters {
    /// Each reason for which packets were dropped, with their number.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let all = [
            ("relay-full", self.full),
            ("relay-not-granted", self.not_granted),
            ("relay-not-attached", self.not_attached),
            ("relay-malformed", self.malformed),
        ];
        all.into_iter().filter(|(_, packets)| *packets > 0)
    }
}

/// Why a packet was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Full,
    NotGranted,
    NotAttached,
    Malformed,
}

impl ControlNode {
    /// Passes a packet on to the other end of its pair. `session` is the sender's, out of its place.
    pub(in crate::control_node) fn carry(&mut self, now: Instant, session: &Session, message: &Message<'_>) {
        let carried = self.try_to_carry(now, session, message);
        let counters = &mut self.relay;
        match carried {
            Ok(()) => {
                counters.packets += 1;
                counters.octets += (message.len - RELAYED_HEADER_LEN) as u64;
            }
            Err(Refusal::Full) => counters.full += 1,
            Err(Refusal::NotGranted) => counters.not_granted += 1,
            Err(Refusal::NotAttached) => counters.not_attached += 1,
            Err(Refusal::Malformed) => counters.malformed += 1,
        }
    }

    fn try_to_carry(
        &mut self,
        now: Instant,
        session: &Session,
        message: &Message<'_>,
    ) -> Result<(), Refusal> {
        let header = RelayedPacket::parse(message.head, message.len).map_err(|_| Refusal::Malformed)?;
        let place = self.other_end(session, header)?;
        let header = RelayedPacket { node: session.node, ..header }.emit(message.len - RELAYED_HEADER_LEN);
        let parts = [
            Part::Private(&header),
            Part::Private(&message.head[RELAYED_HEADER_LEN..]),
            Part::Shared(message.rest),
        ];
        let flow = u32::from(session.node.0);
        let other = self.sessions[place].as_mut().ok_or(Refusal::NotAttached)?;
        //= spec/leg-relay.md#no-room
        //# A relayed packet for which there is no room at once MUST be dropped and counted: it MUST NOT wait, and it MUST NOT go
        //# before what waits.
        let is_sent = other.association.offer(now, Channel::RELAYED_PACKETS, flow, &parts);
        if is_sent { Ok(()) } else { Err(Refusal::Full) }
    }

    /// The place of the session of the process to which a packet of `session` may go.
    //= spec/leg-relay.md#grants
    //# A control node MUST pass a relayed packet on only from one process of a pair to the other, while both are attached and
    //# their grant is live in the epoch that the packet names.
    fn other_end(&self, session: &Session, header: RelayedPacket) -> Result<usize, Refusal> {
        let (key, end) = key(session.node, header.node);
        let pair = self.pairs.pairs.get(&key).filter(|pair| {
            let is_live = pair.state == PairState::Granted && pair.epoch == header.epoch;
            is_live && session.is_registered() && pair.processes[end] == session.process
        });
        let pair = pair.ok_or(Refusal::NotGranted)?;
        let (rvi, process) = (pair.rvis.first().ok_or(Refusal::NotGranted)?, pair.processes[1 - end]);
        // The member of any of its RVIs leads to the node without a search.
        let route = &self.lans[rvi.lan].routes[usize::from(rvi.slots[1 - end].0)];
        let place = route.session.ok_or(Refusal::NotAttached)?;
        let is_it = |other: &Session| other.process == process && other.is_registered();
        let is_there = self.sessions[place].as_deref().is_some_and(is_it);
        is_there.then_some(place).ok_or(Refusal::NotAttached)
    }
}

//! Control RVIs by packets, to a control node on another host: the handshake, the session that it begins or carries on,
//! and the silence that ends it.
//!
//! A control RVI has shared-memory legs or packet legs, never both: on the control node's own host packets would only fail
//! together with the memory.

use alloc::vec::Vec;
use core::time::Duration;

use rvi::keys::PublicKey;
use rvi::packet::port::PacketEnds;
use rvi::packet::session::SessionKind;
use rvi::packet::wire::PacketLeg;
use rvi::{AssociationEvent, SessionTag};
use vlan_core::limits::RECONNECT_MAX;
use vlan_core::random::Random;
use vlan_core::wire::control::{GrantedLeg, LegAddress};
use vlan_core::{Instant, LegNumber, ProcessId};

use crate::node::control::{ControlLink, Relation};
use crate::node::packets::{address_of, close_session, session_legs};
use crate::node::{Node, NodeEvent, PeerId, backoff};

/// How long nothing of a control node may be opened before its session is over. What it had not settled then goes to the
/// next.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How a control node is reached by packets.
#[derive(Debug)]
pub(super) struct ControlPackets {
    /// Who it is.
    key: PublicKey,
    /// Where it receives, as the platform file says: on ether legs only that it listens to a group.
    known: Vec<GrantedLeg>,
    /// The same for the session that is there: on ether legs the station that it was heard from.
    legs: Vec<GrantedLeg>,
    /// The number by which it is to name the association.
    cid: u32,
    /// When the handshake of the next session begins; none while there is one.
    begins_at: Option<Instant>,
    /// The last pause before a handshake that followed a closed session; none once the control node has accepted this node.
    pause: Option<Duration>,
    /// When the session is over unless something of the control node is opened; none while there is no session.
    over_at: Option<Instant>,
}

impl ControlLink {
    /// The number by which packets of the control node name the association.
    pub fn packet_cid(&self) -> Option<u32> {
        self.packets.as_ref().filter(|_| self.association.has_packets()).map(|packets| packets.cid)
    }

    /// Where the control node receives packets by a leg.
    pub fn packet_address(&self, leg: LegNumber) -> Option<LegAddress> {
        self.packets.as_ref().and_then(|packets| address_of(&packets.legs, leg))
    }

    /// The session is over: the next one begins at `begins_at`.
    pub fn end_packets(&mut self, begins_at: Instant) {
        if let Some(packets) = &mut self.packets {
            (packets.begins_at, packets.over_at) = (Some(begins_at), None);
            packets.legs.clone_from(&packets.known);
        }
    }

    /// The control node has closed the session: it is asked again after a pause that doubles until it accepts this node.
    fn pause_packets(&mut self, now: Instant, random: &mut Random) {
        let pause = self.packets.as_ref().and_then(|packets| packets.pause);
        let pause = backoff(pause, random);
        self.end_packets(now + pause);
        if let Some(packets) = &mut self.packets {
            packets.pause = Some(pause);
        }
    }

    /// The control node has accepted this node.
    pub fn packets_accepted(&mut self) {
        if let Some(packets) = &mut self.packets {
            packets.pause = None;
        }
    }

    pub fn packets_timeout(&self) -> Option<Instant> {
        let packets = self.packets.as_ref()?;
        let begins_at = packets.begins_at.filter(|_| self.connects);
        begins_at.into_iter().chain(packets.over_at).min()
    }

    /// Something of the control node was opened, which came from there.
    pub fn note_opened(&mut self, now: Instant, leg: PacketLeg, from: LegAddress) {
        if let Some(packets) = &mut self.packets {
            packets.over_at = packets.over_at.map(|_| now + SILENCE_MAX);
            packets.note_station(leg, from);
        }
    }
}

impl ControlPackets {
    /// The control node was heard from a station: from now on it alone is to get what goes there by that leg.
    //= spec/leg-ether.md#stations-of-control-nodes
    //# A node MUST send packets to the group of control nodes only until it has opened a packet of its control node by that
    //# leg in this session, and then to the station that it came from.
    fn note_station(&mut self, leg: PacketLeg, from: LegAddress) {
        let own = self.legs.iter_mut().find(|granted| granted.leg.0 == leg.number());
        if let (Some(GrantedLeg { address: address @ LegAddress::Ether(_), .. }), LegAddress::Ether(_)) =
            (own, from)
        {
            *address = from;
        }
    }
}

impl Node {
    /// Has a control node reached by packets, at these addresses of its fabrics; to be said before the first timeout, and
    /// for a control node without shared-memory legs. It proves itself by `key`.
    pub fn reach_by_packets(&mut self, control_node: u8, key: PublicKey, legs: Vec<GrantedLeg>) {
        if let Some(link) = self.control.get_mut(usize::from(control_node)) {
            let begins_at = Some(Instant::ZERO);
            let known = legs.clone();
            let packets = ControlPackets { key, known, legs, cid: 0, begins_at, pause: None, over_at: None };
            link.packets = Some(packets);
        }
    }

    /// Begins the handshake of the next session when it is time, and ends a session that has been silent for too long.
    //= spec/control-packets.md#silent-sessions
    //# An end of a control RVI with packet legs MUST take its session for over when it has opened nothing of its peer for a
    //# second.
    pub(super) fn control_packets_timeout(&mut self, now: Instant, index: usize) {
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let link = &self.control[index];
        let Some(packets) = &link.packets else { return };
        if is_past(packets.over_at) {
            self.control_session_over(now, index);
        } else if link.connects && is_past(packets.begins_at) {
            self.begin_control_packets(now, index);
        }
    }

    fn begin_control_packets(&mut self, now: Instant, index: usize) {
        let (own, node) = (self.config.process, self.config.number);
        let (cid, seed) = (self.random.next_u64() as u32, self.random.next_u64());
        // Numbers of direct associations are places, of which there are fewer.
        let own_cid = 0x00ff_ff00 | index as u32 | cid << 24;
        let link = &mut self.control[index];
        let (Some(port), Some(packets)) = (&mut self.packets, &mut link.packets) else { return };
        (packets.begins_at, packets.cid) = (None, own_cid);
        let ends = PacketEnds {
            kind: SessionKind::ToControlNode(link.session),
            own,
            node,
            peer: None,
            peer_key: packets.key,
            own_cid,
            legs: session_legs(&packets.legs),
        };
        let config = port.port.endpoint(ends, seed);
        link.association.set_packets(now, config);
    }

    /// What the association with a control node has to tell of its packet legs.
    pub(super) fn control_packet_event(&mut self, now: Instant, index: usize, event: AssociationEvent) {
        let peer = PeerId::ControlNode(index as u8);
        if self.control[index].packets.is_none() {
            return;
        }
        match event {
            AssociationEvent::PacketsEstablished { process, control_session } => {
                self.control_packets_established(now, index, process, control_session);
            }
            AssociationEvent::LegUp(leg) => {
                self.log(NodeEvent::LegUp { peer, leg });
                self.begin_registration(now, index);
            }
            AssociationEvent::PacketLeg(leg, state) => self.log(NodeEvent::PacketLeg { peer, leg, state }),
            AssociationEvent::PacketsSilent => self.log(NodeEvent::PacketsSilent { peer }),
            AssociationEvent::PacketsHeard => self.log(NodeEvent::PacketsHeard { peer }),
            AssociationEvent::PacketLegMismatched(leg) => {
                self.log(NodeEvent::PacketLegMismatched { peer, leg });
            }
            AssociationEvent::PacketsRefused(code) => {
                let reason = alloc::format!("it wants no session with this node, for reason {code}");
                self.log(NodeEvent::Refused { control_node: index as u8, reason });
            }
            AssociationEvent::PacketsOver { broken } => {
                let control_node = index as u8;
                self.log(if broken {
                    NodeEvent::BadControlMessage { peer }
                } else {
                    NodeEvent::SessionClosed { control_node }
                });
                self.control_session_over(now, index);
                if broken {
                    self.control[index].end_packets(now + RECONNECT_MAX);
                } else {
                    self.control[index].pause_packets(now, &mut self.random);
                }
            }
            _ => {}
        }
    }

    /// The control node has answered: for the session that is there or is to be made, or it has begun another, perhaps as
    /// another process.
    //= spec/leg-setup.md#session-tags
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    fn control_packets_established(
        &mut self,
        now: Instant,
        index: usize,
        process: ProcessId,
        control_node: u32,
    ) {
        let link = &mut self.control[index];
        let tag = SessionTag { node: link.session, control_node };
        if link.relation(process, tag) == Relation::Same {
            link.begin_session(now, process, tag);
            if let Some(packets) = &mut link.packets {
                packets.over_at = Some(now + SILENCE_MAX);
            }
        } else {
            self.control_session_over(now, index);
        }
    }

    /// Ends the packet sessions with control nodes in order, once what was sent is acknowledged; with `is_late` at once.
    pub(super) fn leave_control_packets(&mut self, now: Instant, is_late: bool) {
        for index in 0..self.control.len() {
            let link = &mut self.control[index];
            let (Some(port), Some(packets)) = (&mut self.packets, &link.packets) else { continue };
            let has_more = link.association.has_packets_up() && !link.association.is_drained();
            if link.association.has_packets() && (!has_more || is_late) {
                close_session(now, &mut link.association, &packets.legs, &mut port.port);
                self.control_session_over(now, index);
            }
        }
    }
}

//! Broadcast arenas that control nodes have given this node: where group frames lie that come as references.
//!
//! On the walk: a reference comes in place of a frame; the frame is copied out of the arena to private memory, and goes on from
//! there as one that came itself.

use alloc::vec::Vec;
use core::time::Duration;

use rvi::{ArenaFault, ArenaReader, Message, Region, SharedOctets};
use vlan_core::limits::PRIVATE_HEAD_LEN;
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::wire::reference::{REFERENCE, Reference};
use vlan_core::{DropReason, Instant, LanId, ProcessId, VifNumber};

use crate::node::capture::tap_received;
use crate::node::{FrameSink, Node, PeerId};

/// Arenas of one LAN that a node holds for each control node: the present one, and the one before, to which references may be on
/// their way.
const ARENAS_PER_LAN_MAX: usize = 2;

/// How long the arenas of a LAN stay that this node has left: who comes again has the next one by a socket, perhaps before it hears
/// from a ring that it had left.
pub(super) const ARENA_KEEP: Duration = Duration::from_secs(1);

/// The arenas of one control node.
#[derive(Debug, Default)]
pub(super) struct Arenas {
    /// In the order in which they came.
    mapped: Vec<Mapped>,
    /// The message that was copied out last.
    private: Vec<u8>,
}

#[derive(Debug)]
struct Mapped {
    lan: LanId,
    reader: ArenaReader<Region>,
    /// The stay in which a message was gone: the control node has given this node copies of what followed.
    ended: Option<u16>,
}

/// True for the start of a message that is a reference.
#[inline]
pub(super) fn is_reference(head: &[u8]) -> bool {
    head.starts_with(&REFERENCE.to_le_bytes())
}

impl Arenas {
    //= spec/arena.md#arenas-of-a-node
    //# A node MUST hold at most two arenas of a LAN for each control node.
    fn add(&mut self, lan: LanId, reader: ArenaReader<Region>) {
        if self.mapped.iter().filter(|mapped| mapped.lan == lan).count() >= ARENAS_PER_LAN_MAX
            && let Some(oldest) = self.mapped.iter().position(|mapped| mapped.lan == lan)
        {
            self.mapped.remove(oldest);
        }
        self.mapped.push(Mapped { lan, reader, ended: None });
    }

    fn has(&self, lan: LanId) -> bool {
        self.mapped.iter().any(|mapped| mapped.lan == lan)
    }

    /// Gives back the memory of the arenas of a LAN.
    fn remove(&mut self, lan: LanId) {
        self.mapped.retain(|mapped| mapped.lan != lan);
    }

    /// Copies out the message that a reference names, with its destination interface in its header.
    fn read<'p>(&mut self, message: &Message<'_>, private: &'p mut Vec<u8>) -> Result<&'p [u8], DropReason> {
        let reference = Reference::parse(message.head, message.len).map_err(|_| DropReason::Malformed)?;
        let is_it =
            |mapped: &&mut Mapped| mapped.lan == reference.lan && mapped.reader.number() == reference.arena;
        let mapped = self.mapped.iter_mut().find(is_it).ok_or(DropReason::Lapped)?;
        //= spec/arena.md#stays
        //# A member that finds a message gone MUST take no other message by a reference of the same stay.
        if mapped.ended == Some(reference.stay) {
            return Err(DropReason::Lapped);
        }
        match mapped.reader.read(&reference.place, private) {
            Ok(octets) => {
                FrameHeader::readdress(octets, reference.destination_vif);
                Ok(octets)
            }
            Err(ArenaFault::Lapped) => {
                mapped.ended = Some(reference.stay);
                Err(DropReason::Lapped)
            }
            Err(_) => Err(DropReason::Malformed),
        }
    }
}

impl Node {
    /// Has this node take broadcast arenas, which its host can map. To be called before it is attached.
    pub fn enable_arenas(&mut self) {
        self.takes_arenas = true;
    }

    /// Tells a control node that references may come in place of group frames, once there is an arena.
    //= spec/arena.md#saying-so
    //# A node that can map arenas MUST say so to each control node that has accepted it.
    pub(super) fn announce_arenas(&mut self, now: Instant, index: usize) {
        if self.takes_arenas {
            self.send_control(now, index, &ControlMessage::ArenaReady { lan: LanId(0), arena: 0 });
        }
    }

    /// A control node gives this node the arena of a LAN: memory that only the control node writes. False: it is none, or none for
    /// this node, and the host gives the memory back.
    #[must_use]
    pub fn handle_arena(
        &mut self,
        now: Instant,
        control_node: u8,
        process: ProcessId,
        lan: LanId,
        memory: Region,
    ) -> bool {
        let index = usize::from(control_node);
        let is_session = self.control.get(index).is_some_and(|link| link.process == Some(process));
        let is_member = self.has_interface_on(lan);
        let len = memory.len();
        let Ok(reader) = ArenaReader::new(memory, len) else { return false };
        if !is_session || !is_member {
            return false;
        }
        let arena = reader.number();
        self.control[index].arenas.add(lan, reader);
        self.send_control(now, index, &ControlMessage::ArenaReady { lan, arena });
        true
    }

    fn has_interface_on(&self, lan: LanId) -> bool {
        self.interfaces.iter().flatten().any(|interface| interface.driver.lan() == lan)
    }

    /// An interface on a LAN has been taken away: its arenas, if there are any, stay for a while.
    pub(super) fn keep_arenas(&mut self, now: Instant, lan: LanId) {
        self.unmaps.retain(|(other, _)| *other != lan);
        if self.control.iter().any(|link| link.arenas.has(lan)) {
            self.unmaps.push((lan, now + ARENA_KEEP));
        }
    }

    /// Gives back the arenas of LANs on which this node has had no interface for a while.
    //= spec/arena.md#the-end-of-a-membership
    //# A node MUST give the arenas of a LAN back a second after its last interface there was taken away, unless it has another one then.
    pub(super) fn unmap_arenas(&mut self, now: Instant) {
        while let Some((lan, _)) = self.unmaps.first().copied().filter(|(_, at)| *at <= now) {
            self.unmaps.remove(0);
            if !self.has_interface_on(lan) {
                self.control.iter_mut().for_each(|link| link.arenas.remove(lan));
            }
        }
    }

    /// Takes the frame that a reference names.
    pub(super) fn take_reference(
        &mut self,
        now: Instant,
        index: usize,
        vif: VifNumber,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) {
        let mut private = core::mem::take(&mut self.control[index].arenas.private);
        match self.control[index].arenas.read(message, &mut private) {
            Ok(octets) => {
                let (head, rest) = octets.split_at(octets.len().min(PRIVATE_HEAD_LEN));
                let rest = SharedOctets::private(rest);
                let message = Message { len: octets.len(), head, rest, ..*message };
                tap_received(&mut self.captures, PeerId::ControlNode(index as u8), &message);
                match FrameHeader::parse(head, octets.len()) {
                    Ok(header) if header.kind == FrameKind::Group => {
                        self.deliver_relayed(now, vif, &header, &message, sink);
                    }
                    _ => self.count_drop(vif, DropReason::Malformed),
                }
            }
            Err(reason) => self.count_drop(vif, reason),
        }
        self.control[index].arenas.private = private;
    }
}

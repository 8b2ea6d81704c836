//! Unicast frames of one member to another, one behind the other: what all of them have in common is judged once.

use super::{LanServer, MemberSlot};
use crate::address::VifNumber;
use crate::counters::FrameCount;
use crate::ethernet::{EthernetHeader, destination_word, is_neighbour_resolution, source_word};
use crate::security::PortSecurity;
use crate::time::Instant;
use crate::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, HeaderTemplate};

/// Frames from one member to another. It holds as long as nothing has happened to the LAN's server but that they came.
#[derive(Clone, Copy, Debug)]
pub struct RelayRun {
    /// Who sends them.
    pub from: MemberSlot,
    /// Who gets them.
    pub to: MemberSlot,
    /// What the headers of all have in common.
    header: HeaderTemplate,
    /// The stations at both ends, as `destination_word` and `source_word` give them.
    stations: (u64, u64),
    /// The receiver's interface.
    vif: VifNumber,
    came: FrameCount,
    went: FrameCount,
}

impl RelayRun {
    /// Counts a frame that was taken for this run, and has gone to its receiver.
    #[inline(always)]
    pub fn sent(&mut self, frame_len: usize) {
        self.went.add(frame_len);
    }
}

impl LanServer {
    /// The run of the frames that are like one of the member at `from` which was let through. To be ended by
    /// [`LanServer::end_run`].
    #[must_use]
    pub fn run(&self, from: MemberSlot, header: &FrameHeader, head: &[u8]) -> Option<RelayRun> {
        let to = self.slot_of(EthernetHeader::parse(head)?.destination)?;
        let is_plain = header.kind == FrameKind::Relay && header.flags == 0;
        if !is_plain || self.members.get(usize::from(from.0))?.meters.is_some() {
            return None;
        }
        let stations = (destination_word(head)?, source_word(head)?);
        let vif = self.members.get(usize::from(to.0))?.vif;
        let (header, count) = (HeaderTemplate::new(header), FrameCount::default());
        Some(RelayRun { from, to, header, stations, vif, came: count, went: count })
    }

    /// Takes the frame in a message if it is the next one of a run: gives the header that it goes on with. `None` says nothing,
    /// and has done nothing: [`LanServer::handle_frame`] tells.
    //= spec/server.md#admission
    //# The server MUST discard a frame whose LAN, origin node, origin interface or process is not that of the
    //# member whose channel it came by.
    #[inline]
    pub fn take(
        &mut self,
        run: &mut RelayRun,
        head: &[u8],
        message_len: usize,
    ) -> Option<[u8; FRAME_HEADER_LEN]> {
        let (vnet, bseq) = run.header.parse_numbered(head, message_len)?;
        let (frame, frame_len) = (head.get(FRAME_HEADER_LEN..)?, message_len - FRAME_HEADER_LEN);
        let member = self.members.get_mut(usize::from(run.from.0))?;
        let security = self.config.port_security;
        let is_simple = if security == PortSecurity::Off {
            !is_neighbour_resolution(EthernetHeader::parse(frame)?.ethertype, frame)
        } else {
            member.sender.is_plain(security, frame)
        };
        let is_of_run = (destination_word(frame)?, source_word(frame)?) == run.stations;
        let window = member.window.as_mut().filter(|window| window.next() == bseq)?;
        if !is_simple || !is_of_run || vnet.check(self.config.mtu, frame_len).is_err() {
            return None;
        }
        window.insert(bseq);
        run.came.add(frame_len);
        FrameHeader::readdressed(head, 0, run.vif)
    }

    /// Counts the frames of a run. True when the pair has traffic worth a direct RVI.
    pub fn end_run(&mut self, now: Instant, run: &RelayRun) -> bool {
        if run.came.frames == 0 {
            return false;
        }
        self.ledger.ingress += run.came.frames;
        self.ledger.egress += run.went.frames;
        self.members[usize::from(run.from.0)].ingress.add_all(run.came);
        self.members[usize::from(run.to.0)].egress.add_all(run.went);
        self.meter(now, run.from, run.to, run.came.frames as u32)
    }
}

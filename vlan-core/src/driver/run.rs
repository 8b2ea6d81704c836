//! Unicast frames of one pair of interfaces, one behind the other: what all of them have in common is worked out once.

use super::clusters::is_plain;
use super::{Driver, Egress, Peer, PeerSlot};
use crate::address::{Channel, NodeNumber};
use crate::counters::FrameCount;
use crate::ethernet::{destination_word, is_neighbour_resolution, source_word};
use crate::limits::ETHERNET_HEADER_LEN;
use crate::security::PortSecurity;
use crate::security::claims::{self, PLAIN_LEN};
use crate::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, HeaderTemplate, Vnet};

/// Where the frames of an [`OutgoingRun`] go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the association with this node.
    Direct(NodeNumber),
    /// To the control node.
    Relay,
}

/// Frames to one station. It holds as long as nothing has happened to its driver but that they were sent.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRun {
    /// The station, as `destination_word` gives it.
    destination: u64,
    /// What the headers of all have in common.
    header: HeaderTemplate,
    /// The LAN's MTU.
    mtu: u16,
    /// The number of the next frame, where they are numbered.
    bseq: u32,
    /// Where they go.
    pub way: Way,
    /// The channel there.
    pub channel: Channel,
    /// Those that were sent.
    sent: FrameCount,
}

impl OutgoingRun {
    /// The header in front of `frame`, which is whole, if it is one of the run. `None` says nothing:
    /// [`Driver::classify`] tells.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, vnet: &Vnet, frame: &[u8]) -> Option<[u8; FRAME_HEADER_LEN]> {
        let is_of_run = destination_word(frame)? == self.destination
            && !is_neighbour_resolution(u16::from_be_bytes([frame[12], frame[13]]), frame)
            && vnet.check(self.mtu, frame.len()).is_ok();
        is_of_run.then(|| self.header.emit(vnet, frame.len(), self.bseq))
    }

    /// Those that were sent.
    #[must_use]
    pub const fn count(&self) -> FrameCount {
        self.sent
    }

    /// Counts a frame that has gone with a header of this run, and uses its number up.
    #[inline(always)]
    pub fn sent(&mut self, frame_len: usize) {
        self.sent.add(frame_len);
        self.bseq = self.bseq.wrapping_add(u32::from(self.way == Way::Relay));
    }
}

/// What the plain frames of one peer are like. It holds as long as nothing has happened to its driver.
#[derive(Clone, Copy, Debug)]
pub struct IncomingRun {
    /// What the headers of all have in common.
    header: HeaderTemplate,
    /// The LAN's MTU.
    mtu: u16,
    /// The peer's address as its source, under port security.
    source: Option<u64>,
    /// What is not plain may speak for a cluster address.
    is_plain_only: bool,
}

impl IncomingRun {
    /// The state of a frame, if it is one of the run: what nearly every frame is. `None` says nothing:
    /// [`Driver::admit_direct`] looks at it field by field, and counts what it drops.
    ///
    /// `head` is the message's private head, with the frame's header; `message_len` the length of the whole.
    //= spec/driver.md#direct-frames
    //# The driver MUST discard a frame from a direct RVI whose LAN, origin or interface is not that of the grant,
    //# or whose source MAC is under port security neither the granted peer's nor that of a station learned behind it.
    #[inline(always)]
    #[must_use]
    pub fn admit(&self, head: &[u8], message_len: usize) -> Option<Vnet> {
        let vnet = self.header.parse(head, message_len)?;
        let frame = head.get(FRAME_HEADER_LEN..).filter(|frame| frame.len() >= ETHERNET_HEADER_LEN)?;
        let is_from_peer = self.source.is_none_or(|source| {
            frame.len() >= PLAIN_LEN
                && source_word(frame) == Some(source)
                && frame[0] & 1 == 0
                && claims::is_plain(frame)
        });
        let is_harmless = !self.is_plain_only || is_plain(frame);
        let is_sound = vnet.check(self.mtu, message_len - FRAME_HEADER_LEN).is_ok();
        (is_from_peer && is_harmless && is_sound).then_some(vnet)
    }
}

/// Relayed frames of one origin. It holds as long as nothing has happened to its driver but that they came.
#[derive(Clone, Copy, Debug)]
pub struct RelayedRun {
    origin: PeerSlot,
    /// What the headers of all have in common.
    header: HeaderTemplate,
    /// The LAN's MTU.
    mtu: u16,
    /// What is not plain may speak for a cluster address.
    is_plain_only: bool,
    delivered: FrameCount,
}

impl RelayedRun {
    /// Counts a frame that the stack has taken.
    #[inline(always)]
    pub fn delivered(&mut self, frame_len: usize) {
        self.delivered.add(frame_len);
    }
}

impl Driver {
    /// The run that a frame begins which goes to one peer, and to nobody else. To be ended by [`Driver::end_run`].
    #[must_use]
    pub fn outgoing_run(&self, vnet: &Vnet, frame: &[u8]) -> Option<OutgoingRun> {
        let (header, bseq, way, channel) = match self.classify(vnet, frame, frame.len()) {
            Egress::Direct { peer, node, channel, copy_to_server: false } => {
                (self.peers.get(usize::from(peer.0))?.outgoing, 0, Way::Direct(node), channel)
            }
            Egress::Relay { peer: Some(_) } => {
                let header = HeaderTemplate::new(&self.header(FrameKind::Relay, vnet));
                (header, self.next_bseq, Way::Relay, self.config.relay_channel)
            }
            _ => return None,
        };
        let (destination, mtu) = (destination_word(frame)?, self.config.mtu);
        Some(OutgoingRun { destination, header, mtu, bseq, way, channel, sent: FrameCount::default() })
    }

    /// Counts the frames of a run.
    pub fn end_run(&mut self, run: &OutgoingRun) {
        match run.way {
            Way::Direct(_) => self.counters.sent_direct.add_all(run.sent),
            Way::Relay => {
                self.counters.sent_relay.add_all(run.sent);
                self.next_bseq = run.bseq;
            }
        }
    }

    /// The run of the frames that come by the direct RVI of `slot`; none where each is to be looked at, or there is no such RVI.
    #[must_use]
    pub fn incoming_run(&self, slot: PeerSlot) -> Option<IncomingRun> {
        self.peers.get(usize::from(slot.0)).filter(|peer| peer.is_quick).map(|peer| self.run_from(peer))
    }

    /// The run of the frames that follow one with this header, which was let through. To be ended by
    /// [`Driver::end_relayed_run`].
    #[must_use]
    pub fn relayed_run(&self, header: &FrameHeader) -> Option<RelayedRun> {
        let is_plain = header.kind == FrameKind::Relay && header.flags == 0;
        let origin = self.find_peer(header.origin, header.origin_vif).filter(|_| is_plain)?;
        let (header, mtu) = (HeaderTemplate::new(header), self.config.mtu);
        let is_plain_only = !self.config.cluster_addresses.is_empty();
        Some(RelayedRun { origin, header, mtu, is_plain_only, delivered: FrameCount::default() })
    }

    /// Takes the frame in a message if it is the next one of a run, and gives its state. `None` says nothing, and has done
    /// nothing: [`Driver::admit_relayed`] tells.
    ///
    /// `head` is the message's private head, with the frame's header; `message_len` the length of the whole.
    //= spec/driver.md#numbered-frames
    //# The driver MUST deliver each numbered frame of an origin at most once, whichever way it comes.
    #[inline(always)]
    pub fn take(&mut self, run: &RelayedRun, head: &[u8], message_len: usize) -> Option<Vnet> {
        let (vnet, bseq) = run.header.parse_numbered(head, message_len)?;
        let frame = head.get(FRAME_HEADER_LEN..).filter(|frame| frame.len() >= ETHERNET_HEADER_LEN)?;
        let is_harmless = !run.is_plain_only || is_plain(frame);
        if !is_harmless || vnet.check(run.mtu, message_len - FRAME_HEADER_LEN).is_err() {
            return None;
        }
        let origin = self.peers.get_mut(usize::from(run.origin.0))?;
        origin.numbers.take_newer(bseq).then_some(vnet)
    }

    /// Counts the frames of a run.
    pub fn end_relayed_run(&mut self, run: &RelayedRun) {
        self.counters.received_relay.add_all(run.delivered);
    }

    /// What the plain frames of `peer` are like.
    pub(super) fn run_from(&self, peer: &Peer) -> IncomingRun {
        let is_checked = self.config.port_security != PortSecurity::Off;
        IncomingRun {
            header: peer.incoming,
            mtu: self.config.mtu,
            source: is_checked.then_some(peer.source),
            is_plain_only: !self.config.cluster_addresses.is_empty(),
        }
    }
}

//! Another member of the LAN as a driver knows it: its binding, and the way to it.

use alloc::boxed::Box;
use core::time::Duration;

use crate::address::{BootTag, Channel, LanId, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};
use crate::driver::lives::Lives;
use crate::ethernet::word_of;
use crate::security::rate::Meters;
use crate::security::{PortSecurity, Sender};
use crate::time::Instant;
use crate::wire::control::{Grant, InterfaceConfig, MemberNotice};
use crate::wire::frame::{FrameHeader, FrameKind, HeaderTemplate, Vnet};

/// How long frames for a peer are held for the echo of a barrier. Two relay hops take some tens of
/// microseconds; 20 ms leaves room for a late pump and stays under the 50 ms after which frames expire.
pub const BARRIER_WAIT: Duration = Duration::from_millis(20);
/// How long after a barrier that was not echoed the next one is tried.
pub const BARRIER_RETRY: Duration = Duration::from_millis(100);

/// The way that frames for a peer take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By the control node.
    Relay,
    /// Held: barrier `id` is on its way; given up at `until`. Id 0: no control node is up, and the peer's
    /// word that it has drained its own is waited for.
    Barrier {
        /// The barrier.
        id: u32,
        /// When to give up.
        until: Instant,
    },
    /// On the direct RVI.
    Direct,
    /// Held: the direct RVI is closing and what it did not deliver goes by relay first.
    Closing,
}

/// The direct RVI to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The RVI.
    pub rvi: RviNumber,
    /// Its channel in the association.
    pub channel: Channel,
}

/// Another member of the LAN.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its node.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// Its address.
    pub mac: MacAddress,
    /// The process that serves it, as last told.
    pub process: ProcessId,
    /// True while its node is attached to the control node.
    pub attached: bool,
    /// The way to it.
    pub path: Path,
    /// The direct RVI granted, if any.
    pub direct: Option<Direct>,
    /// What its direct frames are judged by.
    pub sender: Sender,
    /// `source_word` of its frames.
    pub(super) source: u64,
    /// It has a direct RVI, its frames there are not limited, and their addresses are not checked: nearly all of them can be
    /// judged at once.
    pub(super) is_quick: bool,
    /// What its direct frames have been, where they are limited.
    pub(super) meters: Option<Box<Meters>>,
    /// The headers of unicast frames to it by the direct RVI.
    pub(super) outgoing: HeaderTemplate,
    /// Those of its unicast frames to this interface.
    pub(super) incoming: HeaderTemplate,
    /// When a barrier was given up; none when no retry is due.
    pub(super) relay_idle_since: Option<Instant>,
    /// The latest barrier of the peer's present life that came when there was no leg to echo it on.
    pub(super) unechoed: Option<u32>,
    /// The number of this interface's next frame when a barrier of the peer last ended: what was relayed to it before has
    /// come to its end.
    pub(super) relay_ended_at: Option<u32>,
    /// Its numbered frames seen so far.
    pub(super) numbers: Lives,
}

impl Peer {
    pub(super) fn new(notice: &MemberNotice, own_node: NodeNumber, config: &InterfaceConfig) -> Self {
        let (outgoing, incoming) = templates((own_node, config.vif), (notice.node, notice.vif), config.lan);
        Self {
            node: notice.node,
            vif: notice.vif,
            mac: notice.mac,
            process: notice.process,
            attached: notice.attached,
            path: Path::Relay,
            direct: None,
            sender: Sender::default(),
            source: word_of(notice.mac),
            is_quick: false,
            meters: None,
            outgoing,
            incoming,
            relay_idle_since: None,
            unechoed: None,
            relay_ended_at: None,
            numbers: Lives::default(),
        }
    }

    /// The headers of unicast frames to and from this peer, for an interface with this configuration.
    pub(super) fn templates(
        &self,
        own_node: NodeNumber,
        config: &InterfaceConfig,
    ) -> (HeaderTemplate, HeaderTemplate) {
        templates((own_node, config.vif), (self.node, self.vif), config.lan)
    }

    pub(super) fn handle_process(&mut self, process: ProcessId, attached: bool) {
        self.attached = attached;
        if attached {
            if self.process != process {
                self.unechoed = None;
                self.numbers.replace(self.process.boot_tag(), process.boot_tag());
            }
            self.process = process;
        }
    }

    pub(super) fn handle_grant(&mut self, grant: &Grant) {
        self.direct = Some(Direct { rvi: grant.rvi, channel: grant.channel });
    }

    pub(super) fn set_sender(&mut self, sender: Sender, meters: Option<Meters>) {
        (self.sender, self.meters) = (sender, meters.map(Box::new));
    }

    /// To be called when the grant, the limits or the LAN's port security may have changed.
    pub(super) fn settle(&mut self, security: PortSecurity) {
        let is_limited = self.meters.is_some() || security == PortSecurity::Address;
        self.is_quick = self.direct.is_some() && !is_limited;
    }
}

/// The headers of unicast frames from an interface to another, and back.
fn templates(
    own: (NodeNumber, VifNumber),
    peer: (NodeNumber, VifNumber),
    lan: LanId,
) -> (HeaderTemplate, HeaderTemplate) {
    let template = |from: (NodeNumber, VifNumber), to: (NodeNumber, VifNumber)| {
        HeaderTemplate::new(&FrameHeader {
            kind: FrameKind::Unicast,
            flags: 0,
            lan,
            origin: from.0,
            origin_vif: from.1,
            destination_vif: to.1,
            vnet: Vnet::default(),
            boot: BootTag(0),
            bseq: 0,
        })
    };
    (template(own, peer), template(peer, own))
}

//! Another member of the LAN as a driver knows it: its binding, and the way to it.

use core::time::Duration;

use crate::address::{BootTag, Channel, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};
use crate::limits::BSEQ_WINDOW;
use crate::time::Instant;
use crate::window::{Window, WindowVerdict};
use crate::wire::control::{Grant, MemberNotice};

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
    /// When a barrier was given up; none when no retry is due.
    pub(super) relay_idle_since: Option<Instant>,
    /// Its numbered frames seen so far, and in which of its lives.
    window: Option<(BootTag, Window)>,
}

impl Peer {
    pub(super) fn new(notice: &MemberNotice) -> Self {
        Self {
            node: notice.node,
            vif: notice.vif,
            mac: notice.mac,
            process: notice.process,
            attached: notice.attached,
            path: Path::Relay,
            direct: None,
            relay_idle_since: None,
            window: None,
        }
    }

    pub(super) fn handle_process(&mut self, process: ProcessId, attached: bool) {
        self.attached = attached;
        if attached {
            self.process = process;
        }
    }

    pub(super) fn handle_grant(&mut self, grant: &Grant) {
        self.direct = Some(Direct { rvi: grant.rvi, channel: grant.channel });
    }

    /// Takes numbered frame `bseq` of the life `boot` if it is new. A new life starts a new numbering: the
    /// control node vouches for the tag, and frames of one origin come in the order of its lives.
    #[inline]
    pub(super) fn take_numbered(&mut self, boot: BootTag, bseq: u32) -> WindowVerdict {
        match &mut self.window {
            Some((known, window)) if *known == boot => window.insert(bseq),
            window => {
                let (_, window) = window.insert((boot, Window::new(BSEQ_WINDOW, bseq)));
                window.insert(bseq)
            }
        }
    }
}

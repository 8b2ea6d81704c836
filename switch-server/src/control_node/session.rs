//! One life of a node's control RVI, from its first leg to the loss of its last.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rvi::{Association, AssociationConfig, Scheduler, SessionTag, ShmLeg};
use vlan_core::limits::HEARTBEAT_INTERVAL;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, LegAddress, LegKind, OfferedLeg, ReportItem, ReportedDrop};
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, ProcessId};

use crate::control_node::packets::SessionPackets;
use crate::control_node::waits::{Held, Waits};

/// Quiet intervals after which a node counts as silent: its own heartbeats come once in each.
const SILENT_INTERVALS: u32 = 3;
/// Values that one report may hold: a node with 127 interfaces and 127 peers has fewer.
const REPORT_ITEMS_MAX: usize = 8192;

/// Messages towards one node that wait for room in its ring at most.
const PARK_MESSAGES_MAX: usize = 1024;
/// Octets that wait at most: as much as the ring's own arena.
const PARK_OCTETS_MAX: usize = 1 << 20;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake has proved who it is; REGISTER has not come.
    Proven,
    /// It serves its node.
    Registered,
    /// It was refused or fenced: nothing more is taken from it.
    Ended,
}

/// What a data channel of the session is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChannelUse {
    /// Place of the LAN plus one; 0 is a closed channel.
    lan_plus_one: u16,
    pub slot: MemberSlot,
}

impl ChannelUse {
    pub fn new(lan: usize, slot: MemberSlot) -> Self {
        Self { lan_plus_one: lan as u16 + 1, slot }
    }

    #[inline]
    pub fn lan(&self) -> Option<usize> {
        usize::from(self.lan_plus_one).checked_sub(1)
    }
}

pub(super) struct Session {
    pub node: NodeNumber,
    pub process: ProcessId,
    /// Where this session stands among the others, also while it is taken out.
    pub place: usize,
    pub association: Association,
    pub stage: Stage,
    /// It has ended because its node may not register, for now.
    pub was_refused: bool,
    /// Names this session among those of the process and of this control node.
    pub tag: SessionTag,
    pub by_channel: [ChannelUse; 256],
    /// Octets that it still has in its turn; less than zero when it has taken more than its part.
    pub turn: i32,
    /// Legs whose socket has hung up.
    pub gone: Vec<LegNumber>,
    pub heard: Instant,
    next_check: Instant,
    quiet: u32,
    pub report: Vec<ReportItem>,
    /// The last frames that the node dropped, ahead of its report.
    pub reported_drops: Vec<ReportedDrop>,
    /// Places of the LANs and slots that this session serves.
    pub memberships: Vec<(usize, MemberSlot)>,
    /// The node can map arenas.
    pub takes_arenas: bool,
    /// Places of the LANs of which the node was given an arena and has not said that it has it.
    pub arenas_unanswered: Vec<usize>,
    /// The packet legs that the node is ready for: one of each kind on each fabric at most.
    pub offered: Vec<OfferedLeg>,
    /// Frames for the node whose senders keep them.
    pub waits: Waits,
    /// Set when the node is reached by packets.
    pub packets: Option<SessionPackets>,
}

/// The account of what comes from outside; no session comes to this number.
const OUTSIDE_CHARGE: u32 = u32::MAX;

/// True for what waits on no session's account, and so is a frame that nobody keeps: what came from outside, and what is copied for
/// members that were evicted from an arena.
pub(super) const fn is_nobodys(charge: u32) -> bool {
    charge == 0 || charge == OUTSIDE_CHARGE
}

/// On whose account a message goes on: the session that it came by, which is taken out of its place, or that of outside, where
/// nobody keeps it.
pub(super) struct Account<'s>(Option<&'s mut Session>);

impl<'s> Account<'s> {
    #[inline]
    pub fn of(session: &'s mut Session) -> Self {
        Self(Some(session))
    }

    #[inline]
    pub fn outside() -> Self {
        Self(None)
    }

    /// What names it towards associations.
    //= spec/uplink.md#room-for-what-comes-in
    //# Frames from outside that wait for room towards a node MUST wait on one account, which is no member's.
    #[inline]
    pub fn charge(&self) -> u32 {
        self.0.as_ref().map_or(OUTSIDE_CHARGE, |session| session.charge())
    }

    /// The session at `place`; the account's own is not there.
    #[inline]
    pub fn session_at<'a>(
        &'a mut self,
        sessions: &'a mut [Option<Box<Session>>],
        place: usize,
    ) -> Option<&'a mut Session> {
        match &mut sessions[place] {
            Some(other) => Some(other),
            None => self.0.as_deref_mut(),
        }
    }

    /// Keeps the room of the message that the session has given last, until [`super::ControlNode::unhold`]. None: nobody does.
    #[inline]
    pub fn hold(&mut self, is_frame: bool) -> Option<Held> {
        let session = self.0.as_deref_mut()?;
        Some(Held {
            place: session.place,
            charge: session.charge(),
            hold: session.association.hold(),
            is_frame,
        })
    }
}

impl Session {
    pub fn new(
        now: Instant,
        (node, process): (NodeNumber, ProcessId),
        place: usize,
        tag: SessionTag,
        seed: u64,
    ) -> Self {
        Self {
            node,
            process,
            place,
            association: Association::new(&AssociationConfig {
                scheduler: Scheduler::Failover,
                seed,
                park_messages_max: PARK_MESSAGES_MAX,
                park_octets_max: PARK_OCTETS_MAX,
                session: 0,
            }),
            stage: Stage::Proven,
            was_refused: false,
            tag,
            by_channel: [ChannelUse::default(); 256],
            turn: 0,
            gone: Vec::new(),
            heard: now,
            next_check: now + HEARTBEAT_INTERVAL,
            quiet: 0,
            report: Vec::new(),
            reported_drops: Vec::new(),
            memberships: Vec::new(),
            takes_arenas: false,
            arenas_unanswered: Vec::new(),
            offered: Vec::new(),
            waits: Waits::default(),
            packets: None,
        }
    }

    /// Names this session where others hold frames on its account.
    #[inline]
    pub fn charge(&self) -> u32 {
        self.tag.control_node
    }

    /// True while the node has not proven the keys of its packets.
    pub fn is_unproven(&self) -> bool {
        self.packets.as_ref().is_some_and(SessionPackets::is_unproven)
    }

    pub fn is_registered(&self) -> bool {
        self.stage == Stage::Registered
    }

    /// True while the node is attached by shared memory on this fabric, so that sockets can be passed to it there.
    pub fn has_unix_leg(&self, leg: LegNumber) -> bool {
        self.association.legs().any(|status| status.number == leg)
    }

    /// Where the node's packet leg of this kind on this fabric ends.
    pub fn offered_address(&self, leg: LegNumber, kind: LegKind) -> Option<LegAddress> {
        let mut addresses = self.offered.iter().filter(|offered| offered.leg == leg).map(|o| o.address);
        addresses.find(|address| address.kind() == kind)
    }

    pub fn handle_leg_up(&mut self, now: Instant, leg: LegNumber, shm: ShmLeg) {
        self.gone.retain(|&gone| gone != leg);
        self.heard = now;
        self.association.handle_leg_up(now, leg, shm);
    }

    /// Sends on channel 0. When the bounded queue is full, the node has not taken anything for long and its
    /// session is as good as over.
    pub fn send_control(&mut self, now: Instant, message: &ControlMessage) {
        let _ = self.association.send_control(now, &message.emit());
    }

    /// Opens the two channels of a membership.
    pub fn open(&mut self, lan: usize, slot: MemberSlot, relay: Channel, arp: Channel) {
        for channel in [relay, arp] {
            self.by_channel[usize::from(channel.0)] = ChannelUse::new(lan, slot);
            self.association.open_channel(channel);
        }
        self.memberships.push((lan, slot));
    }

    /// Adds a part of a report; true while it is within its bound.
    pub fn add_report(&mut self, items: Vec<ReportItem>) -> bool {
        let fits = self.report.len() + items.len() <= REPORT_ITEMS_MAX;
        if fits {
            self.report.extend(items);
        }
        fits
    }

    /// Looks after the node's heartbeats; true when it has become silent just now.
    pub fn check_silence(&mut self, now: Instant) -> bool {
        if self.next_check > now {
            return false;
        }
        self.next_check = now + HEARTBEAT_INTERVAL;
        self.quiet =
            if now.since(self.heard) < HEARTBEAT_INTERVAL { 0 } else { self.quiet.saturating_add(1) };
        self.quiet == SILENT_INTERVALS
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.gone.is_empty() {
            return Some(Instant::ZERO);
        }
        let packets = self.packets.as_ref().map(SessionPackets::poll_timeout);
        let waits = self.waits.poll_timeout();
        self.association.poll_timeout().into_iter().chain(packets).chain(waits).chain([self.next_check]).min()
    }
}

//! The virtual LAN server: says of each group, relayed or ARP frame who is to have it, or why nobody is.
//!
//! On the walk: a frame arrives here from a member's control RVI, still in the sender's ring; the verdict says
//! which members' rings the control node copies it to (S84, S92, S102, S109).

mod clusters;
mod listeners;
mod membership;
mod options;
mod run;
mod senders;
mod stations;
mod uplink;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::address::{LanId, MacAddress, NodeNumber, ProcessId, VifNumber};
use crate::counters::{DropCounters, FrameCount};
use crate::drop_reason::DropReason;
use crate::ethernet::{EthernetHeader, is_neighbour_resolution};
use crate::group::members::{GroupMembers, GroupRow, MulticastConfig};
use crate::group::{Audience, audience};
use crate::limits::{BSEQ_WINDOW, GRANT_AFTER_FRAMES, GRANT_AFTER_TIME};
use crate::mac_table::MacTable;
pub use crate::security::PortSecurity;
use crate::security::Sender;
use crate::security::rate::Meters;
use crate::time::Instant;
use crate::window::{Window, WindowVerdict};
use crate::wire::control::GroupNotice;
use crate::wire::frame::{FrameHeader, FrameKind};
pub use run::RelayRun;

use stations::Stations;

/// A member of a LAN by its place in that LAN's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberSlot(pub u16);

/// The place of clusters among a LAN's members: no member has it.
pub const CLUSTER: MemberSlot = MemberSlot(u16::MAX - 1);

/// What a LAN is made of.
#[derive(Clone, Debug)]
pub struct LanServerConfig {
    /// The LAN's number.
    pub id: LanId,
    /// Its name, for messages.
    pub name: String,
    /// Its MTU in octets.
    pub mtu: u16,
    /// Which sources are checked.
    pub port_security: PortSecurity,
    /// The members, in the order of their slots.
    pub members: Vec<(NodeNumber, VifNumber, MacAddress)>,
    /// What it does with multicast.
    pub multicast: MulticastConfig,
    /// Seed of the address table.
    pub seed: u64,
}

/// A member and what the server knows of it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The member's node.
    pub node: NodeNumber,
    /// The member's interface in the node.
    pub vif: VifNumber,
    /// Its virtual MAC.
    pub mac: MacAddress,
    /// The process that serves it now; none while the node is not attached.
    pub process: Option<ProcessId>,
    /// Frames taken from it.
    pub ingress: FrameCount,
    /// Frames given to it.
    pub egress: FrameCount,
    /// What its frames are judged by.
    pub(crate) sender: Sender,
    /// What it has sent, where that is limited.
    meters: Option<Box<Meters>>,
    /// Its numbered frames seen so far.
    window: Option<Window>,
}

/// What is to happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to this member.
    Unicast {
        /// The member.
        to: MemberSlot,
        /// The pair has traffic worth a direct RVI (amendment 19).
        worth_direct: bool,
    },
    /// Give it to every attached member but its sender.
    Group,
    /// Give it to every attached member but its sender that [`LanServer::wants`] it.
    Joined(Option<GroupRow>),
    /// Give it to the uplink: nobody of the LAN has its destination.
    Outside,
    /// Give it to the proxy of the cluster with this number.
    Cluster(u16),
    /// Ask the ARP server.
    Arp,
    /// Give it to the promiscuous listener that its header names: [`LanServer::decide_copy`] says whether it may.
    Copy,
    /// Discard it; counted already.
    Drop(DropReason),
}

/// How much one pair of members has sent by relay.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// Both slots, the lower one first; equal (0, 0) when unused, as no member talks to itself.
    pair: (u16, u16),
    frames: u32,
    first: Instant,
}

/// Pairs that are metered at once; a pair that meets another in its place starts again.
const METERS: usize = 4096;

/// The server of one virtual LAN.
#[derive(Clone, Debug)]
pub struct LanServer {
    config: LanServerConfig,
    members: Vec<Member>,
    stations: Stations,
    groups: GroupMembers,
    /// Members that listen promiscuously.
    listeners: Vec<MemberSlot>,
    meters: Box<[Meter]>,
    drops: DropCounters,
    /// Members whose peers are to be told other addresses of them.
    changed_senders: Vec<MemberSlot>,
    /// What nobody of the LAN has may be outside.
    has_uplink: bool,
    /// The MACs of cluster addresses; none on a LAN without clusters.
    clusters: Option<Box<MacTable<u16>>>,
    /// Frames in, clones made and frames out, for the ledger.
    ledger: Ledger,
}

/// The server's side of the ledger: in + clones = out + drops + held, where held frames wait in a bounded
/// queue of the control node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that came in, from outside too.
    pub ingress: u64,
    /// Copies made beyond the frame itself: receivers minus one, for each group frame.
    pub clones: u64,
    /// Frames handed to members' rings, parked ones included.
    pub egress: u64,
    /// Frames given to the uplink.
    pub outside: u64,
    /// Group frames that had no receiver.
    pub no_receiver: u64,
    /// Copies of direct ARP and ND frames, taken for the bindings only.
    pub copies: u64,
}

impl Ledger {
    /// True when every frame that came in, and every clone of one, is accounted for, with `drops` dropped.
    #[must_use]
    pub fn closes(&self, drops: u64) -> bool {
        self.ingress + self.clones == self.egress + self.outside + drops + self.no_receiver + self.copies
    }
}

impl LanServer {
    /// Makes the server of a LAN; no member is attached.
    ///
    /// # Panics
    /// When there are more than 65,534 members: the platform file's check refuses that.
    #[must_use]
    pub fn new(config: LanServerConfig) -> Self {
        assert!(config.members.len() < usize::from(CLUSTER.0), "{} members", config.members.len());
        let mut by_mac = MacTable::new(config.members.len().max(1), config.seed);
        let mut members = Vec::with_capacity(config.members.len());
        for (slot, &(node, vif, mac)) in config.members.iter().enumerate() {
            // The table has room for every member, and the file's check excludes two members with one MAC.
            let _ = by_mac.insert(mac, MemberSlot(slot as u16));
            members.push(Member::new((node, vif, mac)));
        }
        let groups = GroupMembers::new(members.len(), &config.multicast, config.seed);
        Self {
            stations: Stations::new(by_mac, config.seed),
            config,
            members,
            groups,
            listeners: Vec::new(),
            meters: vec![Meter::default(); METERS].into_boxed_slice(),
            drops: DropCounters::default(),
            changed_senders: Vec::new(),
            has_uplink: false,
            clusters: None,
            ledger: Ledger::default(),
        }
    }

    /// The LAN's number.
    #[must_use]
    pub fn id(&self) -> LanId {
        self.config.id
    }

    /// The LAN's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The LAN's MTU.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.config.mtu
    }

    /// Which sources are checked.
    #[must_use]
    pub fn port_security(&self) -> PortSecurity {
        self.config.port_security
    }

    /// The member at `slot`.
    #[must_use]
    pub fn member(&self, slot: MemberSlot) -> Option<&Member> {
        self.members.get(usize::from(slot.0))
    }

    /// Every member with its slot.
    pub fn members(&self) -> impl Iterator<Item = (MemberSlot, &Member)> {
        let slots = self.members.iter().enumerate().map(|(slot, member)| (MemberSlot(slot as u16), member));
        slots.filter(|(_, member)| !member.is_vacant())
    }

    /// Frames dropped here, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// The server's side of the ledger.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// A member's node has registered: its frames are admitted from now on. A new process starts a new
    /// numbering.
    pub fn attach(&mut self, slot: MemberSlot, process: ProcessId) {
        let member = &mut self.members[usize::from(slot.0)];
        if member.process != Some(process) {
            member.window = None;
            self.forget_link_local(slot);
        }
        let member = &mut self.members[usize::from(slot.0)];
        member.process = Some(process);
        // It says anew what it has joined and whether it listens, also when the process is the same.
        self.forget_said(slot);
    }

    /// A member's node has gone.
    pub fn detach(&mut self, slot: MemberSlot) {
        self.members[usize::from(slot.0)].process = None;
        self.stations.forget(slot);
        self.forget_said(slot);
    }

    fn forget_said(&mut self, slot: MemberSlot) {
        self.listeners.retain(|listener| *listener != slot);
        self.groups.forget(slot);
    }

    /// The driver of the member at `slot` says what has been joined behind it. False: part of it is nothing that can be
    /// joined.
    pub fn handle_groups(&mut self, now: Instant, slot: MemberSlot, notice: &GroupNotice) -> bool {
        self.groups.handle_notice(now, slot, notice)
    }

    /// Who has joined which groups. The use count of a group is the number of its members (S112).
    #[must_use]
    pub fn groups(&self) -> &GroupMembers {
        &self.groups
    }

    /// True when the member gets frames of the group that [`Verdict::Joined`] named.
    #[inline]
    #[must_use]
    pub fn wants(&self, row: Option<GroupRow>, slot: MemberSlot) -> bool {
        self.groups.wants(row, slot)
    }

    /// Decides about a frame of `frame_len` octets that came from the member at `from`; `head` holds its first
    /// octets in private memory. The frame is counted here; a drop is counted under its reason.
    #[inline]
    pub fn handle_frame(
        &mut self,
        now: Instant,
        from: MemberSlot,
        header: &FrameHeader,
        head: &[u8],
        frame_len: usize,
    ) -> Verdict {
        self.ledger.ingress += 1;
        let admitted = self.admit(now, from, header, head, frame_len).and_then(|ethernet| {
            self.limit(now, from, &ethernet, header, frame_len)?;
            Ok(ethernet)
        });
        match admitted {
            Ok(ethernet) => self.decide(now, from, header.kind, &ethernet, head),
            Err(reason) => self.drop(reason),
        }
    }

    /// Counts a frame as dropped after the verdict, where the control node found no way to deliver it.
    pub fn drop(&mut self, reason: DropReason) -> Verdict {
        self.drops.add(reason);
        Verdict::Drop(reason)
    }

    /// Counts a message that came in and was no frame at all, or none that can be judged.
    pub fn drop_unread(&mut self, reason: DropReason) {
        self.ledger.ingress += 1;
        self.drops.add(reason);
    }

    /// Counts a copy of a direct ARP or ND frame that went no further.
    pub fn copy_taken(&mut self) {
        self.ledger.copies += 1;
    }

    /// Counts `frames` that had been handed to a member's queue and were lost there.
    pub fn lost_after_delivery(&mut self, reason: DropReason, frames: u64) {
        self.ledger.egress -= frames;
        self.drops.add_many(reason, frames);
    }

    /// Counts a frame that was handed to the ring of the member at `to`.
    #[inline]
    pub fn delivered(&mut self, to: MemberSlot, frame_len: usize) {
        self.ledger.egress += 1;
        self.members[usize::from(to.0)].egress.add(frame_len);
    }

    /// Counts the copies of a group frame that had `receivers` takers or losers.
    pub fn cloned(&mut self, receivers: usize) {
        match receivers {
            0 => self.ledger.no_receiver += 1,
            n => self.ledger.clones += n as u64 - 1,
        }
    }

    //= spec/server.md#admission
    //# The server MUST discard a frame whose LAN, origin node, origin interface or process is not that of the
    //# member whose channel it came by.
    #[inline]
    fn admit(
        &mut self,
        now: Instant,
        from: MemberSlot,
        header: &FrameHeader,
        head: &[u8],
        frame_len: usize,
    ) -> Result<EthernetHeader, DropReason> {
        let member = self.members.get_mut(usize::from(from.0)).ok_or(DropReason::NotMember)?;
        let Some(process) = member.process else { return Err(DropReason::NotMember) };
        if header.lan != self.config.id || header.origin != member.node || header.origin_vif != member.vif {
            return Err(DropReason::WrongGrant);
        }
        if header.boot != process.boot_tag() {
            return Err(DropReason::StaleBoot);
        }
        if header.kind == FrameKind::Unicast {
            return Err(DropReason::Malformed);
        }
        let ethernet = EthernetHeader::parse(head).ok_or(DropReason::TooShort)?;
        header.vnet.check(self.config.mtu, frame_len)?;
        //= spec/server.md#port-security
        //# Under port security the server MUST discard a frame whose source MAC is neither the sending interface's own nor
        //# that of a station learned behind it.
        if self.config.port_security == PortSecurity::Off {
            if !ethernet.source.is_station() {
                return Err(DropReason::BadSource);
            }
            if ethernet.source != member.mac {
                // Where nothing is checked, who finds no room is not learned, and that is all.
                let _ = self.stations.hear(now, from, ethernet.source);
            }
        } else {
            if ethernet.source != member.mac {
                self.stations.hear(now, from, ethernet.source)?;
            }
            check_claims(self.config.port_security, &member.sender, &ethernet, head, frame_len)?;
        }
        //= spec/server.md#numbered-frames
        //# The server MUST take each numbered frame of an origin at most once.
        let window = member.window.get_or_insert_with(|| Window::around(BSEQ_WINDOW, header.bseq));
        match window.insert(header.bseq) {
            WindowVerdict::New => {
                member.ingress.add(frame_len);
                Ok(ethernet)
            }
            WindowVerdict::Duplicate => Err(DropReason::Duplicate),
            WindowVerdict::TooOld => Err(DropReason::OutOfWindow),
        }
    }

    #[inline]
    fn decide(
        &mut self,
        now: Instant,
        from: MemberSlot,
        kind: FrameKind,
        ethernet: &EthernetHeader,
        head: &[u8],
    ) -> Verdict {
        if kind == FrameKind::Promiscuous {
            return Verdict::Copy;
        }
        if is_neighbour_resolution(ethernet.ethertype, head) {
            return Verdict::Arp;
        }
        if kind == FrameKind::Arp {
            return self.drop(DropReason::BadArp);
        }
        if ethernet.destination.is_group() {
            return self.decide_group(ethernet, head);
        }
        self.decide_station(now, from, ethernet.destination)
    }

    /// The verdict for a frame to the station with this MAC.
    #[inline]
    pub fn decide_station(&mut self, now: Instant, from: MemberSlot, station: MacAddress) -> Verdict {
        if let Some(cluster) = self.clusters.as_ref().and_then(|clusters| clusters.lookup(station)) {
            return Verdict::Cluster(cluster);
        }
        match self.stations.slot_of(station) {
            Some(to) => self.decide_unicast(now, from, to),
            None if self.has_uplink => Verdict::Outside,
            None => self.drop(DropReason::UnknownDestination),
        }
    }

    //= spec/multicast.md#reports
    //# The server MUST give reports of IGMP and MLD to the members that get every group, and to nobody else.
    #[inline]
    fn decide_group(&self, ethernet: &EthernetHeader, head: &[u8]) -> Verdict {
        if self.config.multicast.floods {
            return Verdict::Group;
        }
        match audience(ethernet, head) {
            Audience::Everybody => Verdict::Group,
            Audience::Routers => Verdict::Joined(None),
            Audience::Joined(group) => Verdict::Joined(self.groups.lookup(group)),
        }
    }

    /// The verdict for a frame to the member at `to`, metered for its pair.
    #[inline]
    pub fn decide_unicast(&mut self, now: Instant, from: MemberSlot, to: MemberSlot) -> Verdict {
        if to == from {
            return self.drop(DropReason::Hairpin);
        }
        if self.members[usize::from(to.0)].process.is_none() {
            return self.drop(DropReason::NotAttached);
        }
        Verdict::Unicast { to, worth_direct: self.meter(now, from, to, 1) }
    }

    //= spec/server.md#direct-rvis
    //# The server MUST report a pair as worth a direct RVI after 64 relayed frames, or when a frame comes 10 ms or
    //# more after the pair's first.
    #[inline]
    fn meter(&mut self, now: Instant, from: MemberSlot, to: MemberSlot, frames: u32) -> bool {
        let pair = (from.0.min(to.0), from.0.max(to.0));
        let place = (usize::from(pair.0) * 61 + usize::from(pair.1)) % METERS;
        let meter = &mut self.meters[place];
        if meter.pair != pair {
            *meter = Meter { pair, frames: 0, first: now };
        }
        meter.frames = meter.frames.saturating_add(frames);
        let worth = meter.frames >= GRANT_AFTER_FRAMES || now.since(meter.first) >= GRANT_AFTER_TIME;
        if worth {
            // Asked again only after as much traffic again: the control node may have said no.
            *meter = Meter { pair, frames: 0, first: now };
        }
        worth
    }
}

/// ARP and ND are judged whole, by [`LanServer::check_resolution`].
#[inline]
fn check_claims(
    security: PortSecurity,
    sender: &Sender,
    ethernet: &EthernetHeader,
    head: &[u8],
    frame_len: usize,
) -> Result<(), DropReason> {
    if sender.is_plain(security, head) || is_neighbour_resolution(ethernet.ethertype, head) {
        return Ok(());
    }
    // A probe behind a tag or an extension header: nobody answers those.
    let wanted = sender.check(security, head, frame_len)?;
    if wanted.is_some() { Err(DropReason::SourceAddress) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

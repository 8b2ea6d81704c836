//! The virtual LAN server: says of each group, relayed or ARP frame who is to have it, or why nobody is.
//!
//! On the walk: a frame arrives here from a member's control RVI, still in the sender's ring; the verdict says
//! which members' rings the control node copies it to (S84, S92, S102, S109).

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
use crate::limits::{BSEQ_WINDOW, ETHERNET_HEADER_LEN, FRAME_LEN_MAX, GRANT_AFTER_FRAMES, GRANT_AFTER_TIME};
use crate::mac_table::MacTable;
use crate::time::Instant;
use crate::window::{Window, WindowVerdict};
use crate::wire::control::GroupNotice;
use crate::wire::frame::{FrameHeader, FrameKind};

/// A member of a LAN by its place in that LAN's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberSlot(pub u16);

/// Whether source addresses are checked (E12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSecurity {
    /// Any station address may be a source.
    Off,
    /// The source MAC must be the interface's own.
    Mac,
    /// The source MAC and the IP addresses must be the interface's own.
    Address,
}

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
    /// Ask the ARP server.
    Arp,
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
    by_mac: MacTable<MemberSlot>,
    groups: GroupMembers,
    meters: Box<[Meter]>,
    drops: DropCounters,
    /// Frames in, clones made and frames out, for the ledger.
    ledger: Ledger,
}

/// The server's side of the ledger: in + clones = out + drops + held, where held frames wait in a bounded
/// queue of the control node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that came in.
    pub ingress: u64,
    /// Copies made beyond the frame itself: receivers minus one, for each group frame.
    pub clones: u64,
    /// Frames handed to members' rings, parked ones included.
    pub egress: u64,
    /// Group frames that had no receiver.
    pub no_receiver: u64,
    /// Copies of direct ARP and ND frames, taken for the bindings only.
    pub copies: u64,
}

impl Ledger {
    /// True when every frame that came in, and every clone of one, is accounted for, with `drops` dropped.
    #[must_use]
    pub fn closes(&self, drops: u64) -> bool {
        self.ingress + self.clones == self.egress + drops + self.no_receiver + self.copies
    }
}

impl LanServer {
    /// Makes the server of a LAN; no member is attached.
    ///
    /// # Panics
    /// When there are more than 65,535 members: the platform file's check refuses that.
    #[must_use]
    pub fn new(config: LanServerConfig) -> Self {
        assert!(config.members.len() < usize::from(u16::MAX), "{} members", config.members.len());
        let mut by_mac = MacTable::new(config.members.len().max(1), config.seed);
        let mut members = Vec::with_capacity(config.members.len());
        for (slot, &(node, vif, mac)) in config.members.iter().enumerate() {
            // The table has room for every member, and the file's check excludes two members with one MAC.
            let _ = by_mac.insert(mac, MemberSlot(slot as u16));
            let (ingress, egress) = (FrameCount::default(), FrameCount::default());
            members.push(Member { node, vif, mac, process: None, ingress, egress, window: None });
        }
        let groups = GroupMembers::new(members.len(), &config.multicast, config.seed);
        Self {
            config,
            members,
            by_mac,
            groups,
            meters: vec![Meter::default(); METERS].into_boxed_slice(),
            drops: DropCounters::default(),
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
        self.members.iter().enumerate().map(|(slot, member)| (MemberSlot(slot as u16), member))
    }

    /// The slot of the member with this address.
    #[inline]
    #[must_use]
    pub fn slot_of(&self, mac: MacAddress) -> Option<MemberSlot> {
        self.by_mac.lookup(mac)
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
        }
        member.process = Some(process);
        // It says anew what it has joined, also when the process is the same.
        self.groups.forget(slot);
    }

    /// A member's node has gone.
    pub fn detach(&mut self, slot: MemberSlot) {
        self.members[usize::from(slot.0)].process = None;
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
        match self.admit(from, header, head, frame_len) {
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
        check_length(header, frame_len, self.config.mtu)?;
        //= spec/server.md#port-security
        //# Under port security the server MUST discard a frame whose source MAC is not the sending interface's own.
        if self.config.port_security == PortSecurity::Off {
            if !ethernet.source.is_station() {
                return Err(DropReason::BadSource);
            }
        } else if ethernet.source != member.mac {
            return Err(DropReason::SourceMac);
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
        if is_neighbour_resolution(ethernet.ethertype, head) {
            return Verdict::Arp;
        }
        if kind == FrameKind::Arp {
            return self.drop(DropReason::BadArp);
        }
        if ethernet.destination.is_group() {
            return self.decide_group(ethernet, head);
        }
        match self.by_mac.lookup(ethernet.destination) {
            Some(to) => self.decide_unicast(now, from, to),
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
        Verdict::Unicast { to, worth_direct: self.meter(now, from, to) }
    }

    //= spec/server.md#direct-rvis
    //# The server MUST report a pair as worth a direct RVI after 64 relayed frames, or when a frame comes 10 ms or
    //# more after the pair's first.
    #[inline]
    fn meter(&mut self, now: Instant, from: MemberSlot, to: MemberSlot) -> bool {
        let pair = (from.0.min(to.0), from.0.max(to.0));
        let place = (usize::from(pair.0) * 61 + usize::from(pair.1)) % METERS;
        let meter = &mut self.meters[place];
        if meter.pair != pair {
            *meter = Meter { pair, frames: 1, first: now };
            return false;
        }
        meter.frames += 1;
        let worth = meter.frames >= GRANT_AFTER_FRAMES || now.since(meter.first) >= GRANT_AFTER_TIME;
        if worth {
            // Asked again only after as much traffic again: the control node may have said no.
            *meter = Meter { pair, frames: 0, first: now };
        }
        worth
    }
}

/// Refuses what no interface of the LAN could have sent: a plain frame beyond the MTU, or offload state that
/// does not fit the frame.
fn check_length(header: &FrameHeader, frame_len: usize, mtu: u16) -> Result<(), DropReason> {
    // Four octets of slack for one 802.1Q tag, as on any Ethernet (IEEE 802.3, 3.2.7).
    let plain_max = usize::from(mtu) + ETHERNET_HEADER_LEN + 4;
    let len_max = if header.vnet.gso_type == 0 { plain_max } else { FRAME_LEN_MAX };
    if frame_len > len_max {
        return Err(DropReason::TooLong);
    }
    if !header.vnet.is_valid_for(frame_len) {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::BootTag;
    use crate::group::message::tests::old_report;
    use crate::group::testing::{datagram, group};
    use crate::wire::control::{GroupCause, JoinedGroup};
    use crate::wire::frame::Vnet;
    use core::time::Duration;

    const LAN: LanId = LanId(10);

    fn mac(n: u8) -> MacAddress {
        MacAddress([2, 0, 1, 0, 0, n])
    }

    fn server(port_security: PortSecurity) -> LanServer {
        let members = (1..=3).map(|n| (NodeNumber(n.into()), VifNumber(1), mac(n))).collect();
        let mut server = LanServer::new(LanServerConfig {
            id: LAN,
            name: "red".into(),
            mtu: 1500,
            port_security,
            members,
            multicast: MulticastConfig::default(),
            seed: 5,
        });
        for slot in 0..3 {
            server.attach(MemberSlot(slot), ProcessId(100 + u64::from(slot)));
        }
        server
    }

    fn header(bseq: u32) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Relay,
            flags: 0,
            lan: LAN,
            origin: NodeNumber(1),
            origin_vif: VifNumber(1),
            destination_vif: VifNumber(0),
            vnet: Vnet::default(),
            boot: BootTag(100),
            bseq,
        }
    }

    fn frame(destination: MacAddress, source: MacAddress) -> [u8; 60] {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&source.0);
        frame[12] = 8;
        frame
    }

    fn verdict(server: &mut LanServer, header: &FrameHeader, frame: &[u8]) -> Verdict {
        server.handle_frame(Instant::ZERO, MemberSlot(0), header, frame, frame.len())
    }

    #[test]
    fn a_member_reaches_a_member_and_a_group_reaches_all() {
        let mut server = server(PortSecurity::Mac);
        let to = Verdict::Unicast { to: MemberSlot(1), worth_direct: false };
        assert_eq!(verdict(&mut server, &header(0), &frame(mac(2), mac(1))), to);
        assert_eq!(verdict(&mut server, &header(1), &frame(MacAddress::BROADCAST, mac(1))), Verdict::Group);
    }

    #[test]
    fn a_group_reaches_those_who_have_joined_it_and_reports_reach_routers() {
        //= spec/multicast.md#joined-members
        //= type=test
        //# The server MUST give a frame of a snooped group to the members that have joined it and to those that get every
        //# group, once to each and never to its sender, and to nobody else.
        //= spec/multicast.md#reports
        //= type=test
        //# The server MUST give reports of IGMP and MLD to the members that get every group, and to nobody else.
        let mut server = server(PortSecurity::Mac);
        let stream = datagram("239.1.1.1");
        let joined = JoinedGroup { group: "239.1.1.1".parse().unwrap(), cause: GroupCause::Own };
        let says = |joined: Vec<JoinedGroup>, every_group| GroupNotice {
            vif: VifNumber(1),
            more: false,
            every_group,
            joined,
            left: vec![],
        };
        server.handle_groups(Instant::ZERO, MemberSlot(0), &says(vec![], false));
        server.handle_groups(Instant::ZERO, MemberSlot(1), &says(vec![joined], false));
        let mut number = 0;
        let mut takers = |server: &mut LanServer, frame: &[u8]| {
            number += 1;
            match verdict(server, &header(number), frame) {
                Verdict::Joined(row) => [0, 1, 2].map(|slot| server.wants(row, MemberSlot(slot))),
                other => panic!("{other:?}"),
            }
        };
        let mut report = old_report(group("239.1.1.1"), false);
        report[6..12].copy_from_slice(&mac(1).0);
        assert_eq!(takers(&mut server, &stream), [false, true, true], "the third has said nothing yet");
        assert_eq!(takers(&mut server, &report), [false, false, true]);
        server.handle_groups(Instant::ZERO, MemberSlot(2), &says(vec![], false));
        assert_eq!(takers(&mut server, &stream), [false, true, false]);
        assert_eq!(takers(&mut server, &report), [false; 3]);
        server.attach(MemberSlot(1), ProcessId(101));
        server.handle_groups(Instant::ZERO, MemberSlot(1), &says(vec![], false));
        assert_eq!(takers(&mut server, &stream), [false; 3], "another session begins with nothing");
        server.config.multicast.floods = true;
        assert_eq!(verdict(&mut server, &header(99), &stream), Verdict::Group);
    }

    #[test]
    fn frames_that_do_not_match_their_channel_are_dropped() {
        //= spec/server.md#admission
        //= type=test
        //# The server MUST discard a frame whose LAN, origin node, origin interface or process is not that of the
        //# member whose channel it came by.
        let mut server = server(PortSecurity::Mac);
        let good = frame(mac(2), mac(1));
        for (wrong, reason) in [
            (FrameHeader { lan: LanId(11), ..header(0) }, DropReason::WrongGrant),
            (FrameHeader { origin: NodeNumber(2), ..header(0) }, DropReason::WrongGrant),
            (FrameHeader { origin_vif: VifNumber(2), ..header(0) }, DropReason::WrongGrant),
            (FrameHeader { boot: BootTag(7), ..header(0) }, DropReason::StaleBoot),
            (FrameHeader { kind: FrameKind::Unicast, ..header(0) }, DropReason::Malformed),
        ] {
            assert_eq!(verdict(&mut server, &wrong, &good), Verdict::Drop(reason));
            assert_eq!(server.drops().of(reason), server.drops().of(reason).max(1));
        }
        server.detach(MemberSlot(0));
        assert_eq!(verdict(&mut server, &header(0), &good), Verdict::Drop(DropReason::NotMember));
    }

    #[test]
    fn a_foreign_source_mac_is_dropped_under_port_security() {
        //= spec/server.md#port-security
        //= type=test
        //# Under port security the server MUST discard a frame whose source MAC is not the sending interface's own.
        let forged = frame(mac(2), mac(3));
        let mut checked = server(PortSecurity::Mac);
        assert_eq!(verdict(&mut checked, &header(0), &forged), Verdict::Drop(DropReason::SourceMac));
        let mut open = server(PortSecurity::Off);
        assert!(matches!(verdict(&mut open, &header(0), &forged), Verdict::Unicast { .. }));
        let group_source = frame(mac(2), MacAddress([3, 0, 0, 0, 0, 1]));
        assert_eq!(verdict(&mut open, &header(1), &group_source), Verdict::Drop(DropReason::BadSource));
    }

    #[test]
    fn a_numbered_frame_is_taken_once_and_a_new_process_numbers_anew() {
        //= spec/server.md#numbered-frames
        //= type=test
        //# The server MUST take each numbered frame of an origin at most once.
        let mut server = server(PortSecurity::Mac);
        let good = frame(mac(2), mac(1));
        assert!(matches!(verdict(&mut server, &header(7), &good), Verdict::Unicast { .. }));
        assert_eq!(verdict(&mut server, &header(7), &good), Verdict::Drop(DropReason::Duplicate));
        // The first to come had overtaken another.
        assert!(matches!(verdict(&mut server, &header(6), &good), Verdict::Unicast { .. }));
        assert_eq!(verdict(&mut server, &header(6), &good), Verdict::Drop(DropReason::Duplicate));
        server.attach(MemberSlot(0), ProcessId(200));
        let header = FrameHeader { boot: BootTag(200), ..header(7) };
        assert!(matches!(verdict(&mut server, &header, &good), Verdict::Unicast { .. }));
    }

    #[test]
    fn a_pair_is_worth_a_direct_rvi_by_frames_or_by_time() {
        //= spec/server.md#direct-rvis
        //= type=test
        //# The server MUST report a pair as worth a direct RVI after 64 relayed frames, or when a frame comes 10 ms or
        //# more after the pair's first.
        let worth = |v| matches!(v, Verdict::Unicast { worth_direct: true, .. });
        let mut server = server(PortSecurity::Mac);
        let good = frame(mac(2), mac(1));
        for bseq in 0..63 {
            assert!(!worth(verdict(&mut server, &header(bseq), &good)), "frame {bseq}");
        }
        assert!(worth(verdict(&mut server, &header(63), &good)));
        let other = frame(mac(3), mac(1));
        let first = Instant::from_nanos(1);
        assert!(!worth(server.handle_frame(first, MemberSlot(0), &header(64), &other, 60)));
        let later = first + Duration::from_millis(10);
        assert!(worth(server.handle_frame(later, MemberSlot(0), &header(65), &other, 60)));
    }

    #[test]
    fn lengths_beyond_the_mtu_need_segmentation_state() {
        let mut server = server(PortSecurity::Mac);
        let good = frame(mac(2), mac(1));
        let long = server.handle_frame(Instant::ZERO, MemberSlot(0), &header(0), &good, 1519);
        assert_eq!(long, Verdict::Drop(DropReason::TooLong));
        let vnet = Vnet {
            flags: Vnet::NEEDS_CSUM,
            gso_type: 1,
            hdr_len: 54,
            gso_size: 1446,
            csum_start: 34,
            csum_offset: 16,
        };
        let header = FrameHeader { vnet: Vnet { csum_start: 58, ..vnet }, ..header(1) };
        let whole = server.handle_frame(Instant::ZERO, MemberSlot(0), &header, &good, 65_000);
        assert!(matches!(whole, Verdict::Unicast { .. }));
        let arp = FrameHeader { kind: FrameKind::Arp, vnet: Vnet::default(), bseq: 9, ..header };
        assert_eq!(verdict(&mut server, &arp, &good), Verdict::Drop(DropReason::BadArp), "no ARP inside");
        let unknown = verdict(&mut server, &FrameHeader { bseq: 2, ..header }, &frame(mac(9), mac(1)));
        assert_eq!(unknown, Verdict::Drop(DropReason::Malformed), "sums beyond a short frame");
    }

    #[test]
    fn frames_to_nobody_to_oneself_and_to_the_absent_are_counted_apart() {
        let mut server = server(PortSecurity::Mac);
        let drop = |v, reason| assert_eq!(v, Verdict::Drop(reason));
        drop(verdict(&mut server, &header(0), &frame(mac(9), mac(1))), DropReason::UnknownDestination);
        drop(verdict(&mut server, &header(1), &frame(mac(1), mac(1))), DropReason::Hairpin);
        server.detach(MemberSlot(1));
        drop(verdict(&mut server, &header(2), &frame(mac(2), mac(1))), DropReason::NotAttached);
        assert!(server.ledger().closes(server.drops().total()));
    }
}

//! Sequences of registrations and frames into a virtual LAN server and its ARP server, composed as a control
//! node composes them: the ledger closes, nothing reaches a member that is not there, nothing is taken twice.

use arp_server::{ArpConfig, ArpServer, ArpVerdict};
use vlan_core::group::members::Joined;
use vlan_core::server::{LanServer, LanServerConfig, MemberSlot, PortSecurity, Verdict};
use vlan_core::wire::control::{GroupCause, GroupNotice, JoinedGroup};
use vlan_core::wire::{FrameHeader, FrameKind, Vnet};
use vlan_core::{BootTag, Instant, LanId, MacAddress, NodeNumber, ProcessId, VifNumber};

use crate::numbers::Numbers;
use crate::script::{Script, mac};

/// The MAC of a cluster address.
const CLUSTER: MacAddress = MacAddress([2, 0, 1, 0, 0, 0xc1]);

/// Where what comes from outside comes from: no member's place.
const OUTSIDE: MemberSlot = MemberSlot(u16::MAX);
const LAN: LanId = LanId(10);
const MEMBERS: u8 = 4;

struct Run {
    server: LanServer,
    arp: ArpServer,
    /// Which numbered frames each member's process has had taken.
    taken: Vec<Numbers>,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let port_security = match script.below(3) {
        Some(0) => PortSecurity::Off,
        Some(1) => PortSecurity::Mac,
        Some(_) => PortSecurity::Address,
        None => return,
    };
    let mut run = start(port_security);
    while let Some(()) = run.step(&mut script) {
        run.check_ledger();
    }
}

fn start(port_security: PortSecurity) -> Run {
    let members = (0..MEMBERS).map(|n| (NodeNumber(u16::from(n) + 1), VifNumber(1), mac(n))).collect();
    let config = LanServerConfig {
        id: LAN,
        name: "red".into(),
        mtu: 1500,
        port_security,
        members,
        multicast: Default::default(),
        seed: 3,
    };
    let mut server = LanServer::new(config);
    server.set_clusters(&[(CLUSTER, 0)]);
    Run {
        server,
        arp: ArpServer::new(&ArpConfig { capacity: 64, suppress: true }),
        taken: vec![Numbers::default(); MEMBERS.into()],
        now: Instant::ZERO,
    }
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let operation = script.below(11)?;
        let member = script.below(MEMBERS)?;
        let slot = MemberSlot(member.into());
        match operation {
            0 => {
                let process = ProcessId(script.below(4)?.into());
                if self.server.member(slot)?.process != Some(process) {
                    self.taken[usize::from(member)].clear();
                }
                self.server.attach(slot, process);
            }
            1 => {
                // What comes back may be the same process: its numbering goes on only while it stays attached.
                self.server.detach(slot);
                self.taken[usize::from(member)].clear();
                self.arp.forget(slot);
            }
            2 => script.advance(&mut self.now)?,
            7 => self.groups(script, slot)?,
            8 => {
                let listens = script.flag()?;
                assert!(self.server.set_listens(slot, listens) && self.server.listens(slot) == listens);
            }
            9 => self.server.set_uplink(script.flag()?),
            10 => self.from_outside(script, slot)?,
            _ => self.frame(script, slot)?,
        }
        Some(())
    }

    /// A frame that an uplink has let in, to a member or to a group.
    fn from_outside(&mut self, script: &mut Script<'_>, to: MemberSlot) -> Option<()> {
        let source = MacAddress([0x52, 0, 0, 0, 0, 1]);
        let frame = frame(script, source)?;
        let is_group = frame.first().is_some_and(|octet| octet & 1 != 0);
        let verdict = match is_group {
            true => self.server.decide_group_from_outside(&frame),
            false => self.server.decide_from_outside(to),
        };
        assert!(!matches!(verdict, Verdict::Outside | Verdict::Copy), "what came from outside goes there");
        match verdict {
            // It has no binding to give, and goes to everybody.
            Verdict::Arp => self.flood(OUTSIDE, frame.len(), |_, _| true),
            verdict => self.deliver(verdict, OUTSIDE, &frame, frame.len(), source),
        }
        Some(())
    }

    /// A member joins a group, leaves it, or asks for every group.
    fn groups(&mut self, script: &mut Script<'_>, from: MemberSlot) -> Option<()> {
        let group = [239, 1, 1, script.octet()?].into();
        let joined = JoinedGroup { group, cause: GroupCause::Reported };
        let (joins, leaves) = (script.flag()?, script.flag()?);
        let notice = GroupNotice {
            vif: VifNumber(1),
            more: script.flag()?,
            every_group: script.flag()?,
            joined: Vec::from_iter(joins.then_some(joined)),
            left: Vec::from_iter(leaves.then_some(group)),
        };
        assert!(self.server.handle_groups(self.now, from, &notice));
        let lists = |joined: &[Joined]| joined.iter().any(|joined| joined.slot == from);
        let is_member =
            self.server.groups().groups().any(|(g, joined)| g.address() == group && lists(joined));
        assert!(is_member == joins || !joins && !leaves);
        Some(())
    }

    fn frame(&mut self, script: &mut Script<'_>, from: MemberSlot) -> Option<()> {
        let source = if script.below(8)? == 0 { mac(script.octet()?) } else { mac(from.0 as u8) };
        let header = header(script, from)?;
        let frame = frame(script, source)?;
        let frame_len = frame.len() + usize::from(script.octet()? == 0) * 1500;
        let before = self.server.member(from)?.ingress.frames;
        let verdict = self.server.handle_frame(self.now, from, &header, &frame, frame_len);
        if self.server.member(from)?.ingress.frames > before {
            self.taken[usize::from(from.0)].note(header.bseq);
        }
        self.deliver(verdict, from, &frame, frame_len, source);
        Some(())
    }

    fn deliver(
        &mut self,
        verdict: Verdict,
        from: MemberSlot,
        frame: &[u8],
        frame_len: usize,
        source: MacAddress,
    ) {
        match verdict {
            Verdict::Unicast { to, .. } => {
                let member = self.server.member(to).expect("a verdict names a member");
                assert!(member.process.is_some() && to != from);
                self.server.delivered(to, frame_len);
            }
            Verdict::Group => self.flood(from, frame_len, |_, _| true),
            Verdict::Joined(row) => self.flood(from, frame_len, |server, slot| server.wants(row, slot)),
            Verdict::Arp => match self.judged(frame, from, source) {
                ArpVerdict::Flood { .. } => self.flood(from, frame_len, |_, _| true),
                ArpVerdict::Answer { frame, .. } => self.server.delivered(from, frame.len()),
                ArpVerdict::Unicast { to, .. } => {
                    let verdict = self.server.decide_station(self.now, from, to);
                    assert!(!matches!(verdict, Verdict::Arp));
                    self.deliver(verdict, from, frame, frame_len, source);
                }
                ArpVerdict::Drop(reason) => {
                    let _ = self.server.drop(reason);
                }
            },
            Verdict::Copy => {
                let listener = (NodeNumber(u16::from(source.0[5])), VifNumber(1));
                let verdict = self.server.decide_copy(self.now, from, listener);
                if let Verdict::Unicast { to, .. } = verdict {
                    assert!(self.server.listens(to), "a copy for somebody who does not listen");
                }
                self.deliver(verdict, from, frame, frame_len, source);
            }
            Verdict::Outside => {
                assert!(self.server.has_uplink());
                self.server.given_outside();
            }
            // As good as answered by its proxy.
            Verdict::Cluster(number) => {
                assert_eq!(self.server.cluster_of(CLUSTER), Some(number));
                self.server.delivered(from, frame_len);
            }
            Verdict::Drop(_) => {}
        }
    }

    /// Both judges of a resolution message, as a control node asks them.
    fn judged(&mut self, frame: &[u8], from: MemberSlot, source: MacAddress) -> ArpVerdict {
        match self.server.check_resolution(from, frame) {
            Ok(()) => self.arp.handle_frame(frame, from, source),
            Err(reason) => ArpVerdict::Drop(reason),
        }
    }

    fn flood(&mut self, from: MemberSlot, frame_len: usize, wants: impl Fn(&LanServer, MemberSlot) -> bool) {
        let receivers: Vec<MemberSlot> = self
            .server
            .members()
            .filter(|(slot, member)| *slot != from && member.process.is_some())
            .filter(|(slot, _)| wants(&self.server, *slot))
            .map(|(slot, _)| slot)
            .collect();
        let goes_outside = self.server.has_uplink() && from != OUTSIDE;
        self.server.cloned(receivers.len() + usize::from(goes_outside));
        if goes_outside {
            self.server.given_outside();
        }
        for to in receivers {
            self.server.delivered(to, frame_len);
        }
    }

    fn check_ledger(&self) {
        let ledger = self.server.ledger();
        let out = ledger.egress + ledger.outside + ledger.no_receiver + self.server.drops().total();
        assert_eq!(ledger.ingress + ledger.clones, out);
        let taken: u64 = self.server.members().map(|(_, m)| m.ingress.frames).sum();
        let given: u64 = self.server.members().map(|(_, m)| m.egress.frames).sum();
        assert!(taken <= ledger.ingress && given == ledger.egress);
    }
}

/// A header that is right for `from` but for one field, at most.
fn header(script: &mut Script<'_>, from: MemberSlot) -> Option<FrameHeader> {
    const KINDS: [FrameKind; 5] =
        [FrameKind::Group, FrameKind::Relay, FrameKind::Arp, FrameKind::Unicast, FrameKind::Promiscuous];
    let mut header = FrameHeader {
        kind: KINDS[usize::from(script.below(5)?)],
        flags: 0,
        lan: LAN,
        origin: NodeNumber(from.0 + 1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(script.below(4)?.into()),
        bseq: script.octet()?.into(),
    };
    match script.below(16)? {
        0 => header.lan = LanId(script.u16()?),
        1 => header.origin = NodeNumber(script.u16()?),
        2 => header.origin_vif = VifNumber(script.u16()?),
        3 => header.bseq = script.u32()?,
        4 => header.vnet = script.octets(10)?.first_chunk().map(Vnet::parse)?,
        _ => {}
    }
    Some(header)
}

/// A frame to a member, to a group or to nobody: IPv4, ARP, or what the script says.
fn frame(script: &mut Script<'_>, source: MacAddress) -> Option<Vec<u8>> {
    let destination = match script.octet()? {
        255 => MacAddress::BROADCAST,
        254 => MacAddress([1, 0, 0x5e, 1, 1, 1]),
        n => mac(n % 6),
    };
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    match script.below(6)? {
        0 => {
            frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + script.below(3)?]);
            frame[22..28].copy_from_slice(&source.0);
            frame[28..32].copy_from_slice(&[10, 1, 0, script.octet()?]);
            frame[38..42].copy_from_slice(&[10, 1, 0, script.octet()?]);
        }
        1 => frame.truncate(script.octet()?.into()),
        2 => frame[12..].copy_from_slice(script.octets(48)?),
        _ => frame[12..14].copy_from_slice(&[8, 0]),
    }
    Some(frame)
}

/// Two members that attach and talk in every way.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let attach: &[u8] = &[0, 0, 1, 0, 1, 2];
    // Operation, member, own source; kind, boot, number, no change; destination, content.
    let unicast: &[u8] = &[3, 0, 1, 1, 1, 7, 9, 1, 5, 1];
    let group: &[u8] = &[3, 0, 1, 0, 1, 8, 9, 255, 5, 1];
    let request: &[u8] = &[3, 0, 1, 2, 1, 9, 9, 255, 0, 0, 1, 2, 1];
    let reply: &[u8] = &[3, 1, 1, 2, 2, 9, 9, 0, 0, 1, 2, 1, 1];
    let restart: &[u8] = &[1, 0, 0, 0, 3];
    let talk = [&[1][..], attach, unicast, group, request, reply, restart, unicast];
    let open = [&[0][..], attach, unicast, &[2, 0, 0, 0x40], unicast, group];
    let datagram: &[u8] = &[3, 0, 1, 0, 1, 10, 9, 254, 2, 8, 0, 0x45];
    let to_group = [datagram, &[0; 15], &[239, 1, 1, 1], &[0; 26]].concat();
    let joins = [&[1][..], attach, &[7, 1, 1, 1, 0, 0, 0], &to_group, &[7, 1, 1, 0, 1, 0, 0]];
    vec![talk.concat(), open.concat(), joins.concat()]
}

//! Messages of IGMP, MLD and PIM, true and spoiled, into the listener of an interface, and its notices into the table of a
//! LAN server: both must agree on who has joined what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vlan_core::ethernet::EthernetHeader;
use vlan_core::group::listener::{Listener, QUERIES_MAX};
use vlan_core::group::members::{GroupMembers, MulticastConfig};
use vlan_core::group::message::{Change, GroupMessage};
use vlan_core::group::query::{QUERIER_IPV6, query};
use vlan_core::group::{Group, audience};
use vlan_core::limits::GROUPS_PER_VIF_MAX;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, GroupPolicy};
use vlan_core::{Instant, VifNumber};

use crate::script::Script;

const VIF: VifNumber = VifNumber(1);
const SLOT: MemberSlot = MemberSlot(1);

struct World {
    now: Instant,
    listener: Listener,
    table: GroupMembers,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut world = World {
        now: Instant::ZERO,
        listener: Listener::new(VIF),
        table: GroupMembers::new(2, &MulticastConfig::default(), 7),
    };
    let policy = GroupPolicy { vif: VIF, snoops: true, querier: IpAddr::from([10, 1, 0, 254]) };
    world.listener.handle_policy(world.now, policy);
    world.listener.announce();
    let mut script = Script::new(data);
    while let Some(()) = world.step(&mut script) {
        world.check();
    }
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.below(8)? {
            0 => self.pass(Duration::from_millis(u64::from(script.u32()? % 300_000))),
            1 => {
                let mut own = Vec::new();
                for _ in 0..script.below(8)? {
                    own.push(address(script)?);
                }
                self.listener.handle_own(self.now, &own);
            }
            2 => {
                self.listener.announce();
                self.table.forget(SLOT);
            }
            3 => {
                let frame = built(script)?;
                self.listener.handle_incoming(self.now, &frame);
            }
            4 => {
                let raw = script.block()?.to_vec();
                self.hear(&raw);
            }
            _ => {
                let frame = built(script)?;
                self.hear(&frame);
            }
        }
        Some(())
    }

    fn hear(&mut self, frame: &[u8]) {
        if let Some(GroupMessage::Report(report)) = GroupMessage::parse(frame) {
            let all: Vec<Change> = report.collect();
            // A record has eight octets at least.
            assert!(all.len() <= frame.len() / 8 + 1, "{} records of {} octets", all.len(), frame.len());
        }
        self.listener.handle_outgoing(self.now, frame);
        if let Some(ethernet) = EthernetHeader::parse(frame) {
            let _ = audience(&ethernet, frame);
            let _ = self.listener.admits(frame);
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut turns = 0;
        while let Some(due) = self.listener.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.listener.handle_timeout(self.now);
            assert!(self.listener.poll_timeout().is_none_or(|next| next > due), "a deadline stays due");
            let queries = std::iter::from_fn(|| self.listener.poll_query());
            for query in queries {
                assert!(matches!(GroupMessage::parse(&query), Some(GroupMessage::Query(_))));
            }
            turns += 1;
            assert!(turns < 4 * GROUPS_PER_VIF_MAX, "time does not pass");
        }
        self.now = until;
    }

    /// What the control node makes of the notices is what the driver has.
    fn check(&mut self) {
        while let Some(notice) = self.listener.poll_notice() {
            let octets = ControlMessage::Groups(notice).emit();
            let Ok(ControlMessage::Groups(notice)) = ControlMessage::parse(&octets) else {
                panic!("a notice does not read back")
            };
            assert!(self.table.handle_notice(self.now, SLOT, &notice), "{notice:?}");
        }
        let driver: BTreeSet<Group> = self.listener.groups().collect();
        let server: BTreeSet<Group> = self.table.groups().map(|(group, _)| group).collect();
        assert_eq!(driver, server);
        assert!(driver.len() <= GROUPS_PER_VIF_MAX);
        assert_eq!(self.table.every_group(SLOT).is_some(), self.listener.wants_every_group());
        assert!(std::iter::from_fn(|| self.listener.poll_query()).count() <= QUERIES_MAX);
    }
}

fn address(script: &mut Script<'_>) -> Option<IpAddr> {
    let (kind, low) = (script.below(6)?, script.octet()?);
    Some(match kind {
        0 => IpAddr::from([239, 1, 1, low]),
        1 => IpAddr::from([0xff05, 0, 0, 0, 0, 0, 0, u16::from(low)]),
        2 => IpAddr::from([224, 0, 0, low]),
        3 => IpAddr::from([0xff00 | u16::from(low), 0, 0, 0, 0, 0, 0, 7]),
        4 => IpAddr::from(script.u32()?.to_be_bytes()),
        _ => IpAddr::from([239, low, script.octet()?, low]),
    })
}

/// A message with up to three octets changed.
fn built(script: &mut Script<'_>) -> Option<Vec<u8>> {
    let group = address(script)?;
    let mut frame = match script.below(4)? {
        0 => query(if group.is_ipv4() { IpAddr::from([10, 1, 0, 1]) } else { QUERIER_IPV6.into() }, None),
        1 => query(
            if group.is_ipv4() { IpAddr::from([10, 1, 0, 1]) } else { QUERIER_IPV6.into() },
            Group::new(group),
        ),
        kind => report(script, group, kind == 2)?,
    };
    for _ in 0..script.below(4)? {
        let at = usize::from(script.octet()?) % frame.len();
        frame[at] = script.octet()?;
    }
    Some(frame)
}

/// A report or leave of an old version, or of a later one with up to four records.
fn report(script: &mut Script<'_>, group: IpAddr, is_old: bool) -> Option<Vec<u8>> {
    // The headers of a query are those of a report, but for its end.
    let source = if group.is_ipv4() { IpAddr::from([10, 1, 0, 9]) } else { QUERIER_IPV6.into() };
    let mut frame = query(source, None);
    let (at, octets) = match group {
        IpAddr::V4(group) => (38, group.octets().to_vec()),
        IpAddr::V6(group) => (62, group.octets().to_vec()),
    };
    frame.truncate(at);
    let kinds: [u8; 3] = if group.is_ipv4() { [0x16, 0x17, 0x22] } else { [131, 132, 143] };
    if is_old {
        frame.extend_from_slice(&[kinds[usize::from(script.below(2)?)], 0, 0, 0]);
        frame.resize(frame.len() + if group.is_ipv4() { 0 } else { 4 }, 0);
        frame.extend_from_slice(&octets);
    } else {
        let records = script.below(5)?;
        frame.extend_from_slice(&[kinds[2], 0, 0, 0, 0, 0, 0, records]);
        for _ in 0..records {
            let sources = script.below(3)?;
            frame.extend_from_slice(&[script.below(8)?, script.below(2)?, 0, sources]);
            frame.extend_from_slice(&octets);
            frame.resize(frame.len() + usize::from(sources) * octets.len(), 9);
        }
    }
    let len = (frame.len() - 14) as u8;
    if group.is_ipv4() {
        frame[17] = len
    } else {
        frame[19] = len - 40
    };
    Some(frame)
}

/// Joins and leaves of every version, queries, time, and an interface that joins too much.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut life = vec![1, 2, 0, 1, 1, 7];
    for kind in [2, 3] {
        for family in [0, 1] {
            life.extend_from_slice(&[5, family, 9, kind, 0, 0, 5, family, 9, kind, 1, 0]);
        }
    }
    life.extend_from_slice(&[5, 0, 9, 3, 2, 4, 0, 0, 3, 0, 0, 0, 3, 0, 5, 0, 0, 0, 0, 160, 134, 1, 0, 2]);
    let crowd: Vec<u8> = (0..=255_u8).flat_map(|n| (0..3).flat_map(move |m| [5, 5, n, m, 2, 0, 0])).collect();
    let raw = query(QUERIER_IPV6.into(), None);
    let raw = [&[4, 0, raw.len() as u8][..], &raw].concat();
    vec![life, crowd, raw]
}

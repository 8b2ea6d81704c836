//! The table beside a naive model.

use super::*;
use crate::address::VifNumber;
use crate::group::testing::group;
use crate::random::Random;
use crate::wire::control::JoinedGroup;
use alloc::collections::BTreeSet;
use core::net::Ipv4Addr;

fn notice(joined: &[Group], left: &[Group]) -> GroupNotice {
    GroupNotice {
        vif: VifNumber(1),
        more: false,
        every_group: false,
        joined: joined.iter().map(|g| JoinedGroup { group: g.address(), cause: GroupCause::Own }).collect(),
        left: left.iter().map(|g| g.address()).collect(),
    }
}

fn table(members: usize) -> GroupMembers {
    let mut table = GroupMembers::new(members, &MulticastConfig::default(), 7);
    for slot in 0..members {
        table.handle_notice(Instant::ZERO, MemberSlot(slot as u16), &notice(&[], &[]));
    }
    table
}

fn wants(table: &GroupMembers, group: Group, slot: u16) -> bool {
    table.wants(table.lookup(group), MemberSlot(slot))
}

/// Forty groups that belong into sixteen places around the table's end: most stand in a place of another's.
fn crowd(table: &GroupMembers) -> Vec<Group> {
    let name = |n: u16| match n % 2 {
        0 => IpAddr::from(Ipv4Addr::from_bits(0xef01_0000 + u32::from(n))),
        _ => IpAddr::from([0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (n >> 8) as u8, n as u8]),
    };
    let mask = table.places.len() - 1;
    let is_near = |group: &Group| table.home(Some(*group)).wrapping_add(8) & mask < 16;
    let groups: Vec<Group> =
        (0..u16::MAX).map(name).filter_map(Group::new).filter(is_near).take(40).collect();
    assert_eq!(groups.len(), 40);
    groups
}

#[test]
fn the_table_agrees_with_a_set_under_random_changes() {
    let mut random = Random::new(3);
    let mut table = table(70);
    let mut model = BTreeSet::new();
    let groups = crowd(&table);
    for _ in 0..20_000 {
        // So few members that groups are left by all of them now and then.
        let (slot, group) = ([0, 63, 64, 69][random.below(4) as usize], groups[random.below(40) as usize]);
        match random.below(50) {
            0 => {
                table.forget(MemberSlot(slot));
                table.handle_notice(Instant::ZERO, MemberSlot(slot), &notice(&[], &[]));
                model.retain(|&(member, _)| member != slot);
            }
            n if n < 25 => {
                table.handle_notice(Instant::ZERO, MemberSlot(slot), &notice(&[group], &[]));
                model.insert((slot, group));
            }
            _ => {
                table.handle_notice(Instant::ZERO, MemberSlot(slot), &notice(&[], &[group]));
                model.remove(&(slot, group));
            }
        }
        assert_eq!(wants(&table, group, slot), model.contains(&(slot, group)));
    }
    for group in groups {
        for slot in 0..70 {
            assert_eq!(wants(&table, group, slot), model.contains(&(slot, group)), "{group:?} {slot}");
        }
    }
    assert_eq!(table.len(), model.iter().map(|(_, group)| group).collect::<BTreeSet<_>>().len());
    let use_counts: usize = table.groups().map(|(_, joined)| joined.len()).sum();
    assert_eq!(use_counts, model.len());
}

#[test]
fn a_member_gets_every_group_for_each_of_the_reasons() {
    //= spec/multicast.md#members-that-get-every-group
    //= type=test
    //# The server MUST give every group to a member that the platform file names, that has not said yet what it has
    //# joined, that asks for it, of which a group has found no room, or that listens promiscuously.
    let config = MulticastConfig { every_group: vec![MemberSlot(2)], ..MulticastConfig::default() };
    let mut table = GroupMembers::new(3, &config, 7);
    let g = group("239.1.1.1");
    let why = |table: &GroupMembers| [0, 1, 2].map(|slot| table.every_group(MemberSlot(slot)));
    let all = |table: &GroupMembers| [0, 1, 2].map(|slot| wants(table, g, slot));
    assert_eq!(
        why(&table),
        [Some(EveryGroup::Unsaid), Some(EveryGroup::Unsaid), Some(EveryGroup::Configured)]
    );
    let half = GroupNotice { more: true, ..notice(&[], &[]) };
    table.handle_notice(Instant::ZERO, MemberSlot(0), &half);
    assert_eq!(all(&table), [true; 3], "it goes on to say");
    for slot in 0..3 {
        table.handle_notice(Instant::ZERO, MemberSlot(slot), &notice(&[], &[]));
    }
    assert_eq!(all(&table), [false, false, true]);
    table.handle_notice(Instant::ZERO, MemberSlot(0), &GroupNotice { every_group: true, ..notice(&[], &[]) });
    assert_eq!((all(&table), why(&table)[0]), ([true, false, true], Some(EveryGroup::Asked)));
    table.handle_notice(Instant::ZERO, MemberSlot(0), &notice(&[], &[]));
    assert_eq!(all(&table), [false, false, true]);
    table.set_listens(MemberSlot(1), true);
    assert_eq!((all(&table), why(&table)[1]), ([false, true, true], Some(EveryGroup::Listens)));
    assert!(table.wants(None, MemberSlot(1)), "reports too");
    table.set_listens(MemberSlot(1), false);
    table.forget(MemberSlot(2));
    assert_eq!(all(&table), [false, false, true], "it stays configured");
}

#[test]
fn a_member_and_a_lan_have_so_many_groups_and_who_finds_no_room_gets_all() {
    //= spec/multicast.md#groups-of-a-lan
    //= type=test
    //# The server MUST hold at most 4096 groups of a LAN, and at most 512 of one member.
    let mut table = table(10);
    let name = |n: usize| Group::new(Ipv4Addr::from_bits(0xef01_0000 + n as u32).into()).unwrap();
    for n in 0..GROUPS_PER_VIF_MAX {
        table.handle_notice(Instant::ZERO, MemberSlot(0), &notice(&[name(n)], &[]));
    }
    assert_eq!(table.every_group(MemberSlot(0)), None);
    table.handle_notice(Instant::ZERO, MemberSlot(0), &notice(&[name(5000)], &[]));
    assert_eq!(
        (table.every_group(MemberSlot(0)), table.len()),
        (Some(EveryGroup::NoRoom), GROUPS_PER_VIF_MAX)
    );
    for n in GROUPS_PER_VIF_MAX..GROUPS_PER_LAN_MAX {
        table.handle_notice(
            Instant::ZERO,
            MemberSlot((n / GROUPS_PER_VIF_MAX) as u16),
            &notice(&[name(n)], &[]),
        );
    }
    assert_eq!((table.len(), table.every_group(MemberSlot(7))), (GROUPS_PER_LAN_MAX, None));
    table.handle_notice(Instant::ZERO, MemberSlot(9), &notice(&[name(9000), name(3)], &[]));
    assert_eq!(
        (table.len(), table.every_group(MemberSlot(9))),
        (GROUPS_PER_LAN_MAX, Some(EveryGroup::NoRoom))
    );
    (0..10).for_each(|slot| table.forget(MemberSlot(slot)));
    assert!(table.is_empty());
}

#[test]
fn what_cannot_be_joined_is_said_and_harms_nothing() {
    let mut table = table(1);
    let mut odd = notice(&[group("ff05::7")], &[]);
    odd.joined[0].group = "ff02::1".parse().unwrap();
    odd.joined.push(JoinedGroup { group: "ff05::8".parse().unwrap(), cause: GroupCause::Reported });
    odd.left.push("10.1.0.1".parse().unwrap());
    assert!(!table.handle_notice(Instant::ZERO, MemberSlot(0), &odd));
    assert!(wants(&table, group("ff05::8"), 0));
    assert!(
        table.handle_notice(Instant::ZERO, MemberSlot(70), &notice(&[group("ff05::7")], &[])),
        "no such member"
    );
    assert!(!wants(&table, group("ff05::7"), 70));
}

//! What a listener makes of stacks, hosts, routers and time.

use super::*;
use crate::group::message::tests::{old_report, pim_hello, report};
use crate::group::query::QUERY_INTERVAL;
use crate::group::testing::{datagram, group};
use alloc::vec;
use core::net::Ipv4Addr;

const OURS: &str = "10.1.0.254";

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn listener() -> Listener {
    let mut listener = Listener::new(VifNumber(1));
    let policy = GroupPolicy { vif: VifNumber(1), snoops: true, querier: OURS.parse().unwrap() };
    listener.handle_policy(Instant::ZERO, policy);
    listener
}

/// Groups joined and left since the last notice, and whether every group is wanted.
fn news(listener: &mut Listener) -> Option<(Vec<JoinedGroup>, Vec<IpAddr>, bool)> {
    listener.poll_notice().map(|notice| (notice.joined, notice.left, notice.every_group))
}

fn joined(text: &str, cause: GroupCause) -> JoinedGroup {
    JoinedGroup { group: text.parse().unwrap(), cause }
}

fn has(listener: &Listener, text: &str) -> bool {
    listener.groups().any(|joined| joined == group(text))
}

/// Moves time on to `millis`, and returns the queries for the interface.
fn run_to(listener: &mut Listener, millis: u64) -> Vec<Query> {
    let mut queries = Vec::new();
    while let Some(due) = listener.poll_timeout().filter(|due| *due <= at(millis)) {
        listener.handle_timeout(due);
        while let Some(frame) = listener.poll_query() {
            if let Some(GroupMessage::Query(query)) = GroupMessage::parse(&frame) {
                queries.push(query);
            }
        }
    }
    queries
}

/// A general query of another querier.
fn asks(source: &str) -> Vec<u8> {
    query(source.parse().unwrap(), None)
}

#[test]
fn the_stacks_own_memberships_are_joined_while_it_has_them() {
    //= spec/multicast.md#own-memberships
    //= type=test
    //# The driver MUST take the memberships of its interface's own stack as joined for as long as the stack has them.
    let mut listener = listener();
    let own = ["239.1.1.1", "224.0.0.251", "ff02::fb", "ff05::7"].map(|text| text.parse().unwrap());
    listener.handle_own(at(0), &own);
    let expected = vec![joined("239.1.1.1", GroupCause::Own), joined("ff05::7", GroupCause::Own)];
    assert_eq!(news(&mut listener), Some((expected, vec![], false)));
    listener.handle_own(at(1), &own);
    assert_eq!(news(&mut listener), None);
    run_to(&mut listener, 1_000_000);
    assert!(has(&listener, "239.1.1.1"), "no query takes it away");
    listener.handle_own(at(1_000_000), &own[3..]);
    assert_eq!(news(&mut listener), Some((vec![], vec![own[0]], false)));
}

#[test]
fn a_report_joins_and_only_for_its_group() {
    //= spec/multicast.md#reports-from-the-interface
    //= type=test
    //# The driver MUST take a snooped group as joined when a report of IGMP or MLD for it comes from its interface.
    for (name, other) in [("239.1.1.1", "239.1.1.2"), ("ff05::7", "ff05::8")] {
        for frame in
            [old_report(group(name), false), report(&[(4, 0, group(name))]), report(&[(1, 2, group(name))])]
        {
            let mut listener = listener();
            assert!(!listener.admits(&datagram(name)));
            listener.handle_outgoing(at(0), &frame);
            assert_eq!(news(&mut listener), Some((vec![joined(name, GroupCause::Reported)], vec![], false)));
            assert!(listener.admits(&datagram(name)) && !listener.admits(&datagram(other)));
        }
    }
}

#[test]
fn what_nobody_has_joined_is_kept_from_the_interface() {
    //= spec/multicast.md#not-joined
    //= type=test
    //# The driver MUST discard a frame for a snooped group that nobody behind its interface has joined, unless it asks
    //# for every group or listens promiscuously.
    let mut listener = listener();
    for admitted in ["224.0.0.251", "255.255.255.255", "ff02::1", "ff02::1:ff00:1"] {
        assert!(listener.admits(&datagram(admitted)), "{admitted}");
    }
    for kept in [datagram("239.1.1.1"), datagram("ff05::7"), old_report(group("ff05::7"), false)] {
        assert!(!listener.admits(&kept));
    }
    listener.handle_outgoing(at(0), &pim_hello());
    assert!(listener.admits(&datagram("239.1.1.1")) && listener.admits(&old_report(group("ff05::7"), false)));
    assert!(Listener::new(VifNumber(1)).admits(&datagram("239.1.1.1")), "before it is told to sort");
}

#[test]
fn a_leave_is_asked_about_twice_and_then_believed() {
    //= spec/multicast.md#leaving
    //= type=test
    //# The driver MUST ask its interface twice, a second apart, for a group whose leave it hears, and give the report
    //# up when nobody has answered 2.5 s after the leave.
    for name in ["239.1.1.1", "ff05::7"] {
        let mut listener = listener();
        run_to(&mut listener, 40_000);
        listener.handle_outgoing(at(40_000), &old_report(group(name), false));
        listener.handle_outgoing(at(40_001), &old_report(group(name), true));
        let first = listener.poll_query().unwrap();
        assert!(listener.poll_query().is_none());
        assert_eq!(first[..6], group(name).mac().0);
        listener.handle_outgoing(at(40_500), &report(&[(3, 0, group(name))]));
        assert!(listener.poll_query().is_none(), "said twice, asked once");
        let asked = Some(group(name).address());
        let later: Vec<_> = run_to(&mut listener, 42_500).into_iter().map(|query| query.group).collect();
        assert_eq!(later, [asked]);
        assert!(has(&listener, name));
        run_to(&mut listener, 42_501);
        assert!(!has(&listener, name));
    }
}

#[test]
fn an_answer_keeps_a_group_that_somebody_has_left() {
    let mut listener = listener();
    listener.handle_outgoing(at(0), &old_report(group("239.1.1.1"), false));
    listener.handle_outgoing(at(100), &old_report(group("239.1.1.1"), true));
    assert!(listener.poll_query().is_some());
    listener.handle_outgoing(at(900), &report(&[(2, 0, group("239.1.1.1"))]));
    let asked = run_to(&mut listener, 30_000);
    assert!(asked.iter().all(|query| query.group.is_none()), "{asked:?}");
    assert!(has(&listener, "239.1.1.1"));
}

#[test]
fn reports_age_by_queries_and_not_by_time() {
    //= spec/multicast.md#ageing
    //= type=test
    //# The driver MUST give a reported group up when two general queries in a row have found no report of it, and not
    //# for want of queries.
    let mut listener = Listener::new(VifNumber(1));
    for name in ["239.1.1.1", "ff05::7"] {
        listener.handle_outgoing(at(0), &old_report(group(name), false));
    }
    run_to(&mut listener, 100_000_000);
    assert!(has(&listener, "239.1.1.1") && has(&listener, "ff05::7"), "nobody has asked");
    listener.handle_incoming(at(100_000_000), &asks("10.1.0.1"));
    listener.handle_incoming(at(100_125_000), &asks("10.1.0.1"));
    run_to(&mut listener, 100_135_499);
    assert!(has(&listener, "239.1.1.1"), "there is time to answer");
    run_to(&mut listener, 100_135_500);
    assert!(!has(&listener, "239.1.1.1") && has(&listener, "ff05::7"), "IPv6 was not asked");
}

#[test]
fn a_report_between_two_queries_keeps_its_group() {
    let mut listener = Listener::new(VifNumber(1));
    listener.handle_outgoing(at(0), &old_report(group("ff05::7"), false));
    for round in 1..9 {
        listener.handle_incoming(at(round * 125_000), &asks("fe80::1"));
        listener.handle_outgoing(at(round * 125_000 + 9_000), &report(&[(2, 0, group("ff05::7"))]));
    }
    run_to(&mut listener, 1_200_000);
    assert!(has(&listener, "ff05::7"));
}

#[test]
fn a_query_for_a_group_that_claims_no_time_leaves_time_to_answer() {
    let mut listener = Listener::new(VifNumber(1));
    listener.handle_outgoing(at(0), &old_report(group("239.1.1.1"), false));
    let mut hasty = query("10.1.0.1".parse().unwrap(), Some(group("239.1.1.1")));
    hasty[39] = 1;
    listener.handle_incoming(at(10), &hasty);
    run_to(&mut listener, 2_509);
    assert!(has(&listener, "239.1.1.1"));
    run_to(&mut listener, 2_510);
    assert!(!has(&listener, "239.1.1.1"));
}

#[test]
fn the_driver_asks_where_nobody_with_a_lower_address_does() {
    //= spec/multicast.md#querier
    //= type=test
    //# The driver MUST send general queries of IGMP and MLD to its interface every 125 s, unless it has heard a querier
    //# with a lower address within 255 s.
    let mut listener = listener();
    let both = [IpAddr::V4(OURS.parse::<Ipv4Addr>().unwrap()), IpAddr::V6(QUERIER_IPV6)];
    let sources = |queries: Vec<Query>| queries.iter().map(|query| query.source).collect::<Vec<_>>();
    assert_eq!(sources(run_to(&mut listener, 1_000)), both, "the first");
    assert_eq!(sources(run_to(&mut listener, 32_250)), both, "the second comes soon");
    assert_eq!(sources(run_to(&mut listener, 32_250 + QUERY_INTERVAL.as_millis() as u64)), both);
    listener.handle_incoming(at(200_000), &asks("10.1.0.255"));
    listener.handle_incoming(at(200_000), &asks("0.0.0.0"));
    assert_eq!(sources(run_to(&mut listener, 282_250)), both, "they do not win");
    listener.handle_incoming(at(300_000), &asks("10.1.0.1"));
    assert_eq!(sources(run_to(&mut listener, 554_999)), [both[1]; 2], "one of IPv4 has");
    assert_eq!(sources(run_to(&mut listener, 555_000)), [both[0]], "it has gone");
    listener.handle_outgoing(at(556_000), &asks("fe80::1"));
    assert_eq!(
        sources(run_to(&mut listener, 810_999)),
        [both[0]; 2],
        "one behind the interface counts as well"
    );
}

#[test]
fn a_router_behind_the_interface_gets_every_group() {
    //= spec/multicast.md#multicast-routers
    //= type=test
    //# The driver MUST ask for every group while a query with a source address, or a hello of PIM, has come from its
    //# interface within 255 s.
    for (frame, is_router) in [
        (pim_hello(), true),
        (asks("10.1.0.1"), true),
        (asks("fe80::1"), true),
        (asks("0.0.0.0"), false),
        (asks(OURS), false),
    ] {
        let mut listener = listener();
        listener.handle_outgoing(at(0), &frame);
        assert_eq!(news(&mut listener).is_some_and(|news| news.2), is_router);
        run_to(&mut listener, 254_999);
        assert_eq!(listener.wants_every_group(), is_router);
        run_to(&mut listener, 255_000);
        assert!(!listener.wants_every_group());
        assert_eq!(news(&mut listener).is_some(), is_router, "the control node hears of it");
    }
    let mut listener = listener();
    listener.handle_incoming(at(0), &asks("10.1.0.1"));
    assert!(!listener.wants_every_group(), "it is behind another interface");
}

#[test]
fn one_group_too_many_asks_for_every_group() {
    //= spec/multicast.md#bounds
    //= type=test
    //# The driver MUST hold at most 512 groups of an interface, and ask for every group when one more is joined.
    let mut listener = listener();
    let name = |n: u16| Group::new(Ipv4Addr::new(239, 1, (n >> 8) as u8, n as u8).into()).unwrap();
    for n in 0..GROUPS_PER_VIF_MAX as u16 {
        listener.handle_outgoing(at(0), &old_report(name(n), false));
    }
    assert!(!listener.wants_every_group());
    listener.handle_outgoing(at(0), &old_report(name(600), false));
    assert_eq!((listener.groups().count(), listener.wants_every_group()), (GROUPS_PER_VIF_MAX, true));
    assert!(listener.admits(&datagram("239.1.2.88")), "the one that found no room");
    run_to(&mut listener, 300_000);
    assert!(!listener.wants_every_group());
}

#[test]
fn everything_is_told_anew_to_another_control_node() {
    //= spec/multicast.md#announcements
    //= type=test
    //# A node MUST tell each control node that accepts it every group that its interfaces have joined, and every change
    //# after that.
    let mut listener = listener();
    listener.announce();
    assert_eq!(news(&mut listener), Some((vec![], vec![], false)), "that there is nothing is said too");
    listener.handle_own(at(0), &["239.1.1.1".parse().unwrap()]);
    listener.handle_outgoing(at(0), &old_report(group("239.1.1.1"), false));
    let both = (vec![joined("239.1.1.1", GroupCause::Both)], vec![], false);
    assert_eq!((news(&mut listener), news(&mut listener)), (Some(both.clone()), None));
    listener.announce();
    assert_eq!((news(&mut listener), news(&mut listener)), (Some(both), None));
    listener.handle_own(at(1), &[]);
    let reported = (vec![joined("239.1.1.1", GroupCause::Reported)], vec![], false);
    assert_eq!(news(&mut listener), Some(reported));
}

#[test]
fn a_hostile_tenant_makes_the_driver_write_few_queries() {
    let mut listener = listener();
    for n in 0..200 {
        let group = Group::new(Ipv4Addr::new(239, 1, 0, n).into()).unwrap();
        listener.handle_outgoing(at(0), &old_report(group, false));
        listener.handle_outgoing(at(0), &old_report(group, true));
    }
    assert_eq!(core::iter::from_fn(|| listener.poll_query()).count(), QUERIES_MAX);
}

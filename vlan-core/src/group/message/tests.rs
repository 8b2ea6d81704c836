//! Messages as hosts of each version make them, and everything cut short.

use super::*;
use crate::group::testing::group;
use alloc::vec;
use alloc::vec::Vec;

/// The MAC address that test hosts send from.
const HOST: [u8; 6] = [2, 0, 1, 0, 0, 9];

/// An IPv4 frame with this payload to `destination`.
fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let d = destination;
    let mut frame = vec![1, 0, 0x5e, d[1] & 0x7f, d[2], d[3]];
    frame.extend_from_slice(&HOST);
    let len = (24 + payload.len()) as u16;
    frame.extend_from_slice(&[8, 0, 0x46, 0xc0, (len >> 8) as u8, len as u8, 0, 0, 0, 0, 1, protocol, 0, 0]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&d);
    frame.extend_from_slice(&[0x94, 4, 0, 0]);
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv6 frame with this payload behind a router alert.
fn ipv6(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let [s, d] = [source, destination].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    let mut frame = vec![0x33, 0x33, d[12], d[13], d[14], d[15]];
    frame.extend_from_slice(&HOST);
    let len = (8 + payload.len()) as u16;
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, (len >> 8) as u8, len as u8, 0, 1]);
    frame.extend_from_slice(&s);
    frame.extend_from_slice(&d);
    frame.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
    frame.extend_from_slice(payload);
    frame
}

fn octets(group: Group) -> Vec<u8> {
    match group.address() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A report of IGMPv2 or MLDv1, or (`leaves`) a leave.
pub(crate) fn old_report(group: Group, leaves: bool) -> Vec<u8> {
    let body = |head: &[u8]| [head, &octets(group)].concat();
    match group.address() {
        IpAddr::V4(address) => {
            let kind = if leaves { IGMP_LEAVE } else { IGMP_V2_REPORT };
            let destination = if leaves { [224, 0, 0, 2] } else { address.octets() };
            ipv4(IGMP, [10, 1, 0, 9], destination, &body(&[kind, 0, 0, 0]))
        }
        IpAddr::V6(_) => {
            let kind = if leaves { MLD_DONE } else { MLD_V1_REPORT };
            let destination = if leaves { "ff02::2" } else { "ff02::16" };
            ipv6("fe80::9", destination, &body(&[kind, 0, 0, 0, 0, 0, 0, 0]))
        }
    }
}

/// A report of IGMPv3 or MLDv2: a record for each group with its type and number of sources.
pub(crate) fn report(records: &[(u8, u8, Group)]) -> Vec<u8> {
    let is_ipv4 = records[0].2.is_ipv4();
    let mut body =
        vec![if is_ipv4 { IGMP_V3_REPORT } else { MLD_V2_REPORT }, 0, 0, 0, 0, 0, 0, records.len() as u8];
    for &(kind, sources, group) in records {
        body.extend_from_slice(&[kind, 1, 0, sources]);
        body.extend_from_slice(&octets(group));
        body.resize(body.len() + usize::from(sources) * octets(group).len() + 4, 7);
    }
    if is_ipv4 {
        ipv4(IGMP, [10, 1, 0, 9], [224, 0, 0, 22], &body)
    } else {
        ipv6("fe80::9", "ff02::16", &body)
    }
}

/// A hello of PIM.
pub(crate) fn pim_hello() -> Vec<u8> {
    ipv4(PIM, [10, 1, 0, 9], [224, 0, 0, 13], &[PIM_HELLO, 0, 0, 0])
}

fn changes(frame: &[u8]) -> Vec<Change> {
    match GroupMessage::parse(frame) {
        Some(GroupMessage::Report(report)) => report.collect(),
        other => panic!("{other:?}"),
    }
}

fn query(frame: &[u8]) -> Option<Query> {
    match GroupMessage::parse(frame) {
        Some(GroupMessage::Query(query)) => Some(query),
        _ => None,
    }
}

#[test]
fn reports_of_every_version_are_read() {
    for (a, b) in [("239.1.1.1", "225.0.0.5"), ("ff05::1", "ff3e::5")] {
        let (a, b) = (group(a), group(b));
        assert_eq!(changes(&old_report(a, false)), [Change::Join(a)]);
        assert_eq!(changes(&old_report(a, true)), [Change::Leave(a)]);
        let many =
            report(&[(4, 0, a), (3, 0, b), (1, 2, b), (6, 1, a), (5, 1, a), (2, 0, b), (1, 0, a), (9, 0, a)]);
        let expected = [
            Change::Join(a),
            Change::Leave(b),
            Change::Join(b),
            Change::Leave(a),
            Change::Join(a),
            Change::Join(b),
        ];
        assert_eq!(changes(&many), expected);
    }
}

#[test]
fn records_of_groups_of_the_link_are_passed_over() {
    let mut frame = report(&[(4, 0, group("ff05::fb")), (4, 0, group("ff05::7"))]);
    // The first record's scope: 54 octets of headers, 8 of options, 8 of the report, 4 of the record, then ff05.
    frame[62 + 8 + 4 + 1] = 2;
    assert_eq!(changes(&frame), [Change::Join(group("ff05::7"))]);
}

#[test]
fn a_report_that_is_cut_short_says_what_its_whole_records_say() {
    let whole = report(&[(4, 3, group("239.1.1.1")), (4, 2, group("239.1.1.2"))]);
    // The first record ends behind 38 octets of headers, 8 of the report, 8 of the record and 4 for each source and word.
    for (total, joined) in [(24 + 8 + 8 + 16 - 1, 0), (24 + 8 + 8 + 16, 1), (whole.len() as u8 - 14 - 1, 1)] {
        let mut frame = whole.clone();
        frame[17] = total;
        assert_eq!(changes(&frame).len(), joined, "{total}");
    }
}

#[test]
fn queries_of_every_version_say_how_long_hosts_have() {
    let millis = |frame: &[u8]| query(frame).unwrap().max_response.as_millis();
    let igmp = |code, len| {
        let mut body = vec![0; len];
        (body[0], body[1]) = (IGMP_QUERY, code);
        ipv4(IGMP, [10, 1, 0, 254], [224, 0, 0, 1], &body)
    };
    assert_eq!(
        [igmp(0, 8), igmp(100, 8), igmp(200, 8), igmp(100, 12)].map(|f| millis(&f)),
        [10_000, 10_000, 20_000, 10_000]
    );
    // Exponent 1, mantissa 2: (2 | 16) << 4 tenths.
    assert_eq!(millis(&igmp(0x92, 12)), 28_800);
    let mld = |code: u16, len| {
        let mut body = vec![0; len];
        body[0] = MLD_QUERY;
        body[4..6].copy_from_slice(&code.to_be_bytes());
        ipv6("fe80::1", "ff02::1", &body)
    };
    assert_eq!(
        [mld(10_000, 24), mld(40_000, 24), mld(0x9002, 28)].map(|f| millis(&f)),
        [10_000, 40_000, 65_568]
    );
}

#[test]
fn what_is_wrong_or_no_message_about_groups_is_nothing() {
    let good = old_report(group("ff05::7"), false);
    let mut forwarded = good.clone();
    forwarded[21] = 2;
    let mut routed = good.clone();
    routed[22..24].copy_from_slice(&[0xfd, 0]);
    let mut unicast = good.clone();
    unicast[0] = 2;
    let mut fragment = old_report(group("239.1.1.1"), false);
    fragment[20] = 0x20;
    for wrong in [&forwarded, &routed, &unicast, &fragment] {
        assert!(GroupMessage::parse(wrong).is_none(), "{wrong:?}");
    }
    assert!(matches!(GroupMessage::parse(&pim_hello()), Some(GroupMessage::RouterHello)));
    assert!(GroupMessage::parse(&crate::group::testing::datagram("239.1.1.1")).is_none());
}

#[test]
fn no_prefix_of_a_message_makes_the_parser_fail() {
    let frames = [
        report(&[(4, 3, group("239.1.1.1")), (4, 2, group("239.1.1.2"))]),
        report(&[(4, 3, group("ff05::1")), (4, 2, group("ff05::2"))]),
        old_report(group("ff05::7"), true),
        pim_hello(),
    ];
    for frame in &frames {
        for len in 0..frame.len() {
            for changed in [0, 1, 0x7f, 0xff] {
                let mut octets = frame[..len].to_vec();
                if let Some(last) = octets.last_mut() {
                    *last = changed;
                }
                if let Some(GroupMessage::Report(report)) = GroupMessage::parse(&octets) {
                    assert!(report.count() <= 2);
                }
                let (igmp, mld) = (igmp_type(&octets), mld_type(&octets));
                assert!(igmp.is_none() || mld.is_none());
            }
        }
    }
}

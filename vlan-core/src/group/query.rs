//! Queries of IGMPv3 and MLDv2, as frames from the fabric's own station.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::address::MacAddress;
use crate::checksum::{pseudo_header, set_word, sum, sum_from, sum_ipv4_header};
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::group::Group;
use crate::group::message::{IGMP_QUERY, MLD_QUERY};

/// The MAC address that queries come from: of serial 0, which no control node has, so no interface has it.
pub const QUERIER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
/// The IPv6 address that queries come from: the lowest wins an election, and any other querier is to win.
pub const QUERIER_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xfffe);
/// The IPv4 address that queries come from where the LAN has no subnet: the dummy address of RFC 7600. Bridges do not
/// send reports towards a querier at 0.0.0.0 (RFC 4541, 2.1.1).
pub const QUERIER_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Queries without an answer after which nobody is taken to be there (RFC 3376, 8.1; RFC 3810, 9.1).
pub const ROBUSTNESS: u8 = 2;
/// Pause between two general queries (RFC 3376, 8.2; RFC 3810, 9.2).
pub const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// How long hosts have to answer a general query (RFC 3376, 8.3; RFC 3810, 9.3).
pub const QUERY_RESPONSE: Duration = Duration::from_secs(10);
/// How long hosts have to answer when somebody has left, and the pause between the two queries (RFC 3376, 8.8; RFC
/// 3810, 9.8).
pub const LAST_MEMBER_INTERVAL: Duration = Duration::from_secs(1);

/// Octets of the shortest frame (IEEE 802.3, 3.2.8), without its check sequence.
const FRAME_LEN_MIN: usize = 60;

/// Makes a query from `source`: for a group, or general. Its family is that of the source.
///
/// # Panics
/// When source and group are of different families: our own bug.
#[must_use]
pub fn query(source: IpAddr, group: Option<Group>) -> Vec<u8> {
    match (source, group.map(Group::address)) {
        (IpAddr::V4(source), None) => igmp(source, None),
        (IpAddr::V4(source), Some(IpAddr::V4(group))) => igmp(source, Some(group)),
        (IpAddr::V6(source), None) => mld(source, None),
        (IpAddr::V6(source), Some(IpAddr::V6(group))) => mld(source, Some(group)),
        (source, Some(group)) => panic!("a query from {source} for {group}"),
    }
}

fn response(is_general: bool) -> Duration {
    if is_general { QUERY_RESPONSE } else { LAST_MEMBER_INTERVAL }
}

/// RFC 3376, 4.1.
fn igmp(source: Ipv4Addr, group: Option<Ipv4Addr>) -> Vec<u8> {
    let destination = group.unwrap_or(Ipv4Addr::new(224, 0, 0, 1));
    let o = destination.octets();
    let mut frame = ethernet(MacAddress([1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]), ETHERTYPE_IPV4);
    // Internetwork control, 36 octets, time to live 1, and the option of router alert (RFC 3376, 4).
    frame.extend_from_slice(&[0x46, 0xc0, 0, 36, 0, 0, 0, 0, 1, 2, 0, 0]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&o);
    frame.extend_from_slice(&[0x94, 4, 0, 0]);
    sum_ipv4_header(&mut frame, 14, 24);
    let tenths = (response(group.is_none()).as_millis() / 100) as u8;
    frame.extend_from_slice(&[IGMP_QUERY, tenths, 0, 0]);
    frame.extend_from_slice(&group.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    frame.extend_from_slice(&[ROBUSTNESS, QUERY_INTERVAL.as_secs() as u8, 0, 0]);
    let check = !sum(&frame[38..]);
    set_word(&mut frame, 40, check);
    frame.resize(FRAME_LEN_MIN, 0);
    frame
}

/// RFC 3810, 5.1.
fn mld(source: Ipv6Addr, group: Option<Ipv6Addr>) -> Vec<u8> {
    let destination = group.unwrap_or(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let o = destination.octets();
    let mut frame = ethernet(MacAddress([0x33, 0x33, o[12], o[13], o[14], o[15]]), ETHERTYPE_IPV6);
    // 36 octets behind the header, hop limit 1, the option of router alert for MLD, and padding (RFC 2711).
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 36, 0, 1]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&o);
    frame.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
    let millis = response(group.is_none()).as_millis() as u16;
    frame.extend_from_slice(&[MLD_QUERY, 0, 0, 0]);
    frame.extend_from_slice(&millis.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
    frame.extend_from_slice(&[ROBUSTNESS, QUERY_INTERVAL.as_secs() as u8, 0, 0]);
    let check = !sum_from(pseudo_header(&frame[22..54], 58, 28), &frame[62..]);
    set_word(&mut frame, 64, check);
    frame
}

fn ethernet(destination: MacAddress, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&QUERIER_MAC.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::message::{GroupMessage, Query};
    use crate::group::testing::group;

    fn read(frame: &[u8]) -> Query {
        match GroupMessage::parse(frame) {
            Some(GroupMessage::Query(query)) => query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_says_who_asks_for_what_and_for_how_long() {
        let source: IpAddr = "10.1.0.254".parse().unwrap();
        let general = Query { source, group: None, max_response: QUERY_RESPONSE };
        assert_eq!(read(&query(source, None)), general);
        let specific = query(source, Some(group("239.1.2.3")));
        let asked = Some(group("239.1.2.3").address());
        assert_eq!(read(&specific), Query { group: asked, max_response: LAST_MEMBER_INTERVAL, ..general });
        assert_eq!(specific[..6], group("239.1.2.3").mac().0);
        let source: IpAddr = QUERIER_IPV6.into();
        assert_eq!(read(&query(source, None)), Query { source, ..general });
        let asked = Some(group("ff05::7").address());
        let specific = Query { source, group: asked, max_response: LAST_MEMBER_INTERVAL };
        assert_eq!(read(&query(source, Some(group("ff05::7")))), specific);
    }

    #[test]
    fn queries_sum_to_zero() {
        let frame = query(QUERIER_IPV4.into(), None);
        assert_eq!((frame.len(), sum(&frame[14..38]), sum(&frame[38..50])), (60, 0xffff, 0xffff));
        let frame = query(QUERIER_IPV6.into(), Some(group("ff05::7")));
        assert_eq!(sum_from(pseudo_header(&frame[22..54], 58, 28), &frame[62..90]), 0xffff);
        assert_eq!(frame.len(), 90);
    }
}

//! What IGMP (RFC 1112, 2236, 3376), MLD (RFC 2710, 3810) and PIM (RFC 7761) say, read from frames.
//!
//! Nothing is trusted and nothing is kept: a parsed message borrows the frame, and its records are read one by one.
//! Sums are the stacks' to verify, as those of ND are: they may not have been filled in yet (E5).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::group::Group;
use crate::limits::ETHERNET_HEADER_LEN;

const IGMP: u8 = 2;
const PIM: u8 = 103;
const HOP_BY_HOP: u8 = 0;
const ICMPV6: u8 = 58;

pub(super) const IGMP_QUERY: u8 = 0x11;
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const IGMP_V3_REPORT: u8 = 0x22;
pub(super) const MLD_QUERY: u8 = 130;
const MLD_V1_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD_V2_REPORT: u8 = 143;
/// PIM version 2, type hello (RFC 7761, 4.9).
const PIM_HELLO: u8 = 0x20;

/// Octets of an IPv6 header.
const IPV6_HEADER_LEN: usize = 40;
/// How long hosts have to answer a query of IGMPv1, which does not say (RFC 2236, 4).
const V1_RESPONSE: Duration = Duration::from_secs(10);

/// A message about groups.
#[derive(Clone, Copy, Debug)]
pub enum GroupMessage<'a> {
    /// Somebody asks who has joined.
    Query(Query),
    /// A host has joined groups, or left them.
    Report(Report<'a>),
    /// A multicast router says that it is there.
    RouterHello,
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Who asks; unspecified where a switch does that has no address.
    pub source: IpAddr,
    /// The group that is asked for; none asks for all.
    pub group: Option<IpAddr>,
    /// How long hosts have to answer.
    pub max_response: Duration,
}

/// What a host says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has joined it.
    Join(Group),
    /// It has left it, or part of its sources: it is to be asked.
    Leave(Group),
}

/// The records of a report or leave: an iterator over those of snooped groups.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The one thing that a message of an old version says.
    single: Option<Change>,
    records: &'a [u8],
    left: u16,
    is_ipv4: bool,
}

impl<'a> GroupMessage<'a> {
    /// Reads a frame; none when it is no message about groups, or a wrong one.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let ethernet = EthernetHeader::parse(frame)?;
        if !ethernet.destination.is_group() {
            return None;
        }
        match ethernet.ethertype {
            ETHERTYPE_IPV4 => parse_ipv4(frame),
            ETHERTYPE_IPV6 => parse_ipv6(frame),
            _ => None,
        }
    }
}

impl Iterator for Report<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        if let Some(change) = self.single.take() {
            return Some(change);
        }
        // Ends: each turn takes one of the records that the message announced.
        while self.left > 0 {
            self.left -= 1;
            let (change, rest) = record(self.records, self.is_ipv4)?;
            self.records = rest;
            if change.is_some() {
                return change;
            }
        }
        None
    }
}

/// The type of the IGMP message in a frame, whose first octets are `head`.
#[inline]
pub(super) fn igmp_type(head: &[u8]) -> Option<u8> {
    if *head.get(ETHERNET_HEADER_LEN + 9)? != IGMP || is_later_fragment(head)? {
        return None;
    }
    let header_len = usize::from(head[ETHERNET_HEADER_LEN] & 15) * 4;
    head.get(ETHERNET_HEADER_LEN + header_len).copied()
}

/// The type of the MLD message in a frame, whose first octets are `head`: behind a hop-by-hop header, which every
/// such message has (RFC 3810, 5).
#[inline]
pub(super) fn mld_type(head: &[u8]) -> Option<u8> {
    if *head.get(ETHERNET_HEADER_LEN + 6)? != HOP_BY_HOP {
        return None;
    }
    let options = ETHERNET_HEADER_LEN + IPV6_HEADER_LEN;
    if *head.get(options)? != ICMPV6 {
        return None;
    }
    head.get(options + 8 + usize::from(*head.get(options + 1)?) * 8).copied()
}

/// True for the types of reports and leaves, of IGMP and MLD.
#[inline]
pub(super) const fn is_report_type(kind: u8) -> bool {
    matches!(
        kind,
        IGMP_V1_REPORT
            | IGMP_V2_REPORT
            | IGMP_LEAVE
            | IGMP_V3_REPORT
            | MLD_V1_REPORT
            | MLD_DONE
            | MLD_V2_REPORT
    )
}

fn is_later_fragment(head: &[u8]) -> Option<bool> {
    let o = head.get(ETHERNET_HEADER_LEN + 6..ETHERNET_HEADER_LEN + 8)?;
    Some(u16::from_be_bytes([o[0], o[1]]) & 0x1fff != 0)
}

// --- IPv4 -----------------------------------------------------------------------------------------------------

fn parse_ipv4(frame: &[u8]) -> Option<GroupMessage<'_>> {
    let packet = frame.get(ETHERNET_HEADER_LEN..)?;
    let header: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_whole = u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0;
    if header[0] >> 4 != 4 || header_len < 20 || !is_whole {
        return None;
    }
    let body = packet.get(header_len..total)?;
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    match header[9] {
        IGMP => parse_igmp(source, body),
        PIM if header[16..20] == [224, 0, 0, 13] => {
            (*body.first()? == PIM_HELLO).then_some(GroupMessage::RouterHello)
        }
        _ => None,
    }
}

fn parse_igmp(source: Ipv4Addr, body: &[u8]) -> Option<GroupMessage<'_>> {
    let head: &[u8; 8] = body.first_chunk()?;
    let address: IpAddr = Ipv4Addr::new(head[4], head[5], head[6], head[7]).into();
    let single = |change: fn(Group) -> Change| Report::single(Group::new(address).map(change), true);
    Some(match head[0] {
        IGMP_QUERY => GroupMessage::Query(Query {
            source: source.into(),
            group: (!address.is_unspecified()).then_some(address),
            max_response: igmp_response(head[1], body.len()),
        }),
        IGMP_V1_REPORT | IGMP_V2_REPORT => GroupMessage::Report(single(Change::Join)),
        IGMP_LEAVE => GroupMessage::Report(single(Change::Leave)),
        IGMP_V3_REPORT => GroupMessage::Report(Report::records(head, &body[8..], true)),
        _ => return None,
    })
}

/// In tenths of a second; from 128 on with an exponent, in messages of version 3 (RFC 3376, 4.1.1).
fn igmp_response(code: u8, len: usize) -> Duration {
    let tenths = match code {
        0 => return V1_RESPONSE,
        code if code < 128 || len < 12 => u64::from(code),
        code => (u64::from(code & 15) | 16) << ((code >> 4 & 7) + 3),
    };
    Duration::from_millis(tenths * 100)
}

// --- IPv6 -----------------------------------------------------------------------------------------------------

fn parse_ipv6(frame: &[u8]) -> Option<GroupMessage<'_>> {
    let packet = frame.get(ETHERNET_HEADER_LEN..)?;
    let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = packet.get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + payload_len)?;
    let source = Ipv6Addr::from(*header[8..24].first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*header[24..40].first_chunk::<16>()?);
    match header[6] {
        // All PIM routers (RFC 7761, 4.9).
        PIM if destination == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 13) => {
            (*payload.first()? == PIM_HELLO).then_some(GroupMessage::RouterHello)
        }
        // Others have been forwarded, or come from beyond the link (RFC 3810, 5.1.14 and 5.2.13).
        HOP_BY_HOP if header[7] == 1 && payload.first() == Some(&ICMPV6) => {
            let body = payload.get(8 + usize::from(*payload.get(1)?) * 8..)?;
            parse_mld(source, body)
        }
        _ => None,
    }
}

fn parse_mld(source: Ipv6Addr, body: &[u8]) -> Option<GroupMessage<'_>> {
    let head: &[u8; 8] = body.first_chunk()?;
    let is_local = source.is_unicast_link_local();
    if !(is_local || source.is_unspecified() && head[0] != MLD_QUERY) {
        return None;
    }
    if head[0] == MLD_V2_REPORT {
        return Some(GroupMessage::Report(Report::records(head, &body[8..], false)));
    }
    let address: IpAddr = Ipv6Addr::from(*body.get(8..24)?.first_chunk::<16>()?).into();
    let single = |change: fn(Group) -> Change| Report::single(Group::new(address).map(change), false);
    Some(match head[0] {
        MLD_QUERY => GroupMessage::Query(Query {
            source: source.into(),
            group: (!address.is_unspecified()).then_some(address),
            max_response: mld_response(u16::from_be_bytes([head[4], head[5]]), body.len()),
        }),
        MLD_V1_REPORT => GroupMessage::Report(single(Change::Join)),
        MLD_DONE => GroupMessage::Report(single(Change::Leave)),
        _ => return None,
    })
}

/// In milliseconds; from 32,768 on with an exponent, in messages of version 2 (RFC 3810, 5.1.3).
fn mld_response(code: u16, len: usize) -> Duration {
    let millis = match code {
        code if code < 32_768 || len < 28 => u64::from(code),
        code => (u64::from(code & 0x0fff) | 0x1000) << ((code >> 12 & 7) + 3),
    };
    Duration::from_millis(millis)
}

// --- records --------------------------------------------------------------------------------------------------

impl<'a> Report<'a> {
    fn single(change: Option<Change>, is_ipv4: bool) -> Self {
        Self { single: change, records: &[], left: 0, is_ipv4 }
    }

    fn records(head: &[u8; 8], records: &'a [u8], is_ipv4: bool) -> Self {
        Self { single: None, records, left: u16::from_be_bytes([head[6], head[7]]), is_ipv4 }
    }
}

/// Reads a record of a report of IGMPv3 or MLDv2 and what follows it; none when the octets run out. Sources are not
/// told apart: whoever wants some of them has joined (RFC 4541, 2.1.2).
fn record(octets: &[u8], is_ipv4: bool) -> Option<(Option<Change>, &[u8])> {
    let address_len = if is_ipv4 { 4 } else { 16 };
    let (head, rest) = octets.split_first_chunk::<4>()?;
    let sources = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (address, rest) = rest.split_at_checked(address_len)?;
    let rest = rest.get(sources * address_len + usize::from(head[1]) * 4..)?;
    let address: IpAddr = match address {
        [a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).into(),
        address => Ipv6Addr::from(*address.first_chunk::<16>()?).into(),
    };
    let change = Group::new(address).and_then(|group| change(head[0], sources, group));
    Some((change, rest))
}

/// RFC 3376, 4.2.12; RFC 3810, 5.2.12.
fn change(kind: u8, sources: usize, group: Group) -> Option<Change> {
    match (kind, sources) {
        // Is or becomes EXCLUDE; is or becomes INCLUDE of some; more of them are wanted.
        (2 | 4, _) | (1 | 3 | 5, 1..) => Some(Change::Join(group)),
        // Becomes INCLUDE of none; some are not wanted any more.
        (3, 0) | (6, _) => Some(Change::Leave(group)),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! IP multicast groups: which of them a LAN sorts by membership, and the parts that do it.
//!
//! | file | is |
//! |---|---|
//! | `message.rs` | what IGMP and MLD say, read from frames |
//! | `query.rs` | queries, written as frames |
//! | `listener.rs`, `querier.rs` | the driver's side: who behind an interface has joined what |
//! | `members.rs` | the LAN server's side: which members get a group's frames |

pub mod listener;
pub mod members;
pub mod message;
mod querier;
pub mod query;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddress;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};

/// A multicast group whose frames go to those alone who have joined it: an IPv4 group outside 224.0.0.0/24, or an
/// IPv6 group of a scope wider than link-local (RFC 4541, 2.1.2 and 3).
///
/// An IP address, not a MAC address: 32 IPv4 groups share a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(IpAddr);

impl Group {
    /// The group at `address`; none for what is no group, or one of the link alone.
    #[inline]
    #[must_use]
    pub const fn new(address: IpAddr) -> Option<Self> {
        let is_snooped = match address {
            IpAddr::V4(address) => {
                let o = address.octets();
                o[0] & 0xf0 == 224 && !(o[0] == 224 && o[1] == 0 && o[2] == 0)
            }
            IpAddr::V6(address) => {
                let o = address.octets();
                // The scope is the low half of the second octet; 2 is the link (RFC 4291, 2.7).
                o[0] == 0xff && o[1] & 0x0f > 2
            }
        };
        if is_snooped { Some(Self(address)) } else { None }
    }

    /// The group's address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// The MAC address that the group's frames go to (RFC 1112, 6.4; RFC 2464, 7).
    #[inline]
    #[must_use]
    pub const fn mac(self) -> MacAddress {
        match self.0 {
            IpAddr::V4(address) => {
                let o = address.octets();
                MacAddress([0x01, 0x00, 0x5e, o[1] & 0x7f, o[2], o[3]])
            }
            IpAddr::V6(address) => {
                let o = address.octets();
                MacAddress([0x33, 0x33, o[12], o[13], o[14], o[15]])
            }
        }
    }

    /// True for an IPv4 group.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.0.is_ipv4()
    }
}

/// Who is to have a group frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every member.
    Everybody,
    /// Members that get every group: it is a report or a leave (RFC 4541, 2.1.1).
    Routers,
    /// Members that have joined this group, and those that get every group.
    Joined(Group),
}

//= spec/multicast.md#flooded-groups
//# The server MUST give a group frame to every other member unless it is for an IPv4 group outside 224.0.0.0/24 or
//# for an IPv6 group of a scope wider than link-local.
/// Says who is to have the group frame with this header; `head` holds its first octets.
///
/// What cannot be read is for everybody: nobody is starved by a frame that is not understood.
#[inline]
#[must_use]
pub fn audience(ethernet: &EthernetHeader, head: &[u8]) -> Audience {
    let (destination, kind) = match ethernet.ethertype {
        ETHERTYPE_IPV4 => (ipv4_destination(head), message::igmp_type(head)),
        ETHERTYPE_IPV6 => (ipv6_destination(head), message::mld_type(head)),
        _ => return Audience::Everybody,
    };
    if kind.is_some_and(message::is_report_type) {
        return Audience::Routers;
    }
    match destination.and_then(Group::new).filter(|group| group.mac() == ethernet.destination) {
        Some(group) => Audience::Joined(group),
        None => Audience::Everybody,
    }
}

fn ipv4_destination(head: &[u8]) -> Option<IpAddr> {
    let octets: &[u8; 4] = head.get(30..34)?.first_chunk()?;
    (head.get(14)? >> 4 == 4).then(|| Ipv4Addr::from(*octets).into())
}

fn ipv6_destination(head: &[u8]) -> Option<IpAddr> {
    let octets: &[u8; 16] = head.get(38..54)?.first_chunk()?;
    (head.get(14)? >> 4 == 6).then(|| Ipv6Addr::from(*octets).into())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use alloc::vec::Vec;

    /// The group at `text`.
    pub(crate) fn group(text: &str) -> Group {
        Group::new(text.parse().unwrap()).unwrap()
    }

    /// A datagram to `destination`, as far as its headers matter here.
    pub(crate) fn datagram(destination: &str) -> Vec<u8> {
        let mut frame = alloc::vec![0; 80];
        match destination.parse().unwrap() {
            IpAddr::V4(address) => {
                let o = address.octets();
                frame[..6].copy_from_slice(&[1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]);
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[23] = 17;
                frame[30..34].copy_from_slice(&o);
            }
            IpAddr::V6(address) => {
                let o = address.octets();
                frame[..6].copy_from_slice(&[0x33, 0x33, o[12], o[13], o[14], o[15]]);
                frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                frame[20] = 17;
                frame[38..54].copy_from_slice(&o);
            }
        }
        frame[6..12].copy_from_slice(&[2, 0, 1, 0, 0, 1]);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{datagram, group};
    use super::*;
    use alloc::string::ToString;

    fn of(frame: &[u8]) -> Audience {
        audience(&EthernetHeader::parse(frame).unwrap(), frame)
    }

    #[test]
    fn groups_of_the_link_and_what_is_no_group_go_to_everybody() {
        //= spec/multicast.md#flooded-groups
        //= type=test
        //# The server MUST give a group frame to every other member unless it is for an IPv4 group outside 224.0.0.0/24 or
        //# for an IPv6 group of a scope wider than link-local.
        for everybody in
            ["224.0.0.1", "224.0.0.251", "255.255.255.255", "ff02::1", "ff02::fb", "ff02::1:ff00:7"]
                .into_iter()
                .chain(["ff01::1", "ff12::7", "ff00::1", "10.1.0.1", "fd00::1"])
        {
            assert_eq!(of(&datagram(everybody)), Audience::Everybody, "{everybody}");
        }
        for joined in ["224.0.1.1", "239.1.1.1", "225.0.0.1", "ff03::1", "ff05::1:3", "ff3e::7", "ff18::1"] {
            assert_eq!(of(&datagram(joined)), Audience::Joined(group(joined)), "{joined}");
        }
    }

    #[test]
    fn a_frame_that_is_not_understood_goes_to_everybody() {
        let frame = datagram("239.1.1.1");
        let mut tagged = frame.clone();
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        let mut elsewhere = frame.clone();
        elsewhere[5] ^= 1;
        let mut of_no_version = frame.clone();
        of_no_version[14] = 0x65;
        for odd in [&tagged, &elsewhere, &of_no_version, &frame[..33].to_vec()] {
            assert_eq!(of(odd), Audience::Everybody);
        }
    }

    #[test]
    fn groups_have_the_mac_of_their_low_bits() {
        assert_eq!(group("239.129.1.2").mac().to_string(), "01:00:5e:01:01:02");
        assert_eq!(group("239.1.1.2").mac(), group("225.1.1.2").mac());
        assert_eq!(group("ff05::1:2").mac().to_string(), "33:33:00:01:00:02");
    }
}

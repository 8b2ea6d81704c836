//! The multicast groups that a namespace's stack has joined on each interface, as the kernel lists them.
//!
//! Netlink lists those of IPv4 only in the newest kernels; `/proc` has both families everywhere, complete at each read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::InterfaceIndex;
use crate::agent::namespace::Namespace;

/// The lists of one namespace.
pub struct Memberships {
    igmp: File,
    /// None without IPv6.
    mld: Option<File>,
    text: String,
}

impl Memberships {
    /// Opens the lists of `namespace`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(namespace: &Namespace) -> io::Result<Self> {
        // A list stays that of the namespace it was opened in.
        namespace.run(|| {
            let igmp = File::open("/proc/thread-self/net/igmp")?;
            let mld = File::open("/proc/thread-self/net/igmp6").ok();
            Ok(Self { igmp, mld, text: String::new() })
        })
    }

    /// Every group that the stack has joined, with the interface.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self) -> io::Result<Vec<(InterfaceIndex, IpAddr)>> {
        let Self { igmp, mld, text } = self;
        read_anew(igmp, text)?;
        let mut groups = parse_igmp(text);
        if let Some(mld) = mld {
            read_anew(mld, text)?;
            groups.extend(parse_mld(text));
        }
        Ok(groups)
    }
}

fn read_anew(list: &mut File, text: &mut String) -> io::Result<()> {
    text.clear();
    list.seek(SeekFrom::Start(0))?;
    list.read_to_string(text).map(|_| ())
}

/// A line for each interface, which begins with its index, and below it one for each group, which begins with space and
/// the group in hexadecimal digits, as the machine reads its octets as a number.
fn parse_igmp(text: &str) -> Vec<(InterfaceIndex, IpAddr)> {
    let mut groups = Vec::new();
    let mut index = None;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with(char::is_whitespace) {
            let group = u32::from_str_radix(first, 16).map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
            groups.extend(index.zip(group.ok()).map(|(index, group)| (index, IpAddr::V4(group))));
        } else {
            index = first.parse().ok().map(InterfaceIndex);
        }
    }
    groups
}

/// A line for each group: index, name, group in hexadecimal digits, and more.
fn parse_mld(text: &str) -> Vec<(InterfaceIndex, IpAddr)> {
    let group = |line: &str| {
        let mut words = line.split_whitespace();
        let index = words.next()?.parse().ok()?;
        let bits = u128::from_str_radix(words.nth(1)?, 16).ok()?;
        Some((InterfaceIndex(index), IpAddr::V6(Ipv6Addr::from_bits(bits))))
    };
    text.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let group = u32::from_ne_bytes([239, 1, 2, 3]);
        let igmp = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t{:08X}     1 0:00000000\t\t0\n\
             12\tred       :     2      V3\n\t\t\t\t{group:08X}     1 0:00000000\t\t0\n",
            u32::from_ne_bytes([224, 0, 0, 1]),
        );
        let expected = |index, text: &str| (InterfaceIndex(index), text.parse::<IpAddr>().unwrap());
        assert_eq!(parse_igmp(&igmp), [expected(1, "224.0.0.1"), expected(12, "239.1.2.3")]);
        let mld = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
                   12   red             ff050000000000000000000000000007     1 00000004 0\n";
        assert_eq!(parse_mld(mld), [expected(1, "ff02::1"), expected(12, "ff05::7")]);
        assert_eq!((parse_igmp("a\n b\n"), parse_mld("1 2 3\nx\n")), (vec![], vec![expected(1, "::3")]));
    }

    #[test]
    fn the_lists_of_this_namespace_can_be_read_again() {
        let mut memberships = Memberships::open(&Namespace::own()).unwrap();
        for _ in 0..2 {
            let groups = memberships.read().unwrap();
            // All hosts: what every interface with IPv4 has joined.
            assert!(groups.iter().any(|(_, group)| *group == Ipv4Addr::new(224, 0, 0, 1)), "{groups:?}");
        }
    }
}

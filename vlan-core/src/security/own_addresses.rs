//! The IP addresses of an interface: those of the platform file, and the link-local ones that its stack has made itself.

use alloc::vec::Vec;
use core::net::IpAddr;

/// Link-local addresses of one interface that are known at a time: a stack has one, two while it changes to another, and a
/// few when each of its tries is a duplicate (RFC 7217, 6).
pub const LINK_LOCALS_MAX: usize = 8;

/// The addresses that an interface may speak for under port security `address`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    configured: Vec<IpAddr>,
    /// The oldest first.
    link_local: Vec<IpAddr>,
}

impl OwnAddresses {
    /// Those of the platform file, and no others yet.
    #[must_use]
    pub fn new(configured: Vec<IpAddr>) -> Self {
        Self { configured, link_local: Vec::new() }
    }

    /// True for one of them.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.configured.contains(&address) || self.link_local.contains(&address)
    }

    /// Every address.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.configured.iter().chain(&self.link_local).copied()
    }

    /// Adds a link-local address, in the place of the oldest when there are too many. True when it was not there.
    pub fn add_link_local(&mut self, address: IpAddr) -> bool {
        if self.contains(address) {
            return false;
        }
        if self.link_local.len() == LINK_LOCALS_MAX {
            self.link_local.remove(0);
        }
        self.link_local.push(address);
        true
    }

    /// Takes a link-local address away. True when it was there.
    pub fn remove_link_local(&mut self, address: IpAddr) -> bool {
        let before = self.link_local.len();
        self.link_local.retain(|own| *own != address);
        self.link_local.len() < before
    }

    /// Takes over the link-local addresses of the same interface from before its configuration changed.
    pub fn take_link_local(&mut self, before: Self) {
        self.link_local = before.link_local;
        self.link_local.retain(|address| !self.configured.contains(address));
    }

    /// Takes every link-local address away. True when there were any.
    pub fn forget_link_local(&mut self) -> bool {
        let had = !self.link_local.is_empty();
        self.link_local.clear();
        had
    }
}

/// True for an address that a stack may make itself (RFC 4291, 2.5.6; RFC 3927, 2.1).
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_beyond_the_bound_take_the_place_of_the_oldest() {
        let configured: IpAddr = "10.1.0.1".parse().unwrap();
        let mut own = OwnAddresses::new(alloc::vec![configured]);
        let link_local = |n: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n]);
        for n in 0..20 {
            assert!(own.add_link_local(link_local(n)));
            assert!(!own.add_link_local(link_local(n)));
        }
        assert_eq!(own.iter().count(), 1 + LINK_LOCALS_MAX);
        assert!(own.contains(configured) && own.contains(link_local(12)) && !own.contains(link_local(11)));
        assert!(own.remove_link_local(link_local(19)) && !own.contains(link_local(19)));
        assert!(own.forget_link_local() && !own.forget_link_local() && own.contains(configured));
    }
}

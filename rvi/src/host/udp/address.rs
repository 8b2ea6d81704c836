//! Socket addresses as the kernel writes them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A `sockaddr_in` or `sockaddr_in6`, octet by octet: family, port, then for IPv4 the address, for IPv6 the flow
/// label, the address and the scope.
#[derive(Clone, Copy, Default)]
#[repr(C, align(4))]
pub(super) struct RawAddress([u8; Self::LEN_MAX as usize]);

impl RawAddress {
    /// Octets of a `sockaddr_in6`, the longer one.
    pub(super) const LEN_MAX: libc::socklen_t = 28;
    /// Octets of a `sockaddr_in`.
    const V4_LEN: libc::socklen_t = 16;

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Octets that its family has.
    pub(super) fn len(&self) -> libc::socklen_t {
        if self.family() == libc::AF_INET { Self::V4_LEN } else { Self::LEN_MAX }
    }

    fn family(&self) -> libc::c_int {
        let [low, high, ..] = self.0;
        u16::from_ne_bytes([low, high]).into()
    }

    /// The address, or `None` for another family.
    pub(super) fn decode(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.field(2));
        match self.family() {
            libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(self.field::<4>(4)), port).into()),
            libc::AF_INET6 => {
                let address = Ipv6Addr::from(self.field::<16>(8));
                let flow = u32::from_ne_bytes(self.field(4));
                Some(SocketAddrV6::new(address, port, flow, u32::from_ne_bytes(self.field(24))).into())
            }
            _ => None,
        }
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.0[at + i])
    }

    fn put(&mut self, at: usize, octets: &[u8]) {
        self.0[at..at + octets.len()].copy_from_slice(octets);
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let mut raw = Self::default();
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        raw.put(0, &(family as u16).to_ne_bytes());
        raw.put(2, &address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => raw.put(4, &v4.ip().octets()),
            SocketAddr::V6(v6) => {
                // `std` keeps the label as the kernel does.
                raw.put(4, &v6.flowinfo().to_ne_bytes());
                raw.put(8, &v6.ip().octets());
                raw.put(24, &v6.scope_id().to_ne_bytes());
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        assert_eq!(size_of::<libc::sockaddr_in6>(), size_of::<RawAddress>());
        assert_eq!(size_of::<libc::sockaddr_in>(), RawAddress::V4_LEN as usize);
        assert_eq!(offset_of!(libc::sockaddr_in, sin_port), 2);
        assert_eq!(offset_of!(libc::sockaddr_in, sin_addr), 4);
        assert_eq!(offset_of!(libc::sockaddr_in6, sin6_port), 2);
        assert_eq!(offset_of!(libc::sockaddr_in6, sin6_flowinfo), 4);
        assert_eq!(offset_of!(libc::sockaddr_in6, sin6_addr), 8);
        assert_eq!(offset_of!(libc::sockaddr_in6, sin6_scope_id), 24);
        assert!(align_of::<RawAddress>() >= align_of::<libc::sockaddr_in6>());
    }

    #[test]
    fn another_family_is_no_address() {
        assert_eq!(RawAddress::default().decode(), None);
        let mut unix = RawAddress::default();
        unix.put(0, &(libc::AF_UNIX as u16).to_ne_bytes());
        assert_eq!(unix.decode(), None);
    }

    proptest! {
        #[test]
        fn every_address_survives(v4: [u8; 4], v6: [u8; 16], port: u16, flow: u32, scope: u32) {
            let v4 = SocketAddr::from(SocketAddrV4::new(v4.into(), port));
            prop_assert_eq!(RawAddress::from(v4).decode(), Some(v4));
            let v6 = SocketAddr::from(SocketAddrV6::new(v6.into(), port, flow, scope));
            prop_assert_eq!(RawAddress::from(v6).decode(), Some(v6));
        }
    }
}

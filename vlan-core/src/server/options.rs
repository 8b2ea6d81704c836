//! Options of the LAN and of its members that change while frames flow: what is known of members stays.

use core::net::IpAddr;

use super::{LanServer, MemberSlot};
use crate::security::PortSecurity;

impl LanServer {
    /// Frames are judged by this MTU, in octets, from now on.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu;
    }

    /// Group frames go to every member from now on, or to those who have joined.
    //= spec/multicast.md#changed-policies
    //# When a LAN begins or ends to flood, or a member to get every group, what members have joined MUST stay known.
    pub fn set_floods(&mut self, floods: bool) {
        self.config.multicast.floods = floods;
    }

    /// The platform file says that the member at `slot` gets every group, or says so no more.
    pub fn set_gets_every_group(&mut self, slot: MemberSlot, gets_every_group: bool) {
        self.groups.set_configured(slot, gets_every_group);
    }

    /// These sources are checked from now on. `bound` are the addresses that are bound to members: where addresses were not
    /// checked before, the link-local ones of them are their holders' own from now on.
    //= spec/port-security.md#changed-port-security
    //# When a LAN begins to check addresses, each link-local address that is bound to a member MUST count as its own, and
    //# its control node MUST tell drivers the addresses of their peers before it tells them to check.
    pub fn set_port_security(
        &mut self,
        port_security: PortSecurity,
        bound: impl Iterator<Item = (MemberSlot, IpAddr)>,
    ) {
        let before = core::mem::replace(&mut self.config.port_security, port_security);
        if port_security == before || port_security != PortSecurity::Address {
            return;
        }
        bound.for_each(|(slot, address)| self.bound(slot, address));
    }
}

#[cfg(test)]
mod tests {
    use super::super::LanServerConfig;
    use super::*;
    use crate::address::{LanId, MacAddress, NodeNumber, VifNumber};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn bound_link_local_addresses_are_their_holders_own_when_addresses_are_checked() {
        //= spec/port-security.md#changed-port-security
        //= type=test
        //# When a LAN begins to check addresses, each link-local address that is bound to a member MUST count as its own, and
        //# its control node MUST tell drivers the addresses of their peers before it tells them to check.
        let (one, two) = (MemberSlot(0), MemberSlot(1));
        let member = |n: u8| (NodeNumber(n.into()), VifNumber(1), MacAddress([2, 0, 1, 0, 0, n]));
        let mut server = LanServer::new(LanServerConfig {
            id: LanId(10),
            name: "red".into(),
            mtu: 1500,
            port_security: PortSecurity::Mac,
            members: alloc::vec![member(1), member(2)],
            multicast: Default::default(),
            seed: 1,
        });
        let bound = [(one, ip("fe80::1")), (one, ip("10.1.0.1")), (two, ip("fe80::2"))];
        server.set_port_security(PortSecurity::Off, bound.into_iter());
        assert!(server.may_bind(one, ip("10.1.0.9")));
        server.set_port_security(PortSecurity::Address, bound.into_iter());
        assert_eq!(server.port_security(), PortSecurity::Address);
        let own = |slot| server.sender(slot).own.iter().collect::<alloc::vec::Vec<_>>();
        assert_eq!((own(one), own(two)), (alloc::vec![ip("fe80::1")], alloc::vec![ip("fe80::2")]));
        assert!(!server.may_bind(one, ip("10.1.0.9")));
    }
}

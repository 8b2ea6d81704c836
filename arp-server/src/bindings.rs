//! The table of bindings: IP address to MAC and member, bounded in all and for each member.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use vlan_core::MacAddress;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;
/// The member that holds a binding: its slot in the virtual LAN server.
pub use vlan_core::server::MemberSlot as Owner;

/// One IP address and who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: IpAddr,
    /// The MAC that frames for it go to.
    pub mac: MacAddress,
    /// The member that holds it.
    pub owner: Owner,
    /// True when the member registered it, false when it was only seen in a message.
    pub registered: bool,
}

/// Why an address was not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// Another member holds the address.
    Conflict {
        /// That member's MAC.
        holder: MacAddress,
    },
    /// The LAN's table, or this member's share of it, is full.
    Full {
        /// How many bindings the full one of the two holds.
        capacity: usize,
    },
    /// No station can have this address: unspecified, loopback, multicast or broadcast.
    Unusable {
        /// The address.
        address: IpAddr,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { holder } => write!(f, "the address is held by {holder}"),
            Self::Full { capacity } => write!(f, "no room beyond {capacity} addresses"),
            Self::Unusable { address } => write!(f, "{address} is not an address that a station can have"),
        }
    }
}

impl core::error::Error for BindError {}

/// What recording a sender did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// The binding is new or its MAC has changed.
    Changed,
    /// Known already, or there was no room.
    Unchanged,
    /// Another member holds the address, with this MAC.
    Conflict(MacAddress),
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    mac: MacAddress,
    owner: Owner,
    registered: bool,
}

/// The bindings of one LAN.
#[derive(Clone, Debug)]
pub(crate) struct Bindings {
    holders: BTreeMap<IpAddr, Holder>,
    /// How many addresses each member holds; members with none are absent.
    shares: BTreeMap<Owner, usize>,
    /// The MAC that an address had when nobody held it any more; as many as there may be bindings.
    former: BTreeMap<IpAddr, MacAddress>,
    capacity: usize,
}

impl Bindings {
    pub(crate) fn new(capacity: usize) -> Self {
        let (holders, shares, former) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { holders, shares, former, capacity }
    }

    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Binds by registration: the caller is the member's own node or the administrator.
    //= spec/arp.md#the-first-holder
    //# A registration or message that names an address which another member holds MUST leave the binding as it is.
    pub(crate) fn bind(&mut self, address: IpAddr, mac: MacAddress, owner: Owner) -> Result<(), BindError> {
        if !is_station_address(address) {
            return Err(BindError::Unusable { address });
        }
        if let Some(holder) = self.holders.get_mut(&address) {
            if holder.owner != owner {
                return Err(BindError::Conflict { holder: holder.mac });
            }
            *holder = Holder { mac, owner, registered: true };
            return Ok(());
        }
        if let Err(capacity) = self.room_for(owner) {
            self.evict_learned(owner).then_some(()).ok_or(BindError::Full { capacity })?;
        }
        self.insert(address, Holder { mac, owner, registered: true });
        Ok(())
    }

    /// Records what a message says of its own sender.
    pub(crate) fn learn(&mut self, address: IpAddr, mac: MacAddress, owner: Owner) -> Recorded {
        if let Some(holder) = self.holders.get_mut(&address) {
            if holder.owner != owner {
                return Recorded::Conflict(holder.mac);
            }
            let changed = holder.mac != mac;
            holder.mac = mac;
            return if changed { Recorded::Changed } else { Recorded::Unchanged };
        }
        if self.room_for(owner).is_err() {
            return Recorded::Unchanged;
        }
        self.insert(address, Holder { mac, owner, registered: false });
        Recorded::Changed
    }

    /// The MAC of the member that holds `address` against `owner`, if one does.
    pub(crate) fn rival(&self, address: IpAddr, owner: Owner) -> Option<MacAddress> {
        self.holders.get(&address).filter(|holder| holder.owner != owner).map(|holder| holder.mac)
    }

    pub(crate) fn unbind(&mut self, address: IpAddr, owner: Owner) -> bool {
        if self.holders.get(&address).is_none_or(|holder| holder.owner != owner) {
            return false;
        }
        self.remove(address);
        true
    }

    /// Nobody holds the address any more.
    pub(crate) fn take_away(&mut self, address: IpAddr) {
        self.remove(address);
    }

    //= spec/arp.md#a-member-that-leaves
    //# When a member has left the LAN for good, the ARP server MUST drop all its bindings.
    pub(crate) fn forget(&mut self, owner: Owner) {
        let of_owner = self.holders.iter().filter(|(_, holder)| holder.owner == owner);
        for address in of_owner.map(|(address, _)| *address).collect::<Vec<_>>() {
            self.remove(address);
        }
    }

    /// What was learned of the station `mac` is bound to the member that it is behind now, or to nobody.
    //= spec/arp.md#stations-that-move-or-go
    //# When a station has moved to another member, or is forgotten, the ARP server MUST move or drop what it learned from it.
    pub(crate) fn rehome(&mut self, mac: MacAddress, to: Option<Owner>) {
        let of_station =
            |holder: &Holder| holder.mac == mac && !holder.registered && Some(holder.owner) != to;
        let addresses: Vec<_> = self.holders.iter().filter(|(_, h)| of_station(h)).map(|(a, _)| *a).collect();
        for address in addresses {
            self.remove(address);
            if let Some(owner) = to.filter(|owner| self.room_for(*owner).is_ok()) {
                self.insert(address, Holder { mac, owner, registered: false });
            }
        }
    }

    pub(crate) fn lookup(&self, address: IpAddr) -> Option<Binding> {
        self.holders.get(&address).map(|holder| binding(address, holder))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Binding> + '_ {
        self.holders.iter().map(|(address, holder)| binding(*address, holder))
    }

    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }

    /// Fails with the bound that a new binding of `owner` would exceed.
    //= spec/arp.md#bounds
    //# The ARP server MUST hold at most the configured number of bindings, and at most 64 of one member.
    fn room_for(&self, owner: Owner) -> Result<(), usize> {
        if self.shares.get(&owner).is_some_and(|share| *share >= ADDRESSES_PER_VIF_MAX) {
            return Err(ADDRESSES_PER_VIF_MAX);
        }
        if self.holders.len() >= self.capacity {
            return Err(self.capacity);
        }
        Ok(())
    }

    /// Makes room for one binding of `owner` by giving up one that was only learned from it.
    //= spec/arp.md#bounds
    //# A registration MUST take the place of a binding that was only learned from the same member before it is
    //# refused for want of room.
    fn evict_learned(&mut self, owner: Owner) -> bool {
        let learned = self.holders.iter().find(|(_, h)| h.owner == owner && !h.registered).map(|(a, _)| *a);
        match learned {
            Some(address) => {
                self.remove(address);
                true
            }
            None => false,
        }
    }

    /// The MAC by which neighbours may know an address: of its holder, or of its last one.
    pub(crate) fn last_mac(&self, address: IpAddr) -> Option<MacAddress> {
        self.holders.get(&address).map(|holder| holder.mac).or_else(|| self.former.get(&address).copied())
    }

    fn insert(&mut self, address: IpAddr, holder: Holder) {
        self.former.remove(&address);
        *self.shares.entry(holder.owner).or_insert(0) += 1;
        let before = self.holders.insert(address, holder);
        debug_assert!(before.is_none(), "{address} was bound already");
    }

    fn remove(&mut self, address: IpAddr) {
        let Some(holder) = self.holders.remove(&address) else { return };
        if self.former.len() >= self.capacity {
            self.former.pop_first();
        }
        self.former.insert(address, holder.mac);
        if let Some(share) = self.shares.get_mut(&holder.owner) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&holder.owner);
            }
        }
    }
}

fn binding(address: IpAddr, holder: &Holder) -> Binding {
    Binding { address, mac: holder.mac, owner: holder.owner, registered: holder.registered }
}

/// True for an address that one station can have on a LAN (RFC 1122, 3.2.1.3; RFC 4291, 2.4 to 2.7).
///
/// A subnet's broadcast address is not recognised: the server does not know the prefixes in use.
pub(crate) fn is_station_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[0] != 0 && !a.is_loopback() && !a.is_multicast() && !a.is_broadcast(),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const MAC_1: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
    const MAC_2: MacAddress = MacAddress([2, 0, 1, 0, 0, 2]);

    fn v4(tail: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 1, 0, tail))
    }

    #[test]
    fn the_first_holder_keeps_its_address_and_may_move_its_mac() {
        //= spec/arp.md#the-first-holder
        //= type=test
        //# A registration or message that names an address which another member holds MUST leave the binding as it is.
        let mut bindings = Bindings::new(8);
        assert_eq!(bindings.bind(v4(1), MAC_1, Owner(1)), Ok(()));
        assert_eq!(bindings.bind(v4(1), MAC_2, Owner(2)), Err(BindError::Conflict { holder: MAC_1 }));
        assert_eq!(bindings.learn(v4(1), MAC_2, Owner(2)), Recorded::Conflict(MAC_1));
        assert!(!bindings.unbind(v4(1), Owner(2)));
        assert_eq!(bindings.lookup(v4(1)).map(|b| (b.mac, b.owner)), Some((MAC_1, Owner(1))));
        assert_eq!(bindings.bind(v4(1), MAC_2, Owner(1)), Ok(()));
        assert_eq!(bindings.lookup(v4(1)).map(|b| b.mac), Some(MAC_2));
    }

    #[test]
    fn a_released_address_can_be_bound_by_another_member() {
        let mut bindings = Bindings::new(8);
        assert_eq!(bindings.bind(v4(1), MAC_1, Owner(1)), Ok(()));
        assert!(bindings.unbind(v4(1), Owner(1)));
        assert!(!bindings.unbind(v4(1), Owner(1)));
        assert_eq!(bindings.last_mac(v4(1)), Some(MAC_1));
        assert_eq!(bindings.bind(v4(1), MAC_2, Owner(2)), Ok(()));
        assert_eq!(bindings.last_mac(v4(1)), Some(MAC_2));
    }

    #[test]
    fn former_holders_are_remembered_for_as_many_addresses_as_may_be_bound() {
        let mut bindings = Bindings::new(3);
        for tail in 1..=9 {
            assert_eq!(bindings.bind(v4(tail), MAC_1, Owner(1)), Ok(()));
            bindings.forget(Owner(1));
            assert_eq!(bindings.last_mac(v4(tail)), Some(MAC_1));
            assert!(bindings.former.len() <= 3 && bindings.shares.is_empty());
        }
    }

    #[test]
    fn addresses_of_a_station_go_with_it_but_for_registered_ones() {
        //= spec/arp.md#stations-that-move-or-go
        //= type=test
        //# When a station has moved to another member, or is forgotten, the ARP server MUST move or drop what it learned from
        //# it.
        let mut bindings = Bindings::new(8);
        assert_eq!(bindings.bind(v4(1), MAC_1, Owner(1)), Ok(()));
        assert_eq!(bindings.learn(v4(2), MAC_1, Owner(1)), Recorded::Changed);
        assert_eq!(bindings.learn(v4(3), MAC_2, Owner(1)), Recorded::Changed);
        bindings.rehome(MAC_1, Some(Owner(2)));
        let owner = |bindings: &Bindings, tail| bindings.lookup(v4(tail)).map(|b| b.owner);
        let owners = [1, 2, 3].map(|tail| owner(&bindings, tail));
        assert_eq!(owners, [Some(Owner(1)), Some(Owner(2)), Some(Owner(1))]);
        bindings.rehome(MAC_1, None);
        assert_eq!((owner(&bindings, 2), bindings.len()), (None, 2));
        assert_eq!(bindings.learn(v4(2), MAC_2, Owner(3)), Recorded::Changed);
    }

    #[test]
    fn a_member_that_left_holds_nothing() {
        //= spec/arp.md#a-member-that-leaves
        //= type=test
        //# When a member has left the LAN for good, the ARP server MUST drop all its bindings.
        let mut bindings = Bindings::new(8);
        for tail in 1..4 {
            assert_eq!(bindings.bind(v4(tail), MAC_1, Owner(1)), Ok(()));
        }
        assert_eq!(bindings.bind(v4(4), MAC_2, Owner(2)), Ok(()));
        bindings.forget(Owner(1));
        assert_eq!(bindings.iter().map(|b| b.address).next(), Some(v4(4)));
        assert_eq!(bindings.len(), 1);
        assert_eq!(bindings.bind(v4(1), MAC_2, Owner(2)), Ok(()));
    }

    #[test]
    fn neither_the_table_nor_a_members_share_grows_past_its_bound() {
        //= spec/arp.md#bounds
        //= type=test
        //# The ARP server MUST hold at most the configured number of bindings, and at most 64 of one member.
        let mut bindings = Bindings::new(ADDRESSES_PER_VIF_MAX + 1);
        for tail in 0..100 {
            bindings.learn(v4(tail), MAC_1, Owner(1));
        }
        assert_eq!(bindings.len(), ADDRESSES_PER_VIF_MAX);
        assert_eq!(bindings.bind(v4(200), MAC_2, Owner(2)), Ok(()));
        let full = Err(BindError::Full { capacity: ADDRESSES_PER_VIF_MAX + 1 });
        assert_eq!(bindings.bind(v4(201), MAC_2, Owner(2)), full);
        assert_eq!(bindings.learn(v4(202), MAC_2, Owner(2)), Recorded::Unchanged);
        assert_eq!(bindings.len(), ADDRESSES_PER_VIF_MAX + 1);
    }

    #[test]
    fn a_registration_takes_the_place_of_a_learned_binding_of_the_same_member() {
        //= spec/arp.md#bounds
        //= type=test
        //# A registration MUST take the place of a binding that was only learned from the same member before it is
        //# refused for want of room.
        let mut bindings = Bindings::new(2);
        bindings.learn(v4(1), MAC_1, Owner(1));
        bindings.learn(v4(2), MAC_1, Owner(1));
        assert_eq!(bindings.bind(v4(3), MAC_1, Owner(1)), Ok(()));
        assert_eq!(bindings.bind(v4(4), MAC_1, Owner(1)), Ok(()));
        assert_eq!(bindings.bind(v4(5), MAC_1, Owner(1)), Err(BindError::Full { capacity: 2 }));
        assert!(bindings.iter().all(|b| b.registered));
    }

    #[test]
    fn an_address_that_no_station_can_have_is_not_bound() {
        let mut bindings = Bindings::new(8);
        let none = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::BROADCAST),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
        ];
        for address in none {
            assert_eq!(bindings.bind(address, MAC_1, Owner(1)), Err(BindError::Unusable { address }));
        }
    }
}

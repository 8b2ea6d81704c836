//! Inward: a frame from outside is judged before it may go inside, and the verdict says to whom.

use core::net::{IpAddr, Ipv4Addr};

use vlan_core::ethernet::{ETHERTYPE_ARP, EthernetHeader};
use vlan_core::security::rate::{Cost, Kind};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, Instant, MacAddress};

use super::{Holder, Inside, LanProxy, Mode, OUTSIDE, is_of_bridges};
use crate::tag::is_tag;
use crate::translate::{
    ARP_AT, ARP_END, ARP_OF_IPV4, ARP_SENDER, ARP_TARGET, replace_stated, set_destination,
};
use vlan_core::ip::{NEIGHBOUR_ADVERTISEMENT, Packet};

/// Who gets a frame from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inward {
    /// This member; in filtered mode its MAC is in the frame now.
    Member(MemberSlot),
    /// All members, as the frame is.
    Group,
    /// Nobody; counted.
    Dropped(DropReason),
}

/// What is known of a frame from outside once it has been read.
struct Arrived {
    header: EthernetHeader,
    packet: Option<Packet>,
    is_resolution: bool,
}

impl LanProxy {
    /// Takes an untagged frame from outside, private and whole, and changes it in place where its destination inside has another MAC.
    pub fn inward(&mut self, now: Instant, vnet: &Vnet, frame: &mut [u8], inside: &impl Inside) -> Inward {
        self.counters.inward.add(frame.len());
        //= spec/uplink.md#groups
        //# A frame from outside to a group MUST go inside once, whole and unchanged, for all members.
        let verdict = self.admit(now, vnet, frame, inside).and_then(|arrived| match self.mode {
            _ if arrived.header.destination.is_group() => Ok(Inward::Group),
            Mode::Unfiltered => by_mac(&arrived.header, inside),
            Mode::Filtered { system } => self.by_address(system, vnet, frame, &arrived, inside),
        });
        match verdict {
            Ok(verdict) => {
                self.counters.taken.add(frame.len());
                verdict
            }
            Err(reason) => {
                self.counters.drops.add(reason);
                Inward::Dropped(reason)
            }
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        vnet: &Vnet,
        frame: &[u8],
        inside: &impl Inside,
    ) -> Result<Arrived, DropReason> {
        let header = EthernetHeader::parse(frame).ok_or(DropReason::TooShort)?;
        if is_tag(header.ethertype) {
            return Err(DropReason::WrongTag);
        }
        if is_of_bridges(header.destination) {
            return Err(DropReason::ReservedGroup);
        }
        if !header.source.is_station() {
            return Err(DropReason::BadSource);
        }
        self.check_loop(now, header.source, inside)?;
        vnet.check(self.lan_mtu, frame.len())?;
        let packet = Packet::read(frame, header.ethertype, vnet.gso_type != 0)?;
        let is_resolution = check_claims(frame, &header, packet.as_ref(), inside)?;
        self.check_limits(now, vnet, frame.len(), &header, is_resolution)?;
        // Nothing depends on it: where there is no room, the station stays unknown.
        let _ = self.stations.hear(now, header.source, OUTSIDE);
        Ok(Arrived { header, packet, is_resolution })
    }

    //= spec/uplink.md#loops
    //# A frame from outside MUST be dropped as `uplink-loop` when its source is a MAC of the platform, or one from which the
    //# uplink has sent in the last 4 s.
    fn check_loop(
        &mut self,
        now: Instant,
        source: MacAddress,
        inside: &impl Inside,
    ) -> Result<(), DropReason> {
        let is_system = matches!(self.mode, Mode::Filtered { system } if system == source);
        if is_system || inside.is_own(source) || self.sources.has_sent(now, source) {
            self.last_loop = Some(now);
            return Err(DropReason::UplinkLoop);
        }
        Ok(())
    }

    //= spec/uplink.md#resolution-from-outside
    //# ARP and ND messages from outside beyond 1000 a second MUST be dropped as `limit-resolution`.
    fn check_limits(
        &mut self,
        now: Instant,
        vnet: &Vnet,
        len: usize,
        header: &EthernetHeader,
        is_resolution: bool,
    ) -> Result<(), DropReason> {
        let cost = Cost::of(vnet, len);
        if let Some(meters) = self.resolution.as_mut().filter(|_| is_resolution) {
            meters.take(now, Kind::Unicast, cost).map_err(|_| DropReason::LimitResolution)?;
        }
        let kind = match header.destination {
            MacAddress::BROADCAST => Kind::Broadcast,
            group if group.is_group() => Kind::Multicast,
            _ => Kind::Unicast,
        };
        self.limits.as_mut().map_or(Ok(()), |meters| meters.take(now, kind, cost))
    }

    /// The member of a frame to the system MAC, whose own MAC takes the place of it.
    //= spec/uplink.md#inward-by-address
    //# In filtered mode a unicast frame from outside MUST go to the member that holds its destination IP address, or in ARP its
    //# target address, with that member's MAC in the place of the system MAC.
    fn by_address(
        &self,
        system: MacAddress,
        vnet: &Vnet,
        frame: &mut [u8],
        arrived: &Arrived,
        inside: &impl Inside,
    ) -> Result<Inward, DropReason> {
        if arrived.header.destination != system {
            return Err(DropReason::UnknownDestination);
        }
        let address = match (arrived.header.ethertype, arrived.packet) {
            (ETHERTYPE_ARP, _) => ipv4_at(frame, ARP_TARGET),
            (_, packet) => packet.map(|packet| packet.destination),
        };
        let holder = address.and_then(|address| inside.holder_of(address));
        let holder = holder.or(self.router_for(arrived)).ok_or(DropReason::UnknownDestination)?;
        // A sum that is still to be completed does not know the body yet.
        let is_summed = vnet.flags & Vnet::NEEDS_CSUM == 0;
        if arrived.is_resolution && is_summed {
            let own = |mac| (mac == system).then_some(holder.mac);
            replace_stated(frame, arrived.header.ethertype, arrived.packet.as_ref(), own);
        }
        set_destination(frame, holder.mac);
        Ok(Inward::Member(holder.slot))
    }

    //= spec/uplink.md#the-default-router
    //# In filtered mode a unicast frame from outside for which no member is found, other than ARP and ND, MUST go to the default
    //# router, or be dropped when there is none.
    fn router_for(&self, arrived: &Arrived) -> Option<Holder> {
        self.default_router.filter(|_| !arrived.is_resolution)
    }
}

//= spec/uplink.md#inward-by-mac
//# In unfiltered mode a unicast frame from outside MUST go to the member that has its destination MAC, and be dropped when none
//# has it.
fn by_mac(header: &EthernetHeader, inside: &impl Inside) -> Result<Inward, DropReason> {
    inside.owner_of(header.destination).map(Inward::Member).ok_or(DropReason::UnknownDestination)
}

/// Whether the frame is ARP or ND, and claims no address of a member. A station outside may speak for another one there, as routers do
/// that share an address, so the MACs in the body are not looked at.
//= spec/uplink.md#inside-addresses-from-outside
//# A frame from outside MUST be dropped as `inside-source` when its IP source, its ARP sender or its advertised neighbour
//# is an address that a member holds.
fn check_claims(
    frame: &[u8],
    header: &EthernetHeader,
    packet: Option<&Packet>,
    inside: &impl Inside,
) -> Result<bool, DropReason> {
    let discovery = packet.and_then(|packet| packet.neighbour_discovery(frame));
    let claimed = if header.ethertype == ETHERTYPE_ARP {
        if frame.len() < ARP_END || frame[ARP_AT..ARP_AT + 6] != ARP_OF_IPV4 {
            return Err(DropReason::BadArp);
        }
        [ipv4_at(frame, ARP_SENDER), None]
    } else {
        let advertised = packet.filter(|_| discovery == Some(NEIGHBOUR_ADVERTISEMENT));
        [packet.map(|packet| packet.source), advertised.and_then(|packet| packet.advertised(frame))]
    };
    if claimed.into_iter().flatten().any(|address| inside.holder_of(address).is_some()) {
        return Err(DropReason::InsideSource);
    }
    Ok(header.ethertype == ETHERTYPE_ARP || discovery.is_some())
}

fn ipv4_at(frame: &[u8], at: usize) -> Option<IpAddr> {
    let octets = frame.get(at..)?.first_chunk::<4>()?;
    Some(Ipv4Addr::from(*octets).into())
}

//! Members that come to a LAN and leave it for good while frames flow.

use alloc::boxed::Box;

use super::{LanServer, Member, MemberSlot, Meter};
use crate::address::{MacAddress, NodeNumber, VifNumber};
use crate::counters::FrameCount;
use crate::security::Sender;

impl Member {
    /// One that nobody serves and that has sent nothing.
    pub(super) fn new((node, vif, mac): (NodeNumber, VifNumber, MacAddress)) -> Self {
        let (ingress, egress) = (FrameCount::default(), FrameCount::default());
        let (process, sender, meters, window) = (None, Sender::default(), None, None);
        Self { node, vif, mac, process, ingress, egress, sender, meters, window }
    }

    /// True for the place of a member that has been removed: no member has the node 0.
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        self.node == NodeNumber::default()
    }

    fn vacant() -> Self {
        Self::new((NodeNumber::default(), VifNumber::default(), MacAddress::NULL))
    }
}

impl LanServer {
    /// Makes a member known at `slot`, which is vacant or the first beyond the others; it is not attached. `gets_every_group`
    /// as in [`MulticastConfig::every_group`](crate::group::members::MulticastConfig::every_group).
    ///
    /// # Panics
    /// When the slot has a member, or is neither.
    pub fn add_member(
        &mut self,
        slot: MemberSlot,
        member: (NodeNumber, VifNumber, MacAddress),
        gets_every_group: bool,
    ) {
        let place = usize::from(slot.0);
        if place == self.members.len() {
            assert!(place + 1 < usize::from(u16::MAX), "{place} members");
            self.members.push(Member::vacant());
        }
        assert!(self.members[place].is_vacant(), "slot {place} has a member");
        self.members[place] = Member::new(member);
        self.stations.add_member(member.2, slot);
        self.groups.add_member(slot, gets_every_group);
    }

    /// The member at `slot` is none any more. Nothing that is known of it is taken for the next one's in its place.
    pub fn remove_member(&mut self, slot: MemberSlot) {
        self.detach(slot);
        let mac = self.members[usize::from(slot.0)].mac;
        self.stations.remove_member(mac, slot);
        self.groups.remove_member(slot);
        self.changed_senders.retain(|changed| *changed != slot);
        forget_pairs_of(&mut self.meters, slot);
        self.members[usize::from(slot.0)] = Member::vacant();
    }
}

fn forget_pairs_of(meters: &mut Box<[Meter]>, slot: MemberSlot) {
    let is_of = |meter: &&mut Meter| meter.pair.0 == slot.0 || meter.pair.1 == slot.0;
    meters.iter_mut().filter(is_of).for_each(|meter| *meter = Meter::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{LanId, ProcessId};
    use crate::drop_reason::DropReason;
    use crate::group::members::MulticastConfig;
    use crate::security::PortSecurity;
    use crate::server::{LanServerConfig, Verdict};
    use crate::time::Instant;
    use crate::wire::frame::{FrameHeader, FrameKind, Vnet};

    fn identity(node: u16, vif: u16, last: u8) -> (NodeNumber, VifNumber, MacAddress) {
        (NodeNumber(node), VifNumber(vif), MacAddress([2, 0, 1, 0, 0, last]))
    }

    fn server() -> LanServer {
        let mut server = LanServer::new(LanServerConfig {
            id: LanId(10),
            name: "red".into(),
            mtu: 1500,
            port_security: PortSecurity::Mac,
            members: (1..=2).map(|n| identity(n, 1, n as u8)).collect(),
            multicast: MulticastConfig::default(),
            seed: 5,
        });
        (0..2).for_each(|slot| server.attach(MemberSlot(slot), ProcessId(7)));
        server
    }

    fn send(server: &mut LanServer, from: (u16, u16, u8), to: u8, bseq: u32) -> Verdict {
        let (node, vif, own) = from;
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&[2, 0, 1, 0, 0, to]);
        frame[6..12].copy_from_slice(&[2, 0, 1, 0, 0, own]);
        let header = FrameHeader {
            kind: FrameKind::Relay,
            flags: 0,
            lan: LanId(10),
            origin: NodeNumber(node),
            origin_vif: VifNumber(vif),
            destination_vif: VifNumber(0),
            vnet: Vnet::default(),
            boot: ProcessId(7).boot_tag(),
            bseq,
        };
        server.handle_frame(Instant::ZERO, MemberSlot(node - 1), &header, &frame, frame.len())
    }

    #[test]
    fn a_member_that_is_removed_sends_and_gets_nothing_and_the_next_one_in_its_place_begins_anew() {
        let mut server = server();
        assert!(matches!(send(&mut server, (1, 1, 1), 2, 9), Verdict::Unicast { .. }));
        assert!(matches!(send(&mut server, (2, 1, 2), 1, 9), Verdict::Unicast { .. }));
        server.remove_member(MemberSlot(1));
        assert!(server.member(MemberSlot(1)).is_some_and(Member::is_vacant));
        assert_eq!(send(&mut server, (2, 1, 2), 1, 10), Verdict::Drop(DropReason::NotMember));
        assert_eq!(send(&mut server, (1, 1, 1), 2, 10), Verdict::Drop(DropReason::UnknownDestination));
        server.add_member(MemberSlot(1), identity(2, 2, 3), false);
        server.attach(MemberSlot(1), ProcessId(7));
        let to = Verdict::Unicast { to: MemberSlot(1), worth_direct: false };
        assert_eq!(send(&mut server, (1, 1, 1), 3, 11), to);
        // Its numbering is its own, the former one's is over.
        assert!(matches!(send(&mut server, (2, 2, 3), 1, 9), Verdict::Unicast { .. }));
        assert_eq!(send(&mut server, (2, 1, 2), 1, 12), Verdict::Drop(DropReason::WrongGrant));
        assert_eq!(server.members().count(), 2);
    }

    #[test]
    fn tables_grow_with_the_members() {
        let mut server = server();
        for slot in 2..200 {
            server.add_member(MemberSlot(slot), identity(slot + 1, 1, slot as u8 + 1), slot == 150);
            server.attach(MemberSlot(slot), ProcessId(7));
        }
        for slot in 0..200 {
            let mac = MacAddress([2, 0, 1, 0, 0, slot as u8 + 1]);
            assert_eq!(server.slot_of(mac), Some(MemberSlot(slot)));
        }
        let configured = (0..200).filter(|slot| {
            server.groups().every_group(MemberSlot(*slot))
                == Some(crate::group::members::EveryGroup::Configured)
        });
        assert_eq!(configured.collect::<alloc::vec::Vec<_>>(), [150]);
    }
}

//! Stations behind members' interfaces: who is told that one has moved, and what goes with one that is forgotten.

use alloc::vec::Vec;

use arp_server::Owner;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::ControlMessage;
use vlan_core::{Instant, MacAddress};

use crate::control_node::ControlNode;
use crate::control_node::session::Session;

impl ControlNode {
    /// A station is behind another member now. `session` is that member's, out of its place.
    ///
    /// As many messages as a broadcast frame of the station would cost.
    //= spec/port-security.md#moved-stations
    //# When a station has moved, a control node MUST tell every attached member where it is.
    pub(super) fn station_moved(
        &mut self,
        now: Instant,
        session: &mut Session,
        (lan, to): (usize, MemberSlot),
        mac: MacAddress,
    ) {
        self.lans[lan].arp.rehome(mac, Some(Owner(to.0)));
        let of_station: Vec<_> =
            self.lans[lan].arp.bindings().filter(|binding| binding.mac == mac).map(|b| b.address).collect();
        of_station.into_iter().for_each(|address| self.announce(now, lan, address));
        let binding = ControlMessage::Binding { mac, location: self.location(lan, to) };
        for place in self.lans[lan].routes.iter().filter_map(|route| route.session) {
            match &mut self.sessions[place] {
                Some(other) => other.send_control(now, &binding),
                None => session.send_control(now, &binding),
            }
        }
    }

    /// Forgets the stations that have been silent for too long, on every LAN.
    pub(super) fn forget_stations(&mut self, now: Instant) {
        for lan in &mut self.lans {
            for mac in lan.server.forget_silent(now) {
                lan.arp.rehome(mac, None);
            }
        }
    }
}

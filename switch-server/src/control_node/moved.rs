//! Addresses that are another interface's now: the neighbours, who have the former MAC in their tables, are told.

use core::net::IpAddr;
use core::time::Duration;

use vlan_core::Instant;
use vlan_core::server::MemberSlot;
use vlan_core::wire::frame::{FrameKind, Vnet};

use super::ControlNode;
use super::session::Account;

/// Moved addresses that one LAN is told of in [`WINDOW`]: its members may not make the control node flood the LAN.
const MOVES_MAX: u32 = 100;
/// The time for which moves are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How many moves a LAN has been told of lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    since: Instant,
    count: u32,
}

impl Moves {
    /// True when one more may be told.
    fn take(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        self.count <= MOVES_MAX
    }
}

impl ControlNode {
    /// Remembers that neighbours are to be told of an address. Every session is to be in its place for that.
    pub(super) fn note_moved(&mut self, now: Instant, lan: usize, address: IpAddr) {
        if self.lans[lan].moves.take(now) {
            self.moved.push((lan, address));
        }
    }

    /// Tells the members of each LAN what the new holder of an address would say unasked.
    //= spec/arp.md#addresses-that-move
    //# When a node registers an address under another MAC than the address had before, a control node MUST announce it to the other
    //# members as its holder would unasked, for at most 100 addresses of a LAN in a second.
    pub(super) fn tell_moved(&mut self, now: Instant) {
        for (lan, address) in core::mem::take(&mut self.moved) {
            let Some(holder) = self.lans[lan].arp.lookup(address).map(|binding| binding.owner) else {
                continue;
            };
            let Some(frame) = self.lans[lan].arp.announcement(address) else { continue };
            let account = &mut Account::outside();
            self.as_inbound(
                lan,
                MemberSlot(holder.0),
                FrameKind::Group,
                &Vnet::default(),
                &frame,
                |control, inbound| {
                    for to in control.lans[lan].slots() {
                        if to != inbound.from && control.lans[lan].routes[usize::from(to.0)].session.is_some()
                        {
                            control.lans[lan].server.copy_made();
                            control.forward_arp(now, account, inbound, to, &frame);
                        }
                    }
                },
            );
        }
    }
}

//! What outside is told unasked: which MAC has which address inside.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use vlan_core::Instant;

use super::{InsideOf, Uplinks};
use crate::control_node::{ClusterRole, ControlNode};

/// How often something new is said.
const ROUNDS: u8 = 3;
/// Between two of them.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// After which everything is said again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// How long after so many announcements the next ones follow.
const PACE: Duration = Duration::from_millis(100);
/// Announcements of one uplink in that time.
const ANNOUNCEMENTS_PER_PACE: usize = 10;
/// Announcements of one uplink that wait at most.
const ANNOUNCEMENTS_MAX: usize = 4096;

/// What is still to be said of an uplink's LAN. An address waits once, however often its node says that it has it.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// In the order of their times.
    due: BTreeSet<(Instant, IpAddr)>,
    /// When each is said next, and how often it is still to be said.
    waiting: BTreeMap<IpAddr, (Instant, u8)>,
    /// When everything is said again; none without a carrier.
    refresh_at: Option<Instant>,
    /// Nothing is said earlier.
    not_before: Instant,
}

impl Announcements {
    /// The address has a holder, or another one. Without room it is said with the next refresh.
    pub fn add(&mut self, now: Instant, address: IpAddr, rounds: u8) {
        let is_known = self.waiting.contains_key(&address);
        if self.refresh_at.is_some() && (is_known || self.waiting.len() < ANNOUNCEMENTS_MAX) {
            self.wait(now, address, rounds);
        }
    }

    fn wait(&mut self, at: Instant, address: IpAddr, rounds: u8) {
        if let Some((before, _)) = self.waiting.insert(address, (at, rounds)) {
            self.due.remove(&(before, address));
        }
        self.due.insert((at, address));
    }

    /// The device has got a carrier, or has it still.
    pub fn restart(&mut self, now: Instant, addresses: impl Iterator<Item = IpAddr>, rounds: u8) {
        self.refresh_at = Some(now + REFRESH_INTERVAL);
        addresses.for_each(|address| self.add(now, address, rounds));
    }

    /// The device has none any more.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// The next address that is to be announced.
    fn next(&mut self, now: Instant) -> Option<IpAddr> {
        let (_, address) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.pop_first();
        let (_, rounds) = self.waiting.remove(&address)?;
        if rounds > 1 {
            self.wait(now + ROUND_INTERVAL, address, rounds - 1);
        }
        Some(address)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.due.first().map(|(due, _)| (*due).max(self.not_before));
        first.into_iter().chain(self.refresh_at).min()
    }
}

impl ControlNode {
    /// The holder of an address of the LAN at `lan` is known, or another one.
    //= spec/uplink.md#announcements
    //# A control node MUST announce the holder of each address to outside, as the holder itself would unasked, when the address is
    //# registered or has another holder, when the uplink begins or is changed, when its device gets a carrier, and every 300 s, in the
    //# first cases three times with a second between.
    pub(in crate::control_node) fn announce(&mut self, now: Instant, lan: usize, address: IpAddr) {
        if let Some(link) = self.lans[lan].uplink {
            self.uplinks.links[link].announcements.add(now, address, ROUNDS);
        }
    }

    /// Everything that outside is told of the LANs that go by a device which has just got a carrier.
    pub(super) fn announce_all(&mut self, now: Instant, device: usize) {
        let links = self.uplinks.links.iter().filter(|link| link.device == device);
        for lan in links.map(|link| link.lan).collect::<Vec<_>>() {
            self.announce_lan(now, lan);
        }
    }

    /// Everything that outside is told of a LAN whose uplink has begun.
    pub(super) fn announce_lan(&mut self, now: Instant, lan: usize) {
        let Some(link) = self.lans[lan].uplink else { return };
        let Uplinks { ports, links, .. } = &mut self.uplinks;
        let link = &mut links[link];
        if ports[link.device].has_carrier() {
            let addresses = self.lans[lan].arp.addresses();
            link.announcements.restart(now, addresses, ROUNDS);
        }
    }

    /// Says what is due, a few at a time.
    pub(super) fn go_on_announcing(&mut self, now: Instant) {
        let stands_by = self.cluster_role == ClusterRole::StandsBy;
        let Uplinks { ports, links, own, .. } = &mut self.uplinks;
        for link in links {
            if link.announcements.refresh_at.is_some_and(|due| due <= now) {
                let addresses = self.lans[link.lan].arp.addresses();
                link.announcements.restart(now, addresses, 1);
            }
            if link.announcements.not_before > now {
                continue;
            }
            let inside = InsideOf { lans: &self.lans, lan: link.lan, own, serial: self.config.serial };
            for _ in 0..ANNOUNCEMENTS_PER_PACE {
                let Some(address) = link.announcements.next(now) else { break };
                if stands_by && self.lans[link.lan].cluster_mac(address).is_some() {
                    continue;
                }
                link.announcements.not_before = now + PACE;
                let Some(frame) = self.lans[link.lan].arp.announcement(address) else { continue };
                // It is said by nobody's frame: what becomes of it is counted by the uplink alone.
                let port = &mut ports[link.device];
                link.proxy.outward(now, &Default::default(), &frame, &inside, |vnet, octets| {
                    port.push(link.lan, vnet, octets);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_said_again_and_again_waits_once_and_behind_the_others() {
        let (mut announcements, mut now) = (Announcements::default(), Instant::from_nanos(1));
        let [loud, quiet] = [1, 2].map(|tail| IpAddr::from([10, 1, 0, tail]));
        announcements.add(now, loud, ROUNDS);
        assert_eq!(announcements.poll_timeout(), None, "nothing before there is a carrier");
        announcements.restart(now, core::iter::once(quiet), ROUNDS);
        for _ in 0..10_000 {
            now = now + Duration::from_nanos(1);
            announcements.add(now, loud, ROUNDS);
        }
        assert_eq!((announcements.waiting.len(), announcements.due.len()), (2, 2));
        assert_eq!([0; 3].map(|_| announcements.next(now)), [Some(quiet), Some(loud), None]);
        now = now + ROUND_INTERVAL;
        assert_eq!([0; 3].map(|_| announcements.next(now)), [Some(loud), Some(quiet), None]);
    }
}

//! Options of LANs and of members that change while everything runs, and whether they are everywhere at the end (I-46).

use switch_server::control_node::{Changes, LanConfig, LanOptions, MemberOptions};
use vlan_core::Instant;
use vlan_core::security::Limits;

use super::World;
use super::connections::Party;
use crate::checker::{StationIndex, Violation};
use crate::coverage::Fault;
use crate::plan::LanPlan;
use crate::simulation::Simulation;

/// The MTUs that a LAN may have, all of which IPv6 can live with.
const MTUS: [u16; 3] = [1500, 9000, 16_896];

impl World {
    /// Some option of a LAN is another one from now on.
    pub(super) fn change_lan_at_random(&mut self, now: Instant, lan: usize) {
        let mtu = MTUS[self.random.below(MTUS.len() as u64) as usize];
        // What a hostile node forges only where addresses are checked would be believed while they begin or end to be.
        let kinds = if self.plan.hostile.is_none() { 4 } else { 3 };
        match self.random.below(kinds) {
            0 => self.change_lan(now, lan, |lan| lan.mtu = mtu),
            1 => self.change_lan(now, lan, |lan| lan.suppresses_arp = !lan.suppresses_arp),
            2 => self.change_lan(now, lan, |lan| lan.floods = !lan.floods),
            _ => self.change_lan(now, lan, |lan| lan.checks_addresses = !lan.checks_addresses),
        }
    }

    /// Changes options of a LAN.
    pub fn change_lan(&mut self, now: Instant, lan: usize, change: impl FnOnce(&mut LanPlan)) {
        change(&mut self.plan.lans[lan]);
        let LanPlan { id, mtu, floods, .. } = self.plan.lans[lan];
        self.checker.note_mtu(id, mtu);
        self.checker.set_floods(now, id, floods);
        for station in self.live_stations() {
            if self.stations[station].lan == lan {
                self.count_fault_of(Fault::Apply, Party::Node(self.stations[station].node));
            }
        }
        let LanConfig { mtu, arp, port_security, .. } = self.lan_config(lan);
        let options = LanOptions { lan: id, mtu, arp, port_security, floods };
        self.journal.line(now, format_args!("apply: {options:?}"));
        self.apply(now, Changes { lans: vec![options], ..Changes::default() });
    }

    /// A limit is put on a member or taken off it, it may listen from now on or no more, or it gets every group or its own.
    pub(super) fn change_member_at_random(&mut self, now: Instant, station: usize) {
        match self.random.below(4) {
            0 => self.limited[station] = !self.limited[station],
            1 => {
                let gets_every_group = !self.gets_every_group[station];
                return self.give_every_group(now, station, gets_every_group);
            }
            _ => {
                let may_listen = !self.plan.listeners.contains(&station);
                if may_listen && self.chance(70) {
                    self.set_promiscuous(station, true);
                }
                return self.permit(now, station, may_listen);
            }
        }
        self.change_member(now, station);
    }

    /// A member may listen promiscuously from now on, or no more.
    pub fn permit(&mut self, now: Instant, station: usize, may_listen: bool) {
        self.plan.listeners.retain(|listener| *listener != station);
        self.plan.listeners.extend(may_listen.then_some(station));
        self.change_member(now, station);
    }

    /// A member gets every group from now on, or those that it has joined.
    pub fn give_every_group(&mut self, now: Instant, station: usize, gets_every_group: bool) {
        self.gets_every_group[station] = gets_every_group;
        self.checker.set_every_group(now, StationIndex(station), gets_every_group);
        self.change_member(now, station);
    }

    fn change_member(&mut self, now: Instant, station: usize) {
        self.count_fault_of(Fault::Apply, Party::Node(self.stations[station].node));
        let config = self.member_config(station);
        let options = MemberOptions {
            lan: self.plan.lans[self.stations[station].lan].id,
            node: config.node,
            addresses: config.addresses,
            gateways: config.gateways,
            may_listen: config.may_listen,
            gets_every_group: self.gets_every_group[station],
            sender: config.sender,
        };
        self.journal.line(now, format_args!("apply: options of station {station}"));
        self.apply(now, Changes { options: vec![options], ..Changes::default() });
    }

    /// Every interface has the options that were applied last, and who listens is who may and does.
    ///
    /// # Errors
    /// When it is otherwise.
    pub(super) fn expect_options_everywhere(&self) -> Result<(), Violation> {
        let honest = |station: &usize| Some(self.stations[*station].node) != self.plan.hostile;
        for station in self.live_stations().into_iter().filter(honest) {
            let broken = |detail: String| {
                let detail = format!("station {station}: {detail}");
                Err(Violation { invariant: "I-46 applied options", at: self.now(), detail })
            };
            let (node, vif) = (self.stations[station].node, self.stations[station].vif);
            let (host, lan) = (&self.nodes[node], self.stations[station].lan);
            let (Some(stack), Some(machine)) = (host.stacks.get(&vif.0), &host.machine) else { continue };
            let config = self.lan_config(lan);
            let wanted = (config.mtu, config.port_security, self.plan.listeners.contains(&station));
            let own = (stack.config.mtu, stack.config.port_security, stack.config.may_listen);
            if own != wanted {
                return broken(format!("{own:?} instead of {wanted:?}"));
            }
            let Limits { broadcast, multicast, .. } = self.limits_of(station);
            let of_groups = machine.interfaces().find(|i| i.config.vif == vif).map(|i| *i.group_limits);
            if of_groups != Some(Limits { broadcast, multicast, ..Limits::default() }) {
                return broken(format!("its node holds groups against {of_groups:?}"));
            }
            if self.plan.hostile.is_none() {
                let mut known: Vec<usize> = self.listeners_of(machine, vif).iter().map(|s| s.0).collect();
                known.sort_unstable();
                let listening = self.listening_on(lan).into_iter().filter(|other| *other != station);
                let listening: Vec<usize> = listening.collect();
                if known != listening {
                    return broken(format!("knows the listeners {known:?} instead of {listening:?}"));
                }
            }
        }
        Ok(())
    }

    /// Frames that were too long where they came, so far.
    #[must_use]
    pub fn long_frames_refused(&self) -> u64 {
        self.losses().drops.of(vlan_core::DropReason::TooLong)
    }

    /// The complaint that what was applied has not come about.
    #[must_use]
    pub fn stuck_after_apply(&self, what: &str) -> Violation {
        Violation { invariant: "I-46 applied options", at: self.now(), detail: what.to_owned() }
    }

    /// The members of a LAN that may listen, and do.
    fn listening_on(&self, lan: usize) -> Vec<usize> {
        let listens = |station: &usize| {
            let is_promiscuous = self.promiscuous[*station] && self.plan.listeners.contains(station);
            is_promiscuous && self.stations[*station].lan == lan
        };
        self.live_stations().into_iter().filter(listens).collect()
    }
}

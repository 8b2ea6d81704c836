//! One virtual interface of the node: its driver, its addresses and the frames that wait.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vlan_core::cluster::Served;
use vlan_core::driver::{Driver, DriverCounters};
use vlan_core::group::listener::Listener;
use vlan_core::security::Limits;
use vlan_core::wire::control::{ControlMessage, InterfaceAddress, InterfaceConfig, Listening};
use vlan_core::{Instant, ProcessId};

use crate::node::group_meters::GroupMeters;
use crate::node::held::HeldQueue;
use vlan_core::NodeNumber;

/// Members of one LAN that a driver can know: as many as a platform file may have nodes in a cabinet of the
/// seed, forty times over (S6 names 24); a table of them costs 32 KiB.
const PEERS_MAX: usize = 1024;

/// What can be seen of an interface.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceState<'a> {
    /// Its configuration.
    pub config: &'a InterfaceConfig,
    /// The addresses that its stack has.
    pub addresses: &'a [InterfaceAddress],
    /// Its counters.
    pub counters: &'a DriverCounters,
    /// Frames that wait for a way to go.
    pub held: usize,
    /// Octets of them.
    pub held_octets: usize,
    /// Copies for promiscuous listeners that wait.
    pub copies: usize,
    /// Its peers.
    pub peers: &'a [vlan_core::driver::Peer],
    /// How much its stack may send to groups.
    pub group_limits: &'a Limits,
}

pub(super) struct Interface {
    pub driver: Driver,
    /// Who behind it has joined which groups.
    pub listener: Listener,
    /// How much its stack may send to groups.
    pub group_meters: GroupMeters,
    /// The flows of clusters that its stack owns; none while it serves none.
    pub served: Option<Box<Served>>,
    seed: u64,
    /// What listens at the services of these.
    pub listening: Vec<Listening>,
    pub addresses: Vec<InterfaceAddress>,
    pub held: HeldQueue,
    /// Copies for promiscuous listeners that wait.
    pub copies: HeldQueue,
    /// Its device has heard everything at some time.
    pub was_promiscuous: bool,
    /// Set while the configuration is told anew: not named again means removed.
    pub confirmed: bool,
}

impl Interface {
    pub fn new(node: NodeNumber, process: ProcessId, config: InterfaceConfig, seed: u64) -> Self {
        Self {
            listener: Listener::new(config.vif),
            group_meters: GroupMeters::default(),
            served: None,
            seed,
            listening: Vec::new(),
            driver: Driver::new(node, process, config, PEERS_MAX, seed),
            addresses: Vec::new(),
            held: HeldQueue::default(),
            copies: HeldQueue::default(),
            was_promiscuous: false,
            confirmed: true,
        }
    }

    pub fn state(&self) -> InterfaceState<'_> {
        InterfaceState {
            config: self.driver.config(),
            addresses: &self.addresses,
            counters: self.driver.counters(),
            held: self.held.len(),
            held_octets: self.held.octets(),
            copies: self.copies.len(),
            peers: self.driver.peers(),
            group_limits: self.group_meters.limits(),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let queues = [self.held.poll_timeout(), self.copies.poll_timeout()];
        let served = self.served.as_ref().and_then(|served| served.poll_timeout());
        let machines = [self.driver.poll_timeout(), self.listener.poll_timeout(), served];
        queues.into_iter().chain(machines).flatten().min()
    }

    /// Serves what its configuration says.
    pub fn serve(&mut self) {
        let clusters = &self.driver.config().clusters;
        if self.served.is_none() && clusters.is_empty() {
            return;
        }
        let served = self.served.get_or_insert_with(|| Box::new(Served::new(self.seed)));
        served.set_clusters(clusters);
        self.listening.retain(|known| clusters.iter().any(|c| c.addresses.first() == Some(&known.address)));
    }

    /// Takes the complete list of addresses; returns what the control node is to be told.
    pub fn change_addresses(&mut self, addresses: &[InterfaceAddress]) -> Vec<ControlMessage> {
        let vif = self.driver.vif();
        let limit = vlan_core::limits::ADDRESSES_PER_VIF_MAX;
        let addresses = &addresses[..addresses.len().min(limit)];
        let gone = self.addresses.iter().filter(|old| !addresses.contains(old));
        let unbinds = gone.map(|old| ControlMessage::Unbind { vif, address: old.address });
        let new = addresses.iter().filter(|new| !self.addresses.contains(new));
        let binds = new.map(|&address| ControlMessage::Bind { vif, address });
        let messages = unbinds.chain(binds).collect();
        self.addresses = addresses.to_vec();
        messages
    }
}

//! What is counted of a service and of its servers.

use alloc::vec::Vec;

use vlan_core::counters::FrameCount;

use crate::servers::Index;

/// What a service has given one of its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Packets of the service that went to it.
    pub given: FrameCount,
    /// New flows that it was chosen for.
    pub chosen: u64,
}

impl ServerCounters {
    fn add(&mut self, others: Self) {
        self.given.add_all(others.given);
        self.chosen += others.chosen;
    }
}

/// What became of the packets of a service, and of the claims of its flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// What all servers were given that it has or has had.
    pub given: ServerCounters,
    /// Packets that several servers were asked about, for the owner of their flow.
    pub asked: FrameCount,
    /// Packets for which there was no server.
    pub no_server: u64,
    /// Claims that were refused, for whatever reason.
    pub refused: u64,
}

/// The counters of a service and of everyone that has been a server of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Of what was given only that of servers that are forgotten.
    pub of_all: ServiceCounters,
    /// By the servers' numbers in the cluster.
    servers: Vec<ServerCounters>,
}

impl Counts {
    /// There are so many servers in the cluster now.
    pub fn make_room(&mut self, servers: usize) {
        self.servers.resize(servers.max(self.servers.len()), ServerCounters::default());
    }

    /// The number stands for another server now.
    pub fn forget(&mut self, server: Index) {
        if let Some(counted) = self.servers.get_mut(usize::from(server)) {
            self.of_all.given.add(core::mem::take(counted));
        }
    }

    pub fn sum(&self) -> ServiceCounters {
        let mut sum = self.of_all;
        self.servers.iter().for_each(|counted| sum.given.add(*counted));
        sum
    }

    pub fn server(&self, server: Index) -> ServerCounters {
        self.servers.get(usize::from(server)).copied().unwrap_or_default()
    }

    #[inline]
    pub fn give(&mut self, server: Index, octets: usize) {
        if let Some(counted) = self.servers.get_mut(usize::from(server)) {
            counted.given.add(octets);
        }
    }

    pub fn choose(&mut self, server: Index) {
        if let Some(counted) = self.servers.get_mut(usize::from(server)) {
            counted.chosen += 1;
        }
    }
}

//! The state of a service: which of its servers take new flows, and whose turn it is.

mod checks;
mod counts;

use alloc::vec::Vec;

use vlan_core::Instant;
use vlan_core::server::MemberSlot;

use crate::config::{ServiceConfig, ServiceKey};
use crate::rows::Place;
use crate::servers::{Index, Server, Servers};
use crate::tables::ServiceTable;

use checks::Checked;
use counts::Counts;

pub use counts::{ServerCounters, ServiceCounters};

/// A server is to be checked: the host finds out whether it serves, and says so to [`crate::ClusterProxy::handle_checked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// The service.
    pub service: ServiceKey,
    /// The server.
    pub server: MemberSlot,
}

/// A server of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serving {
    /// Its number in the cluster.
    pub server: Index,
    /// It gets new flows.
    pub takes: bool,
    /// Its node has said that something listens at the port, or that nothing does.
    listens: Option<bool>,
    checked: Checked,
    /// How much of its turn it is owed.
    owed: i32,
}

/// The state of a service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    key: ServiceKey,
    /// In the order of the configuration.
    pub servers: Vec<Serving>,
    pub counts: Counts,
}

impl Service {
    /// With what was known of it `before`.
    pub fn new(now: Instant, table: &ServiceTable, servers: &Servers, before: Option<&Self>) -> Self {
        let config = &table.config;
        let serving = |(place, server): (usize, &crate::config::ServerConfig)| {
            let index = servers.find(server.slot)?;
            let known = before.and_then(|before| before.servers.iter().find(|known| known.server == index));
            let new = Serving {
                server: index,
                takes: false,
                listens: None,
                checked: Checked::new(now, config, place),
                owed: 0,
            };
            Some(known.map_or(new, |known| Serving {
                checked: known.checked.changed(now, config, place),
                ..*known
            }))
        };
        let servers_of_it = config.servers.iter().enumerate().filter_map(serving).collect();
        let mut counts = before.map(|before| before.counts.clone()).unwrap_or_default();
        counts.make_room(servers.iter().count());
        let mut service = Self { key: config.key, servers: servers_of_it, counts };
        service.judge(config, servers);
        service
    }

    /// Which service it is.
    pub fn key(&self) -> ServiceKey {
        self.key
    }

    /// Works out which servers take new flows, after something has changed.
    //= spec/cluster.md#new-flows
    //# A real server MUST be chosen when a flow begins, by a SYN or by the first datagram, and only among the servers of its service that take new flows.
    //= spec/cluster.md#the-panic-rule
    //# When fewer than 30 % of a service's servers that do not drain would take new flows, checks MUST NOT count for it.
    pub fn judge(&mut self, config: &ServiceConfig, servers: &Servers) {
        let of = |serving: &Serving| servers.server(serving.server).copied().unwrap_or_default();
        let is_up = |serving: &Serving| of(serving).is_open() && serving.listens != Some(false);
        let is_well =
            |serving: &Serving| is_up(serving) && (config.check.is_none() || serving.checked.passes);
        let count = |is_so: &dyn Fn(&Serving) -> bool| self.servers.iter().filter(|s| is_so(s)).count();
        let staying = count(&|serving| of(serving).drain == crate::servers::Drain::No);
        let is_panic = count(&is_well) * 10 < staying * 3;
        for serving in &mut self.servers {
            serving.takes = if is_panic { is_up(serving) } else { is_well(serving) };
        }
    }

    /// True when a server takes new flows.
    #[inline]
    pub fn takes(&self, place: Place) -> bool {
        self.servers.get(usize::from(place)).is_some_and(|serving| serving.takes)
    }

    /// True when the server with this number takes new flows.
    pub fn takes_at(&self, server: Index) -> bool {
        self.servers.iter().any(|serving| serving.server == server && serving.takes)
    }

    /// The number of a server.
    #[inline]
    pub fn index(&self, place: Place) -> Option<Index> {
        self.servers.get(usize::from(place)).map(|serving| serving.server)
    }

    /// Whose turn it is: who is owed most after each has got its weight; that one pays for all.
    //= spec/cluster.md#round-robin
    //# A service that balances in turn MUST give each server as many new flows as its weight says, in turn, and choose by hash where the choice cannot be remembered.
    pub fn turn(&mut self, config: &ServiceConfig) -> Option<Place> {
        let mut next: Option<(Place, i32)> = None;
        let mut weights = 0;
        for (place, (serving, server)) in (0..).zip(self.servers.iter_mut().zip(&config.servers)) {
            if !serving.takes {
                // Nothing is saved up meanwhile.
                serving.owed = 0;
                continue;
            }
            weights += i32::from(server.weight);
            serving.owed += i32::from(server.weight);
            if next.is_none_or(|(_, owed)| serving.owed > owed) {
                next = Some((place, serving.owed));
            }
        }
        let (place, _) = next?;
        self.servers[usize::from(place)].owed -= weights;
        Some(place)
    }

    /// Its node says whether something listens at the port; true when that is new.
    pub fn set_listens(&mut self, server: Index, listens: bool) -> bool {
        let serving = self.servers.iter_mut().find(|serving| serving.server == server);
        serving.is_some_and(|serving| serving.listens.replace(listens) != Some(listens))
    }

    /// The number stands for another server now.
    pub fn forget_server(&mut self, server: Index) {
        self.servers.retain(|serving| serving.server != server);
        self.counts.forget(server);
    }

    /// What is known of the port of a server that cannot be reached any more is nothing.
    pub fn forget_state(&mut self, server: Index) {
        if let Some(serving) = self.servers.iter_mut().find(|serving| serving.server == server) {
            serving.listens = None;
            serving.checked.forget_asked();
        }
    }
}

/// The server has as many flows for its weight as the other at most.
pub(crate) fn is_less_loaded(one: (&Server, u16), other: (&Server, u16)) -> bool {
    u64::from(one.0.flows) * u64::from(other.1) <= u64::from(other.0.flows) * u64::from(one.1)
}

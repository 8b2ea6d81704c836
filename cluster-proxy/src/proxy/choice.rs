//! Which server gets a new flow.

use vlan_core::{DropReason, Instant};

use crate::config::{Balance, ServiceConfig, Sticky};
use crate::hash::{self, Flow};
use crate::proxy::ClusterProxy;
use crate::proxy::verdict::{HOPS_MAX, Hops};
use crate::rows::{Place, Rows};
use crate::servers::Index;
use crate::service::is_less_loaded;

impl ClusterProxy {
    /// Chooses a server of service `at` for a flow.
    //= spec/cluster.md#hash
    //# A service that balances by hash MUST choose the first server of the flow's row that takes new flows.
    //= spec/cluster.md#packets-for-themselves
    //# A service that balances per packet MUST choose by hash for each packet, and remember no flow.
    //= spec/cluster.md#least-connections
    //# A service that balances by least connections MUST choose, of the first two servers of the flow's row that take new flows, the one with fewer claimed flows for its weight.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        at: usize,
        flow: &Flow,
        hash: u64,
    ) -> Result<Index, DropReason> {
        let config = &self.tables.services[at].config;
        let place = match balance(config) {
            Balance::RoundRobin if self.has_room(now, hash) => self.services[at].turn(config),
            Balance::LeastConnections => self.less_loaded(at, self.candidates(at, self.row(at, flow, hash))),
            Balance::Hash | Balance::PerPacket | Balance::RoundRobin => {
                self.candidates(at, self.row(at, flow, hash))[0]
            }
        };
        place.and_then(|place| self.services[at].index(place)).ok_or(DropReason::NoServer)
    }

    /// The row of a flow.
    pub(super) fn row(&self, at: usize, flow: &Flow, hash: u64) -> u32 {
        let table = &self.tables.services[at];
        match table.config.sticky {
            Sticky::None => table.rows.row_of(hash),
            Sticky::Client => table.rows.row_of(hash::of_client(&self.tables.key, flow.client)),
        }
    }

    /// The first two servers of a row that take new flows.
    pub(super) fn candidates(&self, at: usize, row: u32) -> [Option<Place>; 2] {
        let (table, service) = (&self.tables.services[at], &self.services[at]);
        let [first, second] = table.rows.first_two(row);
        if service.takes(first) && service.takes(second) {
            return [Some(first), Some(second).filter(|second| *second != first)];
        }
        Rows::first_two_of(&self.tables.key, row, &table.config.servers, |place| service.takes(place))
    }

    fn less_loaded(&self, at: usize, candidates: [Option<Place>; 2]) -> Option<Place> {
        let [Some(first), Some(second)] = candidates else { return candidates[0] };
        let load = |place: Place| {
            let server = self.services[at].index(place).and_then(|index| self.servers.server(index));
            let config = self.tables.services[at].config.servers.get(usize::from(place));
            server.zip(config.map(|config| config.weight))
        };
        let is_first = load(first).zip(load(second)).is_none_or(|(one, other)| is_less_loaded(one, other));
        Some(if is_first { first } else { second })
    }

    /// A choice that is not remembered may have been this one.
    pub(super) fn may_have_chosen(&self, at: usize, flow: &Flow, hash: u64, server: Index) -> bool {
        let table = &self.tables.services[at];
        let row = self.row(at, flow, hash);
        let [now_first, now_second] = self.candidates(at, row);
        let [first, second] = table.rows.first_two(row);
        let is_it = |place: Place| self.services[at].index(place) == Some(server);
        let is_first = now_first.is_some_and(is_it) || is_it(first);
        let is_second = now_second.is_some_and(is_it) || is_it(second);
        is_first || is_second && balance(&table.config) == Balance::LeastConnections
    }

    /// Who may own a flow that nobody has claimed here: who would get it now, and who would have got it before.
    pub(super) fn hops(&self, at: usize, flow: &Flow, hash: u64) -> Hops {
        let row = self.row(at, flow, hash);
        let [now_first, now_second] = self.candidates(at, row);
        let [first, second] = self.tables.services[at].rows.first_two(row);
        let of_row = [now_first, Some(first), Some(second), now_second].into_iter().flatten();
        let count = self.services[at].servers.len();
        let others = (0..if count > HOPS_MAX { 0 } else { count }).map(|place| place as Place);
        let mut hops = Hops::default();
        for place in of_row.chain(others) {
            let index = self.services[at].index(place);
            let server = index.and_then(|index| self.servers.server(index));
            if let Some(server) = server.filter(|server| server.is_reachable) {
                hops.push(server.slot);
            }
        }
        hops
    }
}

/// How a service really balances.
fn balance(config: &ServiceConfig) -> Balance {
    if config.sticky == Sticky::Client { Balance::Hash } else { config.balance }
}

//! Checks of real servers: the proxy says when and whom, the server's node makes the check, and what comes of it goes back to the proxy.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use cluster_proxy::{CheckRequest, ClusterProxy, ServiceConfig, ServiceKey, Tables};
use vlan_core::cluster::{CheckKind, CheckResult, Protocol};
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{CheckOrder, Checked, ControlMessage};
use vlan_core::{Instant, VifNumber};

use super::Cluster;
use crate::control_node::ControlNode;
use crate::control_node::session::Session;

/// What was asked and answered of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounters {
    /// Checks that nodes were asked for.
    pub asked: u64,
    /// Of these, those that were passed.
    pub passed: u64,
    /// Of these, those that were failed, or that nobody answered.
    pub failed: u64,
    /// Results that nobody had asked for, or not any more.
    pub strays: u64,
}

/// Why a server has failed its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// Its node has not answered.
    Unanswered,
    /// What its node has found.
    Found(CheckResult),
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("its node has not answered"),
            Self::Found(result) => result.fmt(f),
        }
    }
}

/// What a server was asked last.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    id: u32,
    is_open: bool,
    failure: Option<CheckFailure>,
}

/// The checks of a cluster: an entry at most for each server of each service.
#[derive(Default)]
pub(super) struct Checks {
    kinds: BTreeMap<ServiceKey, CheckKind>,
    asked: BTreeMap<(ServiceKey, MemberSlot), Asked>,
    /// Each question of the cluster has another number.
    last_id: u32,
    counters: CheckCounters,
}

impl Checks {
    /// Services are checked in these ways from now on.
    pub fn configure(&mut self, kinds: &[(ServiceKey, CheckKind)], tables: &Tables) {
        self.kinds = kinds.iter().cloned().collect();
        self.asked.retain(|(service, server), _| {
            let of_it = |config: &ServiceConfig| config.servers.iter().any(|known| known.slot == *server);
            tables.services().any(|config| config.key == *service && of_it(config))
        });
    }

    pub fn counters(&self) -> CheckCounters {
        self.counters
    }

    /// Why a server failed last.
    pub fn failure(&self, service: ServiceKey, server: MemberSlot) -> Option<CheckFailure> {
        self.asked.get(&(service, server))?.failure
    }

    /// A new question, and how to ask it.
    //= spec/cluster.md#checks
    //# A control node MUST have a due check made by the real server's node, under a number of its own, and take no result but that node's for the last number.
    fn ask(&mut self, request: &CheckRequest) -> Option<(u32, CheckKind)> {
        let kind = self.kinds.get(&request.service)?.clone();
        let asked = self.asked.entry((request.service, request.server)).or_default();
        if asked.is_open {
            asked.failure = Some(CheckFailure::Unanswered);
            self.counters.failed += 1;
        }
        self.last_id = self.last_id.wrapping_add(1);
        (asked.id, asked.is_open) = (self.last_id, true);
        self.counters.asked += 1;
        Some((asked.id, kind))
    }

    /// A result; false when it answers nothing.
    fn take(&mut self, service: ServiceKey, server: MemberSlot, checked: &Checked) -> bool {
        let asked = self.asked.get_mut(&(service, server));
        let Some(asked) = asked.filter(|asked| asked.is_open && asked.id == checked.id) else {
            self.counters.strays += 1;
            return false;
        };
        asked.is_open = false;
        if checked.result == CheckResult::Passed {
            self.counters.passed += 1;
        } else {
            self.counters.failed += 1;
            asked.failure = Some(CheckFailure::Found(checked.result));
        }
        true
    }
}

/// So much of the time until the next check has the node: its result is to come before that.
fn within(proxy: &ClusterProxy, service: ServiceKey) -> Duration {
    let config = proxy.tables().services().find(|config| config.key == service);
    let interval = config.and_then(|config| config.check).map_or(Duration::ZERO, |check| check.interval);
    interval - interval / 4
}

impl Cluster {
    /// What the node of a server is to be told so that it checks a service of it; none where there is nothing to check any more.
    fn check_order(&mut self, request: &CheckRequest, vif: VifNumber) -> Option<CheckOrder> {
        let (address, _) = *self.addresses.first()?;
        let within_ms = within(&self.proxy, request.service).as_millis() as u32;
        let (id, kind) = self.checks.ask(request)?;
        Some(CheckOrder { vif, id, address, port: request.service.port, within_ms, kind })
    }

    /// Every check that is due, with the place of its server's session.
    fn due_checks(
        &mut self,
        place_of: impl Fn(MemberSlot) -> Option<(usize, VifNumber)>,
    ) -> Vec<(usize, CheckOrder)> {
        let mut due = Vec::new();
        while let Some(request) = self.proxy.poll_check() {
            let slot = self.slot_of(request.server);
            // Who is not there is not asked, and cannot be reached either.
            let Some((session, vif)) = slot.and_then(&place_of) else { continue };
            due.extend(self.check_order(&request, vif).map(|order| (session, order)));
        }
        due
    }
}

impl ControlNode {
    /// Has the checks made that are due.
    pub(super) fn ask_for_checks(&mut self, now: Instant, lan: usize) {
        let mut clusters = core::mem::take(&mut self.lans[lan].clusters);
        for cluster in &mut clusters {
            let lan = &self.lans[lan];
            let place_of = |slot: MemberSlot| {
                let session = lan.routes[usize::from(slot.0)].session?;
                Some((session, lan.member_config(slot).vif))
            };
            for (session, order) in cluster.due_checks(place_of) {
                if let Some(session) = &mut self.sessions[session] {
                    session.send_control(now, &ControlMessage::Check(order));
                }
            }
        }
        self.lans[lan].clusters = clusters;
    }

    /// A node has checked a service.
    pub(in crate::control_node) fn handle_checked(&mut self, session: &Session, checked: &Checked) {
        let Some((lan, server)) = self.server_of(session, checked.vif) else { return };
        let service = ServiceKey { protocol: Protocol::Tcp, port: checked.port };
        let Some(cluster) = self.lans[lan].cluster_mut(checked.address) else { return };
        if cluster.checks.take(service, server, checked) {
            let is_well = checked.result == CheckResult::Passed;
            cluster.proxy.handle_checked(&CheckRequest { service, server }, is_well);
        }
    }
}

//! When servers are checked, and what follows from the results.

use alloc::collections::VecDeque;
use core::time::Duration;

use vlan_core::Instant;

use crate::config::ServiceConfig;
use crate::servers::{Index, Servers};
use crate::service::{CheckRequest, Service};

/// The checks of a server of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// By its last results.
    pub passes: bool,
    /// Results in a row that say otherwise.
    against: u16,
    /// The host has been asked and has not answered.
    is_asked: bool,
    next: Instant,
    /// Between two checks; none at all when it is zero.
    interval: Duration,
}

impl Checked {
    /// Passes until it fails: a service does not start with a pause. Servers are checked one after the other, each a part of the interval later,
    /// and no two services at the same time.
    pub fn new(now: Instant, config: &ServiceConfig, place: usize) -> Self {
        let interval = config.check.map_or(Duration::ZERO, |check| check.interval);
        let parts = config.servers.len().max(1) as u32;
        let phase = interval / 1024 * (u32::from(config.key.port) * 397 % 1024);
        let next = now + interval / parts * place as u32 + phase;
        Self { passes: true, against: 0, is_asked: false, next, interval }
    }

    /// The same by another configuration: a verdict stays where there was a check and is one.
    pub fn changed(self, now: Instant, config: &ServiceConfig, place: usize) -> Self {
        let new = Self::new(now, config, place);
        match (self.interval, new.interval) {
            (before, after) if before == after => self,
            (Duration::ZERO, _) | (_, Duration::ZERO) => new,
            (_, interval) => Self { next: new.next, interval, ..self },
        }
    }

    /// Nobody will answer what was asked.
    pub fn forget_asked(&mut self) {
        self.is_asked = false;
    }

    /// A result; true when it changes the verdict.
    //= spec/cluster.md#health
    //# A server MUST fail its check after as many failures in a row as configured, and pass it again after as many successes; an answer that has not come when the next check is due is a failure.
    fn note(&mut self, config: &ServiceConfig, is_well: bool) -> bool {
        let Some(check) = config.check else { return false };
        if is_well == self.passes {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < if self.passes { check.fall } else { check.rise } {
            return false;
        }
        (self.passes, self.against) = (is_well, 0);
        true
    }
}

impl Service {
    /// Asks for the checks that are due; true when answers that are missing change a verdict.
    pub fn check(
        &mut self,
        now: Instant,
        config: &ServiceConfig,
        servers: &Servers,
        due: &mut VecDeque<CheckRequest>,
    ) -> bool {
        let Some(check) = config.check else { return false };
        let mut has_changed = false;
        for serving in &mut self.servers {
            let Some(server) = servers.server(serving.server).filter(|server| server.is_reachable) else {
                serving.checked.is_asked = false;
                continue;
            };
            let checked = &mut serving.checked;
            if now < checked.next {
                continue;
            }
            if checked.is_asked {
                has_changed |= checked.note(config, false);
            }
            checked.is_asked = true;
            // Steady, but never two at once after a pause.
            checked.next = (checked.next + check.interval).max(now + check.interval / 2);
            let request = CheckRequest { service: self.key, server: server.slot };
            if !due.contains(&request) {
                due.push_back(request);
            }
        }
        has_changed
    }

    /// The host has checked a server; true when that changes the verdict. What was not asked for counts for nothing.
    pub fn checked(&mut self, config: &ServiceConfig, server: Index, is_well: bool) -> bool {
        let serving = self.servers.iter_mut().find(|serving| serving.server == server);
        let Some(serving) = serving.filter(|serving| serving.checked.is_asked) else { return false };
        serving.checked.is_asked = false;
        serving.checked.note(config, is_well)
    }

    /// By its last results; none of who is no server of it.
    pub fn passes(&self, server: Index) -> Option<bool> {
        self.servers.iter().find(|serving| serving.server == server).map(|serving| serving.checked.passes)
    }

    /// When the next check is due.
    pub fn next_check(&self, config: &ServiceConfig, servers: &Servers) -> Option<Instant> {
        config.check?;
        let is_reachable = |index| servers.server(index).is_some_and(|server| server.is_reachable);
        let due = self.servers.iter().filter(|serving| is_reachable(serving.server));
        due.map(|serving| serving.checked.next).min()
    }
}

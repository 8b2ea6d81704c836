//! The end of a run: everything is healed, everything must arrive, and then nothing much may happen.

use std::time::Duration;

use vlan_core::Instant;

use super::super::coverage::Coverage;
use super::super::end::EndCounts;
use super::super::ledger::Audit;
use super::super::link::LinkCounts;
use super::super::metrics::Metrics;
use super::super::side::Side;
use super::PacketWorld;
use crate::checker::Violation;
use crate::simulation::Simulation;

/// Everything arrives within this time after the last fault is gone: a hold-down's probes and the queues.
const CONVERGE_TIME: Duration = Duration::from_secs(3);
/// How long an idle association is watched.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Packets and batches of an idle end in that time: a probe a second and leg, each answered on two legs.
const IDLE_PACKETS_MAX: u64 = 100;
const IDLE_BATCHES_MAX: u64 = 300;

/// What a run that kept every rule came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the messages of both directions ended.
    pub audit: Audit,
    /// Which faults met which states.
    pub coverage: Coverage,
    /// What was measured.
    pub metrics: Metrics,
    /// What each host dropped, received and sent.
    pub counts: [EndCounts; 2],
    /// What each link did, by leg and sending side.
    pub links: Vec<(u8, Side, LinkCounts)>,
    /// The journal's hash and length.
    pub digest: (u64, u64),
    /// When it ended.
    pub ended: Instant,
}

impl PacketWorld {
    /// Stops the sources, heals everything, and sees that all of it arrives and that silence follows.
    ///
    /// # Errors
    /// When an invariant breaks.
    pub(super) fn heal_and_judge(&mut self) -> Result<Outcome, Violation> {
        self.stop_sources();
        self.faults_left = 0;
        self.heal_everything();
        self.wait_until_drained()?;
        self.check_idle()?;
        Ok(self.outcome())
    }

    fn wait_until_drained(&mut self) -> Result<(), Violation> {
        let until = self.now() + CONVERGE_TIME;
        while self.now() < until {
            self.run_for(Duration::from_millis(10))?;
            if self.is_drained() {
                return Ok(());
            }
        }
        let left = self.ledgers.each_ref().map(|ledger| ledger.undelivered());
        let waiting =
            self.ends.each_ref().map(|end| end.outbox.iter().map(|queue| queue.len()).sum::<usize>());
        let states = Side::BOTH.map(|side| self.state(side).name());
        let detail = format!(
            "undelivered {left:?}, not accepted {waiting:?}, states {states:?} {CONVERGE_TIME:?} after healing"
        );
        Err(self.violation("I-8 progress", detail))
    }

    /// True when all that was offered has arrived and both ends know it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let end = |side: Side| {
            let end = self.end(side);
            end.transport.as_ref().is_some_and(|t| t.is_drained()) && end.outbox.iter().all(|q| q.is_empty())
        };
        Side::BOTH.into_iter().all(end) && self.ledgers.iter().all(|ledger| ledger.undelivered() == 0)
    }

    /// An idle association does next to nothing.
    fn check_idle(&mut self) -> Result<(), Violation> {
        self.run_for(Duration::from_secs(1))?;
        let before = self.ends.each_ref().map(|end| end.counts);
        self.run_for(IDLE_TIME)?;
        for side in Side::BOTH {
            let (after, before) = (self.end(side).counts, before[side.index()]);
            let (sent, batches) = (after.sent - before.sent, after.batches - before.batches);
            // Where probes are lost, more are sent.
            let factor = if self.network.is_lossless() { 1 } else { 10 };
            if sent > IDLE_PACKETS_MAX * factor || batches > IDLE_BATCHES_MAX * factor {
                let detail = format!("{side:?} idle for {IDLE_TIME:?}: {sent} packets, {batches} batches");
                return Err(self.violation("I-9 no busy loop", detail));
            }
        }
        Ok(())
    }

    fn outcome(&mut self) -> Outcome {
        let mut audit = self.past;
        self.ledgers.iter().for_each(|ledger| audit.add(&ledger.audit));
        let mut links = Vec::new();
        for leg in self.network.legs() {
            for side in Side::BOTH {
                let counts = self.network.link(leg.id, side).map(|link| link.counts);
                links.push((leg.id, side, counts.unwrap_or_default()));
            }
        }
        Outcome {
            audit,
            coverage: self.coverage.clone(),
            metrics: std::mem::take(&mut self.metrics),
            counts: self.ends.each_ref().map(|end| end.counts),
            links,
            digest: self.journal.digest(),
            ended: self.now(),
        }
    }
}

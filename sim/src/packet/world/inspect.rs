//! What scripts, tables and reports ask of a world.

use std::time::Duration;

use rvi::packet::sender::PacketLegStatus;

use super::super::metrics::Health;
use super::super::side::Side;
use super::PacketWorld;

impl PacketWorld {
    /// A number below `bound`, from the run's own draws.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// What `side` knows of its legs.
    #[must_use]
    pub fn legs(&self, side: Side) -> Vec<PacketLegStatus> {
        self.end(side).transport.as_ref().map_or_else(Vec::new, |t| t.leg_status().collect())
    }

    /// What `side` thinks of a leg.
    #[must_use]
    pub fn health(&self, side: Side, leg: u8) -> Option<Health> {
        self.legs(side)
            .iter()
            .find(|status| status.leg.number() == leg)
            .map(|status| Health::of(status.state))
    }

    /// The longest round trip of any direct leg as `side` knows it, and the wait for a proof that follows from it:
    /// as RFC 9002 has it, with variations no larger than the network's.
    #[must_use]
    pub fn pto_and_rtt(&self, side: Side) -> (Duration, Duration) {
        let direct = self.legs(side).into_iter().filter(|status| !status.leg.is_relay());
        let rtt = direct.map(|status| Duration::from_nanos(status.rtt_ns)).max().unwrap_or_default();
        let wait = self.plan.wait;
        // A trip's range: both ways, both wake-ups, and an ack's delay that was not believed. The mean deviation is half
        // of it at most.
        let varies = (self.network.jitter_max() * 2 + wait.wake_max() * 2 + wait.ack_delay()) / 2;
        (rtt + (varies * 4).max(wait.granularity()) + wait.ack_delay(), rtt)
    }

    /// Pieces of messages that `side` sent again, of so many packets.
    #[must_use]
    pub fn resends(&self, side: Side) -> (u64, u64) {
        let legs = self.legs(side);
        (legs.iter().map(|leg| leg.resent).sum(), legs.iter().map(|leg| leg.tx_packets).sum())
    }

    /// Everything of interest about the ends, for the report of a failure.
    pub(super) fn describe_machines(&self) -> Vec<String> {
        let plan = &self.plan;
        let mut lines = vec![format!(
            "{:?}, {:?}, ack every {}, hold {}, send {}, window {}",
            plan.scheduler,
            plan.wait,
            plan.ack_every,
            plan.hold_octets_max,
            plan.send_octets_max,
            plan.window_octets_max
        )];
        for side in Side::BOTH {
            let end = self.end(side);
            let waiting: Vec<_> = end.outbox.iter().map(|queue| queue.len()).collect();
            lines.push(format!(
                "{side:?}: {:?}, runs {}, local {}, next run {:?}, outbox {waiting:?}, undelivered {}, {:?}",
                self.state(side),
                end.runs(),
                self.local(side),
                end.next_run,
                self.ledgers[side.index()].undelivered(),
                end.counts
            ));
            lines.extend(self.legs(side).iter().map(|leg| format!("  {leg:?}")));
            if let Some(transport) = &end.transport {
                lines.push(format!("  {:?}", transport.receiver_counters()));
                lines.push(format!(
                    "  deadline {:?}, drained {}",
                    transport.poll_timeout(),
                    transport.is_drained()
                ));
            }
        }
        lines
    }
}

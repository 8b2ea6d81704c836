//! The life of the association: handshake done, a process dies, the next session begins.

use rvi::packet::sender::PacketLegConfig;
use rvi::packet::transport::{PacketTransport, TransportConfig};
use vlan_core::Instant;

use super::super::coverage::Fault;
use super::super::ledger::Ledger;
use super::super::seal::SealKey;
use super::super::side::Side;
use super::evidence::Evidence;
use super::{Event, PacketWorld};
use crate::checker::Violation;
use crate::simulation::Simulation;

/// The present session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    /// Counts sessions, so that notices of an older one are known.
    pub(super) number: u64,
    /// Its id on the wire.
    pub(super) id: u64,
}

impl Session {
    /// What packets of `from` are sealed with.
    pub(super) const fn key(self, from: Side) -> SealKey {
        SealKey { session: self.id, direction: from.index() as u8 }
    }
}

impl PacketWorld {
    /// Both ends start with nothing but the legs of the plan.
    pub(super) fn begin_session(&mut self) {
        let now = self.now();
        self.session = Session { number: self.session.number + 1, id: self.random.next_u64() | 1 };
        let config = self.plan.transport_config();
        self.wire.begin(config.credit_messages, config.credit_kib);
        self.watch.evidence = Evidence::default();
        // Every leg is there again, whatever a host had taken away.
        self.removed.clear();
        for side in Side::BOTH {
            let seed = self.random.next_u64();
            let transport = PacketTransport::new(&TransportConfig { seed, ..config.clone() });
            let (i, channels) = (side.index(), self.plan.channels);
            self.ends[i].begin(transport, channels);
            self.ledgers[i] = Ledger::new(channels, 0, self.session.id ^ i as u64);
            let legs: Vec<_> = self.network.legs().map(|leg| leg.id).collect();
            for leg in legs {
                self.leg_up(side, leg);
            }
            self.wake(side, now);
        }
        self.judge_from_the_start();
        self.note_conditions();
        self.journal.line(now, format_args!("session {} begins", self.session.number));
    }

    /// An end's host gives its transport a leg.
    pub(super) fn leg_up(&mut self, side: Side, leg: u8) {
        let Some(plan) = self.network.legs().find(|plan| plan.id == leg).copied() else { return };
        let now = self.now();
        let end = &mut self.ends[side.index()];
        let local = end.clock.local(now);
        let config =
            PacketLegConfig { leg: super::super::packet_leg(leg), packet_len_max: plan.packet_len_max };
        if let Some(transport) = &mut end.transport {
            transport.leg_up(local, config);
            self.watch.evidence.leg_up(side, leg);
        }
    }

    /// The kernel of `side` says that a leg carries packets of `len` octets and no longer ones.
    pub fn tell_packet_len(&mut self, side: Side, leg: u8, len: usize) {
        if let Some(transport) = &mut self.ends[side.index()].transport {
            transport.set_packet_len_max(super::super::packet_leg(leg), len);
        }
    }

    /// A process dies; `after` later it is back and has a session with the other one.
    pub fn crash(&mut self, side: Side, after: std::time::Duration) {
        self.count_fault(Fault::Crash, side);
        if !self.ends[side.index()].is_alive {
            return;
        }
        let now = self.now();
        self.journal.line(now, format_args!("{side:?} dies"));
        self.ends[side.index()].die();
        self.note_conditions();
        self.queue.schedule(now + after, Event::SessionUp { number: self.session.number });
    }

    /// The handshake with a process that came back is done: the old session ends at both.
    pub(super) fn session_up(&mut self, number: u64) {
        if number != self.session.number {
            return;
        }
        for side in Side::BOTH {
            let closed = self.close_ledger(side);
            self.demand(closed);
        }
        self.begin_session();
    }

    /// Everything that `side` sent in the session that ends must have ended.
    fn close_ledger(&mut self, side: Side) -> Result<(), Violation> {
        let now = self.now();
        let Self { ends, ledgers, past, .. } = self;
        let ledger = &mut ledgers[side.index()];
        match &mut ends[side.index()].transport {
            Some(transport) => {
                let mut result = Ok(());
                transport.drain_unsent(&mut |message| {
                    if result.is_ok() {
                        let name = (message.channel, message.mseq, message.lane);
                        result = ledger.drained(now, name, message.octets, message.maybe_taken);
                    }
                });
                result?;
                ledger.close(now)?;
            }
            None => ledger.close_dead(),
        }
        past.add(&ledger.audit);
        Ok(())
    }

    /// True when both processes live and have a session.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.ends.iter().all(|end| end.transport.is_some())
    }

    /// The time that an end's clock shows.
    pub(super) fn local(&self, side: Side) -> Instant {
        self.ends[side.index()].clock.local(self.now())
    }
}

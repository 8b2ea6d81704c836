//! A batch of one end: packets in, timers, messages out, messages in, packets out, events, sleep.

use std::time::Duration;

use rvi::message::Part;
use rvi::packet::receiver::ReceivedMessage;
use rvi::packet::sender::{Outgoing, TransportEvent};
use rvi::packet::transport::TransmitBuffer;
use rvi::packet::wire::{PacketHeader, TAG_LEN};
use vlan_core::{Channel, Instant};

use super::super::end::End;
use super::super::metrics::{Health, Latency, Transition};
use super::super::network::Delivery;
use super::super::seal::{is_genuine, seal};
use super::super::side::Side;
use super::{Event, PacketWorld, SEGMENTS_MAX};
use crate::checker::Violation;
use crate::simulation::Simulation;

/// What a batch costs, and each packet in it.
const BATCH_COST: Duration = Duration::from_nanos(300);
const PACKET_COST: Duration = Duration::from_nanos(100);
/// Transmissions of one batch beyond which the transport counts as running in a circle.
const TRANSMITS_MAX: usize = 4096;
/// Batches in a row that may end with a deadline in the past.
const OVERDUE_MAX: u32 = 4;

impl PacketWorld {
    /// Runs a batch of `side`, if this is still the event that is to.
    pub(super) fn run_end(&mut self, side: Side, ticket: u64) {
        let now = self.now();
        let local = self.local(side);
        let end = &mut self.ends[side.index()];
        if end.next_run.is_none_or(|(_, planned)| planned != ticket) {
            return;
        }
        end.next_run = None;
        if end.transport.is_none() || !end.runs() {
            return;
        }
        end.counts.batches += 1;
        let before = end.counts;
        let result = self.batch(side, local);
        self.demand(result);
        let end = &mut self.ends[side.index()];
        let packets = end.counts.received - before.received + end.counts.sent - before.sent;
        end.busy_until = now + BATCH_COST + PACKET_COST * packets as u32;
        self.sleep(side, local);
    }

    fn batch(&mut self, side: Side, local: Instant) -> Result<(), Violation> {
        self.receive(side, local)?;
        self.timers(side, local);
        self.deliver(side)?;
        self.send_offers(side, local);
        self.transmit(side, local)?;
        self.drain_events(side);
        self.check_end(side, local)
    }

    fn receive(&mut self, side: Side, local: Instant) -> Result<(), Violation> {
        while let Some((leg, packet)) = self.ends[side.index()].take_packet() {
            let Some(header) = self.open(side, leg, &packet) else { continue };
            let now = self.now();
            self.journal.record(now, &[1, side.index() as u64, u64::from(leg), header.number]);
            let payload =
                &packet[packet.len() - TAG_LEN - usize::from(header.payload_len)..packet.len() - TAG_LEN];
            let end = &mut self.ends[side.index()];
            end.counts.received += 1;
            let Some(transport) = &mut end.transport else { continue };
            if let Err(error) = transport.handle_packet(local, &header, payload, &end.windows) {
                let detail =
                    format!("{side:?} refuses an honest packet {} of leg {leg}: {error}", header.number);
                return Err(self.violation("I-6 honest packets", detail));
            }
            self.wire.arrived(side, leg, &header, payload);
            self.watch.evidence.arrived(side, local, &header, payload);
        }
        Ok(())
    }

    /// What a session does with a packet: drops what is not of it, not of this leg's fabric, or not whole.
    fn open(&mut self, side: Side, leg: u8, packet: &[u8]) -> Option<PacketHeader> {
        let key = self.session.key(side.other());
        let counts = &mut self.ends[side.index()].counts;
        let Ok(header) = PacketHeader::parse_packet(packet) else {
            counts.corrupted += 1;
            return None;
        };
        if header.session != key.session {
            counts.stale += 1;
        } else if !is_genuine(key, packet) {
            counts.corrupted += 1;
        } else if header.fabric_key != fabric_key(leg) {
            counts.wrong_fabric += 1;
        } else {
            return Some(header);
        }
        None
    }

    fn timers(&mut self, side: Side, local: Instant) {
        // The process has lived for a while: its budget is full when the first session begins.
        let now = self.now() + Duration::from_secs(1);
        let End { transport, probes, .. } = &mut self.ends[side.index()];
        let Some(transport) = transport else { return };
        if transport.poll_timeout().is_some_and(|due| due <= local) {
            transport.handle_timeout(local, &mut || probes.take(now));
        }
    }

    fn deliver(&mut self, side: Side) -> Result<(), Violation> {
        loop {
            let end = &mut self.ends[side.index()];
            let Some(transport) = &mut end.transport else { return Ok(()) };
            let Some(message) = transport.poll_message(&end.windows) else { return Ok(()) };
            end.windows.deliver(message.channel, message.mseq);
            self.judge(side, &message)?;
            let end = &mut self.ends[side.index()];
            // Control is eaten at once: it is never behind data.
            if end.consumer.pause.is_some() && message.channel != Channel::CONTROL {
                end.consumer.kept.push_back(message.octets);
                self.consume_next(side);
            } else if let Some(transport) = &mut end.transport {
                transport.recycle(message.octets);
            }
        }
    }

    fn judge(&mut self, side: Side, message: &ReceivedMessage) -> Result<(), Violation> {
        let now = self.now();
        let from = side.other();
        let (channel, mseq, lane) = (message.channel, message.mseq, message.lane);
        let (leg, octets) = (message.leg.number(), &message.octets[..]);
        let ledger = &mut self.ledgers[from.index()];
        let record = ledger.delivered(now, leg, (channel, mseq, lane), octets)?;
        let took = now.since(record.accepted);
        let words = [2, side.index() as u64, u64::from(channel.0), u64::from(mseq), octets.len() as u64];
        self.journal.record(now, &words);
        self.metrics.latencies.push(Latency { from, channel, accepted: record.accepted, took });
        self.check_delay(from, channel, mseq, record.accepted)
    }

    /// Numbers and sends what the sources have offered, as far as there is room. Each channel for itself: what
    /// one has to wait for is not the other's business.
    fn send_offers(&mut self, side: Side, local: Instant) {
        let mut octets = Vec::new();
        self.ends[side.index()].is_full = false;
        for channel in (0..self.plan.channels as u8).map(Channel) {
            while self.send_one(side, local, channel, &mut octets) {}
        }
    }

    fn send_one(&mut self, side: Side, local: Instant, channel: Channel, octets: &mut Vec<u8>) -> bool {
        let now = self.now();
        let Self { ends, ledgers, .. } = self;
        let (end, ledger) = (&mut ends[side.index()], &mut ledgers[side.index()]);
        let Some(transport) = &mut end.transport else { return false };
        let Some(offer) = end.outbox[usize::from(channel.0)].front().copied() else { return false };
        if !transport.can_send(channel, offer.len) {
            end.is_full = true;
            return false;
        }
        let mseq = ledger.next_number(channel);
        ledger.write_content(channel, mseq, offer.len, octets);
        // Two parts, as a header and its frame are.
        let (head, rest) = octets.split_at(octets.len().min(32));
        let message = Outgoing {
            channel,
            lane: offer.lane,
            mseq,
            is_resent: false,
            is_after_all: offer.is_after_all,
            parts: &[Part::Private(head), Part::Private(rest)],
        };
        if transport.send(local, message).is_err() {
            end.is_full = true;
            return false;
        }
        end.outbox[usize::from(channel.0)].pop_front();
        ledger.accepted(now, channel, offer.lane, offer.len, offer.is_after_all);
        true
    }

    fn transmit(&mut self, side: Side, local: Instant) -> Result<(), Violation> {
        let mut buffer = std::mem::replace(&mut self.buffer, TransmitBuffer::new(1, 0));
        let mut result = Ok(());
        for round in 0.. {
            let end = &mut self.ends[side.index()];
            let Some(transport) = &mut end.transport else { break };
            let Some(transmit) = transport.poll_transmit(local, &end.windows, end.settles, &mut buffer)
            else {
                break;
            };
            if round == TRANSMITS_MAX {
                result = Err(self.violation("I-9 no busy loop", format!("{side:?} sends without end")));
                break;
            }
            let (leg, octets) = (transmit.leg.number(), buffer.octets_mut());
            let segments = octets.len().div_ceil(transmit.segment_len.max(1));
            if segments != transmit.count || octets.len() != transmit.len || segments > SEGMENTS_MAX {
                let detail = format!("{side:?} leg {leg}: {} packets in {segments} segments", transmit.count);
                result = Err(self.violation("wire", detail));
                break;
            }
            result = octets.chunks_mut(transmit.segment_len).try_for_each(|p| self.send_packet(side, leg, p));
            if result.is_err() {
                break;
            }
        }
        self.buffer = buffer;
        result
    }

    fn send_packet(&mut self, side: Side, leg: u8, packet: &mut [u8]) -> Result<(), Violation> {
        let now = self.now();
        let key = self.session.key(side);
        packet[8..16].copy_from_slice(&key.session.to_le_bytes());
        packet[26..28].copy_from_slice(&fabric_key(leg).to_le_bytes());
        let len_max = self.plan.packet_len_max(leg);
        if let Err((rule, what)) = self.wire.check(len_max, &self.ends[side.index()], leg, packet) {
            return Err(self.violation(rule, format!("{side:?} leg {leg}: {what}")));
        }
        self.watch.evidence.sent(side, leg, self.local(side), packet);
        seal(key, packet);
        let Self { network, queue, ends, .. } = self;
        let counts = &mut ends[side.index()].counts;
        counts.sent += 1;
        counts.octets_sent += packet.len() as u64;
        network.send(now, side, leg, packet, |Delivery { at, leg, packet }| {
            queue.schedule(at, Event::Arrive { side: side.other(), leg, packet });
        });
        Ok(())
    }

    fn drain_events(&mut self, side: Side) {
        let now = self.now();
        loop {
            let end = &mut self.ends[side.index()];
            let Some(event) = end.transport.as_mut().and_then(|t| t.poll_event()) else { return };
            self.journal.line(now, format_args!("{side:?} {event:?}"));
            match event {
                TransportEvent::Stalled => end.is_stalled = true,
                TransportEvent::Resumed => end.is_stalled = false,
                TransportEvent::LegState(leg, state) => {
                    let to = Health::of(state);
                    let leg = leg.number();
                    self.metrics.transitions.push(Transition { at: now, side, leg, to });
                    self.verdict_given(side, leg, to);
                }
                _ => {}
            }
        }
    }

    /// Plans the next batch for the transport's deadline.
    fn sleep(&mut self, side: Side, local: Instant) {
        let end = &mut self.ends[side.index()];
        let Some(deadline) = end.transport.as_ref().and_then(|t| t.poll_timeout()) else {
            end.overdue = 0;
            return;
        };
        end.overdue = if deadline <= local { end.overdue + 1 } else { 0 };
        if end.overdue > OVERDUE_MAX {
            let detail = format!("{side:?} has a deadline at {deadline}, which is past, batch after batch");
            let violation = self.violation("I-9 no busy loop", detail);
            self.break_invariant(violation);
            return;
        }
        let late = end.timers_late.as_nanos() as u64;
        let mut at = end.clock.true_time(deadline);
        if late > 0 {
            at = at + Duration::from_nanos(self.random.below(late + 1));
        }
        self.wake(side, at);
    }
}

/// The key of the fabric that a leg crosses.
const fn fabric_key(leg: u8) -> u16 {
    0x5700 | leg as u16
}

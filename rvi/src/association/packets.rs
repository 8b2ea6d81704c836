//! The legs that leave the host: one endpoint behind them all, used while no shared-memory leg is up.

use alloc::boxed::Box;

use vlan_core::{Channel, Instant, LegNumber};

use super::Association;
use crate::association::channel::{ChannelState, Channels};
use crate::association::receive::Fresh;
use crate::association::route::PACKETS;
use crate::association::types::{AssociationEvent, Unsent};
use crate::message::{Part, Scratch};
use crate::packet::endpoint::{EndpointConfig, EndpointEvent, PacketEndpoint};
use crate::packet::receiver::ChannelWindows;
use crate::packet::sender::{Outgoing, PacketLegStatus, TransportEvent};
use crate::packet::session::{Hint, Introduction, OpenError, SessionCounters};
use crate::packet::transport::{Transmit, TransmitBuffer};
use crate::packet::wire::PacketLeg;
use crate::ring::{PushError, SlotMeta};

/// What has come of each channel, by whatever leg.
struct Windows<'a>(&'a Channels);

impl Windows<'_> {
    fn of(&self, channel: Channel) -> Option<&ChannelState> {
        self.0.of(channel)
    }
}

impl ChannelWindows for Windows<'_> {
    fn is_open(&self, channel: Channel) -> bool {
        self.of(channel).is_some_and(|state| state.open)
    }

    fn was_open(&self, channel: Channel) -> bool {
        self.of(channel).is_some_and(|state| state.was_open)
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        self.of(channel).is_some_and(|state| state.has_seen(mseq))
    }

    fn delivered_from(&self, channel: Channel, first: u32) -> u64 {
        self.of(channel).map_or(0, |state| state.seen_from(first))
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        self.of(channel).map_or((0, 0), ChannelState::window)
    }
}

/// The same as far as it is settled: what the peer is told while something is held. Control is never held.
struct SettledWindows<'a>(&'a Channels);

impl ChannelWindows for SettledWindows<'_> {
    fn is_open(&self, channel: Channel) -> bool {
        Windows(self.0).is_open(channel)
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        (self.window(channel).0.wrapping_sub(mseq) as i32) > 0
    }

    fn delivered_from(&self, channel: Channel, first: u32) -> u64 {
        if channel == Channel::CONTROL { Windows(self.0).delivered_from(channel, first) } else { 0 }
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        if channel == Channel::CONTROL {
            return Windows(self.0).window(channel);
        }
        let settled = self.0.of(channel).map_or(0, ChannelState::settled);
        (settled, settled)
    }
}

impl Association {
    /// Gives the association packet legs; earlier ones are over, and what they had not proven is handed back only by
    /// [`Association::drain_unsent`]. The legs are up when the handshake has proved the peer: an event says so.
    pub fn set_packets(&mut self, now: Instant, config: EndpointConfig) {
        self.now = now;
        self.packets = Some(Box::new(PacketEndpoint::new(now, config)));
        for (_, state) in self.channels.iter_mut() {
            state.find_lowest();
        }
    }

    /// True when a packet leg carries messages.
    #[must_use]
    pub fn has_packets_up(&self) -> bool {
        self.packets.as_ref().is_some_and(|packets| packets.is_up())
    }

    /// True when there are packet legs, up or not.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        self.packets.is_some()
    }

    /// What each packet leg is good for, and what it did.
    pub fn packet_legs(&self) -> impl Iterator<Item = PacketLegStatus> + '_ {
        self.packets.iter().flat_map(|packets| packets.leg_status())
    }

    /// What the session behind the packet legs counted.
    #[must_use]
    pub fn session_counters(&self) -> Option<&SessionCounters> {
        self.packets.as_ref().map(|packets| packets.session_counters())
    }

    /// The path of a packet leg carries packets of `len` octets and no longer ones.
    pub fn set_packet_len_max(&mut self, leg: PacketLeg, len: usize) {
        if let Some(packets) = &mut self.packets {
            packets.set_packet_len_max(leg, len);
        }
    }

    /// True when the peer has acknowledged message `number` of `channel`, which was sent by packets: it is done with it.
    #[must_use]
    pub fn is_acknowledged(&self, channel: Channel, number: u32) -> bool {
        let lowest = self.packets.as_ref().and_then(|packets| packets.lowest_unacked(channel));
        lowest.is_none_or(|lowest| (lowest.wrapping_sub(number) as i32) > 0)
    }

    /// Says whether a control node carries packets of a relay leg now.
    pub fn set_relay(&mut self, now: Instant, leg: PacketLeg, is_carried: bool) {
        self.now = now;
        if let Some(packets) = &mut self.packets {
            packets.set_relay(now, leg, is_carried);
            self.drain_packet_events();
        }
    }

    /// Ends the session behind the packet legs; the peer is told by the next [`Association::poll_transmit`].
    pub fn close_packets(&mut self, now: Instant) {
        self.now = now;
        if let Some(packets) = &mut self.packets {
            packets.close();
            self.spread();
        }
    }

    /// Takes a packet that came by `leg`, in place. CONNECT must have passed the process's gate. What it brought is
    /// received by [`Association::receive`].
    ///
    /// # Errors
    /// Why it was dropped; counted in [`Association::session_counters`].
    pub fn handle_packet(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        self.now = now;
        let Some(packets) = &mut self.packets else { return Err(OpenError::Session) };
        let handled = packets.handle_packet(now, leg, packet, &Windows(&self.channels));
        self.drain_packet_events();
        if !self.direct {
            self.flush();
        }
        handled
    }

    /// Takes a node's CONNECT that came by `leg` and that a control node has opened.
    ///
    /// # Errors
    /// Why it was dropped; counted in [`Association::session_counters`].
    pub fn handle_introduction(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        introduction: Introduction,
    ) -> Result<(), OpenError> {
        self.now = now;
        let packets = self.packets.as_mut().ok_or(OpenError::Session)?;
        packets.handle_introduction(now, leg, introduction)
    }

    /// True when a CONNECT with this clear part is an old one or one that was answered: it needs no introduction.
    #[must_use]
    pub fn has_seen_connect(&self, hint: &Hint) -> bool {
        self.packets.as_ref().is_some_and(|packets| packets.has_seen(hint))
    }

    /// Makes the packets that are to go now, for one leg. To be called until it says `None`, once every socket was
    /// drained and what came of it was sent.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<Transmit> {
        let packets = self.packets.as_mut()?;
        if self.holds.is_any() {
            return packets.poll_transmit(now, &SettledWindows(&self.channels), true, out);
        }
        packets.poll_transmit(now, &Windows(&self.channels), true, out)
    }

    fn drain_packet_events(&mut self) {
        while let Some(event) = self.packets.as_mut().and_then(|packets| packets.poll_event()) {
            let event = match event {
                EndpointEvent::Established { process, control_session } => {
                    AssociationEvent::PacketsEstablished { process, control_session }
                }
                EndpointEvent::Refused(reason) => AssociationEvent::PacketsRefused(reason),
                EndpointEvent::LegUp(leg) => AssociationEvent::LegUp(number(leg)),
                EndpointEvent::Transport(TransportEvent::LegState(leg, state)) => {
                    AssociationEvent::PacketLeg(number(leg), state)
                }
                EndpointEvent::Transport(TransportEvent::Stalled) => AssociationEvent::PacketsSilent,
                EndpointEvent::Transport(TransportEvent::Resumed) => AssociationEvent::PacketsHeard,
                EndpointEvent::Mismatched(leg) => AssociationEvent::PacketLegMismatched(number(leg)),
                EndpointEvent::Closed => AssociationEvent::PacketsOver { broken: false },
                EndpointEvent::Broken(_) => AssociationEvent::PacketsOver { broken: true },
            };
            let spreads = matches!(event, AssociationEvent::LegUp(_) | AssociationEvent::PacketsOver { .. });
            self.events.push_back(event);
            if spreads {
                self.spread();
            }
        }
    }

    pub(super) fn packets_timeout(&mut self, now: Instant, probe_allowed: &mut dyn FnMut() -> bool) {
        let Some(packets) = &mut self.packets else { return };
        if packets.poll_timeout().is_some_and(|at| at <= now) {
            packets.handle_timeout(now, probe_allowed);
            self.drain_packet_events();
        }
    }

    /// The next message that came in packets.
    #[cold]
    pub(super) fn take_packet(&mut self, scratch: &mut Scratch) -> Option<Fresh> {
        let packets = self.packets.as_mut()?;
        let message = loop {
            let message = packets.poll_message(&Windows(&self.channels));
            let mut has_freed = false;
            while let Some((channel, mseq)) = packets.transport_mut().receiver_mut().poll_refused() {
                let state = self.channels.of_mut(channel);
                let is_new = state.is_none_or(|state| state.is_new_in_packets(mseq));
                self.refused_messages += u64::from(is_new);
                // Its channel may be open again, and what follows there waits for it.
                packets.transport_mut().receiver_mut().handle_delivered(
                    channel,
                    mseq,
                    &Windows(&self.channels),
                );
                has_freed = true;
            }
            if message.is_some() || !has_freed {
                break message?;
            }
        };
        let state = self.channels.of_mut(message.channel)?;
        let is_new = state.is_new_in_packets(message.mseq);
        debug_assert!(is_new, "the receiver hands out what its windows do not have");
        self.packet_messages += 1;
        let (leg, channel, len) = (number(message.leg), message.channel, message.octets.len());
        let rest = scratch.take_private(&message.octets);
        packets.recycle(message.octets);
        Some(Fresh { index: PACKETS, leg, channel, len, rest })
    }

    /// A shared-memory leg brought a message: what came in packets may have waited for it.
    #[cold]
    pub(super) fn note_delivered(&mut self, channel: Channel, mseq: u32) {
        if let Some(state) = self.channels.of_mut(channel) {
            state.find_lowest();
        }
        if let Some(packets) = &mut self.packets {
            let receiver = packets.transport_mut().receiver_mut();
            receiver.handle_delivered(channel, mseq, &Windows(&self.channels));
        }
    }

    /// Gives a message to the packet legs, if its way (`index`) is by them. False when it does not go in now.
    pub(super) fn push_packet(
        &mut self,
        index: usize,
        channel: Channel,
        lane: u16,
        parts: &[Part<'_>],
    ) -> bool {
        let Some(packets) = self.packets.as_mut().filter(|_| index == PACKETS) else { return false };
        let Some(state) = self.channels.of_mut(channel) else { return false };
        let (mseq, is_resent, is_after_all) = (state.next, false, false);
        let message = Outgoing { channel, lane, mseq, is_resent, is_after_all, parts };
        if packets.send(self.now, message).is_err() {
            return false;
        }
        self.packet_messages += 1;
        if state.advance() {
            self.mark(channel);
        }
        true
    }

    /// Gives the packet legs a message that a shared-memory leg did not prove.
    pub(super) fn push_packet_again(&mut self, meta: &SlotMeta, octets: &[u8]) -> Result<(), PushError> {
        let SlotMeta { mseq, lane, channel, .. } = *meta;
        let parts = [Part::Private(octets)];
        let message = Outgoing { channel, lane, mseq, is_resent: true, is_after_all: false, parts: &parts };
        let packets = self.packets.as_mut().ok_or(PushError::Full)?;
        packets.send(self.now, message).map_err(|_| PushError::Full)?;
        self.packet_messages += 1;
        Ok(())
    }

    pub(super) fn drain_packets(&mut self, f: &mut dyn FnMut(Channel, &[u8], Unsent)) {
        if let Some(mut packets) = self.packets.take() {
            packets.drain_unsent(&mut |unacked| {
                f(unacked.channel, unacked.octets, Unsent::Ring { maybe_taken: unacked.maybe_taken });
            });
        }
    }
}

fn number(leg: PacketLeg) -> LegNumber {
    LegNumber(leg.number())
}

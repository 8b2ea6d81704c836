//! Messages in, packets out, and back: the two halves of a session's packet legs.
//!
//! What happens to a message here: [`PacketTransport::send`] keeps it, [`PacketTransport::poll_transmit`] puts it into packets;
//! at the other end [`PacketTransport::handle_packet`] takes it out of them, and [`PacketTransport::poll_message`]
//! hands it on in the order of its lane. Packets come and go in the clear: sealing and opening is the session's work.

mod transmit_buffer;

pub use transmit_buffer::{Transmit, TransmitBuffer};

use core::time::Duration;

use vlan_core::{Channel, Instant};

use super::receiver::{
    AckDue, ChannelWindows, PooledBuf, ReceivedMessage, Receiver, ReceiverConfig, ReceiverCounters,
};
use super::sender::pack::Reports;
use super::sender::{
    Full, IDLE_PROBE, Outgoing, PacketLegConfig, PacketLegStatus, PacketScheduler, Sender, SenderConfig,
    TransportEvent, Unacked, WaitPolicy,
};
use super::wire::{Control, PacketError, PacketHeader, PacketKind, PacketLeg, Payload};

/// Bounds and choices of a transport.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Seed of the jitter of probes.
    pub seed: u64,
    /// How messages are spread over legs.
    pub scheduler: PacketScheduler,
    /// How long hosts let packets lie.
    pub wait: WaitPolicy,
    /// The receiving half.
    pub receiver: ReceiverConfig,
    /// Octets of messages that are kept until they are acknowledged.
    pub send_octets_max: usize,
    /// Octets that may be on their way by one leg.
    pub window_octets_max: usize,
    /// How long nothing is sent by a leg before it is probed.
    pub idle_probe: Duration,
    /// The peer's first credit, as the handshake told it: messages on each channel ...
    pub credit_messages: u32,
    /// ... and KiB in all.
    pub credit_kib: u32,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            scheduler: PacketScheduler::default(),
            wait: WaitPolicy::default(),
            receiver: ReceiverConfig::default(),
            send_octets_max: 4 << 20,
            window_octets_max: 4 << 20,
            idle_probe: IDLE_PROBE,
            credit_messages: 1024,
            credit_kib: 256,
        }
    }
}

/// Reliable messages over unreliable packet legs, for one session.
///
/// Calls may come in any order. A host's round is: `handle_packet` for all that the sockets of all legs have, `poll_message`
/// until it says `None`, `send` what comes of it, `handle_timeout` if it is due, `poll_transmit` until it says `None`,
/// drain `poll_event`.
#[derive(Debug)]
pub struct PacketTransport {
    sender: Sender,
    receiver: Receiver,
    /// Which leg fills packets next.
    turn: usize,
    /// Whether messages could be acknowledged in the last round.
    settles: bool,
    /// A bit for each channel on which the peer sent data.
    inbound: [u64; 4],
}

impl PacketTransport {
    /// Makes a transport without legs, for a session in which nothing was sent yet.
    #[must_use]
    pub fn new(config: &TransportConfig) -> Self {
        let sender = SenderConfig {
            seed: config.seed,
            scheduler: config.scheduler,
            wait: config.wait,
            octets_max: config.send_octets_max,
            window_octets_max: config.window_octets_max,
            idle_probe: config.idle_probe,
            credit_messages: config.credit_messages,
            credit_kib: config.credit_kib,
        };
        Self {
            sender: Sender::new(sender),
            receiver: Receiver::new(&config.receiver),
            turn: 0,
            settles: false,
            inbound: [0; 4],
        }
    }

    /// A leg is proved. Its packet numbers go on where they were in this session.
    pub fn leg_up(&mut self, now: Instant, config: PacketLegConfig) {
        self.sender.leg_up(now, config);
    }

    /// A leg is gone: what was sent by it and is not proven goes by another, now or when one comes up.
    pub fn leg_down(&mut self, now: Instant, leg: PacketLeg) {
        self.sender.leg_down(now, leg);
    }

    /// The path of a leg carries packets of `len` octets, tag included, and no longer ones; for a host whose kernel says
    /// so. What was longer is cut again when it is sent again.
    pub fn set_packet_len_max(&mut self, leg: PacketLeg, len: usize) {
        self.sender.set_packet_len_max(leg, len);
    }

    /// True when a message of `len` octets would be accepted as the next one of `channel`.
    #[must_use]
    pub fn can_send(&self, channel: Channel, len: usize) -> bool {
        self.sender.can_send(channel, len)
    }

    /// Accepts a message: copies it, keeps it until the peer acknowledges it, and sends it until then.
    ///
    /// # Errors
    /// When no leg answers, or window, credit or memory are used up. Nothing of the message is kept then.
    ///
    /// # Panics
    /// When the message is longer than any, or its lane is 1024 or more.
    pub fn send(&mut self, now: Instant, message: Outgoing<'_>) -> Result<(), Full> {
        self.sender.send(now, &message)
    }

    /// Takes a packet that the session has opened: DATA or PROBE; others change nothing.
    ///
    /// # Errors
    /// When the packet is malformed, or says what cannot be: its tag was good, so the peer made it so, and the session
    /// must end. Nothing of it is applied unless the contradiction lies in a fragment.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        header: &PacketHeader,
        payload: &[u8],
        windows: &dyn ChannelWindows,
    ) -> Result<(), PacketError> {
        if !matches!(header.kind, PacketKind::Data | PacketKind::Probe) {
            return Ok(());
        }
        let payload = Payload::parse(header.flags.has_ack, payload)?;
        self.sender.handle_acks(now, payload.ack_blocks())?;
        for record in payload.records() {
            match record.control() {
                Some(Control::Settled { kib }) => self.receiver.handle_settled(now, kib),
                Some(control) => self.sender.handle_control(record.header.channel, &control),
                None => self.note_inbound(record.header.channel),
            }
        }
        self.sender.count_received(header.leg, header.packet_len());
        self.receiver.handle_packet(now, header, &payload, windows)?;
        Ok(())
    }

    fn note_inbound(&mut self, channel: Channel) {
        self.inbound[usize::from(channel.0) / 64] |= 1 << (channel.0 % 64);
    }

    /// The next message whose turn it is. The caller marks it as delivered in `windows` before the next call, and gives its
    /// octets back by [`PacketTransport::recycle`].
    pub fn poll_message(&mut self, windows: &dyn ChannelWindows) -> Option<ReceivedMessage> {
        self.receiver.poll_message(windows)
    }

    /// Takes a message's octets back: the peer gets credit for as many.
    pub fn recycle(&mut self, octets: PooledBuf) {
        self.receiver.recycle(octets);
    }

    /// Makes the packets of one leg that are to go now: up to the buffer's number of segments, all equally long but the
    /// last. Each is a header, with destination, session and fabric key left 0, a payload, and 16 octets of zero for
    /// the tag. With `settle` messages may be acknowledged.
    ///
    /// To be called after the sockets of all legs were drained: what an ack does not have counts as evidence.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        windows: &dyn ChannelWindows,
        settle: bool,
        out: &mut TransmitBuffer,
    ) -> Option<Transmit> {
        self.settles = settle;
        self.sender.note_call(now);
        if core::mem::take(&mut self.sender.is_control_lost) {
            self.tell_control_again(now);
        }
        let preferred = self.sender.preferred(now);
        let settled = self.sender.poll_settled();
        let mut reports = Reports { receiver: &mut self.receiver, windows, settles: settle, settled };
        let piggyback = preferred.is_some_and(|index| self.sender.has_pieces(index)) && reports.has_acks(now);
        if reports.must_ack(now) || piggyback {
            self.sender.owe_acks(now, preferred);
        }
        while let Some(leg) = reports.receiver.poll_answer_leg() {
            self.sender.owe_answer(leg);
        }
        for step in 0..PacketLeg::COUNT {
            let index = (self.turn + step) % PacketLeg::COUNT;
            let batch = self.sender.fill(now, index, preferred == Some(index), &mut reports, out);
            if batch.is_some() {
                self.turn = index + 1;
                if reports.settled.is_none() {
                    self.sender.note_settled_told();
                }
                return batch;
            }
        }
        None
    }

    /// A packet with credit or message acks was lost.
    fn tell_control_again(&mut self, now: Instant) {
        self.sender.tell_settled_again();
        self.receiver.resend_message_acks(now, Channel::CONTROL);
        for (word, bits) in (0..).zip(self.inbound) {
            for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
                self.receiver.resend_message_acks(now, Channel(word * 64 + bit));
            }
        }
    }

    /// When [`PacketTransport::handle_timeout`], and `poll_transmit` after it, are to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reports = self.report_deadline();
        [self.sender.poll_timeout(), reports].into_iter().flatten().min()
    }

    fn report_deadline(&self) -> Option<Instant> {
        let at = |due| match due {
            AckDue::At(at) => Some(at),
            AckDue::None | AckDue::Now => None,
        };
        let acks = at(self.receiver.ack_due(Instant::ZERO));
        let control = if self.settles { at(self.receiver.message_acks_due(Instant::ZERO)) } else { None };
        let has_leg = self.sender.leg_status().next().is_some();
        [acks, control].into_iter().flatten().min().filter(|_| has_leg)
    }

    /// Time has passed. Probes that nobody asked for are sent only as far as `probe_allowed` says so: the process has one
    /// budget for all of its associations.
    pub fn handle_timeout(&mut self, now: Instant, probe_allowed: &mut dyn FnMut() -> bool) {
        self.sender.handle_timeout(now, probe_allowed);
        if core::mem::take(&mut self.sender.is_idle) {
            self.receiver.trim();
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.sender.poll_event()
    }

    /// The lowest number of `channel` that the peer has not acknowledged, of those sent here.
    #[must_use]
    pub fn lowest_unacked(&self, channel: Channel) -> Option<u32> {
        self.sender.lowest_unacked(channel)
    }

    /// True while no leg answers: nothing is accepted.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.sender.is_stalled()
    }

    /// True when the peer has acknowledged every message.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.sender.is_drained()
    }

    /// What each leg is good for, and what it did.
    pub fn leg_status(&self) -> impl Iterator<Item = PacketLegStatus> + '_ {
        self.sender.leg_status()
    }

    /// What the receiving half counted.
    #[must_use]
    pub fn receiver_counters(&self) -> ReceiverCounters {
        self.receiver.counters()
    }

    /// The receiving half: for messages that other legs brought, and for channels that close.
    pub fn receiver_mut(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Hands back every message that is not acknowledged, in the order of its channel, and forgets it. For a session that
    /// has ended.
    pub fn drain_unsent(&mut self, f: &mut dyn FnMut(Unacked<'_>)) {
        self.sender.drain_unsent(f);
    }
}

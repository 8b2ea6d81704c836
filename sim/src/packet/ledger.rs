//! Every message of a session, in one direction: what was accepted, what arrived, and how it ended.
//!
//! Checks I-1 (at most once), I-3 with I-15 (order in each lane, over all legs together, and barrier messages),
//! I-4 (each ends once), I-5 (octets as sent).

use std::collections::BTreeSet;

use vlan_core::{Channel, Instant};

use crate::checker::Violation;

/// One accepted message.
#[derive(Clone, Copy, Debug)]
pub struct MessageRecord {
    /// Its lane.
    pub lane: u16,
    /// Its octets.
    pub len: u32,
    /// Nothing of its channel with a lower number comes after it.
    pub is_after_all: bool,
    /// The message before it in its lane.
    pub previous: Option<u32>,
    /// When it was accepted.
    pub accepted: Instant,
    /// When it was delivered, and by which leg its last piece came.
    pub delivered: Option<(Instant, u8)>,
    /// It was handed back at the end of the session.
    pub is_drained: bool,
}

/// Lanes of a channel.
const LANES: usize = 1024;

#[derive(Clone, Debug)]
struct ChannelLedger {
    messages: Vec<MessageRecord>,
    /// The last accepted message of each lane, and the last that was handed back.
    last_of_lane: Vec<(Option<u32>, Option<u32>)>,
    undelivered: BTreeSet<u32>,
}

impl ChannelLedger {
    fn new() -> Self {
        Self { messages: Vec::new(), last_of_lane: vec![(None, None); LANES], undelivered: BTreeSet::new() }
    }
}

/// How the messages of a direction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Accepted by `send`.
    pub accepted: u64,
    /// Delivered.
    pub delivered: u64,
    /// Octets delivered.
    pub octets: u64,
    /// Handed back at the end of a session, never having left.
    pub not_sent: u64,
    /// Handed back at the end of a session, perhaps delivered.
    pub maybe: u64,
    /// On their way when their sender died.
    pub apart: u64,
}

impl Audit {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.octets += other.octets;
        self.not_sent += other.not_sent;
        self.maybe += other.maybe;
        self.apart += other.apart;
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// What the octets of its messages are drawn from.
    seed: u64,
    first: u32,
    channels: Vec<ChannelLedger>,
    /// The sums so far.
    pub audit: Audit,
    /// Octets of messages that were accepted and not delivered: its sender must still have them.
    pub octets_undelivered: usize,
    scratch: Vec<u8>,
}

impl Ledger {
    /// A ledger of `channels` channels whose first number is `first`.
    #[must_use]
    pub fn new(channels: usize, first: u32, seed: u64) -> Self {
        Self {
            seed,
            first,
            channels: vec![ChannelLedger::new(); channels],
            audit: Audit::default(),
            octets_undelivered: 0,
            scratch: Vec::new(),
        }
    }

    /// The number of the next message of a channel.
    #[must_use]
    pub fn next_number(&self, channel: Channel) -> u32 {
        self.first.wrapping_add(self.channels[usize::from(channel.0)].messages.len() as u32)
    }

    /// Writes the octets of a message into `out`.
    pub fn write_content(&self, channel: Channel, mseq: u32, len: usize, out: &mut Vec<u8>) {
        write_content(self.seed, channel, mseq, len, out);
    }

    /// `send` took the channel's next message.
    pub fn accepted(&mut self, now: Instant, channel: Channel, lane: u16, len: usize, is_after_all: bool) {
        let state = &mut self.channels[usize::from(channel.0)];
        let place = state.messages.len() as u32;
        let previous = state.last_of_lane[usize::from(lane)].0.replace(place);
        state.undelivered.insert(place);
        state.messages.push(MessageRecord {
            lane,
            len: len as u32,
            is_after_all,
            previous,
            accepted: now,
            delivered: None,
            is_drained: false,
        });
        self.audit.accepted += 1;
        self.octets_undelivered += len;
    }

    /// The transport of the other end handed a message out.
    ///
    /// # Errors
    /// When it should not have.
    pub fn delivered(
        &mut self,
        now: Instant,
        leg: u8,
        (channel, mseq, lane): (Channel, u32, u16),
        octets: &[u8],
    ) -> Result<MessageRecord, Violation> {
        let broken = |invariant, detail| Err(Violation { invariant, at: now, detail });
        let name = format!("channel {} message {mseq} lane {lane}", channel.0);
        let mut expected = std::mem::take(&mut self.scratch);
        let place = mseq.wrapping_sub(self.first);
        let state = self.channels.get_mut(usize::from(channel.0));
        let Some((state, record)) =
            state.and_then(|s| s.messages.get(place as usize).copied().map(|record| (s, record)))
        else {
            return broken("I-4 ends once", format!("{name} was delivered and never accepted"));
        };
        if let Some((at, by)) = record.delivered {
            return broken("I-1 no duplicate", format!("{name} came again, first at {at} by leg {by}"));
        }
        if record.is_drained {
            return broken("I-4 ends once", format!("{name} was handed back before it was delivered"));
        }
        write_content(self.seed, channel, mseq, record.len as usize, &mut expected);
        if octets != expected {
            return broken("I-5 octets", format!("{name}: {} octets for {}", octets.len(), record.len));
        }
        self.scratch = expected;
        if record.lane != lane {
            return broken("I-3 lane order", format!("{name} was sent in lane {}", record.lane));
        }
        if let Some(previous) = record.previous.filter(|p| state.messages[*p as usize].delivered.is_none()) {
            let previous = previous.wrapping_add(self.first);
            return broken("I-3 lane order", format!("{name} came before message {previous}"));
        }
        let lowest = state.undelivered.first().copied();
        if record.is_after_all && lowest != Some(place) {
            return broken("I-3 lane order", format!("{name} is a barrier and came before {lowest:?}"));
        }
        state.messages[place as usize].delivered = Some((now, leg));
        state.undelivered.remove(&place);
        self.audit.delivered += 1;
        self.audit.octets += u64::from(record.len);
        self.octets_undelivered -= record.len as usize;
        Ok(record)
    }

    /// The oldest message of a channel that was accepted and not delivered, and its number.
    #[must_use]
    pub fn oldest_undelivered(&self, channel: Channel) -> Option<(u32, &MessageRecord)> {
        let state = &self.channels[usize::from(channel.0)];
        let place = *state.undelivered.first()?;
        Some((place.wrapping_add(self.first), &state.messages[place as usize]))
    }

    /// Messages that were accepted and not delivered.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.channels.iter().map(|state| state.undelivered.len()).sum()
    }

    /// A message's record.
    #[must_use]
    pub fn record(&self, channel: Channel, mseq: u32) -> Option<&MessageRecord> {
        self.channels.get(usize::from(channel.0))?.messages.get(mseq.wrapping_sub(self.first) as usize)
    }

    /// All messages of a channel.
    pub fn records(&self, channel: Channel) -> impl Iterator<Item = &MessageRecord> {
        self.channels[usize::from(channel.0)].messages.iter()
    }

    /// The sender says that everything of a channel below `lowest` was acknowledged (all of it without one).
    ///
    /// # Errors
    /// When something of it was not delivered.
    pub fn acknowledged_below(
        &self,
        now: Instant,
        channel: Channel,
        lowest: Option<u32>,
    ) -> Result<(), Violation> {
        let state = &self.channels[usize::from(channel.0)];
        let bound = lowest.map_or(state.messages.len() as u32, |l| l.wrapping_sub(self.first));
        match state.undelivered.first() {
            Some(place) if *place < bound => {
                let mseq = place.wrapping_add(self.first);
                let detail = format!(
                    "channel {} message {mseq} counts as acknowledged (below {lowest:?}) and was not delivered",
                    channel.0
                );
                Err(Violation { invariant: "I-4 ends once", at: now, detail })
            }
            _ => Ok(()),
        }
    }

    /// The sender handed a message back at the end of the session.
    ///
    /// # Errors
    /// When it is handed back twice, out of the order of its lane, with other octets, or as not sent although it
    /// was delivered.
    pub fn drained(
        &mut self,
        now: Instant,
        (channel, mseq, lane): (Channel, u32, u16),
        octets: &[u8],
        maybe_taken: bool,
    ) -> Result<(), Violation> {
        let broken = |detail| Err(Violation { invariant: "I-4 ends once", at: now, detail });
        let name = format!("channel {} message {mseq}", channel.0);
        let mut expected = Vec::new();
        let Some(record) = self.record(channel, mseq).copied() else {
            return broken(format!("{name} was handed back and never accepted"));
        };
        write_content(self.seed, channel, mseq, record.len as usize, &mut expected);
        if record.is_drained || record.lane != lane || expected != octets {
            return broken(format!("{name} was handed back twice, or is not what was sent"));
        }
        if record.delivered.is_some() && !maybe_taken {
            return broken(format!("{name} was handed back as not sent and had been delivered"));
        }
        let place = mseq.wrapping_sub(self.first);
        let state = &mut self.channels[usize::from(channel.0)];
        let before = state.last_of_lane[usize::from(lane)].1.replace(place);
        if before.is_some_and(|before| before > place) {
            return broken(format!("{name} was handed back after a later one of its lane"));
        }
        state.messages[place as usize].is_drained = true;
        match maybe_taken {
            true => self.audit.maybe += 1,
            false => self.audit.not_sent += 1,
        }
        Ok(())
    }

    /// The session is over and its sender lives: what was neither delivered nor handed back is lost.
    ///
    /// # Errors
    /// When there is such a message.
    pub fn close(&self, now: Instant) -> Result<(), Violation> {
        for (channel, state) in self.channels.iter().enumerate() {
            let lost = state.undelivered.iter().find(|place| !state.messages[**place as usize].is_drained);
            if let Some(place) = lost {
                let mseq = place.wrapping_add(self.first);
                let detail =
                    format!("channel {channel} message {mseq} was neither delivered nor handed back");
                return Err(Violation { invariant: "I-4 ends once", at: now, detail });
            }
        }
        Ok(())
    }

    /// The session is over and its sender died: what was not delivered is counted apart.
    pub fn close_dead(&mut self) {
        self.audit.apart += self.undelivered() as u64;
    }
}

/// Octets that differ from message to message, in every word.
fn write_content(seed: u64, channel: Channel, mseq: u32, len: usize, out: &mut Vec<u8>) {
    let mut word = seed ^ u64::from(channel.0) << 56 ^ u64::from(mseq) << 20 ^ len as u64;
    out.clear();
    out.resize(len, 0);
    for chunk in out.chunks_mut(8) {
        word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: Channel = Channel(1);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// Messages 0, 2, 4 in lane 7, messages 1, 3 in lane 8; the last is a barrier.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2, u32::MAX, 1);
        for n in 0..5_u16 {
            ledger.accepted(at(1), CHANNEL, 7 + n % 2, 100, n == 4);
        }
        ledger
    }

    fn deliver(ledger: &mut Ledger, place: u32) -> Result<MessageRecord, &'static str> {
        let mseq = u32::MAX.wrapping_add(place);
        let mut octets = Vec::new();
        ledger.write_content(CHANNEL, mseq, 100, &mut octets);
        ledger.delivered(at(2), 0, (CHANNEL, mseq, 7 + (place % 2) as u16), &octets).map_err(|v| v.invariant)
    }

    #[test]
    fn what_comes_once_and_in_order_is_right() {
        let mut ledger = ledger();
        for place in [1, 0, 2, 3, 4] {
            assert!(deliver(&mut ledger, place).is_ok());
        }
        assert_eq!((ledger.undelivered(), ledger.audit.delivered, ledger.audit.octets), (0, 5, 500));
        assert!(ledger.close(at(3)).is_ok());
    }

    #[test]
    fn a_second_copy_a_gap_in_a_lane_and_an_early_barrier_are_noticed() {
        let mut ledger = ledger();
        assert_eq!(deliver(&mut ledger, 2).unwrap_err(), "I-3 lane order");
        assert!(deliver(&mut ledger, 0).is_ok() && deliver(&mut ledger, 2).is_ok());
        assert_eq!(deliver(&mut ledger, 0).unwrap_err(), "I-1 no duplicate");
        assert_eq!(deliver(&mut ledger, 4).unwrap_err(), "I-3 lane order");
        assert_eq!(deliver(&mut ledger, 5).unwrap_err(), "I-4 ends once");
    }

    #[test]
    fn other_octets_are_noticed() {
        let mut ledger = ledger();
        let broken = ledger.delivered(at(2), 0, (CHANNEL, u32::MAX, 7), &[0; 100]);
        assert_eq!(broken.unwrap_err().invariant, "I-5 octets");
    }

    #[test]
    fn every_message_ends_once() {
        let mut ledger = ledger();
        assert!(deliver(&mut ledger, 0).is_ok());
        assert!(ledger.acknowledged_below(at(3), CHANNEL, Some(0)).is_ok());
        assert!(ledger.acknowledged_below(at(3), CHANNEL, Some(1)).is_err());
        assert!(ledger.acknowledged_below(at(3), CHANNEL, None).is_err());
        let mut hand_back = |place: u32, maybe| {
            let mseq = u32::MAX.wrapping_add(place);
            let mut octets = Vec::new();
            ledger.write_content(CHANNEL, mseq, 100, &mut octets);
            ledger.drained(at(3), (CHANNEL, mseq, 7 + (place % 2) as u16), &octets, maybe).is_ok()
        };
        assert!(!hand_back(0, false), "it was delivered");
        assert!(hand_back(0, true) && hand_back(4, false));
        assert!(!hand_back(2, false), "the fourth of its lane is back already");
        assert!(!hand_back(4, false), "twice");
        assert!(ledger.close(at(4)).is_err(), "1, 2 and 3 are missing");
        assert_eq!(deliver(&mut ledger, 4).unwrap_err(), "I-4 ends once");
    }
}

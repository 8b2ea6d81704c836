//! Messages that were accepted, until the peer has acknowledged them.

use alloc::vec::Vec;

use vlan_core::Channel;

use crate::message::Part;
use crate::packet::sender::types::Outgoing;
use crate::packet::wire::MESSAGE_OVERHEAD;

/// Buffers kept for the next messages, in octets of all of them; one that is longer goes back at once.
const SPARE_OCTETS_MAX: usize = 512 << 10;
/// Buffers of up to this many octets are kept apart, so that a small message does not take a large one.
const SMALL: usize = 2048;

/// Part of a message: to be sent, or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where the message lies.
    pub(super) slot: u32,
    /// Which of the messages that lay there it is.
    pub(super) serial: u32,
    /// Its first octet, and the one behind its last.
    pub(super) start: u32,
    pub(super) end: u32,
    /// Another packet may have brought it.
    pub(super) is_again: bool,
}

impl Piece {
    pub(super) fn again(self) -> Self {
        Self { is_again: true, ..self }
    }
}

/// A message that was accepted.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) octets: Vec<u8>,
    /// 0 while the slot is free.
    serial: u32,
    pub(super) mseq: u32,
    pub(super) channel: Channel,
    pub(super) lane: u16,
    pub(super) prev: u16,
    pub(super) is_resent: bool,
    pub(super) is_after_all: bool,
    /// All of it was in packets that went out.
    pub(super) was_sent: bool,
}

/// A table of messages, bounded by their octets.
#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Kept>,
    free: Vec<u32>,
    serial: u32,
    octets: usize,
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    spare_octets: usize,
}

impl Store {
    /// Octets of all messages.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// What all messages cost of the peer's credit.
    pub(super) fn cost(&self) -> u64 {
        (self.octets + (self.slots.len() - self.free.len()) * MESSAGE_OVERHEAD) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Copies a message; the one before it in its lane is `prev` numbers back.
    pub(super) fn insert(&mut self, message: &Outgoing<'_>, len: usize, prev: u16) -> Piece {
        let mut octets = self.buffer(len);
        for part in message.parts {
            append(&mut octets, part);
        }
        self.octets += len;
        self.serial = self.serial.wrapping_add(1).max(1);
        let kept = Kept {
            octets,
            serial: self.serial,
            mseq: message.mseq,
            channel: message.channel,
            lane: message.lane,
            prev,
            is_resent: message.is_resent,
            is_after_all: message.is_after_all,
            was_sent: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = kept;
            slot
        } else {
            self.slots.push(kept);
            self.slots.len() as u32 - 1
        };
        Piece { slot, serial: self.serial, start: 0, end: len as u32, is_again: false }
    }

    /// The message that `piece` is of; `None` when it has been acknowledged.
    #[inline]
    pub(super) fn message_of(&mut self, piece: &Piece) -> Option<&mut Kept> {
        self.slots.get_mut(piece.slot as usize).filter(|kept| kept.serial == piece.serial)
    }

    /// The message in `slot`.
    pub(super) fn at(&self, slot: u32) -> &Kept {
        &self.slots[slot as usize]
    }

    /// Forgets the message in `slot`.
    pub(super) fn remove(&mut self, slot: u32) {
        let kept = &mut self.slots[slot as usize];
        kept.serial = 0;
        self.octets -= kept.octets.len();
        let octets = core::mem::take(&mut kept.octets);
        self.free.push(slot);
        self.keep_buffer(octets);
    }

    fn buffer(&mut self, len: usize) -> Vec<u8> {
        let spares = if len <= SMALL { &mut self.small } else { &mut self.large };
        let Some(mut octets) = spares.pop() else {
            return Vec::with_capacity(if len <= SMALL { len.next_power_of_two().max(64) } else { len });
        };
        self.spare_octets -= octets.capacity();
        octets.clear();
        octets.reserve(len);
        octets
    }

    fn keep_buffer(&mut self, octets: Vec<u8>) {
        if self.spare_octets + octets.capacity() > SPARE_OCTETS_MAX {
            return;
        }
        self.spare_octets += octets.capacity();
        if octets.capacity() <= SMALL { &mut self.small } else { &mut self.large }.push(octets);
    }

    /// Gives memory back that was needed in busier times; only when no message is kept.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            let serial = self.serial;
            *self = Self { serial, ..Self::default() };
        }
    }
}

fn append(octets: &mut Vec<u8>, part: &Part<'_>) {
    match part {
        Part::Private(private) => octets.extend_from_slice(private),
        Part::Shared(shared) => {
            let start = octets.len();
            octets.resize(start + shared.len(), 0);
            shared.copy_to(&mut octets[start..]);
        }
    }
}

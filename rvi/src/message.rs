//! What goes into and comes out of an association: parts to send, messages received.

#![allow(unsafe_code, reason = "octets in memory that a peer may write")]

use alloc::vec::Vec;
use core::fmt;

use vlan_core::limits::PRIVATE_HEAD_LEN;
use vlan_core::{Channel, LegNumber};

use crate::region::Region;
pub use crate::region::SharedOctets;
use crate::ring::{SLOT_BODY, SLOT_LEN};

/// A piece of a message to send; the pieces are copied straight into the ring, one behind the other.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Octets of our own.
    Private(&'a [u8]),
    /// Octets that a peer may still write, such as the rest of a received message.
    Shared(SharedOctets<'a>),
}

impl Part<'_> {
    /// Octets in the part.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Private(octets) => octets.len(),
            Self::Shared(octets) => octets.len(),
        }
    }

    /// True for a part without octets.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) const fn as_ptr(&self) -> *const u8 {
        match self {
            Self::Private(octets) => octets.as_ptr(),
            Self::Shared(octets) => octets.as_ptr(),
        }
    }
}

/// Octets in front of the message in a [`Scratch`]: the fields of the slot.
const SLOT_FIELDS: usize = SLOT_BODY;

/// Private memory for the slot and the first 256 octets of one message.
///
/// It also keeps the region alive that the message's rest lies in, until [`Scratch::release`].
pub struct Scratch {
    pub(crate) octets: [u8; SLOT_FIELDS + PRIVATE_HEAD_LEN + SLOT_LEN],
    keep: Option<Region>,
    /// What follows the head of a message that came in packets.
    packet: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { octets: [0; SLOT_FIELDS + PRIVATE_HEAD_LEN + SLOT_LEN], keep: None, packet: Vec::new() }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl Scratch {
    /// Lets go of the memory that the last message's rest lies in. To be called at the end of a batch: a peer that has
    /// gone would stay mapped else until another one's long message comes.
    pub fn release(&mut self) {
        self.keep = None;
    }

    /// The private head of a message of `len` octets, and its rest: offset and length of it in `region`, which stays alive as
    /// long as it is borrowed, or in our own memory.
    #[inline]
    pub(crate) fn split(
        &mut self,
        region: Option<&Region>,
        rest: (usize, usize),
        len: usize,
    ) -> (&[u8], SharedOctets<'_>) {
        let shared = match region {
            _ if rest.1 == 0 => SharedOctets::empty(),
            None => SharedOctets::private(&self.packet[rest.0..rest.0 + rest.1]),
            Some(region) => {
                if !self.keep.as_ref().is_some_and(|kept| kept.is_same(region)) {
                    self.keep = Some(region.clone());
                }
                self.keep.as_ref().map_or(SharedOctets::empty(), |kept| kept.octets(rest.0, rest.1))
            }
        };
        let head = &self.octets[SLOT_FIELDS..SLOT_FIELDS + len.min(PRIVATE_HEAD_LEN)];
        (head, shared)
    }

    /// Copies a message of our own memory, split as one in shared memory is. Gives offset and length of its rest.
    pub(crate) fn take_private(&mut self, message: &[u8]) -> (usize, usize) {
        let (head, rest) = message.split_at(message.len().min(PRIVATE_HEAD_LEN));
        self.octets[SLOT_FIELDS..SLOT_FIELDS + head.len()].copy_from_slice(head);
        self.packet.clear();
        self.packet.extend_from_slice(rest);
        (0, rest.len())
    }
}

/// A message received. It is good until the next [`crate::Association::release`]: after that the peer may
/// write over `rest` (harmless for this process, but no longer the message).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The channel it came on.
    pub channel: Channel,
    /// The leg it came by.
    pub leg: LegNumber,
    /// Octets of the whole message.
    pub len: usize,
    /// Private copy of the first `min(len, 256)` octets: check these, deliver these.
    pub head: &'a [u8],
    /// What follows, still in the peer's memory.
    pub rest: SharedOctets<'a>,
}

//! The slot: 64 octets that announce, and mostly hold, a message.

use vlan_core::Channel;
use vlan_core::limits::MESSAGE_LEN_MAX;

use crate::ring::RingFault;
use crate::ring::layout::{GRANULE, RingLayout};

/// Octets of a slot: a cache line.
pub const SLOT_LEN: usize = 64;
/// Where the message starts in a slot.
pub const SLOT_BODY: usize = 24;
/// Octets of a message in its first slot.
pub const FIRST_LEN: usize = SLOT_LEN - SLOT_BODY;
/// Octets of a message in each further slot, behind the lap mark.
pub const MORE_LEN: usize = SLOT_LEN - 4;
/// Most slots of a message.
pub const SLOTS_MAX: u32 = 4;
/// The longest message without arena octets: 220.
pub const INLINE_LEN_MAX: usize = FIRST_LEN + 3 * MORE_LEN;
/// Lanes of a channel.
pub const LANES: u32 = 1024;

const LEN_BITS: u32 = 20;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;
const MORE_SHIFT: u32 = LEN_BITS;
const ARENA: u32 = 1 << 22;
const RESENT: u32 = 1 << 23;
/// The only kind of message there is: data.
const KIND_DATA: u8 = 1;

const _: () = assert!(MESSAGE_LEN_MAX <= LEN_MASK as usize, "20 bits of length");
const _: () = assert!(INLINE_LEN_MAX == 220);

/// What a slot says of its message besides length and place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotMeta {
    /// The message's number in its channel.
    pub mseq: u32,
    /// Its lane; below 1024.
    pub lane: u16,
    /// Its channel.
    pub channel: Channel,
    /// Low 16 bits of the session.
    pub session: u16,
    /// True for a copy of a message that another leg may have delivered.
    pub resent: bool,
}

/// A slot's fields, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFields {
    /// Octets of the message.
    pub len: u32,
    /// Slots it takes.
    pub slots: u32,
    /// True when what follows the first 40 octets lies in the arena.
    pub in_arena: bool,
    /// Granule in the arena where it starts.
    pub arena: u32,
    /// The rest.
    pub meta: SlotMeta,
}

/// Slots that a message of `len` octets takes.
#[inline]
#[must_use]
pub const fn slots_for(len: usize) -> u32 {
    if len <= FIRST_LEN || len > INLINE_LEN_MAX {
        return 1;
    }
    let more = len - FIRST_LEN;
    if more <= MORE_LEN {
        2
    } else if more <= 2 * MORE_LEN {
        3
    } else {
        4
    }
}

/// Granules that a message of `len` octets takes in the arena.
#[inline]
#[must_use]
pub const fn granules_for(len: usize) -> u32 {
    if len <= INLINE_LEN_MAX { 0 } else { (len - FIRST_LEN).div_ceil(GRANULE) as u32 }
}

/// The second word of a message's slot, but for the bit that says that it is sent again.
#[inline]
const fn shape(len: u32, slots: u32, in_arena: bool) -> u32 {
    len | (slots - 1) << MORE_SHIFT | if in_arena { ARENA } else { 0 }
}

impl SlotFields {
    /// Encodes everything but the first word, which is stored at publication.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; SLOT_BODY - 4] {
        let mut word = shape(self.len, self.slots, self.in_arena);
        if self.meta.resent {
            word |= RESENT;
        }
        let place =
            u32::from(self.meta.channel.0) | u32::from(KIND_DATA) << 8 | u32::from(self.meta.session) << 16;
        let mut o = [0; SLOT_BODY - 4];
        let (words, _) = o.as_chunks_mut::<4>();
        for (o, word) in
            words.iter_mut().zip([word, self.arena, self.meta.mseq, self.meta.lane.into(), place])
        {
            *o = word.to_le_bytes();
        }
        o
    }

    /// Reads and checks the private copy of a slot on a ring of `layout`.
    ///
    /// # Errors
    /// Says what no message has.
    //= spec/ring.md#checking-a-slot
    //# A consumer MUST copy a slot to private memory once and MUST check the copy before it uses any field of it.
    #[inline]
    pub fn parse(slot: &[u8; SLOT_LEN], layout: &RingLayout, session: u16) -> Result<Self, RingFault> {
        let word_at = |i: usize| u32::from_le_bytes([slot[i], slot[i + 1], slot[i + 2], slot[i + 3]]);
        let word = word_at(4);
        let len = word & LEN_MASK;
        let (slots, in_arena) = (slots_for(len as usize), len as usize > INLINE_LEN_MAX);
        // A length says it all but whether the message is sent again; reserved bits are zero.
        if len as usize > MESSAGE_LEN_MAX || word & !RESENT != shape(len, slots, in_arena) {
            return Err(RingFault::Length { word });
        }
        let arena = word_at(8);
        //= spec/ring.md#arena-bounds
        //# Arena octets that a slot names MUST lie wholly inside the arena.
        if in_arena
            && (arena >= layout.arena_granules || granules_for(len as usize) > layout.arena_granules - arena)
        {
            return Err(RingFault::ArenaBounds { offset: arena.wrapping_mul(GRANULE as u32), len });
        }
        let lane = word_at(16);
        if lane >= LANES {
            return Err(RingFault::Lane { word: lane });
        }
        let named = u16::from_le_bytes([slot[22], slot[23]]);
        if slot[21] != KIND_DATA || named != session {
            let is_kind = slot[21] != KIND_DATA;
            return Err(if is_kind { RingFault::Kind(slot[21]) } else { RingFault::Session(named) });
        }
        let meta = SlotMeta {
            mseq: word_at(12),
            lane: lane as u16,
            channel: Channel(slot[20]),
            session,
            resent: word & RESENT != 0,
        };
        Ok(Self { len, slots, in_arena, arena, meta })
    }
}

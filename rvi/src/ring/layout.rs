//! Where everything lies in a region: the header page, the control words, two rings with their arenas.
//!
//! One file holds every offset; `spec/ring.md` has the same table.

use crate::ring::{RingMemory, SLOT_LEN};

/// First word of every region: "RVI" and the version of the layout.
pub const MAGIC: u32 = u32::from_le_bytes(*b"RVI\x01");
/// Octets of an arena's unit of room.
pub const GRANULE: usize = 64;
/// Fewest and most slots of a ring, as a power of two. Four slots hold the longest inline message.
pub const SLOTS_LOG2: core::ops::RangeInclusive<u8> = 2..=15;
/// Greatest arena: its ends are kept as 16-bit counts of granules, which must not lap.
pub const ARENA_LEN_MAX: u32 = 1 << 21;
/// Slots of the control ring (amendment 10).
pub const CONTROL_SLOTS_LOG2: u8 = 6;
/// Arena of the control ring: four of the largest control messages (16 KiB).
pub const CONTROL_ARENA_LEN: u32 = 64 * 1024;

/// Where the header stands.
const HEADER: usize = 0;
/// Offset of the data ring's `tail`: how much was announced.
pub const DATA_TAIL: usize = 0x1000;
/// Offset of the control ring's `tail`.
pub const CONTROL_TAIL: usize = 0x1080;
/// Offset of `head` of the peer's data ring; `settled` follows.
pub const DATA_HEAD: usize = 0x1100;
/// Offset of `head` of the peer's control ring; `settled` follows.
pub const CONTROL_HEAD: usize = 0x1180;
/// Offset of the word that says whether this end sleeps.
pub const ASLEEP: usize = 0x1200;
/// Offset of the leg's state; the final heads of the peer's data and control ring follow.
pub const STATE: usize = 0x1280;
/// Where the slots start.
pub const SLOTS: usize = 0x2000;

const _: () =
    assert!(DATA_HEAD - CONTROL_TAIL == 128 && STATE - ASLEEP == 128, "words on lines of their own");
const _: () = assert!(SLOTS.is_multiple_of(4096) && SLOTS > STATE + 128);

/// State word: the region is formatted, nobody uses it.
pub const STATE_INIT: u32 = 0;
/// State word: the owner uses the leg.
pub const STATE_UP: u32 = 1;
/// State word: the owner left; the final heads are valid.
pub const STATE_CLOSED: u32 = 2;

/// One ring in a region: its slots, its arena, and the words of its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Offset of the first slot.
    pub slots: usize,
    /// Number of slots less one.
    pub mask: u32,
    /// Offset of the arena.
    pub arena: usize,
    /// Granules in the arena; a power of two.
    pub arena_granules: u32,
    /// Offset of `tail`, in the producer's region.
    pub tail: usize,
    /// Offset of `head` and `settled`, in the consumer's region.
    pub head: usize,
}

impl RingLayout {
    /// Offset of the slot at free-running `position`.
    #[inline]
    #[must_use]
    pub const fn slot(&self, position: u32) -> usize {
        self.slots + (position & self.mask) as usize * SLOT_LEN
    }

    /// How many slots there are.
    #[inline]
    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        self.mask + 1
    }
}

/// What a region holds. Everything follows from two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The data ring.
    pub data: RingLayout,
    /// The control ring.
    pub control: RingLayout,
    /// Octets of the whole region.
    pub region_len: usize,
    slots_log2: u8,
    arena_len: u32,
}

/// Why a region's header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The region is shorter than its header, or not as long as its header says.
    Length {
        /// Octets the header needs.
        needed: usize,
        /// Octets of the region.
        len: usize,
    },
    /// Not a region of ours, or of another version.
    Magic(u32),
    /// A number of slots that no ring has.
    Slots(u32),
    /// A length that no arena has.
    Arena(u32),
}

impl Layout {
    /// The layout with `1 << slots_log2` data slots and `arena_len` octets of data arena.
    ///
    /// # Errors
    /// When a number is out of its range: slots 2 to 15 as a power of two; arena a power of two up to 2 MiB.
    pub fn new(slots_log2: u8, arena_len: u32) -> Result<Self, HeaderError> {
        if !SLOTS_LOG2.contains(&slots_log2) {
            return Err(HeaderError::Slots(slots_log2.into()));
        }
        if !arena_len.is_power_of_two() || !(GRANULE as u32..=ARENA_LEN_MAX).contains(&arena_len) {
            return Err(HeaderError::Arena(arena_len));
        }
        let control_slots = SLOTS + (SLOT_LEN << slots_log2).next_multiple_of(4096);
        let control_arena = control_slots + (SLOT_LEN << CONTROL_SLOTS_LOG2);
        let arena = control_arena + CONTROL_ARENA_LEN as usize;
        let data = RingLayout {
            slots: SLOTS,
            mask: (1 << slots_log2) - 1,
            arena,
            arena_granules: arena_len / GRANULE as u32,
            tail: DATA_TAIL,
            head: DATA_HEAD,
        };
        let control = RingLayout {
            slots: control_slots,
            mask: (1 << CONTROL_SLOTS_LOG2) - 1,
            arena: control_arena,
            arena_granules: CONTROL_ARENA_LEN / GRANULE as u32,
            tail: CONTROL_TAIL,
            head: CONTROL_HEAD,
        };
        Ok(Self { data, control, region_len: arena + arena_len as usize, slots_log2, arena_len })
    }

    /// Writes the header into the own region. All words of the region must still be zero.
    pub fn write_header<M: RingMemory>(&self, own: &M) {
        own.store_relaxed(HEADER + 4, self.slots_log2.into());
        own.store_relaxed(HEADER + 8, self.arena_len);
        own.store_relaxed(HEADER + 12, self.region_len as u32);
        own.store_relaxed(STATE, STATE_INIT);
        own.store_release(HEADER, MAGIC);
    }

    /// Reads the header of a region of `len` octets. Each word is read once and checked before its use.
    ///
    /// # Errors
    /// When it is not a header, or does not fit the region.
    //= spec/ring.md#header-page
    //# An end MUST take the layout of a peer's region from a header that it read once, checked against the
    //# region's length, and never reads again.
    pub fn read_header<M: RingMemory>(memory: &M, len: usize) -> Result<Self, HeaderError> {
        if len < SLOTS {
            return Err(HeaderError::Length { needed: SLOTS, len });
        }
        let magic = memory.load_acquire(HEADER);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let slots_log2 = memory.load_relaxed(HEADER + 4);
        let arena_len = memory.load_relaxed(HEADER + 8);
        let region_len = memory.load_relaxed(HEADER + 12);
        let layout =
            Self::new(u8::try_from(slots_log2).map_err(|_| HeaderError::Slots(slots_log2))?, arena_len)?;
        if layout.region_len != len || region_len as usize != len {
            return Err(HeaderError::Length { needed: layout.region_len, len });
        }
        Ok(layout)
    }
}

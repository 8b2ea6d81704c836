//! Where everything lies in an arena: the header page, the sequences of the segments, the segments.

use vlan_core::limits::MESSAGE_LEN_MAX;

use crate::ring::{HeaderError, RingMemory};

/// First word of every arena: "WBA" and the version of the layout.
pub const MAGIC: u32 = u32::from_le_bytes(*b"WBA\x01");
/// Segments of an arena. With eight, the one that is to be written over next is a seventh of the others: a member may fall that
/// far behind, and what one loses by falling further is looked for in all of them.
pub const SEGMENTS: u32 = 8;
/// Messages start at multiples of this many octets: cache lines, so that no two share one.
pub const GRANULE: usize = 64;
/// Where the sequences stand: one for each segment.
pub const SEQUENCES: usize = 0x1000;
/// Octets between two sequences: lines of their own, in pairs as processors fetch them.
const SEQUENCE_STEP: usize = 128;
/// Where the segments start.
pub const DATA: usize = 0x2000;
/// Greatest segment: eight of them take 16 MiB.
const SEGMENT_LEN_MAX: u32 = 1 << 21;
/// Least segment: a page. Only the default size holds every message there can be; longer ones are copied to each member.
const SEGMENT_LEN_MIN: u32 = 4096;
const _: () = assert!(ArenaConfig::new(0).segment_len as usize >= 2 * MESSAGE_LEN_MAX);

const _: () = assert!(SEQUENCES + SEGMENTS as usize * SEQUENCE_STEP <= DATA);

/// Size and name of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaConfig {
    /// Number of the arena, among those that its control node has made.
    pub number: u32,
    /// Octets of a segment, a power of two; 256 KiB by default, so 2 MiB in all (amendment 29).
    pub segment_len: u32,
}

impl ArenaConfig {
    /// The arena `number` of the default size.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self { number, segment_len: 1 << 18 }
    }

    /// Octets of its memory.
    #[must_use]
    pub const fn region_len(&self) -> usize {
        DATA + (self.segment_len * SEGMENTS) as usize
    }
}

/// What an arena holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaLayout {
    segment_len: u32,
}

impl ArenaLayout {
    /// The layout with segments of so many octets.
    ///
    /// # Errors
    /// When no arena has such segments.
    pub fn new(segment_len: u32) -> Result<Self, HeaderError> {
        let is_size = (SEGMENT_LEN_MIN..=SEGMENT_LEN_MAX).contains(&segment_len);
        if is_size && segment_len.is_power_of_two() {
            Ok(Self { segment_len })
        } else {
            Err(HeaderError::Arena(segment_len))
        }
    }

    /// Octets of a segment.
    #[inline]
    #[must_use]
    pub const fn segment_len(&self) -> u32 {
        self.segment_len
    }

    /// Offset of the word that names the life that segment `life` is in.
    #[inline]
    #[must_use]
    pub const fn sequence(&self, life: u32) -> usize {
        SEQUENCES + (life % SEGMENTS) as usize * SEQUENCE_STEP
    }

    /// Offset of the first octet of segment `life`.
    #[inline]
    #[must_use]
    pub const fn segment(&self, life: u32) -> usize {
        DATA + (life % SEGMENTS * self.segment_len) as usize
    }

    /// Writes the header of the arena `number`. All words of the memory must still be zero.
    pub fn write_header<M: RingMemory>(&self, memory: &M, number: u32) {
        memory.store_relaxed(4, self.segment_len);
        memory.store_relaxed(8, number);
        memory.store_release(0, MAGIC);
    }

    /// Reads the header of an arena of `len` octets, and its number. Each word is read once and checked before its use.
    ///
    /// # Errors
    /// When it is not a header, or does not fit the memory.
    //= spec/arena.md#header-page
    //# A member MUST take the layout of an arena from a header that it read once, checked against the memory's length, and never
    //# reads again.
    pub fn read_header<M: RingMemory>(memory: &M, len: usize) -> Result<(Self, u32), HeaderError> {
        if len < DATA {
            return Err(HeaderError::Length { needed: DATA, len });
        }
        let magic = memory.load_acquire(0);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let layout = Self::new(memory.load_relaxed(4))?;
        let number = memory.load_relaxed(8);
        let needed = ArenaConfig { number, segment_len: layout.segment_len }.region_len();
        if needed == len { Ok((layout, number)) } else { Err(HeaderError::Length { needed, len }) }
    }
}

//! The ack section: which packets of each leg were received.

use vlan_core::limits::FABRICS_MAX;

use super::{Fields, PacketError, PacketLeg};

/// Blocks of an ack section: one for each leg.
pub const ACK_BLOCKS_MAX: usize = FABRICS_MAX + 2;
/// Ranges of an ack block (amendment 16).
pub const ACK_RANGES_MAX: usize = 8;

/// Octets of the section in front of its blocks.
const SECTION_HEADER_LEN: usize = 8;
/// Octets of a block in front of its ranges.
const BLOCK_HEADER_LEN: usize = 24;
/// Octets of a range.
const RANGE_LEN: usize = 4;
/// The longest ack section: all legs with all ranges.
pub const ACK_SECTION_LEN_MAX: usize = SECTION_HEADER_LEN + ACK_BLOCKS_MAX * block_len(ACK_RANGES_MAX);

const _: () = assert!(ACK_BLOCKS_MAX == PacketLeg::COUNT);

/// Octets of a block with `ranges` ranges.
const fn block_len(ranges: usize) -> usize {
    BLOCK_HEADER_LEN + (ranges * RANGE_LEN).next_multiple_of(8)
}

/// Octets of the ack section that has a block with each of these numbers of ranges.
#[must_use]
pub fn ack_section_len(ranges: impl IntoIterator<Item = usize>) -> usize {
    SECTION_HEADER_LEN + ranges.into_iter().map(block_len).sum::<usize>()
}

/// Up to eight ranges of packet numbers, highest first, each as (lowest, highest); no two overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckRanges {
    ranges: [(u64, u64); ACK_RANGES_MAX],
    count: u8,
}

impl AckRanges {
    /// Appends a range below those that are there. False when it cannot be told in this block: the block is full,
    /// or the range lies more than 16 bits below the one before. What cannot be told of its length is left out.
    ///
    /// # Panics
    /// When the range is empty or not below the one before.
    pub fn push(&mut self, lowest: u64, highest: u64) -> bool {
        assert!(lowest <= highest, "an empty range");
        if let Some(&(above, _)) = self.as_slice().last() {
            assert!(highest < above, "ranges go downwards");
            if above - highest > u64::from(u16::MAX) {
                return false;
            }
        }
        let Some(room) = self.ranges.get_mut(usize::from(self.count)) else { return false };
        *room = (lowest.max(highest.saturating_sub(u64::from(u16::MAX) - 1)), highest);
        self.count += 1;
        true
    }

    /// The ranges, highest first.
    #[must_use]
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.ranges[..usize::from(self.count)]
    }

    /// The ranges, highest first, as (lowest, highest).
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.as_slice().iter().copied()
    }

    /// True when `number` lies in one of them.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.iter().any(|(lowest, highest)| (lowest..=highest).contains(&number))
    }
}

/// What was received on one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckBlock {
    /// The leg.
    pub leg: PacketLeg,
    /// Microseconds from the arrival of `largest` to this ack, 65,535 at most.
    pub delay_us: u16,
    /// Packets accepted on the leg so far, low 32 bits.
    pub rx_count: u32,
    /// The highest packet number received.
    pub largest: u64,
    /// `ts_us` of the packet `largest`.
    pub ts_echo: u32,
    /// What was received: the first range ends with `largest`.
    pub ranges: AckRanges,
}

impl AckBlock {
    /// Octets of the block.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        block_len(self.ranges.count as usize)
    }

    /// Reads the block at the front of `fields`.
    fn parse(fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let short = PacketError::Length { len: fields.0.len(), wanted: BLOCK_HEADER_LEN };
        let head = fields.take::<BLOCK_HEADER_LEN>().ok_or(short)?;
        let mut head = Fields(head);
        let mut read = || {
            let (leg, count, delay_us) = (head.u8()?, head.u8()?, head.u16()?);
            Some((leg, count, delay_us, head.u32()?, head.u64()?, head.u32()?))
        };
        let (leg, count, delay_us, rx_count, largest, ts_echo) = read().ok_or(short)?;
        let leg = PacketLeg::new(leg).ok_or(PacketError::Leg(leg))?;
        let ranges = Self::parse_ranges(fields, count, largest)?;
        Ok(Self { leg, delay_us, rx_count, largest, ts_echo, ranges })
    }

    //= spec/packet.md#ack-ranges
    //# An ack block MUST have one to eight ranges, from the highest number downwards, none of them empty, reaching below
    //# number 0 or into the one before.
    fn parse_ranges(fields: &mut Fields<'_>, count: u8, largest: u64) -> Result<AckRanges, PacketError> {
        if count == 0 || usize::from(count) > ACK_RANGES_MAX {
            return Err(PacketError::AckRanges(count));
        }
        let wanted = block_len(usize::from(count)) - BLOCK_HEADER_LEN;
        let short = PacketError::Length { len: fields.0.len(), wanted };
        let (octets, rest) = fields.0.split_at_checked(wanted).ok_or(short)?;
        fields.0 = rest;
        let mut octets = Fields(octets);
        let mut ranges = AckRanges { ranges: [(0, 0); ACK_RANGES_MAX], count };
        // The number that the next gap is counted down from.
        let mut above = largest;
        for (index, room) in ranges.ranges[..usize::from(count)].iter_mut().enumerate() {
            let (gap, len) = (octets.u16().ok_or(short)?, octets.u16().ok_or(short)?);
            let wrong = PacketError::AckRange { gap, len };
            if len == 0 || (gap == 0) != (index == 0) {
                return Err(wrong);
            }
            let highest = above.checked_sub(u64::from(gap)).ok_or(wrong)?;
            let lowest = highest.checked_sub(u64::from(len - 1)).ok_or(wrong)?;
            *room = (lowest, highest);
            above = lowest;
        }
        Ok(ranges)
    }

    /// Writes the block and gives its length.
    fn emit(&self, out: &mut [u8]) -> usize {
        let len = self.encoded_len();
        let out = &mut out[..len];
        out.fill(0);
        out[0] = self.leg.number();
        out[1] = self.ranges.count;
        out[2..4].copy_from_slice(&self.delay_us.to_le_bytes());
        out[4..8].copy_from_slice(&self.rx_count.to_le_bytes());
        out[8..16].copy_from_slice(&self.largest.to_le_bytes());
        out[16..20].copy_from_slice(&self.ts_echo.to_le_bytes());
        let mut above = self.largest;
        for ((lowest, highest), room) in
            self.ranges.iter().zip(out[BLOCK_HEADER_LEN..].chunks_exact_mut(RANGE_LEN))
        {
            let (gap, len) = ((above - highest) as u16, (highest - lowest + 1) as u16);
            room[..2].copy_from_slice(&gap.to_le_bytes());
            room[2..].copy_from_slice(&len.to_le_bytes());
            above = lowest;
        }
        len
    }
}

/// Reads the section's header and gives its number of blocks.
pub(super) fn parse_section_header(fields: &mut Fields<'_>) -> Result<u8, PacketError> {
    let short = PacketError::Length { len: fields.0.len(), wanted: SECTION_HEADER_LEN };
    let blocks = fields.take::<SECTION_HEADER_LEN>().ok_or(short)?[0];
    if blocks == 0 || usize::from(blocks) > ACK_BLOCKS_MAX {
        return Err(PacketError::AckBlocks(blocks));
    }
    Ok(blocks)
}

/// Reads the next block.
pub(super) fn parse_block(fields: &mut Fields<'_>) -> Result<AckBlock, PacketError> {
    AckBlock::parse(fields)
}

/// Writes an ack section block by block.
#[derive(Debug)]
pub struct AckSectionWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    blocks: u8,
}

impl<'a> AckSectionWriter<'a> {
    /// Starts a section in `out`; room for the longest is [`ACK_SECTION_LEN_MAX`] octets.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: SECTION_HEADER_LEN, blocks: 0 }
    }

    /// Appends a block. False when there is no room for it.
    pub fn push(&mut self, block: &AckBlock) -> bool {
        let end = self.len + block.encoded_len();
        if end > self.out.len() || usize::from(self.blocks) >= ACK_BLOCKS_MAX {
            return false;
        }
        self.len += block.emit(&mut self.out[self.len..end]);
        self.blocks += 1;
        true
    }

    /// Ends the section and gives its octets; 0 when no block was written: then there is no section.
    #[must_use]
    pub fn finish(self) -> usize {
        if self.blocks == 0 {
            return 0;
        }
        self.out[..SECTION_HEADER_LEN].copy_from_slice(&[self.blocks, 0, 0, 0, 0, 0, 0, 0]);
        self.len
    }
}

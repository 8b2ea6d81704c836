//! The payload of DATA and PROBE: checked as a whole, then read piece by piece.

use super::{AckBlock, Control, Fields, PacketError, Record, RecordKind, ack};

/// A payload in which every ack block and every record is good.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    blocks: AckBlocks<'a>,
    records: Records<'a>,
}

impl<'a> Payload<'a> {
    /// Checks a whole payload; `has_ack` is the header's flag.
    ///
    /// # Errors
    /// The first thing that is wrong.
    //= spec/packet.md#check-first
    //# A receiver MUST check the whole payload of a packet before it applies anything of it.
    pub fn parse(has_ack: bool, octets: &'a [u8]) -> Result<Self, PacketError> {
        let mut fields = Fields(octets);
        let mut blocks = AckBlocks { fields, left: 0 };
        if has_ack {
            blocks.left = ack::parse_section_header(&mut fields)?;
            blocks.fields = fields;
            check_blocks(&mut fields, blocks.left)?;
        }
        let records = Records { fields };
        while !fields.0.is_empty() {
            let record = Record::parse(&mut fields)?;
            if record.header.kind == RecordKind::Control {
                Control::parse(record.body)?;
            }
        }
        Ok(Self { blocks, records })
    }

    /// The blocks of the ack section; none when there is none.
    #[inline]
    #[must_use]
    pub const fn ack_blocks(&self) -> AckBlocks<'a> {
        self.blocks
    }

    /// The records, data and control, in the order in which they were written.
    #[inline]
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        self.records
    }
}

fn check_blocks(fields: &mut Fields<'_>, count: u8) -> Result<(), PacketError> {
    let mut seen = 0_u8;
    for _ in 0..count {
        let leg = ack::parse_block(fields)?.leg;
        let bit = 1 << leg.index();
        if seen & bit != 0 {
            return Err(PacketError::AckLegTwice(leg.number()));
        }
        seen |= bit;
    }
    Ok(())
}

/// Iterates over the ack blocks of a [`Payload`].
#[derive(Clone, Copy, Debug)]
pub struct AckBlocks<'a> {
    fields: Fields<'a>,
    left: u8,
}

impl Iterator for AckBlocks<'_> {
    type Item = AckBlock;

    #[inline]
    fn next(&mut self) -> Option<AckBlock> {
        self.left = self.left.checked_sub(1)?;
        ack::parse_block(&mut self.fields).ok()
    }
}

/// Iterates over the records of a [`Payload`].
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    fields: Fields<'a>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.fields.0.is_empty() { None } else { Record::parse(&mut self.fields).ok() }
    }
}

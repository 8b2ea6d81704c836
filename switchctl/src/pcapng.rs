//! The blocks of a pcapng stream, as far as somebody who passes them on must know them: where each ends, which are packets,
//! and what the statistics say.

/// Octets of the longest block that is taken for one: a packet of 64 KiB with its options, many times over.
const BLOCK_OCTETS: usize = 1 << 20;

/// A block.
#[derive(Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A packet.
    Packet(&'a [u8]),
    /// What an interface has seen.
    Statistics(&'a [u8], Statistics),
    /// Any other.
    Other(&'a [u8]),
}

/// What an interface has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that passed.
    pub seen: u64,
    /// Packets that the filter kept.
    pub matched: u64,
    /// Packets that there was no room for.
    pub lost: u64,
    /// What else is to be said.
    pub comment: String,
}

/// Blocks out of pieces that are cut anywhere.
#[derive(Debug, Default)]
pub struct Blocks {
    octets: Vec<u8>,
    taken: usize,
}

impl Blocks {
    /// Adds what has come.
    pub fn add(&mut self, piece: &[u8]) {
        self.octets.drain(..self.taken);
        self.taken = 0;
        self.octets.extend_from_slice(piece);
    }

    /// The next whole block.
    ///
    /// # Errors
    /// When the octets are no pcapng.
    pub fn take_block(&mut self) -> Result<Option<Block<'_>>, String> {
        let rest = &self.octets[self.taken..];
        let (Some(kind), Some(len)) = (u32_at(rest, 0), u32_at(rest, 4)) else { return Ok(None) };
        let len = len as usize;
        if !(12..=BLOCK_OCTETS).contains(&len) || !len.is_multiple_of(4) {
            return Err(format!("the control node sent a block of {len} octets"));
        }
        let Some(block) = rest.get(..len) else { return Ok(None) };
        self.taken += len;
        Ok(Some(match kind {
            6 => Block::Packet(block),
            5 => Block::Statistics(block, statistics(block)),
            _ => Block::Other(block),
        }))
    }
}

impl Block<'_> {
    /// All its octets.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Packet(octets) | Self::Statistics(octets, _) | Self::Other(octets) => octets,
        }
    }
}

/// Reads the options of a statistics block: they stand behind its type, length, interface and time.
fn statistics(block: &[u8]) -> Statistics {
    let mut read = Statistics::default();
    let mut rest = block.get(20..block.len() - 4).unwrap_or_default();
    while let Some(head) = u32_at(rest, 0) {
        let (code, len) = (head & 0xffff, (head >> 16) as usize);
        let Some(value) = rest.get(4..4 + len) else { break };
        let number = value.first_chunk::<8>().map_or(0, |octets| u64::from_le_bytes(*octets));
        match code {
            0 => break,
            1 => read.comment = String::from_utf8_lossy(value).into_owned(),
            4 => read.seen = number,
            5 => read.lost = number,
            6 => read.matched = number,
            _ => {}
        }
        rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
    }
    read
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk::<4>().map(|octets| u32::from_le_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    #[test]
    fn blocks_come_whole_however_the_pieces_are_cut() {
        let mut body = [0; 12].to_vec();
        for (code, value) in [(4_u16, 9_u64), (5, 2), (6, 7)] {
            body.extend([&code.to_le_bytes()[..], &[8, 0], &value.to_le_bytes()].concat());
        }
        body.extend([1, 0, 3, 0, b'w', b'h', b'y', 0, 0, 0, 0, 0]);
        let said = Statistics { seen: 9, matched: 7, lost: 2, comment: "why".into() };
        let (packet, other, statistics) = (block(6, &[1; 8]), block(1, &[2; 4]), block(5, &body));
        let all = [&other[..], &packet, &statistics].concat();
        for cut in 1..all.len() {
            let mut blocks = Blocks::default();
            let mut seen = Vec::new();
            for piece in all.chunks(cut) {
                blocks.add(piece);
                while let Some(block) = blocks.take_block().unwrap() {
                    seen.push(block.octets().to_vec());
                    if let Block::Statistics(_, read) = &block {
                        assert_eq!(*read, said);
                    }
                }
            }
            assert_eq!(seen, [other.clone(), packet.clone(), statistics.clone()], "pieces of {cut}");
        }
    }

    #[test]
    fn what_is_no_pcapng_is_refused() {
        for octets in [[6, 0, 0, 0, 8, 0, 0, 0], [6, 0, 0, 0, 13, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0, 1]] {
            let mut blocks = Blocks::default();
            blocks.add(&octets);
            assert!(blocks.take_block().is_err(), "{octets:?}");
        }
    }
}

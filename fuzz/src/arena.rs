//! An arena whose memory says anything, at any time, and references that name anything: nothing is read outside, and what is
//! read is as long as was asked for. As long as nobody lies, what is read is what was written.

use rvi::arena::layout::SEGMENTS;
use rvi::{ArenaConfig, ArenaFault, ArenaReader, ArenaWriter, Part, Region};
use vlan_core::wire::reference::{Place, Reference};

use crate::script::Script;

const CONFIG: ArenaConfig = ArenaConfig { number: 7, segment_len: 4096 };

struct Run {
    memory: Region,
    writer: ArenaWriter<Region>,
    reader: ArenaReader<Region>,
    /// What was put in, and with which octet it is filled.
    put: Vec<(Place, u8)>,
    has_lied: bool,
    private: Vec<u8>,
}

/// Writes, begins segments, reads, and overwrites words, as `data` says.
pub fn run(data: &[u8]) {
    let memory = Region::heap(CONFIG.region_len());
    let writer = ArenaWriter::new(memory.clone(), &CONFIG);
    let reader = ArenaReader::new(memory.clone(), memory.len()).expect("a header");
    let mut run = Run { memory, writer, reader, put: Vec::new(), has_lied: false, private: Vec::new() };
    let mut script = Script::new(data);
    while run.step(&mut script).is_some() {}
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.below(6)? {
            0 => {
                let (len, fill) = (usize::from(script.u16()?) % 5000, script.octet()?);
                let place = self.writer.put(&[Part::Private(&vec![fill; len])]);
                assert!(place.is_none() || len > 0 && len <= 4096);
                self.put.extend(place.map(|place| (place, fill)));
            }
            1 => self.writer.begin_segment(),
            2 => self.read_what_was_put(usize::from(script.octet()?)),
            3 => {
                let place = Place { segment: script.u32()?, offset: script.u32()?, len: script.u32()? };
                self.read(place);
            }
            4 => {
                let near = self.put.last().map_or(Place::default(), |&(place, _)| place);
                let (offset, len) = (u32::from(script.u16()?) & !63, u32::from(script.u16()?));
                self.read(Place { offset, len, ..near });
            }
            _ => {
                // A word of the header, or of a segment's sequence.
                let word = usize::from(script.below(3 + SEGMENTS as u8)?);
                let offset = if word < 3 { 4 * word } else { 0x1000 + 128 * (word - 3) };
                self.memory.write(offset, &script.u32()?.to_le_bytes());
                self.has_lied = true;
                // Whether there is a reader of it now, or not.
                let _ = ArenaReader::new(self.memory.clone(), self.memory.len());
            }
        }
        Some(())
    }

    fn read(&mut self, place: Place) {
        if let Ok(octets) = self.reader.read(&place, &mut self.private) {
            assert_eq!(octets.len(), place.len as usize);
            assert!(u64::from(place.offset) + u64::from(place.len) <= 4096);
        }
        let reference = Reference {
            lan: vlan_core::LanId(place.len as u16),
            destination_vif: vlan_core::VifNumber(place.offset as u16),
            arena: place.segment,
            place,
            stay: place.len as u16,
        };
        assert_eq!(Reference::parse(&reference.emit(), 32), Ok(reference));
    }

    fn read_what_was_put(&mut self, back: usize) {
        let Some(&(place, fill)) = self.put.iter().rev().nth(back) else { return };
        let is_there = self.writer.life().wrapping_sub(place.segment) < SEGMENTS;
        let read = self.reader.read(&place, &mut self.private);
        if self.has_lied {
            return;
        }
        match read {
            Ok(octets) => assert!(is_there && octets.iter().all(|octet| *octet == fill)),
            Err(fault) => assert!(!is_there && fault == ArenaFault::Lapped),
        }
    }
}

/// Inputs to start from.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let put = |len: u16, fill: u8| [&[0][..], &len.to_le_bytes(), &[fill]].concat();
    let mut laps = Vec::new();
    for fill in 0..20 {
        laps.extend(put(1500, fill));
        laps.extend([1, 2, 0, 2, 7, 2, 8]);
    }
    let mut lies = put(100, 1);
    lies.extend([5, 3, 9, 0, 0, 0, 2, 0, 5, 1, 0, 0, 1, 0, 2, 0, 4, 64, 0, 0, 16, 3]);
    lies.extend([8, 0, 0, 0, 192, 255, 255, 255, 64, 0, 0, 0]);
    vec![laps, lies, put(4096, 9)]
}

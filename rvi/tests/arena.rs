//! An arena and its reader: what is put in comes out until it is written over, and a memory that says anything whatever is
//! answered by an error.
#![cfg(not(loom))]

use proptest::prelude::*;
use rvi::arena::layout::{DATA, SEGMENTS, SEQUENCES};
use rvi::ring::HeaderError;
use rvi::{ArenaConfig, ArenaFault, ArenaReader, ArenaWriter, Part, Region};
use vlan_core::wire::reference::Place;

const SEGMENT_LEN: u32 = 1 << 17;
const CONFIG: ArenaConfig = ArenaConfig { number: 9, segment_len: SEGMENT_LEN };

fn arena() -> (ArenaWriter<Region>, ArenaReader<Region>, Region) {
    let memory = Region::heap(CONFIG.region_len());
    let writer = ArenaWriter::new(memory.clone(), &CONFIG);
    let reader = ArenaReader::new(memory.clone(), memory.len()).expect("a header");
    (writer, reader, memory)
}

fn put(writer: &mut ArenaWriter<Region>, octets: &[u8]) -> Option<Place> {
    writer.put(&[Part::Private(octets)])
}

#[test]
fn messages_come_out_as_they_went_in_until_their_segment_is_begun_again() {
    let (mut writer, reader, _) = arena();
    let mut private = Vec::new();
    let mut places = Vec::new();
    for lap in 0..3 * SEGMENTS {
        let octets = vec![lap as u8 + 1; 1000 + lap as usize];
        places.push((put(&mut writer, &octets).expect("room"), octets));
        assert_eq!(writer.oldest(), SEGMENTS + (lap + 1).saturating_sub(SEGMENTS));
        for (i, (place, octets)) in places.iter().enumerate() {
            if i as u32 + SEGMENTS > lap {
                assert_eq!(
                    reader.read(place, &mut private).as_deref(),
                    Ok(&octets[..]),
                    "message {i} at {lap}"
                );
                let mut own = Vec::new();
                writer.read_back(place, &mut own);
                assert_eq!(&own, octets);
            } else {
                assert_eq!(reader.read(place, &mut private), Err(ArenaFault::Lapped), "message {i} at {lap}");
            }
        }
        writer.begin_segment();
    }
}

#[test]
fn a_segment_takes_what_fits_and_messages_start_at_lines() {
    let (mut writer, reader, _) = arena();
    let mut last = None;
    for i in 0.. {
        let Some(place) = put(&mut writer, &[i as u8; 100]) else { break };
        assert_eq!(place.offset, 128 * i);
        last = Some((place, i as u8));
    }
    let (place, octet) = last.expect("some fitted");
    assert_eq!(place.offset + 128, SEGMENT_LEN);
    assert_eq!(reader.read(&place, &mut Vec::new()).as_deref(), Ok(&[octet; 100][..]));
    assert!(!writer.has_room(1));
    let places: Vec<Place> = writer.messages(SEGMENTS).collect();
    assert_eq!((places.len(), places.last().copied()), (SEGMENT_LEN as usize / 128, Some(place)));
    assert_eq!(places[3], Place { segment: SEGMENTS, offset: 384, len: 100 });
    assert_eq!(writer.load(), (SEGMENT_LEN, SEGMENT_LEN * SEGMENTS));
    writer.begin_segment();
    assert_eq!(put(&mut writer, &[1]).map(|place| (place.segment, place.offset)), Some((SEGMENTS + 1, 0)));
    assert_eq!(put(&mut writer, &[]), None, "no message is empty");
}

#[test]
fn places_that_are_none_are_refused() {
    //= spec/arena.md#bounds
    //= type=test
    //# A member MUST refuse a reference to octets that do not lie wholly inside one segment.
    let (mut writer, reader, _) = arena();
    let good = put(&mut writer, &[5; 64]).expect("room");
    let mut private = Vec::new();
    assert!(reader.read(&good, &mut private).is_ok());
    let last = Place { offset: SEGMENT_LEN - 64, len: 64, ..good };
    assert!(reader.read(&last, &mut private).is_ok(), "the last octets are inside");
    for bad in [
        Place { len: 0, ..good },
        Place { offset: 1, ..good },
        Place { len: 65, ..last },
        Place { offset: SEGMENT_LEN, len: 1, ..good },
        Place { offset: u32::MAX - 63, len: 64, ..good },
        Place { len: u32::MAX, ..good },
        Place { len: 65_810, ..good },
    ] {
        assert_eq!(reader.read(&bad, &mut private), Err(ArenaFault::Bounds(bad)));
    }
    for segment in [0, 1, 7, 9, 16, u32::MAX] {
        assert_eq!(
            reader.read(&Place { segment, ..good }, &mut private),
            Err(ArenaFault::Lapped),
            "{segment}"
        );
    }
}

#[test]
fn only_an_arena_of_this_length_has_a_reader() {
    //= spec/arena.md#header-page
    //= type=test
    //# A member MUST take the layout of an arena from a header that it read once, checked against the memory's length, and
    //# never reads again.
    let (mut writer, reader, memory) = arena();
    let place = put(&mut writer, &[5; 64]).expect("room");
    assert_eq!(reader.number(), 9);
    let refused = |memory: &Region, len| ArenaReader::new(memory.clone(), len).err();
    assert!(matches!(refused(&memory, DATA - 1), Some(HeaderError::Length { .. })));
    assert!(matches!(refused(&memory, memory.len() - 4096), Some(HeaderError::Length { .. })));
    for size in [0_u32, 1 << 11, 3 << 16, 1 << 22, u32::MAX] {
        memory.write(4, &size.to_le_bytes());
        assert_eq!(refused(&memory, memory.len()), Some(HeaderError::Arena(size)));
    }
    memory.write(0, b"RVI\x01");
    assert!(matches!(refused(&memory, memory.len()), Some(HeaderError::Magic(_))));
    assert_eq!(
        reader.read(&place, &mut Vec::new()).as_deref(),
        Ok(&[5; 64][..]),
        "the header is not read again"
    );
}

proptest! {
    /// Debug assertions of [`Region`] watch that nothing outside is read.
    #[test]
    fn a_writer_that_writes_anything_is_never_followed_outside(
        words in prop::collection::vec((0_usize..3 + SEGMENTS as usize, any::<u32>()), 0..20),
        places in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..20),
    ) {
        let (mut writer, reader, memory) = arena();
        let good = put(&mut writer, &[5; 64]).expect("room");
        let mut private = Vec::new();
        for (word, value) in words {
            let offset = if word < 3 { 4 * word } else { SEQUENCES + 128 * (word - 3) };
            memory.write(offset, &value.to_le_bytes());
            if let Ok(other) = ArenaReader::new(memory.clone(), memory.len()) {
                let _ = other.read(&good, &mut private);
            }
            for &(segment, offset, len) in &places {
                for segment in [segment, value] {
                    let place = Place { segment, offset: offset & !63, len };
                    let small = Place { segment, offset: (offset % SEGMENT_LEN) & !63, len: len % 70_000 };
                    let _ = reader.read(&place, &mut private);
                    if let Ok(octets) = reader.read(&small, &mut private) {
                        prop_assert_eq!(octets.len(), small.len as usize);
                    }
                }
            }
        }
    }
}

//! The frames of the benchmarks: every octet written for each, the header checked and every octet copied out.

use rvi::SharedOctets;
use switch_node::{Delivery, FrameSink};
use vlan_core::wire::frame::Vnet;
use vlan_core::{MacAddress, VifNumber};

/// Frames that are written ahead of the one that is sent, as by a stack that fills a batch.
const AHEAD: usize = 16;

/// Makes one frame after another, each octet written anew, a batch ahead of their sending.
pub struct Source {
    /// The frames of two batches.
    frames: [Vec<u8>; 2 * AHEAD],
    template: Vec<u8>,
    number: u32,
}

impl Source {
    pub fn new(size: usize, destination: MacAddress, source: MacAddress) -> Self {
        let mut template = vec![0x5a; size];
        template[..6].copy_from_slice(&destination.0);
        template[6..12].copy_from_slice(&source.0);
        template[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
        // A UDP packet over IPv4; the sums are left to an edge that these frames never meet.
        template[14] = 0x45;
        template[16..18].copy_from_slice(&((size - 14) as u16).to_be_bytes());
        template[22] = 64;
        template[23] = 17;
        template[26..34].copy_from_slice(&[10, 1, 0, 1, 10, 1, 0, 2]);
        let mut source = Self { frames: std::array::from_fn(|_| template.clone()), template, number: 0 };
        for number in 1..=AHEAD as u32 {
            source.write(number);
        }
        source
    }

    /// The next frame.
    #[inline]
    pub fn next(&mut self) -> &[u8] {
        self.number = self.number.wrapping_add(1);
        self.write(self.number.wrapping_add(AHEAD as u32));
        self.same()
    }

    /// The last frame again: it was not taken.
    #[inline]
    pub fn same(&self) -> &[u8] {
        &self.frames[self.number as usize % (2 * AHEAD)]
    }

    #[inline]
    fn write(&mut self, number: u32) {
        let frame = &mut self.frames[number as usize % (2 * AHEAD)];
        frame.copy_from_slice(&self.template);
        frame[42..46].copy_from_slice(&number.to_le_bytes());
    }
}

/// Room for the longest frame, and some more.
const OUT_LEN: usize = 70_000;

/// Takes frames: checks the header and the number, copies everything to private memory.
pub struct Sink {
    out: Box<[u8; OUT_LEN]>,
    destination: MacAddress,
    pub received: u64,
    next: u32,
    /// Frames whose number was not the one expected.
    pub wrong: u64,
}

impl Sink {
    pub fn new(destination: MacAddress) -> Self {
        Self { out: Box::new([0; OUT_LEN]), destination, received: 0, next: 0, wrong: 0 }
    }
}

impl FrameSink for Sink {
    #[inline]
    fn deliver(&mut self, _vif: VifNumber, _vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        self.out[..head.len()].copy_from_slice(head);
        rest.copy_to(&mut self.out[head.len()..head.len() + rest.len()]);
        let number = u32::from_le_bytes([self.out[42], self.out[43], self.out[44], self.out[45]]);
        let good = self.out[..6] == self.destination.0 && (self.next == 0 || number == self.next);
        self.wrong += u64::from(!good);
        self.next = number.wrapping_add(1);
        self.received += 1;
        Delivery::Taken
    }
}

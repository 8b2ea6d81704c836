//! The program that a device runs for each frame that arrives: which frames it gives to sockets, and what becomes of others.

use core::mem::offset_of;
use std::os::fd::RawFd;
use std::vec::Vec;

use vlan_core::{EtherAddress, MacAddress};

use super::Frames;
use crate::packet::ether_frame::{ETHER_TYPE, TO_PORT_AT};

/// What the program is told of a frame: the beginning of `struct xdp_md` of `linux/bpf.h`.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_device: u32,
    queue: u32,
}

/// `XDP_DROP` and `XDP_PASS`: what becomes of a frame without a socket.
const DROP: u32 = 1;
const PASS: u32 = 2;
/// `bpf_redirect_map`.
const REDIRECT_MAP: u32 = 51;

/// The registers: what a call gives, its arguments, and then those that nothing else is in.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const SECOND: u8 = 2;
const THIRD: u8 = 3;
const WORD: u8 = 4;

/// One instruction: an opcode, its registers, an offset and a number.
#[derive(Clone, Copy, Default)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    number: u32,
}

impl Instruction {
    fn emit(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.to | self.from << 4) << 8
            | u64::from(self.offset.cast_unsigned()) << 16
            | u64::from(self.number) << 32
    }
}

/// A program being written. A jump whose goal is not written yet has the offset 0 until then.
#[derive(Default)]
struct Writer(Vec<Instruction>);

/// Jumps that all go to one place.
type Jumps = Vec<usize>;

impl Writer {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: usize, number: u32) -> usize {
        self.0.push(Instruction { code, to, from, offset: offset as i16, number });
        self.0.len() - 1
    }

    /// `to = *(from + offset)`, of 32 bits.
    fn load_word(&mut self, to: u8, from: u8, offset: usize) {
        self.put(0x61, to, from, offset, 0);
    }

    /// The same, of 16 bits.
    fn load_half(&mut self, to: u8, from: u8, offset: usize) {
        self.put(0x69, to, from, offset, 0);
    }

    fn set(&mut self, to: u8, number: u32) {
        self.put(0xb7, to, 0, 0, number);
    }

    /// Jumps when the 32 bits of a register are another number.
    fn jump_unless(&mut self, register: u8, number: u32) -> usize {
        self.put(0x56, register, 0, 0, number)
    }

    /// Has jumps lead to what is written next.
    fn land(&mut self, jumps: &[usize]) {
        let next = self.0.len();
        for &jump in jumps {
            self.0[jump].offset = (next - jump - 1) as i16;
        }
    }

    /// `return bpf_redirect_map(&sockets, context->queue, otherwise)`.
    fn redirect(&mut self, sockets: RawFd, otherwise: u32) {
        self.load_word(SECOND, CONTEXT, offset_of!(Context, queue));
        // The map of this descriptor, in two slots.
        self.put(0x18, CONTEXT, 1, 0, sockets.cast_unsigned());
        self.put(0, 0, 0, 0, 0);
        self.set(THIRD, otherwise);
        self.put(0x85, RESULT, 0, 0, REDIRECT_MAP);
        self.put(0x95, RESULT, 0, 0, 0);
    }

    /// Jumps when the frame, which begins at the register `SECOND`, is not of our type or for another port.
    fn compare_type_and_port(&mut self, own: EtherAddress) -> Jumps {
        self.load_word(SECOND, CONTEXT, offset_of!(Context, data));
        self.load_word(THIRD, CONTEXT, offset_of!(Context, data_end));
        // Whether it has so many octets: without that the kernel takes no program that reads them.
        self.put(0xbf, WORD, SECOND, 0, 0);
        self.put(0x07, WORD, 0, 0, (TO_PORT_AT + 4) as u32);
        let is_short = self.put(0x2d, WORD, THIRD, 0, 0);
        self.load_half(WORD, SECOND, 12);
        let is_foreign = self.jump_unless(WORD, half(ETHER_TYPE.to_be_bytes()));
        self.load_word(WORD, SECOND, TO_PORT_AT);
        let is_elsewhere = self.jump_unless(WORD, u32::from_ne_bytes(own.port.0.to_be_bytes()));
        std::vec![is_short, is_foreign, is_elsewhere]
    }

    /// Jumps when the frame is for another station or group.
    fn compare_station(&mut self, station: MacAddress) -> Jumps {
        let [a, b, rest @ ..] = station.0;
        self.load_half(WORD, SECOND, 0);
        let first = self.jump_unless(WORD, half([a, b]));
        self.load_word(WORD, SECOND, 2);
        std::vec![first, self.jump_unless(WORD, u32::from_ne_bytes(rest))]
    }

    /// The program of a leg.
    //= spec/leg-ether.md#frames-by-af_xdp
    //# The program of an ether leg MUST give its sockets the frames of our type for its port that are for its device's MAC
    //# address, or of a control node for the group of control nodes, and leave all others to this host's stack.
    fn of_leg(&mut self, own: EtherAddress, sockets: RawFd) {
        let others = self.compare_type_and_port(own);
        let mut stations = std::vec![own.mac];
        if own.port.is_of_control_node() {
            stations.push(EtherAddress::CONTROL_NODES);
        }
        for station in stations {
            let elsewhere = self.compare_station(station);
            self.redirect(sockets, PASS);
            self.land(&elsewhere);
        }
        self.land(&others);
        self.set(RESULT, PASS);
        self.put(0x95, RESULT, 0, 0, 0);
    }
}

/// 16 bits as they are read out of a frame.
fn half(octets: [u8; 2]) -> u32 {
    u16::from_ne_bytes(octets).into()
}

/// The program that gives these frames to the sockets of a map.
//= spec/xdp.md#whose-frames
//# Where sockets take all frames of a device, every queue MUST have one, and a frame that finds none MUST be dropped rather than
//# left to this host's own stack.
pub(super) fn instructions(frames: Frames, sockets: RawFd) -> Vec<u64> {
    let mut program = Writer::default();
    match frames {
        Frames::All => program.redirect(sockets, DROP),
        Frames::OfLeg(own) => program.of_leg(own, sockets),
    }
    program.0.into_iter().map(Instruction::emit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_drops_what_finds_no_socket() {
        //= spec/xdp.md#whose-frames
        //= type=test
        //# Where sockets take all frames of a device, every queue MUST have one, and a frame that finds none MUST be dropped rather than
        //# left to this host's own stack.
        // ldxw r2, [r1 + 16]; ld_map_fd r1, 7; mov r3, 1 (XDP_DROP); call 51; exit, as `bpftool prog dump xlated` has them.
        let octets: Vec<u8> = instructions(Frames::All, 7).into_iter().flat_map(u64::to_le_bytes).collect();
        let expected = [
            [0x61, 0x12, 16, 0, 0, 0, 0, 0],
            [0x18, 0x11, 0, 0, 7, 0, 0, 0],
            [0; 8],
            [0xb7, 0x03, 0, 0, 1, 0, 0, 0],
            [0x85, 0, 0, 0, 51, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(octets, expected.concat());
    }
}

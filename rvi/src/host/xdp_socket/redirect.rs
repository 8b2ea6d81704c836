//! The program that gives the frames of a device to sockets, by bpf(2): a map from queues to sockets, and a link that attaches it.

#![allow(unsafe_code, reason = "bpf, which rustix does not know")]

use core::ffi::{CStr, c_long};
use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::Attached;

// Numbers of `linux/bpf.h` and `linux/if_link.h`.
const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const PROGRAM_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const MAP_OF_SOCKETS: u32 = 17;
const PROGRAM_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const HAS_FRAGS: u32 = 1 << 5;
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// Of the program; the helper that it calls asks for none.
const LICENCE: &CStr = c"Dual MIT/GPL";
/// Where `struct xdp_md` has the number of the queue.
const QUEUE_OFFSET: u64 = 16;
/// `XDP_DROP`, for a queue without a socket.
const DROP: u64 = 1;
/// `bpf_redirect_map`.
const REDIRECT_MAP: u64 = 51;

/// A program on a device, until this is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Redirect {
    /// Dropped first: then no frame looks for a socket any more.
    _link: OwnedFd,
    sockets: OwnedFd,
    pub attached: Attached,
}

/// The program and its map, not attached yet.
#[derive(Debug)]
pub(super) struct Program {
    program: OwnedFd,
    sockets: OwnedFd,
    /// It takes frames in several chunks.
    pub has_frags: bool,
}

impl Program {
    /// Makes a map for `queues` sockets and loads the program.
    pub fn load(queues: u32) -> Result<Self, Errno> {
        let sockets = make(
            MAP_CREATE,
            &MapCreate { kind: MAP_OF_SOCKETS, key_len: 4, value_len: 4, entries: queues, flags: 0 },
        )?;
        let instructions = instructions(sockets.as_raw_fd());
        let load = |flags| {
            let request = ProgramLoad {
                kind: PROGRAM_XDP,
                count: instructions.len() as u32,
                instructions: instructions.as_ptr().expose_provenance() as u64,
                licence: LICENCE.as_ptr().expose_provenance() as u64,
                log: [0; 4],
                version: 0,
                flags,
                name: *b"weft_redirect\0\0\0",
                device: 0,
                attach: ATTACH_XDP,
            };
            make(PROGRAM_LOAD, &request)
        };
        // Kernels before 5.18 know nothing of frames in several chunks.
        match load(HAS_FRAGS) {
            Ok(program) => Ok(Self { program, sockets, has_frags: true }),
            Err(Errno::INVAL) => Ok(Self { program: load(0)?, sockets, has_frags: false }),
            Err(errno) => Err(errno),
        }
    }

    /// Attaches it to a device, in its driver or else, where that cannot have it, behind it.
    //= spec/xdp.md#the-end-of-the-process
    //# The program MUST leave the device when the process that attached it ends, however it ends.
    pub fn attach(self, device: u32) -> Result<Redirect, Errno> {
        let link = |flags| {
            let program = self.program.as_raw_fd() as u32;
            make(LINK_CREATE, &LinkCreate { program, device, attach: ATTACH_XDP, flags })
        };
        let (link, attached) = match link(NATIVE) {
            Ok(link) => (link, Attached::Native),
            // Somebody else has it, or this process may not.
            Err(errno @ (Errno::BUSY | Errno::EXIST | Errno::PERM)) => return Err(errno),
            Err(_) => (link(GENERIC)?, Attached::Generic),
        };
        Ok(Redirect { _link: link, sockets: self.sockets, attached })
    }
}

impl Redirect {
    /// Has the frames of a queue go to a socket.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let (key, value) = (queue, socket.as_raw_fd() as u32);
        let request = MapUpdate {
            map: self.sockets.as_raw_fd() as u32,
            _padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            value: (&raw const value).expose_provenance() as u64,
            flags: 0,
        };
        call(MAP_UPDATE, &request).map(|_| ())
    }
}

/// `return bpf_redirect_map(&sockets, context->rx_queue_index, XDP_DROP)`: each an opcode, registers, an offset and a number.
//= spec/xdp.md#whose-frames
//# Every queue of the device MUST have a socket, and a frame that finds none MUST be dropped rather than left to this host's
//# own stack.
fn instructions(sockets: RawFd) -> [u64; 6] {
    let number = |value: u64| value << 32;
    [
        // r2 = *(u32 *)(r1 + 16)
        0x61 | 0x12 << 8 | QUEUE_OFFSET << 16,
        // r1 = the map of this descriptor, in two slots
        0x18 | 0x11 << 8 | number(sockets as u64),
        0,
        // r3 = XDP_DROP
        0xb7 | 0x03 << 8 | number(DROP),
        // r0 = bpf_redirect_map(r1, r2, r3)
        0x85 | number(REDIRECT_MAP),
        // return r0
        0x95,
    ]
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_len: u32,
    value_len: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    /// Level, length and address of a log: none.
    log: [u32; 4],
    version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    device: u32,
    attach: u32,
    flags: u32,
}

/// Structures that are the beginning of `union bpf_attr`.
trait Request {}
impl Request for MapCreate {}
impl Request for MapUpdate {}
impl Request for ProgramLoad {}
impl Request for LinkCreate {}

/// Has the kernel make something that has a descriptor.
fn make(command: c_long, request: &impl Request) -> Result<OwnedFd, Errno> {
    let descriptor = call(command, request)?;
    let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::BADF)?;
    // SAFETY: the commands that make something answer with a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<R: Request>(command: c_long, request: &R) -> Result<c_long, Errno> {
    let start: *const R = request;
    // SAFETY: the kernel reads the request, which outlives the call, for its length, and what it points at, which the callers
    // keep as long. It writes nothing there: no command that is used here has a result in its request.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, start, size_of::<R>()) };
    if done >= 0 {
        return Ok(done);
    }
    let raw = std::io::Error::last_os_error().raw_os_error();
    Err(raw.map_or(Errno::IO, Errno::from_raw_os_error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_drops_what_finds_no_socket() {
        //= spec/xdp.md#whose-frames
        //= type=test
        //# Every queue of the device MUST have a socket, and a frame that finds none MUST be dropped rather than left to this
        //# host's own stack.
        // ldxw r2, [r1 + 16]; ld_map_fd r1, 7; mov r3, 1 (XDP_DROP); call 51; exit, as `bpftool prog dump xlated` has them.
        let octets: std::vec::Vec<u8> = instructions(7).into_iter().flat_map(u64::to_le_bytes).collect();
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

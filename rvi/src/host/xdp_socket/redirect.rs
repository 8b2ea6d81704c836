//! The program that gives the frames of a device to sockets, by bpf(2): a map from queues to sockets, and a link that attaches it.

#![allow(unsafe_code, reason = "bpf, which rustix does not know")]

use core::ffi::{CStr, c_long};
use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{Attached, Frames, program};

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
    /// Makes a map for `queues` sockets and loads the program that gives them these frames.
    pub fn load(queues: u32, frames: Frames) -> Result<Self, Errno> {
        let sockets = make(
            MAP_CREATE,
            &MapCreate { kind: MAP_OF_SOCKETS, key_len: 4, value_len: 4, entries: queues, flags: 0 },
        )?;
        let instructions = program::instructions(frames, sockets.as_raw_fd());
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

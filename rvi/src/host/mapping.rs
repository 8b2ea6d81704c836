//! Mappings of memory as regions, which are unmapped when their last clone goes.

#![allow(unsafe_code, reason = "mmap and munmap")]

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::Region;

/// Maps `len` octets of a descriptor from `offset`, which is that of a page.
pub(super) fn map(
    descriptor: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    protection: ProtFlags,
) -> Result<Region, Errno> {
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a null hint lets the kernel choose free addresses, so no memory of ours is replaced.
    let start = unsafe { rustix::mm::mmap(null_mut(), len, protection, flags, descriptor, offset) }?;
    region(start, len)
}

/// Maps `len` zero octets of this process alone.
pub(super) fn map_private(len: usize) -> Result<Region, Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a null hint lets the kernel choose free addresses, so no memory of ours is replaced.
    let start = unsafe { rustix::mm::mmap_anonymous(null_mut(), len, protection, flags) }?;
    region(start, len)
}

fn region(start: *mut c_void, len: usize) -> Result<Region, Errno> {
    let start = NonNull::new(start).ok_or(Errno::NOMEM)?.cast::<u8>();
    // SAFETY: a mapping starts on a page and stays until `unmap`. Those that are made for writing are writable; that of a
    // peer only becomes the reading half of a leg. Nobody else in this process knows the address.
    Ok(unsafe { Region::from_raw(start, len, unmap) })
}

fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the range was mapped here, and the last region that used it is gone.
    let unmapped = unsafe { rustix::mm::munmap(start.cast().as_ptr(), len) };
    debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
}

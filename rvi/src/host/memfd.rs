//! The memory of a leg: one sealed memfd per direction, written by the process that made it and only read by
//! its peer.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::ProtFlags;

use super::descriptor;
use super::mapping::map;
use crate::{Region, ShmConfig, ShmLeg};

/// What `fstatfs` says of a file on tmpfs, memfds included (Linux, `include/uapi/linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// The unit of `st_blocks`, whatever the file system's block size (stat(2)).
const STAT_BLOCK_LEN: u64 = 512;

/// The seals under which a peer's memory may be mapped: its size is fixed, nobody can get a new writable
/// mapping or punch holes, and none of this can be changed.
fn seals_required() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL
}

/// This process could not make the memory of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// `memfd_create` failed.
    Create(Errno),
    /// The memory could not be allocated in full.
    Allocate {
        /// Octets asked for.
        len: usize,
        /// What the kernel said.
        errno: Errno,
    },
    /// The memory could not be mapped.
    Map(Errno),
    /// The seals could not be set.
    Seal(Errno),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(errno) => write!(f, "memfd_create: {errno}"),
            Self::Allocate { len, errno } => write!(f, "allocating {len} octets of shared memory: {errno}"),
            Self::Map(errno) => write!(f, "mapping shared memory: {errno}"),
            Self::Seal(errno) => write!(f, "sealing shared memory: {errno}"),
        }
    }
}

impl core::error::Error for CreateError {}

/// The memory that a peer offered is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The descriptor is not of a memfd.
    NotMemfd(Errno),
    /// Some of the required seals are missing; the value holds the seals that are set.
    Unsealed(u32),
    /// The memory is not on tmpfs but, for example, on hugetlbfs; the value is the file system's magic number.
    FileSystem(u64),
    /// The memory has another size than agreed.
    Length {
        /// Octets the file has.
        len: u64,
        /// Octets it must have.
        expected: u64,
    },
    /// Not all of the memory is allocated: touching it could end this process.
    Sparse {
        /// Octets allocated.
        allocated: u64,
        /// Octets the file has.
        len: u64,
    },
    /// The kernel did not tell about the file.
    Stat(Errno),
    /// The memory could not be mapped.
    Map(Errno),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMemfd(errno) => write!(f, "the peer's descriptor is not a memfd: {errno}"),
            Self::Unsealed(seals) => write!(f, "the peer's memory is not sealed: it has seals {seals:#x}"),
            Self::FileSystem(magic) => write!(f, "the peer's memory is not on tmpfs but on {magic:#x}"),
            Self::Length { len, expected } => write!(f, "the peer's memory has {len} octets, not {expected}"),
            Self::Sparse { allocated, len } => {
                write!(f, "only {allocated} of {len} octets of the peer's memory are allocated")
            }
            Self::Stat(errno) => write!(f, "looking at the peer's memory: {errno}"),
            Self::Map(errno) => write!(f, "mapping the peer's memory: {errno}"),
        }
    }
}

impl core::error::Error for AcceptError {}

/// Memory that this process writes and its peer reads.
pub struct OwnMemory {
    descriptor: OwnedFd,
    region: Region,
}

impl OwnMemory {
    /// Makes, allocates, formats and seals the memory of one leg.
    ///
    /// # Errors
    ///
    /// Memory or descriptors ran out, or the kernel is older than 5.1.
    //= spec/leg-setup.md#own-memory
    //# A process MUST allocate all blocks of its memory, write its header, and add the seals SHRINK, GROW,
    //# FUTURE_WRITE and SEAL before it gives the descriptor to a peer.
    pub fn new(config: &ShmConfig) -> Result<Self, CreateError> {
        Self::made(config.region_len(), |region| ShmLeg::format(region, config))
    }

    /// Makes `len` zero octets, allocated and sealed, for its first writer to format.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn of_len(len: usize) -> Result<Self, CreateError> {
        Self::made(len, |_| {})
    }

    fn made(len: usize, format: impl FnOnce(&Region)) -> Result<Self, CreateError> {
        let descriptor = create_memfd().map_err(CreateError::Create)?;
        let octets = len as u64;
        rustix::fs::ftruncate(&descriptor, octets).map_err(|errno| CreateError::Allocate { len, errno })?;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, octets)
            .map_err(|errno| CreateError::Allocate { len, errno })?;
        let region =
            map(descriptor.as_fd(), 0, len, ProtFlags::READ | ProtFlags::WRITE).map_err(CreateError::Map)?;
        format(&region);
        // FUTURE_WRITE leaves the mapping made above as the only writable one for ever.
        rustix::fs::fcntl_add_seals(&descriptor, seals_required()).map_err(CreateError::Seal)?;
        Ok(Self { descriptor, region })
    }

    /// The descriptor to send to the peer.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The mapping.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Closes the descriptor and keeps the mapping.
    #[must_use]
    pub fn into_region(self) -> Region {
        self.region
    }
}

fn create_memfd() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("weft-leg", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know NOEXEC_SEAL.
        Err(Errno::INVAL) => rustix::fs::memfd_create("weft-leg", flags),
        created => created,
    }
}

/// Checks memory that a peer made, maps it for reading and closes the descriptor.
///
/// # Errors
///
/// The descriptor is not a sealed memfd of exactly `len` allocated octets; it is closed in every case.
//= spec/leg-setup.md#memory-of-a-peer
//# Memory of a peer MUST be accepted only from a memfd on tmpfs that has the seals SHRINK, GROW, FUTURE_WRITE
//# and SEAL, the exact length agreed, and all of its blocks allocated.
//= spec/leg-setup.md#memory-of-a-peer
//# It MUST be mapped for reading only, and the descriptor closed after mapping.
pub fn accept_peer_memory(descriptor: OwnedFd, len: usize) -> Result<Region, AcceptError> {
    // First of all: only memfds answer this, and it asks nothing of a file system that the peer may run.
    let seals = match rustix::fs::fcntl_get_seals(&descriptor) {
        Ok(seals) => seals,
        Err(errno) => {
            descriptor::discard(descriptor);
            return Err(AcceptError::NotMemfd(errno));
        }
    };
    if !seals.contains(seals_required()) {
        return Err(AcceptError::Unsealed(seals.bits()));
    }
    let magic = rustix::fs::fstatfs(&descriptor).map_err(AcceptError::Stat)?.f_type as u64;
    if magic != TMPFS_MAGIC {
        return Err(AcceptError::FileSystem(magic));
    }
    check_extent(descriptor.as_fd(), len as u64)?;
    map(descriptor.as_fd(), 0, len, ProtFlags::READ).map_err(AcceptError::Map)
}

fn check_extent(descriptor: BorrowedFd<'_>, expected: u64) -> Result<(), AcceptError> {
    let stat = rustix::fs::fstat(descriptor).map_err(AcceptError::Stat)?;
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    if len != expected {
        return Err(AcceptError::Length { len, expected });
    }
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK_LEN);
    if allocated < len {
        return Err(AcceptError::Sparse { allocated, len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::io::Read;

    fn config() -> ShmConfig {
        ShmConfig::default()
    }

    fn accept(descriptor: &OwnedFd) -> Result<Region, AcceptError> {
        accept_peer_memory(descriptor.try_clone().unwrap(), config().region_len())
    }

    /// A memfd of the right length, with blocks and seals as told.
    fn memfd(flags: MemfdFlags, len: usize, allocate: bool, seals: SealFlags) -> OwnedFd {
        let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::ftruncate(&descriptor, len as u64).unwrap();
        if allocate {
            rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, len as u64).unwrap();
        }
        rustix::fs::fcntl_add_seals(&descriptor, seals).unwrap();
        descriptor
    }

    #[test]
    fn own_memory_is_allocated_and_sealed_and_its_writes_reach_the_peer() {
        //= spec/leg-setup.md#own-memory
        //= type=test
        //# A process MUST allocate all blocks of its memory, write its header, and add the seals SHRINK, GROW,
        //# FUTURE_WRITE and SEAL before it gives the descriptor to a peer.
        let own = OwnMemory::new(&config()).unwrap();
        let seals = rustix::fs::fcntl_get_seals(own.descriptor()).unwrap();
        assert!(seals.contains(seals_required()), "{seals:?}");
        check_extent(own.descriptor(), config().region_len() as u64).unwrap();
        let seen_by_peer = accept(&own.descriptor).unwrap();
        assert_eq!(seen_by_peer.len(), config().region_len());
        let other = OwnMemory::new(&config()).unwrap();
        ShmLeg::new(other.into_region(), seen_by_peer).expect("the header is there");
    }

    #[test]
    fn a_peer_can_neither_resize_nor_write_nor_punch_what_it_was_given() {
        let own = OwnMemory::new(&config()).unwrap();
        let fd = own.descriptor();
        assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(fd, punch, 0, 4096), Err(Errno::PERM));
        assert_eq!(rustix::io::write(fd, b"x"), Err(Errno::PERM));
        let writable = map(fd, 0, config().region_len(), ProtFlags::READ | ProtFlags::WRITE);
        assert_eq!(writable.err(), Some(Errno::PERM));
    }

    #[test]
    fn memory_without_one_of_the_seals_is_refused() {
        //= spec/leg-setup.md#memory-of-a-peer
        //= type=test
        //# Memory of a peer MUST be accepted only from a memfd on tmpfs that has the seals SHRINK, GROW, FUTURE_WRITE
        //# and SEAL, the exact length agreed, and all of its blocks allocated.
        let len = config().region_len();
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
            let descriptor = memfd(MemfdFlags::empty(), len, true, seals_required() - missing);
            assert!(matches!(accept(&descriptor), Err(AcceptError::Unsealed(_))), "{missing:?}");
        }
        let sealed = memfd(MemfdFlags::empty(), len, true, seals_required());
        accept(&sealed).expect("with all of them it is accepted");
    }

    #[test]
    fn memory_of_another_length_or_with_holes_is_refused() {
        let len = config().region_len();
        for wrong in [len - 4096, len + 4096] {
            let descriptor = memfd(MemfdFlags::empty(), wrong, true, seals_required());
            let expected = AcceptError::Length { len: wrong as u64, expected: len as u64 };
            assert_eq!(accept(&descriptor).err(), Some(expected));
        }
        let sparse = memfd(MemfdFlags::empty(), len, false, seals_required());
        assert!(matches!(accept(&sparse), Err(AcceptError::Sparse { allocated: 0, .. })));
    }

    #[test]
    fn hugetlb_memory_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        let Ok(descriptor) = rustix::fs::memfd_create("huge", flags) else {
            return; // this kernel has no huge pages; the check below it is the same for every file system
        };
        rustix::fs::ftruncate(&descriptor, 2 << 20).unwrap();
        rustix::fs::fcntl_add_seals(&descriptor, seals_required()).unwrap();
        assert!(matches!(accept(&descriptor), Err(AcceptError::FileSystem(magic)) if magic != TMPFS_MAGIC));
    }

    #[test]
    fn a_file_a_pipe_and_a_socket_are_refused_and_closed() {
        let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        assert!(matches!(accept(&file), Err(AcceptError::NotMemfd(_))));
        let (mut reader, writer) = std::io::pipe().unwrap();
        let refused = accept_peer_memory(writer.into(), config().region_len());
        assert!(matches!(refused, Err(AcceptError::NotMemfd(_))));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the refused descriptor was closed");
    }

    #[test]
    fn memory_of_a_peer_is_mapped_for_reading_only() {
        //= spec/leg-setup.md#memory-of-a-peer
        //= type=test
        //# It MUST be mapped for reading only, and the descriptor closed after mapping.
        let own = OwnMemory::new(&config()).unwrap();
        let region = accept(&own.descriptor).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let start = format!("{:x}-", region.as_ptr() as usize);
        let line = maps.lines().find(|line| line.starts_with(&start)).expect("the mapping is listed");
        assert!(line.contains(" r--s "), "{line}");
    }
}

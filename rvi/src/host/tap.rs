//! TAP devices: an interface of this host's stack, whose frames a program reads and writes, each with its vnet header.
//!
//! Step 1 of the walk, and the last: a frame of the stack is read here and goes to the node's interface; a frame out of the fabric is
//! written here, private head first, then the shared rest. An uplink may have such a device too.

#![allow(unsafe_code, reason = "ioctl and writev with what rustix does not know")]

use core::fmt;
use std::borrow::ToOwned;
use std::boxed::Box;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::string::String;

use rustix::io::Errno;
use vlan_core::limits::FRAME_LEN_MAX;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::frame::{VNET_LEN, Vnet};

use crate::SharedOctets;

/// The kernel's vnet header: the ten octets of [`Vnet`] and `num_buffers` (virtio 1.2, 5.1.6; 12 is what a
/// virtio 1 device uses, so the same buffers fit one).
const HEADER_LEN: usize = VNET_LEN + 2;
/// Room that [`Tap::read`] needs: the largest super-frame and its vnet header.
const TAP_BUFFER_LEN: usize = HEADER_LEN + FRAME_LEN_MAX;
/// Longest name of an interface: IFNAMSIZ without its final zero.
const NAME_LEN_MAX: usize = libc::IFNAMSIZ - 1;

/// Segmentation that the stack may leave to us, best first: kernels before 6.2 have no USO, and USO4 and USO6
/// go together.
const OFFLOADS: [libc::c_uint; 4] = {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let ecn = tcp | libc::TUN_F_TSO_ECN;
    [ecn | libc::TUN_F_USO4 | libc::TUN_F_USO6, ecn, tcp, libc::TUN_F_CSUM]
};

/// A TAP device could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum TapError {
    /// The name is empty or longer than the kernel's names.
    Name(String),
    /// `/dev/net/tun` could not be opened.
    Open(io::Error),
    /// The kernel refused the device.
    Create {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused vnet headers: frames would lose their offload state.
    VnetHeader(io::Error),
}

impl TapError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) => "give it a name of 1 to 15 octets in the platform file",
            Self::Open(source) if source.kind() == io::ErrorKind::NotFound => {
                "load the driver with `modprobe tun`, or give the container the device `/dev/net/tun`"
            }
            Self::Open(_) => "let users open it with `chmod 0666 /dev/net/tun`, or run this as root",
            Self::Create { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run this as root or with CAP_NET_ADMIN in its network namespace"
            }
            Self::Create { .. } => "look whether the namespace has a device of that name already",
            Self::VnetHeader(_) => "a Linux kernel from 4.8 on is needed",
        }
    }
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is no name for an interface: 1 to {NAME_LEN_MAX} octets"),
            Self::Open(source) => write!(f, "cannot open /dev/net/tun: {source}"),
            Self::Create { name, source } => write!(f, "cannot make the TAP device {name}: {source}"),
            Self::VnetHeader(source) => write!(f, "the TAP device takes no vnet headers: {source}"),
        }
    }
}

impl std::error::Error for TapError {}

/// What became of a frame written to a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The kernel took it.
    Taken,
    /// The kernel has no room for it now.
    Full,
    /// The kernel refused it: a broken frame, or the interface is down.
    Refused(Errno),
}

/// A TAP device: the near end of a virtual interface, whose far end the kernel's stack uses.
///
/// The device goes when this is dropped.
#[derive(Debug)]
pub struct Tap {
    descriptor: OwnedFd,
    offloads: libc::c_uint,
}

impl Tap {
    /// Makes the device `name` in this thread's network namespace, down and without addresses; or takes it as it is, when it is there,
    /// was made to stay, and nobody has it.
    ///
    /// # Errors
    /// When the kernel refuses the device or its vnet header.
    pub fn create(name: &str) -> Result<Self, TapError> {
        check_name(name)?;
        let file = File::options().read(true).write(true).open("/dev/net/tun").map_err(TapError::Open)?;
        let descriptor = OwnedFd::from(file);
        let made =
            attach(descriptor.as_fd(), name).and_then(|()| Ok(rustix::io::ioctl_fionbio(&descriptor, true)?));
        made.map_err(|source| TapError::Create { name: name.to_owned(), source })?;
        set(descriptor.as_fd(), libc::TUNSETVNETHDRSZ, HEADER_LEN as libc::c_int)
            .map_err(TapError::VnetHeader)?;
        // Little-endian, as on the wire, whatever this machine is. Kernels that lack the call are so already.
        let _ = set(descriptor.as_fd(), libc::TUNSETVNETLE, 1);
        let offloads = OFFLOADS.iter().copied().find(|&flags| offload(descriptor.as_fd(), flags).is_ok());
        Ok(Self { descriptor, offloads: offloads.unwrap_or(0) })
    }

    /// Has the device stay when this is dropped: whoever creates it next gets it as it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keep(&self) -> io::Result<()> {
        set(self.descriptor.as_fd(), libc::TUNSETPERSIST, 1)
    }

    /// True when the stack may hand over TCP super-frames instead of cutting them up itself.
    #[must_use]
    pub fn has_tcp_segmentation(&self) -> bool {
        self.offloads & libc::TUN_F_TSO4 != 0
    }

    /// True when the stack may hand over UDP super-frames.
    #[must_use]
    pub fn has_udp_segmentation(&self) -> bool {
        self.offloads & libc::TUN_F_USO4 != 0
    }

    /// Reads the next frame of the stack into `buffer`, and gives its state and length: `None` when there is none now.
    ///
    /// # Errors
    /// What the system says; `EIO` when the interface is down, `EBADFD` when it is gone.
    #[inline]
    pub fn read(&self, buffer: &mut TapBuffer) -> io::Result<Option<(Vnet, usize)>> {
        match rustix::io::read(&self.descriptor, &mut buffer.0[..]) {
            Ok(len) if len > HEADER_LEN => Ok(Some((buffer.state(), len - HEADER_LEN))),
            // Shorter than its own header: nothing the kernel makes.
            Ok(_) => Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the next frame of the stack, and its state, into octets that have room for [`FRAME_LEN_MAX`]; `None` when there is none
    /// now.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn receive(&self, octets: &mut [u8]) -> Result<Option<(Vnet, usize)>, Errno> {
        let mut header = [0; HEADER_LEN];
        let received = {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(octets)];
            rustix::io::readv(&self.descriptor, &mut parts)
        };
        match received {
            Ok(len) if len > HEADER_LEN => {
                let header = header.first_chunk().expect("the header of a TAP is longer than ours");
                Ok(Some((Vnet::parse(header), len - HEADER_LEN)))
            }
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Writes a frame to the stack: `head`, which was checked, then `rest`, which its sender may still change
    /// and which therefore only the kernel reads.
    #[inline]
    pub fn write(&self, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Written {
        // The kernel takes frames far above 64 KiB; no stack of ours is to see one.
        if head.len() + rest.len() > FRAME_LEN_MAX {
            return Written::Refused(Errno::MSGSIZE);
        }
        let mut header = [0; HEADER_LEN];
        header[..VNET_LEN].copy_from_slice(&vnet.emit());
        let parts = [
            libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: HEADER_LEN },
            libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() },
            libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() },
        ];
        let count = if rest.is_empty() { 2 } else { 3 };
        // SAFETY: each part is readable for its length while the call runs: two are borrowed slices, the third is
        // what `SharedOctets` promises; `writev` only reads them.
        let written = unsafe { libc::writev(self.descriptor.as_raw_fd(), parts.as_ptr(), count) };
        if written >= 0 {
            return Written::Taken;
        }
        match Errno::from_io_error(&io::Error::last_os_error()) {
            Some(error) if is_full(error) => Written::Full,
            error => Written::Refused(error.unwrap_or(Errno::IO)),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Room for one frame and its vnet header, used again for every frame.
pub struct TapBuffer(Box<[u8]>);

impl Default for TapBuffer {
    fn default() -> Self {
        Self(std::vec![0; TAP_BUFFER_LEN].into_boxed_slice())
    }
}

impl fmt::Debug for TapBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TapBuffer")
    }
}

impl TapBuffer {
    fn state(&self) -> Vnet {
        Vnet::parse(self.0.first_chunk().expect("a TAP buffer is longer than a vnet header"))
    }
}

impl FrameRoom for TapBuffer {
    #[inline]
    fn octets(&self, len: usize) -> &[u8] {
        &self.0[HEADER_LEN..HEADER_LEN + len]
    }

    #[inline]
    fn octets_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[HEADER_LEN..HEADER_LEN + len]
    }

    #[inline]
    fn put(&mut self, at: usize, octets: &[u8]) {
        let at = HEADER_LEN + at;
        self.0[at..at + octets.len()].copy_from_slice(octets);
    }
}

fn is_full(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM)
}

fn check_name(name: &str) -> Result<(), TapError> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(['/', '\0', '%']) {
        return Err(TapError::Name(name.to_owned()));
    }
    Ok(())
}

fn attach(descriptor: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: the request is plain data, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    checked(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

fn set(descriptor: BorrowedFd<'_>, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the TUNSET... requests used here read one int.
    checked(unsafe { libc::ioctl(descriptor.as_raw_fd(), request, &raw const value) })
}

fn offload(descriptor: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    checked(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_cannot_have_is_refused() {
        for bad in ["", "sixteen-octets-x", "a/b", "tap%d"] {
            assert!(matches!(check_name(bad), Err(TapError::Name(_))), "{bad}");
        }
        assert!(check_name("fifteen-octets-").is_ok());
    }
}

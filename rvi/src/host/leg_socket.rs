//! The socket of a leg: sequenced datagrams between two processes, with descriptors beside them.
//!
//! A peer holds the other end and may do anything with it, so every call here carries its own "do not wait" flag
//! (the flag on the descriptor is shared with whoever passed it), has exact room for octets and descriptors, and
//! treats what does not fit as the end of the leg.

use core::fmt;
use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};

use super::descriptor;

/// The octet that a doorbell is made of.
const DOORBELL: u8 = 0;

/// What a peer did that ends a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LegViolation {
    /// A datagram had more octets than any expected one; the value is the room there was.
    TooLong(usize),
    /// A datagram carried more descriptors than expected there.
    Descriptors,
    /// A datagram lacked the descriptor that belongs to it.
    NoDescriptor,
    /// A datagram of a kind that is not expected here; the values are its length and its kind.
    Unexpected {
        /// Octets of the datagram.
        len: usize,
        /// Its kind, 0 when it was too short to have one.
        kind: u8,
    },
    /// A descriptor that should be a leg's socket is something else.
    NotLegSocket,
}

impl fmt::Display for LegViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(room) => write!(f, "the peer sent a datagram of more than {room} octets"),
            Self::Descriptors => f.write_str("the peer sent more descriptors than expected"),
            Self::NoDescriptor => f.write_str("the peer sent no descriptor where one is expected"),
            Self::Unexpected { len, kind } => {
                write!(f, "the peer sent an unexpected datagram of {len} octets and kind {kind}")
            }
            Self::NotLegSocket => f.write_str("the descriptor received is not a leg's socket"),
        }
    }
}

impl core::error::Error for LegViolation {}

/// A datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The peer does not read; nothing was sent.
    Busy,
    /// The peer has hung up.
    Closed,
    /// The kernel refused for another reason.
    Os(Errno),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the peer does not read its socket"),
            Self::Closed => f.write_str("the peer has hung up"),
            Self::Os(errno) => write!(f, "sending on a leg's socket: {errno}"),
        }
    }
}

impl core::error::Error for SendError {}

/// Nothing more will be received from this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The peer has hung up.
    Closed,
    /// The peer broke a rule; the socket is shut.
    Violation(LegViolation),
    /// The kernel refused; the socket is shut.
    Os(Errno),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer has hung up"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Os(errno) => write!(f, "receiving on a leg's socket: {errno}"),
        }
    }
}

impl core::error::Error for ReceiveError {}

/// How many descriptors the next datagram may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// None.
    Octets,
    /// At most one.
    OneDescriptor,
}

/// One attempt to receive.
#[derive(Debug)]
pub enum Received {
    /// Nothing is waiting.
    Nothing,
    /// One datagram.
    Datagram {
        /// Octets written to the buffer; never 0.
        len: usize,
        /// The descriptor that came with it.
        descriptor: Option<OwnedFd>,
    },
}

/// Octets of control data that hold exactly one descriptor: `CMSG_LEN(4)`, a 16-octet header and the number.
///
/// The padded size would have room for a second one.
const ONE_DESCRIPTOR_LEN: usize = 20;

/// Control data, aligned as a `cmsghdr` must be.
#[repr(C, align(8))]
struct ControlRoom([MaybeUninit<u8>; ONE_DESCRIPTOR_LEN]);

/// One end of a leg's socket.
#[derive(Debug)]
pub struct LegSocket {
    descriptor: OwnedFd,
    /// Set when the leg ended; the descriptor stays open until this value is dropped, so that its number cannot
    /// be mistaken for another leg's in the host's table of sources.
    is_shut: bool,
}

impl LegSocket {
    /// Makes both ends of the socket of a leg between two other processes.
    ///
    /// # Errors
    ///
    /// Descriptors or memory ran out.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::from_own(a), Self::from_own(b)))
    }

    /// Wraps a socket that this process made itself.
    pub(super) fn from_own(descriptor: OwnedFd) -> Self {
        Self { descriptor, is_shut: false }
    }

    /// Takes a descriptor that another process made, if it is a socket of the right kind.
    ///
    /// # Errors
    ///
    /// [`LegViolation::NotLegSocket`]; the descriptor is closed.
    pub fn from_received(descriptor: OwnedFd) -> Result<Self, LegViolation> {
        let is_unix = rustix::net::sockopt::socket_domain(&descriptor) == Ok(AddressFamily::UNIX);
        if is_unix && rustix::net::sockopt::socket_type(&descriptor) == Ok(SocketType::SEQPACKET) {
            return Ok(Self::from_own(descriptor));
        }
        descriptor::discard(descriptor);
        Err(LegViolation::NotLegSocket)
    }

    /// Sends one datagram with `descriptor` beside it, without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::Busy`] when the peer does not read: nothing was sent.
    //= spec/leg-setup.md#sockets
    //# A descriptor that a peer also holds MUST be used only with calls that carry their own non-blocking flag.
    pub fn send(&self, octets: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), SendError> {
        if self.is_shut {
            return Err(SendError::Closed);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match &descriptor {
            None => rustix::net::send(&self.descriptor, octets, flags),
            Some(descriptor) => {
                let descriptors = core::slice::from_ref(descriptor);
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
                assert!(pushed, "the control buffer has room for one descriptor");
                rustix::net::sendmsg(&self.descriptor, &[IoSlice::new(octets)], &mut control, flags)
            }
        };
        match sent {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(SendError::Busy),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(SendError::Closed),
            Err(errno) => Err(SendError::Os(errno)),
        }
    }

    /// Wakes the peer.
    ///
    /// # Errors
    ///
    /// The leg is gone. A socket that is full of doorbells is no error: the peer has been rung.
    //= spec/leg-setup.md#doorbells
    //# A doorbell that finds the socket full MUST count as rung.
    pub fn ring_doorbell(&self) -> Result<(), SendError> {
        match self.send(&[DOORBELL], None) {
            Ok(()) | Err(SendError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Receives one datagram without waiting, into `buffer`, with room for exactly what `room` says.
    ///
    /// # Errors
    ///
    /// The leg has ended. After an error, everything that came with the datagram is closed and further calls say
    /// [`ReceiveError::Closed`]. The peer sees the socket hang up at once if it broke a rule; if it has hung up itself,
    /// it sees this end hang up when this value is dropped, for there may be final heads to store first.
    pub fn receive(&mut self, buffer: &mut [u8], room: Room) -> Result<Received, ReceiveError> {
        if self.is_shut {
            return Err(ReceiveError::Closed);
        }
        if room == Room::OneDescriptor && !descriptor::may_receive() {
            self.shut();
            return Err(ReceiveError::Os(Errno::NFILE));
        }
        let received = self.receive_once(buffer, room);
        match received {
            Ok(_) => {}
            Err(ReceiveError::Closed) => self.is_shut = true,
            Err(_) => self.shut(),
        }
        received
    }

    //= spec/leg-setup.md#sockets
    //# A datagram MUST be received with room for exactly the octets and descriptors that are expected there.
    //= spec/leg-setup.md#sockets
    //# On a datagram that does not fit, every descriptor that came with it and the socket MUST be closed.
    fn receive_once(&self, buffer: &mut [u8], room: Room) -> Result<Received, ReceiveError> {
        let buffer_len = buffer.len();
        let mut control_room = ControlRoom([MaybeUninit::uninit(); ONE_DESCRIPTOR_LEN]);
        let control_len = if room == Room::OneDescriptor { ONE_DESCRIPTOR_LEN } else { 0 };
        let mut control = RecvAncillaryBuffer::new(&mut control_room.0[..control_len]);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::net::recvmsg(&self.descriptor, &mut [IoSliceMut::new(buffer)], &mut control, flags);
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET | Errno::PIPE) => return Err(ReceiveError::Closed),
            Err(errno) => return Err(ReceiveError::Os(errno)),
        };
        let descriptors = collect_descriptors(&mut control);
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            discard_all(descriptors);
            let is_long = received.flags.contains(ReturnFlags::TRUNC);
            let violation =
                if is_long { LegViolation::TooLong(buffer_len) } else { LegViolation::Descriptors };
            return Err(ReceiveError::Violation(violation));
        }
        let [descriptor, second] = descriptors;
        if second.is_some() || (received.bytes == 0 && descriptor.is_some()) {
            discard_all([descriptor, second]);
            return Err(ReceiveError::Violation(LegViolation::Descriptors));
        }
        if received.bytes == 0 {
            // The end of the stream; an empty datagram looks the same, and no rule allows one.
            return Err(ReceiveError::Closed);
        }
        Ok(Received::Datagram { len: received.bytes, descriptor })
    }

    /// True when the peer has closed its end, whatever still waits to be received.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let mut source = [PollFd::new(&self.descriptor, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut source, Some(&now));
        let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        self.is_shut || (polled.is_ok() && source[0].revents().intersects(ended))
    }

    /// Hangs up: the peer sees the end of the leg at once; the descriptor goes when this value is dropped.
    pub fn shut(&mut self) {
        self.is_shut = true;
        // Fails only when the peer is already gone.
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Both);
    }
}

/// True for the datagram that a doorbell is.
pub(super) fn is_doorbell(datagram: &[u8], descriptor: Option<&OwnedFd>) -> bool {
    datagram == [DOORBELL] && descriptor.is_none()
}

/// Closes descriptors that nobody asked for.
fn discard_all(descriptors: [Option<OwnedFd>; 2]) {
    for descriptor in descriptors.into_iter().flatten() {
        descriptor::discard(descriptor);
    }
}

/// Takes the descriptors out of the control data. There is room for one; a second would be our own bug, and is
/// kept so that it is closed.
fn collect_descriptors(control: &mut RecvAncillaryBuffer<'_>) -> [Option<OwnedFd>; 2] {
    let mut found = [None, None];
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                if let Some(place) = found.iter_mut().find(|place| place.is_none()) {
                    *place = Some(descriptor);
                }
            }
        }
    }
    found
}

impl AsFd for LegSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::vec;

    /// Sends with any number of descriptors, as a misbehaving peer would.
    pub(crate) fn send_many(socket: &LegSocket, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(socket, &[IoSlice::new(octets)], &mut control, flags).unwrap();
    }

    fn received_len(received: Received) -> usize {
        match received {
            Received::Datagram { len, .. } => len,
            Received::Nothing => 0,
        }
    }

    #[test]
    fn a_datagram_and_its_descriptor_arrive_together() {
        let (a, mut b) = LegSocket::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        a.send(b"hello", Some(writer.as_fd())).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let Ok(Received::Datagram { len: 5, descriptor: Some(descriptor) }) =
            b.receive(&mut buffer, Room::OneDescriptor)
        else {
            panic!("one datagram with one descriptor");
        };
        assert_eq!(&buffer[..5], b"hello");
        let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        drop(descriptor);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert!(matches!(b.receive(&mut buffer, Room::OneDescriptor), Ok(Received::Nothing)));
    }

    #[test]
    fn two_descriptors_where_one_fits_close_everything() {
        //= spec/leg-setup.md#sockets
        //= type=test
        //# On a datagram that does not fit, every descriptor that came with it and the socket MUST be closed.
        for (room, count) in
            [(Room::OneDescriptor, 2), (Room::OneDescriptor, 8), (Room::Octets, 1), (Room::Octets, 8)]
        {
            let (a, mut b) = LegSocket::pair().unwrap();
            let (mut reader, writer) = std::io::pipe().unwrap();
            send_many(&a, b"x", &vec![writer.as_fd(); count]);
            drop(writer);
            let error = b.receive(&mut [0; 16], room).unwrap_err();
            assert_eq!(error, ReceiveError::Violation(LegViolation::Descriptors), "{room:?} {count}");
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "all copies were closed");
            assert_eq!(b.receive(&mut [0; 16], room).unwrap_err(), ReceiveError::Closed);
            assert_eq!(a.send(b"x", None), Err(SendError::Closed), "the peer sees the hang-up");
        }
    }

    #[test]
    fn a_datagram_longer_than_its_room_ends_the_leg() {
        //= spec/leg-setup.md#sockets
        //= type=test
        //# A datagram MUST be received with room for exactly the octets and descriptors that are expected there.
        let (a, mut b) = LegSocket::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        a.send(&[1; 17], Some(writer.as_fd())).unwrap();
        drop(writer);
        let error = b.receive(&mut [0; 16], Room::OneDescriptor).unwrap_err();
        assert_eq!(error, ReceiveError::Violation(LegViolation::TooLong(16)));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "its descriptor was closed");
    }

    #[test]
    fn a_flood_of_doorbells_neither_blocks_nor_fails() {
        //= spec/leg-setup.md#doorbells
        //= type=test
        //# A doorbell that finds the socket full MUST count as rung.
        let (a, mut b) = LegSocket::pair().unwrap();
        for _ in 0..100_000 {
            a.ring_doorbell().unwrap();
        }
        assert_eq!(a.send(b"more", None), Err(SendError::Busy));
        let mut doorbells = 0;
        let mut buffer = [9; 16];
        while received_len(b.receive(&mut buffer, Room::Octets).unwrap()) == 1 {
            assert!(is_doorbell(&buffer[..1], None));
            doorbells += 1;
        }
        assert!((1..100_000).contains(&doorbells), "the kernel bounds what waits: {doorbells}");
    }

    #[test]
    fn a_peer_that_clears_the_non_blocking_flag_cannot_make_us_wait() {
        //= spec/leg-setup.md#sockets
        //= type=test
        //# A descriptor that a peer also holds MUST be used only with calls that carry their own non-blocking flag.
        let (a, mut b) = LegSocket::pair().unwrap();
        rustix::io::ioctl_fionbio(&a, false).unwrap();
        rustix::io::ioctl_fionbio(&b, false).unwrap();
        assert!(matches!(b.receive(&mut [0; 16], Room::Octets), Ok(Received::Nothing)));
        while a.send(&[1; 64], None).is_ok() {}
        assert_eq!(a.send(&[1; 64], None), Err(SendError::Busy));
    }

    #[test]
    fn a_hang_up_is_seen_after_what_was_sent_before_it() {
        let (a, mut b) = LegSocket::pair().unwrap();
        assert!(!b.is_hung_up());
        a.ring_doorbell().unwrap();
        drop(a);
        assert!(b.is_hung_up());
        assert_eq!(received_len(b.receive(&mut [0; 16], Room::Octets).unwrap()), 1);
        assert_eq!(b.receive(&mut [0; 16], Room::Octets).unwrap_err(), ReceiveError::Closed);
        assert_eq!(b.ring_doorbell(), Err(SendError::Closed), "and no signal came");
    }

    #[test]
    fn an_empty_datagram_and_a_half_closed_socket_end_the_leg() {
        let (a, mut b) = LegSocket::pair().unwrap();
        rustix::net::send(&a, &[], SendFlags::DONTWAIT).unwrap();
        assert_eq!(b.receive(&mut [0; 16], Room::Octets).unwrap_err(), ReceiveError::Closed);
        let (a, mut b) = LegSocket::pair().unwrap();
        rustix::net::shutdown(&a, Shutdown::Write).unwrap();
        assert_eq!(b.receive(&mut [0; 16], Room::Octets).unwrap_err(), ReceiveError::Closed);
        assert!(!a.is_hung_up(), "the end that saw the hang-up may have final heads to store");
        drop(b);
        assert!(a.is_hung_up());
    }

    #[test]
    fn a_descriptor_that_is_no_leg_socket_is_refused() {
        let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        assert_eq!(LegSocket::from_received(file).unwrap_err(), LegViolation::NotLegSocket);
        let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert_eq!(LegSocket::from_received(stream.into()).unwrap_err(), LegViolation::NotLegSocket);
        let (a, _b) = LegSocket::pair().unwrap();
        LegSocket::from_received(a.descriptor).unwrap();
    }
}

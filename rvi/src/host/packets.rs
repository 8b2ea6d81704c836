//! The sockets of all packet legs of a process: one of each kind for each fabric on which it has one.
//!
//! What happens to a packet here: what a machine's `poll_transmit` fills goes to the socket of its leg in runs, and every
//! packet that arrives goes to its `handle_packet`.

mod fabric;
mod socket;

use core::fmt;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::vec::Vec;

use rustix::io::Errno;
use vlan_core::wire::control::LegAddress;
use vlan_core::{Instant, LegNumber};

pub use fabric::FabricSocket;
pub use socket::{PacketSocket, SendResult, Taken};

use super::ether::{DeviceChange, EtherPlace, EtherSocket, OpenError, Way};
use super::fault::{Direction, Faults};
use super::udp::{BindError, ReceivePool, UDP_PAYLOAD_LEN_MAX, UdpSocket};
use crate::packet::port::PacketMachine;
use crate::packet::transport::TransmitBuffer;

/// Packets that are filled at once: more than a kernel cuts out of one run.
const SEGMENTS_MAX: usize = 64;
/// Pools of runs taken from one socket before the others get their turn.
const POOLS_MAX: usize = 4;
/// Runs sent in one round: what is left waits for the next, so that receiving has its turn.
const RUNS_MAX: usize = 64;
/// Between two looks at the devices of ether legs.
const DEVICE_LOOK: Duration = Duration::from_secs(1);
/// How soon a device that had no room for packets is tried again.
const FLUSH_AGAIN: Duration = Duration::from_millis(1);
/// While packets come, it is asked this often what the routes take.
const ROUTES_AGAIN: Duration = Duration::from_secs(10);

/// Where a packet leg of this process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegPlace {
    /// At an address and a UDP port; port 0 takes any.
    Udp(SocketAddr),
    /// At a device.
    Ether(EtherPlace),
}

/// Why a socket cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketError {
    /// For UDP.
    Udp(BindError),
    /// For Ethernet frames.
    Ether(OpenError),
}

/// A socket for a packet leg cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketLegError {
    /// The leg.
    pub leg: LegNumber,
    /// Why.
    pub error: SocketError,
}

impl PacketLegError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match &self.error {
            SocketError::Udp(_) => {
                "give this host the address, or change `legs` if another program has the port"
            }
            SocketError::Ether(error) => error.hint(),
        }
    }
}

impl fmt::Display for PacketLegError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            SocketError::Udp(error) => write!(f, "leg {}: {error}", self.leg),
            SocketError::Ether(error) => write!(f, "leg {}: {error}", self.leg),
        }
    }
}

impl core::error::Error for PacketLegError {}

/// A route takes shorter packets than its leg had been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarrowRoute {
    /// The leg.
    pub leg: LegNumber,
    /// Where the route leads.
    pub to: LegAddress,
    /// Octets of the longest packet.
    pub octets: usize,
}

/// What came of sending what a machine had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transmitted {
    /// Nothing more is to be sent now.
    pub is_all: bool,
    /// The last route that turned out to be narrower than its leg was told; the machine knows.
    pub narrow: Option<NarrowRoute>,
}

/// A socket of either kind.
#[derive(Debug)]
enum Socket {
    Udp(FabricSocket<UdpSocket>),
    Ether(FabricSocket<EtherSocket>),
}

#[derive(Debug)]
struct Fabric {
    leg: LegNumber,
    socket: Socket,
    is_readable: bool,
    /// Octets of the longest packet that the socket sends, as far as is known.
    packet_len_max: Option<usize>,
    /// What the kernel said of it when it was asked last.
    asked: Option<usize>,
    /// How its device was driven when [`PacketSockets::poll_way`] told it last.
    told: Option<Way>,
}

/// How the device of an ether leg is driven now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegWay {
    /// The leg.
    pub leg: LegNumber,
    /// Its device, and what was asked for.
    pub place: EtherPlace,
    /// How it is driven, and why.
    pub way: Way,
}

/// All of them, with the memory that they share.
#[derive(Debug)]
pub struct PacketSockets {
    fabrics: Vec<Fabric>,
    pool: ReceivePool,
    buffer: TransmitBuffer,
    /// When the devices of ether legs are looked at next; none without ether legs.
    looks_at: Option<Instant>,
    /// When the routes are asked again.
    routes_at: Instant,
    /// When devices are tried again that had no room for packets.
    flush_at: Option<Instant>,
}

impl PacketSockets {
    /// Opens a socket for each leg at its place; a fabric may have one of each kind. None for no leg at all.
    ///
    /// # Errors
    /// When the system refuses a place.
    pub fn open(places: &[(LegNumber, LegPlace)]) -> Result<Option<Self>, PacketLegError> {
        if places.is_empty() {
            return Ok(None);
        }
        let fabrics = places.iter().map(|(leg, place)| {
            let socket = Socket::open(place).map_err(|error| PacketLegError { leg: *leg, error })?;
            let packet_len_max = socket.packet_len_max();
            let asked = packet_len_max;
            Ok(Fabric { leg: *leg, socket, is_readable: true, packet_len_max, asked, told: None })
        });
        let has_devices = places.iter().any(|(_, place)| matches!(place, LegPlace::Ether(_)));
        Ok(Some(Self {
            fabrics: fabrics.collect::<Result<_, PacketLegError>>()?,
            pool: ReceivePool::new(),
            buffer: TransmitBuffer::new(SEGMENTS_MAX, UDP_PAYLOAD_LEN_MAX),
            looks_at: has_devices.then_some(Instant::ZERO),
            routes_at: Instant::ZERO,
            flush_at: None,
        }))
    }

    /// The legs, the sockets that are to be watched for them, and where these are.
    pub fn legs(&self) -> impl Iterator<Item = (LegNumber, BorrowedFd<'_>, LegAddress)> {
        self.fabrics.iter().map(|fabric| (fabric.leg, fabric.socket.as_fd(), fabric.socket.address()))
    }

    /// An ether leg whose device is driven in another way than was told before, for who reads the log.
    pub fn poll_way(&mut self) -> Option<LegWay> {
        self.fabrics.iter_mut().find_map(|fabric| {
            let Socket::Ether(socket) = &fabric.socket else { return None };
            let way = socket.socket().way();
            let is_new = fabric.told.replace(way) != Some(way);
            is_new.then(|| LegWay { leg: fabric.leg, place: socket.socket().place().clone(), way })
        })
    }

    /// Tells a machine how long its packets may be, as far as routes and devices go.
    pub fn start(&self, machine: &mut impl PacketMachine) {
        self.fabrics.iter().for_each(|fabric| self.tell_len(fabric.leg, machine));
    }

    /// Tells a machine how long packets of a leg may be by every socket that it may have.
    fn tell_len(&self, leg: LegNumber, machine: &mut impl PacketMachine) {
        let own = self.fabrics.iter().filter(|fabric| fabric.leg == leg);
        if let Some(octets) = own.filter_map(|fabric| fabric.packet_len_max).min() {
            machine.set_packet_len_max(leg, octets);
        }
    }

    /// The socket of `leg` has something.
    pub fn handle_ready(&mut self, leg: LegNumber) {
        for fabric in self.fabrics.iter_mut().filter(|fabric| fabric.leg == leg) {
            fabric.is_readable = true;
        }
    }

    /// Packets were there a moment ago: looks again without asking the kernel which socket has some.
    pub fn assume_readable(&mut self) {
        for fabric in &mut self.fabrics {
            fabric.is_readable = true;
        }
    }

    fn ask_routes(&mut self, machine: &mut impl PacketMachine) {
        for place in 0..self.fabrics.len() {
            let fabric = &mut self.fabrics[place];
            let octets = fabric.socket.packet_len_max();
            if octets.is_some() && core::mem::replace(&mut fabric.asked, octets) != octets {
                fabric.packet_len_max = octets;
                let leg = fabric.leg;
                self.tell_len(leg, machine);
            }
        }
    }

    /// Gives the machine what the sockets have, up to a bound; says how many packets.
    //= spec/leg-udp.md#wider-routes
    //# While packets come, a host MUST ask every 10 s what its routes take, and tell the senders of the legs when that changed.
    pub fn receive(&mut self, now: Instant, machine: &mut impl PacketMachine) -> usize {
        if now >= self.routes_at {
            self.routes_at = now + ROUTES_AGAIN;
            self.ask_routes(machine);
        }
        let mut packets = 0;
        for Fabric { leg, socket, is_readable, .. } in &mut self.fabrics {
            for _ in 0..POOLS_MAX {
                if !*is_readable {
                    break;
                }
                let taken = socket.for_each_datagram(now, &mut self.pool, |from, packet| {
                    machine.handle_packet(now, *leg, from, packet);
                });
                packets += taken.datagrams;
                *is_readable = taken.has_more;
            }
        }
        packets
    }

    /// Sends what the machine has to send, up to a bound.
    pub fn transmit(&mut self, now: Instant, machine: &mut impl PacketMachine) -> Transmitted {
        let transmitted = self.transmit_runs(now, machine);
        self.note_full(now);
        transmitted
    }

    /// Nobody says when a device has room again: it is asked.
    //= spec/leg-ether.md#packets-that-wait-for-a-device
    //# A packet that was taken and waits for room at the device MUST be tried again within 1 ms, whether others follow it or not.
    fn note_full(&mut self, now: Instant) {
        if !self.ether_sockets().any(EtherSocket::is_full) {
            self.flush_at = None;
        } else if self.flush_at.is_none() {
            self.flush_at = Some(now + FLUSH_AGAIN);
        }
    }

    fn ether_sockets(&self) -> impl Iterator<Item = &EtherSocket> {
        self.fabrics.iter().filter_map(|fabric| match &fabric.socket {
            Socket::Ether(socket) => Some(socket.socket()),
            Socket::Udp(_) => None,
        })
    }

    fn transmit_runs(&mut self, now: Instant, machine: &mut impl PacketMachine) -> Transmitted {
        let mut narrow = None;
        for _ in 0..RUNS_MAX {
            let Some(batch) = machine.poll_transmit(now, &mut self.buffer) else {
                return Transmitted { is_all: true, narrow };
            };
            let is_meant = |fabric: &Fabric| {
                fabric.leg == batch.leg && fabric.socket.address().kind() == batch.to.kind()
            };
            let Some(place) = self.fabrics.iter().position(is_meant) else { continue };
            let fabric = &mut self.fabrics[place];
            let sent = fabric.socket.send(now, batch.to, self.buffer.octets_mut(), batch.segment_len);
            if let SendResult::TooBig { payload_len_max: Some(octets) } = sent {
                fabric.packet_len_max = Some(octets);
                self.tell_len(batch.leg, machine);
                narrow = Some(NarrowRoute { leg: batch.leg, to: batch.to, octets });
            }
        }
        Transmitted { is_all: false, narrow }
    }

    /// Lays faults on the packets of a leg, or of all, or takes them off: a drill. Gives the legs.
    pub fn set_faults(
        &mut self,
        seed: u64,
        leg: Option<LegNumber>,
        directions: &[Direction],
        faults: Faults,
    ) -> impl Iterator<Item = LegNumber> {
        let meant = self.fabrics.iter_mut().filter(move |fabric| leg.is_none_or(|leg| leg == fabric.leg));
        meant.map(move |fabric| {
            directions.iter().for_each(|direction| fabric.socket.set_faults(seed, *direction, faults));
            fabric.leg
        })
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.fabrics.iter().filter_map(|fabric| fabric.socket.poll_timeout());
        held.chain(self.looks_at).chain(self.flush_at).min()
    }

    /// Passes on what faults have delayed and what devices had no room for, and looks at the devices of ether legs. True when a leg
    /// ends at another address than it did.
    pub fn handle_timeout(&mut self, now: Instant, machine: &mut impl PacketMachine) -> bool {
        for Fabric { leg, socket, .. } in &mut self.fabrics {
            socket.handle_timeout(now, |from, packet| machine.handle_packet(now, *leg, from, packet));
        }
        if self.flush_at.take_if(|at| *at <= now).is_some() {
            self.ether_sockets().for_each(EtherSocket::flush);
        }
        self.note_full(now);
        if self.looks_at.is_none_or(|at| at > now) {
            return false;
        }
        self.looks_at = Some(now + DEVICE_LOOK);
        self.look(now, machine)
    }

    fn look(&mut self, now: Instant, machine: &mut impl PacketMachine) -> bool {
        let mut has_moved = false;
        for place in 0..self.fabrics.len() {
            let Fabric { leg, socket: Socket::Ether(socket), packet_len_max, .. } = &mut self.fabrics[place]
            else {
                continue;
            };
            let (leg, DeviceChange { address, .. }) = (*leg, socket.socket().look());
            has_moved |= address;
            socket.socket().look_at_driver(now);
            let octets = Some(socket.socket().payload_len_max());
            if core::mem::replace(packet_len_max, octets) != octets {
                self.tell_len(leg, machine);
            }
        }
        has_moved
    }
}

impl Socket {
    fn open(place: &LegPlace) -> Result<Self, SocketError> {
        Ok(match place {
            LegPlace::Udp(address) => {
                Self::Udp(FabricSocket::new(UdpSocket::bind(*address).map_err(SocketError::Udp)?))
            }
            LegPlace::Ether(place) => {
                let socket = EtherSocket::open(place.clone()).map_err(SocketError::Ether)?;
                Self::Ether(FabricSocket::new(socket))
            }
        })
    }

    fn address(&self) -> LegAddress {
        match self {
            Self::Udp(socket) => LegAddress::Udp(socket.socket().local_address()),
            Self::Ether(socket) => LegAddress::Ether(socket.socket().local_address()),
        }
    }

    /// Octets of the longest packet that goes to a peer, as the kernel knows before the first one.
    fn packet_len_max(&self) -> Option<usize> {
        match self {
            Self::Udp(socket) => {
                let socket = socket.socket();
                socket.payload_len_max(neighbour(socket.local_address())).ok()
            }
            Self::Ether(socket) => Some(socket.socket().payload_len_max()),
        }
    }

    #[inline]
    fn send(&mut self, now: Instant, to: LegAddress, run: &mut [u8], segment_len: usize) -> SendResult {
        match (self, to) {
            (Self::Udp(socket), LegAddress::Udp(to)) => socket.send(now, to, run, segment_len),
            (Self::Ether(socket), LegAddress::Ether(to)) => socket.send(now, to, run, segment_len),
            _ => SendResult::Failed(Errno::AFNOSUPPORT),
        }
    }

    #[inline]
    fn for_each_datagram(
        &mut self,
        now: Instant,
        pool: &mut ReceivePool,
        mut f: impl FnMut(LegAddress, &mut [u8]),
    ) -> Taken {
        match self {
            Self::Udp(socket) => {
                socket.for_each_datagram(now, pool, |from, packet| f(LegAddress::Udp(from), packet))
            }
            Self::Ether(socket) => {
                socket.for_each_datagram(now, pool, |from, packet| f(LegAddress::Ether(from), packet))
            }
        }
    }

    fn set_faults(&mut self, seed: u64, direction: Direction, faults: Faults) {
        match self {
            Self::Udp(socket) => socket.set_faults(seed, direction, faults),
            Self::Ether(socket) => socket.set_faults(seed, direction, faults),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Udp(socket) => socket.poll_timeout(),
            Self::Ether(socket) => socket.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Instant, mut f: impl FnMut(LegAddress, &mut [u8])) {
        match self {
            Self::Udp(socket) => {
                socket.handle_timeout(now, |from, packet| f(LegAddress::Udp(from), packet));
            }
            Self::Ether(socket) => {
                socket.handle_timeout(now, |from, packet| f(LegAddress::Ether(from), packet));
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Ether(socket) => socket.as_fd(),
        }
    }
}

/// An address that is most likely reached as peers are: on the same network.
fn neighbour(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) ^ 2).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) ^ 2).into()),
    };
    SocketAddr::new(ip, address.port())
}

//! The sockets of all packet legs of a process: one for each fabric on which it has one.
//!
//! What happens to a packet here: what a machine's `poll_transmit` fills goes to the socket of its leg in runs, and every
//! datagram that arrives goes to its `handle_packet`.

use core::cell::Cell;
use core::fmt;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::vec::Vec;

use vlan_core::{Instant, LegNumber};

use super::{BindError, FabricSocket, ReceivePool, SendResult, UDP_PAYLOAD_LEN_MAX, UdpSocket};
use crate::host::fault::{Direction, Faults};
use crate::packet::port::PacketMachine;
use crate::packet::transport::TransmitBuffer;

/// Packets that are filled at once: more than a kernel cuts out of one run.
const SEGMENTS_MAX: usize = 64;
/// Pools of runs taken from one socket before the others get their turn.
const POOLS_MAX: usize = 4;
/// Runs sent in one round: what is left waits for the next, so that receiving has its turn.
const RUNS_MAX: usize = 64;
/// While packets come, it is asked this often what the routes take.
const ROUTES_AGAIN: Duration = Duration::from_secs(10);

/// A socket for a packet leg cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLegError {
    /// The leg.
    pub leg: LegNumber,
    /// Why.
    pub error: BindError,
}

impl fmt::Display for PacketLegError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leg {}: {}", self.leg, self.error)
    }
}

impl core::error::Error for PacketLegError {}

/// A route takes shorter packets than its leg had been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarrowRoute {
    /// The leg.
    pub leg: LegNumber,
    /// Where the route leads.
    pub to: SocketAddr,
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

#[derive(Debug)]
struct Fabric {
    leg: LegNumber,
    socket: FabricSocket,
    is_readable: bool,
    /// What its route took when that was asked last.
    route_len: Cell<usize>,
}

impl Fabric {
    /// Asks the kernel what the route takes, and tells the machine when that is something else than before.
    fn ask_route(&self, machine: &mut impl PacketMachine) {
        let socket = self.socket.socket();
        if let Ok(octets) = socket.payload_len_max(neighbour(socket.local_address()))
            && self.route_len.replace(octets) != octets
        {
            machine.set_packet_len_max(self.leg, octets);
        }
    }
}

/// All of them, with the memory that they share.
#[derive(Debug)]
pub struct PacketSockets {
    fabrics: Vec<Fabric>,
    pool: ReceivePool,
    buffer: TransmitBuffer,
    /// When the routes are asked again.
    routes_at: Instant,
}

impl PacketSockets {
    /// Opens a socket for each leg at its address; port 0 takes any. None for no leg at all.
    ///
    /// # Errors
    /// When the system refuses an address.
    pub fn open(addresses: &[(LegNumber, SocketAddr)]) -> Result<Option<Self>, PacketLegError> {
        if addresses.is_empty() {
            return Ok(None);
        }
        let fabrics = addresses.iter().map(|&(leg, address)| {
            let socket = UdpSocket::bind(address).map_err(|error| PacketLegError { leg, error })?;
            let socket = FabricSocket::new(socket);
            Ok(Fabric { leg, socket, is_readable: true, route_len: Cell::new(0) })
        });
        Ok(Some(Self {
            fabrics: fabrics.collect::<Result<_, PacketLegError>>()?,
            pool: ReceivePool::new(),
            buffer: TransmitBuffer::new(SEGMENTS_MAX, UDP_PAYLOAD_LEN_MAX),
            routes_at: Instant::ZERO,
        }))
    }

    /// The legs, the sockets that are to be watched for them, and where these are.
    pub fn legs(&self) -> impl Iterator<Item = (LegNumber, BorrowedFd<'_>, SocketAddr)> {
        self.fabrics
            .iter()
            .map(|fabric| (fabric.leg, fabric.socket.as_fd(), fabric.socket.socket().local_address()))
    }

    /// Tells a machine how long its packets may be, as far as the routes go.
    pub fn start(&self, machine: &mut impl PacketMachine) {
        self.fabrics.iter().for_each(|fabric| fabric.ask_route(machine));
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

    /// Gives the machine what the sockets have, up to a bound; says how many packets.
    //= spec/leg-udp.md#wider-routes
    //# While packets come, a host MUST ask every 10 s what its routes take, and tell the senders of the legs when that changed.
    pub fn receive(&mut self, now: Instant, machine: &mut impl PacketMachine) -> usize {
        if now >= self.routes_at {
            self.routes_at = now + ROUTES_AGAIN;
            self.start(machine);
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
        let mut narrow = None;
        for _ in 0..RUNS_MAX {
            let Some(batch) = machine.poll_transmit(now, &mut self.buffer) else {
                return Transmitted { is_all: true, narrow };
            };
            let Some(fabric) = self.fabrics.iter_mut().find(|fabric| fabric.leg == batch.leg) else {
                continue;
            };
            let sent = fabric.socket.send(now, batch.to, self.buffer.octets_mut(), batch.segment_len);
            if let SendResult::TooBig { payload_len_max: Some(octets) } = sent {
                machine.set_packet_len_max(batch.leg, octets);
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
        self.fabrics.iter().filter_map(|fabric| fabric.socket.poll_timeout()).min()
    }

    /// Passes on what faults have delayed.
    pub fn handle_timeout(&mut self, now: Instant, machine: &mut impl PacketMachine) {
        for Fabric { leg, socket, .. } in &mut self.fabrics {
            socket.handle_timeout(now, |from, packet| machine.handle_packet(now, *leg, from, packet));
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

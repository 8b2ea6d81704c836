//! The sockets of packet legs: one for each fabric on which this node has one.
//!
//! Steps 5 and 6 of the walk where a leg leaves the host: what `Node::poll_transmit` fills goes to the socket in runs, and
//! every datagram that arrives goes to `Node::handle_packet`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rvi::host::fault::{Direction, Faults};
use rvi::host::udp::{BindError, FabricSocket, ReceivePool, SendResult, UDP_PAYLOAD_LEN_MAX, UdpSocket};
use rvi::packet::transport::TransmitBuffer;
use tracing::{info, warn};
use vlan_core::wire::control::{Fault, FaultDirection, LegAddress, OfferedLeg};
use vlan_core::{Instant, LegNumber};

use crate::agent::poller::{Poller, Source};
use crate::node::Node;

/// Packets that are filled at once: more than a kernel cuts out of one run.
const SEGMENTS_MAX: usize = 64;
/// Pools of runs taken from one socket before the others get their turn.
const POOLS_MAX: usize = 4;
/// Runs sent in one round: what is left waits for the next, so that receiving has its turn.
const RUNS_MAX: usize = 64;

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

impl std::error::Error for PacketLegError {}

struct Fabric {
    leg: LegNumber,
    socket: FabricSocket,
    is_readable: bool,
}

/// All of them, with the memory that they share.
pub(super) struct PacketSockets {
    fabrics: Vec<Fabric>,
    pool: ReceivePool,
    buffer: TransmitBuffer,
}

impl PacketSockets {
    /// Opens a socket for each leg at its address; port 0 takes any.
    pub fn open(addresses: &[(LegNumber, SocketAddr)]) -> Result<Option<Self>, PacketLegError> {
        if addresses.is_empty() {
            return Ok(None);
        }
        let fabrics = addresses.iter().map(|&(leg, address)| {
            let socket = UdpSocket::bind(address).map_err(|error| PacketLegError { leg, error })?;
            Ok(Fabric { leg, socket: FabricSocket::new(socket), is_readable: true })
        });
        Ok(Some(Self {
            fabrics: fabrics.collect::<Result<_, PacketLegError>>()?,
            pool: ReceivePool::new(),
            buffer: TransmitBuffer::new(SEGMENTS_MAX, UDP_PAYLOAD_LEN_MAX),
        }))
    }

    /// Has every socket watched, and tells the node where its legs end and how long their packets may be.
    pub fn start(&self, now: Instant, node: &mut Node, poller: &Poller) -> std::io::Result<()> {
        let mut offered = Vec::new();
        for fabric in &self.fabrics {
            poller.add(fabric.socket.as_fd(), Source::Packets(fabric.leg))?;
            let address = fabric.socket.socket().local_address();
            if let Ok(octets) = fabric.socket.socket().payload_len_max(neighbour(address)) {
                node.set_packet_len_max(fabric.leg, octets);
            }
            info!(leg = %fabric.leg, %address, "packet leg open");
            offered.push(OfferedLeg { leg: fabric.leg, address: LegAddress::Udp(address) });
        }
        node.handle_leg_addresses(now, &offered);
        Ok(())
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

    /// Gives the node what the sockets have, up to a bound; says how many packets.
    pub fn receive(&mut self, now: Instant, node: &mut Node) -> usize {
        let mut packets = 0;
        for Fabric { leg, socket, is_readable } in &mut self.fabrics {
            for _ in 0..POOLS_MAX {
                if !*is_readable {
                    break;
                }
                let taken = socket.for_each_datagram(now, &mut self.pool, |from, packet| {
                    node.handle_packet(now, *leg, from, packet);
                });
                packets += taken.datagrams;
                *is_readable = taken.has_more;
            }
        }
        packets
    }

    /// Sends what the node has to send, up to a bound. False when there may be more.
    pub fn transmit(&mut self, now: Instant, node: &mut Node) -> bool {
        for _ in 0..RUNS_MAX {
            let Some(batch) = node.poll_transmit(now, &mut self.buffer) else { return true };
            let Some(fabric) = self.fabrics.iter_mut().find(|fabric| fabric.leg == batch.leg) else {
                continue;
            };
            let sent = fabric.socket.send(now, batch.to, self.buffer.octets_mut(), batch.segment_len);
            if let SendResult::TooBig { payload_len_max: Some(octets) } = sent {
                warn!(leg = %batch.leg, to = %batch.to, octets, "the route takes shorter packets");
                node.set_packet_len_max(batch.leg, octets);
            }
        }
        false
    }

    /// Lays a fault on packets, or takes it off: a drill.
    pub fn set_fault(&mut self, seed: u64, fault: &Fault) {
        let faults = match fault.spec().parse::<Faults>() {
            Ok(faults) => faults,
            Err(error) => {
                warn!(spec = fault.spec(), %error, "a fault that cannot be read is ignored");
                return;
            }
        };
        let directions: &[Direction] = match fault.direction() {
            FaultDirection::In => &[Direction::Ingress],
            FaultDirection::Out => &[Direction::Egress],
            FaultDirection::Both => &[Direction::Ingress, Direction::Egress],
        };
        for fabric in &mut self.fabrics {
            if fault.leg().is_none_or(|leg| leg == fabric.leg) {
                directions.iter().for_each(|direction| fabric.socket.set_faults(seed, *direction, faults));
                info!(leg = %fabric.leg, %faults, "faults on a packet leg");
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fabrics.iter().filter_map(|fabric| fabric.socket.poll_timeout()).min()
    }

    /// Passes on what faults have delayed.
    pub fn handle_timeout(&mut self, now: Instant, node: &mut Node) {
        for Fabric { leg, socket, .. } in &mut self.fabrics {
            socket.handle_timeout(now, |from, packet| node.handle_packet(now, *leg, from, packet));
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

//! One end of an association whose legs are UDP or Ethernet sockets: what a node's pump does with them, and no more.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rvi::host::fault::{Direction, Faults};
use rvi::host::packets::{FabricSocket, PacketSocket};
use rvi::host::udp::{ReceivePool, UDP_PAYLOAD_LEN_MAX};
use rvi::packet::transport::TransmitBuffer;
use rvi::packet::wire::PacketLeg;
use rvi::{Association, AssociationConfig, Message, Scratch};
use vlan_core::{Channel, Instant};

use crate::endpoints::{self, Terms};

/// The channel of the measured messages.
pub const CHANNEL: Channel = Channel(1);
/// Packets that are filled at once, and pools of runs that are taken from one socket before the next: a node's figures.
const SEGMENTS_MAX: usize = 64;
const POOLS_MAX: usize = 4;
/// The longest sleep: somebody may want to stop.
const REST_MAX: Duration = Duration::from_millis(10);

struct Leg<S: PacketSocket> {
    number: PacketLeg,
    socket: FabricSocket<S>,
    to: S::Address,
}

/// An association and its sockets.
pub struct PacketEnd<S: PacketSocket> {
    pub association: Association,
    legs: Vec<Leg<S>>,
    pool: ReceivePool,
    buffer: TransmitBuffer,
    scratch: Scratch,
}

impl<S: PacketSocket> PacketEnd<S> {
    /// Two ends with a leg for each pair of sockets, which know each other's addresses.
    pub fn pair(now: Instant, terms: &Terms, sockets: Vec<[S; 2]>) -> [Self; 2] {
        let mut legs = [Vec::new(), Vec::new()];
        for (number, [one, other]) in endpoints::legs(terms.legs).zip(sockets) {
            let addresses = [one.local_address(), other.local_address()];
            let [first, second] = &mut legs;
            first.push(Leg { number, socket: FabricSocket::new(one), to: addresses[1] });
            second.push(Leg { number, socket: FabricSocket::new(other), to: addresses[0] });
        }
        let mut end = 0;
        legs.map(|legs| {
            let mut association = association();
            association.set_packets(now, endpoints::endpoint(end, 1, terms));
            end += 1;
            Self {
                association,
                legs,
                pool: ReceivePool::new(),
                buffer: TransmitBuffer::new(SEGMENTS_MAX, UDP_PAYLOAD_LEN_MAX),
                scratch: Scratch::default(),
            }
        })
    }

    /// Lays faults on what arrives from now on.
    pub fn set_faults(&mut self, seed: u64, faults: Faults) {
        for leg in &mut self.legs {
            leg.socket.set_faults(seed + u64::from(leg.number.number()), Direction::Ingress, faults);
        }
    }

    /// Takes what the sockets have, up to a bound, and gives each message to `f`; says how many packets there were.
    pub fn receive(&mut self, now: Instant, mut f: impl FnMut(&Message<'_>)) -> usize {
        let mut packets = 0;
        for Leg { number, socket, .. } in &mut self.legs {
            for _ in 0..POOLS_MAX {
                let taken = socket.for_each_datagram(now, &mut self.pool, |_, packet| {
                    // What is refused is counted by the session.
                    let _ = self.association.handle_packet(now, *number, packet);
                });
                packets += taken.datagrams;
                if !taken.has_more {
                    break;
                }
            }
        }
        while let Some(message) = self.association.receive(&mut self.scratch) {
            f(&message);
        }
        self.association.release();
        packets
    }

    /// Does what is due and sends what there is to send.
    pub fn transmit(&mut self, now: Instant) {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
        }
        self.association.publish();
        while let Some(batch) = self.association.poll_transmit(now, &mut self.buffer) {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.number == batch.leg) {
                // What the kernel has no room for is lost, as on the way.
                let _ = leg.socket.send(now, leg.to, self.buffer.octets_mut(), batch.segment_len);
            }
        }
        while self.association.poll_event().is_some() {}
    }

    /// Sleeps until a packet comes or something is due.
    pub fn rest(&self, now: Instant) -> std::io::Result<()> {
        let until = self.association.poll_timeout().map_or(REST_MAX, |at| at.since(now)).min(REST_MAX);
        let until = Timespec { tv_sec: 0, tv_nsec: until.as_nanos() as i64 };
        let mut sockets: Vec<_> =
            self.legs.iter().map(|leg| PollFd::from_borrowed_fd(leg.socket.as_fd(), PollFlags::IN)).collect();
        rustix::event::poll(&mut sockets, Some(&until))?;
        Ok(())
    }

    /// Datagrams that the kernel dropped before this end.
    pub fn kernel_drops(&self) -> u64 {
        self.legs.iter().map(|leg| u64::from(leg.socket.socket().kernel_drops())).sum()
    }
}

/// One end with the measured channel, where nothing waits for room.
pub fn association() -> Association {
    let config =
        AssociationConfig { park_messages_max: 0, park_octets_max: 0, ..AssociationConfig::default() };
    let mut association = Association::new(&config);
    association.open_channel(CHANNEL);
    association
}

/// The time, as the machines want it.
pub fn clock() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

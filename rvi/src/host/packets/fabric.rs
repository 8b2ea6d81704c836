//! The socket of a fabric with the faults that a drill asks for in front of it, if there are any.

use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd};

use vlan_core::Instant;

use super::{PacketSocket, SendResult, Taken};
use crate::host::fault::{Direction, FaultCounters, FaultStage, Faults};
use crate::host::udp::ReceivePool;

/// A socket, and the stage that makes faults while a drill runs.
#[derive(Debug)]
pub struct FabricSocket<S: PacketSocket> {
    socket: S,
    stage: Option<Box<FaultStage<S::Address>>>,
}

impl<S: PacketSocket> FabricSocket<S> {
    /// A socket without faults.
    #[must_use]
    pub fn new(socket: S) -> Self {
        Self { socket, stage: None }
    }

    /// The socket itself, for its address, limits and counters.
    #[must_use]
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Lays down the faults of one direction from now on; `seed` counts when there were none before.
    //= spec/leg-udp.md#faults-by-seed
    //# A socket MUST have no fault stage unless an operator or a test asked for a fault.
    pub fn set_faults(&mut self, seed: u64, direction: Direction, faults: Faults) {
        if faults.is_none() && self.stage.is_none() {
            return;
        }
        let stage = self.stage.get_or_insert_with(|| Box::new(FaultStage::new(seed)));
        stage.set(direction, faults);
        self.remove_idle_stage();
    }

    /// The faults of one direction and what became of its datagrams; `None` when no faults are asked for.
    #[must_use]
    pub fn faults(&self, direction: Direction) -> Option<(Faults, FaultCounters)> {
        self.stage.as_ref().map(|stage| (*stage.faults(direction), stage.counters(direction)))
    }

    /// Sends `run` to `to` as packets of `segment_len` octets, the last of which may be shorter; never waits.
    ///
    /// With faults, the result is that of what is sent at once.
    ///
    /// # Panics
    ///
    /// When `segment_len` is zero.
    #[inline]
    pub fn send(&mut self, now: Instant, to: S::Address, run: &mut [u8], segment_len: usize) -> SendResult {
        match &mut self.stage {
            None => self.socket.send(to, run, segment_len),
            Some(stage) => send_with_faults(&self.socket, stage, now, to, run, segment_len),
        }
    }

    /// Hands the packets that have arrived to `f`, with their source, as many as `pool` has room for; never
    /// waits.
    #[inline]
    pub fn for_each_datagram(
        &mut self,
        now: Instant,
        pool: &mut ReceivePool,
        mut f: impl FnMut(S::Address, &mut [u8]),
    ) -> Taken {
        match &mut self.stage {
            None => self.socket.for_each_datagram(pool, f),
            Some(stage) => self.socket.for_each_datagram(pool, |from, datagram| {
                stage.apply(now, Direction::Ingress, from, datagram, &mut f);
            }),
        }
    }

    /// When [`Self::handle_timeout`] has something to do: never, without faults.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stage.as_ref()?.poll_timeout()
    }

    /// Sends what was held on its way out and is due, and hands what was held on its way in to `f`.
    pub fn handle_timeout(&mut self, now: Instant, mut f: impl FnMut(S::Address, &mut [u8])) {
        let Some(stage) = &mut self.stage else { return };
        let socket = &self.socket;
        stage.poll_due(now, |direction, address, datagram| match direction {
            Direction::Ingress => f(address, datagram),
            Direction::Egress => {
                // What is refused here is lost, and counted by the socket.
                let _ = socket.send(address, datagram, datagram.len().max(1));
            }
        });
        self.remove_idle_stage();
    }

    fn remove_idle_stage(&mut self) {
        self.stage.take_if(|stage| stage.is_idle());
    }
}

#[cold]
fn send_with_faults<S: PacketSocket>(
    socket: &S,
    stage: &mut FaultStage<S::Address>,
    now: Instant,
    to: S::Address,
    run: &mut [u8],
    segment_len: usize,
) -> SendResult {
    let mut result = SendResult::Sent;
    for datagram in run.chunks_mut(segment_len) {
        stage.apply(now, Direction::Egress, to, datagram, |to, datagram| {
            let sent = socket.send(to, datagram, datagram.len().max(1));
            if result == SendResult::Sent {
                result = sent;
            }
        });
    }
    result
}

impl<S: PacketSocket> AsFd for FabricSocket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

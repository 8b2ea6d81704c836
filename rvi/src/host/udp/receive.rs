//! Runs that arrived, taken apart into datagrams.

use core::fmt;
use std::boxed::Box;
use std::net::SocketAddr;
use std::vec;

use super::call::{Arrival, RUN_LEN_MAX, RUNS_MAX};
use crate::host::packets::Taken;

/// Room for what one call takes from a socket. One pool serves any number of sockets, one after the other.
///
/// The kernel fills it from the front, so a socket with little traffic touches little of it.
pub struct ReceivePool {
    pub(in crate::host) octets: Box<[u8]>,
    pub(super) arrivals: [Arrival; RUNS_MAX],
}

impl ReceivePool {
    /// Allocates the pool, half a mebibyte.
    #[must_use]
    pub fn new() -> Self {
        // Written rather than zeroed: a page that the kernel has to find while a run arrives costs 2 us.
        let octets = vec![0xff; RUNS_MAX * RUN_LEN_MAX].into_boxed_slice();
        Self { octets, arrivals: [Arrival::default(); RUNS_MAX] }
    }

    /// The first `count` runs: each one's source, datagram length, octets and whether all of it is there.
    pub(super) fn runs(&mut self, count: usize) -> impl Iterator<Item = (&Arrival, &mut [u8])> {
        let rooms = self.octets.chunks_exact_mut(RUN_LEN_MAX);
        self.arrivals.iter().zip(rooms).take(count).map(|(arrival, room)| {
            let len = arrival.len.min(room.len());
            (arrival, &mut room[..len])
        })
    }
}

impl Default for ReceivePool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReceivePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivePool").field("octets", &self.octets.len()).finish_non_exhaustive()
    }
}

/// Hands each datagram of a run to `f`.
//= spec/leg-udp.md#runs
//# A host MUST take each datagram of a run that it received as a packet of its own.
pub(super) fn split_run(
    from: SocketAddr,
    segment_len: Option<usize>,
    run: &mut [u8],
    taken: &mut Taken,
    f: &mut impl FnMut(SocketAddr, &mut [u8]),
) {
    let len = segment_len.filter(|len| *len > 0).unwrap_or(run.len()).max(1);
    taken.octets += run.len();
    for datagram in run.chunks_mut(len) {
        taken.datagrams += 1;
        f(from, datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn lengths(segment_len: Option<usize>, run_len: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut taken = Taken::default();
        let from = SocketAddr::from(([127, 0, 0, 1], 7));
        let mut run = vec![0; run_len];
        split_run(from, segment_len, &mut run, &mut taken, &mut |_, datagram| lengths.push(datagram.len()));
        assert_eq!((taken.datagrams, taken.octets), (lengths.len(), run_len));
        lengths
    }

    #[test]
    fn a_run_is_split_at_its_segment_length() {
        //= spec/leg-udp.md#runs
        //= type=test
        //# A host MUST take each datagram of a run that it received as a packet of its own.
        assert_eq!(lengths(Some(4), 12), [4, 4, 4]);
        assert_eq!(lengths(Some(4), 13), [4, 4, 4, 1]);
        assert_eq!(lengths(Some(4), 3), [3]);
        assert_eq!(lengths(None, 13), [13]);
        assert_eq!(lengths(Some(0), 5), [5], "a length that cannot be is none");
        assert_eq!(lengths(None, 0), [0; 0], "an empty datagram is no packet");
    }
}

//! Unicast frames of an interface to one station by its direct RVI, one behind the other: their way and their header are worked
//! out once.

use super::{Driver, Egress, PeerSlot, check_length};
use crate::address::{Channel, NodeNumber};
use crate::ethernet::is_neighbour_resolution;
use crate::limits::ETHERNET_HEADER_LEN;
use crate::wire::frame::{FRAME_HEADER_LEN, HeaderTemplate, Vnet};

/// The way of the frames to one station. It holds as long as nothing has happened to its driver.
#[derive(Clone, Copy, Debug)]
pub struct UnicastRun {
    /// The station, as [`destination`] gives it.
    destination: u64,
    /// What the headers of all have in common.
    header: HeaderTemplate,
    /// The LAN's MTU.
    mtu: u16,
    /// The peer that has the station.
    pub peer: PeerSlot,
    /// Its node.
    pub node: NodeNumber,
    /// The channel of the RVI.
    pub channel: Channel,
}

impl UnicastRun {
    /// The header in front of `frame`, which is whole, if it is one of the run. `None` says nothing:
    /// [`Driver::classify`] tells.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, vnet: &Vnet, frame: &[u8]) -> Option<[u8; FRAME_HEADER_LEN]> {
        let is_of_run = destination(frame)? == self.destination
            && !is_neighbour_resolution(u16::from_be_bytes([frame[12], frame[13]]), frame)
            && check_length(self.mtu, vnet, frame.len()).is_ok();
        is_of_run.then(|| self.header.emit(vnet, frame.len()))
    }
}

impl Driver {
    /// The run that a frame begins which goes to a peer by its direct RVI, and to nobody else.
    #[must_use]
    pub fn unicast_run(&self, vnet: &Vnet, frame: &[u8]) -> Option<UnicastRun> {
        let egress = self.classify(vnet, frame, frame.len());
        let Egress::Direct { peer, node, channel, copy_to_server: false } = egress else { return None };
        let header = self.peers.get(usize::from(peer.0))?.outgoing;
        Some(UnicastRun {
            destination: destination(frame)?,
            header,
            mtu: self.config.mtu,
            peer,
            node,
            channel,
        })
    }
}

/// The destination of a frame with a whole Ethernet header, as one word, which is compared at once.
#[inline(always)]
fn destination(frame: &[u8]) -> Option<u64> {
    let octets = frame.first_chunk::<ETHERNET_HEADER_LEN>()?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*octets) << 16)
}

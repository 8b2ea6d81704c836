//! The edge: what is put off inside the fabric is done here. Checksums are completed, super-frames cut, IPv4 packets
//! fragmented, and every frame gets its tag, in buffers that are used again.

mod fragments;

use alloc::vec::Vec;

use vlan_core::DropReason;
use vlan_core::checksum::{set_word, sum};
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::super_frame::Segments;
use vlan_core::wire::Vnet;

use crate::tag::{self, Vid};
use fragments::Fragments;
use vlan_core::ip::{Packet, TCP, UDP};

/// The smallest MTU of a device: what every link of IPv6 has (RFC 8200, 5).
pub const MTU_MIN: u16 = 1280;
/// Segments of one super-frame: 64 KiB of the smallest that Linux makes of TCP, 48 octets (`TCP_MIN_SND_MSS`).
const SEGMENTS_MAX: usize = 1400;

/// What the proxy has to know of the device of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Octets of the longest IP packet in a frame, [`MTU_MIN`] at least.
    pub mtu: u16,
    /// It completes checksums of TCP and UDP and cuts their super-frames, as a kernel's interface does.
    pub offloads: bool,
}

/// Makes what goes outside.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    device: Device,
    vid: Option<Vid>,
    /// The frame, or the segment of it, that is being made.
    segment: Vec<u8>,
    /// The fragment of that.
    piece: Vec<u8>,
}

/// A frame that has been looked at and may go outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'f> {
    /// Without padding.
    frame: &'f [u8],
    vnet: Vnet,
    packet: Option<Packet>,
    /// Its segments, when it is a super-frame.
    segments: Option<Segments<'f>>,
}

impl<'f> Checked<'f> {
    /// Checks what a frame's state says of it; `frame` ends where its contents do.
    ///
    /// # Errors
    /// `malformed` when the sum would go elsewhere than behind the IP headers, or when it is no sound super-frame.
    //= spec/uplink.md#checksums
    //# A checksum that is still to be completed MUST be completed, and right, in what goes outside, unless the device
    //# completes it.
    pub fn new(frame: &'f [u8], vnet: &Vnet, packet: Option<Packet>) -> Result<Self, DropReason> {
        let is_summed = vnet.flags & Vnet::NEEDS_CSUM == 0;
        let contents_at = packet.map_or(ETHERNET_HEADER_LEN, |packet| packet.upper_at);
        let is_behind = usize::from(vnet.csum_start) >= contents_at;
        let is_fragment = packet.is_some_and(|packet| packet.fragment.is_some());
        // Again, since the padding is gone.
        let fits = vnet.is_valid_for(frame.len());
        if !fits || !is_summed && (!is_behind || is_fragment) {
            return Err(DropReason::Malformed);
        }
        let segments = match vnet.gso_type {
            0 => None,
            _ => Some(Self::segments(frame, vnet, packet.as_ref()).ok_or(DropReason::Malformed)?),
        };
        // What is known of sums inside means nothing outside.
        let vnet = if is_summed { Vnet::default() } else { Vnet { flags: Vnet::NEEDS_CSUM, ..*vnet } };
        Ok(Self { frame, vnet, packet, segments })
    }

    fn segments(frame: &'f [u8], vnet: &Vnet, packet: Option<&Packet>) -> Option<Segments<'f>> {
        let packet = packet.filter(|packet| packet.fragment.is_none())?;
        let protocol = if vnet.gso_type & 0x7f == vlan_core::super_frame::GSO_UDP { UDP } else { TCP };
        let is_that = packet.protocol == Some(protocol) && packet.upper_at == usize::from(vnet.csum_start);
        let segments = Segments::of(vnet, frame).filter(|_| is_that)?;
        (segments.total() <= SEGMENTS_MAX).then_some(segments)
    }

    /// What its IP header says, if it has one.
    pub fn packet(&self) -> Option<Packet> {
        self.packet
    }

    /// Octets of the longest packet in what it becomes without fragmentation.
    pub fn packet_len(&self) -> usize {
        let len = self.frame.len() - ETHERNET_HEADER_LEN;
        self.segments.map_or(len, |segments| {
            let longest = segments.headers_len() - ETHERNET_HEADER_LEN + usize::from(self.vnet.gso_size);
            longest.min(len)
        })
    }

    /// The device can complete its sum: that of TCP or UDP, not of what a tunnel carries.
    fn has_plain_sum(&self) -> bool {
        self.packet.is_some_and(|packet| {
            packet.upper_at == usize::from(self.vnet.csum_start)
                && matches!((packet.protocol, self.vnet.csum_offset), (Some(TCP), 16) | (Some(UDP), 6))
        })
    }
}

impl Edge {
    pub fn new(device: Device, vid: Option<Vid>) -> Self {
        Self { device, vid, segment: Vec::new(), piece: Vec::new() }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn set_device(&mut self, device: Device) {
        self.device = device;
    }

    pub fn set_vid(&mut self, vid: Option<Vid>) {
        self.vid = vid;
    }

    /// Gives `out` the frames that go outside for one from inside. `dress` gets each of them once its sum is complete, or still
    /// to be completed by the device, and before it is tagged or fragmented.
    //= spec/uplink.md#segments
    //# A super-frame MUST go outside as the segments that it stands for, none longer than the device's MTU, unless the
    //# device cuts it.
    pub fn send(
        &mut self,
        checked: &Checked<'_>,
        dress: impl Fn(&mut [u8]),
        out: &mut impl FnMut(&Vnet, &[u8]),
    ) {
        let fits = checked.packet_len() <= usize::from(self.device.mtu);
        let is_left_to_device = self.device.offloads && fits && checked.has_plain_sum();
        let Some(mut segments) = checked.segments.filter(|_| !is_left_to_device) else {
            self.segment.clear();
            self.segment.extend_from_slice(checked.frame);
            let vnet =
                if is_left_to_device { checked.vnet } else { complete(&checked.vnet, &mut self.segment) };
            dress(&mut self.segment);
            self.fragment(vnet, out);
            return;
        };
        while let Some(vnet) = segments.next_into(&mut self.segment) {
            let vnet = complete(&vnet, &mut self.segment);
            dress(&mut self.segment);
            self.fragment(vnet, out);
        }
    }

    /// Sends what has been made, in pieces if it is too long: the caller has seen that it may be cut.
    fn fragment(&mut self, vnet: Vnet, out: &mut impl FnMut(&Vnet, &[u8])) {
        let is_whole =
            self.segment.len() - ETHERNET_HEADER_LEN <= usize::from(self.device.mtu) || vnet.gso_type != 0;
        if is_whole {
            let vnet = tag::insert(self.vid, &mut self.segment, vnet);
            out(&vnet, &self.segment);
            return;
        }
        let mut fragments = Fragments::new(&self.segment, self.device.mtu);
        while fragments.next_into(&mut self.piece) {
            let vnet = tag::insert(self.vid, &mut self.piece, Vnet::default());
            out(&vnet, &self.piece);
        }
    }
}

/// Completes the checksum of a frame, if it is still to be, as the kernel does: nothing is written where none is wanted.
fn complete(vnet: &Vnet, frame: &mut [u8]) -> Vnet {
    if vnet.flags & Vnet::NEEDS_CSUM == 0 {
        return *vnet;
    }
    let start = usize::from(vnet.csum_start);
    let check = !frame.get(start..).map_or(0, sum);
    // Of the two forms of zero, the one that UDP does not take for "no sum" (RFC 768).
    let check = if check == 0 { u16::MAX } else { check };
    set_word(frame, start + usize::from(vnet.csum_offset), check);
    Vnet::default()
}

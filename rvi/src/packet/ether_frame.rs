//! The header of an ether leg's frame: written before a packet that goes out, read and believed in nothing where one comes in.
//!
//! What happens to a packet here: [`write_header`] puts its length and both ends in front of it, [`parse`] takes them off
//! and what the device padded the frame with.

use core::fmt;

use vlan_core::{EtherAddress, EtherPort, MacAddress};

/// The type of our frames: the first of two for local experiments (IEEE 802-2014, 9.2.4).
pub const ETHER_TYPE: u16 = 0x88b5;
/// What tells our frames from others of that type, and their format from later ones: `W` and a version.
pub const SUBTYPE: [u8; 2] = [b'W', 1];
/// Octets in front of a packet: two MAC addresses, the type, the subtype, the packet's length, two ports.
pub const HEADER_LEN: usize = 26;
/// Those of them that count towards a device's MTU.
pub const HEADER_LEN_IN_MTU: usize = HEADER_LEN - 14;
/// Where the receiver's port is, which the filter of a socket looks at.
pub const TO_PORT_AT: usize = 18;

/// Why a frame holds no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// It ends before its header does, or before the packet does whose length it names; or it names no packet.
    Length,
    /// It is of another type, subtype or version.
    Foreign,
    /// It comes from an address that no station has.
    Source(MacAddress),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("a frame that does not hold the packet it names"),
            Self::Foreign => f.write_str("a frame of another type, subtype or version"),
            Self::Source(mac) => write!(f, "a frame from {mac}, which is no station"),
        }
    }
}

impl core::error::Error for FrameError {}

/// The ends that a frame names, and its packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where it is to go.
    pub to: EtherAddress,
    /// Where it says that it comes from.
    pub from: EtherAddress,
    /// Its packet.
    pub packet: &'a mut [u8],
}

/// Writes the header of a frame with a packet of `len` octets.
#[must_use]
pub fn write_header(to: EtherAddress, from: EtherAddress, len: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..6].copy_from_slice(&to.mac.0);
    header[6..12].copy_from_slice(&from.mac.0);
    header[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
    header[14..16].copy_from_slice(&SUBTYPE);
    header[16..TO_PORT_AT].copy_from_slice(&len.to_be_bytes());
    header[TO_PORT_AT..22].copy_from_slice(&to.port.0.to_be_bytes());
    header[22..].copy_from_slice(&from.port.0.to_be_bytes());
    header
}

/// Reads a frame; what lies behind the packet is padding, whatever it is.
///
/// # Errors
///
/// When it is none of ours or does not hold what it says.
//= spec/leg-ether.md#frames
//# A receiver MUST take the packet's length from the header, drop and count a frame that is shorter, and ignore what lies
//# behind the packet.
pub fn parse(frame: &mut [u8]) -> Result<Frame<'_>, FrameError> {
    let (header, rest) = frame.split_first_chunk_mut::<HEADER_LEN>().ok_or(FrameError::Length)?;
    if header[12..14] != ETHER_TYPE.to_be_bytes() || header[14..16] != SUBTYPE {
        return Err(FrameError::Foreign);
    }
    let mac = |at: usize| MacAddress(core::array::from_fn(|i| header[at + i]));
    let number = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| header[at + i]));
    let to = EtherAddress { mac: mac(0), port: EtherPort(number(TO_PORT_AT)) };
    let from = EtherAddress { mac: mac(6), port: EtherPort(number(22)) };
    if !from.mac.is_station() {
        return Err(FrameError::Source(from.mac));
    }
    let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let packet = rest.get_mut(..len).filter(|packet| !packet.is_empty()).ok_or(FrameError::Length)?;
    Ok(Frame { to, from, packet })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const A: EtherAddress = EtherAddress { mac: MacAddress([2, 0, 0, 0, 0, 1]), port: EtherPort(7) };
    const B: EtherAddress = EtherAddress { mac: MacAddress([2, 0, 0, 0, 0, 2]), port: EtherPort(65_537) };

    fn frame(len: u16, octets: usize) -> Vec<u8> {
        let mut frame = write_header(A, B, len).to_vec();
        frame.extend((0..octets).map(|octet| octet as u8));
        frame
    }

    #[test]
    fn a_packet_is_as_long_as_its_header_says() {
        //= spec/leg-ether.md#frames
        //= type=test
        //# A receiver MUST take the packet's length from the header, drop and count a frame that is shorter, and ignore what lies
        //# behind the packet.
        for padding in [0, 1, 34] {
            let mut octets = frame(3, 3 + padding);
            let read = parse(&mut octets).unwrap();
            assert_eq!((read.to, read.from, &*read.packet), (A, B, &[0, 1, 2][..]));
        }
        assert_eq!(parse(&mut frame(3, 2)), Err(FrameError::Length));
        assert_eq!(parse(&mut frame(u16::MAX, 1500)), Err(FrameError::Length));
        assert_eq!(parse(&mut frame(0, 34)), Err(FrameError::Length), "no packet is empty");
        let whole = frame(1, 1);
        for len in 0..whole.len() {
            assert_eq!(parse(&mut whole[..len].to_vec()), Err(FrameError::Length), "{len} octets");
        }
    }

    #[test]
    fn frames_of_others_and_of_no_station_are_none() {
        for at in 12..16 {
            let mut octets = frame(3, 3);
            octets[at] ^= 1;
            assert_eq!(parse(&mut octets), Err(FrameError::Foreign));
        }
        for mac in [MacAddress::BROADCAST, MacAddress::NULL, EtherAddress::CONTROL_NODES] {
            let mut octets = frame(3, 3);
            octets[6..12].copy_from_slice(&mac.0);
            assert_eq!(parse(&mut octets), Err(FrameError::Source(mac)));
        }
    }
}

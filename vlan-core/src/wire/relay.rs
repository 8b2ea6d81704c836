//! The header in front of a packet that a control node carries between two nodes: a packet of a relay leg.

use crate::address::{NodeNumber, PairEpoch};
use crate::limits::RELAYED_PACKET_LEN_MAX;
use crate::wire::tlv::{TlvError, TlvHeader};

/// Octets of a [`RelayedPacket`].
pub const RELAYED_HEADER_LEN: usize = 16;
/// Its type on the wire.
const RELAYED_PACKET: u16 = 0x8004;
/// The shortest packet there is: its own header of 32 octets and a tag of 16.
const PACKET_LEN_LEAST: usize = 48;

/// The header of a relayed packet.
///
/// Little-endian: the base header (8 octets), node u16, 0 u16, pair epoch u32. The value is the packet as its sender
/// sealed it: a control node can neither read nor change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedPacket {
    /// To a control node, the node that the packet is for; from it, the one that the packet is of.
    pub node: NodeNumber,
    /// Which life of the two nodes' association it belongs to.
    pub epoch: PairEpoch,
}

impl RelayedPacket {
    /// Reads the header of a message of `message_len` octets that starts with `head`.
    ///
    /// # Errors
    /// When the message is no relayed packet.
    //= spec/leg-relay.md#message
    //# A receiver MUST refuse a relayed packet whose header is not of 16 octets, whose reserved fields are not 0, or whose
    //# value is shorter than 48 octets or longer than 1,024.
    pub fn parse(head: &[u8], message_len: usize) -> Result<Self, TlvError> {
        let header = TlvHeader::parse(head, message_len)?;
        if header.kind != RELAYED_PACKET {
            return Err(TlvError::UnknownKind { kind: header.kind });
        }
        let Some(o) = head.first_chunk::<RELAYED_HEADER_LEN>() else {
            return Err(TlvError::Truncated { needed: RELAYED_HEADER_LEN, len: head.len() });
        };
        if header.header_len != RELAYED_HEADER_LEN {
            return Err(TlvError::BadField { field: "header length" });
        }
        if header.flags != 0 || [o[10], o[11]] != [0; 2] {
            return Err(TlvError::BadField { field: "reserved" });
        }
        if !(PACKET_LEN_LEAST..=RELAYED_PACKET_LEN_MAX).contains(&header.value_len) {
            return Err(TlvError::BadField { field: "packet" });
        }
        Ok(Self {
            node: NodeNumber(u16::from_le_bytes([o[8], o[9]])),
            epoch: PairEpoch(u32::from_le_bytes([o[12], o[13], o[14], o[15]])),
        })
    }

    /// Writes the header in front of a packet of `packet_len` octets.
    #[must_use]
    pub fn emit(&self, packet_len: usize) -> [u8; RELAYED_HEADER_LEN] {
        let mut octets = [0; RELAYED_HEADER_LEN];
        let base = TlvHeader {
            kind: RELAYED_PACKET,
            flags: 0,
            header_len: RELAYED_HEADER_LEN,
            value_len: packet_len,
        };
        base.emit(&mut octets);
        octets[8..10].copy_from_slice(&self.node.0.to_le_bytes());
        octets[12..].copy_from_slice(&self.epoch.0.to_le_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const HEADER: RelayedPacket = RelayedPacket { node: NodeNumber(0x1234), epoch: PairEpoch(0x89ab_cdef) };

    fn message(packet_len: usize) -> Vec<u8> {
        let mut octets = HEADER.emit(packet_len).to_vec();
        octets.resize(RELAYED_HEADER_LEN + packet_len, 7);
        octets
    }

    fn parse(octets: &[u8]) -> Result<RelayedPacket, TlvError> {
        RelayedPacket::parse(octets, octets.len())
    }

    #[test]
    fn a_header_reads_back_and_stands_where_the_table_says() {
        let octets = message(48);
        assert_eq!(octets[..16], [4, 0x80, 0, 2, 48, 0, 0, 0, 0x34, 0x12, 0, 0, 0xef, 0xcd, 0xab, 0x89]);
        assert_eq!(parse(&octets), Ok(HEADER));
        assert_eq!(parse(&message(RELAYED_PACKET_LEN_MAX)), Ok(HEADER));
    }

    //= spec/leg-relay.md#message
    //= type=test
    //# A receiver MUST refuse a relayed packet whose header is not of 16 octets, whose reserved fields are not 0, or whose
    //# value is shorter than 48 octets or longer than 1,024.
    #[test]
    fn what_is_no_relayed_packet_is_refused() {
        assert!(parse(&message(47)).is_err());
        assert!(parse(&message(RELAYED_PACKET_LEN_MAX + 1)).is_err());
        // Another type, a flag, a longer header, a reserved field, a length that does not add up.
        for (offset, value) in [(0, 3), (2, 1), (3, 3), (10, 1), (11, 1), (4, 99)] {
            let mut octets = message(100);
            octets[offset] = value;
            assert!(parse(&octets).is_err(), "octet {offset}");
        }
        let mut longer = message(100);
        (longer[3], longer[4]) = (3, 92);
        assert!(parse(&longer).is_err(), "a header of 24 octets");
        for len in 0..RELAYED_HEADER_LEN {
            assert!(RelayedPacket::parse(&message(48)[..len], 64).is_err(), "{len} octets");
        }
    }
}

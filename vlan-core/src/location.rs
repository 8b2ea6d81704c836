//! Where a virtual interface is: the location record, one type used everywhere.

use crate::address::{CabinetNumber, Channel, LanId, NodeNumber, RviNumber, VifNumber};

/// Octets of an encoded [`Location`].
pub const LOCATION_LEN: usize = 24;

/// Where a virtual interface is and how to reach it (S45, S107).
///
/// Encoded little-endian: cabinet u16, node u16, RVI number u32, channel u8, flags u8, virtual interface u16,
/// LAN u16, reserved u16, generation u64. A zero RVI number means "no direct RVI: relay".
//= spec/tlv.md#location-record
//# A location record MUST hold cabinet, node, RVI number, channel, virtual interface, LAN and generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The cabinet the node is in.
    pub cabinet: CabinetNumber,
    /// The node; 0 for a control node or a place outside.
    pub node: NodeNumber,
    /// The direct RVI of the pair; 0 when there is none.
    pub rvi: RviNumber,
    /// The channel of that RVI in its association.
    pub channel: Channel,
    /// The virtual interface in the node.
    pub vif: VifNumber,
    /// The virtual LAN.
    pub lan: LanId,
    /// Which life of the node: its `ProcessId`. A binding that outlived its node is detected by it.
    pub generation: u64,
}

impl Location {
    /// Encodes the record.
    #[must_use]
    pub fn emit(&self) -> [u8; LOCATION_LEN] {
        let mut o = [0; LOCATION_LEN];
        o[0..2].copy_from_slice(&self.cabinet.0.to_le_bytes());
        o[2..4].copy_from_slice(&self.node.0.to_le_bytes());
        o[4..8].copy_from_slice(&self.rvi.0.to_le_bytes());
        o[8] = self.channel.0;
        o[10..12].copy_from_slice(&self.vif.0.to_le_bytes());
        o[12..14].copy_from_slice(&self.lan.0.to_le_bytes());
        o[16..24].copy_from_slice(&self.generation.to_le_bytes());
        o
    }

    /// Reads a record; reserved octets are ignored.
    #[must_use]
    pub fn parse(o: &[u8; LOCATION_LEN]) -> Self {
        let u16_at = |i: usize| u16::from_le_bytes([o[i], o[i + 1]]);
        Self {
            cabinet: CabinetNumber(u16_at(0)),
            node: NodeNumber(u16_at(2)),
            rvi: RviNumber(u32::from_le_bytes([o[4], o[5], o[6], o[7]])),
            channel: Channel(o[8]),
            vif: VifNumber(u16_at(10)),
            lan: LanId(u16_at(12)),
            generation: u64::from_le_bytes([o[16], o[17], o[18], o[19], o[20], o[21], o[22], o[23]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_record_round_trips() {
        //= spec/tlv.md#location-record
        //= type=test
        //# A location record MUST hold cabinet, node, RVI number, channel, virtual interface, LAN and generation.
        let location = Location {
            cabinet: CabinetNumber(1),
            node: NodeNumber(0x0203),
            rvi: RviNumber(0x0405_0607),
            channel: Channel(8),
            vif: VifNumber(0x090a),
            lan: LanId(0x0b0c),
            generation: 0x0d0e_0f10_1112_1314,
        };
        assert_eq!(Location::parse(&location.emit()), location);
    }
}

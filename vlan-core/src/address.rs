//! The numbers and addresses that name things in the fabric.
//!
//! Bare integers do not cross a public boundary: each kind of number is a type of its own.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A virtual LAN, as the platform file numbers it; 1 to 65,535.
    LanId(u16)
}
number! {
    /// A cabinet; the first plan has one.
    CabinetNumber(u16)
}
number! {
    /// A processing node within its cabinet; 1 to 65,535. 0 stands for "a control node".
    NodeNumber(u16)
}
number! {
    /// A virtual interface of a node; unique in the node over all its LANs.
    VifNumber(u16)
}
number! {
    /// The 8-bit index of a stream in an association; 0 is the association's own control.
    Channel(u8)
}
number! {
    /// A reliable virtual interface (RVI), numbered by the control node that granted it.
    RviNumber(u32)
}
number! {
    /// One life of the association of two nodes, as its control node counts them; 0 stands for none yet.
    PairEpoch(u32)
}
number! {
    /// One path of an association; below 14 the number of the fabric it crosses (`spec/rvi.md`, Legs).
    LegNumber(u8)
}
number! {
    /// One of the platform's switch fabrics, by its place in the platform file.
    FabricIndex(u8)
}
number! {
    /// Part of every virtual MAC that a control node allocates (S25).
    ControlNodeSerial(u16)
}
number! {
    /// One life of a process, drawn at random when it starts; proven in the handshake of each of its legs.
    ProcessId(u64)
}
number! {
    /// The low 16 bits of the origin's [`ProcessId`], carried in relayed and group frames (amendment 22).
    BootTag(u16)
}

number! {
    /// One of the processes that share a station's MAC address on ether legs, as a UDP port is one of a host's.
    EtherPort(u32)
}

impl EtherPort {
    /// Ports from here on are control nodes', those below are nodes'.
    const CONTROL_NODES: u32 = 1 << 16;

    /// The port of a node: its number.
    //= spec/leg-ether.md#ports
    //# A node MUST have its number as port and a control node 65,536 and its serial.
    #[must_use]
    pub const fn of_node(number: NodeNumber) -> Self {
        Self(number.0 as u32)
    }

    /// The port of a control node.
    #[must_use]
    pub const fn of_control_node(serial: ControlNodeSerial) -> Self {
        Self(Self::CONTROL_NODES | serial.0 as u32)
    }

    /// True for the port of a control node, which nodes find without knowing its MAC address.
    #[must_use]
    pub const fn is_of_control_node(self) -> bool {
        self.0 >= Self::CONTROL_NODES
    }
}

impl Channel {
    /// The association's own control channel, also registration and management towards a control node.
    pub const CONTROL: Self = Self(0);
    /// Relayed packets and the copies of captures, between a node and a control node: the one that no virtual interface has.
    pub const RELAYED_PACKETS: Self = Self(255);
}

impl ProcessId {
    /// The part of this identity that travels in frame headers.
    #[must_use]
    pub const fn boot_tag(self) -> BootTag {
        BootTag((self.0 & 0xffff) as u16)
    }
}

/// A 48-bit IEEE 802 MAC address, in transmission order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// All ones: every station of the LAN (IEEE 802-2014, 8.2.2).
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The null address: never a station's.
    pub const NULL: Self = Self([0; 6]);

    /// Makes the virtual MAC with the given counter value: `02`, the control node's serial, 24 bits of count.
    ///
    /// Returns `None` when the counter does not fit in 24 bits.
    //= spec/control-node.md#virtual-mac-addresses
    //# A virtual MAC MUST be the octet 02, then the serial of the control node that allocated it in 16 bits,
    //# then a value of that control node's persistent counter in 24 bits.
    #[must_use]
    pub const fn from_counter(serial: ControlNodeSerial, counter: u32) -> Option<Self> {
        if counter >= 1 << 24 {
            return None;
        }
        let s = serial.0.to_be_bytes();
        let c = counter.to_be_bytes();
        Some(Self([0x02, s[0], s[1], c[1], c[2], c[3]]))
    }

    /// True for an address that [`Self::from_counter`] makes with this serial.
    #[inline]
    #[must_use]
    pub const fn is_from_counter(self, serial: ControlNodeSerial) -> bool {
        let s = serial.0.to_be_bytes();
        self.0[0] == 0x02 && self.0[1] == s[0] && self.0[2] == s[1]
    }

    /// Reads an address from the first six octets of `octets`; `None` when there are fewer.
    #[must_use]
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.first_chunk::<6>().map(|o| Self(*o))
    }

    /// True for broadcast and multicast addresses: the group bit is set.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for an address that one station may have: neither a group address nor null.
    #[must_use]
    pub const fn is_station(self) -> bool {
        !self.is_group() && (self.to_bits() != 0)
    }

    /// The address as a number: the first octet is the most significant of 48 bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let o = self.0;
        // Of two loads, where one of six octets would be put together one by one.
        (u32::from_be_bytes([o[0], o[1], o[2], o[3]]) as u64) << 16 | u16::from_be_bytes([o[4], o[5]]) as u64
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", o[0], o[1], o[2], o[3], o[4], o[5])
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where one end of an ether leg is: a station, and a process there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherAddress {
    /// The station.
    pub mac: MacAddress,
    /// The process.
    pub port: EtherPort,
}

impl EtherAddress {
    /// The group that control nodes with ether legs listen to: locally administered, "Weft" in its octets.
    pub const CONTROL_NODES: MacAddress = MacAddress([0x03, 0x57, 0x65, 0x66, 0x74, 0x01]);

    /// Where a control node hears a node that does not know its MAC address yet.
    #[must_use]
    pub const fn of_control_node(serial: ControlNodeSerial) -> Self {
        Self { mac: Self::CONTROL_NODES, port: EtherPort::of_control_node(serial) }
    }
}

impl fmt::Display for EtherAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mac, self.port)
    }
}

/// The text was not a MAC address of the form `02:00:01:00:00:2a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address is six pairs of hexadecimal digits joined by colons")
    }
}

impl core::error::Error for ParseMacError {}

impl core::str::FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_virtual_mac_is_local_unicast_and_holds_serial_and_counter() {
        //= spec/control-node.md#virtual-mac-addresses
        //= type=test
        //# A virtual MAC MUST be the octet 02, then the serial of the control node that allocated it in 16 bits,
        //# then a value of that control node's persistent counter in 24 bits.
        let mac = MacAddress::from_counter(ControlNodeSerial(0x0102), 0x03_0405).unwrap();
        assert_eq!(mac.to_string(), "02:01:02:03:04:05");
        assert!(mac.is_station());
        assert!(
            mac.is_from_counter(ControlNodeSerial(0x0102)) && !mac.is_from_counter(ControlNodeSerial(0x0103))
        );
        assert_eq!(MacAddress::from_counter(ControlNodeSerial(1), 1 << 24), None);
    }

    #[test]
    fn processes_of_one_station_have_ports_of_their_own() {
        //= spec/leg-ether.md#ports
        //= type=test
        //# A node MUST have its number as port and a control node 65,536 and its serial.
        let node = EtherPort::of_node(NodeNumber(u16::MAX));
        assert_eq!((node, node.is_of_control_node()), (EtherPort(65_535), false));
        let first = EtherAddress::of_control_node(ControlNodeSerial(1));
        assert_eq!((first.port, first.port.is_of_control_node()), (EtherPort(65_537), true));
        assert_eq!(first.to_string(), "03:57:65:66:74:01/65537");
        assert!(first.mac.is_group());
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let mac = MacAddress([0, 0x1b, 0xff, 3, 4, 5]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in ["", "02:00:01:00:00", "02:00:01:00:00:2a:01", "2:0:1:0:0:2a", "+2:00:01:00:00:2a"] {
            assert_eq!(bad.parse::<MacAddress>(), Err(ParseMacError), "{bad}");
        }
    }
}

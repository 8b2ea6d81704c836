//! The fields of control messages: how each kind is written and read. A type states its fields once, in their order
//! on the wire, and is written and read by the same list.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{
    BootTag, Channel, EtherPort, LanId, LegNumber, MacAddress, NodeNumber, PairEpoch, ProcessId, RviNumber,
    VifNumber,
};
use crate::key::{KEY_LEN, PublicKey, SecretKey};
use crate::location::{LOCATION_LEN, Location};
use crate::security::Rate;
use crate::wire::tlv::TlvError;

/// Octets of a text at most: its length is one octet.
pub(super) const TEXT_LEN_MAX: usize = 255;

/// Something that stands in a control message.
pub(super) trait Field: Sized {
    /// The octets it takes at least.
    const LEN_MIN: usize;

    /// Appends it.
    fn emit(&self, w: &mut Writer);

    /// Takes it from the front; fails when the octets run out or say what no such field says.
    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError>;
}

/// Implements [`Field`] for a struct: its fields in their order on the wire.
macro_rules! record {
    ($name:ident { $($field:ident: $kind:ty),+ $(,)? }) => {
        impl Field for $name {
            const LEN_MIN: usize = 0 $(+ <$kind as Field>::LEN_MIN)+;

            fn emit(&self, w: &mut Writer) {
                $(w.put(&self.$field);)+
            }

            fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
                Ok(Self { $($field: r.take::<$kind>()?),+ })
            }
        }
    };
}
pub(super) use record;

/// Appends fields.
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn put(&mut self, field: &impl Field) -> &mut Self {
        field.emit(self);
        self
    }

    pub fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.0.extend_from_slice(octets);
        self
    }
}

/// Takes fields from the front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take<T: Field>(&mut self) -> Result<T, TlvError> {
        T::parse(self)
    }

    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], TlvError> {
        let (field, rest) =
            self.0.split_first_chunk::<N>().ok_or(TlvError::Truncated { needed: N, len: self.0.len() })?;
        self.0 = rest;
        Ok(field)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], TlvError> {
        let (field, rest) =
            self.0.split_at_checked(len).ok_or(TlvError::Truncated { needed: len, len: self.0.len() })?;
        self.0 = rest;
        Ok(field)
    }
}

/// Little-endian numbers.
macro_rules! numbers {
    ($($name:ident),+) => { $(
        impl Field for $name {
            const LEN_MIN: usize = size_of::<$name>();

            fn emit(&self, w: &mut Writer) {
                w.octets(&self.to_le_bytes());
            }

            fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
                r.array().map(|octets| Self::from_le_bytes(*octets))
            }
        }
    )+ };
}
numbers!(u8, u16, u32, u64);

/// Numbers that are types of their own.
macro_rules! named_numbers {
    ($($name:ident($inner:ident)),+ $(,)?) => { $(
        impl Field for $name {
            const LEN_MIN: usize = size_of::<$inner>();

            fn emit(&self, w: &mut Writer) {
                w.put(&self.0);
            }

            fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
                r.take().map(Self)
            }
        }
    )+ };
}
named_numbers!(
    BootTag(u16),
    Channel(u8),
    EtherPort(u32),
    LanId(u16),
    LegNumber(u8),
    NodeNumber(u16),
    PairEpoch(u32),
    ProcessId(u64),
    RviNumber(u32),
    VifNumber(u16),
);

/// One octet, 0 or 1.
impl Field for bool {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&u8::from(*self));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(TlvError::BadField { field: "boolean" }),
        }
    }
}

/// Frames, then bits a second, 0 for any number.
impl Field for Rate {
    const LEN_MIN: usize = 16;

    fn emit(&self, w: &mut Writer) {
        w.put(&self.frames.unwrap_or(0)).put(&self.bits.unwrap_or(0));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        let mut some = || r.take::<u64>().map(|rate| (rate > 0).then_some(rate));
        Ok(Self { frames: some()?, bits: some()? })
    }
}

impl Field for MacAddress {
    const LEN_MIN: usize = 6;

    fn emit(&self, w: &mut Writer) {
        w.octets(&self.0);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        r.array().map(|octets| Self(*octets))
    }
}

impl Field for PublicKey {
    const LEN_MIN: usize = KEY_LEN;

    fn emit(&self, w: &mut Writer) {
        w.octets(&self.0);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        r.array().map(|octets| Self(*octets))
    }
}

impl Field for SecretKey {
    const LEN_MIN: usize = KEY_LEN;

    fn emit(&self, w: &mut Writer) {
        w.octets(self.octets());
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        r.array::<KEY_LEN>().map(|octets| Self::filled(|key| key.copy_from_slice(octets)))
    }
}

/// 4 or 6, then the address in network order.
impl Field for IpAddr {
    const LEN_MIN: usize = 5;

    fn emit(&self, w: &mut Writer) {
        match self {
            Self::V4(address) => w.put(&4_u8).octets(&address.octets()),
            Self::V6(address) => w.put(&6_u8).octets(&address.octets()),
        };
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            4 => r.array::<4>().map(|octets| Self::V4(Ipv4Addr::from(*octets))),
            6 => r.array::<16>().map(|octets| Self::V6(Ipv6Addr::from(*octets))),
            _ => Err(TlvError::BadField { field: "address family" }),
        }
    }
}

impl Field for Location {
    const LEN_MIN: usize = LOCATION_LEN;

    fn emit(&self, w: &mut Writer) {
        w.octets(&self.emit());
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        r.array().map(Self::parse)
    }
}

/// A length u8 and the text, cut at [`TEXT_LEN_MAX`] octets.
impl Field for String {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        let end = self.floor_char_boundary(TEXT_LEN_MAX);
        w.put(&(end as u8)).octets(&self.as_bytes()[..end]);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        let len = usize::from(r.take::<u8>()?);
        let text = core::str::from_utf8(r.slice(len)?);
        text.map(Self::from).map_err(|_| TlvError::BadField { field: "text" })
    }
}

/// A count u16 and the items. The count is checked against what is left first: no count makes us allocate more than
/// the message itself could hold.
impl<T: Field> Field for Vec<T> {
    const LEN_MIN: usize = 2;

    fn emit(&self, w: &mut Writer) {
        // More would not fit into any message, which `ControlMessage::emit` asserts.
        w.put(&(self.len() as u16));
        for item in self {
            w.put(item);
        }
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        let count = usize::from(r.take::<u16>()?);
        let needed = count * T::LEN_MIN;
        if needed > r.0.len() {
            return Err(TlvError::Truncated { needed, len: r.0.len() });
        }
        let mut items = Self::with_capacity(count);
        for _ in 0..count {
            items.push(r.take()?);
        }
        Ok(items)
    }
}

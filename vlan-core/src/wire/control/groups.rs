//! Multicast groups: what an interface wants of them, and what a LAN does with them.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::fields::{Field, Reader, Writer, record};
use crate::address::VifNumber;
use crate::wire::tlv::TlvError;

/// How a driver knows that a group is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupCause {
    /// The interface's own stack has joined it.
    Own = 1,
    /// A report of IGMP or MLD came from the interface: the stack's own, or of a host behind it.
    Reported = 2,
    /// Both.
    Both = 3,
}

impl Field for GroupCause {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::Own),
            2 => Ok(Self::Reported),
            3 => Ok(Self::Both),
            _ => Err(TlvError::BadField { field: "cause of a membership" }),
        }
    }
}

/// A group that has been joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// The group's address.
    pub group: IpAddr,
    /// How the driver knows.
    pub cause: GroupCause,
}

record!(JoinedGroup { group: IpAddr, cause: GroupCause });

/// What an interface wants of multicast, as far as it has changed (S111).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNotice {
    /// The interface.
    pub vif: VifNumber,
    /// Another notice follows at once: what the interface wants is not complete yet.
    pub more: bool,
    /// It wants every group.
    pub every_group: bool,
    /// Groups joined, or joined for another cause.
    pub joined: Vec<JoinedGroup>,
    /// Groups left.
    pub left: Vec<IpAddr>,
}

record!(GroupNotice {
    vif: VifNumber,
    more: bool,
    every_group: bool,
    joined: Vec<JoinedGroup>,
    left: Vec<IpAddr>,
});

/// What a LAN does with multicast at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPolicy {
    /// The interface.
    pub vif: VifNumber,
    /// Frames of a group go to those who have joined it; else to everybody.
    pub snoops: bool,
    /// The address that queries of IGMP come from.
    pub querier: IpAddr,
}

record!(GroupPolicy { vif: VifNumber, snoops: bool, querier: IpAddr });

//! Senders: what a receiver of direct frames judges them by.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::fields::{Field, Reader, Writer, record};
use crate::address::{LanId, NodeNumber, VifNumber};
use crate::security::{PortSecurity, Rate};
use crate::wire::tlv::TlvError;

impl Field for PortSecurity {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            0 => Ok(Self::Off),
            1 => Ok(Self::Mac),
            2 => Ok(Self::Address),
            _ => Err(TlvError::BadField { field: "port security" }),
        }
    }
}

/// What an interface may send to those with a direct RVI to it, in place of what was said before (E12, E13).
///
/// Of an interface of which nothing was said: from no address where addresses are checked, in no role, as much as it
/// likes, and with its own MAC alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderNotice {
    /// The LAN.
    pub lan: LanId,
    /// The node that sends.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// It may answer DHCP.
    pub dhcp_server: bool,
    /// It may send router advertisements, and packets from any address.
    pub router: bool,
    /// How many further stations may be behind it.
    pub learn: u16,
    /// How much it may send.
    pub total: Rate,
    /// Its addresses, where they are checked.
    pub addresses: Vec<IpAddr>,
}

record!(SenderNotice {
    lan: LanId,
    node: NodeNumber,
    vif: VifNumber,
    dhcp_server: bool,
    router: bool,
    learn: u16,
    total: Rate,
    addresses: Vec<IpAddr>,
});

/// How much an interface may send to groups, in place of what was said before (E13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// The interface.
    pub vif: VifNumber,
    /// To everybody.
    pub broadcast: Rate,
    /// To other groups.
    pub multicast: Rate,
}

record!(GroupLimits { vif: VifNumber, broadcast: Rate, multicast: Rate });

//! Port security: what the sender of a frame may claim to be, wherever that is checked.
//!
//! | file | is |
//! |---|---|
//! | `claims.rs` | what a frame says of its sender |
//! | `learned.rs` | further stations behind it |
//! | `own_addresses.rs` | the IP addresses of an interface |
//! | `rate.rs` | how much it may send |
//!
//! The control node asks for group and relayed frames, and the receiver's driver for frames of a direct RVI: a sender
//! whose tenant is root cannot be asked.

pub mod claims;
pub mod learned;
pub mod own_addresses;
pub mod rate;

use core::net::IpAddr;

use crate::drop_reason::DropReason;
use claims::{Claims, Speaker};
pub use own_addresses::OwnAddresses;
pub use rate::{Limits, Rate};

/// Which sources of a LAN's members are checked (E12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PortSecurity {
    /// None: any station address may be a source.
    Off = 0,
    /// The source MAC must be the interface's own.
    #[default]
    Mac = 1,
    /// The source MAC and the IP addresses must be the interface's own.
    Address = 2,
}

/// What an interface may be on its LAN, beside a plain member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// It may answer DHCP.
    pub dhcp_server: bool,
    /// It may send router advertisements and redirects.
    pub router: bool,
}

/// What is known of a sender, to judge its frames by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// What it may be.
    pub roles: Roles,
    /// The addresses that it may speak for.
    pub own: OwnAddresses,
}

impl Sender {
    /// True for a frame that makes no claim but its source, with a source that is its sender's where that is checked: what
    /// nearly every frame is. False says nothing: [`Self::check`] tells.
    #[inline]
    #[must_use]
    pub fn is_plain(&self, security: PortSecurity, frame: &[u8]) -> bool {
        claims::is_plain(frame) && (security != PortSecurity::Address || self.is_own_source(frame))
    }

    /// Whether a frame has a source that its sender may use where addresses are checked, if it is a plain one.
    #[inline]
    #[must_use]
    pub fn is_own_source(&self, frame: &[u8]) -> bool {
        self.roles.router || claims::plain_source(frame).is_some_and(|source| self.own.contains(source))
    }

    /// Checks what a frame of this sender claims; `frame` holds the first octets of `frame_len`. Gives the address that its
    /// sender wants to have and has not, which the caller judges.
    ///
    /// # Errors
    /// With the reason why the frame is to be dropped.
    pub fn check(
        &self,
        security: PortSecurity,
        frame: &[u8],
        frame_len: usize,
    ) -> Result<Option<IpAddr>, DropReason> {
        if security == PortSecurity::Off {
            return Ok(None);
        }
        let claims = claims::read(frame, frame_len)?;
        self.check_role(&claims)?;
        if security == PortSecurity::Mac {
            return Ok(None);
        }
        self.check_addresses(&claims)?;
        Ok(claims.wants.filter(|wanted| !self.own.contains(*wanted)))
    }

    //= spec/port-security.md#dhcp-servers
    //# Under port security a message that goes from a port of DHCP servers or to one of DHCP clients MUST be discarded
    //# when its sender has not the role of a DHCP server.
    //= spec/port-security.md#routers
    //# Under port security a router advertisement or redirect MUST be discarded when its sender has not the role of a
    //# router.
    fn check_role(&self, claims: &Claims) -> Result<(), DropReason> {
        match claims.speaker {
            Speaker::DhcpServer if !self.roles.dhcp_server => Err(DropReason::DhcpGuard),
            Speaker::Router if !self.roles.router => Err(DropReason::RaGuard),
            _ => Ok(()),
        }
    }

    //= spec/port-security.md#addresses
    //# Under port security `address` a frame MUST be discarded whose IP source, ARP sender or advertised neighbour is not
    //# an address of the sending interface.
    //= spec/port-security.md#routed-packets
    //# A member with the role of a router MAY send IP packets from any address but ARP and ND from its own alone.
    fn check_addresses(&self, claims: &Claims) -> Result<(), DropReason> {
        if self.roles.router && !claims.is_resolution {
            return Ok(());
        }
        let is_own = |address: Option<IpAddr>| address.is_none_or(|address| self.own.contains(address));
        //= spec/port-security.md#senders-without-an-address
        //# Under port security `address` a frame from no address MUST be discarded unless it is a probe for an address, a
        //# router solicitation, a membership report or a message of a DHCP client.
        let is_nobody = claims.is_addressed && claims.source.is_none();
        if is_nobody && claims.speaker != Speaker::Unnumbered {
            return Err(DropReason::SourceAddress);
        }
        if is_own(claims.source) && is_own(claims.states) { Ok(()) } else { Err(DropReason::SourceAddress) }
    }
}

#[cfg(test)]
mod tests;

//! Clusters: what an interface serves, which flows it owns, and whether something listens there.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::fields::{Field, Reader, Writer, record};
use crate::address::VifNumber;
use crate::cluster::{Flow, Protocol, ServiceKey};
use crate::wire::tlv::TlvError;

impl Field for Protocol {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        Self::from_number(r.take::<u8>()?).ok_or(TlvError::BadField { field: "protocol" })
    }
}

/// A service that an interface serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedService {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
    /// Its flows stay with a server, who claims them.
    pub is_kept: bool,
}

impl ServedService {
    /// Which service it is.
    #[must_use]
    pub const fn key(&self) -> ServiceKey {
        ServiceKey { protocol: self.protocol, port: self.port }
    }
}

/// A cluster as one of its real servers knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedCluster {
    /// Its addresses, which are to be on the loopback.
    pub addresses: Vec<IpAddr>,
    /// What this interface serves there.
    pub services: Vec<ServedService>,
}

/// Flows that an interface speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowNotice {
    /// The interface.
    pub vif: VifNumber,
    /// The flows.
    pub flows: Vec<Flow>,
}

/// Whether something listens at a service of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The first address of the cluster.
    pub address: IpAddr,
    /// The service's protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
    /// Something does.
    pub listens: bool,
}

/// What has changed about who listens at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningNotice {
    /// The interface.
    pub vif: VifNumber,
    /// The services.
    pub services: Vec<Listening>,
}

record!(ServedService { protocol: Protocol, port: u16, is_kept: bool });
record!(ServedCluster { addresses: Vec<IpAddr>, services: Vec<ServedService> });
record!(Flow { protocol: Protocol, client: IpAddr, client_port: u16, address: IpAddr, port: u16 });
record!(FlowNotice { vif: VifNumber, flows: Vec<Flow> });
record!(Listening { address: IpAddr, protocol: Protocol, port: u16, listens: bool });
record!(ListeningNotice { vif: VifNumber, services: Vec<Listening> });

//! Clusters: what an interface serves, which flows it owns, whether something listens there, and whether it answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::fields::{Field, Reader, Writer, record};
use crate::address::VifNumber;
use crate::cluster::{CheckKind, CheckResult, Flow, Protocol, ServiceKey, is_check_path};
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

/// A service of TCP is to be checked where an interface serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOrder {
    /// The interface.
    pub vif: VifNumber,
    /// Number of the check among those of this service there.
    pub id: u32,
    /// The cluster's address.
    pub address: IpAddr,
    /// The service's port.
    pub port: u16,
    /// How long it may take, in milliseconds.
    pub within_ms: u32,
    /// How it asks.
    pub kind: CheckKind,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The interface, as in the order.
    pub vif: VifNumber,
    /// The order's number.
    pub id: u32,
    /// The order's address.
    pub address: IpAddr,
    /// The order's port.
    pub port: u16,
    /// What came of it.
    pub result: CheckResult,
}

impl Field for CheckKind {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        match self {
            Self::Tcp => w.put(&1u8),
            Self::Http { path } => w.put(&2u8).put(path),
        };
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::Tcp),
            2 => {
                let path = r.take::<String>()?;
                if is_check_path(&path) { Ok(Self::Http { path }) } else { bad("path of a check") }
            }
            _ => bad("kind of check"),
        }
    }
}

impl Field for CheckResult {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        match self {
            Self::Passed => w.put(&0u8),
            Self::Refused => w.put(&1u8),
            Self::Silent => w.put(&2u8),
            Self::NotHttp => w.put(&3u8),
            Self::Status(status) => w.put(&4u8).put(status),
            Self::NotTried => w.put(&5u8),
        };
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        Ok(match r.take::<u8>()? {
            0 => Self::Passed,
            1 => Self::Refused,
            2 => Self::Silent,
            3 => Self::NotHttp,
            4 => Self::Status(r.take()?),
            5 => Self::NotTried,
            _ => return bad("result of a check"),
        })
    }
}

fn bad<T>(field: &'static str) -> Result<T, TlvError> {
    Err(TlvError::BadField { field })
}

record!(CheckOrder { vif: VifNumber, id: u32, address: IpAddr, port: u16, within_ms: u32, kind: CheckKind });
record!(Checked { vif: VifNumber, id: u32, address: IpAddr, port: u16, result: CheckResult });
record!(ServedService { protocol: Protocol, port: u16, is_kept: bool });
record!(ServedCluster { addresses: Vec<IpAddr>, services: Vec<ServedService> });
record!(Flow { protocol: Protocol, client: IpAddr, client_port: u16, address: IpAddr, port: u16 });
record!(FlowNotice { vif: VifNumber, flows: Vec<Flow> });
record!(Listening { address: IpAddr, protocol: Protocol, port: u16, listens: bool });
record!(ListeningNotice { vif: VifNumber, services: Vec<Listening> });

//! Services at cluster addresses, as the platform file, control nodes and drivers speak of them.

mod flow_set;
mod served;

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use crate::address::NodeNumber;
use crate::ip::{TCP, UDP};

pub use served::{FLOWS_MAX, News, Served, addresses_of};

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = TCP,
    /// UDP.
    Udp = UDP,
}

impl Protocol {
    /// The protocol with this number in an IP header.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Which service of a cluster (S135).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.protocol, self.port)
    }
}

/// Who gets what comes from outside for nobody (S126).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultRouter {
    /// The member on a node.
    Node(NodeNumber),
    /// The routers of the cluster with this address.
    Cluster(IpAddr),
}

/// How a service chooses a server for a new flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// By a hash of the flow.
    #[default]
    Hash,
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest flows for its weight.
    LeastConnections,
    /// By a hash for each packet, without any memory (clusters of routers).
    PerPacket,
}

/// Does a client stay with its server?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// Each flow is chosen for itself.
    #[default]
    None,
    /// All flows of a client address go to one server.
    Client,
}

/// How a service is checked, beyond whether something listens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection succeeds.
    Tcp,
    /// An HTTP request for this path is answered with 2xx or 3xx.
    Http {
        /// The path: begins with `/`, visible ASCII, 255 octets at most.
        path: String,
    },
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The service does what it was asked.
    Passed,
    /// There is no connection, and the server's kernel says so.
    Refused,
    /// Nothing came in time.
    Silent,
    /// What came is no HTTP.
    NotHttp,
    /// This HTTP status, which is not from 200 to 399.
    Status(u16),
    /// The node has no room for another check, or the cluster's address is not there.
    NotTried,
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Refused => f.write_str("connection refused"),
            Self::Silent => f.write_str("no answer in time"),
            Self::NotHttp => f.write_str("no answer of HTTP"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::NotTried => f.write_str("not tried: too many at once, or the address is not there"),
        }
    }
}

/// True for what an HTTP check may ask for; nothing in it can end the request's line.
#[must_use]
pub fn is_check_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|octet| octet.is_ascii_graphic())
}

/// What a client sends from one address and port to a service at one of the cluster's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The cluster address.
    pub address: IpAddr,
    /// The service's port.
    pub port: u16,
}

impl Flow {
    /// The service that it is for.
    #[must_use]
    pub const fn service(&self) -> ServiceKey {
        ServiceKey { protocol: self.protocol, port: self.port }
    }
}

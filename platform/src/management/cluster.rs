//! Clusters, as `switchctl clusters`, `drain` and `undrain` speak of them.

use serde::{Deserialize, Serialize};

/// Addresses of a LAN that several members serve: `GET /v1/clusters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Name of the LAN.
    pub lan: String,
    /// Its IP addresses.
    pub addresses: Vec<String>,
    /// The MAC address of each.
    pub macs: Vec<String>,
    /// What is served there.
    pub services: Vec<ClusterService>,
    /// Packets that came for it.
    pub packets: u64,
    /// Octets of them.
    pub octets: u64,
    /// Packets that went to a server.
    pub forwarded: u64,
    /// Packets that went to every server, for the owner of their flow.
    pub asked: u64,
    /// Echo requests that were answered.
    pub answered: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Servers that were chosen for new flows.
    pub chosen: u64,
    /// Flows that were claimed.
    pub claims: u64,
    /// Claims of flows that another server owns.
    pub conflicts: u64,
    /// Claims that were refused for other reasons.
    pub refused: u64,
    /// Packets a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<u64>,
    /// Octets a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets_per_second: Option<u64>,
    /// New flows a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_per_second: Option<u64>,
}

/// One service of a cluster, or its routers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterService {
    /// `tcp` or `udp`; `route` for what goes to the cluster's routers.
    pub protocol: String,
    /// Its port; 0 for routers.
    pub port: u16,
    /// `hash`, `round-robin`, `least-connections` or `per-packet`.
    pub balance: String,
    /// `none` or `client`.
    pub sticky: String,
    /// Packets of it that went to a server.
    pub packets: u64,
    /// Octets of them.
    pub octets: u64,
    /// Servers that were chosen for new flows.
    pub chosen: u64,
    /// Packets that several servers were asked about, for the owner of their flow.
    pub asked: u64,
    /// Packets for which there was no server.
    pub no_server: u64,
    /// Claims of its flows that were refused, for whatever reason.
    pub refused: u64,
    /// Its real servers.
    pub servers: Vec<ClusterServer>,
}

/// A real server of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterServer {
    /// Name of its node.
    pub node: String,
    /// Its share.
    pub weight: u16,
    /// `up`: it gets new flows; `draining`; `away`: its node is not attached; `down`: nothing listens there, or it fails its check.
    pub health: String,
    /// `none`: it is not checked; `passes`; or `fails`. When hardly any server passes, checks do not count, and it may be `up` all the same.
    pub check: String,
    /// Why it failed its check last; only while it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_failure: Option<String>,
    /// Flows of the cluster that it owns.
    pub flows: u32,
    /// Packets of the service that it was given.
    pub packets: u64,
    /// Octets of them.
    pub octets: u64,
    /// New flows of the service that it was chosen for.
    pub chosen: u64,
    /// Packets a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<u64>,
    /// Octets a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets_per_second: Option<u64>,
    /// New flows a second; only where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_per_second: Option<u64>,
}

/// The servers on a node are to get no new flows, or to get them again: body of `POST /v1/drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Name of the node.
    pub node: String,
    /// No new flows, or new flows again.
    pub drains: bool,
    /// Milliseconds after which it loses the flows that it has; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// What came of it: answer to `POST /v1/drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainAnswer {
    /// Services that the node serves.
    pub services: u32,
    /// Flows that it has.
    pub flows: u32,
}

//! `[[lan.cluster]]`: addresses that several members of a LAN serve together.

use std::time::Duration;

use vlan_core::cluster::is_check_path;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;

use crate::model::{Balance, Check, CheckKind, Cluster, ClusterServer, Lan, Protocol, Service, Sticky};
use crate::reader::{Reader, Table, Value};
use crate::registry::Kind;
use crate::sections::Known;
use crate::sections::member::{read_node_reference, require_member};
use crate::value;

/// Clusters of one LAN: what a member is told of those that it serves fits into one message.
const CLUSTERS_MAX: usize = 16;
/// Addresses of one cluster: each packet is held against all of them.
const ADDRESSES_MAX: usize = 16;
/// Services of one cluster; each has a table of 256 KiB.
const SERVICES_MAX: usize = 64;
/// Real servers of one service: a choice among all of them takes microseconds.
const SERVERS_MAX: usize = 256;
/// Between two checks of a server.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Octets of the path that a check asks for: a text of a control message.
const CHECK_PATH_LEN_MAX: usize = 255;

/// Reads one `[[lan.cluster]]`; `scope` is the LAN's place in the file.
//= spec/platform-file.md#cluster-addresses
//# A cluster address MUST be no address of a member, an outside host or another cluster of the LAN, and lie in a
//# subnet of the LAN.
pub(super) fn read_cluster(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    lan: &Lan,
    known: &Known,
    scope: usize,
) -> Cluster {
    let (addresses, services, routers) = (Vec::new(), Vec::new(), Vec::new());
    let (offset, mut cluster) = (table.offset, Cluster { addresses, services, routers });
    at_most(reader, offset, lan.clusters.len() + 1, CLUSTERS_MAX, "clusters");
    if let Some(value) = table.required(reader, "address", "\"10.1.0.100\"") {
        for (text, offset) in value.strings(reader) {
            let Some(address) = reader.accept(offset, value::station_address(text)) else { continue };
            reader.claim(Kind::Address, scope, address.to_string(), offset);
            let mut subnets = lan.members.iter().flat_map(|m| &m.addresses);
            if !subnets.any(|subnet| value::in_subnet(subnet, address)) {
                reader.mistake(
                    offset,
                    format!("the cluster address {address} is in no subnet of LAN {:?}", lan.name),
                    "choose an address of a subnet in which members have addresses",
                );
            }
            cluster.addresses.push(address);
        }
        at_most(reader, value.offset, cluster.addresses.len(), ADDRESSES_MAX, "addresses");
    }
    let routers = table.optional("routers");
    cluster.routers =
        routers.map(|value| read_servers(reader, value, lan, known, "routers")).unwrap_or_default();
    let services = match routers {
        Some(_) => table.optional("service"),
        None => table.required(reader, "service", "a section [[lan.cluster.service]], or `routers`"),
    };
    let mut ports = Vec::new();
    for table in services.map(|v| v.tables(reader, "[[lan.cluster.service]]")).unwrap_or_default() {
        let service = read_service(reader, table, lan, known, &mut ports);
        cluster.services.push(service);
    }
    at_most(reader, offset, cluster.services.len(), SERVICES_MAX, "services");
    check_members(reader, offset, lan, &cluster);
    table.finish(reader);
    cluster
}

//= spec/platform-file.md#bounds-of-clusters
//# A LAN MUST have 16 clusters at most, a cluster 16 addresses and 64 services, and a service 256 servers.
fn at_most(reader: &mut Reader<'_>, offset: usize, count: usize, most: usize, what: &str) {
    if count == most + 1 {
        let hint = "make it less, or two LANs or clusters of it";
        reader.mistake(offset, format!("there are more than {most} {what}"), hint);
    }
}

/// What a member may send from is kept in tables of fixed size.
//= spec/platform-file.md#addresses-of-servers
//# An interface MUST have 64 addresses at most, aliases and the addresses of the clusters that it serves included.
fn check_members(reader: &mut Reader<'_>, offset: usize, lan: &Lan, cluster: &Cluster) {
    for member in lan.members.iter().filter(|member| cluster.is_served_by(member.node)) {
        let others = lan.clusters.iter().filter(|other| other.is_served_by(member.node));
        let served: usize = others.chain([cluster]).map(|cluster| cluster.addresses.len()).sum();
        let before = member.addresses.len() + member.aliases.len();
        if before + served > ADDRESSES_PER_VIF_MAX {
            reader.mistake(
                offset,
                format!(
                    "a server of it would have {} addresses, with its own and those of its clusters",
                    before + served
                ),
                format!("an interface has at most {ADDRESSES_PER_VIF_MAX}: serve fewer, or by other nodes"),
            );
            return;
        }
    }
}

fn read_service(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    lan: &Lan,
    known: &Known,
    ports: &mut Vec<(Protocol, u16)>,
) -> Service {
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let protocol = table.required(reader, "protocol", "\"tcp\"").and_then(|v| v.choice(reader, &protocols));
    let port_value = table.required(reader, "port", "80");
    let port = port_value.and_then(|v| v.integer16(reader, 1..=u16::MAX));
    if let (Some(protocol), Some(port), Some(value)) = (protocol, port, port_value) {
        if ports.contains(&(protocol, port)) {
            reader.mistake(
                value.offset,
                format!("the cluster serves port {port} of this protocol twice"),
                "give one service all its servers, or another port",
            );
        }
        ports.push((protocol, port));
    }
    let balances = [
        ("hash", Balance::Hash),
        ("round-robin", Balance::RoundRobin),
        ("least-connections", Balance::LeastConnections),
        ("per-packet", Balance::PerPacket),
    ];
    let balance = table.optional("balance").and_then(|v| v.choice(reader, &balances)).unwrap_or_default();
    let stickies = [("none", Sticky::None), ("client", Sticky::Client)];
    let sticky = table.optional("sticky").and_then(|v| v.choice(reader, &stickies)).unwrap_or_default();
    let servers = table.required(reader, "servers", "[{ node = \"web1\" }]");
    let servers = servers.map(|value| read_servers(reader, value, lan, known, "servers"));
    let check = table.optional("check").and_then(|v| read_check(reader, v, protocol));
    table.finish(reader);
    Service {
        protocol: protocol.unwrap_or(Protocol::Tcp),
        port: port.unwrap_or(0),
        balance,
        sticky,
        servers: servers.unwrap_or_default(),
        check,
    }
}

/// `what` is the key: `servers` of a service, or `routers` of the cluster.
//= spec/platform-file.md#routers-of-clusters
//# The routers of a cluster MUST be members of its LAN, each once, and 256 at most; a cluster without routers MUST have a service.
fn read_servers(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    lan: &Lan,
    known: &Known,
    what: &'static str,
) -> Vec<ClusterServer> {
    let mut servers: Vec<ClusterServer> = Vec::new();
    let tables = value.tables(reader, what);
    if tables.is_empty() && value.is_list() {
        reader.mistake(value.offset, format!("there are no {what}"), "add one: { node = \"web1\" }");
    }
    at_most(reader, value.offset, tables.len(), SERVERS_MAX, what);
    for mut table in tables {
        let node_value = table.required(reader, "node", "\"web1\"");
        let node = node_value.and_then(|v| read_node_reference(reader, v, known));
        // A share above 256 times another's is no balance, and the row tables could not show it.
        let weight = table.optional("weight").and_then(|v| v.integer16(reader, 1..=256)).unwrap_or(1);
        table.finish(reader);
        let Some((value, node)) = node_value.zip(node) else { continue };
        require_member(reader, value, node, lan);
        if servers.iter().any(|s| s.node == node) {
            reader.mistake(
                value.offset,
                format!("this node is among the {what} twice"),
                "remove one, or give it a `weight`",
            );
        }
        servers.push(ClusterServer { node, weight });
    }
    servers
}

//= spec/platform-file.md#health-checks
//# A health check MUST be of a service of TCP, come every 100 ms at most, and ask for a path of 255 octets at most.
fn read_check(reader: &mut Reader<'_>, value: Value<'_>, protocol: Option<Protocol>) -> Option<Check> {
    let mut table = value.table(reader, "check")?;
    if protocol == Some(Protocol::Udp) {
        reader.mistake(
            value.offset,
            "a service of UDP has a check, and a datagram that nobody answers says nothing",
            "remove `check`: a server whose port closes gets no new flows without it",
        );
    }
    let kinds = [("tcp", false), ("http", true)];
    let http =
        table.required(reader, "kind", "\"tcp\"").and_then(|v| v.choice(reader, &kinds)).unwrap_or(false);
    let kind = if http { read_http(reader, &mut table) } else { CheckKind::Tcp };
    let interval = table.optional("interval").and_then(|value| {
        let text = value.string(reader)?;
        let interval = reader.accept(value.offset, value::duration(text))?;
        if interval < CHECK_INTERVAL_MIN {
            reader.mistake(value.offset, format!("a check every {text} is too often"), "write 100ms or more");
        }
        Some(interval)
    });
    let mut count = |key| table.optional(key).and_then(|v| v.integer16(reader, 1..=100));
    let (fall, rise) = (count("fall"), count("rise"));
    table.finish(reader);
    Some(Check {
        kind,
        // The defaults are those of the file's description: three failures in as many seconds.
        interval: interval.unwrap_or(Duration::from_secs(1)),
        fall: fall.unwrap_or(3),
        rise: rise.unwrap_or(2),
    })
}

fn read_http(reader: &mut Reader<'_>, table: &mut Table<'_>) -> CheckKind {
    let path = table.optional("path").and_then(|value| {
        let text = value.string(reader)?;
        if !is_check_path(text) {
            reader.mistake(value.offset, format!("{text:?} is not the path of a URL"), "write it as /health");
        } else if text.len() > CHECK_PATH_LEN_MAX {
            let hint = "give the check a shorter path of its own";
            reader.mistake(value.offset, format!("the path has {} octets", text.len()), hint);
        }
        Some(text.to_owned())
    });
    CheckKind::Http { path: path.unwrap_or_else(|| "/".into()) }
}

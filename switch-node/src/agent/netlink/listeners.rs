//! What listens in a namespace, as the kernel lists it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vlan_core::cluster::{Protocol, ServiceKey, addresses_of};
use vlan_core::wire::control::{Listening, ServedCluster, ServedService};

use crate::agent::namespace::Namespace;

/// How the lists write a TCP socket that listens; these come before all others (`tcp_seq_start`).
const LISTENS: &str = "0A";
/// And a UDP socket without a peer.
const UNCONNECTED: &str = "07";

/// A socket that waits for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it waits; unspecified is everywhere, also for IPv4 where it is of IPv6.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The lists of one namespace.
pub struct Listeners(Vec<(Protocol, File)>);

impl Listeners {
    /// Opens the lists of `namespace`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(namespace: &Namespace) -> io::Result<Self> {
        // A list stays that of the namespace it was opened in. Those of IPv6 may be missing.
        namespace.run(|| {
            let open = |protocol, name| Ok((protocol, File::open(format!("/proc/thread-self/net/{name}"))?));
            let of_ipv4: [io::Result<_>; 2] = [open(Protocol::Tcp, "tcp"), open(Protocol::Udp, "udp")];
            let of_ipv6: [io::Result<_>; 2] = [open(Protocol::Tcp, "tcp6"), open(Protocol::Udp, "udp6")];
            let mut lists = of_ipv4.into_iter().collect::<io::Result<Vec<_>>>()?;
            lists.extend(of_ipv6.into_iter().flatten());
            Ok(Self(lists))
        })
    }

    /// The sockets that wait for anybody and may serve one of these clusters, each kind once: whatever else there is costs no memory.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, clusters: &[ServedCluster]) -> io::Result<BTreeSet<Listener>> {
        let served = Served::of(clusters);
        let mut all = BTreeSet::new();
        for (protocol, list) in &mut self.0 {
            list.seek(SeekFrom::Start(0))?;
            read_list(*protocol, BufReader::new(list), &served, &mut all)?;
        }
        Ok(all)
    }
}

/// What sockets are looked for.
struct Served {
    addresses: BTreeSet<IpAddr>,
    services: BTreeSet<ServiceKey>,
}

impl Served {
    fn of(clusters: &[ServedCluster]) -> Self {
        let services = clusters.iter().flat_map(|cluster| &cluster.services);
        Self {
            addresses: addresses_of(clusters).collect(),
            services: services.map(ServedService::key).collect(),
        }
    }

    fn matters(&self, listener: &Listener) -> bool {
        let key = ServiceKey { protocol: listener.protocol, port: listener.port };
        self.services.contains(&key)
            && (listener.address.is_unspecified() || self.addresses.contains(&listener.address))
    }
}

/// What `listeners` mean for the services of clusters.
#[must_use]
pub fn listening(clusters: &[ServedCluster], listeners: &BTreeSet<Listener>) -> Vec<Listening> {
    let of_cluster = |cluster: &ServedCluster| {
        let addresses = cluster.addresses.clone();
        let first = addresses.first().copied();
        let waits = move |listener: &Listener| {
            addresses.iter().any(|address| {
                let is_everywhere =
                    listener.address.is_unspecified() && (listener.address.is_ipv6() || address.is_ipv4());
                is_everywhere || listener.address == *address
            })
        };
        let services = cluster.services.iter().filter_map(|service| {
            let is_it = |l: &&Listener| (l.protocol, l.port) == (service.protocol, service.port);
            let listens = listeners.iter().filter(is_it).any(&waits);
            Some(Listening { address: first?, protocol: service.protocol, port: service.port, listens })
        });
        services.collect::<Vec<_>>()
    };
    clusters.iter().flat_map(of_cluster).collect()
}

/// A line for each socket: its number, its own address and port, the peer's, its state.
fn read_list(
    protocol: Protocol,
    list: impl BufRead,
    served: &Served,
    all: &mut BTreeSet<Listener>,
) -> io::Result<()> {
    let waits = if protocol == Protocol::Tcp { LISTENS } else { UNCONNECTED };
    for line in list.lines().skip(1) {
        let line = line?;
        let mut words = line.split_whitespace().skip(1);
        let (Some(own), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        if state == waits {
            let listener = parse(own).map(|(address, port)| Listener { protocol, address, port });
            all.extend(listener.filter(|listener| served.matters(listener)));
        } else if protocol == Protocol::Tcp {
            break;
        }
    }
    Ok(())
}

/// Words of 32 bits in hexadecimal digits, as the machine reads their octets as numbers; then the port.
fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0164010A:0050 0901010A:A000 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
";
    const UDP6: &str = "  sl  local_address                         remote_address                        st
  10: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0 0 0
  11: 000000FD000000000000000001000000:0036 00000000000000000000000000000000:0000 01 0 0 0
";

    #[test]
    fn sockets_that_wait_are_told_from_connections() {
        let service = |(protocol, port)| ServedService { protocol, port, is_kept: true };
        let services = [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Tcp, 8080), (Protocol::Udp, 53)];
        let addresses = vec!["127.0.0.1".parse().unwrap()];
        let served = [ServedCluster { addresses, services: services.map(service).into() }];
        let mut all = BTreeSet::new();
        // A list that is longer than what matters of it.
        for _ in 0..1000 {
            read_list(Protocol::Tcp, TCP.as_bytes(), &Served::of(&served), &mut all).unwrap();
            read_list(Protocol::Udp, UDP6.as_bytes(), &Served::of(&served), &mut all).unwrap();
        }
        let found: Vec<_> = all.iter().map(|l| (l.protocol, l.address.to_string(), l.port)).collect();
        let wanted =
            [(Protocol::Tcp, "0.0.0.0", 80), (Protocol::Tcp, "127.0.0.1", 8080), (Protocol::Udp, "::", 53)];
        assert_eq!(found, wanted.map(|(protocol, address, port)| (protocol, address.to_owned(), port)));
    }

    #[test]
    fn a_service_is_served_by_a_socket_for_everywhere_or_for_its_address() {
        //= spec/cluster.md#listening
        //= type=test
        //# A node MUST tell its control nodes of each service that it serves whether something listens there, when it registers and when that changes.
        let service = |protocol, port| ServedService { protocol, port, is_kept: true };
        let clusters = [ServedCluster {
            addresses: vec!["10.1.0.100".parse().unwrap()],
            services: [80, 8080, 53].map(|port| service(Protocol::Tcp, port)).into(),
        }];
        let listener = |address: &str, port| Listener {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port,
        };
        let listeners = [listener("::", 80), listener("10.1.0.100", 53), listener("127.0.0.1", 8080)];
        let states = listening(&clusters, &listeners.into());
        assert_eq!(
            states.iter().map(|s| (s.port, s.listens)).collect::<Vec<_>>(),
            [(80, true), (8080, false), (53, true)]
        );
    }
}

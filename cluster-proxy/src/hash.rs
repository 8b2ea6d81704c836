//! The keyed hash of flows: nobody without the key can choose addresses and ports that share a place in a table.

use core::net::IpAddr;

pub use vlan_core::cluster::Flow;
use vlan_core::siphash::siphash;

/// The secret key of a cluster's hashes, the same on all its control nodes and on no node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u64; 2]);

/// Never the key itself: who knows it can choose flows that share a place.
impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// The hash of a flow.
pub(crate) fn of_flow(key: &HashKey, flow: &Flow) -> u64 {
    let ports = u32::from(flow.client_port) << 16 | u32::from(flow.port);
    hash_pair(key, flow.client, flow.address, of_ports(flow.protocol as u8, ports))
}

/// The last word of what the hash of a flow is of: its protocol and both ports, the client's first.
#[inline]
pub(crate) fn of_ports(protocol: u8, ports: u32) -> u64 {
    u64::from(protocol) << 32 | u64::from(ports)
}

/// What a hash is of, so that one can never be another's.
const OF_FRAGMENTS: u64 = 1 << 48;
const OF_CLIENTS: u64 = 2 << 48;
const OF_SCORES: u64 = 3 << 48;
const OF_ROUTES: u64 = 4 << 48;
const OF_PASSED: u64 = 5 << 48;
/// Marks what is of IPv6: as many words could be of IPv4 else.
const OF_IPV6: u64 = 1 << 63;

/// The hash of what all fragments of a packet have in common.
pub(crate) fn of_fragments(key: &HashKey, from: IpAddr, to: IpAddr, identification: u32) -> u64 {
    hash_pair(key, from, to, OF_FRAGMENTS | u64::from(identification))
}

/// The hash of the way between two addresses, whatever goes it.
pub(crate) fn of_route(key: &HashKey, from: IpAddr, to: IpAddr) -> u64 {
    hash_pair(key, from, to, OF_ROUTES)
}

/// The hash of a client, of IPv6 its first 64 bits: a host has many addresses there.
//= spec/cluster.md#sticky-clients
//# A sticky service MUST choose by the client's address alone, of IPv6 its first 64 bits, for any way of balancing.
pub(crate) fn of_client(key: &HashKey, client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(client) => siphash::<1, 3, 1>(key.0, [OF_CLIENTS | u64::from(client.to_bits())]),
        IpAddr::V6(client) => {
            siphash::<1, 3, 2>(key.0, [(client.to_bits() >> 64) as u64, OF_IPV6 | OF_CLIENTS])
        }
    }
}

/// What the score of a server in a row is drawn from.
pub(crate) fn of_score(key: &HashKey, node: u16, row: u32) -> u64 {
    siphash::<1, 3, 1>(key.0, [OF_SCORES | u64::from(node) << 32 | u64::from(row)])
}

/// The hash of any octets that a server is to give back, in parts: their number and their lengths count, too.
pub(crate) fn of_passed(key: &HashKey, parts: &[&[u8]]) -> u64 {
    parts.iter().fold(OF_PASSED | parts.len() as u64, |before, part| {
        let start = siphash::<1, 3, 3>(key.0, [OF_PASSED, before, part.len() as u64]);
        part.chunks(WORDS * 8).fold(start, |hash, octets| {
            let mut words = [0; 1 + WORDS];
            words[0] = hash;
            for (word, octets) in words[1..].iter_mut().zip(octets.chunks(8)) {
                let mut eight = [0; 8];
                eight[..octets.len()].copy_from_slice(octets);
                *word = u64::from_le_bytes(eight);
            }
            siphash::<1, 3, { 1 + WORDS }>(key.0, words)
        })
    })
}

/// Words of octets that are hashed at once.
const WORDS: usize = 16;

fn hash_pair(key: &HashKey, from: IpAddr, to: IpAddr, rest: u64) -> u64 {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => of_ipv4(key, from.to_bits(), to.to_bits(), rest),
        _ => of_ipv6(key, bits(from), bits(to), rest),
    }
}

/// The hash of a pair of addresses of IPv4 and another word.
#[inline]
pub(crate) fn of_ipv4(key: &HashKey, from: u32, to: u32, rest: u64) -> u64 {
    siphash::<1, 3, 2>(key.0, [u64::from(from) << 32 | u64::from(to), rest])
}

/// The same of IPv6.
#[inline]
pub(crate) fn of_ipv6(key: &HashKey, from: u128, to: u128, rest: u64) -> u64 {
    let words = [(from >> 64) as u64, from as u64, (to >> 64) as u64, to as u64, OF_IPV6 | rest];
    siphash::<1, 3, 5>(key.0, words)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::format;
    use core::net::Ipv6Addr;
    use vlan_core::cluster::Protocol;

    const KEY: HashKey = HashKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    #[test]
    fn every_part_of_a_flow_counts_and_kinds_never_meet() {
        let v4 = |tail: u8| IpAddr::from([10, 1, 0, tail]);
        let v6 = |tail: u16| IpAddr::from(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, tail));
        let flow = Flow { protocol: Protocol::Tcp, client: v4(1), client_port: 2, address: v4(3), port: 4 };
        let flows = [
            flow,
            Flow { protocol: Protocol::Udp, ..flow },
            Flow { client: v4(9), ..flow },
            Flow { client_port: 9, ..flow },
            Flow { address: v4(9), ..flow },
            Flow { port: 9, ..flow },
            Flow { client: v4(3), address: v4(1), ..flow },
            Flow { client: v6(1), address: v6(3), ..flow },
            Flow { client: v6(1), address: v6(4), ..flow },
        ];
        let mut hashes: BTreeSet<_> = flows.iter().map(|flow| of_flow(&KEY, flow)).collect();
        hashes.extend([of_fragments(&KEY, v4(1), v4(3), 2), of_client(&KEY, v4(1)), of_score(&KEY, 1, 1)]);
        hashes.extend([of_route(&KEY, v4(1), v4(3)), of_route(&KEY, v4(3), v4(1))]);
        assert_eq!(hashes.len(), 14);
        assert_ne!(of_flow(&KEY, &flow), of_flow(&HashKey([1, 2]), &flow));
        assert_eq!(of_client(&KEY, v6(1)), of_client(&KEY, v6(2)));
        assert_ne!(of_client(&KEY, v4(1)), of_client(&KEY, v4(2)));
    }

    #[test]
    fn the_key_never_shows_itself() {
        assert_eq!(format!("{KEY:?}"), "HashKey(..)");
    }
}

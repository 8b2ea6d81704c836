//! Answers in the name of members, from what they have registered.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use vlan_core::MacAddress;

use crate::ArpMessage;
use crate::bindings::Binding;
use crate::build::{NdAddresses, Operation, arp, neighbour_advertisement, unsolicited_advertisement};
use crate::message::Parsed;

/// The answer of `holder` to the asker of `request`: an ARP reply, or a solicited neighbour advertisement. `None` when the asker
/// has no address that it could be sent to.
pub(crate) fn answer(request: &ArpMessage, holder: &Binding) -> Option<Vec<u8>> {
    let (asker, asker_mac) = request.sender?;
    Some(match (holder.address, asker) {
        (IpAddr::V4(address), IpAddr::V4(asker)) => {
            arp(Operation::Reply, asker_mac, (holder.mac, address), asker).to_vec()
        }
        (IpAddr::V6(address), IpAddr::V6(asker)) => {
            let addresses = NdAddresses {
                destination_mac: asker_mac,
                source_mac: holder.mac,
                source: address,
                destination: asker,
            };
            neighbour_advertisement(&addresses, address, true)
        }
        _ => return None,
    })
}

/// The answer to a request or a probe for an address that no member has, in the name of its MAC. Who probes has no address that an
/// advertisement could be sent to, and hears one that is for everybody (RFC 4861, 7.2.4).
pub(crate) fn answer_of_reserved(
    asked: &Parsed,
    asker_mac: MacAddress,
    (address, mac): (IpAddr, MacAddress),
) -> Vec<u8> {
    match (address, asked.source) {
        (IpAddr::V4(address), source) => {
            let asker = match source {
                Some(IpAddr::V4(asker)) => asker,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            arp(Operation::Reply, asker_mac, (mac, address), asker).to_vec()
        }
        (IpAddr::V6(address), Some(IpAddr::V6(asker))) => {
            let addresses = NdAddresses {
                destination_mac: asker_mac,
                source_mac: mac,
                source: address,
                destination: asker,
            };
            neighbour_advertisement(&addresses, address, true)
        }
        (IpAddr::V6(address), _) => unsolicited_advertisement(mac, address, false),
    }
}

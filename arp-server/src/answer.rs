//! Answers in the name of members, from what they have registered.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::ArpMessage;
use crate::bindings::Binding;
use crate::build::{NdAddresses, Operation, arp, neighbour_advertisement};

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

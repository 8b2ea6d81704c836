//! Which MACs a frame states, in its header and in the bodies of ARP and ND, and how they are replaced.

use vlan_core::MacAddress;
use vlan_core::checksum::{mended, set_word, word};
use vlan_core::ethernet::ETHERTYPE_ARP;
use vlan_core::limits::ETHERNET_HEADER_LEN;

use vlan_core::ip::Packet;

/// Where an ARP message begins in a frame, and where it ends.
pub(crate) const ARP_AT: usize = ETHERNET_HEADER_LEN;
pub(crate) const ARP_END: usize = ARP_AT + 28;
/// How ARP for IPv4 over Ethernet begins: the two types and the two lengths (RFC 826).
pub(crate) const ARP_OF_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Where ARP states the MACs of its sender and its target.
const ARP_MACS: [usize; 2] = [ARP_AT + 8, ARP_AT + 18];
/// Where it states their addresses.
pub(crate) const ARP_SENDER: usize = ARP_AT + 14;
pub(crate) const ARP_TARGET: usize = ARP_AT + 24;
/// ND options that state a link-layer address (RFC 4861, 4.6.1).
const LINK_LAYER_OPTIONS: [u8; 2] = [1, 2];

/// Sets the source of a frame.
pub(crate) fn set_source(frame: &mut [u8], mac: MacAddress) {
    set_mac(frame, 6, mac);
}

/// Sets the destination of a frame.
pub(crate) fn set_destination(frame: &mut [u8], mac: MacAddress) {
    set_mac(frame, 0, mac);
}

/// Replaces each MAC that an ARP or ND message states by what `change` says of it. The checksum of ND is mended.
///
/// `frame` is untagged and complete: a checksum that is still to be completed would be spoiled.
//= spec/uplink.md#the-system-mac
//# In filtered mode a frame that goes outside MUST have the system MAC as its source, and in ARP and ND wherever it states
//# its sender's MAC or one of the platform's.
pub(crate) fn replace_stated(
    frame: &mut [u8],
    ethertype: u16,
    packet: Option<&Packet>,
    change: impl Fn(MacAddress) -> Option<MacAddress>,
) {
    if ethertype == ETHERTYPE_ARP {
        for at in ARP_MACS {
            if let Some(mac) = mac_at(frame, at).and_then(&change) {
                set_mac(frame, at, mac);
            }
        }
        return;
    }
    let Some(packet) = packet else { return };
    let Some(kind) = packet.neighbour_discovery(frame) else { return };
    let mut at = packet.upper_at + fixed_len(kind);
    while let Some((option, len)) = option_at(frame, at, packet.end) {
        let stated = mac_at(frame, at + 2).filter(|_| LINK_LAYER_OPTIONS.contains(&option));
        if let Some((from, to)) = stated.and_then(|mac| Some((mac, change(mac)?))) {
            set_mac(frame, at + 2, to);
            let check = word(frame, packet.upper_at + 2).unwrap_or(0);
            set_word(frame, packet.upper_at + 2, mended(check, &from.0, &to.0));
        }
        at += len;
    }
}

/// Every MAC that an ARP or ND message states, options in their order.
pub(crate) fn stated<'f>(
    frame: &'f [u8],
    ethertype: u16,
    packet: Option<&Packet>,
) -> impl Iterator<Item = MacAddress> + 'f {
    let arp = ARP_MACS.into_iter().filter(move |_| ethertype == ETHERTYPE_ARP);
    let discovery = packet.and_then(|packet| Some((packet.neighbour_discovery(frame)?, *packet)));
    let mut options = discovery.map(|(kind, packet)| (packet.upper_at + fixed_len(kind), packet.end));
    let options = core::iter::from_fn(move || {
        let (at, end) = options?;
        let (option, len) = option_at(frame, at, end)?;
        options = Some((at + len, end));
        Some((option, at + 2))
    });
    let options = options.filter(|(option, _)| LINK_LAYER_OPTIONS.contains(option)).map(|(_, at)| at);
    arp.chain(options).filter_map(|at| mac_at(frame, at))
}

/// Octets of an ND message in front of its options (RFC 4861, 4.1 to 4.5).
const fn fixed_len(kind: u8) -> usize {
    match kind {
        133 => 8,
        134 => 16,
        135 | 136 => 24,
        _ => 40,
    }
}

/// Kind and length of the option at `at`; `None` at the end, and where there is no whole one.
fn option_at(frame: &[u8], at: usize, end: usize) -> Option<(u8, usize)> {
    let option = frame.get(at..end)?;
    let &[kind, units] = option.first_chunk::<2>()?;
    let len = usize::from(units) * 8;
    (len > 0 && len <= option.len()).then_some((kind, len))
}

pub(crate) fn mac_at(frame: &[u8], at: usize) -> Option<MacAddress> {
    MacAddress::from_octets(frame.get(at..)?)
}

fn set_mac(frame: &mut [u8], at: usize, mac: MacAddress) {
    if let Some(octets) = frame.get_mut(at..at + 6) {
        octets.copy_from_slice(&mac.0);
    }
}

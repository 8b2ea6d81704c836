//! The headers of a frame in one line, for people.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use vlan_core::capture::Headers;
use vlan_core::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Who sends what to whom, as far as the headers say.
pub fn frame_text(head: &[u8], frame_len: usize) -> String {
    let Some(headers) = Headers::parse(head, frame_len) else {
        return format!("{frame_len} octets, less than an Ethernet header");
    };
    let Headers { ethernet, ethertype, addresses, protocol, ports, .. } = headers;
    let mut text = format!("{} > {}", ethernet.source, ethernet.destination);
    let kind = match (ethertype, protocol) {
        (ETHERTYPE_ARP, _) => "arp".to_owned(),
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, Some(protocol)) => protocol_name(protocol),
        (ETHERTYPE_IPV4, None) => "ip".to_owned(),
        (ETHERTYPE_IPV6, None) => "ip6".to_owned(),
        (other, _) => format!("type {other:#06x}"),
    };
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    // Writing to a string cannot fail.
    let _ = write!(text, ", {kind}");
    if let Some((source, destination)) = addresses {
        let (from, to) = (ports.map(|ports| ports.0), ports.map(|ports| ports.1));
        let _ = write!(text, " {} > {}", end(source, from), end(destination, to));
    }
    let _ = write!(text, ", {frame_len} octets");
    text
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        2 => "igmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_told_as_far_as_it_is_there() {
        let mut frame = [[0xff; 6], [2; 6]].concat();
        frame.extend([
            8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 80, 0, 8, 0, 0,
        ]);
        let ethernet = "02:02:02:02:02:02 > ff:ff:ff:ff:ff:ff";
        assert_eq!(frame_text(&frame, 99), format!("{ethernet}, udp 10.0.0.1:53 > 10.0.0.2:80, 99 octets"));
        assert_eq!(frame_text(&frame[..34], 99), format!("{ethernet}, udp 10.0.0.1 > 10.0.0.2, 99 octets"));
        assert_eq!(frame_text(&frame[..14], 99), format!("{ethernet}, ip, 99 octets"));
        assert_eq!(frame_text(&frame[..9], 9), "9 octets, less than an Ethernet header");
        frame[12] = 0x88;
        assert_eq!(frame_text(&frame, 99), format!("{ethernet}, type 0x8800, 99 octets"));
    }
}

//! The errors for what is too long for outside: they tell the sending stack how long a packet may be.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use vlan_core::checksum::{pseudo_header, set_word, sum, sum_from, sum_ipv4_header};
use vlan_core::security::rate::{Cost, Kind, Meters};
use vlan_core::security::{Limits, Rate};
use vlan_core::wire::Vnet;
use vlan_core::{Instant, MacAddress};

use vlan_core::ip::{ICMP, ICMPV6, IP_AT, IPV4_LEN, IPV6_LEN, Packet};

/// Errors that a sender gets in a second.
pub(crate) const ERRORS_PER_SECOND_MAX: u64 = 100;
/// Buckets that senders are sorted into.
const BUCKETS: usize = 64;
/// The longest errors: what every host takes (RFC 1812, 4.3.2.3; RFC 4443, 2.4).
const IPV4_ERROR_LEN_MAX: usize = 576;
const IPV6_ERROR_LEN_MAX: usize = 1280;
/// Octets of ICMP in front of what is quoted.
const ICMP_LEN: usize = 8;
/// How far an error may go.
const HOP_LIMIT: u8 = 64;

/// How many errors each sender has had.
#[derive(Clone, Debug)]
pub(crate) struct Errors {
    buckets: Box<[Option<Meters>]>,
    seed: u64,
}

impl Errors {
    pub fn new(seed: u64) -> Self {
        let rate = Rate { frames: Some(ERRORS_PER_SECOND_MAX), bits: None };
        let meters = Meters::new(&Limits { total: rate, ..Limits::default() });
        Self { buckets: (0..BUCKETS).map(|_| meters.clone()).collect(), seed }
    }

    /// True when the sender `mac` may have another one now.
    //= spec/uplink.md#errors-in-a-second
    //# No sender MUST get more than 100 such errors a second.
    pub fn admit(&mut self, now: Instant, mac: MacAddress) -> bool {
        let hash = (mac.to_bits() ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let Some(Some(meters)) = self.buckets.get_mut((hash as usize) % BUCKETS) else { return false };
        meters.take(now, Kind::Unicast, Cost::of(&Vnet::default(), 0)).is_ok()
    }
}

/// Makes the error for the packet in `frame` in `out`; false when it gets none.
//= spec/uplink.md#too-big
//# When a packet that may not be fragmented is longer than the device's MTU, its sender MUST get an ICMP fragmentation needed or
//# ICMPv6 packet too big with that MTU, whose source is the refused packet's destination.
pub(crate) fn build(frame: &[u8], packet: &Packet, mtu: u16, out: &mut Vec<u8>) -> bool {
    if !gets_an_error(frame, packet) {
        return false;
    }
    let Some((macs, quoted)) = frame.first_chunk::<12>().zip(frame.get(IP_AT..packet.end)) else {
        return false;
    };
    out.clear();
    out.extend_from_slice(&macs[6..]);
    out.extend_from_slice(&macs[..6]);
    match (packet.source, packet.destination) {
        (IpAddr::V4(to), IpAddr::V4(from)) => {
            let quoted = &quoted[..quoted.len().min(IPV4_ERROR_LEN_MAX - IPV4_LEN - ICMP_LEN)];
            let [a, b] = ((IPV4_LEN + ICMP_LEN + quoted.len()) as u16).to_be_bytes();
            out.extend_from_slice(&[8, 0, 0x45, 0xc0, a, b, 0, 0, 0, 0, HOP_LIMIT, ICMP, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let [a, b] = mtu.to_be_bytes();
            out.extend_from_slice(&[3, 4, 0, 0, 0, 0, a, b]);
            out.extend_from_slice(quoted);
            sum_ipv4_header(out, IP_AT, IPV4_LEN);
            let icmp_at = IP_AT + IPV4_LEN;
            let check = !sum(&out[icmp_at..]);
            set_word(out, icmp_at + 2, check);
        }
        (IpAddr::V6(to), IpAddr::V6(from)) => {
            let quoted = &quoted[..quoted.len().min(IPV6_ERROR_LEN_MAX - IPV6_LEN - ICMP_LEN)];
            let len = ICMP_LEN + quoted.len();
            let [a, b] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, a, b, ICMPV6, HOP_LIMIT]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let [a, b] = mtu.to_be_bytes();
            out.extend_from_slice(&[2, 0, 0, 0, 0, 0, a, b]);
            out.extend_from_slice(quoted);
            let icmp_at = IP_AT + IPV6_LEN;
            let check = !sum_from(pseudo_header(&out[IP_AT + 8..icmp_at], ICMPV6, len), &out[icmp_at..]);
            set_word(out, icmp_at + 2, check);
        }
        _ => return false,
    }
    true
}

/// RFC 1122, 3.2.2; RFC 4443, 2.4 (e).
fn gets_an_error(frame: &[u8], packet: &Packet) -> bool {
    let is_group = frame.first().is_none_or(|octet| octet & 1 != 0) || packet.destination.is_multicast();
    let source = packet.source;
    let has_sender = !source.is_multicast() && !source.is_unspecified() && !source.is_loopback();
    let is_error = match (packet.protocol, frame.get(packet.upper_at)) {
        // A later fragment of IPv4 does not say what it is.
        (None, _) => packet.is_ipv4(),
        (Some(ICMP), Some(kind)) if packet.is_ipv4() => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (Some(ICMPV6), Some(kind)) if !packet.is_ipv4() => *kind < 128 || *kind == 137,
        _ => false,
    };
    !is_group && has_sender && !is_error
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_sender_gets_so_many_errors_a_second_and_the_others_theirs() {
        //= spec/uplink.md#errors-in-a-second
        //= type=test
        //# No sender MUST get more than 100 such errors a second.
        let mut errors = Errors::new(77);
        let greedy = MacAddress([2, 0, 0, 0, 0, 1]);
        let at = |millis| Instant::ZERO + Duration::from_secs(60) + Duration::from_millis(millis);
        let count = (0..10_000).filter(|&millis| errors.admit(at(millis), greedy)).count();
        assert!((1000..=1011).contains(&count), "{count} in ten seconds");
        let others = (2..34).filter(|&n| errors.admit(at(10_000), MacAddress([2, 0, 0, 0, 0, n]))).count();
        assert!(others >= 28, "{others} of 32 others");
    }
}

//! The answer to an ICMP echo request, which comes from the cluster itself.

use alloc::vec::Vec;

use vlan_core::checksum::{mended, set_word, sum_ipv4_header, word};
use vlan_core::ip::{IP_AT, IPV4_LEN, IPV6_LEN, Packet};
use vlan_core::limits::{ETHERNET_HEADER_LEN, LAN_MTU};

/// Octets of the longest answer: a frame of a virtual LAN.
pub(crate) const ANSWER_LEN_MAX: usize = LAN_MTU as usize + ETHERNET_HEADER_LEN;
/// How far an answer may go.
const HOP_LIMIT: u8 = 64;

/// Makes the answer in `out`; false when it would be longer than [`ANSWER_LEN_MAX`].
///
/// The sum is mended, not made anew: what was spoiled on its way stays so (RFC 1624).
pub(crate) fn answer(frame: &[u8], packet: &Packet, out: &mut Vec<u8>) -> bool {
    let Some((macs, message)) = frame.first_chunk::<12>().zip(frame.get(packet.upper_at..packet.end)) else {
        return false;
    };
    let ip_len = if packet.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
    out.clear();
    if ETHERNET_HEADER_LEN + ip_len + message.len() > ANSWER_LEN_MAX {
        return false;
    }
    out.extend_from_slice(&macs[6..]);
    out.extend_from_slice(&macs[..6]);
    out.extend_from_slice(&frame[12..IP_AT + ip_len]);
    out.extend_from_slice(message);
    if packet.is_ipv4() {
        // Without the options of the request, and whole.
        out[IP_AT] = 0x45;
        set_word(out, IP_AT + 2, (ip_len + message.len()) as u16);
        set_word(out, IP_AT + 6, 0);
        out[IP_AT + 8] = HOP_LIMIT;
        out[IP_AT + 12..IP_AT + 20].rotate_left(4);
        sum_ipv4_header(out, IP_AT, IPV4_LEN);
    } else {
        set_word(out, IP_AT + 4, message.len() as u16);
        out[IP_AT + 6] = vlan_core::ip::ICMPV6;
        out[IP_AT + 7] = HOP_LIMIT;
        out[IP_AT + 8..IP_AT + 40].rotate_left(16);
    }
    let at = IP_AT + ip_len;
    let request = [out[at], out[at + 1]];
    let reply = if packet.is_ipv4() { [0, request[1]] } else { [129, request[1]] };
    out[at..at + 2].copy_from_slice(&reply);
    let check = word(out, at + 2).unwrap_or(0);
    set_word(out, at + 2, mended(check, &request, &reply));
    true
}

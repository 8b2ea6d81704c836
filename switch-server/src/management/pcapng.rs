//! The blocks of pcapng (draft-ietf-opsawg-pcapng) that captures are written in: one section, an interface for each tap,
//! packets with nanoseconds, and at the end what each tap has seen and lost.

/// Link type of Ethernet frames without their check sequence.
pub const LINKTYPE_ETHERNET: u16 = 1;
/// Link type of the messages of an RVI, each behind a header of [`MESSAGE_HEADER_LEN`] octets: the first one that is left to
/// users.
pub const LINKTYPE_MESSAGES: u16 = 147;
/// Octets in front of each message of an RVI: version 1, channel, direction (1 in, 2 out), kind of the other end (1 node, 2
/// control node), its number u16 and that of the node with the tap u16, little-endian.
pub const MESSAGE_HEADER_LEN: usize = 8;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// An interface of the section.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Its link type.
    pub link_type: u16,
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub description: &'a str,
    /// The expression by which packets are kept.
    pub filter: &'a str,
    /// Octets of each packet that are kept.
    pub snap: u32,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The interface, by its place in the section.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
    /// Octets that it had.
    pub original_len: u32,
    /// It went out by the interface.
    pub is_out: bool,
    /// What stands in front of its octets.
    pub header: &'a [u8],
    /// Its octets.
    pub octets: &'a [u8],
}

/// What an interface has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that passed.
    pub seen: u64,
    /// Those that the filter kept.
    pub matched: u64,
    /// Those of them for which there was no room.
    pub lost: u64,
    /// Those that are in the section.
    pub written: u64,
}

/// Begins a section.
pub fn section(out: &mut Vec<u8>) {
    block(out, SECTION_HEADER, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        out.extend([1, 0, 0, 0]);
        // Nobody knows how long it will be.
        out.extend((-1_i64).to_le_bytes());
        option(out, 4, concat!("Weft ", env!("CARGO_PKG_VERSION")).as_bytes());
        end_of_options(out);
    });
}

/// Adds an interface.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend(interface.link_type.to_le_bytes());
        out.extend([0; 2]);
        out.extend(interface.snap.to_le_bytes());
        option(out, 2, interface.name.as_bytes());
        option(out, 3, interface.description.as_bytes());
        // Time in units of 10^-9 s.
        option(out, 9, &[9]);
        if !interface.filter.is_empty() {
            option(out, 11, &[&[0], interface.filter.as_bytes()].concat());
        }
        end_of_options(out);
    });
}

/// Adds a packet.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, ENHANCED_PACKET, |out| {
        let header_len = packet.header.len() as u32;
        out.extend(packet.interface.to_le_bytes());
        time(out, packet.unix_ns);
        out.extend((packet.octets.len() as u32 + header_len).to_le_bytes());
        out.extend(packet.original_len.saturating_add(header_len).to_le_bytes());
        out.extend(packet.header);
        out.extend(packet.octets);
        pad(out);
        let direction = if packet.is_out { 2_u32 } else { 1 };
        option(out, 2, &direction.to_le_bytes());
        end_of_options(out);
    });
}

/// Adds what an interface has seen by `unix_ns`, with a comment if there is one to make.
pub fn statistics(out: &mut Vec<u8>, interface: u32, unix_ns: u64, seen: &Statistics, comment: &str) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        time(out, unix_ns);
        if !comment.is_empty() {
            option(out, 1, comment.as_bytes());
        }
        for (code, value) in [(4, seen.seen), (5, seen.lost), (6, seen.matched), (8, seen.written)] {
            option(out, code, &value.to_le_bytes());
        }
        end_of_options(out);
    });
}

/// The header in front of a message of an RVI.
pub fn message_header(channel: u8, is_out: bool, peer: Option<u16>, node: u16) -> [u8; MESSAGE_HEADER_LEN] {
    let [peer_low, peer_high] = peer.unwrap_or(0).to_le_bytes();
    let [node_low, node_high] = node.to_le_bytes();
    let kind = if peer.is_some() { 1 } else { 2 };
    [1, channel, if is_out { 2 } else { 1 }, kind, peer_low, peer_high, node_low, node_high]
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    // Every part of the body is padded to 4 octets. The length stands at both ends, itself included.
    let len = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out.extend(len.to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

fn time(out: &mut Vec<u8>, unix_ns: u64) {
    out.extend(((unix_ns >> 32) as u32).to_le_bytes());
    out.extend((unix_ns as u32).to_le_bytes());
}

/// Blocks begin at multiples of 4 octets, so what is in them does too.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types of the blocks, after a check that each has its length at both ends.
    fn blocks(mut octets: &[u8]) -> Vec<u32> {
        let u32_at = |octets: &[u8], at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
        let mut kinds = Vec::new();
        while !octets.is_empty() {
            let len = u32_at(octets, 4) as usize;
            assert_eq!((len % 4, u32_at(octets, len - 4) as usize), (0, len));
            kinds.push(u32_at(octets, 0));
            octets = &octets[len..];
        }
        kinds
    }

    #[test]
    fn blocks_are_whole_and_padded() {
        let mut out = Vec::new();
        section(&mut out);
        let (name, filter) = ("web1/red", "tcp port 80");
        let tap =
            Interface { link_type: LINKTYPE_ETHERNET, name, description: "interface", filter, snap: 65_553 };
        interface(&mut out, &tap);
        let header = message_header(9, true, Some(2), 0x0103);
        assert_eq!(header, [1, 9, 2, 1, 2, 0, 3, 1]);
        for len in 0..5 {
            let at = out.len();
            let octets = &[7; 5][..len];
            packet(
                &mut out,
                &Packet {
                    interface: 0,
                    unix_ns: 1 << 33 | 5,
                    original_len: 900,
                    is_out: len == 0,
                    header: &header,
                    octets,
                },
            );
            assert_eq!(out[at + 8..at + 20], [0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0]);
            assert_eq!(out[at + 20..at + 28], [8 + len as u8, 0, 0, 0, 0x8c, 3, 0, 0]);
            assert_eq!(out[at + 36..at + 36 + len], *octets);
        }
        statistics(&mut out, 0, 7, &Statistics { lost: 3, ..Statistics::default() }, "why");
        assert_eq!(blocks(&out), [SECTION_HEADER, 1, 6, 6, 6, 6, 6, 5]);
    }
}

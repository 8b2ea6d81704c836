//! Bounds of the fabric, each with the reason for its value. `spec/timers.md` lists the same numbers.

use core::time::Duration;

/// The MTU inside a virtual LAN (S48).
pub const LAN_MTU: u16 = 16_896;
/// Octets of an Ethernet header: two addresses and the type (IEEE 802.3, 3.1.1).
pub const ETHERNET_HEADER_LEN: usize = 14;
/// The largest frame that crosses the fabric: a 65,535-octet IP packet behind a header with one 802.1Q tag.
pub const FRAME_LEN_MAX: usize = 65_535 + ETHERNET_HEADER_LEN + 4;
/// The largest message: the largest frame and the largest TLV header (256 octets, `spec/tlv.md`).
pub const MESSAGE_LEN_MAX: usize = FRAME_LEN_MAX + 256;
/// The largest control message, header included (`spec/tlv.md`, Control messages).
pub const CONTROL_MESSAGE_LEN_MAX: usize = 16 * 1024;
/// The longest frame that can be traced: with its header and the steps about it it fits into a control message.
pub const TRACED_OCTETS_MAX: usize = 12 * 1024;
/// The longest packet of a relay leg: with all that stands in front of it, it fits into one packet of any IPv6 path, of
/// 1,232 octets, beside the acks of two legs.
pub const RELAYED_PACKET_LEN_MAX: usize = 1024;
/// Virtual interfaces of one node: each takes two channels to a control node out of 255 (amendments, Words).
pub const VIFS_PER_NODE_MAX: usize = 127;
/// Octets of a message that a consumer copies to private memory before it looks at them (amendment 8).
pub const PRIVATE_HEAD_LEN: usize = 256;
/// How many relayed and group frames of one interface may be unsettled (amendment 22).
pub const BSEQ_WINDOW: u32 = 4096;
/// Numbered messages of one channel that may be outstanding (amendment 14).
pub const MESSAGE_WINDOW: u32 = 16_384;
/// An accepted frame that found no way to go in this time is dropped as `expired` (amendment 12).
pub const PARK_TTL: Duration = Duration::from_millis(50);
/// A direct RVI is granted after this many relayed frames of a pair (amendment 19) ...
pub const GRANT_AFTER_FRAMES: u32 = 64;
/// ... or when a frame of the pair comes at least this long after its first.
pub const GRANT_AFTER_TIME: Duration = Duration::from_millis(10);
/// A direct RVI that carried nothing for this long is given back (amendment 19).
pub const DIRECT_IDLE: Duration = Duration::from_secs(60);
/// Heartbeats on a control RVI that carries nothing else (S54; amendment 28 has 100 ms for control legs that
/// can lose, while a shared-memory leg reports its end by itself).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A ring whose head has not moved for this long with slots pending is stalled (amendment 10).
pub const HEAD_STALL: Duration = Duration::from_millis(10);
/// First pause before a node tries a control node again; doubles up to [`RECONNECT_MAX`].
pub const RECONNECT_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two attempts to reach a control node: a restarted one is found within this.
pub const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// Control nodes that formats and machines have room for.
pub const CONTROL_NODES_MAX: usize = 2;
/// Fabrics, so legs of one kind, that an association can have (amendment: the machine takes up to four legs).
pub const FABRICS_MAX: usize = 4;
/// IP addresses that one interface may register.
pub const ADDRESSES_PER_VIF_MAX: usize = 64;
/// Multicast groups that one interface may have joined.
pub const GROUPS_PER_VIF_MAX: usize = 512;
/// Multicast groups that the members of one LAN may have joined.
pub const GROUPS_PER_LAN_MAX: usize = 4096;
/// Promiscuous listeners of one LAN: each costs every sender a copy of each frame.
pub const LISTENERS_PER_LAN_MAX: usize = 8;

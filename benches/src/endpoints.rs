//! What the two ends of an association with packet legs know of each other, as a control node's grant says it.

use rvi::keys::PrivateKey;
use rvi::packet::endpoint::EndpointConfig;
use rvi::packet::session::{PairKey, SessionConfig, SessionKind, SessionLeg, SessionOffer};
use rvi::packet::transport::TransportConfig;
use rvi::packet::wire::PacketLeg;
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::{NodeNumber, ProcessId};

/// What a node offers before its peer hears of more: messages on each channel, and KiB in all.
const OFFER: SessionOffer = SessionOffer {
    message_len_max: MESSAGE_LEN_MAX as u32,
    credit_messages: 1024,
    credit_kib: 1024,
    tlv_version: 1,
};

/// The legs of a pair of processes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many legs they have.
    pub legs: u8,
    /// Packets are authenticated and not encrypted.
    pub is_trusted: bool,
    /// Octets of the longest packet.
    pub packet_len_max: usize,
}

/// The numbers of `count` legs.
pub fn legs(count: u8) -> impl Iterator<Item = PacketLeg> {
    (0..count).filter_map(PacketLeg::new)
}

/// The session of one end, 0 or 1, of the pair with this number.
pub fn session(end: usize, pair: u32, terms: &Terms) -> SessionConfig {
    let keys = [1, 2].map(|octet| PrivateKey::from_octets([octet; 32]));
    let publics = keys.each_ref().map(PrivateKey::public);
    let process = |end: usize| ProcessId(2 * u64::from(pair) + end as u64 + 1);
    let leg = |leg: PacketLeg| SessionLeg {
        leg,
        fabric_key: u16::from(leg.number()) + 1,
        is_trusted: terms.is_trusted,
    };
    SessionConfig {
        kind: SessionKind::Pair(PairKey::derive(&[7; 32], &publics[0], &publics[1], pair)),
        own_key: keys[end].clone(),
        peer_key: publics[1 - end],
        own: process(end),
        peer: Some(process(1 - end)),
        node: NodeNumber(end as u16 + 1),
        own_cid: pair,
        legs: legs(terms.legs).map(leg).collect(),
        offer: OFFER,
    }
}

/// One end, 0 or 1, of the pair with this number. Nobody but the other end ever sees what its keys protect.
pub fn endpoint(end: usize, pair: u32, terms: &Terms) -> EndpointConfig {
    let mut seed = [end as u8; 32];
    seed[..4].copy_from_slice(&pair.to_le_bytes());
    EndpointConfig {
        session: session(end, pair, terms),
        transport: TransportConfig { seed: u64::from(pair) << 1 | end as u64, ..TransportConfig::default() },
        packet_len_max: [terms.packet_len_max; PacketLeg::COUNT],
        seed,
    }
}

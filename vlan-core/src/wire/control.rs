//! Control messages: registration, configuration, notices, grants, barriers, heartbeats and reports.
//!
//! Each is a base header and a value of fields in the stated order, little-endian; lists are a count u16 and
//! the items. They are small and rare, so they are read into plain values.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{BootTag, Channel, LanId, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};
use crate::limits::CONTROL_MESSAGE_LEN_MAX;
use crate::location::{LOCATION_LEN, Location};
use crate::wire::tlv::{TLV_HEADER_LEN, TlvError, TlvHeader};

/// Version of the TLV layer that this code speaks; both ends state it at registration (D10).
pub const TLV_VERSION: u16 = 1;

/// An IP address with the length of its subnet's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// An interface that a node already has when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldInterface {
    /// Its LAN.
    pub lan: LanId,
    /// Its number in the node.
    pub vif: VifNumber,
    /// Its address.
    pub mac: MacAddress,
}

/// A direct RVI that a node already has when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldDirect {
    /// The RVI's number.
    pub rvi: RviNumber,
    /// The LAN it serves.
    pub lan: LanId,
    /// The node at the other end.
    pub peer: NodeNumber,
    /// Its channel in the association.
    pub channel: Channel,
    /// The node's own interface.
    pub own_vif: VifNumber,
    /// The peer's interface.
    pub peer_vif: VifNumber,
}

/// Everything a node needs to bring one of its interfaces up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// The LAN.
    pub lan: LanId,
    /// The interface's number in the node.
    pub vif: VifNumber,
    /// Its virtual MAC.
    pub mac: MacAddress,
    /// MTU of the LAN in octets.
    pub mtu: u16,
    /// Channel for relayed, group and external frames.
    pub relay_channel: Channel,
    /// Channel for ARP and ND.
    pub arp_channel: Channel,
    /// Port security: frames on a direct RVI must carry the source MAC of the grant.
    pub check_source: bool,
    /// Interface name in the node, at most 15 octets.
    pub name: String,
    /// Name of the LAN.
    pub lan_name: String,
    /// Addresses to configure.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways to configure, one for each family at most.
    pub gateways: Vec<IpAddr>,
}

/// Another member of a LAN: a connectivity notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberNotice {
    /// The LAN.
    pub lan: LanId,
    /// The member's node.
    pub node: NodeNumber,
    /// The member's interface.
    pub vif: VifNumber,
    /// The member's address.
    pub mac: MacAddress,
    /// The process that serves the member now.
    pub process: ProcessId,
    /// True when the member's node is attached; false when it has gone.
    pub attached: bool,
}

/// One end's part of a granted direct RVI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The RVI.
    pub rvi: RviNumber,
    /// The LAN.
    pub lan: LanId,
    /// The node at the other end.
    pub peer: NodeNumber,
    /// The process at the other end.
    pub peer_process: ProcessId,
    /// The channel of the RVI in the pair's association.
    pub channel: Channel,
    /// The receiving node's interface.
    pub own_vif: VifNumber,
    /// The other end's interface.
    pub peer_vif: VifNumber,
    /// The other end's address: what source frames on this channel must carry.
    pub peer_mac: MacAddress,
}

/// Why a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RevokeReason {
    /// Idle for 60 s.
    Idle = 1,
    /// Cut by the administrator.
    Cut = 2,
    /// A member was removed or replaced.
    Membership = 3,
    /// The two ends and the control node do not agree on it.
    Mismatch = 4,
}

impl RevokeReason {
    fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Idle),
            2 => Some(Self::Cut),
            3 => Some(Self::Membership),
            4 => Some(Self::Mismatch),
            _ => None,
        }
    }
}

/// One value of a node's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportItem {
    /// A dotted name such as `vif.1.tx.frames`, `vif.1.drop.expired` or `rvi.7.rx.octets`; at most 64 octets.
    pub name: String,
    /// The value.
    pub value: u64,
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlMessage {
    /// To any neighbour: are you there? (S54)
    Heartbeat {
        /// Number of this heartbeat.
        number: u32,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// Number of the heartbeat answered.
        number: u32,
    },
    /// Node to control node, first message of a session.
    Register {
        /// The TLV version spoken.
        version: u16,
        /// The node, which must be the one that the handshake proved.
        node: NodeNumber,
        /// The process.
        process: ProcessId,
        /// Interfaces it has already.
        interfaces: Vec<HeldInterface>,
        /// Direct RVIs it has already.
        direct: Vec<HeldDirect>,
    },
    /// Control node to node: accepted; interfaces and members follow, then `ConfigurationEnd`.
    Registered {
        /// Epoch of the configuration.
        epoch: u64,
    },
    /// Control node to node: not accepted, with the reason for the log. The session ends.
    Refused {
        /// The reason, at most 200 octets of text.
        reason: String,
    },
    /// Control node to node: a newer process of this node has registered; exit (amendment 3).
    Fenced,
    /// Control node to node: bring this interface up, or change it.
    Interface(InterfaceConfig),
    /// Control node to node: take this interface down.
    InterfaceRemoved {
        /// The interface.
        vif: VifNumber,
    },
    /// Control node to node: the configuration is complete; what was not named is gone.
    ConfigurationEnd {
        /// Epoch of the configuration.
        epoch: u64,
    },
    /// Node to control node: this address is on this interface now (S29, S93).
    Bind {
        /// The interface.
        vif: VifNumber,
        /// The address.
        address: InterfaceAddress,
    },
    /// Node to control node: this address has gone from this interface.
    Unbind {
        /// The interface.
        vif: VifNumber,
        /// The address.
        address: IpAddr,
    },
    /// Control node to node: another member came or went.
    Member(MemberNotice),
    /// Control node to node: where a MAC is (D2). Its location's RVI is 0 when the pair has no direct RVI.
    Binding {
        /// The address.
        mac: MacAddress,
        /// Where it is.
        location: Location,
    },
    /// Control node to node: a direct RVI is granted.
    Grant(Grant),
    /// Control node to node: a direct RVI ends.
    Revoke {
        /// The RVI.
        rvi: RviNumber,
        /// The node at the other end.
        peer: NodeNumber,
        /// Why.
        reason: RevokeReason,
    },
    /// Node to control node: the revoked RVI is closed here (amendment 5).
    Revoked {
        /// The RVI.
        rvi: RviNumber,
    },
    /// Control node to node: leave the leg on this fabric of the association with `peer` (a drill).
    LegCut {
        /// The node at the other end.
        peer: NodeNumber,
        /// The leg.
        leg: u8,
    },
    /// Node to control node: this direct RVI has carried nothing for 60 s.
    DirectIdle {
        /// The RVI.
        rvi: RviNumber,
    },
    /// Node to control node: every leg of the association with `peer` has gone.
    DirectLost {
        /// The node at the other end.
        peer: NodeNumber,
        /// The process that was there.
        process: ProcessId,
    },
    /// On a relay channel: everything that the origin sent to this destination before is ahead of this
    /// message (amendment 20).
    Barrier {
        /// The LAN.
        lan: LanId,
        /// The node that asks.
        origin: NodeNumber,
        /// Its interface.
        origin_vif: VifNumber,
        /// The node that is to echo.
        destination: NodeNumber,
        /// Its interface.
        destination_vif: VifNumber,
        /// The origin's process.
        boot: BootTag,
        /// Number of the barrier, chosen by the origin.
        id: u32,
    },
    /// On a direct RVI: the barrier `id` has arrived by relay.
    BarrierEcho {
        /// Number of the barrier.
        id: u32,
    },
    /// On a direct RVI: my control node has gone and all it had for me has been taken (amendment 20).
    RelayDrained {
        /// The sender waits for the same word from the receiver, and wants it answered.
        waiting: bool,
    },
    /// Control node to node: report your counters.
    ReportRequest {
        /// Number of the request.
        id: u32,
    },
    /// Node to control node: part of a report.
    Report {
        /// Number of the request.
        id: u32,
        /// True on the last part.
        last: bool,
        /// The values.
        items: Vec<ReportItem>,
    },
}

macro_rules! kinds {
    ($($name:ident = $kind:literal),+ $(,)?) => { $(const $name: u16 = $kind;)+ };
}
kinds! {
    HEARTBEAT = 0x0020, HEARTBEAT_REPLY = 0x0021, REGISTER = 0xc030, REGISTERED = 0xc031, BIND = 0xc032,
    UNBIND = 0xc033, MEMBER = 0xc034, BINDING = 0xc035, REFUSED = 0xc036, FENCED = 0xc037,
    INTERFACE = 0xc060, INTERFACE_REMOVED = 0xc061, CONFIGURATION_END = 0xc062, GRANT = 0xc064,
    REVOKE = 0xc065, REVOKED = 0xc066, LEG_CUT = 0xc067, DIRECT_IDLE = 0xc068, DIRECT_LOST = 0xc069,
    BARRIER = 0x806a, BARRIER_ECHO = 0x806b, RELAY_DRAINED = 0x806c, REPORT_REQUEST = 0x006e, REPORT = 0x006f,
}

impl ControlMessage {
    /// Writes the whole message, header included.
    ///
    /// # Panics
    /// When the message is longer than [`CONTROL_MESSAGE_LEN_MAX`]: our own bug.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(64));
        w.0.resize(TLV_HEADER_LEN, 0);
        let kind = self.emit_value(&mut w);
        let value_len = w.0.len() - TLV_HEADER_LEN;
        assert!(w.0.len() <= CONTROL_MESSAGE_LEN_MAX, "a control message of {} octets", w.0.len());
        TlvHeader { kind, flags: 0, header_len: TLV_HEADER_LEN, value_len }.emit(&mut w.0);
        w.0
    }

    fn emit_value(&self, w: &mut Writer) -> u16 {
        match self {
            Self::Heartbeat { number } => w.u32(*number).kind(HEARTBEAT),
            Self::HeartbeatReply { number } => w.u32(*number).kind(HEARTBEAT_REPLY),
            Self::Register { version, node, process, interfaces, direct } => {
                w.u16(*version).u16(node.0).u64(process.0).u16(interfaces.len() as u16);
                for i in interfaces {
                    w.u16(i.lan.0).u16(i.vif.0).octets(&i.mac.0);
                }
                w.u16(direct.len() as u16);
                for d in direct {
                    w.u32(d.rvi.0).u16(d.lan.0).u16(d.peer.0).u8(d.channel.0);
                    w.u16(d.own_vif.0).u16(d.peer_vif.0);
                }
                REGISTER
            }
            Self::Registered { epoch } => w.u64(*epoch).kind(REGISTERED),
            Self::Refused { reason } => w.text(reason).kind(REFUSED),
            Self::Fenced => FENCED,
            Self::Interface(i) => {
                w.u16(i.lan.0).u16(i.vif.0).octets(&i.mac.0).u16(i.mtu);
                w.u8(i.relay_channel.0).u8(i.arp_channel.0).u8(u8::from(i.check_source));
                w.text(&i.name).text(&i.lan_name);
                w.u16(i.addresses.len() as u16);
                for a in &i.addresses {
                    w.ip(a.address).u8(a.prefix);
                }
                w.u16(i.gateways.len() as u16);
                for g in &i.gateways {
                    w.ip(*g);
                }
                INTERFACE
            }
            Self::InterfaceRemoved { vif } => w.u16(vif.0).kind(INTERFACE_REMOVED),
            Self::ConfigurationEnd { epoch } => w.u64(*epoch).kind(CONFIGURATION_END),
            Self::Bind { vif, address } => w.u16(vif.0).ip(address.address).u8(address.prefix).kind(BIND),
            Self::Unbind { vif, address } => w.u16(vif.0).ip(*address).kind(UNBIND),
            Self::Member(m) => {
                w.u16(m.lan.0).u16(m.node.0).u16(m.vif.0).octets(&m.mac.0).u64(m.process.0);
                w.u8(u8::from(m.attached)).kind(MEMBER)
            }
            Self::Binding { mac, location } => w.octets(&mac.0).octets(&location.emit()).kind(BINDING),
            Self::Grant(g) => {
                w.u32(g.rvi.0).u16(g.lan.0).u16(g.peer.0).u64(g.peer_process.0).u8(g.channel.0);
                w.u16(g.own_vif.0).u16(g.peer_vif.0).octets(&g.peer_mac.0).kind(GRANT)
            }
            Self::Revoke { rvi, peer, reason } => w.u32(rvi.0).u16(peer.0).u8(*reason as u8).kind(REVOKE),
            Self::Revoked { rvi } => w.u32(rvi.0).kind(REVOKED),
            Self::LegCut { peer, leg } => w.u16(peer.0).u8(*leg).kind(LEG_CUT),
            Self::DirectIdle { rvi } => w.u32(rvi.0).kind(DIRECT_IDLE),
            Self::DirectLost { peer, process } => w.u16(peer.0).u64(process.0).kind(DIRECT_LOST),
            Self::Barrier { lan, origin, origin_vif, destination, destination_vif, boot, id } => {
                w.u16(lan.0).u16(origin.0).u16(origin_vif.0).u16(destination.0).u16(destination_vif.0);
                w.u16(boot.0).u32(*id).kind(BARRIER)
            }
            Self::BarrierEcho { id } => w.u32(*id).kind(BARRIER_ECHO),
            Self::RelayDrained { waiting } => w.u8(u8::from(*waiting)).kind(RELAY_DRAINED),
            Self::ReportRequest { id } => w.u32(*id).kind(REPORT_REQUEST),
            Self::Report { id, last, items } => {
                w.u32(*id).u8(u8::from(*last)).u16(items.len() as u16);
                for item in items {
                    w.text(&item.name).u64(item.value);
                }
                REPORT
            }
        }
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// When the octets are not exactly one control message of a known type.
    //= spec/tlv.md#control-messages
    //# A receiver MUST refuse a control message that is longer than 16 KiB, that ends inside a field or that has
    //# octets left over.
    pub fn parse(message: &[u8]) -> Result<Self, TlvError> {
        if message.len() > CONTROL_MESSAGE_LEN_MAX {
            return Err(TlvError::LengthMismatch { needed: CONTROL_MESSAGE_LEN_MAX, len: message.len() });
        }
        let header = TlvHeader::parse(message, message.len())?;
        let mut r = Reader(&message[header.header_len..]);
        let parsed = Self::parse_value(header.kind, &mut r)?;
        if !r.0.is_empty() {
            return Err(TlvError::LengthMismatch { needed: message.len() - r.0.len(), len: message.len() });
        }
        Ok(parsed)
    }

    fn parse_value(kind: u16, r: &mut Reader<'_>) -> Result<Self, TlvError> {
        Ok(match kind {
            HEARTBEAT => Self::Heartbeat { number: r.u32()? },
            HEARTBEAT_REPLY => Self::HeartbeatReply { number: r.u32()? },
            REGISTER => Self::Register {
                version: r.u16()?,
                node: NodeNumber(r.u16()?),
                process: ProcessId(r.u64()?),
                interfaces: r.list(10, |r| {
                    Ok(HeldInterface { lan: LanId(r.u16()?), vif: VifNumber(r.u16()?), mac: r.mac()? })
                })?,
                direct: r.list(13, |r| {
                    Ok(HeldDirect {
                        rvi: RviNumber(r.u32()?),
                        lan: LanId(r.u16()?),
                        peer: NodeNumber(r.u16()?),
                        channel: Channel(r.u8()?),
                        own_vif: VifNumber(r.u16()?),
                        peer_vif: VifNumber(r.u16()?),
                    })
                })?,
            },
            REGISTERED => Self::Registered { epoch: r.u64()? },
            REFUSED => Self::Refused { reason: r.text()? },
            FENCED => Self::Fenced,
            INTERFACE => Self::Interface(InterfaceConfig {
                lan: LanId(r.u16()?),
                vif: VifNumber(r.u16()?),
                mac: r.mac()?,
                mtu: r.u16()?,
                relay_channel: Channel(r.u8()?),
                arp_channel: Channel(r.u8()?),
                check_source: r.bool()?,
                name: r.text()?,
                lan_name: r.text()?,
                addresses: r.list(6, |r| Ok(InterfaceAddress { address: r.ip()?, prefix: r.u8()? }))?,
                gateways: r.list(5, Reader::ip)?,
            }),
            INTERFACE_REMOVED => Self::InterfaceRemoved { vif: VifNumber(r.u16()?) },
            CONFIGURATION_END => Self::ConfigurationEnd { epoch: r.u64()? },
            BIND => Self::Bind {
                vif: VifNumber(r.u16()?),
                address: InterfaceAddress { address: r.ip()?, prefix: r.u8()? },
            },
            UNBIND => Self::Unbind { vif: VifNumber(r.u16()?), address: r.ip()? },
            MEMBER => Self::Member(MemberNotice {
                lan: LanId(r.u16()?),
                node: NodeNumber(r.u16()?),
                vif: VifNumber(r.u16()?),
                mac: r.mac()?,
                process: ProcessId(r.u64()?),
                attached: r.bool()?,
            }),
            BINDING => Self::Binding { mac: r.mac()?, location: Location::parse(r.array::<LOCATION_LEN>()?) },
            GRANT => Self::Grant(Grant {
                rvi: RviNumber(r.u32()?),
                lan: LanId(r.u16()?),
                peer: NodeNumber(r.u16()?),
                peer_process: ProcessId(r.u64()?),
                channel: Channel(r.u8()?),
                own_vif: VifNumber(r.u16()?),
                peer_vif: VifNumber(r.u16()?),
                peer_mac: r.mac()?,
            }),
            REVOKE => Self::Revoke {
                rvi: RviNumber(r.u32()?),
                peer: NodeNumber(r.u16()?),
                reason: RevokeReason::from_u8(r.u8()?).ok_or(TlvError::BadField { field: "reason" })?,
            },
            REVOKED => Self::Revoked { rvi: RviNumber(r.u32()?) },
            LEG_CUT => Self::LegCut { peer: NodeNumber(r.u16()?), leg: r.u8()? },
            DIRECT_IDLE => Self::DirectIdle { rvi: RviNumber(r.u32()?) },
            DIRECT_LOST => Self::DirectLost { peer: NodeNumber(r.u16()?), process: ProcessId(r.u64()?) },
            BARRIER => Self::Barrier {
                lan: LanId(r.u16()?),
                origin: NodeNumber(r.u16()?),
                origin_vif: VifNumber(r.u16()?),
                destination: NodeNumber(r.u16()?),
                destination_vif: VifNumber(r.u16()?),
                boot: BootTag(r.u16()?),
                id: r.u32()?,
            },
            BARRIER_ECHO => Self::BarrierEcho { id: r.u32()? },
            RELAY_DRAINED => Self::RelayDrained { waiting: r.bool()? },
            REPORT_REQUEST => Self::ReportRequest { id: r.u32()? },
            REPORT => Self::Report {
                id: r.u32()?,
                last: r.bool()?,
                items: r.list(9, |r| Ok(ReportItem { name: r.text()?, value: r.u64()? }))?,
            },
            kind => return Err(TlvError::UnknownKind { kind }),
        })
    }

    /// True for the messages that travel in order with the frames of their channel rather than on channel 0.
    #[must_use]
    pub const fn is_in_band(&self) -> bool {
        matches!(self, Self::Barrier { .. } | Self::BarrierEcho { .. } | Self::RelayDrained { .. })
    }
}

/// Appends fields, little-endian.
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, v: u8) -> &mut Self {
        self.octets(&[v])
    }
    fn u16(&mut self, v: u16) -> &mut Self {
        self.octets(&v.to_le_bytes())
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.octets(&v.to_le_bytes())
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.octets(&v.to_le_bytes())
    }
    fn octets(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// A length u8 and the text, cut at 255 octets.
    fn text(&mut self, v: &str) -> &mut Self {
        let mut end = v.len().min(255);
        while !v.is_char_boundary(end) {
            end -= 1;
        }
        self.u8(end as u8).octets(&v.as_bytes()[..end])
    }
    /// 4 or 6, then the address in network order.
    fn ip(&mut self, v: IpAddr) -> &mut Self {
        match v {
            IpAddr::V4(a) => self.u8(4).octets(&a.octets()),
            IpAddr::V6(a) => self.u8(6).octets(&a.octets()),
        }
    }
    fn kind(&mut self, kind: u16) -> u16 {
        kind
    }
}

/// Takes fields from the front; every method fails when the octets run out.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], TlvError> {
        let (field, rest) =
            self.0.split_first_chunk::<N>().ok_or(TlvError::Truncated { needed: N, len: self.0.len() })?;
        self.0 = rest;
        Ok(field)
    }
    fn u8(&mut self) -> Result<u8, TlvError> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16, TlvError> {
        Ok(u16::from_le_bytes(*self.array()?))
    }
    fn u32(&mut self) -> Result<u32, TlvError> {
        Ok(u32::from_le_bytes(*self.array()?))
    }
    fn u64(&mut self) -> Result<u64, TlvError> {
        Ok(u64::from_le_bytes(*self.array()?))
    }
    fn bool(&mut self) -> Result<bool, TlvError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(TlvError::BadField { field: "boolean" }),
        }
    }
    fn mac(&mut self) -> Result<MacAddress, TlvError> {
        Ok(MacAddress(*self.array()?))
    }
    fn ip(&mut self) -> Result<IpAddr, TlvError> {
        match self.u8()? {
            4 => Ok(IpAddr::V4(Ipv4Addr::from(*self.array::<4>()?))),
            6 => Ok(IpAddr::V6(Ipv6Addr::from(*self.array::<16>()?))),
            _ => Err(TlvError::BadField { field: "address family" }),
        }
    }
    fn text(&mut self) -> Result<String, TlvError> {
        let len = usize::from(self.u8()?);
        if self.0.len() < len {
            return Err(TlvError::Truncated { needed: len, len: self.0.len() });
        }
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        core::str::from_utf8(text).map(String::from).map_err(|_| TlvError::BadField { field: "text" })
    }
    /// A count u16 and that many items of at least `item_len_min` octets: no count makes us allocate more
    /// than the message itself could hold.
    fn list<T>(
        &mut self,
        item_len_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, TlvError>,
    ) -> Result<Vec<T>, TlvError> {
        let count = usize::from(self.u16()?);
        let needed = count * item_len_min;
        if needed > self.0.len() {
            return Err(TlvError::Truncated { needed, len: self.0.len() });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn examples() -> Vec<ControlMessage> {
        let address = InterfaceAddress { address: "fd00:1::1".parse().unwrap(), prefix: 64 };
        vec![
            ControlMessage::Heartbeat { number: 1 },
            ControlMessage::HeartbeatReply { number: u32::MAX },
            ControlMessage::Register {
                version: TLV_VERSION,
                node: NodeNumber(1),
                process: ProcessId(99),
                interfaces: vec![HeldInterface {
                    lan: LanId(10),
                    vif: VifNumber(1),
                    mac: MacAddress([2; 6]),
                }],
                direct: vec![HeldDirect {
                    rvi: RviNumber(4),
                    lan: LanId(10),
                    peer: NodeNumber(2),
                    channel: Channel(3),
                    own_vif: VifNumber(1),
                    peer_vif: VifNumber(1),
                }],
            },
            ControlMessage::Registered { epoch: 3 },
            ControlMessage::Refused { reason: "no such node".into() },
            ControlMessage::Fenced,
            ControlMessage::Interface(InterfaceConfig {
                lan: LanId(10),
                vif: VifNumber(1),
                mac: MacAddress([2, 0, 1, 0, 0, 1]),
                mtu: 16_896,
                relay_channel: Channel(1),
                arp_channel: Channel(2),
                check_source: true,
                name: "red0".into(),
                lan_name: "red".into(),
                addresses: vec![address],
                gateways: vec!["10.1.0.254".parse().unwrap()],
            }),
            ControlMessage::InterfaceRemoved { vif: VifNumber(2) },
            ControlMessage::ConfigurationEnd { epoch: 3 },
            ControlMessage::Bind { vif: VifNumber(1), address },
            ControlMessage::Unbind { vif: VifNumber(1), address: address.address },
            ControlMessage::Member(MemberNotice {
                lan: LanId(10),
                node: NodeNumber(2),
                vif: VifNumber(1),
                mac: MacAddress([2; 6]),
                process: ProcessId(8),
                attached: true,
            }),
            ControlMessage::Binding { mac: MacAddress([2; 6]), location: Location::default() },
            ControlMessage::Grant(Grant {
                rvi: RviNumber(7),
                lan: LanId(10),
                peer: NodeNumber(2),
                peer_process: ProcessId(8),
                channel: Channel(1),
                own_vif: VifNumber(1),
                peer_vif: VifNumber(1),
                peer_mac: MacAddress([2; 6]),
            }),
            ControlMessage::Revoke { rvi: RviNumber(7), peer: NodeNumber(2), reason: RevokeReason::Cut },
            ControlMessage::Revoked { rvi: RviNumber(7) },
            ControlMessage::LegCut { peer: NodeNumber(2), leg: 1 },
            ControlMessage::DirectIdle { rvi: RviNumber(7) },
            ControlMessage::DirectLost { peer: NodeNumber(2), process: ProcessId(8) },
            ControlMessage::Barrier {
                lan: LanId(10),
                origin: NodeNumber(1),
                origin_vif: VifNumber(1),
                destination: NodeNumber(2),
                destination_vif: VifNumber(1),
                boot: BootTag(7),
                id: 5,
            },
            ControlMessage::BarrierEcho { id: 5 },
            ControlMessage::RelayDrained { waiting: true },
            ControlMessage::ReportRequest { id: 9 },
            ControlMessage::Report {
                id: 9,
                last: true,
                items: vec![ReportItem { name: "vif.1.tx.frames".into(), value: 12 }],
            },
        ]
    }

    #[test]
    fn every_control_message_round_trips() {
        for message in examples() {
            assert_eq!(ControlMessage::parse(&message.emit()), Ok(message));
        }
    }

    #[test]
    fn every_cut_or_lengthened_control_message_is_refused() {
        //= spec/tlv.md#control-messages
        //= type=test
        //# A receiver MUST refuse a control message that is longer than 16 KiB, that ends inside a field or that has
        //# octets left over.
        for message in examples() {
            let octets = message.emit();
            for len in 0..octets.len() {
                let mut cut = octets[..len].to_vec();
                assert!(ControlMessage::parse(&cut).is_err());
                if len >= TLV_HEADER_LEN {
                    cut[4..8].copy_from_slice(&((len - TLV_HEADER_LEN) as u32).to_le_bytes());
                    assert!(ControlMessage::parse(&cut).is_err(), "{message:?} cut to {len}");
                }
            }
            let mut longer = octets.clone();
            longer.push(0);
            longer[4..8].copy_from_slice(&((octets.len() + 1 - TLV_HEADER_LEN) as u32).to_le_bytes());
            assert!(ControlMessage::parse(&longer).is_err(), "{message:?}");
        }
        assert!(ControlMessage::parse(&vec![0; CONTROL_MESSAGE_LEN_MAX + 1]).is_err());
    }
}

//! Control messages: registration, configuration, notices, grants, barriers, heartbeats and reports.
//!
//! Each is a base header and a value of fields in the stated order, little-endian; lists are a count u16 and
//! the items. They are small and rare, so they are read into plain values.

mod capture;
mod cluster;
mod fault;
mod fields;
mod grant;
mod groups;
mod interface;
mod leg;
mod registration;
mod report;
mod sender;
mod trace;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::address::{BootTag, LanId, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};
use crate::limits::CONTROL_MESSAGE_LEN_MAX;
use crate::location::Location;
use crate::wire::tlv::{TLV_HEADER_LEN, TlvError, TlvHeader};

use fields::{Reader, Writer};

pub use capture::{CaptureDirections, CaptureOrder, CapturePoint};
pub use cluster::{
    CheckOrder, Checked, FlowNotice, Listening, ListeningNotice, ServedCluster, ServedService,
};
pub use fault::{FAULT_OFF, Fault, FaultDirection};
pub use grant::{Grant, GrantedAssociation, RevokeReason};
pub use groups::{GroupCause, GroupNotice, GroupPolicy, JoinedGroup};
pub use interface::{InterfaceAddress, InterfaceConfig, MemberNotice};
pub use leg::{GrantedLeg, HeldLeg, LegAddress, LegKind, OfferedLeg};
pub use registration::{HeldAssociation, HeldDirect, HeldInterface};
pub use report::{ReportItem, ReportedDrop};
pub use sender::{GroupLimits, SenderNotice};
pub use trace::{TraceEnd, TraceOrder, TraceStep, TraceWay, Traced};

/// Version of the TLV layer that this code speaks; both ends state it at registration (D10).
pub const TLV_VERSION: u16 = 3;

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
        /// The associations that carry them.
        associations: Vec<HeldAssociation>,
        /// The packet legs it is ready for.
        legs: Vec<OfferedLeg>,
    },
    /// Node to control node: the packet legs it is ready for now, all of them; in place of what it said before.
    LegAddresses {
        /// The legs.
        legs: Vec<OfferedLeg>,
    },
    /// Node to control node: this arena of a LAN is mapped here, so references to it may come in place of frames. With LAN and
    /// number 0: an arena could be mapped here.
    ArenaReady {
        /// The LAN.
        lan: LanId,
        /// Number of the arena.
        arena: u32,
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
    /// Node to control node: what an interface wants of multicast (S111).
    Groups(GroupNotice),
    /// Control node to node: what the LAN does with multicast at an interface.
    GroupPolicy(GroupPolicy),
    /// Control node to node: how much one of its interfaces may send to groups.
    GroupLimits(GroupLimits),
    /// Node to control node: an interface has begun to listen promiscuously, or has ended (S131). Control node to
    /// node: another member has (S50).
    Promiscuous {
        /// Where the listener is.
        listener: Location,
        /// It listens from now on.
        listens: bool,
    },
    /// Node to control node: its stack owns these flows of clusters that it serves.
    Claims(FlowNotice),
    /// Node to control node: its stack has these flows no more.
    FlowsGone(FlowNotice),
    /// Node to control node: every flow that an interface owns has been claimed.
    FlowsTold {
        /// The interface.
        vif: VifNumber,
    },
    /// Node to control node: something listens at services of clusters, or nothing does any more.
    Listening(ListeningNotice),
    /// Control node to node: check a service of a cluster.
    Check(CheckOrder),
    /// Node to control node: what came of it.
    Checked(Checked),
    /// Control node to node: it has its clusters, or stands by for them.
    ClusterRole {
        /// It has them.
        has: bool,
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
    /// Control node to node: what the other end of a direct RVI may send.
    Sender(SenderNotice),
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
    /// Node to control node: the leg of shared memory for which both ends were introduced is not here, or not any more.
    LegMissing {
        /// The node at the other end.
        peer: NodeNumber,
        /// Its process, as far as this node knows it.
        process: ProcessId,
        /// The leg.
        leg: u8,
    },
    /// Control node to node: both ends were introduced for this leg of shared memory. What there is of a packet leg of that
    /// number may be used again, if it was cut.
    LegIntroduced {
        /// The node at the other end.
        peer: NodeNumber,
        /// The leg.
        leg: u8,
    },
    /// Control node to node: put this fault on packet legs, or take it off (a drill).
    Fault(Fault),
    /// Control node to node: copy what passes there, until told to end or the session ends.
    Capture(CaptureOrder),
    /// Control node to node: so many octets of copies have been taken; as many more may come.
    CaptureCredit {
        /// Number of the capture.
        id: u32,
        /// The octets.
        octets: u32,
    },
    /// Control node to node: end the capture; what is copied already is sent first.
    CaptureEnd {
        /// Number of the capture.
        id: u32,
        /// Nobody waits for the copies any longer.
        discard: bool,
    },
    /// Control node to node: say what would become of this frame.
    Trace(TraceOrder),
    /// Node to control node: what would become of it.
    Traced(Traced),
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
    /// Between nodes whose association ends: everything that I had for you by packet legs you have acknowledged.
    DirectDone,
    /// Control node to node: report your counters.
    ReportRequest {
        /// Number of the request.
        id: u32,
    },
    /// Node to control node, ahead of a report: the last frames that it dropped.
    ReportDrops {
        /// Number of the request.
        id: u32,
        /// The frames.
        drops: Vec<ReportedDrop>,
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
    GROUPS = 0xc038, GROUP_POLICY = 0xc039,
    LEG_ADDRESSES = 0xc03c, ARENA_READY = 0xc03d, PROMISCUOUS = 0xc040,
    CLAIMS = 0xc041, FLOWS_GONE = 0xc042, FLOWS_TOLD = 0xc043, LISTENING = 0xc044,
    CHECK = 0xc045, CHECKED = 0xc046, CLUSTER_ROLE = 0xc04a, LEG_MISSING = 0xc04b,
    INTERFACE = 0xc060, INTERFACE_REMOVED = 0xc061, CONFIGURATION_END = 0xc062, SENDER = 0xc063, GRANT = 0xc064,
    REVOKE = 0xc065, REVOKED = 0xc066, LEG_CUT = 0xc067, DIRECT_IDLE = 0xc068, DIRECT_LOST = 0xc069,
    LEG_INTRODUCED = 0xc06a,
    BARRIER = 0x806a, BARRIER_ECHO = 0x806b, RELAY_DRAINED = 0x806c, FAULT = 0xc06d,
    GROUP_LIMITS = 0xc06e,
    DIRECT_DONE = 0xc0a0,
    CAPTURE = 0xc070, CAPTURE_CREDIT = 0xc071, CAPTURE_END = 0xc072, TRACE = 0xc073, TRACED = 0xc074,
    REPORT_REQUEST = 0x006e, REPORT = 0x006f, REPORT_DROPS = 0x0070,
}

/// Makes the two halves of the format of one list: each message's type and its fields in their order on the wire.
macro_rules! messages {
    ($($kind:ident => $name:ident $({ $($field:ident),+ })? $(($inner:ident: $inner_kind:ty))?),+ $(,)?) => {
        impl ControlMessage {
            /// Appends the value and gives the type.
            fn emit_value(&self, w: &mut Writer) -> u16 {
                match self {
                    $(Self::$name $({ $($field),+ })? $(($inner))? => {
                        $($(w.put($field);)+)?
                        $(w.put($inner);)?
                        $kind
                    })+
                }
            }

            /// Reads the value of a message of type `kind`.
            fn parse_value(kind: u16, r: &mut Reader<'_>) -> Result<Self, TlvError> {
                Ok(match kind {
                    $($kind => Self::$name $({ $($field: r.take()?),+ })? $((r.take::<$inner_kind>()?))?,)+
                    kind => return Err(TlvError::UnknownKind { kind }),
                })
            }
        }
    };
}
messages! {
    HEARTBEAT => Heartbeat { number },
    HEARTBEAT_REPLY => HeartbeatReply { number },
    REGISTER => Register { version, node, process, interfaces, direct, associations, legs },
    REGISTERED => Registered { epoch },
    REFUSED => Refused { reason },
    FENCED => Fenced,
    LEG_ADDRESSES => LegAddresses { legs },
    ARENA_READY => ArenaReady { lan, arena },
    INTERFACE => Interface(config: InterfaceConfig),
    INTERFACE_REMOVED => InterfaceRemoved { vif },
    CONFIGURATION_END => ConfigurationEnd { epoch },
    BIND => Bind { vif, address },
    UNBIND => Unbind { vif, address },
    GROUPS => Groups(notice: GroupNotice),
    GROUP_POLICY => GroupPolicy(policy: GroupPolicy),
    GROUP_LIMITS => GroupLimits(limits: GroupLimits),
    PROMISCUOUS => Promiscuous { listener, listens },
    CLAIMS => Claims(notice: FlowNotice),
    FLOWS_GONE => FlowsGone(notice: FlowNotice),
    FLOWS_TOLD => FlowsTold { vif },
    LISTENING => Listening(notice: ListeningNotice),
    CHECK => Check(order: CheckOrder),
    CHECKED => Checked(checked: Checked),
    CLUSTER_ROLE => ClusterRole { has },
    MEMBER => Member(notice: MemberNotice),
    BINDING => Binding { mac, location },
    SENDER => Sender(notice: SenderNotice),
    GRANT => Grant(grant: Grant),
    REVOKE => Revoke { rvi, peer, reason },
    REVOKED => Revoked { rvi },
    LEG_CUT => LegCut { peer, leg },
    LEG_MISSING => LegMissing { peer, process, leg },
    LEG_INTRODUCED => LegIntroduced { peer, leg },
    FAULT => Fault(fault: Fault),
    CAPTURE => Capture(order: CaptureOrder),
    CAPTURE_CREDIT => CaptureCredit { id, octets },
    CAPTURE_END => CaptureEnd { id, discard },
    TRACE => Trace(order: TraceOrder),
    TRACED => Traced(traced: Traced),
    DIRECT_IDLE => DirectIdle { rvi },
    DIRECT_LOST => DirectLost { peer, process },
    BARRIER => Barrier { lan, origin, origin_vif, destination, destination_vif, boot, id },
    BARRIER_ECHO => BarrierEcho { id },
    RELAY_DRAINED => RelayDrained { waiting },
    DIRECT_DONE => DirectDone,
    REPORT_REQUEST => ReportRequest { id },
    REPORT_DROPS => ReportDrops { id, drops },
    REPORT => Report { id, last, items },
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

    /// True for the messages that steer captures.
    #[must_use]
    pub const fn is_about_captures(kind: u16) -> bool {
        matches!(kind, CAPTURE | CAPTURE_CREDIT | CAPTURE_END)
    }

    /// Overwrites the secret key in a copy of a message of which `octets` are the first; true when it can hold one.
    //= spec/capture.md#keys
    //# A capture MUST NOT hold a key of a pair: a node overwrites it with zeros in the copy of a GRANT.
    pub fn conceal_keys(octets: &mut [u8]) -> bool {
        let Some(header) = octets.first_chunk::<TLV_HEADER_LEN>().copied() else { return false };
        if u16::from_le_bytes([header[0], header[1]]) != GRANT {
            return false;
        }
        let key_at = usize::from(header[3]) * 8 + grant::PAIR_KEY_AT;
        let end = octets.len().min(key_at + crate::key::KEY_LEN);
        if let Some(key) = octets.get_mut(key_at..end) {
            key.fill(0);
        }
        true
    }

    /// True for the messages that travel in order with the frames of their channel rather than on channel 0.
    #[must_use]
    pub const fn is_in_band(&self) -> bool {
        matches!(self, Self::Barrier { .. } | Self::BarrierEcho { .. } | Self::RelayDrained { .. })
    }
}

#[cfg(test)]
mod tests;

//! Why a frame was dropped: each discarded frame is one counted reason (E10).

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a frame or message was discarded. Counted where it happens, in the same arm as the discard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[$doc])* $name),+ }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in counters and by `switchctl drops`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

reasons! {
    /// An accepted frame waited 50 ms for any way to go (amendment 12). One of the four permitted losses.
    Expired = "expired",
    /// A bounded queue towards a receiver was full (amendment 23). One of the four permitted losses.
    EgressFull = "egress-full",
    /// The receiving interface's device refused the frame. One of the four permitted losses.
    DeviceFull = "device-full",
    /// The receiving process died holding the frame or before taking it. One of the four permitted losses.
    PeerGone = "peer-gone",
    /// Shorter than an Ethernet header.
    TooShort = "too-short",
    /// Longer than the LAN's MTU or the largest super-frame allows.
    TooLong = "too-long",
    /// A TLV header that does not parse, or a mandatory type nobody knows.
    Malformed = "malformed",
    /// A message on a channel that is not open here.
    NoChannel = "no-channel",
    /// The sender is not a member of the LAN (S92).
    NotMember = "not-member",
    /// LAN, interface or node in the header do not match the grant the message came by (amendment 1).
    WrongGrant = "wrong-grant",
    /// The source MAC is not the sending interface's own, nor may a station have it (port security `mac`).
    SourceMac = "source-mac",
    /// The source IP, ARP or ND sender address is not the interface's own (port security `address`).
    SourceAddress = "source-address",
    /// A message of a DHCP server from a member that is to be none.
    DhcpGuard = "dhcp-guard",
    /// A router advertisement or redirect from a member that is to be no router.
    RaGuard = "ra-guard",
    /// One more station behind an interface than it may have, or one that has moved just now.
    StationsFull = "stations-full",
    /// More broadcast frames than the interface may send.
    LimitBroadcast = "limit-broadcast",
    /// More frames to groups than the interface may send.
    LimitMulticast = "limit-multicast",
    /// More frames to addresses that no member has than the interface may send.
    LimitUnknown = "limit-unknown",
    /// More frames or bits than the interface may send in all.
    LimitTotal = "limit-total",
    /// Headers that do not say what the frame is: tags or extension headers that hide it, or a fragment without them.
    UnreadableHeaders = "unreadable-headers",
    /// The destination is no member of the LAN and the LAN has no way out.
    UnknownDestination = "unknown-destination",
    /// The destination is a member whose node is not attached.
    NotAttached = "not-attached",
    /// A frame for a multicast group that nobody behind the interface has joined.
    NotJoined = "not-joined",
    /// A frame addressed to its own sender.
    Hairpin = "hairpin",
    /// The receiver has had this frame already (amendment 22).
    Duplicate = "duplicate",
    /// The number of a relayed or group frame lies outside the origin's window (amendment 22).
    OutOfWindow = "out-of-window",
    /// A reference to a frame in an arena that was written over before it was taken. A copy of it comes, or was counted as lost.
    Lapped = "lapped",
    /// A source address that no station can have.
    BadSource = "bad-source",
    /// Sent by a process that has been replaced by a newer one.
    StaleBoot = "stale-boot",
    /// ARP or ND that does not parse.
    BadArp = "bad-arp",
    /// An ARP or ND message that contradicts a binding: the first holder keeps its address.
    AddressConflict = "address-conflict",
    /// A table had no room for a new entry.
    TableFull = "table-full",
    /// The interface is not configured or has been removed.
    InterfaceDown = "interface-down",
    /// A copy for a promiscuous listener found no room, or for 50 ms no way to go. The frame itself is not lost.
    ListenerFull = "listener-full",
    /// A copy was lost with the promiscuous listener that had not taken it. The frame itself is not lost.
    ListenerGone = "listener-gone",
    /// A copy for an interface that does not listen promiscuously, or may not.
    NotListening = "not-listening",
    /// From outside: sent by the platform itself. A loop, or a forged source.
    UplinkLoop = "uplink-loop",
    /// From outside: an IP source, ARP sender or advertised neighbour that a member is.
    InsideSource = "inside-source",
    /// More ARP and ND from outside than the inside is to be troubled with.
    LimitResolution = "limit-resolution",
    /// A tag of another LAN, more than one, or one of a member's own.
    WrongTag = "wrong-tag",
    /// Longer than outside takes, and not to be cut. The sender is told.
    TooBigOutside = "too-big-outside",
    /// To a group that bridges keep to themselves.
    ReservedGroup = "reserved-group",
    /// States a MAC that is not to be seen outside, where it cannot be replaced.
    HiddenMac = "hidden-mac",
    /// For outside, while the uplink's device is not there or has no carrier.
    NoCarrier = "no-carrier",
    /// For a cluster address, where no service is and no flow was claimed.
    UnknownService = "unknown-service",
    /// For a service none of whose real servers takes it.
    NoServer = "no-server",
    /// For a cluster address, a fragment without the first one of its packet.
    OrphanFragment = "orphan-fragment",
    /// For a cluster address, more of what is answered or asked about than there may be.
    LimitCluster = "limit-cluster",
    /// ARP or ND in the name of a cluster address: the control node alone speaks for it.
    ClusterAddress = "cluster-address",
    /// For a cluster address, of a flow that this server does not own, where all that might were asked; or a SYN that came again, whose flow
    /// some server may own that has yet to tell.
    NotOwner = "not-owner",
    /// Given back by a real server that was not given it to pass it on, or later than it may, or when others may own its flow than did.
    NotGiven = "not-given",
    /// For a cluster address, at a control node that stands by for its clusters.
    StandsBy = "stands-by",
}

impl DropReason {
    /// Where the rule stands by which such a frame is dropped, or that speaks of it; empty when none does.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Expired => "spec/driver.md#held-frames",
            Self::EgressFull => "spec/server.md#full-outputs",
            Self::PeerGone | Self::NotAttached => "spec/server.md#members-that-leave",
            Self::TooShort | Self::TooLong | Self::Malformed => "spec/tlv.md#frame-header",
            Self::NoChannel => "spec/rvi.md#channels",
            Self::NotMember => "spec/server.md#admission",
            Self::WrongGrant => "spec/driver.md#direct-frames",
            Self::SourceMac | Self::BadSource => "spec/server.md#port-security",
            Self::SourceAddress => "spec/port-security.md#addresses",
            Self::DhcpGuard => "spec/port-security.md#dhcp-servers",
            Self::RaGuard => "spec/port-security.md#routers",
            Self::LimitBroadcast | Self::LimitMulticast | Self::LimitUnknown | Self::LimitTotal => {
                "spec/port-security.md#limits"
            }
            Self::StationsFull => "spec/port-security.md#learned-stations",
            Self::UnreadableHeaders => "spec/port-security.md#hidden-messages",
            Self::UnknownDestination => "spec/driver.md#unbound-destinations",
            Self::Hairpin => "spec/arp.md#who-gets-a-message",
            Self::Duplicate | Self::OutOfWindow => "spec/driver.md#numbered-frames",
            Self::Lapped => "spec/arena.md#stays",
            Self::StaleBoot => "spec/server.md#another-process",
            Self::BadArp => "spec/arp.md#arp-messages",
            Self::AddressConflict => "spec/arp.md#the-first-holder",
            Self::TableFull => "spec/arp.md#bounds",
            Self::NotJoined => "spec/multicast.md#not-joined",
            Self::ListenerFull => "spec/promiscuous.md#no-room",
            Self::ListenerGone => "spec/promiscuous.md#lost-listeners",
            Self::NotListening => "spec/promiscuous.md#receiving",
            Self::UplinkLoop => "spec/uplink.md#loops",
            Self::InsideSource => "spec/uplink.md#inside-addresses-from-outside",
            Self::LimitResolution => "spec/uplink.md#resolution-from-outside",
            Self::WrongTag => "spec/uplink.md#which-lan",
            Self::TooBigOutside => "spec/uplink.md#too-big",
            Self::ReservedGroup => "spec/uplink.md#groups-of-bridges",
            Self::HiddenMac => "spec/uplink.md#what-cannot-be-hidden",
            Self::NoCarrier => "spec/uplink.md#no-carrier",
            Self::UnknownService => "spec/cluster.md#known-services",
            Self::NoServer => "spec/cluster.md#new-flows",
            Self::OrphanFragment => "spec/cluster.md#fragments",
            Self::LimitCluster => "spec/cluster.md#icmp-errors",
            Self::ClusterAddress => "spec/cluster.md#who-speaks-for-the-address",
            Self::NotOwner => "spec/cluster.md#asked-servers",
            Self::NotGiven => "spec/cluster.md#segments-that-come-back",
            Self::StandsBy => "spec/cluster.md#standing-by",
            _ => "",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

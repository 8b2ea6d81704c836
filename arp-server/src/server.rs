//! An ARP or ND frame that the virtual LAN server admitted is checked here, its sender recorded, and the
//! verdict tells the control node to whom the unchanged frame goes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use vlan_core::ethernet::EthernetHeader;
use vlan_core::server::CLUSTER;
use vlan_core::{DropReason, MacAddress};

use crate::answer::{answer, answer_of_reserved};
use crate::bindings::{BindError, Binding, Bindings, Owner, Recorded};
use crate::build::{Operation, arp, unsolicited_advertisement};
use crate::message::{ArpKind, Parsed, parse};

/// How to make an [`ArpServer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpConfig {
    /// How many bindings the LAN holds at most. A member never holds more than
    /// [`ADDRESSES_PER_VIF_MAX`](vlan_core::limits::ADDRESSES_PER_VIF_MAX) of them, so a capacity of that many
    /// for each member can never be filled by some to the harm of others.
    pub capacity: usize,
    /// Answer from registrations instead of relaying (E6). Relaying is always correct, and costs a frame for every member.
    pub suppress: bool,
}

/// What a message says, for the locations in its header and for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpMessage {
    /// What the message is for.
    pub kind: ArpKind,
    /// The address that the message speaks for, and the sender's MAC: the ARP sender, the IPv6 source of a
    /// solicitation or router message, the target of a neighbour advertisement. `None` for probes and for
    /// router solicitations without an address.
    pub sender: Option<(IpAddr, MacAddress)>,
    /// The address that the message comes from: the same as in `sender` but for neighbour advertisements,
    /// where it is the IPv6 source. Port security `address` has to allow both.
    pub source: Option<IpAddr>,
    /// The address that a request, probe or redirect asks about; the asker's in a reply. `None` when there
    /// is none.
    pub target: Option<IpAddr>,
    /// This message made the binding in `sender`, or changed its MAC.
    pub learned: bool,
    /// Another member holds the address in `sender`: its MAC. The binding stays as it is; the frame is still
    /// delivered, so that the stacks see the conflict themselves.
    pub conflict: Option<MacAddress>,
}

/// What happens to an ARP or ND frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArpVerdict {
    /// It goes to nobody: its sender gets this answer.
    Answer {
        /// What it says.
        message: ArpMessage,
        /// The answer, a whole Ethernet frame from the holder's MAC.
        frame: Vec<u8>,
        /// The member that holds the address asked for; [`CLUSTER`] for a reserved address.
        holder: Owner,
    },
    /// It goes to every member but its sender.
    Flood {
        /// What it says.
        message: ArpMessage,
    },
    /// It goes to the member with this MAC.
    Unicast {
        /// The Ethernet destination.
        to: MacAddress,
        /// What it says.
        message: ArpMessage,
    },
    /// It is dropped, to be counted under this reason.
    Drop(DropReason),
}

/// The ARP server of one virtual LAN.
#[derive(Clone, Debug)]
pub struct ArpServer {
    bindings: Bindings,
    suppress: bool,
    /// Addresses that no member has: their MACs.
    reserved: BTreeMap<IpAddr, MacAddress>,
    /// Members that say that they are routers.
    routers: BTreeSet<Owner>,
    answered: u64,
}

impl ArpServer {
    /// Makes a server with no bindings.
    #[must_use]
    pub fn new(config: &ArpConfig) -> Self {
        Self {
            bindings: Bindings::new(config.capacity),
            suppress: config.suppress,
            reserved: BTreeMap::new(),
            routers: BTreeSet::new(),
            answered: 0,
        }
    }

    /// How many bindings the LAN holds at most from now on: its members have become more, never fewer.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.bindings.set_capacity(capacity);
    }

    /// Answers from registrations from now on, or relays: what is bound and registered stays, and counts at once.
    pub fn set_suppression(&mut self, suppress: bool) {
        self.suppress = suppress;
    }

    /// These addresses are the server's own from now on, and no others: it answers for them, and no member has them.
    pub fn reserve(&mut self, addresses: impl IntoIterator<Item = (IpAddr, MacAddress)>) {
        self.reserved = addresses.into_iter().collect();
        for address in self.reserved.keys() {
            self.bindings.take_away(*address);
        }
    }

    /// The addresses that no member has, with their MACs.
    pub fn reserved(&self) -> impl Iterator<Item = (IpAddr, MacAddress)> + '_ {
        self.reserved.iter().map(|(address, mac)| (*address, *mac))
    }

    /// The answer to a request for a reserved address that came from outside, where no member is the asker; none for any other
    /// message.
    #[must_use]
    pub fn answer_outside(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let header = EthernetHeader::parse(frame).filter(|_| !self.reserved.is_empty())?;
        let parsed = parse(frame, &header, header.source).ok()?;
        let address = self.reserved_target(&parsed)?;
        Some(answer_of_reserved(&parsed, header.source, (address, *self.reserved.get(&address)?)))
    }

    /// How many messages were answered here.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Binds `address` to `mac` and `owner`: a registration by the member's node, or the administrator's word
    /// (S93, S94). The same member may bind again, which moves the MAC.
    ///
    /// # Errors
    /// When another member holds the address, there is no room, or no station can have the address.
    pub fn bind(&mut self, address: IpAddr, mac: MacAddress, owner: Owner) -> Result<(), BindError> {
        if let Some(&holder) = self.reserved.get(&address) {
            return Err(BindError::Conflict { holder });
        }
        self.bindings.bind(address, mac, owner)
    }

    /// Takes a binding of `owner` back; false when `owner` does not hold `address`.
    pub fn unbind(&mut self, address: IpAddr, owner: Owner) -> bool {
        self.bindings.unbind(address, owner)
    }

    /// Drops everything that `owner` holds: it has left the LAN for good.
    pub fn forget(&mut self, owner: Owner) {
        self.bindings.forget(owner);
        self.routers.remove(&owner);
    }

    /// A station is behind the member `to` now, or forgotten.
    pub fn rehome(&mut self, station: MacAddress, to: Option<Owner>) {
        self.bindings.rehome(station, to);
    }

    /// The binding of `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Binding> {
        self.bindings.lookup(address)
    }

    /// The MAC by which neighbours may know an address: of its holder, or of the last one that it had.
    #[must_use]
    pub fn last_mac(&self, address: IpAddr) -> Option<MacAddress> {
        self.bindings.last_mac(address)
    }

    /// What the holder of `address` would say unasked, a whole Ethernet frame for everybody: a gratuitous ARP request (RFC 5227, 2.3)
    /// or an unsolicited neighbour advertisement. `None` when nobody holds it.
    #[must_use]
    pub fn announcement(&self, address: IpAddr) -> Option<Vec<u8>> {
        let (mac, is_router) = match self.reserved.get(&address) {
            Some(mac) => (*mac, false),
            None => {
                let holder = self.bindings.lookup(address)?;
                (holder.mac, self.routers.contains(&holder.owner))
            }
        };
        Some(match address {
            IpAddr::V4(address) => {
                arp(Operation::Request, MacAddress::BROADCAST, (mac, address), address).to_vec()
            }
            IpAddr::V6(address) => unsolicited_advertisement(mac, address, is_router),
        })
    }

    /// Every binding, in the order of addresses, IPv4 first.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> + '_ {
        self.bindings.iter()
    }

    /// Every address that is bound or reserved.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let bound = self.bindings.iter().map(|binding| binding.address);
        bound.chain(self.reserved.keys().copied())
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// True when nothing is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.len() == 0
    }

    /// Takes an ARP or ND frame of the member `from`.
    ///
    /// `frame` is a whole private copy: what is checked here is what the caller delivers. `from_mac` is the
    /// one MAC that the sender may use: the member's own under port security where nothing is learned, else the frame's source.
    /// The checksum of an ND message is not verified: it may not have been filled in yet.
    pub fn handle_frame(&mut self, frame: &[u8], from: Owner, from_mac: MacAddress) -> ArpVerdict {
        let Some(header) = EthernetHeader::parse(frame) else {
            return ArpVerdict::Drop(DropReason::TooShort);
        };
        if !from_mac.is_station() {
            return ArpVerdict::Drop(DropReason::BadSource);
        }
        let parsed = match parse(frame, &header, from_mac) {
            Ok(parsed) => parsed,
            Err(reason) => return ArpVerdict::Drop(reason),
        };
        if header.destination == from_mac {
            return ArpVerdict::Drop(DropReason::Hairpin);
        }
        //= spec/arp.md#reserved-addresses
        //# The ARP server MUST drop a message that speaks for a reserved address, and answer every request and probe for one itself.
        if !self.reserved.is_empty() && self.speaks_for_reserved(&parsed) {
            return ArpVerdict::Drop(DropReason::ClusterAddress);
        }
        let message = self.record(&parsed, from, from_mac);
        if let Some(address) = self.reserved_target(&parsed)
            && let Some(&mac) = self.reserved.get(&address)
        {
            self.answered += 1;
            let frame = answer_of_reserved(&parsed, from_mac, (address, mac));
            return ArpVerdict::Answer { message, frame, holder: CLUSTER };
        }
        match parsed.is_router {
            Some(true) => _ = self.routers.insert(from),
            Some(false) => _ = self.routers.remove(&from),
            None => {}
        }
        if let Some(holder) = self.answers(&header, &message, from)
            && let Some(frame) = answer(&message, &holder)
        {
            self.answered += 1;
            return ArpVerdict::Answer { message, frame, holder: holder.owner };
        }
        //= spec/arp.md#who-gets-a-message
        //# The ARP server MUST send a message with a group destination to every member but its sender, and one
        //# with a unicast destination to the member with that MAC alone.
        if header.destination.is_group() {
            ArpVerdict::Flood { message }
        } else {
            ArpVerdict::Unicast { to: header.destination, message }
        }
    }

    /// The holder in whose name a message is answered, if it is.
    //= spec/arp.md#suppression
    //# With suppression on, the ARP server MUST answer a request with a group destination for an address that another
    //# member has registered, in its name, and give the request to nobody.
    //= spec/arp.md#what-is-not-suppressed
    //# The ARP server MUST NOT answer a probe, an announcement, a request whose sender contradicts a binding, or a
    //# solicitation for an address of a router: they go to every other member.
    fn answers(&self, header: &EthernetHeader, message: &ArpMessage, from: Owner) -> Option<Binding> {
        let is_plain = message.kind == ArpKind::Request && message.conflict.is_none();
        if !self.suppress || !is_plain || !header.destination.is_group() {
            return None;
        }
        let holder = self.bindings.lookup(message.target?)?;
        let is_router = holder.address.is_ipv6() && self.routers.contains(&holder.owner);
        (holder.registered && holder.owner != from && !is_router).then_some(holder)
    }

    fn speaks_for_reserved(&self, parsed: &Parsed) -> bool {
        let is_reserved = |address: Option<IpAddr>| address.is_some_and(|a| self.reserved.contains_key(&a));
        is_reserved(parsed.claim) || is_reserved(parsed.source)
    }

    /// The reserved address that a message asks for.
    fn reserved_target(&self, parsed: &Parsed) -> Option<IpAddr> {
        let asks = matches!(parsed.kind, ArpKind::Request | ArpKind::Probe);
        parsed.target.filter(|target| asks && self.reserved.contains_key(target))
    }

    /// Learns what the message teaches, and says what it contradicts.
    fn record(&mut self, parsed: &Parsed, from: Owner, from_mac: MacAddress) -> ArpMessage {
        let recorded = match parsed.claim {
            //= spec/arp.md#learning
            //# The ARP server MUST record the address and MAC that a valid message states for its own sender, unless
            //# another member holds the address or there is no room.
            Some(address) if parsed.teaches => self.bindings.learn(address, from_mac, from),
            Some(address) => match self.bindings.rival(address, from) {
                Some(holder) => Recorded::Conflict(holder),
                None => Recorded::Unchanged,
            },
            //= spec/arp.md#probes
            //# A probe MUST NOT make or change a binding.
            None => Recorded::Unchanged,
        };
        //= spec/arp.md#conflicts-stay-visible
        //# A message that contradicts a binding MUST be delivered like any other, and the contradiction reported.
        let conflict = match recorded {
            Recorded::Conflict(holder) => Some(holder),
            _ => None,
        };
        ArpMessage {
            kind: parsed.kind,
            sender: parsed.claim.map(|address| (address, from_mac)),
            source: parsed.source,
            target: parsed.target,
            learned: recorded == Recorded::Changed,
            conflict,
        }
    }
}

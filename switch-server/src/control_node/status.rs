//! Everything read back: what `switchctl` shows of a control node.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use rvi::Waiting;
use vlan_core::counters::{DropCounters, FrameCount};
use vlan_core::drop_example::DropExample;
use vlan_core::server::Ledger;
use vlan_core::wire::control::{LegAddress, LegKind};
use vlan_core::{Channel, LanId, LegNumber, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};

use crate::control_node::pairs::{PairLeg, PairState, RelayCounters};
use crate::control_node::{ArenaStatus, ClusterStatus, ControlNode, DeviceStatus, UplinkStatus};

/// A node of the platform.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its number.
    pub number: NodeNumber,
    /// Its name.
    pub name: String,
    /// The process that serves it; none when it is not attached.
    pub process: Option<ProcessId>,
    /// The legs that are up.
    pub legs: Vec<LegNumber>,
}

/// A member of a LAN.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Its node.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// Its MAC.
    pub mac: MacAddress,
    /// The interface's name.
    pub interface: String,
    /// True when its node is attached.
    pub attached: bool,
    /// True when it may listen promiscuously.
    pub may_listen: bool,
    /// True while it does.
    pub listens: bool,
    /// How often it wanted to and was refused.
    pub refused_listens: u64,
    /// How many further stations may be behind it.
    pub learn: u16,
    /// The stations that were learned behind it.
    pub stations: Vec<MacAddress>,
    /// Frames taken from it by this control node.
    pub ingress: FrameCount,
    /// Frames given to it by this control node.
    pub egress: FrameCount,
}

/// A virtual LAN.
#[derive(Clone, Debug)]
pub struct LanStatus {
    /// Its number.
    pub id: LanId,
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u16,
    /// Its members.
    pub members: Vec<MemberStatus>,
    /// Frames dropped by its server, by reason.
    pub drops: DropCounters,
    /// Its server's side of the ledger.
    pub ledger: Ledger,
    /// ARP and ND requests that its ARP server has answered.
    pub arp_answered: u64,
    /// Its broadcast arena.
    pub arena: ArenaStatus,
}

/// An address and who holds it.
#[derive(Clone, Debug)]
pub struct BindingStatus {
    /// The LAN.
    pub lan: LanId,
    /// The address.
    pub address: IpAddr,
    /// The holder's MAC.
    pub mac: MacAddress,
    /// The holder's node.
    pub node: NodeNumber,
    /// The holder's interface.
    pub vif: VifNumber,
}

/// How far a direct RVI has come, as its control node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RviState {
    /// Granted to both ends.
    Granted,
    /// Held by one end; the other has lost this control node, or has not registered since it started.
    Adopting,
    /// Revoked or lost; the ends are leaving it.
    Ending,
    /// Cut by the administrator; the pair goes by relay.
    Cut,
}

/// A direct RVI, or a pair that is cut.
#[derive(Clone, Debug)]
pub struct RviStatus {
    /// Its number; 0 for a pair that is cut.
    pub rvi: RviNumber,
    /// Its LAN; 0 for a pair that is cut.
    pub lan: LanId,
    /// One node.
    pub a: NodeNumber,
    /// The other.
    pub b: NodeNumber,
    /// Its channel in the pair's association.
    pub channel: Channel,
    /// How far it has come.
    pub state: RviState,
    /// The legs that the pair was given.
    pub legs: Vec<RviLegStatus>,
    /// Legs of the pair that are cut.
    pub legs_cut: Vec<LegNumber>,
}

/// A leg that a pair was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RviLegStatus {
    /// The leg.
    pub leg: LegNumber,
    /// How it is carried.
    pub kind: LegKind,
    /// Where a packet leg ends, the end of the node `a` first; none of shared memory, and while the ends have not
    /// said it.
    pub addresses: Option<[LegAddress; 2]>,
}

/// What a control node knows.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Epoch of its configuration.
    pub epoch: u64,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The LANs.
    pub lans: Vec<LanStatus>,
    /// The bindings of all LANs.
    pub bindings: Vec<BindingStatus>,
    /// Direct RVIs.
    pub rvis: Vec<RviStatus>,
    /// Messages dropped that were for none of the LANs, by reason.
    pub drops: DropCounters,
    /// The last frame that was dropped for each LAN and reason; its place is the LAN's number.
    pub drop_examples: Vec<DropExample>,
    /// What was done for relay legs.
    pub relay: RelayCounters,
    /// The LANs' clusters.
    pub clusters: Vec<ClusterStatus>,
    /// The LANs' ways outside.
    pub uplinks: Vec<UplinkStatus>,
    /// The devices that they go by, by their numbers.
    pub devices: Vec<DeviceStatus>,
}

impl ControlNode {
    /// Reads everything back.
    #[must_use]
    pub fn status(&self) -> Status {
        let (uplinks, devices) = self.uplinks();
        Status {
            uplinks,
            devices,
            clusters: self.clusters(),
            epoch: self.config.epoch,
            nodes: self.config.nodes.iter().map(|entry| self.node_status(entry)).collect(),
            lans: self.lans.iter().filter(|lan| !lan.is_vacant()).map(lan_status).collect(),
            bindings: self.binding_statuses(),
            rvis: self.rvi_statuses(),
            drops: self.drops.clone(),
            drop_examples: self.drop_examples.iter().cloned().collect(),
            relay: self.relay,
        }
    }

    /// What waits for room on its way to each node that has a session.
    pub fn waiting(&self) -> impl Iterator<Item = (NodeNumber, Waiting)> + '_ {
        self.sessions.iter().flatten().map(|session| (session.node, session.association.waiting()))
    }

    fn node_status(&self, entry: &crate::control_node::NodeEntry) -> NodeStatus {
        let session = self.registered(entry.number).and_then(|place| self.sessions[place].as_ref());
        let legs = |session: &crate::control_node::Session| {
            let packets = session.association.packet_legs().map(|leg| LegNumber(leg.leg.number()));
            session.association.legs().map(|leg| leg.number).chain(packets).collect()
        };
        NodeStatus {
            number: entry.number,
            name: entry.name.clone(),
            process: session.map(|session| session.process),
            legs: session.map_or_else(Vec::new, |session| legs(session)),
        }
    }

    fn binding_statuses(&self) -> Vec<BindingStatus> {
        let of_lan = |lan: &crate::control_node::Lan| {
            let bindings = lan.arp.bindings().filter_map(|binding| {
                let member = lan.config.members.get(usize::from(binding.owner.0))?;
                Some(BindingStatus {
                    lan: lan.config.id,
                    address: binding.address,
                    mac: binding.mac,
                    node: member.node,
                    vif: member.vif,
                })
            });
            bindings.collect::<Vec<_>>()
        };
        self.lans.iter().flat_map(of_lan).collect()
    }

    fn rvi_statuses(&self) -> Vec<RviStatus> {
        let mut rvis = Vec::new();
        for (&key, pair) in &self.pairs.pairs {
            let legs_cut = self.pairs.cuts.iter().filter(|cut| cut.0 == key).filter_map(|cut| cut.1);
            let legs_cut: Vec<LegNumber> = legs_cut.collect();
            let state = match pair.state {
                PairState::Granted => RviState::Granted,
                PairState::Adopting { .. } => RviState::Adopting,
                PairState::Ending { .. } => RviState::Ending,
            };
            let legs: Vec<_> = pair.legs.iter().map(|(&leg, &given)| leg_status(leg, given)).collect();
            rvis.extend(pair.rvis.iter().map(|rvi| RviStatus {
                rvi: rvi.number,
                lan: self.lans[rvi.lan].config.id,
                a: key.0,
                b: key.1,
                channel: rvi.channel,
                state,
                legs: legs.clone(),
                legs_cut: legs_cut.clone(),
            }));
        }
        let cut = self.pairs.cuts.iter().filter(|cut| cut.1.is_none());
        rvis.extend(cut.map(|&(key, _)| RviStatus {
            rvi: RviNumber(0),
            lan: LanId(0),
            a: key.0,
            b: key.1,
            channel: Channel(0),
            state: RviState::Cut,
            legs: Vec::new(),
            legs_cut: Vec::new(),
        }));
        rvis
    }
}

fn leg_status(leg: LegNumber, given: PairLeg) -> RviLegStatus {
    let addresses = match given {
        PairLeg::Unix => None,
        PairLeg::Packet(_, addresses) => addresses,
    };
    RviLegStatus { leg, kind: given.kind(), addresses }
}

fn lan_status(lan: &crate::control_node::Lan) -> LanStatus {
    let stations =
        |slot| lan.server.stations().filter(move |(_, behind)| *behind == slot).map(|(mac, _)| mac);
    let members = lan.server.members().map(|(slot, member)| MemberStatus {
        node: member.node,
        vif: member.vif,
        mac: member.mac,
        interface: lan.member_config(slot).interface.clone(),
        attached: member.process.is_some(),
        may_listen: lan.member_config(slot).may_listen,
        listens: lan.server.listens(slot),
        refused_listens: lan.refused_listeners[usize::from(slot.0)],
        learn: lan.member_config(slot).sender.learn,
        stations: stations(slot).collect(),
        ingress: member.ingress,
        egress: member.egress,
    });
    LanStatus {
        id: lan.config.id,
        name: lan.config.name.clone(),
        mtu: lan.config.mtu,
        members: members.collect(),
        drops: lan.server.drops().clone(),
        ledger: lan.server.ledger(),
        arp_answered: lan.arp.answered(),
        arena: lan.arena.status(),
    }
}

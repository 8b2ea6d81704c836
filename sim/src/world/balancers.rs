//! What is looked at in the proxies of clusters themselves, beside what becomes of calls (`calls.rs`), and clients that flood.
//!
//! It checks I-33 (whatever comes, a proxy takes no more memory), I-34 (what a server answers is never given to a proxy, and goes by the
//! direct RVI where the pair has one), I-37 (control nodes that have the same servers, in whatever order, have the same rows) and I-38 (a
//! segment of an unknown flow is at no more than 4 servers).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use switch_node::node::Node;
use switch_server::control_node::ControlNode;
use vlan_core::driver::Path;
use vlan_core::ip::TCP;
use vlan_core::{DropReason, Instant, MacAddress, NodeNumber, VifNumber};

use super::World;
use super::cluster::{Cluster, PLAIN_PORT, STICKY_PORT, UNKNOWN_PORT};
use super::routed::ROUTED_PORT;
use crate::checker::{StationIndex, Violation};
use crate::frame::internet_checksum;
use crate::segment::{Segment, flags};
use crate::simulation::Simulation;

/// Calls from this number on are none: their segments are a flood's. Those of the next number are fragments, which nobody answers.
const FLOOD: u32 = 1 << 31;
const FRAGMENT: u32 = FLOOD + 1;
/// Segments of a flood at each look of the clients at their calls.
const BURST: u64 = 24;
/// A flood's ports lie below those of calls.
const PORTS: u64 = 19_000;
/// Servers that a segment of an unknown flow may be at (spec/cluster.md).
const ASKED_MAX: usize = 4;

/// What a proxy took when it was first looked at, of each life and configuration of its control node.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    memory: BTreeMap<(usize, u32, u64), Vec<usize>>,
    /// The station that floods.
    flooder: Option<usize>,
}

impl World {
    /// Looks at the proxies of every control node that lives.
    pub(super) fn check_balancers(&mut self) {
        let outcome =
            self.judge_memory().and_then(|()| self.judge_rows()).and_then(|()| self.judge_answers());
        if let Err((invariant, detail)) = outcome {
            self.break_invariant(Violation { invariant, at: self.now(), detail });
        }
    }

    fn judge_memory(&mut self) -> Result<(), (&'static str, String)> {
        for control in 0..self.controls.len() {
            let host = &self.controls[control];
            let Some(machine) = &host.machine else { continue };
            let now: Vec<usize> = machine.clusters().iter().map(|cluster| cluster.memory_octets).collect();
            let of = (control, host.schedule.life, self.epoch);
            let first = self.balancers.memory.entry(of).or_insert_with(|| now.clone());
            if *first != now {
                let detail = format!("control node {control}: {first:?} octets at first, {now:?} now");
                return Err(("I-33 constant memory", detail));
            }
        }
        Ok(())
    }

    fn judge_rows(&self) -> Result<(), (&'static str, String)> {
        let rows = |machine: &ControlNode| -> Vec<[NodeNumber; 2]> {
            let of = |tables: &cluster_proxy::Tables| {
                tables.services().flat_map(|service| tables.rows(service.key)).collect::<Vec<_>>()
            };
            machine.cluster_tables().flat_map(of).collect()
        };
        let all: Vec<_> = self.controls.iter().filter_map(|c| c.machine.as_ref()).map(rows).collect();
        match all.windows(2).find(|two| two[0] != two[1]) {
            None => Ok(()),
            Some(two) => {
                let row = two[0].iter().zip(&two[1]).position(|(one, other)| one != other);
                Err(("I-37 equal rows", format!("two control nodes differ at row {row:?}")))
            }
        }
    }

    /// No proxy is given what comes from its own address.
    fn judge_answers(&self) -> Result<(), (&'static str, String)> {
        let machines = self.controls.iter().filter_map(|control| control.machine.as_ref());
        let own = |machine: &ControlNode| -> u64 {
            machine.clusters().iter().map(|cluster| cluster.counters.drops.of(DropReason::BadSource)).sum()
        };
        match machines.map(own).sum() {
            0_u64 => Ok(()),
            count => {
                Err(("I-34 answers pass by", format!("{count} packets from a cluster came to its proxy")))
            }
        }
    }

    /// The frames that an interface has sent by relay, if this is an answer of a cluster to a member to which it has a direct way.
    pub(super) fn relayed_before_answer(&self, machine: &Node, vif: VifNumber, frame: &[u8]) -> Option<u64> {
        let cluster = self.cluster.as_ref()?;
        let segment = Segment::parse(frame)?;
        let to = MacAddress::from_octets(frame)?;
        let interface = machine.interfaces().find(|interface| interface.config.vif == vif)?;
        let is_direct = interface.peers.iter().any(|peer| peer.mac == to && peer.path == Path::Direct);
        let is_answer = cluster.addresses.contains(&segment.source.ip());
        (is_answer && is_direct).then_some(interface.counters.sent_relay.frames)
    }

    /// The answer has been taken.
    pub(super) fn judge_answer(&mut self, machine: &Node, vif: VifNumber, before: u64) {
        let interface = machine.interfaces().find(|interface| interface.config.vif == vif);
        if interface.is_some_and(|interface| interface.counters.sent_relay.frames != before) {
            let detail = format!("node {} has a direct way and answers by relay", machine.number());
            self.break_invariant(Violation { invariant: "I-34 answers pass by", at: self.now(), detail });
        }
    }

    // --- floods ---------------------------------------------------------------------------------------------

    /// This station floods the cluster with segments of flows that are none, while there is traffic.
    pub fn flood_from(&mut self, station: usize) {
        self.balancers.flooder = Some(station);
    }

    pub(super) fn go_on_flooding(&mut self, now: Instant) {
        let Some(station) = self.balancers.flooder else { return };
        for _ in 0..BURST {
            let port = [PLAIN_PORT, STICKY_PORT, UNKNOWN_PORT][self.random.below(3) as usize];
            let said = [flags::SYN, flags::ACK, flags::RST, flags::FIN | flags::ACK, flags::SYN | flags::ACK];
            let said = said[self.random.below(5) as usize];
            match self.random.below(6) {
                0 => self.send_fragment(now, station, port),
                _ => self.send_stray(now, station, port, said),
            }
        }
    }

    /// Sends a segment of a flow that nobody has.
    fn send_stray(&mut self, now: Instant, station: usize, port: u16, said: u8) {
        let over_ipv4 = self.chance(50);
        let Some(segment) = self.stray(station, port, said, over_ipv4) else { return };
        self.send_segment(now, StationIndex(station), segment);
    }

    /// Sends a fragment of IPv4, the first of a packet or a later one.
    fn send_fragment(&mut self, now: Instant, station: usize, port: u16) {
        let Some(segment) = self.stray(station, port, flags::ACK, true) else { return };
        let segment = Segment { call: FRAGMENT, ..segment };
        let fragment = [[0x20, 0], [0x20, 185], [0, 185]][self.random.below(3) as usize];
        let identification = self.random.below(64) as u16;
        let make =
            |source, destination| fragment_of(segment.frame(source, destination), identification, fragment);
        let addresses = (segment.source.ip(), segment.destination.ip());
        self.send_frame_of_station(now, StationIndex(station), addresses, make);
    }

    fn stray(&mut self, station: usize, port: u16, said: u8, over_ipv4: bool) -> Option<Segment> {
        // None that packets for others have.
        let own_port = ROUTED_PORT + 1 + self.random.below(PORTS) as u16;
        let own = self.stations[station];
        let own = if over_ipv4 { own.ipv4.address } else { own.ipv6.address };
        let address = self.cluster.as_ref()?.addresses[usize::from(!over_ipv4)];
        Some(Segment {
            source: SocketAddr::new(own, own_port),
            destination: SocketAddr::new(address, port),
            flags: said,
            call: FLOOD,
            value: 0,
        })
    }

    // --- who is asked ---------------------------------------------------------------------------------------

    /// Nothing is sent any more but what the scenario sends.
    pub fn fall_silent(&mut self) {
        self.stop_traffic();
    }

    /// A member sends segments of flows that nobody has, one after the other: each may come to four servers at most, and one must come
    /// to several.
    ///
    /// # Errors
    /// When an invariant breaks.
    pub fn expect_few_asked(&mut self, client: usize, segments: usize) -> Result<(), Violation> {
        let mut most = 0;
        for _ in 0..segments {
            let before = self.given();
            let now = self.now();
            self.send_stray(now, client, PLAIN_PORT, flags::ACK);
            self.run_for(std::time::Duration::from_millis(5))?;
            let asked = self.given().iter().zip(&before).filter(|(after, before)| after > before).count();
            most = most.max(asked);
            if asked > ASKED_MAX {
                let detail = format!("{asked} servers were given a segment of an unknown flow");
                return Err(Violation { invariant: "I-38 four servers", at: self.now(), detail });
            }
        }
        if most < 2 {
            return Err(self.stuck(format!("of {segments} segments none was at more than {most} servers")));
        }
        Ok(())
    }

    /// Frames that each server was given by the control node that has the clusters.
    fn given(&self) -> Vec<u64> {
        let machine = self.controls[self.has_clusters].machine.as_ref();
        let clusters = machine.map(ControlNode::clusters).unwrap_or_default();
        let services = clusters.iter().flat_map(|cluster| cluster.services.first());
        services
            .flat_map(|service| {
                service.servers.iter().map(|server| server.counters.given.frames + server.asked)
            })
            .collect()
    }
}

impl Cluster {
    /// A segment of a flood has come: none may for what is no service. Returns what a stack answers.
    pub(super) fn flood_arrives(
        &self,
        segment: Segment,
    ) -> Option<Result<Option<Segment>, (&'static str, String)>> {
        if segment.call < FLOOD {
            return None;
        }
        let is_asked = self.addresses.contains(&segment.destination.ip()) && segment.call == FLOOD;
        if is_asked && segment.destination.port() == UNKNOWN_PORT {
            return Some(Err(("I-31 known services", format!("{segment:?} reached a stack"))));
        }
        let answer = match segment.flags {
            flags::SYN => Some(flags::SYN | flags::ACK),
            said if said & flags::RST == 0 => Some(flags::RST),
            _ => None,
        };
        Some(Ok(answer.filter(|_| is_asked).map(|said| segment.answer(said, 0))))
    }
}

/// Makes a fragment of a frame of IPv4: `bits` are its flags and its offset.
fn fragment_of(mut frame: Vec<u8>, identification: u16, bits: [u8; 2]) -> Vec<u8> {
    debug_assert_eq!(frame[23], TCP, "a segment of IPv4");
    // So long that another may follow: eights of octets.
    frame.extend([0; 4]);
    frame[16..18].copy_from_slice(&44_u16.to_be_bytes());
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    frame[20..22].copy_from_slice(&bits);
    frame[24..26].fill(0);
    let sum = internet_checksum(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

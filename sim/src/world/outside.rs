//! The network outside an uplink: one station with a stack of its own, and what may be seen there.
//!
//! It checks I-40 (in filtered mode no MAC of a member is stated outside, bodies included), I-41 (what is for a member does not leave), I-42
//! (no frame is longer than the device takes, nor tagged) and I-43 (nothing that went outside comes in again); numbered frames go to the
//! checker, like those at the devices of nodes. While the LAN has no uplink nothing may go out or come in (I-41).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use lan_proxy::{Device, Mode, audit};
use switch_server::control_node::{
    Changes, ControlNode, DeviceNumber, DeviceState, UplinkChange, UplinkConfig,
};
use vlan_core::ethernet::{EthernetHeader, is_neighbour_resolution};
use vlan_core::server::PortSecurity;
use vlan_core::wire::control::{InterfaceAddress, InterfaceConfig};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Channel, Instant, LanId, MacAddress, VifNumber};

use super::connections::Party;
use super::{Event, World, cluster};
use crate::checker::{FlowIndex, Receivers, StationIndex, Violation};
use crate::coverage::Fault;
use crate::frame::{self, Addressing};
use crate::plan::{OutsidePlan, SERIAL, StationPlan};
use crate::segment::Segment;
use crate::simulation::Simulation;
use crate::stack::{Datagram, Outgoing, PLAIN, Stack};

/// Stands for the node of the station outside: no node has this place.
pub(super) const NOWHERE: usize = 60_000;
const OUTSIDE_MAC: MacAddress = MacAddress([0x52, 0, 0, 0, 0, 9]);
/// Of the control node's counter, as every system MAC is: it is known when it comes back, also after the uplink is another one.
pub(super) const SYSTEM_MAC: MacAddress = MacAddress([2, 0, SERIAL.0 as u8, 0x77, 0x77, 0x77]);
const DEVICE: DeviceNumber = DeviceNumber(0);
/// Of 100 frames that go outside, how many come back at once, as by a loop there. Of ARP and ND all do: a probe, which has no sender's
/// address, is known by its source alone.
const LOOPED_PERCENT: u64 = 3;

/// The station outside, and what it sends.
pub(super) struct Outside {
    station: StationIndex,
    stack: Stack,
    /// What it sends to members and to everybody; the MAC is that of a group.
    flows: Vec<(FlowIndex, Option<MacAddress>)>,
    timer: Option<Instant>,
    has_carrier: bool,
    /// How the LAN is bridged now, if it is.
    uplink: Option<OutsidePlan>,
}

/// The place of the station outside among the others: a member of no node.
pub(super) fn station(lan: LanId) -> StationPlan {
    let ipv4 = IpAddr::V4(Ipv4Addr::new(10, lan.0 as u8, 0, 200));
    let ipv6 = IpAddr::V6(Ipv6Addr::new(0xfd00, lan.0, 0, 0, 0, 0, 0, 200));
    StationPlan {
        node: NOWHERE,
        vif: VifNumber(1),
        lan: 0,
        mac: OUTSIDE_MAC,
        ipv4: InterfaceAddress { address: ipv4, prefix: 24 },
        ipv6: InterfaceAddress { address: ipv6, prefix: 64 },
    }
}

/// How the first LAN is bridged.
pub(super) fn uplink(plan: OutsidePlan) -> UplinkConfig {
    let mode = match plan {
        OutsidePlan::Filtered => Mode::Filtered { system: SYSTEM_MAC },
        OutsidePlan::Unfiltered => Mode::Unfiltered,
    };
    let link_dependency = plan == OutsidePlan::Unfiltered;
    UplinkConfig { mode, vid: None, device: DEVICE, default_router: None, link_dependency }
}

impl Outside {
    pub fn new(
        station: StationIndex,
        plan: &StationPlan,
        lan: LanId,
        mtu: u16,
        world: &crate::plan::Plan,
    ) -> Self {
        let config = InterfaceConfig {
            lan,
            vif: plan.vif,
            mac: plan.mac,
            mtu,
            relay_channel: Channel(0),
            arp_channel: Channel(0),
            port_security: PortSecurity::Off,
            may_listen: false,
            has_carrier: true,
            name: "eth0".into(),
            lan_name: String::new(),
            addresses: vec![plan.ipv4, plan.ipv6],
            gateways: Vec::new(),
            clusters: Vec::new(),
            cluster_addresses: Vec::new(),
        };
        let stack = Stack::new(Instant::ZERO, config, world.stack_times);
        Self { station, stack, flows: Vec::new(), timer: None, has_carrier: true, uplink: world.outside }
    }
}

impl World {
    /// The station outside, if there is one.
    pub(super) fn outside_station(&self) -> Option<StationIndex> {
        self.outside.as_ref().map(|outside| outside.station)
    }

    /// True for the station outside.
    pub(super) fn is_outside(&self, station: StationIndex) -> bool {
        self.outside.as_ref().is_some_and(|outside| outside.station == station)
    }

    /// A control node has started: it looks at its device.
    pub(super) fn device_found(&mut self, now: Instant, machine: &mut ControlNode) {
        let Some(outside) = &self.outside else { return };
        // As long as any frame inside may be: what is too long for outside is the proxy's own tests' affair.
        let device = Device { mtu: outside.stack.config.mtu, offloads: true };
        machine.handle_device(now, DEVICE, DeviceState { device, has_carrier: outside.has_carrier });
        self.checker.station_up(outside.station);
        self.checker.attach(now, outside.station, true);
    }

    /// What the device had not given to anybody goes with the control node.
    pub(super) fn device_lost(&mut self, now: Instant) {
        if let Some(outside) = &self.outside {
            self.checker.station_down(now, outside.station);
        }
    }

    /// The uplink that the first LAN has now.
    pub(super) fn uplink_config(&self) -> Option<UplinkConfig> {
        self.outside.as_ref()?.uplink.map(uplink)
    }

    fn is_filtered(&self) -> bool {
        self.outside.as_ref().is_some_and(|outside| outside.uplink == Some(OutsidePlan::Filtered))
    }

    /// The first LAN, which has a network outside, is bridged to it otherwise from now on, or not at all.
    pub fn change_uplink(&mut self, plan: Option<OutsidePlan>) {
        let now = self.now();
        let Some(outside) = self.outside.as_mut().filter(|outside| outside.uplink != plan) else { return };
        outside.uplink = plan;
        self.journal.line(now, format_args!("apply: the uplink is {plan:?}"));
        // What is on its way outside may find none: it is counted as dropped, and nobody's loss.
        let station = outside.station;
        self.checker.station_down(now, station);
        self.checker.station_up(station);
        for member in self.live_stations() {
            self.count_fault_of(Fault::Apply, Party::Node(self.stations[member].node));
        }
        let uplinks = vec![UplinkChange { lan: self.plan.lans[0].id, uplink: plan.map(uplink) }];
        self.apply(now, Changes { uplinks, ..Changes::default() });
    }

    /// The uplink comes, goes or has another mode.
    pub(super) fn change_uplink_at_random(&mut self) {
        let plans = [None, Some(OutsidePlan::Filtered), Some(OutsidePlan::Unfiltered)];
        let plan = plans[self.random.below(3) as usize];
        self.change_uplink(plan);
    }

    /// The LAN has a way outside again.
    pub(super) fn restore_uplink(&mut self) {
        if self.outside.as_ref().is_some_and(|outside| outside.uplink.is_none()) {
            self.change_uplink(self.plan.outside);
        }
    }

    /// Control nodes look at their devices, before another configuration is in use.
    pub(super) fn look_at_devices(&mut self, now: Instant) {
        let Some(outside) = &self.outside else { return };
        let device = Device { mtu: outside.stack.config.mtu, offloads: true };
        for machine in self.controls.iter_mut().filter_map(|control| control.machine.as_mut()) {
            machine.handle_device(now, DEVICE, DeviceState { device, has_carrier: outside.has_carrier });
        }
    }

    /// The device gets or loses its carrier.
    pub fn set_carrier(&mut self, has_carrier: bool) {
        let now = self.now();
        let Some(outside) = &mut self.outside else { return };
        self.journal.line(now, format_args!("carrier outside: {has_carrier}"));
        outside.has_carrier = has_carrier;
        // What was under way is counted as dropped, and nobody's loss.
        self.checker.station_down(now, outside.station);
        self.checker.station_up(outside.station);
        if let Some(mut machine) = self.controls[0].machine.take() {
            let device = Device { mtu: outside.stack.config.mtu, offloads: true };
            machine.handle_device(now, DEVICE, DeviceState { device, has_carrier });
            self.controls[0].machine = Some(machine);
            self.run_at(Party::Control(0), now);
        }
    }

    // --- from inside ----------------------------------------------------------------------------------------

    /// Takes what goes outside.
    pub(super) fn take_outside(&mut self, now: Instant, machine: &mut ControlNode) {
        let mut looped = Vec::new();
        while let Some((vnet, octets)) = machine.poll_outside(DEVICE) {
            let octets = octets.to_vec();
            machine.outside_taken(DEVICE, true);
            if let Err(violation) = self.judge_outside(now, &vnet, &octets) {
                self.break_invariant(violation);
            }
            let is_resolution = EthernetHeader::parse(&octets)
                .is_some_and(|header| is_neighbour_resolution(header.ethertype, &octets));
            if is_resolution || self.chance(LOOPED_PERCENT) {
                looped.push((vnet, octets));
            }
        }
        for (vnet, mut octets) in looped {
            let before = taken(machine);
            machine.handle_outside(now, DEVICE, &vnet, &mut octets);
            if taken(machine) > before {
                let detail = format!("{} octets that came back went in", octets.len());
                self.break_invariant(Violation { invariant: "I-43 no loops", at: now, detail });
            }
        }
        self.arm_outside(now);
    }

    fn judge_outside(&mut self, now: Instant, vnet: &Vnet, octets: &[u8]) -> Result<(), Violation> {
        let broken = |invariant, detail: String| Err(Violation { invariant, at: now, detail });
        let is_filtered = self.is_filtered();
        let Some(outside) = self.outside.as_mut().filter(|outside| outside.uplink.is_some()) else {
            return broken("I-41 no crossing", "a frame of a LAN without an uplink went out".into());
        };
        let Some(header) = EthernetHeader::parse(octets) else {
            return broken("I-42 sound frames", format!("{} octets", octets.len()));
        };
        if header.source == OUTSIDE_MAC {
            return broken("I-43 no loops", "a frame from outside went out again".into());
        }
        let is_live = |mac: MacAddress| {
            let mut stations = self.stations.iter().zip(&self.removed);
            stations.any(|(station, is_removed)| station.mac == mac && !is_removed)
        };
        if is_live(header.destination) {
            return broken(
                "I-41 no crossing",
                format!("a frame for the member {} went out", header.destination),
            );
        }
        let stated = audit::stated_macs(octets);
        if is_filtered && let Some(mac) = stated.into_iter().find(|mac| is_hidden(&self.stations, *mac)) {
            return broken("I-40 hidden MACs", format!("{mac} is seen outside"));
        }
        if vnet.gso_type == 0
            && let Err(fault) = audit::check_form(octets, None, outside.stack.config.mtu)
        {
            return broken("I-42 sound frames", format!("{fault}"));
        }
        if is_neighbour_resolution(header.ethertype, octets) {
            outside.stack.handle_resolution(now, octets);
            return Ok(());
        }
        if let Some(segment) = Segment::parse(octets) {
            let station = outside.station.0;
            if header.destination == OUTSIDE_MAC {
                self.segment_arrives(now, station, segment);
            }
            return Ok(());
        }
        let Some(numbering) = frame::parse(octets) else { return Ok(()) };
        let flow = FlowIndex(numbering.flow as usize);
        let (to, addressing) = (self.checker.flow(flow).to, self.checker.flow(flow).addressing);
        // Groups that were joined inside, and what was for a member that has been removed, leave too; nobody here waits for them.
        let is_for_it = to == Receivers::Group || to == Receivers::One(outside.station);
        // What a control node had that died may come again: nobody outside knows the difference.
        let is_meant = is_for_it && !self.checker.had_before(outside.station, numbering);
        if !is_meant {
            return Ok(());
        }
        let (station, mut seen) = (outside.station, octets.to_vec());
        if is_filtered {
            if header.source != SYSTEM_MAC {
                return broken("I-40 hidden MACs", format!("{} is a source outside", header.source));
            }
            seen[6..12].copy_from_slice(&addressing.source_mac.0);
        }
        let sent =
            frame::vnet_of(&addressing, numbering.number, octets.len(), self.checker.mtu_of(numbering));
        // That a sum was verified inside means nothing here.
        let vnet = if *vnet == Vnet::default() && sent.flags == Vnet::DATA_VALID { sent } else { *vnet };
        self.checker.frame_arrived(now, station, &vnet, &seen, false)?;
        self.journal.record(now, &[6, u64::from(numbering.flow), u64::from(numbering.number)]);
        Ok(())
    }

    // --- from outside ---------------------------------------------------------------------------------------

    /// The stack of the station outside, if there is one.
    pub(super) fn outside_stack(&self) -> Option<&Stack> {
        self.outside.as_ref().map(|outside| &outside.stack)
    }

    /// The station outside sends a frame that nobody counts.
    pub(super) fn send_frame_of_outside(
        &mut self,
        now: Instant,
        addresses: (IpAddr, IpAddr),
        make: impl FnOnce(MacAddress, MacAddress) -> Vec<u8>,
    ) {
        if let Some(outside) = &mut self.outside {
            outside.stack.send_frame(now, addresses, make);
        }
        self.arm_outside(now);
    }

    /// Makes the flows between a member and the station outside.
    pub(super) fn add_outside_sources(&mut self, member: usize) {
        let Some(outside) = self.outside.as_ref().filter(|_| self.stations[member].lan == 0) else { return };
        let to = outside.station;
        for over_ipv4 in [true, false] {
            self.add_pair_source(member, to.0, over_ipv4);
            self.add_inward_flow(member, over_ipv4);
        }
    }

    /// A flow of the station outside to everybody.
    pub(super) fn add_outside_group(&mut self) {
        let Some(outside) = &mut self.outside else { return };
        let own = self.stations[outside.station.0];
        let addressing = Addressing {
            source_mac: own.mac,
            destination_mac: MacAddress::BROADCAST,
            source: own.ipv4.address,
            destination: IpAddr::V4(Ipv4Addr::BROADCAST),
            source_port: 900,
        };
        let flow = self.checker.add_flow(outside.station, Receivers::Group, addressing);
        outside.flows.push((flow, Some(MacAddress::BROADCAST)));
    }

    /// A flow of the station outside to a member.
    pub(super) fn add_inward_flow(&mut self, member: usize, over_ipv4: bool) -> Option<FlowIndex> {
        let outside = self.outside.as_mut()?;
        let (own, to) = (self.stations[outside.station.0], self.stations[member]);
        let (source, destination) = match over_ipv4 {
            true => (own.ipv4.address, to.ipv4.address),
            false => (own.ipv6.address, to.ipv6.address),
        };
        let addressing = Addressing {
            source_mac: own.mac,
            destination_mac: to.mac,
            source,
            destination,
            source_port: 901 + outside.flows.len() as u16,
        };
        let receivers = Receivers::One(StationIndex(member));
        let flow = self.checker.add_flow(outside.station, receivers, addressing);
        outside.flows.push((flow, None));
        Some(flow)
    }

    /// The station outside sends some datagrams, while there is traffic.
    pub(super) fn outside_traffic(&mut self, now: Instant) {
        let Some(outside) = self.outside.as_ref().filter(|_| self.traffic_on) else { return };
        let flows = outside.flows.len() as u64;
        for _ in 0..1 + self.random.below(4) {
            let place = self.random.below(flows) as usize;
            self.send_inward(now, place);
        }
        let pause = self.soon(self.plan.traffic.interval);
        self.queue.schedule(pause + Duration::from_micros(50), Event::OutsideTraffic);
    }

    fn send_inward(&mut self, now: Instant, place: usize) {
        let Some((flow, group)) = self.outside.as_ref().map(|outside| outside.flows[place]) else { return };
        let (addressing, to) = (self.checker.flow(flow).addressing, self.checker.flow(flow).to);
        if matches!(to, Receivers::One(to) if self.removed[to.0]) {
            return;
        }
        let frame_len = addressing.frame_len_min() + self.random.below(1200) as usize;
        let Addressing { source, destination, .. } = addressing;
        let datagram = Datagram { flow: flow.0 as u32, source, destination, frame_len };
        if let Some(outside) = &mut self.outside {
            match group {
                Some(mac) => outside.stack.send_to(datagram, mac),
                None => outside.stack.send(now, datagram),
            }
        }
        self.arm_outside(now);
    }

    /// Sends one datagram of a flow of the station outside.
    pub(super) fn send_of_outside(&mut self, now: Instant, flow: FlowIndex) {
        let place = self.outside.as_ref().and_then(|o| o.flows.iter().position(|(of, _)| *of == flow));
        if let Some(place) = place {
            self.send_inward(now, place);
        }
    }

    /// The station outside has something to send, or waits for a moment.
    fn arm_outside(&mut self, now: Instant) {
        let Some(outside) = &mut self.outside else { return };
        let waits = outside.stack.peek().is_some().then_some(now + Duration::from_micros(10));
        let due = waits.into_iter().chain(outside.stack.poll_timeout()).min();
        if let Some(due) = due.filter(|due| outside.timer.is_none_or(|armed| armed > *due)) {
            outside.timer = Some(due);
            self.queue.schedule(due, Event::Outside);
        }
    }

    /// What the stack outside has to say goes into the device, where a control node takes it, if there is one.
    pub(super) fn outside_acts(&mut self, now: Instant) {
        let Some(outside) = &mut self.outside else { return };
        outside.timer = None;
        outside.stack.handle_timeout(now);
        let mut machine = self.controls[0].machine.take();
        while let Some(outgoing) = self.outside.as_ref().and_then(|outside| outside.stack.peek().cloned()) {
            if let Some(outside) = &mut self.outside {
                outside.stack.pop();
            }
            if let Some(machine) =
                machine.as_mut().filter(|_| self.outside.as_ref().is_some_and(|o| o.has_carrier))
            {
                self.give_inward(now, machine, &outgoing);
            }
        }
        self.controls[0].machine = machine;
        self.run_at(Party::Control(0), now);
        self.arm_outside(now);
    }

    fn give_inward(&mut self, now: Instant, machine: &mut ControlNode, outgoing: &Outgoing) {
        match outgoing {
            Outgoing::Frame(frame) => machine.handle_outside(now, DEVICE, &PLAIN, &mut frame.clone()),
            Outgoing::Datagram(datagram, mac) => {
                let flow = FlowIndex(datagram.flow as usize);
                if matches!(self.checker.flow(flow).to, Receivers::One(to) if self.removed[to.0]) {
                    // It has waited for a neighbour; whoever has the address now is another member.
                    return;
                }
                let mtu = self.outside.as_ref().map_or(0, |outside| outside.stack.config.mtu);
                let len = (datagram.frame_len, mtu);
                let (vnet, mut frame) = self.checker.next_frame(flow, len.0, len.1);
                let is_known = match self.is_filtered() {
                    true => *mac == SYSTEM_MAC || mac.is_group(),
                    false => frame[..6] == mac.0,
                };
                if !is_known {
                    // For the MAC of a former member or mode, which nobody has: at most listeners would see it.
                    return;
                }
                frame[..6].copy_from_slice(&mac.0);
                let before = taken(machine);
                machine.handle_outside(now, DEVICE, &vnet, &mut frame);
                self.journal.record(now, &[7, u64::from(datagram.flow), frame.len() as u64]);
                if taken(machine) > before {
                    if self.uplink_config().is_none() {
                        let detail = format!("{} octets came in without an uplink", frame.len());
                        self.break_invariant(Violation { invariant: "I-41 no crossing", at: now, detail });
                    }
                    self.checker.frame_accepted(now, flow, len, &[]);
                } else {
                    self.checker.frame_for_nobody(now, flow, len);
                }
            }
        }
    }
}

/// True for a MAC that filtered mode hides: of a member, or of a cluster address.
fn is_hidden(stations: &[StationPlan], mac: MacAddress) -> bool {
    cluster::MACS.contains(&mac) || stations.iter().any(|s| s.mac == mac && s.node != NOWHERE)
}

/// Frames from outside that a control node has let in.
fn taken(machine: &ControlNode) -> u64 {
    machine.uplinks().0.iter().map(|uplink| uplink.counters.taken.frames).sum()
}

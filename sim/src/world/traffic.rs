//! Traffic: sources that give their stacks datagrams, and the flows behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vlan_core::{Instant, MacAddress};

use super::connections::Party;
use super::{Event, World};
use crate::checker::{FlowIndex, Receivers, StationIndex};
use crate::frame::Addressing;
use crate::stack::Datagram;

/// A flow with the stack that sends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub flow: FlowIndex,
    pub from: StationIndex,
    /// Sent to this MAC without asking for it: group traffic, and what no honest stack would send.
    mac: Option<MacAddress>,
}

impl World {
    /// Makes the plan's flows.
    pub(super) fn add_sources(&mut self) {
        let live = self.live_stations();
        for &from in &live {
            for &to in &live {
                if from != to && self.stations[from].lan == self.stations[to].lan {
                    for flow in 0..self.plan.traffic.flows_per_pair {
                        self.add_pair_source(from, to, (flow + from + to) % 2 == 0);
                    }
                }
            }
            for flow in 0..self.plan.traffic.group_flows {
                self.add_group_source(from, flow % 2 == 0);
            }
        }
        for &member in &live {
            self.add_outside_sources(member);
        }
        for station in self.plan.streamers.clone().into_iter().filter(|station| live.contains(station)) {
            self.add_streams(station);
        }
        self.add_outside_group();
        for _ in 0..self.plan.traffic.misdirected_flows {
            self.add_misdirected_source();
        }
    }

    /// A flow from one station to another; returns its source's place.
    pub(super) fn add_pair_source(&mut self, from: usize, to: usize, over_ipv4: bool) -> usize {
        let (a, b) = (self.stations[from], self.stations[to]);
        let addresses =
            if over_ipv4 { (a.ipv4.address, b.ipv4.address) } else { (a.ipv6.address, b.ipv6.address) };
        self.add_source(from, Receivers::One(StationIndex(to)), addresses, b.mac, None)
    }

    pub(super) fn add_group_source(&mut self, from: usize, over_ipv4: bool) -> usize {
        let own = self.stations[from];
        let (addresses, mac) = if over_ipv4 {
            ((own.ipv4.address, IpAddr::V4(Ipv4Addr::BROADCAST)), MacAddress::BROADCAST)
        } else {
            let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            ((own.ipv6.address, IpAddr::V6(all)), MacAddress([0x33, 0x33, 0, 0, 0, 1]))
        };
        self.add_source(from, Receivers::Group, addresses, mac, Some(mac))
    }

    /// A station sends to the MAC of a station of another LAN, which it cannot know: nobody may get that.
    fn add_misdirected_source(&mut self) {
        let count = self.live_stations().len() as u64;
        let (from, to) = (self.random.below(count) as usize, self.random.below(count) as usize);
        let (a, b) = (self.stations[from], self.stations[to]);
        if a.lan != b.lan {
            let addresses = (a.ipv4.address, b.ipv4.address);
            self.add_source(from, Receivers::Nobody, addresses, b.mac, Some(b.mac));
        }
    }

    pub(super) fn add_source(
        &mut self,
        from: usize,
        to: Receivers,
        (source, destination): (IpAddr, IpAddr),
        destination_mac: MacAddress,
        mac: Option<MacAddress>,
    ) -> usize {
        let addressing = Addressing {
            source_mac: self.stations[from].mac,
            destination_mac,
            source,
            destination,
            source_port: 1024 + self.sources.len() as u16,
        };
        let flow = self.checker.add_flow(StationIndex(from), to, addressing);
        self.sources.push(Source { flow, from: StationIndex(from), mac });
        self.sources.len() - 1
    }

    /// Lets every source of the plan send, from now on, until [`Self::stop_traffic`].
    pub fn start_traffic(&mut self) {
        self.traffic_on = true;
        self.let_send(0);
        self.start_calls();
        if self.outside.is_some() {
            let at = self.soon(self.plan.traffic.interval);
            self.queue.schedule(at, Event::OutsideTraffic);
        }
    }

    /// Lets the sources from a place on send, while there is traffic.
    pub(super) fn let_send(&mut self, first: usize) {
        let sources = if self.traffic_on { first..self.sources.len() } else { 0..0 };
        for source in sources {
            let at = self.soon(self.plan.traffic.interval);
            self.queue.schedule(at, Event::Traffic { source });
        }
    }

    /// Lets every source be silent.
    pub fn stop_traffic(&mut self) {
        self.traffic_on = false;
    }

    pub(super) fn source_sends(&mut self, now: Instant, source: usize) {
        if !self.traffic_on || self.is_of_removed(source) {
            return;
        }
        let burst = 1 + self.random.below(self.plan.traffic.burst_max);
        for _ in 0..burst {
            self.send_one(now, source);
        }
        let mean = self.plan.traffic.interval.as_nanos() as u64;
        let pause = Duration::from_nanos(mean / 2 + self.random.below(mean));
        self.queue.schedule(now + pause, Event::Traffic { source });
    }

    /// Gives the stack of a source one datagram, when there is a stack.
    pub(super) fn send_one(&mut self, now: Instant, source: usize) {
        let Source { flow, from, mac } = self.sources[source];
        let frame_len = self.draw_len(flow);
        let addressing = self.checker.flow(flow).addressing;
        let station = self.stations[from.0];
        let datagram = Datagram {
            flow: flow.0 as u32,
            source: addressing.source,
            destination: addressing.destination,
            frame_len,
        };
        let Some(stack) = self.nodes[station.node].stacks.get_mut(&station.vif.0) else { return };
        match mac {
            Some(mac) => stack.send_to(datagram, mac),
            None => stack.send(now, datagram),
        }
        self.stack_changed(now, station.node);
        self.wake(Party::Node(station.node));
    }

    /// Mostly short frames, some full-sized ones, some super-frames of up to 65,549 octets.
    fn draw_len(&mut self, flow: FlowIndex) -> usize {
        let record = self.checker.flow(flow);
        let (addressing, is_group) =
            (record.addressing, matches!(record.to, Receivers::Group | Receivers::Joined));
        let least = addressing.frame_len_min() as u64;
        let large = self.plan.traffic.large_percent;
        if !self.chance(large) {
            return (least + self.random.below(400)) as usize;
        }
        let station = &self.stations[self.checker.flow(flow).from.0];
        let stack = self.nodes[station.node].stacks.get(&station.vif.0);
        // As its node has been told: the administrator may have said otherwise by now.
        let mtu = stack.map_or(self.plan.lans[station.lan].mtu, |stack| stack.config.mtu);
        let plain_max = u64::from(mtu) + 14;
        match self.random.below(4) {
            0 => plain_max as usize,
            // Kernels send no super-frames to groups.
            1 if !is_group => addressing.frame_len_max(),
            2 if !is_group => (plain_max + self.random.below(65_549 - plain_max)) as usize,
            _ => (least + self.random.below(plain_max - least)) as usize,
        }
    }
}

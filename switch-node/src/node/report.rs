//! A node's report of its counters, for `switchctl`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rvi::Association;
use rvi::packet::session::OpenError;
use vlan_core::driver::DriverCounters;
use vlan_core::drop_example::DropExample;
use vlan_core::wire::control::{ControlMessage, ReportItem, ReportedDrop};
use vlan_core::{Instant, VifNumber};

use crate::node::Node;

/// Items of one message: at most 64 + 9 octets each, so 200 stay below the 16 KiB of a control message.
const ITEMS_PER_MESSAGE: usize = 200;

impl Node {
    pub(super) fn send_report(&mut self, now: Instant, index: usize, id: u32) {
        self.send_drop_examples(now, index, id);
        let items = self.report();
        let mut parts: Vec<Vec<ReportItem>> = items.chunks(ITEMS_PER_MESSAGE).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        for (number, items) in parts.into_iter().enumerate() {
            let message = ControlMessage::Report { id, last: number == last, items };
            self.send_control(now, index, &message);
        }
    }

    /// Tells the last frames that were dropped, of which one message holds as many as there are.
    fn send_drop_examples(&mut self, now: Instant, index: usize, id: u32) {
        let example = |example: &DropExample| ReportedDrop {
            vif: VifNumber(example.place),
            reason: example.reason.name().into(),
            age_ms: u64::try_from(now.since(example.at).as_millis()).unwrap_or(u64::MAX),
            frame_octets: u32::try_from(example.frame_len).unwrap_or(u32::MAX),
            headers: example.headers.clone(),
        };
        let drops: Vec<_> = self.drop_examples.iter().map(example).collect();
        if !drops.is_empty() {
            self.send_control(now, index, &ControlMessage::ReportDrops { id, drops });
        }
    }

    /// Messages that a lost control node had not settled and that wait for the next one, and their octets.
    #[must_use]
    pub fn unsettled(&self) -> (usize, usize) {
        let waiting = self.control.iter().flat_map(|link| &link.resend);
        waiting.fold((0, 0), |(messages, octets), message| (messages + 1, octets + message.len()))
    }

    /// Every counter of this node by its dotted name.
    #[must_use]
    pub fn report(&self) -> Vec<ReportItem> {
        let mut items = Vec::new();
        let mut add = |name: String, value: u64| items.push(ReportItem { name, value });
        for interface in self.interfaces.iter().flatten() {
            let vif = interface.driver.vif();
            add_interface(&mut add, &format!("vif.{vif}"), interface.driver.counters());
            add(format!("vif.{vif}.held.frames"), interface.held.len() as u64);
        }
        if self.former != DriverCounters::default() {
            add_interface(&mut add, "former", &self.former);
        }
        for (reason, messages) in self.drops.iter() {
            add(format!("node.drop.{reason}"), messages);
        }
        add("node.strays".into(), self.stray_packets());
        add("relayed.tx.packets".into(), self.relayed.sent);
        add("relayed.rx.packets".into(), self.relayed.received);
        for (reason, packets) in [("relay-full", self.relayed.full), ("relay-refused", self.relayed.refused)]
        {
            if packets > 0 {
                add(format!("node.drop.{reason}"), packets);
            }
        }
        for (index, link) in self.control.iter().enumerate() {
            add_packet_legs(&mut add, &format!("control.{index}"), &link.association);
        }
        for (leg, is_af_xdp) in &self.ether_legs {
            add(format!("leg.{leg}.af-xdp"), u64::from(*is_af_xdp));
        }
        for link in self.direct.iter().flatten() {
            for (name, count) in [("tx", link.sent), ("rx", link.received)] {
                add(format!("node.{}.{name}.frames", link.node), count.frames);
                add(format!("node.{}.{name}.octets", link.node), count.octets);
            }
            for leg in link.association.legs() {
                let name = |what: &str| format!("node.{}.leg.{}.{what}", link.node, leg.number);
                add(name("tx.messages"), leg.tx_messages);
                add(name("tx.octets"), leg.tx_octets);
                add(name("rx.messages"), leg.rx_messages);
                add(name("rx.octets"), leg.rx_octets);
                add(name("resends"), leg.resends);
                add(name("duplicates"), leg.duplicates);
            }
            add_packet_legs(&mut add, &format!("node.{}", link.node), &link.association);
        }
        items
    }
}

/// Adds what was counted at an interface.
fn add_interface(add: &mut impl FnMut(String, u64), of: &str, counters: &DriverCounters) {
    for (name, count) in [
        ("tx.direct", counters.sent_direct),
        ("tx.relay", counters.sent_relay),
        ("rx.direct", counters.received_direct),
        ("rx.relay", counters.received_relay),
        ("given_back", counters.given_back),
        ("tx.copies", counters.sent_copies),
        ("rx.copies", counters.received_copies),
    ] {
        add(format!("{of}.{name}.frames"), count.frames);
        add(format!("{of}.{name}.octets"), count.octets);
    }
    for (reason, frames) in counters.drops.iter() {
        add(format!("{of}.drop.{reason}"), frames);
    }
}

/// Adds what the packet legs of an association and their session have counted.
fn add_packet_legs(add: &mut impl FnMut(String, u64), peer: &str, association: &Association) {
    for leg in association.packet_legs() {
        let name = |what: &str| format!("{peer}.leg.{}.{what}", leg.leg);
        add(name("state"), leg.state as u64);
        add(name("score"), leg.score.into());
        add(name("rtt.ns"), leg.rtt_ns);
        add(name("packet.octets"), leg.packet_len as u64);
        add(name("fallbacks"), leg.fallbacks);
        add(name("in_flight.octets"), leg.in_flight as u64);
        add(name("tx.packets"), leg.tx_packets);
        add(name("tx.octets"), leg.tx_octets);
        add(name("rx.packets"), leg.rx_packets);
        add(name("rx.octets"), leg.rx_octets);
        add(name("lost"), leg.lost);
        add(name("rescued"), leg.rescued);
        add(name("spurious"), leg.spurious);
        add(name("resends"), leg.resent);
        add(name("probes"), leg.probes);
    }
    if let Some(session) = association.session_counters() {
        let name = |what: &str| format!("{peer}.session.{what}");
        add(name("sealed"), session.sealed);
        add(name("opened"), session.opened);
        for reason in OpenError::ALL {
            add(name(&format!("refused.{reason}")), session.refused(reason).into());
        }
    }
}

//! Metrics in Prometheus' text format: what the control node knows by itself, so that collecting them asks
//! nothing of any node.

mod clusters;

use std::fmt::{Display, Write};

use crate::control_node::{LanStatus, RviState, Status, UplinkStatus};

/// Renders the metrics.
#[must_use]
pub fn render(status: &Status, uptime_s: u64) -> String {
    let mut text = Text::default();
    text.family("weft_uptime_seconds", "gauge", "Seconds since the process began to serve.");
    text.sample("weft_uptime_seconds", &[], uptime_s);
    text.family("weft_configuration_epoch", "gauge", "Number of the configuration in force.");
    text.sample("weft_configuration_epoch", &[], status.epoch);
    text.family("weft_node_attached", "gauge", "1 while the node is attached.");
    for node in &status.nodes {
        text.sample("weft_node_attached", &[("node", &node.name)], u64::from(node.process.is_some()));
    }
    text.family("weft_direct_rvis", "gauge", "Direct RVIs granted now.");
    let direct = status.rvis.iter().filter(|rvi| rvi.state != RviState::Cut).count();
    text.sample("weft_direct_rvis", &[], direct as u64);
    text.family("weft_bindings", "gauge", "IP addresses bound to a MAC.");
    text.sample("weft_bindings", &[], status.bindings.len() as u64);
    frames(&mut text, status);
    let help = "Packets of relay legs passed on between two nodes.";
    text.family("weft_relay_packets_total", "counter", help);
    text.sample("weft_relay_packets_total", &[], status.relay.packets);
    text.family("weft_relay_drops_total", "counter", "Packets of relay legs dropped, by reason.");
    for (reason, packets) in status.relay.drops() {
        text.sample("weft_relay_drops_total", &[("reason", reason)], packets);
    }
    text.family("weft_drops_total", "counter", "Frames dropped by a LAN's server, or for no LAN, by reason.");
    for (reason, frames) in status.drops.iter() {
        text.sample("weft_drops_total", &[("lan", ""), ("reason", reason.name())], frames);
    }
    for lan in &status.lans {
        for (reason, frames) in lan.drops.iter() {
            text.sample("weft_drops_total", &[("lan", &lan.name), ("reason", reason.name())], frames);
        }
    }
    uplinks(&mut text, status);
    clusters::render(&mut text, status);
    text.0
}

/// What went by the LANs' uplinks: as it was inside, as it went to the device, as it came and what of that went inside.
fn uplinks(text: &mut Text, status: &Status) {
    let names = status.uplinks.iter().map(|uplink| {
        let lan = status.lans.iter().find(|lan| lan.id == uplink.lan);
        lan.map_or("", |lan| lan.name.as_str())
    });
    let named: Vec<_> = names.zip(&status.uplinks).collect();
    text.family("weft_uplink_carrier", "gauge", "1 while the device of a LAN's uplink is connected.");
    for (lan, uplink) in &named {
        let device = status.devices.iter().find(|device| device.number == uplink.config.device);
        let state = device.and_then(|device| device.state);
        let carrier = state.is_some_and(|state| state.has_carrier);
        text.sample("weft_uplink_carrier", &[("lan", lan)], u64::from(carrier));
    }
    let ways = |uplink: &UplinkStatus| {
        let counted = &uplink.counters;
        [("out", counted.outward), ("sent", counted.sent), ("in", counted.inward), ("taken", counted.taken)]
    };
    let help = "Frames of a LAN's uplink: for outside, sent, from outside, and taken of these.";
    text.family("weft_uplink_frames_total", "counter", help);
    for (lan, uplink) in &named {
        for (way, count) in ways(uplink) {
            text.sample("weft_uplink_frames_total", &[("lan", lan), ("way", way)], count.frames);
        }
    }
    text.family("weft_uplink_octets_total", "counter", "Octets of these frames.");
    for (lan, uplink) in &named {
        for (way, count) in ways(uplink) {
            text.sample("weft_uplink_octets_total", &[("lan", lan), ("way", way)], count.octets);
        }
    }
    text.family("weft_uplink_drops_total", "counter", "Frames dropped by a LAN's uplink, by reason.");
    for (lan, uplink) in &named {
        for (reason, frames) in uplink.counters.drops.iter() {
            let labels = [("lan", *lan), ("reason", reason.name())];
            text.sample("weft_uplink_drops_total", &labels, frames);
        }
    }
}

/// Frames and octets that the LANs' servers took from members and gave to them.
fn frames(text: &mut Text, status: &Status) {
    text.family(
        "weft_frames_total",
        "counter",
        "Frames that a LAN's server took from a member or gave to it.",
    );
    each_member(status, |labels, frames, _| text.sample("weft_frames_total", labels, frames));
    text.family("weft_octets_total", "counter", "Octets of these frames.");
    each_member(status, |labels, _, octets| text.sample("weft_octets_total", labels, octets));
}

fn each_member(status: &Status, mut sample: impl FnMut(&[(&str, &str)], u64, u64)) {
    for lan in &status.lans {
        for member in &lan.members {
            let node = status.nodes.iter().find(|node| node.number == member.node);
            let node = node.map_or("", |node| node.name.as_str());
            for (direction, count) in [("ingress", member.ingress), ("egress", member.egress)] {
                let labels = labels(lan, node, direction);
                sample(&labels, count.frames, count.octets);
            }
        }
    }
}

fn labels<'a>(lan: &'a LanStatus, node: &'a str, direction: &'a str) -> [(&'a str, &'a str); 3] {
    [("lan", lan.name.as_str()), ("node", node), ("direction", direction)]
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A label value as the format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_labels_and_nothing_breaks_a_line() {
        let mut text = Text::default();
        text.sample("weft_up", &[], 1);
        text.sample("weft_up", &[("node", "a\"b\n")], 2);
        assert_eq!(text.0, "weft_up 1\nweft_up{node=\"a\\\"b\\n\"} 2\n");
    }

    #[test]
    fn an_empty_control_node_renders_every_family_once() {
        let status = Status { epoch: 2, ..Status::default() };
        let text = render(&status, 5);
        assert!(text.contains("weft_configuration_epoch 2\n"));
        assert_eq!(text.matches("# TYPE").count(), 22);
    }
}

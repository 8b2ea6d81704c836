//! Drills: numbered datagrams cross a lab of two hosts in both directions while something is broken on purpose.
//!
//! What is lost is told apart: datagrams that a kernel's stack dropped before or behind the fabric (a full queue of the
//! interface, a full receive buffer) are counted by that kernel; the rest is the fabric's.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, examples};
use crate::traffic::{Stream, Tally};

/// A stream of each drill: from a node's address to another's. One goes each way, over IPv4 and IPv6.
const PAIRS: [(&str, &str, &str, &str); 2] =
    [("web1", "10.1.0.1", "web2", "10.1.0.2"), ("web2", "fd00:1::2", "web1", "fd00:1::1")];
/// The interface of both.
const INTERFACE: &str = "red";
/// How long the rate without faults is measured.
const RATE_TIME: Duration = Duration::from_secs(3);
/// How often a fabric goes down and comes up in one drill.
const FLAPS: u64 = 10;

/// What is broken while the datagrams flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// Nothing.
    Nothing,
    /// Fabric a goes down and comes up ten times.
    Flaps,
    /// Both legs lose 5 % of their packets and change 1 %, in both directions.
    LossAndCorruption,
    /// What web1 sends on fabric a never arrives; the other direction works.
    OneDirection,
    /// Both fabrics go down at the same time for this long, and come up.
    Outage(Duration),
}

/// What a drill measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of each stream.
    pub tallies: Vec<Tally>,
    /// Datagrams dropped by the two nodes' kernels, outside the fabric.
    pub dropped_by_stacks: u64,
    /// Datagrams a second of each stream, as asked for.
    pub rate: u64,
}

impl Report {
    /// Datagrams of all streams that the fabric lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.tallies.iter().map(Tally::lost).sum::<u64>().saturating_sub(self.dropped_by_stacks)
    }

    /// Datagrams that came twice, or behind a later one.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.reordered).sum()
    }

    /// The longest time that a receiver got nothing.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.tallies.iter().map(|tally| tally.longest_gap).max().unwrap_or_default()
    }
}

/// A lab of two hosts whose nodes are joined by UDP legs through two fabrics.
pub struct Hosts {
    lab: Lab,
}

impl Hosts {
    /// Starts the lab of `examples/two-hosts.toml` under `name` and waits for the direct RVI between its hosts.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(name: &str, options: &[&str]) -> Result<Self> {
        let text = fs::read_to_string(examples().join("two-hosts.toml"))?;
        let hosts = Self { lab: Lab::start_text_with(&text, name, options)? };
        // Traffic is what a direct RVI is granted for.
        let streams = hosts.streams(1_000)?;
        hosts.wait_for_legs()?;
        for stream in streams {
            stream.finish()?;
        }
        Ok(hosts)
    }

    /// Ends the lab, and checks that nothing is left behind.
    ///
    /// # Errors
    /// As [`Lab::stop`].
    pub fn stop(self) -> Result<()> {
        self.lab.stop()
    }

    /// Datagrams a second that arrive, in the worse direction, when both senders send as fast as they can.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn rate_without_faults(&self) -> Result<u64> {
        let streams = self.streams(u64::MAX)?;
        let start = Instant::now();
        self.lab.wait_for("the rate to be measured", || Ok(start.elapsed() >= RATE_TIME))?;
        let received = streams.iter().map(Stream::received).min().unwrap_or_default();
        let rate = received as f64 / start.elapsed().as_secs_f64();
        for stream in streams {
            stream.finish()?;
        }
        Ok(rate as u64)
    }

    /// Sends `datagrams` each way at `rate` while `breakage` lasts, and repairs everything.
    ///
    /// # Errors
    /// When the lab does not do what it is asked.
    pub fn drill(&self, breakage: Breakage, datagrams: u64, rate: u64) -> Result<Report> {
        self.wait_for_legs()?;
        let dropped_before = self.dropped_by_stacks()?;
        let streams = self.streams(rate)?;
        let flow = |until: u64| {
            self.lab.wait_for_long("datagrams to be sent", Duration::from_secs(datagrams / rate + 60), || {
                Ok(streams.iter().all(|stream| stream.sent() >= until))
            })
        };
        flow(datagrams / 20)?;
        match breakage {
            Breakage::Nothing => {}
            Breakage::Flaps => {
                for flap in 1..=FLAPS {
                    self.fabric("a", "down")?;
                    flow(datagrams / 20 + datagrams * (2 * flap - 1) / (2 * FLAPS + 4))?;
                    self.fabric("a", "up")?;
                    flow(datagrams / 20 + datagrams * 2 * flap / (2 * FLAPS + 4))?;
                }
            }
            Breakage::LossAndCorruption => self.fault(&["all", "loss=5%,corrupt=1%"])?,
            Breakage::OneDirection => {
                self.fault(&["web1", "--fabric", "a", "--direction", "out", "loss=100%"])?;
            }
            Breakage::Outage(time) => {
                // Not by a fault: no word to end one would reach a node of another host.
                for fabric in ["a", "b"] {
                    self.fabric(fabric, "down")?;
                }
                let start = Instant::now();
                self.lab.wait_for("the outage to be over", || Ok(start.elapsed() >= time))?;
                for fabric in ["a", "b"] {
                    self.fabric(fabric, "up")?;
                }
            }
        }
        if matches!(breakage, Breakage::LossAndCorruption | Breakage::OneDirection) {
            flow(datagrams)?;
            self.fault(&["all", "off"])?;
        }
        flow(datagrams)?;
        let tallies = streams.into_iter().map(Stream::finish).collect::<Result<_>>()?;
        let dropped_by_stacks = self.dropped_by_stacks()? - dropped_before;
        self.wait_for_legs()?;
        Ok(Report { tallies, dropped_by_stacks, rate })
    }

    fn streams(&self, rate: u64) -> Result<Vec<Stream>> {
        let stream = |(from, source, to, target): &(&str, &str, &str, &str)| -> Result<Stream> {
            let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
            Stream::start((&self.lab.namespace(from), source), (&self.lab.namespace(to), target), rate, 200)
        };
        PAIRS.iter().map(stream).collect()
    }

    fn fabric(&self, name: &str, state: &str) -> Result<()> {
        self.lab.switchctl(&["fabric", name, state])?.ok().map(drop)
    }

    fn fault(&self, words: &[&str]) -> Result<()> {
        self.lab.switchctl(&[&["fault"], words].concat())?.ok().map(drop)
    }

    fn wait_for_legs(&self) -> Result<()> {
        self.lab.wait_for("both legs between web1 and web2", || {
            let rvis = self.lab.json(&["rvis"])?;
            let of_pair = |rvi: &&Value| {
                let ends = [rvi["a"]["node"].as_str(), rvi["b"]["node"].as_str()];
                ends.contains(&Some("web1")) && ends.contains(&Some("web2"))
            };
            let legs = rvis.as_array().and_then(|rvis| rvis.iter().find(of_pair)?["legs"].as_array());
            let is_up = |leg: &&Value| leg["kind"] == "udp" && leg["state"] == "up";
            Ok(legs.is_some_and(|legs| legs.iter().filter(is_up).count() == 2))
        })
    }

    /// What both nodes' kernels dropped: at the interface's queue on the way out, for want of room at the socket on the
    /// way in.
    fn dropped_by_stacks(&self) -> Result<u64> {
        let mut dropped = 0;
        for node in ["web1", "web2"] {
            let links = self.lab.exec(node, 5, &["ip", "-s", "-j", "link", "show", INTERFACE])?.ok()?;
            let links: Value = serde_json::from_str(&links)?;
            dropped += links[0]["stats64"]["tx"]["dropped"].as_u64().context("no count of dropped frames")?;
            dropped += receive_buffer_errors(&self.lab.exec(node, 5, &["cat", "/proc/net/snmp"])?.ok()?)?;
            let snmp6 = self.lab.exec(node, 5, &["cat", "/proc/net/snmp6"])?.ok()?;
            let line = snmp6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors"));
            dropped += line.context("no Udp6RcvbufErrors")?.trim().parse::<u64>()?;
        }
        Ok(dropped)
    }
}

/// `RcvbufErrors` of the `Udp:` lines of `/proc/net/snmp`: one line of names, one of values.
fn receive_buffer_errors(snmp: &str) -> Result<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let place =
        names.split_whitespace().position(|name| name == "RcvbufErrors").context("no RcvbufErrors")?;
    let value = values.split_whitespace().nth(place);
    ensure!(value.is_some(), "fewer values than names");
    Ok(value.unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_buffer_errors_stand_below_their_name() {
        let snmp = "Ip: A B\nIp: 1 2\nUdp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 5 7 9\n";
        assert_eq!(receive_buffer_errors(snmp).unwrap(), 7);
        assert!(receive_buffer_errors("Udp: RcvbufErrors\nUdp:\n").is_err());
    }
}

//! Storms: one node sends broadcast frames as fast as it can, while two others carry what they carry.
//!
//! The generator takes a core wherever its frames go. So what a storm costs the others is measured against the same
//! generator that sends into a TAP of the same node that is on no LAN and that nobody reads.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::forged::{self, BROADCAST};
use crate::generator::Generator;
use crate::raw::RawSocket;
use crate::stock::Service;
use crate::{Lab, platform};

/// The node that storms.
pub const STORMER: &str = "web1";
/// The two that are to carry on.
pub const OTHERS: [&str; 2] = ["web2", "web3"];
/// The TAP that is on no LAN.
const IDLE: &str = "idle";

/// Where the frames of a generator go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// There is no generator.
    Nowhere,
    /// Into a TAP that is on no LAN.
    IdleTap,
    /// To every member of the LAN.
    Lan,
}

/// A lab of three nodes of a LAN, one of which has a TAP beside it.
pub struct Site {
    lab: Lab,
    tap: Service,
}

impl Site {
    /// Starts it; `limits` are more lines of the member that storms. The others speak directly, or by relay alone.
    ///
    /// # Errors
    /// When the lab or the TAP does not come up.
    pub fn start(name: &str, limits: &str, is_direct: bool) -> Result<Self> {
        let lines = |n: u8, more: &str| format!("address = \"10.1.0.{n}/24\"\n{more}");
        let [first, second, third] = [lines(1, limits), lines(2, ""), lines(3, "")];
        let members = [(STORMER, &*first), (OTHERS[0], &*second), (OTHERS[1], &*third)];
        let text = platform::head(&members.map(|(node, _)| node))
            + &platform::lan("red", 10, "mtu = 1500", &members);
        let lab = Lab::start_text(&text, name)?;
        // socat holds the TAP and writes to it what comes to its socket, which is nothing.
        let tap = format!("TUN,tun-type=tap,tun-name={IDLE},iff-no-pi,iff-up");
        let words = ["socat", "-u", "UDP4-RECV:9,bind=127.0.0.1", &tap];
        let tap = Service::start_for(&lab, STORMER, 600, &words)?;
        lab.wait_for("the TAP", || {
            Ok(lab.exec(STORMER, 5, &["ip", "link", "show", "up", "dev", IDLE])?.out.contains("LOWER_UP"))
        })?;
        if !is_direct {
            lab.switchctl(&["rvi", "cut", OTHERS[0], OTHERS[1]])?.ok()?;
        }
        lab.exec(OTHERS[0], 10, &["ping", "-q", "-c", "50", "-i", "0.01", "10.1.0.3"])?.ok()?;
        Ok(Self { lab, tap })
    }

    /// What the two others carry in `seconds` while a generator sends somewhere.
    ///
    /// # Errors
    /// When iperf3 or the generator fails.
    pub fn measure(&self, target: Target, seconds: u32) -> Result<Figures> {
        let generator = match target {
            Target::Nowhere => None,
            Target::IdleTap => Some(generator(&self.lab, IDLE)?),
            Target::Lan => Some(generator(&self.lab, "red")?),
        };
        let delivered = self.delivered()?;
        let dropped = self.dropped()?;
        let start = Instant::now();
        let mut server = self.lab.spawn(OTHERS[1], seconds + 20, &["iperf3", "-s", "-1"])?;
        self.lab.wait_for("iperf3 to listen", || {
            let words = ["ss", "-Htln", "sport = :5201"];
            Ok(self.lab.exec(OTHERS[1], 5, &words)?.ok()?.contains("5201"))
        })?;
        let time = seconds.to_string();
        let report = self.lab.exec(
            OTHERS[0],
            seconds + 20,
            &["iperf3", "-c", "10.1.0.3", "-t", &time, "-O", "1", "-J"],
        )?;
        server.wait()?;
        let report: serde_json::Value = serde_json::from_str(&report.ok()?)?;
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().context("no rate")?;
        let sent = generator.map(Generator::finish).transpose()?.unwrap_or(0);
        let took = start.elapsed().as_secs_f64();
        Ok(Figures {
            gigabits: bits / 1e9,
            sent: sent as f64 / took,
            delivered: (self.delivered()? - delivered) as f64 / took,
            dropped: (self.dropped()? - dropped) as f64 / took,
        })
    }

    /// Ends the lab, and checks that nothing is left behind.
    ///
    /// # Errors
    /// As [`Lab::stop`].
    pub fn stop(self) -> Result<()> {
        drop(self.tap);
        self.lab.stop()
    }

    /// Frames that one of the others has got by way of the control node: the storm's, where the others speak directly.
    fn delivered(&self) -> Result<u64> {
        self.lab.counter(|name| name == format!("node.{}.vif.1.rx.relay.frames", OTHERS[1]))
    }

    /// Frames that were dropped anywhere.
    fn dropped(&self) -> Result<u64> {
        let drops = self.lab.json(&["drops"])?;
        Ok(drops.as_array().into_iter().flatten().filter_map(|drop| drop["frames"].as_u64()).sum())
    }
}

/// What was measured, in a second.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Of TCP, that arrived.
    pub gigabits: f64,
    /// Frames that the generator sent.
    pub sent: f64,
    /// Frames that came to one of the others by way of the control node, the storm's among them.
    pub delivered: f64,
    /// Frames that the fabric dropped and counted.
    pub dropped: f64,
}

/// Sends broadcast frames out of an interface of the node that storms.
fn generator(lab: &Lab, interface: &str) -> Result<Generator> {
    let socket = RawSocket::open(&lab.namespace(STORMER), interface)?;
    let words = ["cat", "/sys/class/net/red/address"];
    let own = forged::mac(&lab.exec(STORMER, 5, &words)?.ok()?)?;
    let addresses = (IpAddr::from([10, 1, 0, 1]), IpAddr::from(Ipv4Addr::BROADCAST));
    // Each longer than the one before, so that no agent joins them to one super-frame.
    let frames = (22..86).map(|len| forged::datagram(BROADCAST, own, addresses, (5000, 9), &vec![0; len]));
    Ok(Generator::start(socket, frames.collect()))
}

//! A load of ARP requests from every interface of a lab of many LANs, and what it costs.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::forged::{self, Mac};
use crate::raw::RawSocket;
use crate::{Lab, platform};

/// The nodes, each a member of every LAN.
const NODES: [&str; 8] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];
/// How long a lab of a thousand interfaces may take to start, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Requests whose answers are waited for while the load is on.
const ASKED: usize = 200;

/// A lab of LANs with eight members each.
pub struct Crowd {
    lab: Lab,
    stations: Vec<Station>,
}

/// An interface.
struct Station {
    socket: RawSocket,
    mac: Mac,
    lan: u16,
    member: u16,
}

impl Station {
    fn address(&self, member: u16) -> Ipv4Addr {
        Ipv4Addr::new(10, self.lan as u8, 0, member as u8)
    }

    /// Its request for the next one of its LAN, or the one behind that.
    fn request(&self, round: usize) -> (Vec<u8>, Ipv4Addr) {
        let others = NODES.len() as u16 - 1;
        let member = 1 + (self.member + (round as u16 % others)) % NODES.len() as u16;
        let target = self.address(member);
        (forged::arp_request(self.mac, self.address(self.member), target), target)
    }
}

/// What a load cost and how it was served.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Interfaces that asked.
    pub interfaces: usize,
    /// Requests sent in a second.
    pub requests: f64,
    /// Frames that the fabric brought to stacks, for each request.
    pub delivered: f64,
    /// Time of the control node for each request.
    pub control_node: Duration,
    /// Time of all nodes for each request.
    pub nodes: Duration,
    /// From a request to its answer while the load was on: the median, and the longest.
    pub answer: (Duration, Duration),
    /// Frames that the fabric dropped.
    pub dropped: u64,
}

impl Crowd {
    /// Starts `lans` LANs, 250 at the most, whose option `arp` is this.
    ///
    /// # Errors
    /// When the lab does not come up, or an interface has no MAC.
    pub fn start(name: &str, lans: u16, arp: &str) -> Result<Self> {
        let mut text = platform::head(&NODES);
        for lan in 1..=lans {
            let lines: Vec<_> =
                (1..=NODES.len()).map(|n| format!("address = \"10.{lan}.0.{n}/24\"")).collect();
            let members: Vec<_> = NODES.iter().zip(&lines).map(|(node, line)| (*node, &**line)).collect();
            text +=
                &platform::lan(&format!("l{lan}"), lan, &format!("mtu = 1500\narp = \"{arp}\""), &members);
        }
        let lab = Lab::start_text(&text, name)?;
        lab.wait_for_long("every address to be bound", PATIENCE, || {
            let bindings = lab.json(&["bindings"])?;
            let addresses = bindings.as_array().into_iter().flatten().filter_map(|b| b["address"].as_str());
            Ok(addresses.filter(|address| address.starts_with("10.")).count()
                == usize::from(lans) * NODES.len())
        })?;
        let mut stations = Vec::new();
        for lan in lab.json(&["lans"])?.as_array().context("no LANs")? {
            let number = lan["name"].as_str().and_then(|name| name.strip_prefix('l')?.parse().ok());
            let number: u16 = number.context("a LAN of another name")?;
            for (member, node) in (1..).zip(lan["members"].as_array().context("no members")?) {
                let mac = forged::mac(node["mac"].as_str().context("no MAC")?)?;
                let socket =
                    RawSocket::open(&lab.namespace(NODES[member as usize - 1]), &format!("l{number}"))?;
                stations.push(Station { socket, mac, lan: number, member });
            }
        }
        Ok(Self { lab, stations })
    }

    /// Has all interfaces ask in turn, `rate` requests a second together.
    ///
    /// # Errors
    /// When a request is not sent, or one whose answer is waited for has none.
    pub fn load(&self, rate: u32, seconds: u32) -> Result<Report> {
        let before = (self.cpu_time()?, self.delivered()?, self.dropped()?);
        let (start, time) = (Instant::now(), Duration::from_secs(seconds.into()));
        let is_over = AtomicBool::new(false);
        let (sent, mut answers) = std::thread::scope(|scope| -> Result<_> {
            let asker = scope.spawn(|| self.ask(&is_over));
            let mut sent = 0_usize;
            while start.elapsed() < time {
                let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as usize;
                let burst_end = due.min(sent + 64);
                while sent < burst_end {
                    let station = &self.stations[sent % self.stations.len()];
                    station.socket.send(&station.request(sent / self.stations.len()).0)?;
                    sent += 1;
                }
                if sent >= due {
                    std::thread::park_timeout(Duration::from_micros(200));
                }
            }
            // ORDERING: a flag that is polled; nothing is published with it.
            is_over.store(true, Ordering::Relaxed);
            let answers = asker.join().map_err(|_| anyhow::anyhow!("the asker panicked"))??;
            Ok((sent + answers.len(), answers))
        })?;
        let took = start.elapsed();
        let after = (self.cpu_time()?, self.delivered()?, self.dropped()?);
        let each = |after: Duration, before: Duration| (after - before).div_f64(sent as f64);
        answers.sort_unstable();
        ensure!(!answers.is_empty(), "nothing was asked in {took:?}");
        Ok(Report {
            interfaces: self.stations.len(),
            requests: sent as f64 / took.as_secs_f64(),
            delivered: (after.1 - before.1) as f64 / sent as f64,
            control_node: each(after.0.0, before.0.0),
            nodes: each(after.0.1, before.0.1),
            answer: (answers[answers.len() / 2], answers[answers.len() - 1]),
            dropped: after.2 - before.2,
        })
    }

    /// Ends the lab, and checks that nothing is left behind.
    ///
    /// # Errors
    /// As [`Lab::stop`].
    pub fn stop(self) -> Result<()> {
        self.lab.stop()
    }

    /// Asks one request behind the other at one interface, and waits for each answer.
    fn ask(&self, is_over: &AtomicBool) -> Result<Vec<Duration>> {
        let station = self.stations.first().context("no interface")?;
        let asks = RawSocket::open(&self.lab.namespace(NODES[0]), &format!("l{}", station.lan))?;
        let mut answers = Vec::new();
        // ORDERING: a flag that is polled; nothing is published with it.
        while answers.len() < ASKED && !is_over.load(Ordering::Relaxed) {
            let (request, target) = station.request(answers.len());
            let start = Instant::now();
            asks.send(&request)?;
            asks.wait_for("an answer", |frame| {
                frame.len() >= 42
                    && frame[12..14] == [8, 6]
                    && frame[21] == 2
                    && frame[28..32] == target.octets()
            })?;
            answers.push(start.elapsed());
        }
        Ok(answers)
    }

    /// What the control node and the nodes have used of the processors so far.
    fn cpu_time(&self) -> Result<(Duration, Duration)> {
        let mut nodes = Duration::ZERO;
        for node in NODES {
            nodes += used(self.lab.pid(node)?)?;
        }
        Ok((used(self.lab.pid("cn-a")?)?, nodes))
    }

    /// Frames that came to nodes by way of the control node.
    fn delivered(&self) -> Result<u64> {
        self.lab.counter(|name| name.starts_with("node.") && name.ends_with(".rx.relay.frames"))
    }

    fn dropped(&self) -> Result<u64> {
        let drops = self.lab.json(&["drops"])?;
        Ok(drops.as_array().into_iter().flatten().filter_map(|drop| drop["frames"].as_u64()).sum())
    }
}

/// The time that a process has run, of its user and of the kernel: fields 14 and 15 of `/proc/PID/stat`, in hundredths of a
/// second.
fn used(process: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind) = text.rsplit_once(") ").context("no name")?;
    let ticks: Vec<u64> = behind.split(' ').skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in {text}");
    Ok(Duration::from_millis(10 * (ticks[0] + ticks[1])))
}

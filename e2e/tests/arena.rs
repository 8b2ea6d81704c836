//! Broadcasts of one node reach all others once and in order, by the LAN's arena, while nodes come and go.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::traffic::socket_in;
use e2e::{Lab, run};

const NODES: usize = 4;
const PORT: u16 = 5005;
/// Datagrams a second: enough for an arena, and slow enough that the stack sends them one by one.
const RATE: u64 = 1000;
/// Octets of each.
const LINE_LEN: usize = 1000;

fn members() -> String {
    let mut text = "[platform]\nname = \"arena\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=NODES {
        let _ = writeln!(
            text,
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}"
        );
    }
    text.push_str("[[lan]]\nname = \"red\"\nid = 10\nmtu = 1500\n");
    for n in 1..=NODES {
        let _ = writeln!(text, "[[lan.member]]\nnode = \"web{n}\"\naddress = \"10.1.0.{n}/24\"");
    }
    text
}

/// A socat that writes the datagrams that come to a namespace to a file.
struct Receiver {
    socat: Child,
    file: PathBuf,
}

impl Receiver {
    fn start(lab: &Lab, node: &str) -> Result<Self> {
        let file = lab.file().with_file_name(format!("{node}-broadcasts.txt"));
        let (from, to) = (format!("UDP4-RECV:{PORT}"), format!("OPEN:{},creat,append", file.display()));
        let socat = lab.spawn(node, 100, &["socat", "-b", "65536", "-u", &from, &to])?;
        lab.wait_for("a socket", || {
            Ok(lab.exec(node, 5, &["ss", "-lun"])?.ok()?.contains(&format!(":{PORT}")))
        })?;
        Ok(Self { socat, file })
    }

    /// The numbers of the datagrams that have come.
    fn numbers(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| line.trim_start_matches('.').parse().ok()).collect()
    }

    fn stop(mut self) -> Result<()> {
        run(5, &["kill", "-TERM", &self.socat.id().to_string()])?.ok()?;
        self.socat.wait()?;
        Ok(())
    }
}

/// Broadcasts datagrams with these numbers.
fn broadcast(lab: &Lab, numbers: std::ops::Range<u64>) -> Result<()> {
    let socket = socket_in(&lab.namespace("web1"), "10.1.0.1".parse()?)?;
    socket.set_broadcast(true)?;
    let target: SocketAddr = format!("10.1.0.255:{PORT}").parse()?;
    let (start, first) = (Instant::now(), numbers.start);
    for number in numbers {
        let due = Duration::from_micros((number - first) * 1_000_000 / RATE);
        while let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
            std::thread::park_timeout(early);
        }
        socket.send_to(format!("{:.>width$}\n", number, width = LINE_LEN - 1).as_bytes(), target)?;
    }
    Ok(())
}

fn wait_for_all(lab: &Lab, receivers: &[Receiver], count: u64) -> Result<()> {
    lab.wait_for(&format!("{count} datagrams at everybody"), || {
        Ok(receivers.iter().all(|receiver| receiver.numbers().len() as u64 >= count))
    })?;
    for receiver in receivers {
        ensure!(
            receiver.numbers().into_iter().eq(0..count),
            "lost, doubled or out of order: {:?}",
            receiver.file
        );
    }
    Ok(())
}

fn arena(lab: &Lab, what: &str) -> Result<u64> {
    let name = format!("lan.red.arena.{what}");
    lab.counter(|counter| counter == name)
}

#[test]
fn broadcasts_go_by_the_arena_of_their_lan_and_reach_everybody_once() -> Result<()> {
    let lab = Lab::start_text(&members(), "arena")?;
    let receivers: Vec<Receiver> =
        (2..=3).map(|n| Receiver::start(&lab, &format!("web{n}"))).collect::<Result<_>>()?;
    broadcast(&lab, 0..1000)?;
    wait_for_all(&lab, &receivers, 1000)?;
    let (references, octets) = (arena(&lab, "references")?, arena(&lab, "octets")?);
    ensure!(octets == 2 << 20 && arena(&lab, "members")? == NODES as u64, "an arena of {octets} octets");
    // Some were copied before there was one.
    ensure!((1000..=3000).contains(&references) && arena(&lab, "evictions")? == 0, "{references} references");
    // A member is killed, and comes again: the arena that it had is given up at each, and nobody else misses a frame.
    let other = std::thread::scope(|scope| {
        let sender = scope.spawn(|| broadcast(&lab, 1000..4000));
        let killed = lab.kill("web4");
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        killed
    });
    other?;
    wait_for_all(&lab, &receivers, 4000)?;
    ensure!(arena(&lab, "references")? > references + 1000, "there was no second arena");
    receivers.into_iter().try_for_each(Receiver::stop)?;
    lab.stop()
}

//! A member that may listen promiscuously and runs a stock tcpdump sees every frame of the others once and in order; one that may
//! not sees nothing of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::traffic::socket_in;
use e2e::{Lab, Tcpdump};

/// Octets of the header of a classic capture file, and of a record's header (pcap-savefile(5)).
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Pause between two datagrams.
const PACE: Duration = Duration::from_millis(2);

/// A LAN of four members on one host, of which the third may listen.
fn four_members() -> String {
    let mut text = "[platform]\nname = \"four\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=4 {
        let _ = writeln!(
            text,
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}"
        );
    }
    text.push_str("[[lan]]\nname = \"red\"\nid = 10\n");
    for n in 1..=4 {
        let addresses = format!("[\"10.1.0.{n}/24\", \"fd00:1::{n}/64\"]");
        let _ = writeln!(
            text,
            "[[lan.member]]\nnode = \"web{n}\"\naddress = {addresses}\npromiscuous = {}",
            n == 3
        );
    }
    text
}

/// A tcpdump that writes to a file.
struct ToFile {
    tcpdump: Tcpdump,
    file: PathBuf,
}

impl ToFile {
    fn start(lab: &Lab, node: &str, options: &[&str]) -> Result<Self> {
        let file = lab.file().with_file_name(format!("{node}.pcap"));
        let name = file.to_string_lossy().into_owned();
        let plain = ["-Z", "root", "-U", "-B", "16384", "-s", "0", "-i", "red", "-w", &name];
        let tcpdump = Tcpdump::start(lab, node, 240, &[&plain[..], options].concat())?;
        Ok(Self { tcpdump, file })
    }

    /// The frames that it has written so far.
    fn frames(&self) -> Vec<Vec<u8>> {
        frames_in(&self.file)
    }

    /// Ends it; it must have seen everything that came.
    fn finish(self) -> Result<Vec<Vec<u8>>> {
        let Self { tcpdump, file } = self;
        let said = tcpdump.end()?.err;
        ensure!(said.contains("\n0 packets dropped by kernel"), "{}: {said}", file.display());
        Ok(frames_in(&file))
    }
}

/// The frames that a file has so far; one that is not whole yet is left out.
fn frames_in(file: &Path) -> Vec<Vec<u8>> {
    let octets = fs::read(file).unwrap_or_default();
    let (mut frames, mut rest) = (Vec::new(), octets.get(FILE_HEADER..).unwrap_or_default());
    while let Some(header) = rest.get(..RECORD_HEADER) {
        let len = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some(frame) = rest.get(RECORD_HEADER..RECORD_HEADER + len) else { break };
        frames.push(frame.to_vec());
        rest = &rest[RECORD_HEADER + len..];
    }
    frames
}

/// The MAC addresses of the members, and whether they listen.
fn members(lab: &Lab) -> Result<BTreeMap<String, (Vec<u8>, String)>> {
    let lans = lab.json(&["lans"])?;
    let members = lans[0]["members"].as_array().context("no members")?;
    let member = |member: &serde_json::Value| {
        let word = |key: &str| member[key].as_str().unwrap_or_default().to_owned();
        let mac = word("mac").split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        (word("node"), (mac, word("promiscuous")))
    };
    Ok(members.iter().map(member).collect())
}

fn wait_for_listening(lab: &Lab, node: &str, state: &str) -> Result<()> {
    lab.wait_for(&format!("{node} to be shown as {state}"), || Ok(members(lab)?[node].1 == state))
}

/// What frames have in common that stay in order: addresses, type, and the protocol and its ports.
fn flow_of(frame: &[u8]) -> Vec<u8> {
    let octets = |range: std::ops::Range<usize>| frame.get(range).unwrap_or_default().to_vec();
    let l4 = match frame.get(12..14) {
        Some([0x08, 0x00]) => [octets(23..24), octets(26..34), octets(34..38)].concat(),
        Some([0x86, 0xdd]) => [octets(20..21), octets(22..54), octets(54..58)].concat(),
        _ => Vec::new(),
    };
    // The numbers of ICMP and its sum are not ports.
    let is_icmp = matches!((frame.get(12), frame.get(23), frame.get(20)), (Some(8), Some(1), _))
        || matches!((frame.get(12), frame.get(20)), (Some(0x86), Some(58)));
    let l4 = if is_icmp { l4[..l4.len() - 3].to_vec() } else { l4 };
    [octets(0..14), l4].concat()
}

fn by_flow(frames: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<&Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        flows.entry(flow_of(frame)).or_default().push(frame);
    }
    flows
}

/// Every flow that was sent has come as it was sent. What came before the sender was watched is left out.
fn compare(sent: &[Vec<u8>], came: &[Vec<u8>]) -> Result<usize> {
    let came = by_flow(came);
    for (flow, sent) in by_flow(sent) {
        let came = came.get(&flow).map(Vec::as_slice).unwrap_or_default();
        if !came.ends_with(&sent) {
            let first = sent.iter().zip(came).position(|(a, b)| a != b);
            bail!("flow {flow:02x?}: {} sent, {} came, different from {first:?} on", sent.len(), came.len());
        }
    }
    Ok(sent.len())
}

/// Two sockets, of web1 and web2, and datagrams of growing lengths between them, which are not joined.
fn datagrams(lab: &Lab, addresses: [&str; 2], count: usize) -> Result<()> {
    let open = |place: usize| -> Result<UdpSocket> {
        socket_in(&lab.namespace(&format!("web{}", place + 1)), addresses[place].parse()?)
    };
    let (one, two) = (open(0)?, open(1)?);
    for number in 0..count {
        one.send_to(&vec![1; 20 + number], two.local_addr()?)?;
        two.send_to(&vec![2; 20 + number], one.local_addr()?)?;
        std::thread::park_timeout(PACE);
    }
    Ok(())
}

fn to_group(lab: &Lab, from: &str, to: &str, count: usize) -> Result<()> {
    let socket = socket_in(&lab.namespace("web1"), from.parse()?)?;
    socket.set_broadcast(true)?;
    for number in 0..count {
        socket.send_to(&vec![3; 20 + number], SocketAddr::new(to.parse::<IpAddr>()?, 5004))?;
        std::thread::park_timeout(PACE);
    }
    Ok(())
}

/// The pair has a direct RVI, or has none.
fn wait_for_pair(lab: &Lab, pair: [&str; 2], is_direct: bool) -> Result<()> {
    let what = format!("{pair:?} to be {}", if is_direct { "direct" } else { "relayed" });
    lab.wait_for(&what, || {
        let rvis = lab.json(&["rvis"])?;
        let is_pair = |rvi: &&serde_json::Value| [&rvi["a"]["node"], &rvi["b"]["node"]] == pair;
        let rvi = rvis.as_array().and_then(|rvis| rvis.iter().find(is_pair));
        Ok(rvi.is_some_and(|rvi| rvi["state"] == "up") == is_direct)
    })
}

/// Everything that two stations may say to each other.
fn exchange(lab: &Lab) -> Result<()> {
    for node in ["web1", "web2"] {
        lab.exec(node, 5, &["ip", "neigh", "flush", "all"])?.ok()?;
    }
    for (family, address) in [("-4", "10.1.0.2"), ("-6", "fd00:1::2")] {
        lab.exec("web1", 20, &["ping", family, "-q", "-c", "5", "-i", "0.1", address])?.ok()?;
    }
    datagrams(lab, ["10.1.0.1", "10.1.0.2"], 100)?;
    datagrams(lab, ["fd00:1::1", "fd00:1::2"], 100)?;
    let mut server = lab.spawn("web2", 30, &["iperf3", "-s", "-1"])?;
    let listens = || Ok(lab.exec("web2", 5, &["ss", "-Htln", "sport = :5201"])?.ok()?.contains("5201"));
    lab.wait_for("iperf3 to listen", listens)?;
    lab.exec("web1", 30, &["iperf3", "-c", "10.1.0.2", "-n", "4M", "-b", "40M"])?.ok()?;
    server.wait()?;
    to_group(lab, "10.1.0.1", "10.1.0.255", 20)?;
    to_group(lab, "10.1.0.1", "239.1.1.1", 20)?;
    to_group(lab, "fd00:1::1", "ff05::7", 20)
}

#[test]
fn a_permitted_listener_with_tcpdump_sees_every_frame_once_and_in_order_and_others_see_none() -> Result<()> {
    let lab = Lab::start_text(&four_members(), "e2eprom")?;
    ensure!(members(&lab)?["web3"].1 == "may" && members(&lab)?["web4"].1 == "no");
    let listener = ToFile::start(&lab, "web3", &["-Q", "in"])?;
    let stranger = ToFile::start(&lab, "web4", &["-Q", "in"])?;
    wait_for_listening(&lab, "web3", "listens")?;
    // What was sent: these are no listeners.
    let senders = ["web1", "web2"].map(|node| ToFile::start(&lab, node, &["-p", "-Q", "out"]));
    let senders = senders.into_iter().collect::<Result<Vec<_>>>()?;

    exchange(&lab)?;
    wait_for_pair(&lab, ["web1", "web2"], true)?;
    for (cut, direct) in [(["web1", "web2"], ["web1", "web3"]), (["web1", "web3"], ["web1", "web2"])] {
        // Frames by relay and copies direct; then the other way round.
        lab.switchctl(&["rvi", "cut", cut[0], cut[1]])?.ok()?;
        wait_for_pair(&lab, cut, false)?;
        exchange(&lab)?;
        wait_for_pair(&lab, direct, true)?;
        lab.switchctl(&["rvi", "heal", cut[0], cut[1]])?.ok()?;
        exchange(&lab)?;
        wait_for_pair(&lab, cut, true)?;
    }

    let members = members(&lab)?;
    let macs = ["web1", "web2"].map(|node| members[node].0.clone());
    let own = members["web3"].0.clone();
    let sent = || -> Vec<Vec<u8>> {
        let frames = senders.iter().flat_map(ToFile::frames);
        frames.filter(|frame| !frame.starts_with(&own)).collect()
    };
    let came = || -> Vec<Vec<u8>> {
        let is_theirs = |frame: &Vec<u8>| macs.iter().any(|mac| frame[6..].starts_with(mac));
        listener.frames().into_iter().filter(is_theirs).filter(|frame| !frame.starts_with(&own)).collect()
    };
    lab.wait_for("every frame to come", || {
        Ok(compare(&sent(), &came()).is_ok() || came().len() > 2 * sent().len())
    })
    .or_else(|_| compare(&sent(), &came()).map(|_| ()))?;
    let count = compare(&sent(), &came())?;
    ensure!(count > 1500, "only {count} frames");
    for reason in ["listener-full", "listener-gone", "not-listening"] {
        ensure!(lab.counter(|name| name.ends_with(&format!("drop.{reason}")))? == 0, "{reason}");
    }

    for sender in senders {
        sender.finish()?;
    }
    listener.finish()?;
    let foreign = stranger.finish()?.into_iter().find(|frame| {
        let is_group = frame[0] & 1 == 1;
        !is_group && !frame.starts_with(&members["web4"].0)
    });
    ensure!(foreign.is_none(), "one that may not listen got {foreign:02x?}");
    let shown = lab.switchctl(&["lans"])?.ok()?;
    ensure!(
        shown.lines().any(|line| line.contains("web4") && line.contains("no, refused 1 times")),
        "{shown}"
    );
    ensure!(lab.log().matches("listens promiscuously on LAN").count() == 1, "{}", lab.log());
    wait_for_listening(&lab, "web3", "may")?;
    lab.stop()
}

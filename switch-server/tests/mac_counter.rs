//! The MAC counter under SIGKILL: a child process allocates as fast as it can and says each MAC after its
//! commit; it is killed at random instants, many times over one state directory, and no MAC may come twice.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use switch_server::store::{Membership, Store};
use vlan_core::{ControlNodeSerial, LanId, MacAddress, NodeNumber};

const CHILD_DIR: &str = "WEFT_MAC_COUNTER_CHILD_DIR";
const CHILD_FIRST: &str = "WEFT_MAC_COUNTER_CHILD_FIRST";
const KILLS: u64 = 40;

/// The child's whole life: open, then apply configurations with more and more memberships, which nobody asked for before.
fn allocate_until_killed(dir: &Path, first: u32) {
    let store = Store::open(dir).unwrap();
    let mut out = std::io::stdout().lock();
    let mut wanted = Vec::new();
    for round in first.. {
        let node = NodeNumber(u16::try_from(round % 60_000).unwrap());
        wanted.extend((1..=3).map(|lan| Membership { node, lan: LanId(lan), mac: None }));
        let applied = store.apply("", &wanted, &[], ControlNodeSerial(1)).unwrap();
        for (membership, identity) in wanted.iter().zip(applied.identities).skip(wanted.len() - 3) {
            writeln!(out, "mac {} {} {}", membership.node, membership.lan, identity.mac).unwrap();
        }
        out.flush().unwrap();
    }
}

/// Starts the child, kills it `life` after its start, or after its first line when `after_line`, and returns
/// what it said.
fn lines_of_one_life(dir: &Path, first: u32, life: Duration, after_line: bool) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_mac_is_given_twice_however_the_process_is_killed", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let (said, heard) = std::sync::mpsc::channel();
    let killer = std::thread::spawn(move || {
        if after_line {
            heard.recv().unwrap();
        }
        // SLEEP: how long a life lasts is what is varied; nothing waits for it to be right.
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut lines = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        if lines.is_empty() && line.starts_with("mac ") {
            let _ = said.send(());
        }
        // A line cut short by the kill was committed too, but says nothing that can be compared.
        if line.starts_with("mac ") && line.ends_with('\n') {
            lines.push(line.trim_end().to_owned());
        }
        line.clear();
    }
    killer.join().unwrap();
    lines
}

#[test]
fn no_mac_is_given_twice_however_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let first = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
        allocate_until_killed(Path::new(&dir), first);
        return;
    }
    //= spec/control-node.md#mac-counter
    //= type=test
    //# The counter and the interface that a value is given to MUST be written in one durable transaction before
    //# the MAC is used, so that a MAC is never given twice.
    let dir = tempfile::tempdir().unwrap();
    let mut owners: HashMap<MacAddress, String> = HashMap::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut first = 1;
    for life in 0..KILLS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Every third life may end while the registry is made or opened.
        let duration = Duration::from_micros((seed >> 33) % 20_000);
        for line in lines_of_one_life(dir.path(), first, duration, life % 3 != 0) {
            let (interface, mac) = line.strip_prefix("mac ").unwrap().rsplit_once(' ').unwrap();
            let mac: MacAddress = mac.parse().unwrap();
            let owner = owners.entry(mac).or_insert_with(|| interface.to_owned());
            assert_eq!(owner, interface, "{mac} was given twice");
            // The next life asks for the last interfaces of this one again, then for new ones.
            first = interface.split_once(' ').unwrap().0.parse::<u32>().unwrap();
        }
    }
    // What is no membership any more is forgotten; the last round is one in every life since.
    let registry = Store::open(dir.path()).unwrap().assignments().unwrap();
    for (mac, interface) in &owners {
        let (node, lan) = interface.split_once(' ').unwrap();
        let key = (NodeNumber(node.parse().unwrap()), LanId(lan.parse().unwrap()));
        if u32::from(key.0.0) == first {
            assert_eq!(registry.get(&key), Some(mac), "what was said must be in the registry");
        }
    }
    assert!(owners.len() > 50, "the children allocated {} MACs only", owners.len());
}

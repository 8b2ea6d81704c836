//! Groups that stations behind a bridge join and leave.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::groups::Listener;
use e2e::{Lab, run};

use crate::multicast::{STREAMS, members, send, ten_members, wait_for_members};

#[test]
fn a_station_behind_a_bridge_joins_and_leaves_by_its_reports() -> Result<()> {
    let lab = Lab::start_text(&ten_members(true), "e2embr")?;
    let station = lab.namespace("station");
    run(5, &["ip", "netns", "add", &station])?.ok()?;
    for words in [
        "ip link add br0 type bridge mcast_snooping 1",
        "ip link set red master br0",
        "ip link set br0 up",
        "ip link add v0 type veth peer name v1",
        "ip link set v0 master br0 up",
    ] {
        lab.exec("web10", 5, &words.split(' ').collect::<Vec<_>>())?.ok()?;
    }
    lab.exec("web10", 5, &["ip", "link", "set", "v1", "netns", &station])?.ok()?;
    for words in
        ["ip addr add 10.1.0.10/24 dev v1", "ip addr add fd00:1::a/64 dev v1 nodad", "ip link set v1 up"]
    {
        lab.exec("station", 5, &words.split(' ').collect::<Vec<_>>())?.ok()?;
    }
    for stream in STREAMS {
        let listener = Listener::join(&lab, "station", "v1", stream.0)?;
        wait_for_members(&lab, stream.0, &["web10"])?;
        ensure!(members(&lab, stream.0)?[0].1 == "report", "{:?}", members(&lab, stream.0)?);
        // The bridge takes a moment to let its new port speak; the join has crossed it already.
        let sent = send(&lab, stream, 0..1000)?;
        lab.wait_for("the stream to arrive", || Ok(listener.lines().len() >= sent.len()))?;
        ensure!(listener.leave()? == sent, "not every datagram once");
        wait_for_members(&lab, stream.0, &[])?;
    }
    // The kernel's bridge takes the driver's queries, and sends reports towards who asks and nowhere else from then on.
    lab.wait_for_long("the bridge to hear a query", Duration::from_secs(60), || {
        let ports = lab.exec("web10", 5, &["bridge", "-d", "mdb", "show"])?.ok()?;
        Ok(ports.lines().any(|line| line.contains("router ports on br0") && line.contains("red")))
    })?;
    for (group, _) in STREAMS {
        let listener = Listener::join(&lab, "station", "v1", group)?;
        wait_for_members(&lab, group, &["web10"])?;
        listener.leave()?;
        wait_for_members(&lab, group, &[])?;
    }
    run(5, &["ip", "netns", "del", &station])?.ok()?;
    lab.stop()
}

//! wrk at a cluster address, while servers live and die.

use anyhow::{Context, Result, ensure};

use super::{ADDRESSES, CLIENTS, Cluster};

/// What wrk has counted.
#[derive(Debug)]
struct Load {
    requests: u64,
    /// Connections refused or broken, and answers that did not come within 2 s.
    failed: u64,
    /// Answers with another status than 200.
    other: u64,
}

impl Load {
    /// Reads what wrk prints, `N requests in`, and only where there were some, `Socket errors: connect N, read N, write N, timeout N` and
    /// `Non-2xx or 3xx responses: N`.
    fn parse(text: &str) -> Result<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start));
        let numbers =
            |line: &str| -> u64 { line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum() };
        let requests = text.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse().ok());
        Ok(Self {
            requests: requests.with_context(|| format!("no requests: {text}"))?,
            failed: line("Socket errors:").map_or(0, numbers),
            other: line("Non-2xx or 3xx responses:").map_or(0, numbers),
        })
    }
}

#[test]
fn wrk_has_every_request_answered_inside_and_outside_by_all_servers() -> Result<()> {
    let cluster = Cluster::start("e2ewrk", |text| text)?;
    for (client, address) in CLIENTS.into_iter().zip(["10.1.0.100", "[fd00:1::100]"]) {
        for header in ["Connection: keep-alive", "Connection: close"] {
            let url = format!("http://{address}:81/name");
            let words = ["wrk", "-t", "1", "-c", "16", "-d", "2s", "-H", header, &url];
            let out = cluster.lab.exec(client, 20, &words)?.ok()?;
            let load = Load::parse(&out)?;
            println!("{client} with {header}: {} requests a second", load.requests / 2);
            ensure!(load.requests > 0 && load.failed + load.other == 0, "{client}, {header}: {out}");
        }
    }
    for server in cluster.servers(81)? {
        ensure!(server["packets"].as_u64() > Some(0) && server["chosen"].as_u64() > Some(0), "{server}");
    }
    cluster.lab.stop()
}

#[test]
fn a_steady_load_goes_on_when_a_server_process_and_a_node_are_killed() -> Result<()> {
    let mut cluster = Cluster::start("e2ewkl", |text| text)?;
    let url = format!("http://{}:81/name", ADDRESSES[0]);
    let load = |cluster: &Cluster| {
        cluster.lab.spawn(
            "client",
            20,
            &["wrk", "-t", "1", "-c", "8", "-d", "5s", "-H", "Connection: close", &url],
        )
    };
    let packets = |cluster: &Cluster| cluster.counter("lan.red.cluster.10.1.0.100.forwarded");
    // A part of the load on both sides of what happens.
    let has_gone_on = |cluster: &Cluster, from: u64| {
        cluster.lab.wait_for("packets", || Ok(packets(cluster)? >= from + 2000))
    };
    for what in ["server process", "node"] {
        let from = packets(&cluster)?;
        let wrk = load(&cluster)?;
        has_gone_on(&cluster, from)?;
        match what {
            "node" => cluster.lab.kill("web2")?,
            _ => cluster.servers[&("web1", 81)].signal("KILL")?,
        }
        has_gone_on(&cluster, packets(&cluster)?)?;
        let out = String::from_utf8(wrk.wait_with_output()?.stdout)?;
        let load = Load::parse(&out)?;
        println!("a {what} is killed: {} of {} requests failed", load.failed, load.requests + load.failed);
        ensure!(load.other == 0, "{out}");
        if what != "node" {
            cluster.serve("web1", 81)?;
        }
        cluster.wait_for_health(81, &["up"; 3])?;
    }
    let answers = cluster.ask_often("desk", ADDRESSES[0], 81, 8)?;
    ensure!(answers.len() == 3, "{answers:?}");
    cluster.lab.stop()
}

//! Cluster addresses with stock programs: nginx on three nodes, curl, wrk and ping from a member and from outside.

mod floods;
mod health;
mod load;
mod outside;
mod routers;

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::stock::Service;

const SERVERS: [&str; 3] = ["web1", "web2", "web3"];
/// A member that serves nothing, and a host outside.
const CLIENTS: [&str; 2] = ["desk", "client"];
const ADDRESSES: [&str; 2] = ["10.1.0.100", "fd00:1::100"];
/// Ports of services that are served: by hash, in turn, and by the client.
const PORTS: [u16; 3] = [80, 81, 82];
/// Octets of the file whose download is long.
const LONG: usize = 24_000_000;
/// Its octets a second.
const PACE: &str = "4M";
/// How long a web server may run, in seconds.
const TIME: u32 = 240;

struct Cluster {
    lab: Lab,
    servers: BTreeMap<(&'static str, u16), Service>,
}

impl Cluster {
    /// The example in a lab of its own, with a web server at three ports of each server.
    fn start(name: &str, change: impl FnOnce(String) -> String) -> Result<Self> {
        let text = change(fs::read_to_string(examples().join("cluster.toml"))?);
        let mut new = Self { lab: Lab::start_text(&text, name)?, servers: BTreeMap::new() };
        for node in SERVERS {
            let folder = new.folder(node);
            fs::create_dir_all(&folder)?;
            fs::write(format!("{folder}/name"), node)?;
            fs::write(format!("{folder}/long"), vec![7; LONG])?;
            for port in PORTS {
                new.serve(node, port)?;
            }
        }
        for port in PORTS {
            new.lab.wait_for(&format!("all servers of port {port} to be up"), || {
                Ok(new.health(port)?.iter().all(|health| health == "up"))
            })?;
        }
        Ok(new)
    }

    fn folder(&self, node: &str) -> String {
        self.lab.file().with_file_name(format!("www-{node}")).to_string_lossy().into_owned()
    }

    fn serve(&mut self, node: &'static str, port: u16) -> Result<()> {
        let folder = self.folder(node);
        let (config, log) = (format!("{folder}/{port}.conf"), format!("{folder}/{port}.log"));
        let http = format!(
            "access_log off; root {folder}; server {{ listen {port}; listen [::]:{port}; keepalive_requests 1000000; }}"
        );
        let events = "events { worker_connections 1024; }";
        let text = format!("daemon off; user root; worker_processes 1; pid {folder}/{port}.pid;");
        fs::write(&config, format!("{text} {events} http {{ {http} }}"))?;
        let service = Service::start_for(&self.lab, node, TIME, &["nginx", "-e", &log, "-c", &config])?;
        self.servers.insert((node, port), service);
        Ok(())
    }

    /// The health of the servers of a TCP port, in their order.
    fn health(&self, port: u16) -> Result<Vec<String>> {
        let health = |server: &serde_json::Value| server["health"].as_str().map(str::to_owned);
        Ok(self.servers(port)?.iter().filter_map(health).collect())
    }

    fn wait_for_health(&self, port: u16, wanted: &[&str]) -> Result<()> {
        self.lab.wait_for(&format!("the servers of port {port} to be {wanted:?}"), || {
            Ok(self.health(port)? == wanted)
        })
    }

    /// What `switchctl clusters` says of the servers of a TCP port, in their order.
    fn servers(&self, port: u16) -> Result<Vec<serde_json::Value>> {
        let clusters = self.lab.json(&["clusters"])?;
        let services = clusters[0]["services"].as_array().context("no services")?;
        let service = services.iter().find(|s| s["port"] == port && s["protocol"] == "tcp");
        Ok(service.and_then(|s| s["servers"].as_array()).context("no such service")?.clone())
    }

    /// Who answers a request, if anybody does.
    fn ask(&self, client: &str, address: &str, port: u16) -> Result<Option<String>> {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let url = format!("http://{host}:{port}/name");
        let done = self.lab.exec(client, 10, &["curl", "-s", "-m", "3", &url])?;
        Ok((done.code == Some(0)).then_some(done.out))
    }

    /// Who answers so many requests, and how often; all are answered.
    fn ask_often(
        &self,
        client: &str,
        address: &str,
        port: u16,
        times: usize,
    ) -> Result<BTreeMap<String, usize>> {
        let mut answers = BTreeMap::new();
        for _ in 0..times {
            let answer = self.ask(client, address, port)?;
            let server = answer.with_context(|| format!("{client} to {address} port {port}: no answer"))?;
            *answers.entry(server).or_insert(0) += 1;
        }
        Ok(answers)
    }

    /// Begins a long download.
    fn download(&self, client: &str, address: &str, port: u16) -> Result<Child> {
        let url = format!("http://{address}:{port}/long");
        let file = self.downloaded(client);
        self.lab.spawn(client, 60, &["curl", "-s", "-f", "--limit-rate", PACE, "-o", &file, &url])
    }

    fn downloaded(&self, client: &str) -> String {
        self.lab.file().with_file_name(format!("{client}-long")).to_string_lossy().into_owned()
    }

    fn has_begun(&self, client: &str) -> Result<()> {
        self.lab.wait_for(&format!("the download of {client} to begin"), || {
            Ok(fs::metadata(self.downloaded(client)).is_ok_and(|file| file.len() > 1_000_000))
        })
    }

    /// It ends, and is whole.
    fn ends_whole(&self, client: &str, mut download: Child) -> Result<()> {
        let status = download.wait()?;
        ensure!(status.success(), "the download of {client} ended with {status}\n{}", self.lab.log());
        let got = fs::read(self.downloaded(client))?;
        ensure!(got == vec![7; LONG], "{client} got {} octets", got.len());
        Ok(())
    }

    fn counter(&self, name: &str) -> Result<u64> {
        self.lab.counter(|counter| counter == name)
    }
}

#[test]
fn a_cluster_is_reached_from_inside_and_outside_and_its_answers_pass_nobody() -> Result<()> {
    let cluster = Cluster::start("e2eclu", |text| text)?;
    for client in CLIENTS {
        for address in ADDRESSES {
            ensure!(cluster.ask(client, address, 80)?.is_some(), "{client} to {address}");
            let ping = ["ping", "-q", "-c", "3", "-i", "0.1", "-W", "2", address];
            let out = cluster.lab.exec(client, 10, &ping)?.out;
            ensure!(out.contains(" 3 received"), "{client} to {address}: {out}");
        }
        // Nobody answers at a port of no service: also the servers do not, which would refuse it.
        let refused = cluster.lab.exec(client, 10, &["curl", "-s", "-m", "1", "http://10.1.0.100:8080/"])?;
        ensure!(refused.code == Some(28), "curl to an unknown port ended with {:?}", refused.code);
    }
    ensure!(cluster.counter("lan.red.cluster.10.1.0.100.drop.unknown-service")? > 0);
    // A server that calls the cluster is served by itself.
    for server in SERVERS {
        for address in ADDRESSES {
            ensure!(cluster.ask(server, address, 80)?.as_deref() == Some(server), "{server} to {address}");
        }
    }
    // Nobody but the control node has said where the cluster is, whoever has answered whom.
    for client in CLIENTS {
        let known = cluster.lab.exec(client, 5, &["ip", "neigh", "show", "10.1.0.100"])?.ok()?;
        let clusters = cluster.lab.json(&["clusters"])?;
        let uplinks = cluster.lab.json(&["uplinks"])?;
        let mac = if client == "desk" { &clusters[0]["macs"][0] } else { &uplinks[0]["system_mac"] };
        ensure!(known.contains(mac.as_str().context("no MAC")?), "{client}: {known}, not {mac}");
    }
    // What a member fetches comes to it on direct RVIs, and only its own packets pass the control node.
    let given = "lan.red.desk.egress.octets";
    let before = cluster.counter(given)?;
    let download = cluster.download("desk", ADDRESSES[0], 80)?;
    cluster.ends_whole("desk", download)?;
    let passed = cluster.counter(given)? - before;
    // The first of it, until the pair has a direct RVI.
    ensure!(passed < LONG as u64 / 20, "{passed} octets of {LONG} went by way of the control node");
    cluster.lab.stop()
}

#[test]
fn an_unfiltered_uplink_shows_the_clusters_own_mac() -> Result<()> {
    let cluster =
        Cluster::start("e2ecun", |text| text.replace("mode = \"filtered\"", "mode = \"unfiltered\""))?;
    let clusters = cluster.lab.json(&["clusters"])?;
    for (place, address) in ADDRESSES.into_iter().enumerate() {
        ensure!(cluster.ask("client", address, 80)?.is_some(), "client to {address}");
        let known = cluster.lab.exec("client", 5, &["ip", "neigh", "show", address])?.ok()?;
        let mac = clusters[0]["macs"][place].as_str().context("no MAC")?;
        ensure!(known.contains(mac), "{known}, not {mac}");
    }
    cluster.lab.stop()
}

#[test]
fn servers_are_chosen_by_weight_and_a_client_of_a_sticky_service_stays() -> Result<()> {
    let cluster = Cluster::start("e2ecwt", |text| text)?;
    // In turn, by weight.
    for (client, address) in CLIENTS.into_iter().zip(ADDRESSES) {
        let answers = cluster.ask_often(client, address, 81, 16)?;
        let wanted = [("web1", 4), ("web2", 8), ("web3", 4)].map(|(server, n)| (server.to_owned(), n));
        ensure!(answers == BTreeMap::from(wanted), "{client}: {answers:?}");
    }
    // To one server all the time.
    for client in CLIENTS {
        let answers = cluster.ask_often(client, ADDRESSES[0], 82, 12)?;
        ensure!(answers.len() == 1, "{client}: {answers:?}");
    }
    cluster.lab.stop()
}

#[test]
fn a_long_download_stays_while_servers_drain_and_come() -> Result<()> {
    // The third comes later.
    let cluster = Cluster::start("e2ecdr", |text| text.replace(", { node = \"web3\" }]", "]"))?;
    let downloads = CLIENTS.map(|client| cluster.download(client, ADDRESSES[0], 81));
    CLIENTS.into_iter().try_for_each(|client| cluster.has_begun(client))?;
    for server in ["web1", "web2"] {
        cluster.lab.switchctl(&["drain", server])?.ok()?;
    }
    ensure!(cluster.ask("desk", ADDRESSES[0], 81)?.is_none(), "all drain");
    let text = fs::read_to_string(cluster.lab.file())?;
    let path = cluster.lab.file().with_file_name("more.toml");
    fs::write(&path, text.replace("weight = 2 }]", "weight = 2 }, { node = \"web3\" }]"))?;
    let said = cluster.lab.switchctl(&["apply", &path.to_string_lossy()])?.ok()?;
    ensure!(said.contains("cluster 10.1.0.100"), "{said}");
    cluster.wait_for_health(81, &["draining", "draining", "up"])?;
    let answers = cluster.ask_often("client", ADDRESSES[0], 81, 6)?;
    ensure!(answers == BTreeMap::from([("web3".to_owned(), 6)]), "{answers:?}");
    for (client, download) in CLIENTS.into_iter().zip(downloads) {
        cluster.ends_whole(client, download?)?;
    }
    for server in ["web1", "web2"] {
        cluster.lab.switchctl(&["undrain", server])?.ok()?;
    }
    let answers = cluster.ask_often("desk", ADDRESSES[0], 81, 8)?;
    ensure!(
        answers == BTreeMap::from([("web1", 2), ("web2", 4), ("web3", 2)].map(|(s, n)| (s.to_owned(), n))),
        "{answers:?}"
    );
    cluster.lab.stop()
}

#[test]
fn new_connections_avoid_a_server_whose_port_has_closed_and_a_node_that_has_died() -> Result<()> {
    let mut cluster = Cluster::start("e2ecdd", |text| text)?;
    cluster.servers.remove(&("web1", 81));
    cluster.wait_for_health(81, &["down", "up", "up"])?;
    let answers = cluster.ask_often("client", ADDRESSES[0], 81, 9)?;
    ensure!(!answers.contains_key("web1"), "{answers:?}");
    let address = cluster.lab.exec("web2", 5, &["ip", "-o", "addr", "show", "dev", "lo"])?.ok()?;
    ensure!(address.contains("10.1.0.100/32"), "{address}");
    cluster.lab.kill("web2")?;
    cluster.lab.wait_for("web2 to be away, or back", || Ok(cluster.health(81)?[1] != "up"))?;
    let answers = cluster.ask_often("desk", ADDRESSES[1], 81, 6)?;
    ensure!(!answers.contains_key("web1"), "{answers:?}");
    // Both come back: the lab starts a dead node again.
    cluster.serve("web1", 81)?;
    cluster.wait_for_health(81, &["up"; 3])?;
    let answers = cluster.ask_often("desk", ADDRESSES[0], 81, 8)?;
    ensure!(answers.len() == 3, "{answers:?}");
    //= spec/cluster.md#the-loopback
    //= type=test
    //# A host MUST put the addresses of the clusters that its node serves on the loopback of the node's namespace, whole and without a subnet, take them away when it serves them no more or ends, and write no sysctl.
    // Who serves nothing any more has the address no more.
    let text = fs::read_to_string(cluster.lab.file())?.replace("{ node = \"web2\", weight = 2 }, ", "");
    let path = cluster.lab.file().with_file_name("fewer.toml");
    fs::write(&path, text.replace("{ node = \"web2\" }, ", ""))?;
    cluster.lab.switchctl(&["apply", &path.to_string_lossy()])?.ok()?;
    cluster.lab.wait_for("web2 to have the address no more", || {
        let shown = cluster.lab.exec("web2", 5, &["ip", "-o", "addr", "show", "dev", "lo"])?.ok()?;
        Ok(!shown.contains("10.1.0.100/32"))
    })?;
    ensure!(cluster.ask("web2", ADDRESSES[0], 81)?.is_some(), "it is a client as any other now");
    cluster.lab.stop()
}

#[test]
fn a_control_node_that_dies_and_comes_back_breaks_no_connection() -> Result<()> {
    let cluster = Cluster::start("e2eccn", |text| text)?;
    let downloads = CLIENTS.map(|client| cluster.download(client, ADDRESSES[0], 81));
    CLIENTS.into_iter().try_for_each(|client| cluster.has_begun(client))?;
    cluster.lab.kill("cn-a")?;
    for (client, download) in CLIENTS.into_iter().zip(downloads) {
        cluster.ends_whole(client, download?)?;
    }
    // It was told of the flows that there were.
    ensure!(cluster.counter("lan.red.cluster.10.1.0.100.claims")? >= 2);
    cluster.wait_for_health(81, &["up"; 3])?;
    ensure!(cluster.ask_often("desk", ADDRESSES[1], 81, 4)?.len() == 3);
    cluster.lab.stop()
}

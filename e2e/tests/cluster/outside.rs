//! Long packets between hosts outside and a cluster.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::traffic::{socket_at, socket_in};
use e2e::{Lab, run};

use super::{ADDRESSES, Cluster, LONG, SERVERS};

/// The port of the service of datagrams.
const UDP_PORT: u16 = 53;
/// Octets of a datagram that takes three packets outside.
const DATAGRAM: usize = 4000;
/// A host behind a router, and the MTU on the way to it.
const FAR: &str = "10.9.0.2";
const FAR_MTU: &str = "1400";

#[test]
fn a_datagram_in_fragments_arrives_whole_at_one_server_and_is_answered() -> Result<()> {
    let cluster = Cluster::start("e2efrg", |text| text)?;
    let (address, own): (IpAddr, IpAddr) = (ADDRESSES[0].parse()?, "10.1.0.200".parse()?);
    let open = |server| {
        let socket = socket_at(&cluster.lab.namespace(server), SocketAddr::new(address, UDP_PORT))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let servers: Vec<UdpSocket> = SERVERS.into_iter().map(open).collect::<Result<_>>()?;
    cluster.lab.wait_for("the services of datagrams to be up", || {
        let clusters = cluster.lab.json(&["clusters"])?;
        let services = clusters[0]["services"].as_array().context("no services")?;
        let is_up = |server: &serde_json::Value| server["health"] == "up";
        Ok(services
            .iter()
            .filter(|s| s["protocol"] == "udp")
            .all(|s| s["servers"].as_array().is_some_and(|all| all.iter().all(is_up))))
    })?;
    for _ in 0..8 {
        let client = socket_in(&cluster.lab.namespace("client"), own)?;
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        let sent: Vec<u8> = (0..DATAGRAM).map(|at| at as u8).collect();
        client.send_to(&sent, (address, UDP_PORT))?;
        let mut got = vec![0; DATAGRAM + 1];
        let mut came = Vec::new();
        cluster.lab.wait_for("the datagram", || {
            Ok(servers.iter().any(|server| server.peek_from(&mut [0; 1]).is_ok()))
        })?;
        for server in &servers {
            while let Ok((len, from)) = server.recv_from(&mut got) {
                came.push(got[..len] == sent);
                server.send_to(b"got it", from)?;
            }
        }
        ensure!(came == [true], "{came:?}");
        let (len, from) = client.recv_from(&mut got)?;
        ensure!(got[..len] == *b"got it" && from.ip() == address, "{len} octets from {from}");
    }
    cluster.lab.stop()
}

/// A network behind `client`, which routes to it.
struct Far(String);

impl Far {
    fn start(lab: &Lab) -> Result<Self> {
        let (router, far) = (lab.namespace("client"), Self(lab.namespace("far")));
        let ip = |words: &str| run(5, &words.split(' ').collect::<Vec<_>>())?.ok().map(drop);
        ip(&format!("ip netns add {}", far.0))?;
        ip(&format!("ip -n {router} link add far0 mtu {FAR_MTU} type veth peer name eth0 netns {}", far.0))?;
        ip(&format!("ip -n {router} addr add 10.9.0.1/24 dev far0"))?;
        ip(&format!("ip -n {router} link set far0 up"))?;
        ip(&format!("ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        ip(&format!("ip -n {} link set lo up", far.0))?;
        // It says that it takes longer packets than come through.
        ip(&format!("ip -n {} link set eth0 mtu 1500 up", far.0))?;
        ip(&format!("ip -n {} addr add {FAR}/24 dev eth0", far.0))?;
        ip(&format!("ip -n {} route add default via 10.9.0.1", far.0))?;
        for server in SERVERS {
            ip(&format!("ip -n {} route add 10.9.0.0/24 via 10.1.0.200", lab.namespace(server)))?;
        }
        Ok(far)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = run(5, &["ip", "netns", "del", &self.0]);
    }
}

#[test]
fn a_download_goes_on_where_the_path_outside_is_narrower() -> Result<()> {
    let cluster = Cluster::start("e2epmt", |text| text)?;
    let far = Far::start(&cluster.lab)?;
    let url = format!("http://{}:81/long", ADDRESSES[0]);
    let file = cluster.downloaded("far");
    cluster.lab.exec("far", 60, &["curl", "-s", "-f", "-o", &file, &url])?.ok()?;
    ensure!(std::fs::read(&file)? == vec![7; LONG], "it is not whole");
    // The server that has served it was told how narrow the path is.
    let knows = |server: &&str| -> Result<bool> {
        let shown = cluster.lab.exec(server, 5, &["ip", "route", "get", FAR, "from", ADDRESSES[0]])?.ok()?;
        Ok(shown.contains(&format!("mtu {FAR_MTU}")))
    };
    let known = SERVERS.iter().map(knows).collect::<Result<Vec<_>>>()?;
    ensure!(known.iter().filter(|knows| **knows).count() == 1, "{known:?}");
    drop(far);
    cluster.lab.stop()
}

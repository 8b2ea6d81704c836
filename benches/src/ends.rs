//! Where the sockets of a benchmark are: an address, and perhaps a network namespace that it is in.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use rustix::thread::LinkNameSpaceType;
use rvi::host::udp::UdpSocket;

/// One end of a path.
#[derive(Clone, Debug)]
pub struct End {
    /// The address; its port is any.
    address: IpAddr,
    /// The network namespace that the address is in, by the name that `ip netns` knows; this process's if none.
    namespace: Option<String>,
}

/// Reads `127.0.0.1,10.0.0.2@NAME`: two ends for each of `count` paths. A single pair is for all of them.
pub fn pairs(text: &str, count: usize) -> anyhow::Result<Vec<[End; 2]>> {
    let ends: Vec<End> = text.split(',').map(End::parse).collect::<anyhow::Result<_>>()?;
    let pairs: Vec<[End; 2]> = ends.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
    let is_even = ends.len().is_multiple_of(2);
    anyhow::ensure!(is_even && [1, count].contains(&pairs.len()), "--ends takes two addresses for each leg");
    Ok(pairs.into_iter().cycle().take(count).collect())
}

impl End {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (address, namespace) = match text.split_once('@') {
            Some((address, namespace)) => (address, Some(namespace.to_owned())),
            None => (text, None),
        };
        let address = address.parse().with_context(|| format!("--ends: {address} is no IP address"))?;
        Ok(Self { address, namespace })
    }

    /// Opens a socket in the end's namespace, where it stays when this process has left.
    pub fn open(&self) -> anyhow::Result<UdpSocket> {
        let address = SocketAddr::new(self.address, 0);
        let Some(name) = &self.namespace else { return Ok(UdpSocket::bind(address)?) };
        let own = File::open("/proc/thread-self/ns/net")?;
        let path = Path::new("/run/netns").join(name);
        let theirs =
            File::open(&path).with_context(|| format!("opening the namespace {}", path.display()))?;
        enter(&theirs).with_context(|| format!("entering the namespace {name}"))?;
        let socket = UdpSocket::bind(address);
        enter(&own)?;
        Ok(socket?)
    }
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

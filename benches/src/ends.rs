//! Where the sockets of a benchmark are: an address or a device, and perhaps a network namespace that it is in.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use rustix::thread::LinkNameSpaceType;
use rvi::host::ether::{EtherDriver, EtherPlace, EtherSocket};
use rvi::host::packets::PacketSocket;
use rvi::host::udp::UdpSocket;
use vlan_core::EtherPort;

/// One end of a path.
#[derive(Clone, Debug)]
pub struct End {
    /// An address, whose port is any, or a device.
    place: String,
    /// The network namespace that the place is in, by the name that `ip netns` knows; this process's if none.
    namespace: Option<String>,
}

/// A kind of socket that a benchmark can open.
pub trait Open: PacketSocket + Sized {
    /// Opens it at an address or on a device.
    fn open(place: &str, port: u16) -> anyhow::Result<Self>;
}

impl Open for UdpSocket {
    fn open(place: &str, _: u16) -> anyhow::Result<Self> {
        let address: IpAddr = place.parse().with_context(|| format!("--ends: {place} is no IP address"))?;
        Ok(Self::bind(SocketAddr::new(address, 0))?)
    }
}

impl Open for EtherSocket {
    /// By a packet socket: the chunks of XDP sockets would not be there for a process that is forked.
    fn open(place: &str, port: u16) -> anyhow::Result<Self> {
        let (device, port) = (place.to_owned(), EtherPort(port.into()));
        Ok(Self::open(EtherPlace { device, port, driver: EtherDriver::AfPacket })?)
    }
}

/// Reads `127.0.0.1,10.0.0.2@NAME` or `DEVICE@NAME,DEVICE@NAME`: two ends for each of `count` paths. A single pair is for all of them.
pub fn pairs(text: &str, count: usize) -> anyhow::Result<Vec<[End; 2]>> {
    let ends: Vec<End> = text.split(',').map(End::parse).collect();
    let pairs: Vec<[End; 2]> = ends.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
    let is_even = ends.len().is_multiple_of(2);
    anyhow::ensure!(is_even && [1, count].contains(&pairs.len()), "--ends takes two addresses for each leg");
    Ok(pairs.into_iter().cycle().take(count).collect())
}

impl End {
    fn parse(text: &str) -> Self {
        let (place, namespace) = match text.split_once('@') {
            Some((address, namespace)) => (address, Some(namespace.to_owned())),
            None => (text, None),
        };
        Self { place: place.to_owned(), namespace }
    }

    /// Opens a socket in the end's namespace, where it stays when this process has left; `port` is its own.
    pub fn open<S: Open>(&self, port: u16) -> anyhow::Result<S> {
        let Some(name) = &self.namespace else { return S::open(&self.place, port) };
        let own = File::open("/proc/thread-self/ns/net")?;
        let path = Path::new("/run/netns").join(name);
        let theirs =
            File::open(&path).with_context(|| format!("opening the namespace {}", path.display()))?;
        enter(&theirs).with_context(|| format!("entering the namespace {name}"))?;
        let socket = S::open(&self.place, port);
        enter(&own)?;
        socket
    }
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

//! The raw limit of UDP on this machine: runs of equal datagrams from one core to the other, cut and joined by the
//! kernel, with nothing done to their octets.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use rustix::thread::LinkNameSpaceType;
use rvi::host::udp::{ReceivePool, UDP_PAYLOAD_LEN_MAX, UdpSocket};

use crate::process::{self, COUNT, Figure, Run, STOP};

/// Where the receiver says that it is there.
const READY: usize = 3;

/// One end of the path.
#[derive(Clone, Debug)]
pub struct End {
    /// The address; its port is any.
    pub address: IpAddr,
    /// The network namespace that the address is in, by the name that `ip netns` knows; this process's if none.
    pub namespace: Option<String>,
}

/// Reads `127.0.0.1,10.0.0.2@NAME`.
pub fn ends(text: &str) -> anyhow::Result<[End; 2]> {
    let ends: Vec<End> = text.split(',').map(end).collect::<anyhow::Result<_>>()?;
    <[End; 2]>::try_from(ends).map_err(|_| anyhow::anyhow!("--ends takes two addresses"))
}

fn end(text: &str) -> anyhow::Result<End> {
    let (address, namespace) = match text.split_once('@') {
        Some((address, namespace)) => (address, Some(namespace.to_owned())),
        None => (text, None),
    };
    let address = address.parse().with_context(|| format!("--ends: {address} is no IP address"))?;
    Ok(End { address, namespace })
}

/// Counts the datagrams of `run.size` octets that arrive from the first end at the second. The sender does not wait
/// for the receiver: what its buffer cannot hold is lost.
pub fn measure(run: &Run, ends: &[End; 2]) -> anyhow::Result<Figure> {
    let longest = UDP_PAYLOAD_LEN_MAX;
    anyhow::ensure!(run.size <= longest, "--size is that of a datagram here, {longest} at most");
    let [sender, receiver] = [open(&ends[0])?, open(&ends[1])?];
    let to = receiver.local_address();
    let octets = vec![0x5a; sender.segments_max(run.size) * run.size];
    let mut figure = process::pair(
        run,
        |meeting| {
            let mut pool = ReceivePool::new();
            meeting.store(READY, 1);
            while meeting.load(STOP) == 0 {
                if receiver.for_each_datagram(&mut pool, |_, _| {}).datagrams > 0 {
                    meeting.store(COUNT, receiver.counters().received_datagrams);
                }
            }
        },
        |meeting| {
            while meeting.load(READY) == 0 {
                std::hint::spin_loop();
            }
            let (frames, elapsed) = process::count(run, || {
                // What is not sent is not counted as received either.
                let _ = sender.send(to, &octets, run.size);
                meeting.load(COUNT)
            });
            Figure { frames, elapsed, lost: 0 }
        },
    )?;
    anyhow::ensure!(figure.frames > 0, "nothing arrived: {:?}", sender.counters());
    figure.lost = receiver.kernel_drops().into();
    Ok(figure)
}

/// Opens a socket in the end's namespace, where it stays when this process has left.
fn open(end: &End) -> anyhow::Result<UdpSocket> {
    let address = SocketAddr::new(end.address, 0);
    let Some(name) = &end.namespace else { return Ok(UdpSocket::bind(address)?) };
    let own = File::open("/proc/thread-self/ns/net")?;
    let path = Path::new("/run/netns").join(name);
    let theirs = File::open(&path).with_context(|| format!("opening the namespace {}", path.display()))?;
    enter(&theirs).with_context(|| format!("entering the namespace {name}"))?;
    let socket = UdpSocket::bind(address);
    enter(&own)?;
    Ok(socket?)
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

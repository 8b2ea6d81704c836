//! Datagrams that a stack sends one by one, and that cross the fabric together, arrive one by one, as they were.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Lab;
use e2e::pair::{PAIRS, RATE, expect_nothing_lost, flow, streams, wait_for_direct};
use e2e::traffic::socket_in;

/// Datagrams sent in a row: fewer than an interface's queue holds.
const BURST: u64 = 50;
const BURSTS: u64 = 200;

/// Octets of datagram `number`: runs of equal ones, of several lengths, each ended by a shorter one of an odd length.
fn len_of(number: u64) -> usize {
    let len = [64, 200, 1400, 9][(number / BURST) as usize % 4];
    if number % 7 == 6 { (len / 2).max(8) | 1 } else { len }
}

fn datagram(number: u64) -> Vec<u8> {
    let mut octets = number.to_le_bytes().to_vec();
    octets.resize(len_of(number), number as u8);
    octets
}

/// Sends bursts and compares what arrives, datagram by datagram. A socket that is connected counts the
/// identifications of its packets, another does not.
fn compare(from: &UdpSocket, to: &UdpSocket, is_connected: bool) -> Result<()> {
    let target: SocketAddr = to.local_addr()?;
    if is_connected {
        from.connect(target)?;
    }
    to.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut octets = vec![0; 2000];
    for burst in 0..BURSTS {
        let numbers = burst * BURST..(burst + 1) * BURST;
        for number in numbers.clone() {
            let octets = datagram(number);
            if is_connected {
                from.send(&octets)?
            } else {
                from.send_to(&octets, target)?
            };
        }
        for number in numbers {
            let (len, source) = to.recv_from(&mut octets)?;
            ensure!(octets[..len] == datagram(number), "{number} came as {:?}", &octets[..len]);
            ensure!(source == from.local_addr()?, "{number} came from {source}");
        }
    }
    Ok(())
}

fn sent_frames(lab: &Lab) -> Result<u64> {
    lab.counter(|name| name.contains(".tx.direct.frames"))
}

/// By both families and with both kinds of sockets; some datagrams must have gone together.
fn datagrams_are_what_they_were(lab: &Lab) -> Result<()> {
    let warm = streams(lab, RATE)?;
    flow(lab, &warm, 1000)?;
    wait_for_direct(lab)?;
    flow(lab, &warm, 1000)?;
    expect_nothing_lost(warm)?;
    for (from, source, to, target) in PAIRS {
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        for is_connected in [false, true] {
            let sockets = (socket_in(&lab.namespace(from), source)?, socket_in(&lab.namespace(to), target)?);
            let before = sent_frames(lab)?;
            compare(&sockets.0, &sockets.1, is_connected)?;
            let frames = sent_frames(lab)? - before;
            ensure!(frames < BURST * BURSTS * 9 / 10, "{frames} frames for {} datagrams", BURST * BURSTS);
        }
    }
    Ok(())
}

#[test]
fn datagrams_sent_together_arrive_as_they_were_over_udp_legs() -> Result<()> {
    let lab = Lab::start("two-hosts.toml", "e2esuper", &[])?;
    datagrams_are_what_they_were(&lab)?;
    lab.stop()
}

#[test]
fn datagrams_sent_together_arrive_as_they_were_over_shared_memory() -> Result<()> {
    let lab = Lab::start("two-lans.toml", "e2esupm", &[])?;
    datagrams_are_what_they_were(&lab)?;
    lab.stop()
}

//! The demo's traffic: numbered UDP datagrams between real IP stacks. Each node has a sending and a receiving
//! thread inside its network namespace, where it would be any tenant's program.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::ledger::{Flow, FlowIndex};
use crate::lab::namespace;

/// The port that every node sends from and receives on.
const PORT: u16 = 9_000;
/// Begins every datagram: flow u16, number u32, little-endian, follow.
const MAGIC: [u8; 4] = *b"weft";
/// Octets of the numbered part.
const HEAD_LEN: usize = 10;
/// Datagrams a second of one flow.
pub const FLOW_RATE: u64 = 500;
/// How often senders look at the clock.
const TICK: Duration = Duration::from_millis(2);
/// Most datagrams of a flow in one tick, after the sender was kept from running.
const CATCH_UP_MAX: u64 = 8;
/// How often a receiver looks whether it is over.
const RECEIVE_WAIT: Duration = Duration::from_millis(50);
/// Asked for as receive buffer; the system may give less.
const RECEIVE_BUFFER_LEN: usize = 4 << 20;
/// Asks a socket for its memory figures (asm-generic/socket.h).
const SO_MEMINFO: libc::c_int = 55;
/// Place of the drop count in the answer to `SO_MEMINFO` (`SK_MEMINFO_DROPS` in linux/sock_diag.h).
const MEMINFO_DROPS: usize = 8;

/// A node as traffic sees it.
#[derive(Debug)]
pub struct Tenant {
    /// Its network namespace.
    pub namespace: OwnedFd,
    /// Its IPv4 and its IPv6 address.
    pub addresses: [IpAddr; 2],
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    flows: Vec<Mutex<Flow>>,
    addresses: Vec<[IpAddr; 2]>,
    /// Datagrams that a receiving socket had no room for: this machine was too slow, not the fabric.
    socket_drops: AtomicU64,
    sending: AtomicBool,
    receiving: AtomicBool,
    start: Instant,
}

/// Running traffic between all pairs of tenants, both directions, both IP versions.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Opens the sockets and starts to send.
    ///
    /// # Errors
    ///
    /// When a namespace cannot be entered or an address is not there.
    pub fn start(tenants: Vec<Tenant>, start: Instant) -> io::Result<Self> {
        let addresses: Vec<_> = tenants.iter().map(|tenant| tenant.addresses).collect();
        let shared = Arc::new(Shared {
            flows: flows_between(tenants.len()).into_iter().map(Mutex::new).collect(),
            addresses,
            socket_drops: AtomicU64::new(0),
            sending: AtomicBool::new(true),
            receiving: AtomicBool::new(true),
            start,
        });
        let mut sockets = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            sockets.push(open_sockets(tenant)?);
        }
        let mut traffic = Self { shared, senders: Vec::new(), receivers: Vec::new() };
        for (place, (sending, receiving)) in sockets.into_iter().enumerate() {
            let shared = Arc::clone(&traffic.shared);
            traffic.receivers.push(std::thread::spawn(move || receive_all(&shared, place, &receiving)));
            let shared = Arc::clone(&traffic.shared);
            traffic.senders.push(std::thread::spawn(move || send_all(&shared, place, &sending)));
        }
        Ok(traffic)
    }

    /// The flows, in a fixed order.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.shared.flows.iter().map(|flow| flow.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Microseconds of the demo's clock.
    #[must_use]
    pub fn now_us(&self) -> u32 {
        self.shared.now_us()
    }

    /// Datagrams that receiving sockets had no room for.
    #[must_use]
    pub fn socket_drops(&self) -> u64 {
        // ORDERING: a count by itself; nothing else is read by it.
        self.shared.socket_drops.load(Ordering::Relaxed)
    }

    /// Ends sending; receiving goes on.
    pub fn stop_sending(&mut self) {
        // ORDERING: a flag by itself; joining the threads orders everything else.
        self.shared.sending.store(false, Ordering::Relaxed);
        self.senders.drain(..).for_each(|thread| drop(thread.join()));
    }

    /// Ends receiving.
    pub fn stop_receiving(&mut self) {
        // ORDERING: a flag by itself; joining the threads orders everything else.
        self.shared.receiving.store(false, Ordering::Relaxed);
        self.receivers.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop_sending();
        self.stop_receiving();
    }
}

impl Shared {
    fn now_us(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

/// Every ordered pair of `nodes` nodes, over IPv4 and IPv6.
fn flows_between(nodes: usize) -> Vec<Flow> {
    let pairs =
        (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))).filter(|(from, to)| from != to);
    let flow = |(from, to), is_ipv6| Flow { from, to, is_ipv6, ..Flow::default() };
    pairs.flat_map(|pair| [flow(pair, false), flow(pair, true)]).collect()
}

type Sockets = [UdpSocket; 2];

/// Opens a tenant's sockets in a thread inside its namespace; they stay there wherever they are used.
fn open_sockets(tenant: &Tenant) -> io::Result<(Sockets, Sockets)> {
    let open = || {
        namespace::enter(tenant.namespace.as_fd())?;
        let sockets = [open_socket(tenant.addresses[0])?, open_socket(tenant.addresses[1])?];
        let clones = [sockets[0].try_clone()?, sockets[1].try_clone()?];
        Ok((clones, sockets))
    };
    std::thread::scope(|scope| {
        scope.spawn(open).join().unwrap_or_else(|_| Err(io::Error::other("a traffic thread panicked")))
    })
}

fn open_socket(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(address, PORT))?;
    socket.set_nonblocking(true)?;
    // Refused only if the system's limit is odd; the drops are counted anyway.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_LEN);
    Ok(socket)
}

/// The sending thread of the node at `place`.
fn send_all(shared: &Shared, place: usize, sockets: &Sockets) {
    let mine: Vec<FlowIndex> = flows_where(shared, |flow| flow.from == place);
    let begin = Instant::now();
    let mut due_before = 0;
    // ORDERING: a flag by itself.
    while shared.sending.load(Ordering::Relaxed) {
        let elapsed = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = elapsed * FLOW_RATE / 1_000_000;
        for _ in 0..(due - due_before).min(CATCH_UP_MAX) {
            mine.iter().for_each(|&index| send_one(shared, index, sockets));
        }
        due_before = due;
        std::thread::sleep(TICK);
    }
}

fn send_one(shared: &Shared, index: FlowIndex, sockets: &Sockets) {
    let mut flow = shared.flows[index].lock().unwrap_or_else(PoisonError::into_inner);
    let number = u32::try_from(flow.sent.len()).unwrap_or(u32::MAX);
    let version = usize::from(flow.is_ipv6);
    let to = SocketAddr::new(shared.addresses[flow.to][version], PORT);
    let mut datagram = [0; 9_000];
    datagram[..4].copy_from_slice(&MAGIC);
    datagram[4..6].copy_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_le_bytes());
    datagram[6..10].copy_from_slice(&number.to_le_bytes());
    let sent_us = shared.now_us();
    // Refused while the node is dead: its interface has gone with it. Such a datagram has not been sent.
    if sockets[version].send_to(&datagram[..len_of(number)], to).is_ok() {
        flow.sent.push(sent_us);
    }
}

/// Sizes as an application mixes them: mostly small, some that fill a common frame, a few jumbo ones.
fn len_of(number: u32) -> usize {
    match number {
        n if n % 64 == 63 => 9_000,
        n if n % 8 == 7 => 1_400,
        _ => 64,
    }
}

fn flows_where(shared: &Shared, is_wanted: impl Fn(&Flow) -> bool) -> Vec<FlowIndex> {
    let wanted =
        |index: &FlowIndex| is_wanted(&shared.flows[*index].lock().unwrap_or_else(PoisonError::into_inner));
    (0..shared.flows.len()).filter(wanted).collect()
}

/// The receiving thread of the node at `place`.
fn receive_all(shared: &Shared, place: usize, sockets: &Sockets) {
    let wait = Timespec { tv_sec: 0, tv_nsec: RECEIVE_WAIT.subsec_nanos().into() };
    let mut datagram = [0; 10_000];
    // ORDERING: a flag by itself.
    while shared.receiving.load(Ordering::Relaxed) {
        let mut descriptors = sockets.each_ref().map(|socket| PollFd::new(socket, PollFlags::IN));
        let _ = rustix::event::poll(&mut descriptors, Some(&wait));
        for socket in sockets {
            while let Ok(len) = socket.recv(&mut datagram) {
                book_arrival(shared, place, &datagram[..len]);
            }
        }
    }
    let drops: u64 = sockets.iter().map(drops_of).sum();
    // ORDERING: a count by itself, read after this thread has been joined.
    shared.socket_drops.fetch_add(drops, Ordering::Relaxed);
}

fn book_arrival(shared: &Shared, place: usize, datagram: &[u8]) {
    let Some((magic, rest)) = datagram.split_first_chunk::<4>() else { return };
    let Some((index, rest)) = rest.split_first_chunk::<2>() else { return };
    let Some((number, _)) = rest.split_first_chunk::<4>() else { return };
    let Some(flow) = shared.flows.get(usize::from(u16::from_le_bytes(*index))) else { return };
    let number = u32::from_le_bytes(*number);
    let mut flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
    debug_assert!(datagram.len() >= HEAD_LEN);
    if *magic == MAGIC && flow.to == place {
        flow.arrived.push(number);
    }
}

/// Datagrams that arrived at the socket and found its buffer full.
fn drops_of(socket: &UdpSocket) -> u64 {
    let mut info = [0_u32; 16];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to `info`, which has that many, and then how many to `len`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, info.as_mut_ptr().cast(), &mut len)
    };
    if result == 0 { info[MEMINFO_DROPS].into() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ordered_pairs_have_a_flow_for_each_ip_version() {
        let flows = flows_between(3);
        assert_eq!(flows.len(), 12);
        assert!(flows.iter().all(|flow| flow.from != flow.to));
        assert_eq!(flows.iter().filter(|flow| flow.is_ipv6).count(), 6);
    }

    #[test]
    fn numbered_datagrams_arrive_in_the_books_over_both_ip_versions() {
        let loopback: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let sockets =
            [UdpSocket::bind((loopback[0], 0)).unwrap(), UdpSocket::bind((loopback[0], 0)).unwrap()];
        let shared = Shared {
            flows: flows_between(2).into_iter().map(Mutex::new).collect(),
            addresses: vec![loopback; 2],
            socket_drops: AtomicU64::new(0),
            sending: AtomicBool::new(true),
            receiving: AtomicBool::new(true),
            start: Instant::now(),
        };
        send_one(&shared, 0, &sockets);
        assert_eq!(shared.flows[0].lock().unwrap().sent.len(), 1);
        let mut datagram = [0; HEAD_LEN];
        datagram[..4].copy_from_slice(&MAGIC);
        book_arrival(&shared, 1, &datagram);
        book_arrival(&shared, 0, &datagram);
        book_arrival(&shared, 1, &datagram[..5]);
        assert_eq!(shared.flows[0].lock().unwrap().arrived, [0]);
    }
}

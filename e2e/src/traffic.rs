//! Numbered datagrams between the IP stacks of two namespaces: every loss, copy and swap is seen.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What a receiver counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Received more than once, or older than one received before.
    pub reordered: u64,
    /// The longest time between two datagrams.
    pub longest_gap: Duration,
    /// The first datagrams that were not the next one: the number that was due, and the one that came.
    pub odd: Vec<(u64, u64)>,
}

/// How many odd datagrams are listed.
const ODD_MAX: usize = 32;

impl Tally {
    /// Datagrams that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// A stream of numbered datagrams that is under way.
pub struct Stream {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Tally>>,
}

/// Datagrams sent in a row at most before the sender looks whether it is to stop.
const BURST: u64 = 64;

/// Opens a UDP socket inside a named namespace: the thread that enters it ends at once, the socket stays.
///
/// # Errors
/// When the namespace or the address is not there.
pub fn socket_in(namespace: &str, address: IpAddr) -> Result<UdpSocket> {
    socket_at(namespace, SocketAddr::new(address, 0))
}

/// The same at a port.
///
/// # Errors
/// As [`socket_in`].
pub fn socket_at(namespace: &str, address: SocketAddr) -> Result<UdpSocket> {
    let path = format!("/run/netns/{namespace}");
    let open = move || -> Result<UdpSocket> {
        let namespace = File::open(&path).with_context(|| path.clone())?;
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&namespace),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )?;
        Ok(UdpSocket::bind(address)?)
    };
    std::thread::spawn(open).join().map_err(|_| anyhow::anyhow!("the opening thread panicked"))?
}

impl Stream {
    /// Starts sending from one namespace to the other at `rate` datagrams a second with `size` octets each; with
    /// `u64::MAX` as fast as the stack takes them.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(from: (&str, IpAddr), to: (&str, IpAddr), rate: u64, size: usize) -> Result<Self> {
        Self::start_growing(from, to, rate, size..size + 1)
    }

    /// The same with datagrams each an octet longer than the one before, over and over through `sizes`: no agent joins those
    /// to one super-frame, which would count once where it is dropped.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start_growing(
        from: (&str, IpAddr),
        to: (&str, IpAddr),
        rate: u64,
        sizes: Range<usize>,
    ) -> Result<Self> {
        let (sender, receiver) = (socket_in(from.0, from.1)?, socket_in(to.0, to.1)?);
        // A receiver that is not scheduled for some milliseconds is not the fabric's loss.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 32 << 20)?;
        receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
        let target = receiver.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (received, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop_sender, seen) = (Arc::clone(&stop), Arc::clone(&received));
        let done = Arc::new(AtomicU64::new(u64::MAX));
        let (total, so_far) = (Arc::clone(&done), Arc::clone(&sent));
        let progress = move |sent| {
            // ORDERING: a plain count.
            so_far.store(sent, Ordering::Relaxed);
            // ORDERING: as in `finish`.
            !stop_sender.load(Ordering::Relaxed)
        };
        Ok(Self {
            stop,
            received,
            sent,
            sender: std::thread::spawn(move || send(&sender, target, rate, sizes, progress, &done)),
            receiver: std::thread::spawn(move || receive(&receiver, &seen, &total)),
        })
    }

    /// Datagrams received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        // ORDERING: a plain count; nothing is published with it.
        self.received.load(Ordering::Relaxed)
    }

    /// Datagrams sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        // ORDERING: a plain count; nothing is published with it.
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for what is on its way and says what was counted.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn finish(self) -> Result<Tally> {
        // ORDERING: a flag that is polled; nothing is published with it.
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let tally = self.receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        Ok(Tally { sent, ..tally })
    }
}

fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    rate: u64,
    sizes: Range<usize>,
    goes_on: impl Fn(u64) -> bool,
    done: &AtomicU64,
) -> Result<u64> {
    let (start, mut sent, mut datagram) = (Instant::now(), 0_u64, vec![0x5a; sizes.end.max(8)]);
    while goes_on(sent) {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        let burst_end = due.min(sent + BURST);
        let mut is_behind = false;
        while sent < burst_end {
            datagram[..8].copy_from_slice(&sent.to_le_bytes());
            let size = sizes.start + sent as usize % sizes.len();
            // Without its interface, while its node is dead, the stack refuses: nothing was sent.
            if socket.send_to(&datagram[..size.max(8)], target).is_err() {
                is_behind = false;
                break;
            }
            sent += 1;
            is_behind = sent < due;
        }
        if !is_behind {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
    // ORDERING: a count that is polled.
    done.store(sent, Ordering::Relaxed);
    Ok(sent)
}

fn receive(socket: &UdpSocket, seen: &AtomicU64, sent: &AtomicU64) -> Result<Tally> {
    let (mut tally, mut next, mut last) = (Tally::default(), 0_u64, None::<Instant>);
    let mut buffer = vec![0; 70_000];
    let mut quiet = 0;
    // Ends when everything sent has come, or nothing more has for a second after the sender ended.
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) if len >= 8 => {
                quiet = 0;
                let number = u64::from_le_bytes(buffer[..8].try_into()?);
                tally.received += 1;
                tally.reordered += u64::from(number < next);
                if number != next && tally.odd.len() < ODD_MAX {
                    tally.odd.push((next, number));
                }
                next = next.max(number + 1);
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    tally.longest_gap = tally.longest_gap.max(now - last);
                }
                // ORDERING: a plain count.
                seen.store(tally.received, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                quiet += 1;
            }
            Err(error) => return Err(error.into()),
        }
        // ORDERING: a count that is polled.
        let sent = sent.load(Ordering::Relaxed);
        if tally.received >= sent || sent != u64::MAX && quiet >= 5 {
            return Ok(tally);
        }
    }
}

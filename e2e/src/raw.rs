//! Frames as a tenant who is root can send them: whole, from any address, out of an interface of its namespace.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, sockopt,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// ETH_P_ALL in network order, as `socket(2)` takes it.
const EVERY_PROTOCOL: u16 = 3_u16.to_be();

/// A packet socket on one interface.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens one on `interface` of a named namespace: the thread that enters it ends at once, the socket stays.
    ///
    /// # Errors
    /// When the namespace or the interface is not there, or this is not root.
    pub fn open(namespace: &str, interface: &str) -> Result<Self> {
        let (path, interface) = (format!("/run/netns/{namespace}"), interface.to_owned());
        let open = move || -> Result<Self> {
            let namespace = File::open(&path).with_context(|| path.clone())?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let protocol = std::num::NonZeroU32::new(EVERY_PROTOCOL.into()).map(Protocol::from_raw);
            let socket = rustix::net::socket_with(
                AddressFamily::PACKET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                protocol,
            )?;
            let index = netdevice::name_to_index(&socket, &interface)?;
            bind(&socket, i32::try_from(index)?)?;
            Ok(Self(socket))
        };
        std::thread::spawn(open).join().map_err(|_| anyhow::anyhow!("the opening thread panicked"))?
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the interface does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        ensure!(rustix::net::send(&self.0, frame, SendFlags::empty())? == frame.len());
        Ok(())
    }

    /// Reads frames until one is as wanted.
    ///
    /// # Errors
    /// When none has come within 10 s.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&[u8]) -> bool) -> Result<()> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))?;
        let until = Instant::now() + Duration::from_secs(10);
        let mut frame = vec![0; 65_536];
        while Instant::now() < until {
            match rustix::net::recv(&self.0, &mut frame[..], RecvFlags::empty()) {
                Ok((len, _)) if is_it(&frame[..len]) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("waited in vain for {what}")
    }
}

fn bind(socket: &OwnedFd, index: i32) -> Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: EVERY_PROTOCOL,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_ll of this length, which the kernel only reads.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    ensure!(bound == 0, std::io::Error::last_os_error());
    Ok(())
}

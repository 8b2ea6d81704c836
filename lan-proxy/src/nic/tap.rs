//! A TAP device: outside is what this host does with the device, such as a bridge that has it as a port, or its own stack. Sums and segments
//! are left to the kernel, both ways.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rvi::SharedOctets;
use rvi::host::packet_socket::{self, OpenError};
use rvi::host::tap::{Tap, TapError, Written};
use vlan_core::wire::Vnet;

use crate::nic::looked::Looked;
use crate::nic::{FrameBuffer, NicError, Sent};

/// How long the kernel may take to give a device that stayed the carrier which it has when somebody takes it.
const CARRIER_MAX: Duration = Duration::from_millis(200);
/// Between two looks whether it has.
const CARRIER_PAUSE: Duration = Duration::from_millis(1);

/// A TAP device that belongs to uplinks.
#[derive(Debug)]
pub struct TapDevice {
    /// None while another device has its name.
    tap: Option<Tap>,
    /// Readable when the TAP is; it stays the same when that is another one.
    readable: OwnedFd,
    /// Asks the kernel about the device.
    questions: OwnedFd,
    looked: Looked,
}

impl TapDevice {
    /// Takes the TAP device of this name in this thread's network namespace, or makes it, until this is dropped; sets it up, and waits for
    /// its carrier.
    ///
    /// # Errors
    /// When there is another device of this name, when somebody has it, when its MTU is too small, or when the process may not have
    /// such devices.
    //= spec/uplink.md#tap-devices
    //# An uplink by a TAP device MUST take the device that is there, or make one that goes with the process, and set it up.
    pub fn open(name: &str) -> Result<Self, NicError> {
        let questions =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .map_err(OpenError::Socket)?;
        let readable = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(OpenError::Socket)?;
        let tap = attach(&readable, &questions, name)?;
        let found = found(&questions, name)?;
        let offloads = tap.has_tcp_segmentation() && tap.has_udp_segmentation();
        let looked = Looked::new(name, &found, offloads)?;
        Ok(Self { tap: Some(tap), readable, questions, looked })
    }

    /// As [`super::Nic::look`].
    pub(super) fn look(&mut self) -> bool {
        let Self { tap, readable, questions, looked } = self;
        let index = packet_socket::device(questions, &looked.name).ok().flatten().map(|found| found.index);
        if index != Some(looked.index) {
            // Of a device that has gone; another one may have its name.
            *tap = None;
        }
        if tap.is_none() {
            *tap = attach(readable, questions, &looked.name).ok();
        }
        let attached = tap.is_some().then_some(looked.index);
        looked.look(questions, attached, |_| tap.is_some())
    }

    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }

    /// As [`super::Nic::send`].
    pub(super) fn send(&self, vnet: &Vnet, frame: &[u8]) -> Sent {
        let Some(tap) = &self.tap else { return Sent::Refused(Errno::NETDOWN) };
        match tap.write(vnet, frame, SharedOctets::empty()) {
            Written::Taken => Sent::Taken,
            Written::Full => Sent::Full,
            Written::Refused(errno) => Sent::Refused(errno),
        }
    }

    /// As [`super::Nic::receive`].
    pub(super) fn receive(&mut self, buffer: &mut FrameBuffer) -> Result<Option<(Vnet, usize)>, Errno> {
        let Some(tap) = &self.tap else { return Ok(None) };
        let received = tap.receive(buffer.room_at(0));
        if received.is_err() {
            // It has gone, and would be readable for ever.
            self.tap = None;
        }
        received
    }
}

impl AsFd for TapDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// What the device is like, once it has the carrier that its being taken gives it.
fn found(questions: &OwnedFd, name: &str) -> Result<packet_socket::Device, OpenError> {
    let began = Instant::now();
    loop {
        let found = packet_socket::device(questions, name).map_err(OpenError::Socket)?;
        let found = found.ok_or_else(|| OpenError::NotEthernet(name.into()))?;
        if found.is_running || began.elapsed() >= CARRIER_MAX {
            return Ok(found);
        }
        thread::sleep(CARRIER_PAUSE);
    }
}

fn attach(readable: &OwnedFd, questions: &OwnedFd, name: &str) -> Result<Tap, NicError> {
    let tap = Tap::create(name).map_err(NicError::of_tap)?;
    packet_socket::set_up(questions, name)
        .map_err(|errno| NicError::of_tap(TapError::Create { name: name.into(), source: errno.into() }))?;
    epoll::add(readable, &tap, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .map_err(OpenError::Socket)?;
    Ok(tap)
}

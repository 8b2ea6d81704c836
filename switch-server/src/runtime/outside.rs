//! The devices of uplinks: frames from the kernel to the machine, and back.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use lan_proxy::Mode;
use lan_proxy::nic::{self, FrameBuffer, Sent};
use rustix::io::Errno;
use tracing::{info, warn};
use vlan_core::Instant;
use vlan_core::super_frame::Intake;

use super::devices::Modes;
use super::legs::{Legs, Source};
use crate::control_node::{ControlNode, DeviceNumber, DeviceState};

/// Frames taken from one device before the nodes have their turn.
const FRAMES_PER_TURN: usize = 64;
/// How often a device is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often one that is being opened again.
const OPENING_LOOK: Duration = Duration::from_millis(20);
/// How soon a device that was full is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// A device and what came by it.
#[derive(Debug)]
struct Nic {
    number: DeviceNumber,
    device: nic::Nic,
    intake: Intake<FrameBuffer>,
    /// What its uplinks want to hear.
    modes: Vec<Mode>,
    /// What the machine was told of [`nic::Nic::too_long`].
    too_long: u64,
}

/// The devices of a control node that lead outside.
#[derive(Debug, Default)]
pub struct Outside {
    nics: Vec<Nic>,
    next_look: Option<Instant>,
    /// A device did not take everything.
    is_full: bool,
}

impl Outside {
    /// Closes devices. What the machine has for them is dropped when it hears of it.
    pub fn close(&mut self, numbers: &[DeviceNumber]) {
        self.nics.retain(|nic| !numbers.contains(&nic.number));
    }

    /// Takes new devices, and tells the machine, before it knows their uplinks, what they are like. [`Self::set_modes`] is to follow.
    ///
    /// # Errors
    ///
    /// What the system said first where some could not be watched; those are closed, as if they had no carrier.
    //= spec/control-node.md#state-of-the-devices-of-an-applied-file
    //# The state of a device that comes with a file MUST be known before the file is in use, and members MUST be told of the carrier only
    //# where that is another one then.
    pub fn open(
        &mut self,
        at: Instant,
        opened: Vec<(DeviceNumber, nic::Nic)>,
        legs: &Legs,
        machine: &mut ControlNode,
    ) -> io::Result<()> {
        let mut watched = Ok(());
        for (number, device) in opened {
            match legs.watch(device.as_fd(), Source::Device(usize::from(number.0))) {
                Ok(()) => {
                    let mut intake = Intake::from_outside();
                    intake.handle_readable();
                    let nic = Nic { number, device, intake, modes: Vec::new(), too_long: 0 };
                    machine.handle_device(at, number, nic.state());
                    self.nics.push(nic);
                }
                Err(error) => watched = watched.and(Err(error)),
            }
        }
        watched
    }

    /// Has devices hear what the uplinks that go by them now are to hear.
    pub fn set_modes(&mut self, at: Instant, modes: Modes, machine: &mut ControlNode) {
        for (number, modes) in modes {
            if let Some(nic) = self.nics.iter_mut().find(|nic| nic.number == number) {
                nic.modes = modes;
                nic.hear(machine);
                machine.handle_device(at, number, nic.state());
            }
        }
        self.next_look = (!self.nics.is_empty()).then(|| at + LOOK_INTERVAL);
    }

    /// The kernel says that a device has something.
    pub fn handle_ready(&mut self, number: usize) {
        if let Some(nic) = self.nics.iter_mut().find(|nic| usize::from(nic.number.0) == number) {
            nic.intake.handle_readable();
        }
    }

    /// Takes what has come from outside, a bounded number of frames of each device; says how many.
    pub fn receive(&mut self, at: Instant, machine: &mut ControlNode) -> usize {
        let mut received = 0;
        for nic in &mut self.nics {
            match nic.receive(at, machine) {
                (frames, Ok(())) => received += frames,
                (frames, Err(errno)) => {
                    received += frames;
                    if errno != Errno::NETDOWN {
                        warn!(device = nic.device.name(), %errno, "cannot receive from outside");
                    }
                    self.next_look = Some(at);
                }
            }
        }
        received
    }

    /// Gives the devices what goes outside. False when one has no room now.
    pub fn send(&mut self, machine: &mut ControlNode) -> bool {
        self.is_full = false;
        for nic in &mut self.nics {
            nic.hear(machine);
            while let Some((vnet, frame)) = machine.poll_outside(nic.number) {
                match nic.device.send(&vnet, frame) {
                    Sent::Full => {
                        self.is_full = true;
                        break;
                    }
                    sent => machine.outside_taken(nic.number, sent == Sent::Taken),
                }
            }
            self.is_full |= !nic.device.flush();
        }
        !self.is_full
    }

    /// When [`Self::handle_timeout`] is wanted next, or a device is to be tried again.
    pub fn poll_timeout(&self, at: Instant) -> Option<Instant> {
        let full = self.is_full.then(|| at + FULL_PAUSE);
        self.next_look.into_iter().chain(full).min()
    }

    /// Looks at the devices when it is time.
    pub fn handle_timeout(&mut self, at: Instant, machine: &mut ControlNode) {
        if self.next_look.is_none_or(|due| due > at) {
            return;
        }
        for nic in &mut self.nics {
            let too_long = nic.device.too_long();
            machine.handle_too_long(nic.number, too_long - std::mem::replace(&mut nic.too_long, too_long));
            if nic.device.look(at) {
                let state = nic.state();
                info!(
                    device = nic.device.name(),
                    carrier = state.has_carrier,
                    mtu = state.device.mtu,
                    "an uplink's device has changed"
                );
                machine.handle_device(at, nic.number, state);
            }
        }
        let is_opening = self.nics.iter().any(|nic| nic.device.is_opening());
        self.next_look = Some(at + if is_opening { OPENING_LOOK } else { LOOK_INTERVAL });
    }
}

impl Nic {
    /// Gives the machine what the device has, as far as this turn goes, and says how many frames that was on the wire.
    //= spec/super-frames.md#from-outside
    //# A control node MUST join datagrams from outside as a node joins those of its stack, before an uplink judges them.
    fn receive(&mut self, at: Instant, machine: &mut ControlNode) -> (usize, Result<(), Errno>) {
        let Self { number, device, intake, .. } = self;
        let mut received = 0;
        while received < FRAMES_PER_TURN {
            let filled = intake.fill(|buffer| device.receive(buffer), FRAMES_PER_TURN - received);
            while let Some((vnet, frame)) = intake.frame_mut() {
                machine.handle_outside(at, *number, &vnet, frame);
                received += intake.take();
            }
            if filled.is_err() || !intake.is_readable() {
                return (received, filled);
            }
        }
        (received, Ok(()))
    }

    /// Has the device hear what is wanted now. What it refuses is tried again in the next turn; one that has gone is looked for soon.
    fn hear(&mut self, machine: &ControlNode) {
        let _ = self.device.set_modes(&self.modes);
        let _ = self.device.set_promiscuous(machine.wants_promiscuous(self.number));
    }

    fn state(&self) -> DeviceState {
        DeviceState { device: self.device.device(), has_carrier: self.device.has_carrier() }
    }
}

#[cfg(test)]
mod tests;

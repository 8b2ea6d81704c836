//! The uplink of one LAN: what it knows, and what it has counted.

mod inward;
mod outward;

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use vlan_core::counters::{DropCounters, FrameCount};
use vlan_core::security::learned::Learned;
use vlan_core::security::rate::Meters;
use vlan_core::security::{Limits, Rate};
use vlan_core::server::MemberSlot;
use vlan_core::{Instant, MacAddress};

use crate::edge::{Device, Edge, MTU_MIN};
use crate::sources::Sources;
use crate::tag::Vid;
use crate::too_big::Errors;

pub use inward::Inward;
pub use outward::Outward;

/// Stations outside that are remembered.
const STATIONS_MAX: u16 = 4096;
/// ARP and ND messages that come in from outside in a second.
const RESOLUTION_PER_SECOND_MAX: u64 = 1000;
/// The place of what is outside in the table of stations, where members have theirs elsewhere.
const OUTSIDE: u16 = 0;

/// What outside is to see of a LAN (S113).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One MAC for all of it; inward by IP address.
    Filtered {
        /// That MAC.
        system: MacAddress,
    },
    /// The virtual MACs; inward by MAC.
    Unfiltered,
}

impl Mode {
    /// The system MAC, in filtered mode.
    #[must_use]
    pub const fn system(self) -> Option<MacAddress> {
        match self {
            Self::Filtered { system } => Some(system),
            Self::Unfiltered => None,
        }
    }
}

/// How an uplink is set up.
#[derive(Clone, Copy, Debug)]
pub struct UplinkConfig {
    /// What outside is to see.
    pub mode: Mode,
    /// The tag of its frames outside.
    pub vid: Option<Vid>,
    /// The device that they go by.
    pub device: Device,
    /// The MTU inside.
    pub lan_mtu: u16,
    /// What may come from outside, beside the bound for ARP and ND.
    pub limits: Limits,
    /// For the hashes of tables, so that nobody can choose addresses that collide.
    pub seed: u64,
}

/// Why an uplink cannot be as it was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The device takes less than every link of IPv6.
    MtuTooSmall {
        /// Its MTU.
        mtu: u16,
    },
    /// No station can have the system MAC.
    SystemMac {
        /// That MAC.
        mac: MacAddress,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MtuTooSmall { mtu } => {
                write!(f, "the device has an MTU of {mtu}, and an uplink needs {MTU_MIN} at least")
            }
            Self::SystemMac { mac } => write!(f, "{mac} is no MAC that a station can have"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// A member of the LAN, and the MAC that frames to it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The member.
    pub slot: MemberSlot,
    /// The MAC of its interface, or of a station behind it.
    pub mac: MacAddress,
}

/// What the proxy asks about the inside. The control node answers from its LAN server and ARP server.
pub trait Inside {
    /// The member of this LAN whose interface has `mac`, or has a station with it behind itself.
    fn owner_of(&self, mac: MacAddress) -> Option<MemberSlot>;
    /// The holder of an IP address on this LAN.
    fn holder_of(&self, address: IpAddr) -> Option<Holder>;
    /// True for every MAC of the platform: of interfaces and stations of any LAN, and system MACs.
    fn is_own(&self, mac: MacAddress) -> bool;
}

/// What an uplink has carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkCounters {
    /// Frames that came from inside for outside.
    pub outward: FrameCount,
    /// What became of them: frames for the device.
    pub sent: FrameCount,
    /// Frames that came from outside.
    pub inward: FrameCount,
    /// Frames of these that went inside.
    pub taken: FrameCount,
    /// Errors for what was too long, given back to senders.
    pub errors: u64,
    /// Frames of both ways that were dropped.
    pub drops: DropCounters,
}

/// The uplink of one LAN.
///
/// Frames are untagged on both sides of its calls but for what it gives the device: [`crate::Trunk`] takes the tag off a frame from outside.
#[derive(Clone, Debug)]
pub struct LanProxy {
    mode: Mode,
    lan_mtu: u16,
    edge: Edge,
    default_router: Option<Holder>,
    stations: Learned,
    sources: Sources,
    limits: Option<Meters>,
    resolution: Option<Meters>,
    errors: Errors,
    /// The error that was made last.
    error: Vec<u8>,
    last_loop: Option<Instant>,
    counters: UplinkCounters,
}

impl LanProxy {
    /// An uplink that has carried nothing.
    ///
    /// # Errors
    /// When `config` contradicts itself.
    pub fn new(config: &UplinkConfig) -> Result<Self, ConfigError> {
        check_device(config.device)?;
        check_mode(config.mode)?;
        let mut stations = Learned::new(config.seed);
        stations.set_room(OUTSIDE, STATIONS_MAX);
        let resolution = Rate { frames: Some(RESOLUTION_PER_SECOND_MAX), bits: None };
        Ok(Self {
            mode: config.mode,
            lan_mtu: config.lan_mtu,
            edge: Edge::new(config.device, config.vid),
            default_router: None,
            stations,
            sources: Sources::new(config.seed),
            limits: Meters::new(&config.limits),
            resolution: Meters::new(&Limits { total: resolution, ..Limits::default() }),
            errors: Errors::new(config.seed),
            error: Vec::new(),
            last_loop: None,
            counters: UplinkCounters::default(),
        })
    }

    /// The device is another one now, or has another MTU.
    ///
    /// # Errors
    /// When it takes less than every link of IPv6; then nothing changes.
    //= spec/uplink.md#devices-that-change
    //# A look at a device MUST find its MTU, whether it has a carrier, and another device that has taken its place under its name,
    //# which the uplink then uses; frames MUST be judged by that MTU from then on.
    pub fn set_device(&mut self, device: Device) -> Result<(), ConfigError> {
        check_device(device)?;
        self.edge.set_device(device);
        Ok(())
    }

    /// Outside is another network, or is to see something else of the LAN: `mode` and `vid` hold from now on. Who was heard outside is
    /// forgotten; what was counted stays, and so does what was sent just now, to know what comes back of it.
    ///
    /// # Errors
    /// When no station can have the system MAC; then nothing changes.
    pub fn change(&mut self, mode: Mode, vid: Option<Vid>) -> Result<(), ConfigError> {
        check_mode(mode)?;
        self.mode = mode;
        self.edge.set_vid(vid);
        self.stations.forget(OUTSIDE);
        Ok(())
    }

    /// Frames from outside are judged by this MTU of the LAN, in octets, from now on.
    pub fn set_lan_mtu(&mut self, lan_mtu: u16) {
        self.lan_mtu = lan_mtu;
    }

    /// Says who gets what no member is found for, in filtered mode.
    pub fn set_default_router(&mut self, router: Option<Holder>) {
        self.default_router = router;
    }

    /// True for a station that was heard outside within 300 s.
    #[must_use]
    pub fn is_outside(&self, mac: MacAddress) -> bool {
        self.stations.lookup(mac).is_some()
    }

    /// The stations outside that are remembered.
    pub fn stations(&self) -> impl Iterator<Item = MacAddress> + '_ {
        self.stations.iter().map(|(mac, _)| mac)
    }

    /// When a frame of the platform's own last came back; see [`vlan_core::DropReason::UplinkLoop`].
    #[must_use]
    pub fn last_loop(&self) -> Option<Instant> {
        self.last_loop
    }

    /// What it has carried.
    #[must_use]
    pub fn counters(&self) -> &UplinkCounters {
        &self.counters
    }

    /// When [`Self::handle_timeout`] is wanted next: stations are forgotten.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stations.poll_timeout()
    }

    /// Forgets what is old.
    //= spec/uplink.md#outside-stations
    //# The proxy MUST remember the source of a frame from outside as a station outside, and forget it when it has been
    //# silent for 300 s.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.stations.forget_silent(now);
    }
}

fn check_device(device: Device) -> Result<(), ConfigError> {
    if device.mtu < MTU_MIN { Err(ConfigError::MtuTooSmall { mtu: device.mtu }) } else { Ok(()) }
}

fn check_mode(mode: Mode) -> Result<(), ConfigError> {
    match mode {
        Mode::Filtered { system: mac } if !mac.is_station() => Err(ConfigError::SystemMac { mac }),
        _ => Ok(()),
    }
}

/// True for the groups that bridges keep to themselves.
//= spec/uplink.md#groups-of-bridges
//# A frame to a group that bridges keep to themselves MUST NOT cross an uplink in either direction.
fn is_of_bridges(mac: MacAddress) -> bool {
    mac.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac.0[5] < 16
}

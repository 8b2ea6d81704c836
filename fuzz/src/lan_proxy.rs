//! Any frames of both ways through the uplinks of one device: nothing of the platform is seen that is not to be seen (I-40), no tag is
//! crossed (I-41), nothing is too long (I-42), nothing comes back (I-43), and everything is counted.

use std::net::{IpAddr, Ipv4Addr};

use arp_server::build::{Operation, arp};
use lan_proxy::{Device, Holder, Inside, Inward, LanProxy, Mode, Outward, Trunk, UplinkConfig, Vid, audit};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::security::Limits;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::wire::frame::VNET_LEN;
use vlan_core::{Instant, MacAddress};

use crate::script::{Script, mac};

const MEMBERS: u8 = 4;
const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0xff, 1]);
const STRANGER: MacAddress = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
const MTU: u16 = 1280;
/// The uplinks of the device: a filtered and an unfiltered one.
const MODES: [Mode; 2] = [Mode::Filtered { system: SYSTEM }, Mode::Unfiltered];

/// Members with the addresses 10.1.0.n.
struct Lan;

impl Inside for Lan {
    fn owner_of(&self, address: MacAddress) -> Option<MemberSlot> {
        (0..MEMBERS).find(|member| mac(*member) == address).map(|member| MemberSlot(member.into()))
    }

    fn holder_of(&self, address: IpAddr) -> Option<Holder> {
        let member = (0..MEMBERS).find(|member| IpAddr::from([10, 1, 0, *member]) == address)?;
        Some(Holder { slot: MemberSlot(member.into()), mac: mac(member) })
    }

    fn is_own(&self, address: MacAddress) -> bool {
        address == SYSTEM || self.owner_of(address).is_some()
    }
}

struct World {
    now: Instant,
    trunk: Trunk,
    proxies: [LanProxy; 2],
}

fn vid_of(uplink: usize) -> Option<Vid> {
    Vid::new(100 * uplink as u16)
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut trunk = Trunk::default();
    let proxies = [0, 1].map(|uplink| {
        trunk.add(vid_of(uplink), uplink as u16).expect("each has its tag");
        LanProxy::new(&UplinkConfig {
            mode: MODES[uplink],
            vid: vid_of(uplink),
            device: Device { mtu: MTU, offloads: false },
            lan_mtu: 16_896,
            limits: Limits::default(),
            seed: 5,
        })
        .expect("it is sound")
    });
    let mut world = World { now: Instant::ZERO, trunk, proxies };
    let mut script = Script::new(data);
    while let Some(()) = world.step(&mut script) {
        for proxy in &world.proxies {
            let counters = proxy.counters();
            assert!(counters.taken.frames <= counters.inward.frames && proxy.stations().count() <= 4096);
        }
    }
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (operation, uplink) = (script.below(4)?, usize::from(script.below(2)?));
        match operation {
            0 => {
                script.advance(&mut self.now)?;
                self.proxies.iter_mut().for_each(|proxy| proxy.handle_timeout(self.now));
            }
            1 => {
                let router = Holder { slot: MemberSlot(1), mac: mac(1) };
                self.proxies[uplink].set_default_router(script.flag()?.then_some(router));
            }
            2 => {
                let (vnet, frame) = frame(script)?;
                self.outward(uplink, &vnet, &frame);
            }
            _ => {
                let (vnet, mut frame) = frame(script)?;
                self.arrive(&vnet, &mut frame);
            }
        }
        Some(())
    }

    fn outward(&mut self, uplink: usize, vnet: &Vnet, frame: &[u8]) {
        let mut sent = Vec::new();
        let proxy = &mut self.proxies[uplink];
        let before = proxy.counters().clone();
        let verdict =
            proxy.outward(self.now, vnet, frame, &Lan, |vnet, frame| sent.push((*vnet, frame.to_vec())));
        match verdict {
            Outward::Sent => assert!(!sent.is_empty()),
            Outward::Dropped(_) => assert!(sent.is_empty()),
            Outward::TooBig(error) => {
                assert!(sent.is_empty());
                assert_eq!(audit::check(error, None, MTU), Ok(()));
            }
        }
        let counters = self.proxies[uplink].counters();
        assert_eq!(counters.sent.frames - before.sent.frames, sent.len() as u64);
        let dropped = counters.drops.total() - before.drops.total();
        assert_eq!(dropped == 1, sent.is_empty());
        for (state, frame) in &mut sent {
            let untagged = audit::check_form(frame, vid_of(uplink), MTU).expect("outside takes it");
            if uplink == 0 {
                let macs = audit::stated_macs(frame);
                assert_eq!(macs[1], SYSTEM);
                assert!((0..MEMBERS).all(|member| !macs.contains(&mac(member))));
            }
            let source = EthernetHeader::parse(&untagged).expect("a whole header").source;
            let back = self.arrive(state, frame);
            assert!(matches!(back, Some(Inward::Dropped(_))), "{source}: {back:?}");
        }
    }

    /// A frame comes from outside.
    fn arrive(&mut self, vnet: &Vnet, frame: &mut [u8]) -> Option<Inward> {
        let (uplink, vnet, frame) = self.trunk.untag(vnet, frame).ok()?;
        let proxy = &mut self.proxies[usize::from(uplink)];
        let before = proxy.counters().clone();
        let verdict = proxy.inward(self.now, &vnet, frame, &Lan);
        let counters = proxy.counters();
        let dropped = counters.drops.total() - before.drops.total();
        let taken = counters.taken.frames - before.taken.frames;
        assert_eq!((dropped, taken), if matches!(verdict, Inward::Dropped(_)) { (1, 0) } else { (0, 1) });
        if let Inward::Member(slot) = verdict {
            assert_eq!(frame[..6], mac(slot.0 as u8).0);
        }
        Some(verdict)
    }
}

/// Any octets with any state, or a frame that begins as frames do.
fn frame(script: &mut Script<'_>) -> Option<(Vnet, Vec<u8>)> {
    let kind = script.below(4)?;
    let vnet =
        if script.flag()? { Vnet::parse(script.octets(VNET_LEN)?.first_chunk()?) } else { Vnet::default() };
    let member = script.below(MEMBERS)?;
    let (from, to) = if script.flag()? { (mac(member), STRANGER) } else { (STRANGER, SYSTEM) };
    if kind == 1 {
        let target = Ipv4Addr::new(10, 1, 0, script.octet()?);
        let mut frame = arp(Operation::Request, to, (from, Ipv4Addr::new(10, 1, 0, member)), target).to_vec();
        frame.extend_from_slice(script.block()?);
        return Some((vnet, frame));
    }
    let mut frame = [to.0, from.0].concat();
    match kind {
        0 => frame.clear(),
        2 => frame.extend_from_slice(&[8, 0]),
        _ => frame.extend_from_slice(&[0x86, 0xdd]),
    }
    frame.extend_from_slice(script.block()?);
    frame.resize(frame.len() + usize::from(script.octet()?) * 64, 0);
    Some((vnet, frame))
}

/// ARP both ways; a super-frame of TCP; a neighbour solicitation; a packet that is too long.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let tcp = {
        let ip = [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 200];
        let tcp = [0x1f, 0x90, 0x20, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
        [&ip[..], &tcp, &[7; 100]].concat()
    };
    let state = Vnet { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 60, csum_start: 34, csum_offset: 16 };
    let block = |octets: &[u8]| [&[octets.len() as u8][..], octets].concat();
    let solicitation = {
        let ip = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &[0xfd; 32]].concat();
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd; 16], &[1, 1], &mac(1).0].concat();
        [ip, message].concat()
    };
    let long = [0x45, 0, 0x08, 0x14, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 1, 0, 200];
    let short = [0x45, 0, 0, 20, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 200, 10, 1, 0, 2];
    vec![
        [&[2, 0, 1, 0, 1, 1, 200, 0][..], &[2, 1, 1, 0, 1, 1, 200, 0], &[3, 0, 1, 0, 200, 0, 1, 0]].concat(),
        [&[2, 0, 2, 1][..], &state.emit(), &[1, 1], &block(&tcp), &[0]].concat(),
        [&[2, 0, 3, 0, 1, 1][..], &block(&solicitation), &[0]].concat(),
        [&[2, 1, 2, 0, 1, 1][..], &block(&long), &[33]].concat(),
        [&[1, 0, 1, 3, 0, 2, 0, 0, 0][..], &block(&short), &[0]].concat(),
    ]
}

//! Devices of uplinks that are real ones, in a namespace of their own.

#[path = "../../../../switch-node/tests/sandbox/namespace.rs"]
#[expect(dead_code, reason = "no test here has a tenant")]
mod sandbox;

use lan_proxy::nic::Driver;
use rvi::SharedOctets;
use rvi::host::tap::{Tap, Written};
use switch_node::agent::namespace::Namespace;
use switch_node::agent::netlink::Netlink;
use vlan_core::wire::Vnet;

use super::*;
use crate::control_node::{UplinkConfig, tests};
use sandbox::in_own_namespace;

#[test]
fn a_device_that_cannot_be_watched_costs_no_other_one() {
    let name = "runtime::outside::tests::a_device_that_cannot_be_watched_costs_no_other_one";
    in_own_namespace(name, || {
        let mut machine = ControlNode::new(tests::config());
        let (legs, mut outside) = (Legs::new().unwrap(), Outside::default());
        let taps = ["up0", "up1"].map(|name| Tap::create(name).unwrap());
        let opened = [("up0", 0), ("up1", 1)].map(|(name, number)| {
            let device = nic::Nic::open(name, Driver::AfPacket, &[]).unwrap();
            (DeviceNumber(number), device)
        });
        // The kernel watches a descriptor once.
        legs.watch(opened[0].1.as_fd(), Source::Wake).unwrap();
        let at = Instant::ZERO;
        let error = outside.open(at, opened.into(), &legs, &mut machine).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EXIST.raw_os_error()));
        let modes = [0, 1].map(|number| (DeviceNumber(number), vec![Mode::Unfiltered]));
        outside.set_modes(at, modes.into(), &mut machine);
        let known: Vec<_> = machine.uplinks().1.iter().map(|device| device.state.is_some()).collect();
        assert_eq!(known, [false, true]);
        drop(taps);
    });
}

/// A datagram over IPv6 to everybody, as a stack hands it over; its octets count.
fn datagram(number: u8) -> Vec<u8> {
    let mut frame = vec![0; 62 + 10];
    frame[..6].fill(0xff);
    (frame[6], frame[11]) = (0x52, 9);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    (frame[14], frame[19], frame[20]) = (0x60, 18, 17);
    // From fd00::9 to fd00::1.
    (frame[22], frame[37], frame[38], frame[53]) = (0xfd, 9, 0xfd, 1);
    (frame[57], frame[59], frame[61]) = (7, 18, 35);
    frame[62..].fill(number);
    frame
}

#[test]
fn what_a_flow_sends_from_outside_is_joined_before_it_is_judged() {
    let name = "runtime::outside::tests::what_a_flow_sends_from_outside_is_joined_before_it_is_judged";
    in_own_namespace(name, || {
        let wire = Tap::create("up0").unwrap();
        // The namespace is this thread's alone.
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let mut netlink =
            Netlink::open(&Namespace::from_descriptor(here.into(), "this one").unwrap()).unwrap();
        let index = netlink.index_of("up0").unwrap();
        netlink.set_up(index).unwrap();
        let device = DeviceNumber(0);
        let mut config = tests::config();
        config.devices = 1;
        let mode = Mode::Unfiltered;
        config.lans[0].uplink =
            Some(UplinkConfig { mode, vid: None, device, default_router: None, link_dependency: false });
        let mut machine = ControlNode::new(config);
        let (legs, mut outside) = (Legs::new().unwrap(), Outside::default());
        let nic = nic::Nic::open("up0", Driver::AfPacket, &[mode]).unwrap();
        let at = Instant::ZERO;
        outside.open(at, vec![(device, nic)], &legs, &mut machine).unwrap();
        let state = Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 54, csum_offset: 6, ..Vnet::default() };
        for number in 0..5 {
            assert_eq!(wire.write(&state, &datagram(number), SharedOctets::empty()), Written::Taken);
        }
        //= spec/super-frames.md#from-outside
        //= type=test
        //# A control node MUST join datagrams from outside as a node joins those of its stack, before an uplink judges them.
        assert_eq!(outside.receive(at, &mut machine), 5);
        let judged = machine.uplinks().0[0].counters.inward;
        assert_eq!((judged.frames, judged.octets), (1, 62 + 5 * 10));
    });
}

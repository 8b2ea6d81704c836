//! Devices of uplinks that are real ones, in a namespace of their own.

#[path = "../../../../switch-node/tests/sandbox/namespace.rs"]
#[expect(dead_code, reason = "no test here has a tenant")]
mod sandbox;

use lan_proxy::nic::Driver;
use rvi::host::tap::Tap;

use super::*;
use crate::control_node::tests;
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

//! Uplinks that come, go and change while frames flow.

use super::super::apply::applied;
use super::*;
use crate::control_node::{Changes, UplinkChange};
use core::time::Duration;
use lan_proxy::Vid;

/// Another device.
const OTHER: DeviceNumber = DeviceNumber(1);

fn uplink(mode: Mode, device: DeviceNumber) -> UplinkConfig {
    UplinkConfig { mode, vid: None, device, default_router: None, link_dependency: false }
}

fn to_uplink(control: &mut ControlNode, uplink: Option<UplinkConfig>) {
    let uplinks = vec![UplinkChange { lan: LAN, uplink }];
    control.handle_command(NOW, applied(Changes { uplinks, ..Changes::default() }));
    control.pump(NOW, 1000);
}

/// What has gone out by a device, and when it was asked.
fn sent_by(control: &mut ControlNode, device: DeviceNumber) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((_, frame)) = control.poll_outside(device) {
        frames.push(frame.to_vec());
        control.outside_taken(device, true);
    }
    frames
}

/// A control node without uplinks, and its first two members with their addresses.
fn without() -> (ControlNode, Vec<End>) {
    let mut control = ControlNode::new(config());
    let ends = announced(&mut control, &[1, 2]);
    (control, ends)
}

fn outward(end: &mut End, control: &mut ControlNode) {
    end.send_frame(control, &frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30)));
}

#[test]
fn a_lan_gains_changes_and_loses_its_way_outside() {
    //= spec/control-node.md#changed-uplinks
    //= type=test
    //# When an applied file gives a LAN an uplink, takes it away or changes it, a control node MUST carry the LAN's frames as the file
    //# says from then on, tell outside who is where, and lose no frame of another LAN or between members.
    let (mut control, mut ends) = without();
    outward(&mut ends[0], &mut control);
    to_uplink(&mut control, Some(uplink(Mode::Filtered { system: SYSTEM }, DEVICE)));
    outward(&mut ends[0], &mut control);
    assert!(sent(&mut control).is_empty(), "its device has not been looked at");
    set_carrier(&mut control, true);
    outward(&mut ends[0], &mut control);
    let sources: Vec<_> = sent(&mut control).iter().map(|frame| frame[6..12].to_vec()).collect();
    assert_eq!(sources, [SYSTEM.0]);
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(2), 30)));
    assert_eq!(frames_of(&mut ends[1]).len(), 1);

    let taken = |control: &ControlNode| control.uplinks().0.first().map(|link| link.counters.sent.frames);
    let before = taken(&control);
    to_uplink(&mut control, Some(uplink(Mode::Unfiltered, DEVICE)));
    assert_eq!(taken(&control), before, "counters go on");
    outward(&mut ends[0], &mut control);
    let sources: Vec<_> = sent(&mut control).iter().map(|frame| frame[6..12].to_vec()).collect();
    assert_eq!(sources, [mac(1).0]);
    comes_in(&mut control, &frame(mac(2), OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(2), 30)));
    assert_eq!(frames_of(&mut ends[1]).len(), 1);

    to_uplink(&mut control, None);
    outward(&mut ends[0], &mut control);
    comes_in(&mut control, &frame(mac(2), OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(2), 30)));
    assert!(sent(&mut control).is_empty() && frames_of(&mut ends[1]).is_empty());
    assert!(control.uplinks().0.is_empty());
    ledger_closes(&control);
}

#[test]
fn another_tag_or_device_holds_at_once_and_lans_may_swap_theirs() {
    let (mut control, mut ends) = without();
    let tagged = |vid, device| UplinkConfig { vid: Vid::new(vid), ..uplink(Mode::Unfiltered, device) };
    to_uplink(&mut control, Some(tagged(7, DEVICE)));
    set_carrier(&mut control, true);
    for vid in [7, 8] {
        to_uplink(&mut control, Some(tagged(vid, DEVICE)));
        outward(&mut ends[0], &mut control);
        let tags: Vec<_> = sent(&mut control).iter().map(|frame| frame[12..16].to_vec()).collect();
        assert_eq!(tags, [[0x81, 0, 0, vid as u8]]);
    }
    outward(&mut ends[0], &mut control);
    to_uplink(&mut control, Some(tagged(8, OTHER)));
    let device = Device { mtu: 1500, offloads: false };
    control.handle_device(NOW, OTHER, DeviceState { device, has_carrier: true });
    outward(&mut ends[0], &mut control);
    assert_eq!((sent(&mut control).len(), sent_by(&mut control, OTHER).len()), (0, 1));
    let waited = &control.uplinks().1[usize::from(DEVICE.0)];
    assert_eq!((waited.state, waited.drops.of(DropReason::NoCarrier)), (None, 1), "nobody uses it any more");

    // The first has the tag of the second before that has another one.
    let mut lan = config().lans.remove(0);
    (lan.id, lan.members, lan.uplink) = (LanId(99), vec![], Some(tagged(9, OTHER)));
    control.handle_command(NOW, applied(Changes { added_lans: vec![lan], ..Changes::default() }));
    let change = |lan, vid| UplinkChange { lan, uplink: Some(tagged(vid, OTHER)) };
    let uplinks = vec![change(LAN, 9), change(LanId(99), 8)];
    control.handle_command(NOW, applied(Changes { uplinks, ..Changes::default() }));
    outward(&mut ends[0], &mut control);
    let tags: Vec<_> = sent_by(&mut control, OTHER).iter().map(|frame| frame[12..16].to_vec()).collect();
    assert_eq!((tags, control.uplinks().0.len()), (vec![vec![0x81, 0, 0, 9]], 2));
    let removed_lans = vec![LanId(99)];
    control.handle_command(NOW, applied(Changes { removed_lans, ..Changes::default() }));
    let links = control.uplinks().0;
    assert_eq!(links.iter().map(|link| link.lan).collect::<Vec<_>>(), [LAN]);
    outward(&mut ends[0], &mut control);
    assert_eq!(sent_by(&mut control, OTHER).len(), 1);
}

#[test]
fn what_waits_for_a_device_does_not_go_by_a_way_that_is_another_one_by_then() {
    //= spec/uplink.md#frames-of-a-former-way
    //= type=test
    //# When the uplink of a LAN goes, or has another mode, tag or device, what waits of the LAN MUST be dropped as `no-carrier`.
    let tagged = |vid| UplinkConfig { vid: Vid::new(vid), ..uplink(Mode::Unfiltered, DEVICE) };
    let filtered = uplink(Mode::Filtered { system: SYSTEM }, DEVICE);
    for next in [Some(tagged(8)), Some(filtered), None] {
        let (mut control, mut ends) = without();
        // Another LAN's uplink stays there.
        let mut lan = config().lans.remove(0);
        (lan.id, lan.members, lan.uplink) = (LanId(99), vec![], Some(tagged(9)));
        control.handle_command(NOW, applied(Changes { added_lans: vec![lan], ..Changes::default() }));
        to_uplink(&mut control, Some(tagged(7)));
        set_carrier(&mut control, true);
        sent(&mut control);
        outward(&mut ends[0], &mut control);
        to_uplink(&mut control, next.clone());
        assert_eq!(sent(&mut control).len(), 0, "{next:?}");
        assert_eq!(control.uplinks().1[usize::from(DEVICE.0)].drops.of(DropReason::NoCarrier), 1);
    }
}

#[test]
fn outside_is_told_who_is_where_when_an_uplink_begins_or_is_changed() {
    //= spec/uplink.md#announcements
    //= type=test
    //# A control node MUST announce the holder of each address to outside, as the holder itself would unasked, when the address is
    //# registered or has another holder, when the uplink begins or is changed, when its device gets a carrier, and every 300 s, in the
    //# first cases three times with a second between.
    let mut control = ControlNode::new(config());
    let mut end = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    end.register(&mut control);
    let address = InterfaceAddress { address: ip_of(1).into(), prefix: 24 };
    end.tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    let filtered = uplink(Mode::Filtered { system: SYSTEM }, DEVICE);
    to_uplink(&mut control, Some(uplink(Mode::Unfiltered, DEVICE)));
    set_carrier(&mut control, true);
    // Its device has a carrier, and outside is to see another MAC.
    to_uplink(&mut control, Some(filtered.clone()));
    let thrice: Vec<_> = [0, 1000, 2000].map(|ms| (ms, ip_of(1))).to_vec();
    assert_eq!(announced_until(&mut control, NOW + Duration::from_secs(9)), thrice);
    // What outside does not notice is not told.
    to_uplink(&mut control, Some(UplinkConfig { link_dependency: true, ..filtered.clone() }));
    assert_eq!(announced_until(&mut control, NOW + Duration::from_secs(9)), []);
    to_uplink(&mut control, None);
    to_uplink(&mut control, Some(filtered));
    set_carrier(&mut control, true);
    assert_eq!(announced_until(&mut control, NOW + Duration::from_secs(9)), thrice);
}

#[test]
fn what_has_gone_outside_by_the_earlier_uplink_does_not_go_again() {
    let (mut control, mut ends) = without();
    let unfiltered = Some(uplink(Mode::Unfiltered, DEVICE));
    to_uplink(&mut control, unfiltered.clone());
    set_carrier(&mut control, true);
    outward(&mut ends[0], &mut control);
    assert_eq!(sent(&mut control).len(), 1);
    to_uplink(&mut control, None);
    to_uplink(&mut control, unfiltered);
    set_carrier(&mut control, true);
    let bseq = ends[0].bseq;
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    let mut again = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    again.tell(&mut control, &register(1, process(1)));
    again.bseq = bseq - 1;
    outward(&mut again, &mut control);
    assert!(sent(&mut control).is_empty());
    outward(&mut again, &mut control);
    assert_eq!(sent(&mut control).len(), 1);
}

/// What an end was told of its carrier since it was asked last.
fn carriers(end: &mut End) -> Vec<bool> {
    let of = |message: &ControlMessage| match message {
        ControlMessage::Interface(interface) => Some(interface.has_carrier),
        _ => None,
    };
    end.told().iter().filter_map(of).collect()
}

#[test]
fn members_keep_their_carrier_while_their_uplink_moves_to_a_device_that_has_one() {
    //= spec/control-node.md#state-of-the-devices-of-an-applied-file
    //= type=test
    //# The state of a device that comes with a file MUST be known before the file is in use, and members MUST be told of the carrier only
    //# where that is another one then.
    let (mut control, mut ends) = without();
    let dependent = |device| UplinkConfig { link_dependency: true, ..uplink(Mode::Unfiltered, device) };
    let state = |has_carrier| DeviceState { device: Device { mtu: 1500, offloads: false }, has_carrier };
    set_carrier(&mut control, true);
    to_uplink(&mut control, Some(dependent(DEVICE)));
    for (device, has_carrier, told) in
        [(OTHER, true, &[][..]), (DEVICE, false, &[false]), (OTHER, false, &[]), (DEVICE, true, &[true])]
    {
        control.handle_device(NOW, device, state(has_carrier));
        to_uplink(&mut control, Some(dependent(device)));
        assert_eq!(carriers(&mut ends[0]), told, "{device:?} {has_carrier}");
        let states: Vec<_> = control.uplinks().1.iter().map(|device| device.state.is_some()).collect();
        assert_eq!(states, [device == DEVICE, device == OTHER], "the other one is not used any more");
    }
    // A LAN that comes finds its device known, too, though another uplink was changed before it.
    let mut lan = config().lans.remove(0);
    (lan.id, lan.members, lan.uplink) = (LanId(99), vec![], Some(dependent(OTHER)));
    control.handle_device(NOW, OTHER, state(true));
    let uplinks = vec![UplinkChange { lan: LAN, uplink: None }];
    control.handle_command(NOW, applied(Changes { uplinks, added_lans: vec![lan], ..Changes::default() }));
    assert_eq!(control.uplinks().1[usize::from(OTHER.0)].state, Some(state(true)));
}

#[test]
fn members_that_depend_on_an_uplink_lose_and_get_their_carrier_with_it() {
    let (mut control, mut ends) = without();
    let dependent = Some(UplinkConfig { link_dependency: true, ..uplink(Mode::Unfiltered, DEVICE) });
    let mut carriers = |control: &mut ControlNode, uplink: Option<UplinkConfig>| {
        to_uplink(control, uplink);
        carriers(&mut ends[0])
    };
    assert_eq!(carriers(&mut control, dependent.clone()), [false], "nobody has looked at the device");
    assert!(carriers(&mut control, dependent.clone()).is_empty());
    assert_eq!(carriers(&mut control, None), [true]);
    assert!(carriers(&mut control, Some(uplink(Mode::Unfiltered, DEVICE))).is_empty());
}

//! Captures of uplinks.

use super::*;
use crate::control_node::Output;
use vlan_core::wire::control::{CaptureDirections, CaptureOrder, CapturePoint};
use vlan_core::wire::{CAPTURED_HEADER_LEN, CapturedHeader, CapturedRecord};

const ID: u32 = 7;
/// Nanoseconds since 1970 when the capture begins.
const UNIX_NS: u64 = 1_700_000_000_000_000_000;

fn capture(control: &mut ControlNode, directions: CaptureDirections, window_octets: u32) {
    let order = CaptureOrder {
        id: ID,
        point: CapturePoint::Interface(VifNumber(0)),
        directions,
        snap_octets: 60,
        window_octets,
        filter: Vec::new(),
    };
    control.handle_command(NOW, Command::CaptureUplink { lan: LAN, unix_ns: UNIX_NS, order });
}

/// What has been captured: each copy's direction and octets, the last header, and whether it is over.
fn captured(control: &mut ControlNode) -> (Vec<(bool, Vec<u8>)>, CapturedHeader, bool) {
    control.pump(NOW, 1000);
    let (mut copies, mut last, mut is_over) = (Vec::new(), CapturedHeader::default(), false);
    while let Some(output) = control.poll_output() {
        match output {
            Output::Captured { id, octets } => {
                last = CapturedHeader::parse(&octets, octets.len()).expect("a header");
                assert_eq!((id, last.id), (ID, ID));
                let mut rest = &octets[CAPTURED_HEADER_LEN..];
                while !rest.is_empty() {
                    let record = CapturedRecord::take(&mut rest).expect("a record");
                    assert_eq!(record.unix_ns, UNIX_NS);
                    copies.push((record.is_out, record.octets.to_vec()));
                }
            }
            Output::CaptureOver { id, is_refused } => {
                assert_eq!((id, is_refused), (ID, false));
                is_over = true;
            }
            _ => {}
        }
    }
    (copies, last, is_over)
}

#[test]
fn what_comes_in_and_goes_out_is_captured_once_as_it_is_inside() {
    //= spec/capture.md#uplinks
    //= type=test
    //# A capture of a LAN MUST tap its uplink, too, and by default keep what comes in by it, each frame once, as it is inside.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1, 2]);
    capture(&mut control, CaptureDirections::Both, 100_000);
    let inward = packet(OUTSIDE_IP, ip_of(2), 30);
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0800, &inward));
    let everybody = frame(MacAddress::BROADCAST, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, [255; 4], 30));
    comes_in(&mut control, &everybody);
    let refused = frame(MacAddress::BROADCAST, mac(1), 0x0800, &packet(OUTSIDE_IP, [255; 4], 30));
    comes_in(&mut control, &refused);
    let outward = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    ends[0].send_frame(&mut control, &outward);
    let (copies, header, is_over) = captured(&mut control);
    let readdressed = frame(mac(2), OUTSIDER, 0x0800, &inward);
    // As much of each as was asked for.
    let expected = [(false, &readdressed), (false, &everybody), (true, &outward)];
    assert_eq!(copies, expected.map(|(is_out, frame)| (is_out, frame[..60].to_vec())));
    assert_eq!((header.seen, header.matched, header.lost, is_over), (3, 3, 0, false));
    control.handle_command(NOW, Command::CaptureEnd { id: ID, discard: false });
    let (copies, header, is_over) = captured(&mut control);
    assert!(copies.is_empty() && header.is_last && is_over, "{header:?}");
    comes_in(&mut control, &everybody);
    assert!(captured(&mut control).0.is_empty());
}

#[test]
fn copies_wait_for_credit_and_the_direction_counts() {
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1]);
    capture(&mut control, CaptureDirections::In, 5000);
    let outward = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    ends[0].send_frame(&mut control, &outward);
    let everybody = frame(MacAddress::BROADCAST, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, [255; 4], 30));
    for (credit, expected) in [(0, 1), (0, 0), (4096, 1)] {
        control.handle_command(NOW, Command::CaptureCredit { id: ID, octets: credit });
        comes_in(&mut control, &everybody);
        let copies = captured(&mut control).0;
        assert!(copies.len() >= expected && copies.iter().all(|(is_out, _)| !is_out), "{copies:?}");
        assert_eq!(copies.is_empty(), expected == 0);
    }
    control.handle_command(NOW, Command::CaptureEnd { id: ID, discard: true });
    assert!(captured(&mut control).2);
}

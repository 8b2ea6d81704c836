//! Captures: whose copies a control node takes, and how many.

use super::*;
use vlan_core::wire::CapturedHeader;
use vlan_core::wire::control::{CaptureDirections, CaptureOrder, CapturePoint};

const WINDOW: u32 = 16 * 1024;

fn order(id: u32) -> CaptureOrder {
    CaptureOrder {
        id,
        point: CapturePoint::Interface(VifNumber(1)),
        directions: CaptureDirections::Both,
        snap_octets: 100,
        window_octets: WINDOW,
        filter: vec![],
    }
}

impl End {
    fn copies(&mut self, control: &mut ControlNode, header: CapturedHeader, len: usize) {
        let octets = header.emit(len);
        let records = vec![0; len];
        let parts = [Part::Private(&octets), Part::Private(&records)];
        self.association.open_channel(Channel::RELAYED_PACKETS);
        assert!(self.association.offer(NOW, Channel::RELAYED_PACKETS, 0, &parts));
        self.association.publish();
        control.pump(NOW, 1000);
    }
}

/// The captures from which copies have come, and those that are over.
fn come(control: &mut ControlNode) -> (Vec<u32>, Vec<(u32, bool)>) {
    let (mut copies, mut over) = (Vec::new(), Vec::new());
    for output in outputs(control) {
        match output {
            Output::Captured { id, .. } => copies.push(id),
            Output::CaptureOver { id, is_refused } => over.push((id, is_refused)),
            _ => {}
        }
    }
    (copies, over)
}

fn header(id: u32) -> CapturedHeader {
    CapturedHeader { id, ..CapturedHeader::default() }
}

fn begin(control: &mut ControlNode, node: u16, id: u32) {
    control.handle_command(NOW, Command::Capture { node: NodeNumber(node), order: order(id) });
}

#[test]
fn copies_are_taken_from_the_node_that_was_asked_and_as_far_as_there_is_credit() {
    //= spec/capture.md#whose-copies
    //= type=test
    //# A control node MUST take copies only of a capture that it asked that node for, and only as far as it gave credit; it
    //# drops others and counts them as malformed.
    let mut control = control_node();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    begin(&mut control, 1, 7);
    assert_eq!(one.told().last(), Some(&ControlMessage::Capture(order(7))));
    two.copies(&mut control, header(7), 10);
    one.copies(&mut control, header(8), 10);
    assert_eq!((come(&mut control).0, control.status().drops.of(DropReason::Malformed)), (vec![], 2));
    for _ in 0..6 {
        one.copies(&mut control, header(7), 10);
    }
    assert_eq!((come(&mut control).0, control.status().drops.of(DropReason::Malformed)), (vec![7; 4], 4));
    control.handle_command(NOW, Command::CaptureCredit { id: 7, octets: 4096 });
    assert_eq!(one.told(), [ControlMessage::CaptureCredit { id: 7, octets: 4096 }]);
    one.copies(&mut control, header(7), 10);
    one.copies(&mut control, header(7), 10);
    assert_eq!(come(&mut control).0, [7]);
    // The last word needs no credit.
    one.copies(&mut control, CapturedHeader { is_last: true, ..header(7) }, 0);
    assert_eq!(come(&mut control), (vec![7], vec![(7, false)]));
    one.copies(&mut control, CapturedHeader { is_last: true, ..header(7) }, 0);
    assert_eq!(come(&mut control), (vec![], vec![]));
}

#[test]
fn a_capture_goes_on_when_its_node_comes_back_and_ends_while_it_is_away() {
    let mut control = control_node();
    begin(&mut control, 1, 7);
    let mut one = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    assert_eq!(one.register(&mut control).last(), Some(&ControlMessage::Capture(order(7))));
    drop(one);
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    assert_eq!(come(&mut control).1, []);
    let mut one = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    assert_eq!(one.register(&mut control).last(), Some(&ControlMessage::Capture(order(7))));
    control.handle_command(NOW, Command::CaptureEnd { id: 7, discard: false });
    assert_eq!(one.told(), [ControlMessage::CaptureEnd { id: 7, discard: false }]);
    assert_eq!(come(&mut control).1, []);
    drop(one);
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    assert_eq!(come(&mut control).1, [(7, false)]);
    begin(&mut control, 1, 8);
    control.handle_command(NOW, Command::CaptureEnd { id: 8, discard: true });
    assert_eq!(come(&mut control).1, [(8, false)]);
}

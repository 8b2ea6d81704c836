//! Frames that are sent, or come, behind one another.

use super::*;

fn frame(to: MacAddress, number: u8) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&OWN.0);
    frame[12] = 8;
    frame[20] = number;
    frame
}

#[test]
fn a_batch_sends_what_its_frames_would_send_alone() {
    let stranger = MacAddress([2, 9, 9, 9, 9, 9]);
    let to = [PEER, PEER, MacAddress::BROADCAST, PEER, stranger, stranger, PEER];
    let (mut node, mut other) = (node(), super::node());
    let (mut control, mut alone) = (Far::control(&mut node, 1), Far::control(&mut other, 1));
    let mut batch = node.batch(NOW, VIF);
    for (number, to) in (0..).zip(to) {
        assert_eq!(batch.send(&Vnet::default(), &frame(to, number)), Accept::Taken);
    }
    drop(batch);
    node.publish(NOW);
    for (number, to) in (0..).zip(to) {
        send(&mut other, to, number);
    }
    let frames = control.frames();
    assert_eq!(frames.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(frames, alone.frames());
    let counters =
        |node: &Node| node.interfaces().map(|interface| interface.counters.clone()).collect::<Vec<_>>();
    assert_eq!(counters(&node), counters(&other));
}

#[test]
fn a_batch_stops_where_its_way_does() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut sent = 0;
    let mut batch = node.batch(NOW, VIF);
    while batch.send(&Vnet::default(), &frame(PEER, 0)) == Accept::Taken {
        sent += 1;
    }
    assert_eq!(batch.send(&Vnet::default(), &frame(PEER, 0)), Accept::Busy);
    drop(batch);
    node.publish(NOW);
    let counted: u64 = node.interfaces().map(|interface| interface.counters.sent_relay.frames).sum();
    assert_eq!(counted, sent);
    let mut taken = 0;
    loop {
        let came = control.frames();
        if came.is_empty() {
            break;
        }
        taken += came.len() as u64;
        control.0.publish();
        turn(&mut node);
    }
    assert_eq!(taken, sent);
}

/// A device that refuses one frame.
struct Refuses(u8, Vec<u8>);

impl FrameSink for Refuses {
    fn deliver(&mut self, _: VifNumber, _: &Vnet, head: &[u8], _: SharedOctets<'_>) -> Delivery {
        if head[20] == self.0 {
            return Delivery::DeviceFull;
        }
        self.1.push(head[20]);
        Delivery::Taken
    }
}

#[test]
fn what_comes_by_a_direct_rvi_is_counted_once_whatever_comes_between() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut peer = direct(&mut node, &mut control);
    peer.frames();
    let header = FrameHeader { boot: BootTag(0), ..header(FrameKind::Unicast, 0) };
    let foreign = FrameHeader { lan: LanId(11), ..header };
    for number in 0..9 {
        let mut frame = frame(OWN, number);
        frame[6..12].copy_from_slice(&PEER.0);
        frame[14] = 0x45;
        let header = if number == 5 { foreign } else { header };
        peer.send(DIRECT, &[&header.emit(60)[..], &frame].concat());
    }
    let mut device = Refuses(3, Vec::new());
    node.receive(NOW, 1000, &mut device);
    assert_eq!(device.1, [0, 1, 2, 4, 6, 7, 8]);
    let received: u64 = node.interfaces().map(|interface| interface.counters.received_direct.frames).sum();
    let refused = [DropReason::DeviceFull, DropReason::WrongGrant].map(|reason| drops(&node, reason));
    assert_eq!((received, refused), (7, [1, 1]));
}

#[test]
fn what_comes_by_relay_is_counted_once_whatever_comes_between() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut group = header(FrameKind::Group, 6).emit(60).to_vec();
    group.extend(frame(MacAddress::BROADCAST, 0));
    for number in 0..12 {
        let mut message = match number {
            // The same again, and one that no origin sends.
            4 => relayed(3, 60),
            6 => group.clone(),
            8 => vec![0; 60],
            _ => relayed(u32::from(number), 60),
        };
        message[32 + 20] = number;
        control.send(RELAY, &message);
    }
    let mut device = Refuses(9, Vec::new());
    node.receive(NOW, 1000, &mut device);
    assert_eq!(device.1, [0, 1, 2, 3, 5, 6, 7, 10, 11]);
    let received: u64 = node.interfaces().map(|interface| interface.counters.received_relay.frames).sum();
    let reasons = [DropReason::DeviceFull, DropReason::Duplicate, DropReason::Malformed];
    assert_eq!((received, reasons.map(|reason| drops(&node, reason))), (9, [1, 1, 1]));
}

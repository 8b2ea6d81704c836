//! Frames that a stack sends behind one another, as a batch.

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

//! Frames of a run go as each would go alone.

use super::*;

const PLAIN: Vnet = Vnet { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

/// The driver with a direct RVI to the peer, or none.
fn reaching(is_direct: bool) -> Driver {
    let mut driver = driver();
    if is_direct {
        let id = raise(&mut driver, Instant::ZERO);
        driver.handle_barrier_echo(SLOT, id);
    }
    driver
}

#[test]
fn a_frame_of_a_run_gets_the_header_that_it_would_get_alone() {
    for is_direct in [false, true] {
        let (mut driver, mut alone) = (reaching(is_direct), reaching(is_direct));
        let mut run = driver.outgoing_run(&PLAIN, &frame(PEER, OWN, 0x0800)).expect("a run");
        let summed = Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..PLAIN };
        for (vnet, ethertype) in [(PLAIN, 0x0800), (summed, 0x0800), (PLAIN, 0x86dd), (PLAIN, 0x1234)] {
            let frame = frame(PEER, OWN, ethertype);
            let header = run.header(&vnet, &frame).expect("a frame of the run");
            run.sent(frame.len());
            let egress = alone.classify(&vnet, &frame, frame.len());
            let expected = match egress {
                Egress::Direct { peer, .. } => alone.direct_header(peer, &vnet, frame.len()),
                _ => alone.server_header(egress, &vnet).map(|header| header.emit(frame.len())),
            };
            assert_eq!(Some(header), expected);
            match alone.server_header(egress, &vnet) {
                Some(header) => alone.sent(&header, frame.len()),
                None => alone.sent_direct(frame.len()),
            }
        }
        driver.end_run(&run);
        assert_eq!(driver.counters(), alone.counters());
        assert_eq!(driver.relay_header(&PLAIN), alone.relay_header(&PLAIN), "the next number");
        assert_eq!(run.count().frames, 4);
    }
}

#[test]
fn what_goes_another_way_or_not_at_all_is_of_no_run() {
    for is_direct in [false, true] {
        let driver = reaching(is_direct);
        let run = driver.outgoing_run(&PLAIN, &frame(PEER, OWN, 0x0800)).expect("a run");
        let other = MacAddress([2, 0, 1, 0, 0, 3]);
        assert_eq!(run.header(&PLAIN, &frame(other, OWN, 0x0800)), None);
        assert_eq!(run.header(&PLAIN, &frame(MacAddress::BROADCAST, OWN, 0x0800)), None);
        assert_eq!(
            run.header(&PLAIN, &frame(PEER, OWN, ETHERTYPE_ARP)),
            None,
            "it has another kind, or a copy"
        );
        assert_eq!(run.header(&PLAIN, &frame(PEER, OWN, 0x0800)[..13]), None);
        let mut long = vec![0; 1519];
        long[..60].copy_from_slice(&frame(PEER, OWN, 0x0800));
        assert_eq!(run.header(&PLAIN, &long), None);
        assert!(run.header(&PLAIN, &long[..1518]).is_some());
        let torn = Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 60, ..PLAIN };
        assert_eq!(run.header(&torn, &frame(PEER, OWN, 0x0800)), None);
        for (destination, ethertype) in
            [(MacAddress::BROADCAST, 0x0800), (other, 0x0800), (PEER, ETHERTYPE_ARP)]
        {
            assert!(driver.outgoing_run(&PLAIN, &frame(destination, OWN, ethertype)).is_none());
        }
    }
    let mut waiting = driver();
    raise(&mut waiting, Instant::ZERO);
    assert!(waiting.outgoing_run(&PLAIN, &frame(PEER, OWN, 0x0800)).is_none(), "held for its barrier");
}

#[test]
fn a_relayed_frame_of_a_run_is_taken_as_it_would_be_alone() {
    //= spec/driver.md#numbered-frames
    //= type=test
    //# The driver MUST deliver each numbered frame of an origin at most once, whichever way it comes.
    let (mut driver, incoming) = (driver(), frame(OWN, PEER, 0x0800));
    let message = |bseq, flags| [&numbered(bseq, flags).emit(60)[..], &incoming].concat();
    assert!(matches!(driver.admit_relayed(&numbered(40, 0), &incoming, 60), Ingress::Deliver(_)));
    let mut run = driver.relayed_run(&numbered(40, 0)).expect("a run");
    for (bseq, is_taken) in [(41, true), (41, false), (40, false), (50, true), (45, false), (51, true)] {
        assert_eq!(driver.take(&run, &message(bseq, 0), 92).is_some(), is_taken, "{bseq}");
    }
    assert_eq!(driver.take(&run, &message(52, FrameHeader::RESENT), 92), None, "it may be late");
    assert_eq!(driver.take(&run, &message(52, 0), 93), None, "another length");
    assert_eq!(driver.take(&run, &message(52, 0)[..45], 92), None, "too short for a frame");
    let later_life = FrameHeader { boot: BootTag(10), ..numbered(52, 0) };
    assert_eq!(driver.take(&run, &[&later_life.emit(60)[..], &incoming].concat(), 92), None);
    run.delivered(60);
    driver.end_relayed_run(&run);
    assert_eq!(driver.counters().received_relay.frames, 1);
    // What the run has taken has come, and is the newest of its kind.
    assert_eq!(driver.admit_relayed(&numbered(51, 0), &incoming, 60), Ingress::Drop(DropReason::Duplicate));
    assert!(matches!(driver.admit_relayed(&numbered(45, 0), &incoming, 60), Ingress::Deliver(_)));
    let late = numbered(49, FrameHeader::RESENT);
    assert_eq!(driver.admit_relayed(&late, &incoming, 60), Ingress::Drop(DropReason::Duplicate));
    for header in
        [numbered(51, FrameHeader::RESENT), FrameHeader { kind: FrameKind::Group, ..numbered(51, 0) }]
    {
        assert!(driver.relayed_run(&header).is_none());
    }
}

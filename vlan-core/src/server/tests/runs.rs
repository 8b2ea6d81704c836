//! Frames of a run are judged as each would be alone.

use super::*;

/// A frame of IPv4 without a claim.
fn plain(destination: MacAddress, source: MacAddress) -> [u8; 60] {
    let mut frame = frame(destination, source);
    frame[14] = 0x45;
    frame
}

/// What the run makes of a frame: the receiver's interface, if it takes it.
fn take(
    server: &mut LanServer,
    run: &mut RelayRun,
    header: &FrameHeader,
    frame: &[u8],
) -> Option<FrameHeader> {
    let message = [&header.emit(frame.len())[..], frame].concat();
    let octets = server.take(run, &message, message.len())?;
    run.sent(frame.len());
    Some(FrameHeader::parse(&octets, message.len()).expect("a header"))
}

#[test]
fn frames_of_a_run_are_numbered_and_counted_as_they_would_be_alone() {
    //= spec/server.md#numbered-frames
    //= type=test
    //# The server MUST take each numbered frame of an origin at most once.
    for security in [PortSecurity::Off, PortSecurity::Mac] {
        let (mut server, mut alone) = (server(security), server(security));
        let frame = plain(mac(2), mac(1));
        for server in [&mut server, &mut alone] {
            verdict(server, &header(0), &frame);
            server.delivered(MemberSlot(1), frame.len());
        }
        let mut run = server.run(MemberSlot(0), &header(0), &frame).expect("a run");
        for bseq in 1..=GRANT_AFTER_FRAMES {
            let passed = take(&mut server, &mut run, &header(bseq), &frame).expect("the next frame");
            assert_eq!(passed, FrameHeader { destination_vif: VifNumber(1), ..header(bseq) });
            assert_eq!(take(&mut server, &mut run, &header(bseq), &frame), None, "it has come already");
            assert_eq!(take(&mut server, &mut run, &header(bseq + 2), &frame), None, "one is left out");
            verdict(&mut alone, &header(bseq), &frame);
            alone.delivered(MemberSlot(1), frame.len());
        }
        assert!(server.end_run(Instant::ZERO, &run), "worth a direct RVI");
        assert_eq!(server.ledger(), alone.ledger());
        for slot in [MemberSlot(0), MemberSlot(1)] {
            let counts =
                |server: &LanServer| server.member(slot).map(|member| (member.ingress, member.egress));
            assert_eq!(counts(&server), counts(&alone));
        }
        assert_eq!(
            verdict(&mut server, &header(GRANT_AFTER_FRAMES), &frame),
            Verdict::Drop(DropReason::Duplicate)
        );
    }
}

#[test]
fn what_is_to_be_looked_at_alone_is_of_no_run() {
    //= spec/server.md#admission
    //= type=test
    //# The server MUST discard a frame whose LAN, origin node, origin interface or process is not that of the
    //# member whose channel it came by.
    for security in [PortSecurity::Off, PortSecurity::Mac] {
        let mut server = server(security);
        let good = plain(mac(2), mac(1));
        verdict(&mut server, &header(0), &good);
        let mut run = server.run(MemberSlot(0), &header(0), &good).expect("a run");
        let next = header(1);
        for wrong in [
            FrameHeader { lan: LanId(11), ..next },
            FrameHeader { origin: NodeNumber(2), ..next },
            FrameHeader { origin_vif: VifNumber(2), ..next },
            FrameHeader { boot: BootTag(99), ..next },
            FrameHeader { kind: FrameKind::Group, ..next },
            FrameHeader { flags: FrameHeader::RESENT, ..next },
            FrameHeader { vnet: Vnet { hdr_len: 61, ..Vnet::default() }, ..next },
        ] {
            assert_eq!(take(&mut server, &mut run, &wrong, &good), None, "{wrong:?}");
        }
        let mut arp = plain(mac(2), mac(1));
        arp[12..14].copy_from_slice(&[8, 6]);
        for wrong in [plain(mac(3), mac(1)), plain(mac(2), mac(3)), arp] {
            assert_eq!(take(&mut server, &mut run, &next, &wrong), None, "{wrong:?}");
        }
        assert_eq!(take(&mut server, &mut run, &next, &good[..13]), None);
        assert!(!server.end_run(Instant::ZERO, &run));
        assert_eq!(server.ledger().ingress, 1, "nothing was taken");
        assert!(server.run(MemberSlot(0), &header(0), &plain(mac(9), mac(1))).is_none());
        let resent = FrameHeader { flags: FrameHeader::RESENT, ..next };
        assert!(server.run(MemberSlot(0), &resent, &good).is_none());
    }
}

#[test]
fn a_member_with_a_limit_has_no_runs() {
    use crate::security::{Limits, Rate};
    let mut server = server(PortSecurity::Mac);
    let total = Rate { frames: Some(1), bits: None };
    server.set_limits(MemberSlot(0), &Limits { total, ..Limits::default() });
    assert!(server.run(MemberSlot(0), &header(0), &plain(mac(2), mac(1))).is_none());
}

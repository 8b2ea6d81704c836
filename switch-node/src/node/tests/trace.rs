//! Traces of a node: what it says it would do is what it then does, and saying so changes nothing.

use super::*;
use vlan_core::wire::control::{TraceEnd, TraceOrder, TraceWay, Traced};

fn frame(to: MacAddress, from: MacAddress, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12] = 8;
    frame
}

fn trace(node: &mut Node, control: &mut Far, way: TraceWay, octets: Vec<u8>) -> Traced {
    control.told();
    control
        .tell(node, &ControlMessage::Trace(TraceOrder { id: 4, way, vif: VIF, peer: NodeNumber(2), octets }));
    let told = control.told();
    let traced = told.into_iter().find_map(|message| match message {
        ControlMessage::Traced(traced) => Some(traced),
        _ => None,
    });
    traced.expect("an answer")
}

fn rules(traced: &Traced) -> Vec<&str> {
    traced.steps.iter().map(|step| step.rule.as_str()).collect()
}

#[test]
fn a_trace_of_a_frame_is_the_message_that_is_then_sent_and_uses_up_no_number() {
    //= spec/trace.md#no-trace-is-left
    //= type=test
    //# A trace MUST change nothing: no counter, no number, no binding and no frame of anybody.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let counters = |node: &Node| alloc::format!("{:?}", node.interfaces().next().expect("one").counters);
    let before = counters(&node);
    let sent = frame(PEER, OWN, 60);
    let first = trace(&mut node, &mut control, TraceWay::FromStack, sent.clone());
    let second = trace(&mut node, &mut control, TraceWay::FromStack, sent.clone());
    assert_eq!((first.end, &first), (TraceEnd::Relay, &second));
    assert_eq!(rules(&first), ["spec/server.md#direct-rvis", "spec/server.md#registration"]);
    assert_eq!(counters(&node), before);
    assert_eq!(node.send_frame(NOW, VIF, &Vnet::default(), &sent), Accept::Taken);
    node.publish(NOW);
    assert_eq!(control.take(10), [(RELAY, first.message)]);
}

#[test]
fn a_trace_says_why_a_frame_goes_no_further() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let long = trace(&mut node, &mut control, TraceWay::FromStack, frame(PEER, OWN, 1600));
    assert_eq!((long.end, rules(&long)), (TraceEnd::Dropped, vec!["spec/tlv.md#frame-header"]));
    assert!(long.steps[0].what.ends_with("too-long"), "{long:?}");
    // A message of an origin that is no member, and no message at all.
    let no_grant = trace(&mut node, &mut control, TraceWay::Direct, vec![7; 60]);
    assert_eq!(no_grant.end, TraceEnd::Dropped);
    assert_eq!((drops(&node, DropReason::TooLong), drops(&node, DropReason::Malformed)), (0, 0));
    // Without a control node a frame would be held.
    let order = TraceOrder {
        id: 1,
        way: TraceWay::FromStack,
        vif: VIF,
        peer: NodeNumber(0),
        octets: frame(PEER, OWN, 60),
    };
    drop(control);
    lose_control(&mut node, 1);
    assert_eq!(node.trace(Instant::ZERO, &order).end, TraceEnd::Held);
}

#[test]
fn a_traced_message_is_let_through_again_and_again() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let message = relayed(5, 60);
    for _ in 0..2 {
        let traced = trace(&mut node, &mut control, TraceWay::Relay, message.clone());
        assert_eq!(
            (traced.end, rules(&traced)),
            (TraceEnd::Delivered, vec!["spec/driver.md#numbered-frames"])
        );
    }
    control.send(RELAY, &message);
    turn(&mut node);
    assert_eq!(drops(&node, DropReason::Duplicate), 0);
    let traced = trace(&mut node, &mut control, TraceWay::Relay, message);
    assert!(traced.steps[0].what.ends_with("duplicate"), "{traced:?}");
}

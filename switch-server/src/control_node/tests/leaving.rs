//! The orderly end towards nodes of the same host: what they have sent stays theirs.

use super::*;
use rvi::LegEnd;

/// What an end would send again by another control node.
fn unsent(end: &mut End) -> usize {
    assert_eq!(end.association.handle_leg_gone(NOW, LEG), LegEnd::Died);
    let mut frames = 0;
    end.association.drain_unsent(&mut |channel, _, _| frames += usize::from(channel == RELAY));
    frames
}

#[test]
fn what_is_not_taken_or_not_settled_at_the_end_stays_with_its_sender() {
    let mut control = control_node();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    one.send(&mut control, mac(2), 0);
    assert_eq!(two.frames().len(), 1);
    one.association.publish();
    // Node 2 takes nothing: what comes for it waits for room, on the account of node 1.
    let mut sent = 0;
    while control.waiting().all(|(_, waiting)| waiting.messages < 10) {
        one.send(&mut control, mac(2), 0);
        sent += 1;
        assert!(sent < 10_000, "there is always room");
    }
    control.leave(NOW);
    for _ in 0..5 {
        one.queue(mac(2), 0, 60);
    }
    assert_eq!(control.pump(NOW, 1000), 0, "it takes something");
    assert!(outputs(&mut control).contains(&Output::Left));
    assert!(control.is_leaving() && control.prepare_sleep());
    drop(control);
    let arrived = two.frames().len();
    let kept = unsent(&mut one);
    assert!(kept >= 15, "{kept} of {sent} are kept, {arrived} arrived");
    assert!(arrived + kept >= sent + 5, "{kept} of {sent} are kept, {arrived} arrived");
}

#[test]
fn nobody_joins_a_control_node_that_ends() {
    let mut control = control_node();
    let _one = member(&mut control, 1);
    let tag = tag_of(&control, 1);
    control.leave(NOW);
    assert_eq!(control.session_tag(NodeNumber(1), process(1), tag.node), None);
    assert_eq!(control.session_tag(NodeNumber(2), process(2), 1), None);
    assert!(!control.handle_leg_up(NOW, NodeNumber(1), process(1), LegNumber(1), tag, lone_leg()));
    control.leave(NOW);
    assert_eq!(outputs(&mut control).iter().filter(|output| **output == Output::Left).count(), 1);
}

//! Which pairs of nodes have a direct RVI.

use super::*;

#[test]
fn a_pair_with_traffic_gets_one_direct_rvi_and_a_cut_pair_none() {
    //= spec/server.md#grants
    //= type=test
    //# A control node MUST grant a direct RVI only to two attached members of one LAN on different nodes whose pair is
    //# not cut, within its bounds for each node and each pair.
    let mut control = control_node();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    control.handle_command(NOW, Command::Cut { a: NodeNumber(2), b: NodeNumber(1), leg: None });
    burst(&mut control, &mut one, 2);
    assert!(grants(&one.told()).is_empty() && grants(&two.told()).is_empty());
    control.handle_command(NOW, Command::Heal { a: NodeNumber(1), b: NodeNumber(2), leg: None });
    burst(&mut control, &mut one, 2);
    let (ours, theirs) = (grants(&one.told()), grants(&two.told()));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_eq!((ours[0].rvi, ours[0].channel), (theirs[0].rvi, theirs[0].channel));
    assert_eq!((ours[0].peer, theirs[0].peer), (NodeNumber(2), NodeNumber(1)));
    assert_eq!(introduced(&mut control), [LEG], "one leg that both have");
}

#[test]
fn a_sender_without_a_binding_is_told_where_its_destination_is() {
    //= spec/server.md#binding-notices
    //= type=test
    //# A control node MUST answer a relayed frame whose sender has no binding for its destination with a binding
    //# notice.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    ends[0].send(&mut control, mac(2), FrameHeader::UNBOUND);
    let told = ends[0].told();
    let binding = told.iter().find_map(|message| match message {
        ControlMessage::Binding { mac, location } => Some((*mac, location.node, location.generation)),
        _ => None,
    });
    assert_eq!(binding, Some((mac(2), NodeNumber(2), process(2).0)));
}

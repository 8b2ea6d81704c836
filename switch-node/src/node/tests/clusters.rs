//! A node that serves a cluster: what it claims, tells and takes.

use super::*;
use vlan_core::cluster::{CheckKind, CheckResult, Flow, Protocol};
use vlan_core::wire::control::{CheckOrder, Checked, FlowNotice, Listening, ListeningNotice, ServedService};

const CLUSTER_MAC: MacAddress = MacAddress([2, 0, 1, 0, 1, 0]);
const CLUSTER: [u8; 4] = [10, 1, 0, 100];
const CLIENT: [u8; 4] = [10, 1, 0, 2];
const ACK: u8 = 16;

/// A TCP segment between these addresses and ports.
fn segment(macs: (MacAddress, MacAddress), from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut frame = [&macs.0.0[..], &macs.1.0, &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]].concat();
    frame.extend(from.0.iter().chain(&to.0));
    frame.extend(from.1.to_be_bytes().iter().chain(&to.1.to_be_bytes()));
    frame.extend([0; 16]);
    frame[34 + 13] = ACK;
    frame
}

fn flow(client_port: u16) -> Flow {
    Flow { protocol: Protocol::Tcp, client: CLIENT.into(), client_port, address: CLUSTER.into(), port: 80 }
}

fn served() -> ServedCluster {
    let service = ServedService { protocol: Protocol::Tcp, port: 80, is_kept: true };
    ServedCluster { addresses: vec![CLUSTER.into()], services: vec![service] }
}

/// Has a control node make the interface one that serves the cluster.
fn serve(node: &mut Node, control: &mut Far) {
    let config = node.interfaces().next().expect("an interface").config.clone();
    control.tell(node, &ControlMessage::Interface(InterfaceConfig { clusters: vec![served()], ..config }));
    control.told();
}

fn answer(node: &mut Node, client_port: u16) {
    let frame = segment((PEER, OWN), (CLUSTER, 80), (CLIENT, client_port));
    assert_eq!(node.send_frame(NOW, VIF, &Vnet::default(), &frame), Accept::Taken);
    node.publish(NOW);
}

#[test]
fn what_a_server_owns_is_claimed_once_and_told_to_each_control_node_that_accepts_it() {
    //= spec/cluster.md#told-flows
    //= type=test
    //# A node MUST claim every flow that its stacks own at each control node that accepts it, and then say that this was all.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    answer(&mut node, 7);
    assert!(
        control.told().iter().all(|told| !matches!(told, ControlMessage::Claims(_))),
        "it serves nothing"
    );
    serve(&mut node, &mut control);
    answer(&mut node, 7);
    answer(&mut node, 7);
    let claims = |flows| ControlMessage::Claims(FlowNotice { vif: VIF, flows });
    assert_eq!(control.told(), [claims(vec![flow(7)])]);
    let listening = Listening { address: CLUSTER.into(), protocol: Protocol::Tcp, port: 80, listens: true };
    node.handle_listening(NOW, VIF, &[listening]);
    node.handle_listening(NOW, VIF, &[listening]);
    node.publish(NOW);
    assert_eq!(control.told().len(), 1, "said once");
    lose_control(&mut node, 1);
    answer(&mut node, 8);
    let mut next = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[RELAY, ARP]);
    next.accept_with(&mut node, vec![served()]);
    let told = next.told();
    let expected = [
        claims(vec![flow(7), flow(8)]),
        ControlMessage::FlowsTold { vif: VIF },
        ControlMessage::Listening(ListeningNotice { vif: VIF, services: vec![listening] }),
    ];
    assert!(told.ends_with(&expected), "{told:?}");
    // What it serves no more it gives up.
    let config = node.interfaces().next().expect("an interface").config.clone();
    next.tell(&mut node, &ControlMessage::Interface(InterfaceConfig { clusters: vec![], ..config }));
    let gone = FlowNotice { vif: VIF, flows: vec![flow(7), flow(8)] };
    assert!(next.told().contains(&ControlMessage::FlowsGone(gone)));
}

#[test]
fn a_segment_for_the_owner_alone_reaches_no_other_stack() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    answer(&mut node, 7);
    let give = |node: &mut Node, control: &mut Far, bseq, port| {
        let frame = segment((OWN, PEER), (CLIENT, port), (CLUSTER, 80));
        let header = FrameHeader { flags: FrameHeader::OWNER_ONLY, ..header(FrameKind::Relay, bseq) };
        control.send(RELAY, &[&header.emit(frame.len())[..], &frame].concat());
        turn(node);
    };
    give(&mut node, &mut control, 0, 7);
    give(&mut node, &mut control, 1, 8);
    assert_eq!(drops(&node, DropReason::NotOwner), 1);
    let received: u64 = node.interfaces().map(|i| i.counters.received_relay.frames).sum();
    assert_eq!(received, 1);
}

/// Gives a node a client's segment that it is to pass on unless it owns its flow; returns the message.
fn ask(node: &mut Node, control: &mut Far, bseq: u32, port: u16) -> Vec<u8> {
    let frame = segment((OWN, PEER), (CLIENT, port), (CLUSTER, 80));
    let flags = FrameHeader::flags_of_hop(2);
    let message =
        [&FrameHeader { flags, ..header(FrameKind::Relay, bseq) }.emit(frame.len())[..], &frame].concat();
    control.send(RELAY, &message);
    turn(node);
    node.publish(NOW);
    message
}

fn given_back(node: &Node) -> u64 {
    node.interfaces().map(|i| i.counters.given_back.frames).sum()
}

#[test]
fn a_segment_of_a_flow_that_its_stack_does_not_own_goes_back_as_it_came() {
    //= spec/cluster.md#segments-of-unknown-flows
    //= type=test
    //# A driver that is given such a segment to pass on MUST give it back to the control node that it came from, as it came, unless its stack owns the flow.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let asked = ask(&mut node, &mut control, 0, 7);
    assert_eq!(control.take(99), [(RELAY, asked)], "it serves nothing");
    serve(&mut node, &mut control);
    answer(&mut node, 7);
    control.take(99);
    ask(&mut node, &mut control, 1, 7);
    let received = |node: &Node| node.interfaces().map(|i| i.counters.received_relay.frames).sum::<u64>();
    assert_eq!((control.take(99), received(&node)), (vec![], 1), "its own");
    let asked = ask(&mut node, &mut control, 2, 8);
    assert_eq!(control.take(99), [(RELAY, asked)]);
    // Its number was not used up: it may come for good.
    let frame = segment((OWN, PEER), (CLIENT, 8), (CLUSTER, 80));
    control.send(RELAY, &[&header(FrameKind::Relay, 2).emit(frame.len())[..], &frame].concat());
    turn(&mut node);
    assert_eq!((received(&node), given_back(&node)), (2, 2));
}

#[test]
fn what_was_given_back_to_a_control_node_that_is_lost_is_not_sent_again() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    ask(&mut node, &mut control, 0, 8);
    assert_eq!(given_back(&node), 1);
    lose_control(&mut node, 1);
    assert_eq!(node.unsettled(), (0, 0));
    let mut next = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[RELAY, ARP]);
    next.accept_with(&mut node, vec![served()]);
    turn(&mut node);
    node.publish(NOW);
    assert_eq!(next.take(99), []);
}

#[test]
fn a_segment_that_finds_no_way_back_is_counted_and_lost() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    let frame = segment((OWN, PEER), (CLIENT, 8), (CLUSTER, 80));
    let flags = FrameHeader::flags_of_hop(0);
    for bseq in 0..5000 {
        let header = FrameHeader { flags, ..header(FrameKind::Relay, bseq) };
        control.send(RELAY, &[&header.emit(frame.len())[..], &frame].concat());
        turn(&mut node);
    }
    let lost = drops(&node, DropReason::EgressFull);
    assert!(lost > 0, "the control node takes nothing");
    assert_eq!(given_back(&node) + lost, 5000);
}

#[test]
fn as_many_services_as_a_node_may_serve_are_told_of_in_several_messages() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    let address = "fd00:1::100".parse().expect("an address");
    let service = |port| Listening { address, protocol: Protocol::Udp, port, listens: true };
    let services: Vec<_> = (1..=1024).map(service).collect();
    let notice = |message| match message {
        ControlMessage::Listening(notice) => notice.services,
        _ => Vec::new(),
    };
    node.handle_listening(NOW, VIF, &services);
    node.publish(NOW);
    let told: Vec<_> = control.told().into_iter().flat_map(notice).collect();
    assert!(told == services, "{} are told of", told.len());
}

#[test]
fn flows_are_told_as_there_is_room_and_none_is_missed() {
    //= spec/cluster.md#room-for-claims
    //= type=test
    //# A node MUST NOT tell a control node of more flows while 64 KiB of control messages wait for room there, and go on when there is room.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    let claimed = |told: Vec<ControlMessage>| -> Vec<u16> {
        let flows = |message| match message {
            ControlMessage::Claims(notice) => notice.flows,
            _ => Vec::new(),
        };
        told.into_iter().flat_map(flows).map(|flow| flow.client_port).collect()
    };
    let mut live = Vec::new();
    for port in 1..=40_000 {
        answer(&mut node, port);
        // A message for each flow: the control node takes them.
        for _ in 0..if port % 256 == 0 { 8 } else { 0 } {
            live.extend(claimed(control.told()));
            turn(&mut node);
        }
    }
    while live.len() < 40_000 {
        live.extend(claimed(control.told()));
        turn(&mut node);
    }
    assert_eq!(live.len(), 40_000, "each once");
    lose_control(&mut node, 1);
    let mut next = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[RELAY, ARP]);
    next.accept_with(&mut node, vec![served()]);
    let (mut told, mut rounds) = (Vec::new(), 0);
    while !told.contains(&ControlMessage::FlowsTold { vif: VIF }) {
        assert!(node.control[0].association.waiting().control_octets <= 72 * 1024, "{rounds}");
        told.extend(next.told());
        turn(&mut node);
        rounds += 1;
        assert!(rounds < 1000, "it stops");
    }
    assert!(rounds > 3, "in {rounds} rounds");
    told.extend(next.told());
    let mut all = claimed(told);
    all.sort_unstable();
    assert!(all == (1..=40_000).collect::<Vec<_>>(), "{} are told", all.len());
}

#[test]
fn another_interface_says_nothing_of_flows() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    serve(&mut node, &mut control);
    answer(&mut node, 7);
    control.told();
    let config = node.interfaces().next().expect("an interface").config.clone();
    let [relay_channel, arp_channel] = [Channel(40), Channel(41)];
    let (lan, vif, clusters) = (LanId(77), VifNumber(2), vec![]);
    let other = InterfaceConfig { lan, vif, relay_channel, arp_channel, clusters, ..config };
    control.tell(&mut node, &ControlMessage::Interface(other));
    let told = control.told();
    assert!(!told.iter().any(|message| matches!(message, ControlMessage::Claims(_))), "{told:?}");
}

fn asked_checks(node: &mut Node) -> Vec<AskedCheck> {
    let outputs = core::iter::from_fn(|| node.poll_output());
    outputs.filter_map(|output| if let Output::Check(asked) = output { Some(asked) } else { None }).collect()
}

#[test]
fn a_check_is_made_of_what_is_served_here_and_told_to_the_process_that_asked() {
    //= spec/cluster.md#checks
    //= type=test
    //# A node MUST check a service only where its interface serves it, from inside the interface's namespace, with the cluster's address at both ends.
    let order = |vif, address: [u8; 4], port| CheckOrder {
        vif: VifNumber(vif),
        id: 5,
        address: address.into(),
        port,
        within_ms: 750,
        kind: CheckKind::Tcp,
    };
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.tell(&mut node, &ControlMessage::Check(order(1, CLUSTER, 80)));
    assert!(asked_checks(&mut node).is_empty(), "it serves nothing");
    serve(&mut node, &mut control);
    for wrong in [order(2, CLUSTER, 80), order(1, CLIENT, 80), order(1, CLUSTER, 81)] {
        control.tell(&mut node, &ControlMessage::Check(wrong));
    }
    assert!(asked_checks(&mut node).is_empty(), "it serves nothing of that");
    control.tell(&mut node, &ControlMessage::Check(order(1, CLUSTER, 80)));
    let asked = asked_checks(&mut node);
    assert_eq!(asked.iter().map(|asked| asked.order.clone()).collect::<Vec<_>>(), [order(1, CLUSTER, 80)]);
    control.told();
    let result = CheckResult::Status(500);
    node.handle_checked(NOW, &asked[0], result);
    node.publish(NOW);
    let checked = Checked { vif: VIF, id: 5, address: CLUSTER.into(), port: 80, result };
    assert_eq!(control.told(), [ControlMessage::Checked(checked)]);
    // Another process knows nothing of that question.
    lose_control(&mut node, 1);
    let mut next = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[RELAY, ARP]);
    next.accept_with(&mut node, vec![served()]);
    next.told();
    node.handle_checked(NOW, &asked[0], result);
    node.publish(NOW);
    assert_eq!(next.told(), []);
}

/// A node with two control nodes, to which the interface and the cluster are the same.
fn with_two() -> (Node, [Far; 2]) {
    let mut node = Node::new(NodeConfig { control_node_legs: vec![vec![LEG]; 2], ..node().config });
    let mut ends = [0, 1].map(|control| {
        let mut far =
            Far::connect(&mut node, PeerId::ControlNode(control), u64::from(control) + 1, &[RELAY, ARP]);
        far.accept_with(&mut node, vec![served()]);
        far
    });
    let config = node.interfaces().next().expect("an interface").config.clone();
    let config = InterfaceConfig { cluster_addresses: vec![CLUSTER.into()], ..config };
    ends.iter_mut().for_each(|end| end.tell(&mut node, &ControlMessage::Interface(config.clone())));
    ends.iter_mut().for_each(|end| drop(end.told()));
    (node, ends)
}

#[test]
fn packets_for_clusters_go_to_the_control_node_that_has_them_and_others_to_the_first() {
    //= spec/cluster.md#which-control-node
    //= type=test
    //# A node MUST give packets for cluster addresses, and ARP and ND, to the first control node that has accepted it and does not stand by, and everything else to the first that has accepted it.
    let (mut node, mut ends) = with_two();
    let mut sent_to = |node: &mut Node, to: [u8; 4]| {
        let frame = segment((CLUSTER_MAC, OWN), (CLIENT, 7), (to, 80));
        assert_eq!(node.send_frame(NOW, VIF, &Vnet::default(), &frame), Accept::Taken);
        node.publish(NOW);
        ends.iter_mut().map(|end| end.take(10).len()).collect::<Vec<_>>()
    };
    assert_eq!(sent_to(&mut node, CLUSTER), [1, 0]);
    node.handle_cluster_role(NOW, 0, false);
    assert_eq!(sent_to(&mut node, CLUSTER), [0, 1]);
    assert_eq!(sent_to(&mut node, [10, 1, 0, 3]), [1, 0]);
    node.handle_cluster_role(NOW, 1, false);
    assert_eq!(sent_to(&mut node, CLUSTER), [1, 0], "all stand by");
}

#[test]
fn a_control_node_that_takes_its_clusters_over_is_told_all_flows_once_more() {
    //= spec/cluster.md#asked-again
    //= type=test
    //# A node MUST claim every flow that its stacks own once more at a control node that has just taken its clusters over, and then say that this was all.
    let (mut node, [_one, mut two]) = with_two();
    two.tell(&mut node, &ControlMessage::ClusterRole { has: false });
    answer(&mut node, 7);
    let claims = ControlMessage::Claims(FlowNotice { vif: VIF, flows: vec![flow(7)] });
    assert_eq!(two.told(), std::slice::from_ref(&claims), "it hears of flows");
    for expected in [&[claims, ControlMessage::FlowsTold { vif: VIF }][..], &[]] {
        two.tell(&mut node, &ControlMessage::ClusterRole { has: true });
        assert_eq!(two.told(), expected, "said twice it is no news");
    }
}

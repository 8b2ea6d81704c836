//! Frames that come as references: copied out, checked like any other, and left alone when they are gone.

use super::*;
use crate::node::arenas::ARENA_KEEP;
use rvi::{ArenaConfig, ArenaWriter};
use vlan_core::wire::reference::{Place, Reference};

const LAN: LanId = LanId(10);

/// A group frame of the other member, as an arena holds it.
fn message(bseq: u32, len: usize) -> Vec<u8> {
    let header = FrameHeader {
        kind: FrameKind::Group,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(2),
        origin_vif: VIF,
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(22),
        bseq,
    };
    let mut frame = vec![bseq as u8; len];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&PEER.0);
    [&header.emit(len)[..], &frame].concat()
}

/// Keeps the frames.
#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl FrameSink for Frames {
    fn deliver(&mut self, _: VifNumber, _: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        let mut frame = head.to_vec();
        frame.resize(head.len() + rest.len(), 0);
        rest.copy_to(&mut frame[head.len()..]);
        self.0.push(frame);
        Delivery::Taken
    }
}

fn arena(number: u32) -> (ArenaWriter<Region>, Region) {
    let config = ArenaConfig::new(number);
    let memory = Region::heap(config.region_len());
    (ArenaWriter::new(memory.clone(), &config), memory)
}

fn refer(control: &mut Far, arena: u32, place: Place, stay: u16) {
    let reference = Reference { lan: LAN, destination_vif: VIF, arena, place, stay };
    control.send(RELAY, &reference.emit());
}

fn take(node: &mut Node) -> Vec<Vec<u8>> {
    let mut frames = Frames::default();
    node.receive(NOW, 1000, &mut frames);
    node.publish(NOW);
    frames.0
}

fn answers(control: &mut Far) -> Vec<u32> {
    let answer = |message| match message {
        ControlMessage::ArenaReady { lan, arena } => {
            assert_eq!(lan == LAN, arena != 0);
            Some(arena)
        }
        _ => None,
    };
    control.told().into_iter().filter_map(answer).collect()
}

fn attached() -> (Node, Far) {
    let mut node = node();
    node.enable_arenas();
    let control = Far::control(&mut node, 1);
    (node, control)
}

#[test]
fn a_frame_is_taken_from_the_arena_that_its_reference_names() {
    let (mut node, mut control) = attached();
    assert_eq!(answers(&mut control), [0], "it says that it takes arenas");
    let (mut writer, memory) = arena(7);
    assert!(!node.handle_arena(NOW, 0, ProcessId(2), LAN, memory.clone()), "of another process");
    assert!(!node.handle_arena(NOW, 1, ProcessId(1), LAN, memory.clone()), "of no control node");
    assert!(!node.handle_arena(NOW, 0, ProcessId(1), LanId(11), memory.clone()), "of another LAN");
    assert!(!node.handle_arena(NOW, 0, ProcessId(1), LAN, Region::heap(8192)), "no arena");
    assert!(node.handle_arena(NOW, 0, ProcessId(1), LAN, memory));
    node.publish(NOW);
    assert_eq!(answers(&mut control), [7]);
    for (bseq, len) in [(0, 60), (1, 1000), (2, 1514), (3, 225)] {
        let place = writer.put(&[Part::Private(&message(bseq, len))]).expect("room");
        refer(&mut control, 7, place, 1);
        let frames = take(&mut node);
        assert_eq!(frames, [message(bseq, len)[32..].to_vec()]);
    }
    // By another way it would be a duplicate.
    control.send(RELAY, &message(2, 1514));
    assert_eq!(take(&mut node).len(), 0);
    assert_eq!(drops(&node, DropReason::Duplicate), 1);
}

#[test]
fn what_follows_a_message_that_is_gone_is_left_to_the_copies() {
    //= spec/arena.md#stays
    //= type=test
    //# A member that finds a message gone MUST take no other message by a reference of the same stay.
    let (mut node, mut control) = attached();
    let (mut writer, memory) = arena(7);
    assert!(node.handle_arena(NOW, 0, ProcessId(1), LAN, memory));
    let gone = writer.put(&[Part::Private(&message(0, 100))]).expect("room");
    writer.begin_segment();
    let there = writer.put(&[Part::Private(&message(1, 100))]).expect("room");
    for _ in 0..7 {
        writer.begin_segment();
    }
    refer(&mut control, 7, gone, 1);
    refer(&mut control, 7, there, 1);
    assert_eq!(take(&mut node).len(), 0);
    assert_eq!(drops(&node, DropReason::Lapped), 2);
    control.send(RELAY, &message(0, 100));
    control.send(RELAY, &message(1, 100));
    let later = writer.put(&[Part::Private(&message(2, 100))]).expect("room");
    refer(&mut control, 7, later, 2);
    assert_eq!(take(&mut node).len(), 3);
}

#[test]
fn a_reference_to_nothing_or_to_no_group_frame_is_dropped() {
    let (mut node, mut control) = attached();
    let (mut writer, memory) = arena(7);
    assert!(node.handle_arena(NOW, 0, ProcessId(1), LAN, memory.clone()));
    let mut relayed = message(0, 100);
    relayed[0] = 3;
    let place = writer.put(&[Part::Private(&relayed)]).expect("room");
    let nothing = Place { offset: 64 * 100, ..place };
    let outside = Place { offset: u32::MAX - 63, ..place };
    let cut = Place { len: 20, ..place };
    for place in [place, nothing, outside, cut] {
        refer(&mut control, 7, place, 1);
    }
    control.send(RELAY, &[7, 0x80, 0, 1, 0, 0, 0, 0]);
    assert_eq!(take(&mut node).len(), 0);
    assert_eq!(drops(&node, DropReason::Malformed), 5);
    refer(&mut control, 8, place, 1);
    assert_eq!(take(&mut node).len(), 0);
    assert_eq!(drops(&node, DropReason::Lapped), 1);
}

#[test]
fn a_node_holds_two_arenas_of_a_lan_and_none_of_a_session_that_is_over() {
    //= spec/arena.md#arenas-of-a-node
    //= type=test
    //# A node MUST hold at most two arenas of a LAN for each control node.
    let (mut node, mut control) = attached();
    let mut arenas: Vec<_> = (1..=3).map(arena).collect();
    for (_, memory) in &arenas {
        assert!(node.handle_arena(NOW, 0, ProcessId(1), LAN, memory.clone()));
    }
    assert_eq!(arenas.iter().map(|(_, memory)| memory.clones()).collect::<Vec<_>>(), [2, 3, 3]);
    for (bseq, (writer, _)) in (0..).zip(&mut arenas) {
        let place = writer.put(&[Part::Private(&message(bseq, 100))]).expect("room");
        refer(&mut control, bseq + 1, place, 1);
    }
    assert_eq!((take(&mut node).len(), drops(&node, DropReason::Lapped)), (2, 1));
    lose_control(&mut node, 1);
    assert!(arenas.iter().all(|(_, memory)| memory.clones() == 2));
}

#[test]
fn who_leaves_a_lan_and_comes_again_keeps_the_arena_that_it_was_given_meanwhile() {
    //= spec/arena.md#the-end-of-a-membership
    //= type=test
    //# A node MUST give the arenas of a LAN back a second after its last interface there was taken away, unless it has another one then.
    let (mut node, mut control) = attached();
    let mut config = node.interfaces().next().expect("an interface").config.clone();
    let (relay, vif) = (Channel(3), VifNumber(VIF.0 + 1));
    (config.relay_channel, config.arp_channel, config.vif) = (relay, Channel(4), vif);
    control.0.open_channel(relay);
    let (mut writer, memory) = arena(7);
    // It has not heard yet that it had left.
    assert!(node.handle_arena(NOW, 0, ProcessId(1), LAN, memory.clone()));
    control.tell(&mut node, &ControlMessage::InterfaceRemoved { vif: VIF });
    control.tell(&mut node, &ControlMessage::Interface(config));
    let other = MemberNotice {
        lan: LAN,
        node: NodeNumber(2),
        vif: VIF,
        mac: PEER,
        process: ProcessId(22),
        attached: true,
    };
    control.tell(&mut node, &ControlMessage::Member(other));
    let second = NOW + Duration::from_secs(1);
    node.handle_timeout(second);
    let place = writer.put(&[Part::Private(&message(0, 300))]).expect("room");
    let reference = Reference { lan: LAN, destination_vif: vif, arena: 7, place, stay: 1 };
    control.send(relay, &reference.emit());
    assert_eq!(take(&mut node).len(), 1);
    // It leaves for good.
    control.tell(&mut node, &ControlMessage::InterfaceRemoved { vif });
    assert_eq!((node.poll_timeout().is_some_and(|at| at <= second), memory.clones()), (true, 3));
    node.handle_timeout(second);
    assert_eq!(memory.clones(), 2);
}

#[test]
fn the_arenas_of_a_lan_do_not_wait_for_those_of_another() {
    let (mut node, mut control) = attached();
    let mut config = node.interfaces().next().expect("an interface").config.clone();
    (config.lan, config.vif) = (LanId(11), VifNumber(VIF.0 + 1));
    (config.mac, config.relay_channel, config.arp_channel) = (PEER, Channel(3), Channel(4));
    control.tell(&mut node, &ControlMessage::Interface(config));
    let given = [(LAN, 7), (LanId(11), 8)].map(|(lan, number)| {
        let (_, memory) = arena(number);
        assert!(node.handle_arena(NOW, 0, ProcessId(1), lan, memory.clone()));
        memory
    });
    let held = || given.each_ref().map(|memory| memory.clones() - 1);
    let [first, second] = [0, 600].map(|ms| NOW + Duration::from_millis(ms));
    node.remove_interface(first, VIF);
    node.remove_interface(second, VifNumber(VIF.0 + 1));
    assert!(node.poll_timeout().is_some_and(|at| at <= first + ARENA_KEEP));
    node.unmap_arenas(first + ARENA_KEEP);
    assert_eq!(held(), [0, 1]);
    node.unmap_arenas(second + ARENA_KEEP);
    assert_eq!((held(), node.unmaps.len()), ([0, 0], 0));
}

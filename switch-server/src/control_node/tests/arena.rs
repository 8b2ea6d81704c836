//! Group frames that are written once: when there is an arena, who reads it, and what becomes of one who falls behind.

use core::time::Duration;

use super::*;
use rvi::{ArenaConfig, ArenaReader};
use vlan_core::wire::Reference;

const LATER: Instant = Instant::from_nanos(200_000_000);
const FRAME_LEN: usize = 1000;

/// What came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Copy(u32),
    Reference(u32),
    /// A reference that a member does not follow.
    Gone,
}

struct Lan {
    control: ControlNode,
    ends: Vec<End>,
    memory: Option<Region>,
    reader: Option<ArenaReader<Region>>,
    /// The stay that has ended, by end.
    ended: Vec<Option<u16>>,
}

impl Lan {
    fn new(shm: &ShmConfig) -> Self {
        Self::of(control_node(), shm)
    }

    /// Three members that take arenas, the third with rings of a size.
    fn of(mut control: ControlNode, shm: &ShmConfig) -> Self {
        let large = ShmConfig::default();
        let connect =
            |node| End::connect(&mut control, node, process(node), if node == 3 { shm } else { &large });
        let mut ends: Vec<End> = (1..=3).map(connect).collect();
        for end in &mut ends {
            end.register(&mut control);
            end.tell(&mut control, &ControlMessage::ArenaReady { lan: LanId(0), arena: 0 });
        }
        ends.iter_mut().for_each(|end| drop(end.arrived()));
        Self { control, ends, memory: None, reader: None, ended: vec![None; 3] }
    }

    fn with_arena(shm: &ShmConfig) -> Self {
        let mut lan = Self::new(shm);
        lan.provide_arena();
        lan
    }

    /// The LAN gets an arena that all members read.
    fn provide_arena(&mut self) {
        let config = self.wanted().expect("a burst is worth an arena");
        self.give(&config);
        for node in [1, 2, 3] {
            self.ready(node, config.number);
        }
    }

    /// One broadcast of the first end.
    fn broadcast(&mut self, len: usize) {
        self.ends[0].queue(MacAddress([0xff; 6]), 0, len);
        self.control.pump(LATER, 1000);
        drop(self.ends[0].arrived());
    }

    /// Sends until an arena is asked for, and takes what came.
    fn wanted(&mut self) -> Option<ArenaConfig> {
        (0..100).find_map(|_| {
            self.broadcast(FRAME_LEN);
            (2..=3).for_each(|node| drop(self.take(node)));
            outputs(&mut self.control).into_iter().find_map(|output| match output {
                Output::MakeArena { lan: LAN, config } => Some(config),
                _ => None,
            })
        })
    }

    fn give(&mut self, config: &ArenaConfig) -> Vec<u16> {
        let memory = Region::heap(config.region_len());
        let given = self.control.handle_arena(LAN, config, memory.clone());
        if !given.is_empty() {
            self.reader = Some(ArenaReader::new(memory.clone(), memory.len()).expect("formatted"));
            self.memory = Some(memory);
        }
        given.into_iter().map(|(node, ..)| node.0).collect()
    }

    fn ready(&mut self, node: u16, arena: u32) {
        let ready = ControlMessage::ArenaReady { lan: LAN, arena };
        self.ends[usize::from(node) - 1].tell(&mut self.control, &ready);
    }

    /// Everything that has come to a node, taken as a driver takes it.
    fn take(&mut self, node: u16) -> Vec<Came> {
        let at = usize::from(node) - 1;
        let arrived = self.ends[at].arrived();
        let data = arrived.into_iter().filter(|(channel, _)| *channel == RELAY);
        data.map(|(_, octets)| self.came(at, &octets)).collect()
    }

    fn came(&mut self, at: usize, octets: &[u8]) -> Came {
        if let Ok(header) = FrameHeader::parse(octets, octets.len()) {
            assert_eq!((header.kind, header.destination_vif), (FrameKind::Group, VifNumber(1)));
            return Came::Copy(header.bseq);
        }
        let reference = Reference::parse(octets, octets.len()).expect("a frame or a reference");
        assert_eq!((reference.lan, reference.destination_vif), (LAN, VifNumber(1)));
        let reader = self.reader.as_ref().expect("an arena");
        assert_eq!(reference.arena, reader.number());
        let mut private = Vec::new();
        if self.ended[at] == Some(reference.stay) {
            return Came::Gone;
        }
        let Ok(octets) = reader.read(&reference.place, &mut private) else {
            self.ended[at] = Some(reference.stay);
            return Came::Gone;
        };
        let header = FrameHeader::parse(octets, octets.len()).expect("a frame");
        assert_eq!(
            (header.kind, header.origin, header.destination_vif),
            (FrameKind::Group, NodeNumber(1), VifNumber(0))
        );
        assert!(octets[32..].starts_with(&[0xff; 6]) && octets[32 + 15..].iter().all(|octet| *octet == 0));
        Came::Reference(header.bseq)
    }

    fn arena(&self) -> ArenaStatus {
        self.control.status().lans[0].arena
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.control.status().lans[0].drops.of(reason)
    }
}

/// The numbers of the frames that a driver delivers of what came: each once, and none that is older than one it had.
fn delivered(came: &[Came]) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    for came in came {
        if let Came::Copy(number) | Came::Reference(number) = *came
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    assert!(numbers.is_sorted(), "frames out of order");
    numbers
}

#[test]
fn a_burst_of_group_frames_is_written_once_for_those_who_have_the_arena() {
    //= spec/arena.md#who-gets-references
    //= type=test
    //# A control node MUST give references only to members whose node has said that it has mapped the arena.
    let mut lan = Lan::new(&ShmConfig::default());
    let config = lan.wanted().expect("a burst is worth an arena");
    assert!(lan.give(&ArenaConfig::new(config.number + 1)).is_empty(), "another one was asked for");
    assert_eq!(lan.give(&config), [1, 2, 3]);
    let next = lan.ends[0].bseq;
    lan.broadcast(FRAME_LEN);
    assert_eq!((lan.take(2), lan.take(3)), (vec![Came::Copy(next)], vec![Came::Copy(next)]));
    lan.ready(2, config.number);
    lan.broadcast(FRAME_LEN);
    assert_eq!(lan.take(2), [Came::Reference(next + 1)]);
    assert_eq!(lan.take(3), [Came::Copy(next + 1)]);
    lan.ready(1, config.number);
    lan.broadcast(FRAME_LEN);
    assert_eq!((lan.take(2), lan.take(3)), (vec![Came::Reference(next + 2)], vec![Came::Copy(next + 2)]));
    lan.ready(3, config.number);
    lan.broadcast(FRAME_LEN);
    assert_eq!(
        (lan.take(2), lan.take(3)),
        (vec![Came::Reference(next + 3)], vec![Came::Reference(next + 3)])
    );
    let arena = lan.arena();
    assert_eq!((arena.members, arena.references, arena.evictions), (3, 4, 0));
    assert_eq!(lan.control.status().lans[0].ledger.clones, u64::from(next + 4));
}

#[test]
fn a_node_that_cannot_map_an_arena_is_given_none() {
    //= spec/arena.md#saying-so
    //= type=test
    //# A node that can map arenas MUST say so to each control node that has accepted it.
    let mut control = control_node();
    let mut ends: Vec<End> = (1..=3).map(|node| member(&mut control, node)).collect();
    for _ in 0..200 {
        ends[0].queue(MacAddress([0xff; 6]), 0, FRAME_LEN);
        control.pump(LATER, 1000);
        assert!(!outputs(&mut control).iter().any(|output| matches!(output, Output::MakeArena { .. })));
        ends.iter_mut().for_each(|end| drop(end.arrived()));
    }
}

#[test]
fn a_node_that_has_not_answered_is_given_no_second_arena() {
    let mut lan = Lan::new(&ShmConfig::default());
    let config = lan.wanted().expect("an arena");
    assert_eq!(lan.give(&config), [1, 2, 3]);
    lan.ready(1, config.number);
    lan.ready(2, config.number);
    lan.control.lans[0].arena.end(NOW, &ArenaPolicy::default());
    let config = lan.wanted().expect("an arena");
    assert_eq!(lan.give(&config), [1, 2]);
}

#[test]
fn nobody_reads_what_was_sent_before_he_came_or_after_he_went() {
    //= spec/arena.md#members-that-come-and-go
    //= type=test
    //# When a member joins or leaves a LAN, its control node MUST NOT write another frame into the arena that the LAN had.
    for joins in [false, true] {
        let mut lan = Lan::with_arena(&ShmConfig::default());
        if joins {
            lan.control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
            lan.control.pump(NOW, 1000);
            lan.control.ask_for_arena(0);
            let config = lan.control.lans[0].arena.asked().expect("it was asked for");
            assert_eq!(lan.give(&config), [1, 2]);
            (1..=2).for_each(|node| lan.ready(node, config.number));
        }
        lan.broadcast(FRAME_LEN);
        assert!(matches!(lan.take(2)[..], [Came::Reference(_)]));
        let memory = lan.memory.clone().expect("an arena");
        let content = |memory: &Region| {
            let mut octets = vec![0; memory.len()];
            memory.read(0, &mut octets);
            octets
        };
        let before = content(&memory);
        if joins {
            let mut end = End::connect(&mut lan.control, 3, ProcessId(999), &ShmConfig::default());
            end.tell(&mut lan.control, &super::register(3, ProcessId(999)));
        } else {
            lan.control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
            lan.control.pump(NOW, 1000);
        }
        let next = lan.ends[0].bseq;
        lan.broadcast(FRAME_LEN);
        assert_eq!(lan.take(2), [Came::Copy(next)]);
        assert_eq!(content(&memory), before, "joins: {joins}");
        assert_eq!(lan.arena().octets, 0);
    }
}

#[test]
fn only_what_everybody_gets_goes_in() {
    //= spec/arena.md#what-goes-in
    //= type=test
    //# A control node MUST put only frames into an arena that every attached member of the LAN gets, but its sender.
    let mut lan = Lan::with_arena(&ShmConfig::default());
    let used = lan.arena().used;
    // To a group that nobody has joined, and to one member.
    for to in [[1, 0, 0x5e, 1, 1, 1], mac(2).0] {
        let mut frame = vec![0; FRAME_LEN];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&mac(1).0);
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[16..18].copy_from_slice(&(FRAME_LEN as u16 - 14).to_be_bytes());
        (frame[22], frame[23]) = (64, 17);
        frame[30..34].copy_from_slice(&[239, 1, 1, 1]);
        lan.ends[0].queue_frame(MacAddress(to), 0, &frame);
        lan.control.pump(LATER, 1000);
    }
    assert_eq!(lan.arena().used, used);
    // A short one too: in order with the others.
    lan.broadcast(60);
    assert_eq!(lan.arena().used, used + 128);
}

#[test]
fn what_comes_from_outside_is_copied_to_everybody() {
    //= spec/arena.md#frames-without-numbers
    //= type=test
    //# A control node MUST NOT put a frame into an arena that comes from outside.
    let mut lan = Lan::of(uplink::filtered(), &ShmConfig::default());
    lan.provide_arena();
    let before = lan.arena();
    let body = uplink::packet(uplink::OUTSIDE_IP, [255; 4], FRAME_LEN as u16);
    let mut frame = uplink::frame(MacAddress::BROADCAST, uplink::OUTSIDER, 0x0800, &body);
    lan.control.handle_outside(LATER, uplink::DEVICE, &Vnet::default(), &mut frame);
    lan.control.pump(LATER, 1000);
    assert_eq!([1, 2, 3].map(|node| lan.take(node)), [(); 3].map(|()| vec![Came::Copy(0)]));
    assert_eq!((lan.arena().used, lan.arena().references), (before.used, before.references));
    lan.broadcast(FRAME_LEN);
    assert_eq!(lan.arena().references, before.references + 2, "what a member sends goes in still");
}

#[test]
fn a_segment_is_written_again_behind_the_slowest_member() {
    //= spec/arena.md#reuse
    //= type=test
    //# A control node MUST NOT begin a segment again before every member has settled the references to it that it was given, or
    //# has been evicted.
    let mut lan = Lan::with_arena(&ShmConfig::default());
    let first = lan.ends[0].bseq;
    let (mut came, mut slow) = (Vec::new(), Vec::new());
    // Three laps; the third end takes what came only now and then, but in time.
    for sent in 0..6000 {
        lan.broadcast(FRAME_LEN);
        came.extend(lan.take(2));
        if sent % 1000 == 0 {
            slow.extend(lan.take(3));
        }
    }
    slow.extend(lan.take(3));
    let expected: Vec<u32> = (first..first + 6000).collect();
    for came in [came, slow] {
        assert!(came.iter().all(|came| matches!(came, Came::Reference(_))));
        assert_eq!(delivered(&came), expected);
    }
    assert_eq!(lan.arena().evictions, 0);
}

#[test]
fn a_member_that_takes_nothing_is_evicted_and_loses_only_what_finds_no_room() {
    //= spec/arena.md#evicted-members
    //= type=test
    //# A control node MUST copy what an evicted member may not have taken to the member's own queue, or count it as egress-full,
    //# and MUST publish the copies before it writes over any of it.
    //= spec/arena.md#stays
    //= type=test
    //# A member that finds a message gone MUST take no other message by a reference of the same stay.
    let mut lan = Lan::with_arena(&ShmConfig::default());
    let first = lan.ends[0].bseq;
    let mut came = Vec::new();
    let mut sent = 0;
    while lan.arena().evictions == 0 {
        lan.broadcast(FRAME_LEN);
        came.extend(lan.take(2));
        sent += 1;
        assert!(sent < 3000, "2 MiB hold fewer frames");
    }
    let lost = lan.drops(DropReason::EgressFull);
    let slow = lan.take(3);
    let copies = slow.iter().filter(|came| matches!(came, Came::Copy(_))).count() as u64;
    // What was published is there at once; what was parked comes with the next batches.
    assert!(copies > 500 && slow.contains(&Came::Gone), "{copies} copies");
    let mut slow = slow;
    for _ in 0..10 {
        lan.broadcast(FRAME_LEN);
        came.extend(lan.take(2));
        slow.extend(lan.take(3));
        sent += 1;
    }
    let numbers = delivered(&slow);
    assert_eq!(numbers.len() as u64 + lost, sent, "{lost} lost");
    assert_eq!(delivered(&came), (first..first + sent as u32).collect::<Vec<_>>());
    // It has taken all it had: from the next segment on it reads the arena again.
    for _ in 0..600 {
        lan.broadcast(FRAME_LEN);
        came.extend(lan.take(2));
        slow.extend(lan.take(3));
        sent += 1;
    }
    assert!(matches!(slow.last(), Some(Came::Reference(_))));
    assert_eq!(delivered(&slow).len() as u64 + lost, sent);
    assert_eq!((lan.arena().members, lan.arena().evictions), (3, 1));
}

#[test]
fn a_frame_that_is_longer_than_a_segment_is_copied_behind_what_it_follows() {
    let mut lan = Lan::new(&ShmConfig::default());
    let config = lan.wanted().expect("an arena");
    lan.give(&ArenaConfig { segment_len: 4096, ..config });
    (1..=3).for_each(|node| lan.ready(node, config.number));
    let first = lan.ends[0].bseq;
    let mut came = Vec::new();
    for round in 0..20 {
        for len in [FRAME_LEN, 5000, 1400] {
            lan.broadcast(len);
        }
        // Now in time, now too late.
        if round % 5 != 0 {
            came.extend(lan.take(2));
        }
        drop(lan.take(3));
    }
    lan.broadcast(60);
    came.extend(lan.take(2));
    assert!(came.iter().any(|came| matches!(came, Came::Reference(_))));
    let lost = lan.drops(DropReason::EgressFull);
    assert_eq!(delivered(&came).len() as u64 + lost, 61, "{lost} lost");
    assert_eq!(delivered(&came).last(), Some(&(first + 60)));
}

#[test]
fn a_member_whose_ring_is_full_gets_copies_behind_its_references() {
    //= spec/arena.md#full-rings
    //= type=test
    //# When a reference finds no room at once, a control node MUST give the member copies until it has settled the references
    //# that it has.
    let mut lan = Lan::with_arena(&ShmConfig { slots_log2: 5, arena_len: 1 << 18 });
    let first = lan.ends[0].bseq;
    for _ in 0..50 {
        lan.broadcast(FRAME_LEN);
        drop(lan.take(2));
    }
    let mut slow = lan.take(3);
    assert!(slow.iter().all(|came| matches!(came, Came::Reference(_))) && slow.len() == 32);
    for _ in 0..3 {
        lan.control.pump(LATER + Duration::from_millis(1), 1000);
        slow.extend(lan.take(3));
    }
    assert!(slow[32..].iter().all(|came| matches!(came, Came::Copy(_))));
    assert_eq!(delivered(&slow), (first..first + 50).collect::<Vec<_>>());
}

#[test]
fn what_is_written_over_while_later_frames_wait_is_lost_and_counted() {
    let mut lan = Lan::with_arena(&ShmConfig { slots_log2: 5, arena_len: 1 << 18 });
    for sent in 0..3000 {
        lan.broadcast(FRAME_LEN);
        drop(lan.take(2));
        // What waits for longer than 50 ms expires, or its sender had no room.
        lan.control.handle_timeout(LATER + sent * Duration::from_micros(200));
    }
    assert_eq!(lan.arena().evictions, 1);
    let mut slow = lan.take(3);
    assert!(slow.iter().all(|came| *came == Came::Gone) && slow.len() == 32);
    for _ in 0..100 {
        lan.control.pump(LATER + Duration::from_millis(600), 1000);
        slow.extend(lan.take(3));
    }
    let lost = lan.drops(DropReason::EgressFull) + lan.drops(DropReason::Expired);
    assert_eq!(delivered(&slow).len() as u64 + lost, 3000, "{lost} lost");
}

#[test]
fn what_a_dead_member_was_told_of_is_counted() {
    let mut lan = Lan::with_arena(&ShmConfig::default());
    let before = lan.drops(DropReason::PeerGone);
    for _ in 0..5 {
        lan.broadcast(FRAME_LEN);
    }
    lan.control.handle_leg_gone(NOW, NodeNumber(3), process(3), LEG);
    lan.control.pump(LATER, 1000);
    assert_eq!(lan.drops(DropReason::PeerGone), before + 5);
}

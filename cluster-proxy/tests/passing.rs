//! Segments of unknown flows go from server to server: to the owner if there is one, and nobody can have others passed on.

#[path = "cluster/world.rs"]
mod world;

use std::time::Duration;

use cluster_proxy::*;
use vlan_core::random::Random;
use vlan_core::server::MemberSlot;
use vlan_core::wire::{FrameHeader, FrameKind, Vnet};
use vlan_core::{BootTag, DropReason, LanId, NodeNumber, VifNumber};
use world::*;

/// The header of a client's segment.
fn header(bseq: u32) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Relay,
        flags: 0,
        lan: LanId(1),
        origin: NodeNumber(50),
        origin_vif: VifNumber(3),
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(9),
        bseq,
    }
}

fn web(servers: u16) -> World {
    web_with(servers, 8192)
}

/// One that remembers so many segments.
fn web_with(servers: u16, passed_max: usize) -> World {
    World::with(&config(vec![service(WEB, Balance::Hash, servers)]), &Limits { passed_max, ..LIMITS })
}

impl World {
    /// How servers are given a frame that comes, or that a server gives back.
    fn manner(
        &mut self,
        back: Option<u16>,
        header: &FrameHeader,
        frame: &[u8],
    ) -> Result<Manner, DropReason> {
        let verdict = match back {
            Some(from) => self.proxy.handle_given_back(self.now, MemberSlot(from), header, frame),
            None => self.proxy.handle(self.now, &header.vnet, frame),
        };
        let forward = match verdict {
            Verdict::Forward(forward) => forward,
            Verdict::Dropped(reason) => return Err(reason),
            other => panic!("{other:?}"),
        };
        Ok(self.proxy.manner(self.now, &forward, header, frame))
    }

    /// Who is asked about a segment one after the other, while nobody owns its flow but `owner`; and who has it in the end.
    fn walk(&mut self, flow: &Flow, header: &FrameHeader, owner: u16) -> (Vec<u16>, u16) {
        let (frame, mut asked, mut back) = (segment(flow, ACK), Vec::new(), None);
        let mut header = *header;
        loop {
            match self.manner(back, &header, &frame).expect("it goes on") {
                Manner::PassOn(MemberSlot(to), hop) => {
                    assert_eq!(usize::from(hop), asked.len());
                    asked.push(to);
                    if to == owner {
                        return (asked, to);
                    }
                    (back, header.flags) = (Some(to), FrameHeader::flags_of_hop(hop));
                }
                Manner::Plain(MemberSlot(to)) => return (asked, to),
                Manner::OwnerOnly(servers) => panic!("{servers:?} at once"),
            }
        }
    }
}

#[test]
fn a_segment_is_passed_on_until_the_owner_of_its_flow_has_it_and_else_refused_by_the_first() {
    //= spec/cluster.md#segments-of-unknown-flows
    //= type=test
    //# A TCP segment of a flow that is neither claimed nor remembered, and begins none, MUST go to the servers of its row in turn, until one owns it; there MUST NOT be more than 4.
    //= spec/cluster.md#segments-of-unknown-flows
    //= type=test
    //# A control node MUST pass a segment that comes back on to the owner of its flow if it has one by now, else to the next server of the list, worked out anew, and where all have been asked to the server that had the flow when it was lost, or else to the first.
    for servers in [2, 3, 4, 9] {
        let mut world = web(servers);
        for port in 1..60 {
            let flow = flow(WEB, port);
            let (asked, last) = world.walk(&flow, &header(port.into()), 0);
            assert!(asked.len() == usize::from(servers) || servers == 9 && (2..=4).contains(&asked.len()));
            assert_eq!(last, asked[0], "nobody's: as a first one without a table");
            for owner in asked {
                let (_, to) = world.walk(&flow, &header(port.into()), owner);
                assert_eq!(to, owner);
            }
        }
        world.check_ledger();
    }
    let mut alone = web(1);
    assert_eq!(alone.walk(&flow(WEB, 1), &header(1), 0), (vec![], 1), "nobody else to ask");
}

#[test]
fn a_flow_is_found_whatever_drains_and_whoever_comes_meanwhile() {
    let mut random = Random::new(7);
    for round in 0..200_u32 {
        let mut world = web(4);
        let flows: Vec<Flow> = (1..20).map(|port| flow(WEB, port)).collect();
        // They are never claimed: as if there were no room.
        let owners: Vec<u16> = flows.iter().map(|flow| world.syn(flow)).collect();
        world.wait(Duration::from_secs(5));
        for server in 1..=4 {
            if random.below(3) == 0 {
                world.proxy.drain(MemberSlot(server), None);
            }
        }
        let mut service = service(WEB, Balance::Hash, 4);
        service.servers.iter_mut().for_each(|server| server.weight = 1 + random.below(9) as u16);
        world.proxy.apply(world.now, Box::new(tables(&config(vec![service]))));
        for (flow, owner) in flows.iter().zip(owners) {
            assert_eq!(world.walk(flow, &header(round), owner).1, owner, "{flow:?} in round {round}");
        }
    }
}

#[test]
fn nothing_comes_back_but_what_was_given_and_only_once() {
    //= spec/cluster.md#segments-that-come-back
    //= type=test
    //# A control node MUST take a segment back once, within 100 ms, from the server that it gave it to, with the same header and the same octets behind its destination, while the list up to that server is what it was; any other MUST be dropped as `not-given`.
    let mut world = web(4);
    let (frame, given) = (segment(&flow(WEB, 1), ACK), header(1));
    let give = |world: &mut World| match world.manner(None, &given, &frame) {
        Ok(Manner::PassOn(MemberSlot(to), 0)) => to,
        other => panic!("{other:?}"),
    };
    let refused = Err(DropReason::NotGiven);
    let asked = FrameHeader { flags: FrameHeader::flags_of_hop(0), ..given };
    let to = give(&mut world);
    let others = (0..=5).filter(|other| *other != to);
    others
        .for_each(|other| assert_eq!(world.manner(Some(other), &asked, &frame), refused, "{other} has none"));
    let forged = [
        FrameHeader { flags: FrameHeader::flags_of_hop(1), ..asked },
        FrameHeader { flags: FrameHeader::flags_of_hop(3), ..asked },
        FrameHeader { flags: asked.flags | FrameHeader::RESENT, ..asked },
        FrameHeader { flags: 0, ..asked },
        FrameHeader { lan: LanId(2), ..asked },
        FrameHeader { origin: NodeNumber(51), ..asked },
        FrameHeader { origin_vif: VifNumber(4), ..asked },
        FrameHeader { vnet: Vnet { flags: Vnet::DATA_VALID, ..asked.vnet }, ..asked },
        FrameHeader { boot: BootTag(8), ..asked },
        FrameHeader { bseq: 2, ..asked },
    ];
    for header in forged {
        assert_eq!(world.manner(Some(to), &header, &frame), refused, "{header:?}");
    }
    for at in 6..frame.len() {
        let mut other = frame.clone();
        other[at] ^= 1;
        assert_eq!(world.manner(Some(to), &asked, &other), refused, "octet {at}");
    }
    assert_eq!(world.manner(Some(to), &asked, &[&frame[..], &[0]].concat()), refused);
    // The destination was this server's MAC. It comes back once.
    let mut back = frame.clone();
    back[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    assert!(matches!(world.manner(Some(to), &asked, &back), Ok(Manner::PassOn(next, 1)) if next.0 != to));
    assert_eq!(world.manner(Some(to), &asked, &back), refused);
    // Too late, and after a change of who may own it.
    give(&mut world);
    world.wait(Duration::from_millis(101));
    assert_eq!(world.manner(Some(to), &asked, &back), refused);
    give(&mut world);
    world.proxy.drain(MemberSlot(to), None);
    assert_eq!(world.manner(Some(to), &asked, &back), refused, "others are asked first now");
    assert!(world.proxy.counters().given_back.frames > 20);
    world.check_ledger();
}

#[test]
fn who_has_claimed_the_flow_meanwhile_gets_the_segment() {
    let mut world = web(4);
    let flow = flow(WEB, 1);
    let (frame, given) = (segment(&flow, ACK), header(1));
    let Ok(Manner::PassOn(to, 0)) = world.manner(None, &given, &frame) else { panic!("it is asked about") };
    let owner = world.establish(&flow);
    let asked = FrameHeader { flags: FrameHeader::flags_of_hop(0), ..given };
    assert_eq!(world.manner(Some(to.0), &asked, &frame), Ok(Manner::Plain(MemberSlot(owner))));
}

#[test]
fn what_nobody_owns_goes_to_the_server_that_had_it_when_it_was_lost() {
    let mut world = web(3);
    let mut found = 0;
    for port in 1..30 {
        let flow = flow(WEB, port);
        let owner = world.establish(&flow);
        let other = MemberSlot(1 + owner % 3);
        // Its row begins with another one when it is back, with nothing in its driver.
        world.proxy.set_reachable(world.now, MemberSlot(owner), false);
        world.proxy.set_reachable(world.now, MemberSlot(owner), true);
        world.proxy.handle_told(world.now, MemberSlot(owner));
        world.proxy.drain(MemberSlot(owner), None);
        let (asked, last) = world.walk(&flow, &header(port.into()), 0);
        assert_eq!(last, owner);
        found += usize::from(asked[0] == other.0);
        world.proxy.undrain(MemberSlot(owner));
    }
    assert!(found > 5, "{found} of them have another first server");
}

#[test]
fn a_flood_of_segments_of_no_flow_goes_without_refusals_and_takes_no_more_room() {
    //= spec/cluster.md#segments-that-come-back
    //= type=test
    //# A proxy MUST NOT begin to give more than 50,000 segments or 600 Mbit a second to be passed on; those beyond that number, those that it has no room to remember, and first fragments, go to all servers of the list that are left at once, for the flow's owner alone.
    let all = |manner| match manner {
        Ok(Manner::OwnerOnly(servers)) => servers.as_slice().len(),
        Ok(Manner::PassOn(..)) => 0,
        other => panic!("{other:?}"),
    };
    let frame = segment(&flow(WEB, 1), ACK);
    let mut world = web_with(4, 64);
    let counts: Vec<_> = (0..2000).map(|n| all(world.manner(None, &header(n), &frame))).collect();
    let passed = counts.iter().filter(|count| **count == 0).count();
    assert!((40..=64).contains(&passed), "{passed} found one of 64 places");
    assert!(counts.iter().all(|count| [0, 4].contains(count)));
    // What comes back makes room.
    let mut world = web_with(4, 64);
    let mut passed = 0;
    for n in 0..20_000 {
        let mut next = world.manner(None, &header(n), &frame);
        while let Ok(Manner::PassOn(to, hop)) = next {
            passed += usize::from(hop == 0);
            let asked = FrameHeader { flags: FrameHeader::flags_of_hop(hop), ..header(n) };
            next = world.manner(Some(to.0), &asked, &frame);
        }
        assert!(matches!(next, Ok(Manner::Plain(_) | Manner::OwnerOnly(_))), "{next:?}");
    }
    assert!((4900..5100).contains(&passed), "{passed} at once, as many as in 100 ms, each at all servers");
    let mut first = segment(&flow(WEB, 1), ACK);
    first[20..22].copy_from_slice(&[0x20, 0]);
    assert_eq!(all(web(4).manner(None, &header(1), &first)), 4);
}

#[test]
fn nobody_is_asked_one_after_the_other_while_some_server_may_have_something_to_tell() {
    let mut world = web(3);
    world.proxy.set_reachable(world.now, MemberSlot(1), false);
    let frame = segment(&flow(WEB, 1), ACK);
    let Ok(Manner::PassOn(to, 0)) = world.manner(None, &header(1), &frame) else { panic!("two are asked") };
    world.proxy.set_reachable(world.now, MemberSlot(1), true);
    let Ok(Manner::OwnerOnly(servers)) = world.manner(None, &header(2), &frame) else { panic!("it tells") };
    assert_eq!(servers.as_slice().len(), 3);
    // Of what is under way the rest goes to its owner alone, or is lost where the list is another now.
    let asked = FrameHeader { flags: FrameHeader::flags_of_hop(0), ..header(1) };
    let rest = world.manner(Some(to.0), &asked, &frame);
    assert!(matches!(rest, Ok(Manner::OwnerOnly(_)) | Err(DropReason::NotGiven)), "{rest:?}");
}

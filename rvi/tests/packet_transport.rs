//! Two transports over a bad network: exactly once, in lane order, and always on.

#[path = "packet_transport/network.rs"]
mod network;
#[path = "packet_transport/path_length.rs"]
mod path_length;

use std::time::Duration;

use network::{DATA, Wish, World, leg};
use rvi::packet::receiver::ReceiverConfig;
use rvi::packet::sender::{PacketLegState, PacketScheduler, TransportEvent, WaitPolicy};
use rvi::packet::transport::TransportConfig;
use vlan_core::{Channel, Instant};

fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both hosts poll.
fn polling(scheduler: PacketScheduler) -> TransportConfig {
    TransportConfig {
        seed: 1,
        scheduler,
        wait: WaitPolicy::Poll,
        receiver: ReceiverConfig { octets_max: 4 << 20, ack_every: 32, ack_delay: micros(20) },
        credit_messages: 16_000,
        credit_kib: 4096,
        ..TransportConfig::default()
    }
}

/// Two legs that have answered.
fn settled(scheduler: PacketScheduler, seed: u64) -> World {
    let mut world = World::new(&polling(scheduler), seed, &[0, 1]);
    world.stream(&[0, 1], micros(50), 200, millis(20));
    world.run_to_the_end(millis(10));
    assert_eq!(world.ends[0].state(0), PacketLegState::Good);
    assert_eq!(world.ends[0].state(1), PacketLegState::Good);
    world
}

const SCHEDULERS: [PacketScheduler; 4] =
    [PacketScheduler::Lane, PacketScheduler::Alternate, PacketScheduler::Failover, PacketScheduler::Both];

#[test]
fn every_message_arrives_once_and_in_lane_order_over_bad_legs() {
    for seed in 0..24 {
        let scheduler = SCHEDULERS[seed as usize % 4];
        let mut world = World::new(&polling(scheduler), seed, &[0, 1]);
        let (loss, jitter) = (world.random.below(25), world.random.below(60));
        world.each_link(|link| {
            (link.loss_percent, link.duplicate_percent) = (loss, 3);
            link.jitter = micros(jitter);
        });
        for _ in 0..1500 {
            let (end, lane) = (world.random.below(2) as usize, world.random.below(20) as u16);
            let len = match world.random.below(20) {
                0 => world.random.below(65_000),
                1..6 => world.random.below(3000),
                _ => world.random.below(200),
            };
            let channel = if world.random.below(50) == 0 { Channel::CONTROL } else { DATA };
            let len = if channel == DATA { len as usize } else { len as usize % 16_000 };
            let is_after_all = world.random.below(100) == 0;
            world.ends[end].wishes.push_back(Wish { channel, lane, len, is_after_all });
            let pause = world.random.below(40);
            world.run_for(micros(pause));
        }
        world.run_to_the_end(Duration::from_secs(5));
    }
}

#[test]
fn the_death_of_a_leg_delays_no_message_by_more_than_two_timeouts_and_trips() {
    for seed in 0..20 {
        let mut world = settled(SCHEDULERS[seed as usize % 3], seed);
        let before = world.random.below(1000);
        world.stream(&[0, 1], micros(20), 300, millis(5) + micros(before));
        let died_at = world.now;
        world.set_dead(0, true);
        world.stream(&[0, 1], micros(20), 300, millis(30));
        world.run_to_the_end(millis(10));
        let after = world.ends[0].delays.iter().filter(|(at, _)| *at >= died_at);
        let worst = after.map(|(_, delay)| *delay).max().expect("messages after the death");
        // A trip takes 40 us, so a PTO is at most 40 + 40 (the acks' delay varies by 20) + 20.
        assert!(worst <= micros(2 * 100 + 2 * 40), "seed {seed}: {worst:?}");
        for end in &world.ends {
            let down = end.when(0, PacketLegState::Down, died_at).expect("the dead leg is down");
            assert!(down.since(died_at) <= millis(6), "seed {seed}: down after {:?}", down.since(died_at));
            let suspect = end.when(0, PacketLegState::Suspect, died_at).expect("and was suspect before");
            assert!(suspect.since(died_at) <= millis(2), "{:?}", suspect.since(died_at));
            assert_eq!(end.state(1), PacketLegState::Good);
            assert!(end.when(1, PacketLegState::Suspect, died_at).is_none(), "the survivor is not blamed");
        }
    }
}

#[test]
fn a_dead_leg_with_little_traffic_is_down_within_six_milliseconds() {
    for seed in 0..10 {
        let mut world = settled(PacketScheduler::Alternate, seed);
        // 2,000 packets a second on each leg.
        world.stream(&[0], micros(250), 300, millis(10));
        let died_at = world.now;
        world.set_dead(0, true);
        world.stream(&[0], micros(250), 300, millis(10));
        let down = world.ends[0].when(0, PacketLegState::Down, died_at).expect("down");
        assert!(down.since(died_at) <= millis(6), "seed {seed}: {:?}", down.since(died_at));
    }
}

#[test]
fn a_leg_that_is_dead_one_way_goes_on_carrying_the_other() {
    let mut world = settled(PacketScheduler::Lane, 3);
    let died_at = world.now;
    world.links[0][0].is_dead = true;
    world.stream(&[0, 1], micros(20), 300, millis(50));
    world.run_to_the_end(millis(10));
    assert_eq!(world.ends[0].state(0), PacketLegState::Down);
    assert_eq!(world.ends[1].state(0), PacketLegState::Good);
    assert!(world.ends[1].when(0, PacketLegState::Down, died_at).is_none());
    world.links[0][0].is_dead = false;
    world.stream(&[0, 1], micros(100), 300, millis(400));
    assert_eq!(world.ends[0].state(0), PacketLegState::Good, "it is used again");
}

//= spec/packet-sender.md#evidence
//= type=test
//# A leg MUST be judged only by packets that an ack proves to have arrived or to be lost.
#[test]
fn five_percent_of_loss_never_takes_a_leg_down() {
    for seed in 0..3 {
        let mut world = settled(PacketScheduler::Lane, seed);
        let from = world.now;
        world.each_link(|link| link.loss_percent = 5);
        world.stream(&[0, 1], micros(50), 300, Duration::from_secs(2));
        world.run_to_the_end(millis(50));
        for end in &world.ends {
            for number in [0, 1] {
                assert!(end.when(number, PacketLegState::Down, from).is_none());
                let status = end.status(number);
                assert!(status.lost > 500, "{status:?}");
                let spurious = status.spurious * 1000 / status.tx_packets;
                assert!(spurious <= 10, "{spurious} of 1000 packets were sent again for nothing: {status:?}");
            }
        }
    }
}

//= spec/packet-sender.md#silence
//= type=test
//# When nothing that was sent by a direct leg was answered for three PTOs, and for 2 ms at least, a sender MUST send
//# the oldest messages by each relay leg, and MUST say that it is stalled when those do not answer either.
//= spec/packet-sender.md#full
//= type=test
//# A sender MUST refuse a message while no leg answers, and when it does not fit into its memory or the peer's credit.
#[test]
fn with_no_leg_left_messages_wait_and_go_on_when_one_is_back() {
    for seed in 0..8 {
        let mut world = settled(PacketScheduler::Lane, seed);
        world.stream(&[0, 1], micros(20), 300, millis(2));
        world.set_dead(0, true);
        world.set_dead(1, true);
        world.stream(&[0, 1], micros(20), 300, millis(30));
        for end in &world.ends {
            assert!(end.has_seen(TransportEvent::Stalled));
            assert!(!end.transport.can_send(DATA, 10), "a stalled transport is full");
            assert!(!end.wishes.is_empty());
            assert_eq!([end.state(0), end.state(1)], [PacketLegState::Good; 2], "silence blames no leg");
        }
        let back = seed as u8 % 2;
        world.set_dead(back, false);
        let back_at = world.now;
        world.run_to_the_end(millis(150));
        assert!(world.ends[0].has_seen(TransportEvent::Resumed));
        assert!(world.now.since(back_at) < millis(120));
    }
}

#[test]
fn relay_legs_serve_while_no_direct_leg_answers() {
    for seed in 0..8 {
        let mut world = World::new(&polling(PacketScheduler::Lane), seed, &[0, 1, 14]);
        world.stream(&[0, 1], micros(50), 300, millis(10));
        let relayed = |world: &World| world.ends[0].status(14).tx_packets;
        let before = relayed(&world);
        assert!(before < 10, "the relay is spared: {before}");
        let died_at = world.now;
        world.set_dead(0, true);
        world.set_dead(1, true);
        world.stream(&[0, 1], micros(50), 300, millis(50));
        world.run_to_the_end(millis(20));
        assert!(relayed(&world) > before + 500);
        assert!(!world.ends[0].has_seen(TransportEvent::Stalled));
        assert_eq!(world.ends[0].state(0), PacketLegState::Down, "acks by the relay prove it");
        let after = world.ends[0].delays.iter().filter(|(at, _)| *at >= died_at);
        let worst = after.map(|(_, delay)| *delay).max().expect("messages");
        assert!(worst < millis(4), "{worst:?}");
        world.set_dead(1, false);
        world.stream(&[0, 1], micros(50), 300, millis(400));
        let settled = relayed(&world);
        world.stream(&[0, 1], micros(50), 300, millis(20));
        assert!(relayed(&world) < settled + 10, "and is spared again");
        world.run_to_the_end(millis(10));
    }
}

#[test]
fn a_process_that_stops_for_a_while_costs_no_leg() {
    for seed in 0..8 {
        let mut world = settled(PacketScheduler::Lane, seed);
        let from = world.now;
        for pause in [3, 20, 50] {
            world.stream(&[0, 1], micros(20), 300, millis(5));
            let end = world.random.below(2) as usize;
            world.ends[end].asleep_until = world.now + millis(pause);
            world.stream(&[0, 1], micros(20), 300, millis(pause + 20));
        }
        world.run_to_the_end(millis(200));
        for end in &world.ends {
            for number in [0, 1] {
                assert!(end.when(number, PacketLegState::Down, from).is_none(), "seed {seed}");
            }
        }
    }
}

#[test]
fn legs_that_go_and_come_back_lose_nothing() {
    for seed in 0..8 {
        let mut world = settled(PacketScheduler::Lane, seed);
        for _ in 0..6 {
            world.stream(&[0, 1], micros(30), 700, millis(3));
            let number = world.random.below(2) as u8;
            for end in &mut world.ends {
                end.transport.leg_down(world.now, leg(number));
            }
            world.stream(&[0, 1], micros(30), 700, millis(3));
            world.leg_up(number);
        }
        world.run_to_the_end(millis(100));
    }
}

#[test]
fn credit_that_is_used_up_refuses_messages_until_octets_come_back() {
    let config = TransportConfig {
        receiver: ReceiverConfig { octets_max: 300_000, ack_every: 32, ack_delay: micros(20) },
        credit_kib: 100,
        ..polling(PacketScheduler::Lane)
    };
    let mut world = World::new(&config, 1, &[0, 1]);
    world.ends[1].recycles = false;
    for lane in 0..1000 {
        world.wish(0, lane, 1000);
    }
    world.run_for(millis(50));
    let delivered = world.ends[1].delivered;
    // 300,000 octets, less the reserve for the lowest message and what only control may use, at 1,256 each.
    assert!((165..=172).contains(&delivered), "{delivered}");
    assert_eq!(world.ends[1].transport.receiver_counters().no_room, 0, "what is granted finds room");
    let control = Wish { channel: Channel::CONTROL, lane: 0, len: 100, is_after_all: false };
    world.ends[0].wishes.push_front(control);
    world.run_for(millis(5));
    assert_eq!(world.ends[1].delivered, delivered + 1, "control is not held up");
    world.ends[1].recycles = true;
    for octets in std::mem::take(&mut world.ends[1].lent) {
        world.ends[1].transport.recycle(octets);
    }
    world.run_to_the_end(millis(100));
}

#[test]
fn messages_are_kept_until_the_peer_may_settle_them() {
    let mut world = settled(PacketScheduler::Lane, 1);
    world.ends[1].settles = false;
    for lane in 0..10 {
        world.wish(0, lane, 100);
    }
    let first = world.ends[0].sent_at.len() as u32;
    world.run_for(millis(20));
    assert_eq!(world.ends[0].transport.lowest_unacked(DATA), Some(first));
    assert_eq!(world.ends[1].delivered, u64::from(first) + 10);
    let mut drained = Vec::new();
    world.ends[1].settles = true;
    world.run_for(millis(1));
    assert!(world.ends[0].transport.is_drained());
    world.ends[0].transport.drain_unsent(&mut |unacked| drained.push(unacked.mseq));
    assert!(drained.is_empty());
}

#[test]
fn what_was_not_acknowledged_is_handed_back_in_order() {
    let mut world = settled(PacketScheduler::Lane, 1);
    world.run_for(millis(1));
    world.set_dead(0, true);
    world.set_dead(1, true);
    let first = world.ends[0].sent_at.len() as u32;
    for lane in 0..5 {
        world.wish(0, lane, 100 + usize::from(lane));
    }
    world.run_for(micros(10));
    let mut drained = Vec::new();
    world.ends[0].transport.drain_unsent(&mut |unacked| {
        assert_eq!((unacked.channel, unacked.octets.len()), (DATA, 100 + usize::from(unacked.lane)));
        assert!(unacked.maybe_taken, "it was on its way");
        drained.push(unacked.mseq);
    });
    assert_eq!(drained, (first..first + 5).collect::<Vec<_>>());
    assert!(world.ends[0].transport.is_drained());
    assert_eq!(world.ends[0].transport.lowest_unacked(DATA), None);
}

#[test]
fn an_idle_association_sends_a_few_probes_and_nothing_else() {
    let mut world = settled(PacketScheduler::Lane, 1);
    world.run_for(Duration::from_secs(3));
    let before: u64 = world.ends.iter().map(|end| end.tx_packets).sum();
    world.run_for(Duration::from_secs(100));
    let packets = world.ends.iter().map(|end| end.tx_packets).sum::<u64>() - before;
    // Two ends, two legs, a probe each 0.75 s at most, its answer, and the answer's.
    assert!((400..=100 * 4 * 3 * 4 / 3 + 20).contains(&packets), "{packets} packets in 100 s");
    for end in &mut world.ends {
        let next = end.transport.poll_timeout().expect("a probe is due some time");
        assert!(next > world.now);
        end.probes_allowed = false;
    }
    let before: u64 = world.ends.iter().map(|end| end.tx_packets).sum();
    world.run_for(Duration::from_secs(10));
    let packets = world.ends.iter().map(|end| end.tx_packets).sum::<u64>() - before;
    assert!(packets <= 8, "{packets} packets without a token");
}

#[test]
fn an_idle_leg_that_died_is_found_and_the_first_message_is_not_lost() {
    let mut world = settled(PacketScheduler::Failover, 1);
    world.set_dead(0, true);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.ends[0].state(0), PacketLegState::Down);
    assert!(!world.ends[0].has_seen(TransportEvent::Stalled), "the other leg answers");
    let mut world = settled(PacketScheduler::Failover, 2);
    world.run_for(millis(500));
    world.set_dead(0, true);
    world.wish(0, 0, 100);
    world.run_to_the_end(millis(5));
}

#[test]
fn time_stands_for_nothing_but_time() {
    // The same seed gives the same packets at the same moments.
    let run = || {
        let mut world = World::new(&polling(PacketScheduler::Lane), 9, &[0, 1]);
        world.each_link(|link| (link.loss_percent, link.jitter) = (10, micros(30)));
        world.stream(&[0, 1], micros(30), 900, millis(30));
        world.run_to_the_end(millis(200));
        (world.now, world.ends[0].tx_packets, world.ends[1].tx_packets, world.ends[0].delays.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn nothing_is_sent_without_a_leg() {
    let mut world = World::new(&polling(PacketScheduler::Lane), 9, &[]);
    world.wish(0, 0, 100);
    world.run_for(millis(10));
    assert!(!world.ends[0].transport.can_send(DATA, 100));
    assert_eq!(world.ends[0].transport.poll_timeout(), None);
    assert_eq!(world.ends[0].tx_packets, 0);
    world.leg_up(1);
    world.run_to_the_end(millis(10));
    assert!(world.now > Instant::ZERO);
}

#[test]
fn a_path_that_became_narrower_gets_shorter_packets() {
    let mut world = settled(PacketScheduler::Failover, 1);
    world.each_link(|link| link.len_most = 1000);
    world.wish(0, 0, 60_000);
    world.run_for(micros(50));
    for end in &mut world.ends {
        end.transport.set_packet_len_max(leg(0), 1000);
        end.transport.set_packet_len_max(leg(1), 1000);
    }
    world.run_to_the_end(millis(20));
}

//= spec/packet-sender.md#octets-settled
//= type=test
//# A sender MUST tell how many octets of its messages were acknowledged when the peer has granted fewer than those and half
//# of its first credit.
//= spec/packet.md#octets-settled
//= type=test
//# A receiver that is told how many octets were acknowledged MUST have granted them and what it can hold, less what it
//# holds.
#[test]
fn what_another_leg_delivers_costs_no_credit() {
    for (seed, loss) in [(0, 0), (1, 30)] {
        let mut world = settled(PacketScheduler::Lane, seed);
        world.each_link(|link| link.loss_percent = loss);
        // Four times the credit.
        for number in 0..2000 {
            if number % 8 > 0 {
                world.deliver_elsewhere(0);
            }
            world.wish(0, number % 3, 8000);
            world.run_for(micros(200));
        }
        world.run_for(millis(200));
        assert!(world.ends[0].wishes.is_empty(), "{} find no credit", world.ends[0].wishes.len());
        assert!(world.ends[0].transport.is_drained());
        assert_eq!(world.ends[1].transport.receiver_counters().no_room, 0);
        assert_eq!(world.ends[1].transport.receiver_mut().octets_held(), 0);
    }
}

/// One random fault, or its end.
fn fault(world: &mut World) {
    let number = [0, 1, 14][world.random.below(3) as usize];
    let (end, percent) = (world.random.below(2) as usize, world.random.below(60));
    let link = &mut world.links[end][leg(number).index()];
    match world.random.below(9) {
        0..3 => link.is_dead = !link.is_dead,
        3 => link.loss_percent = percent,
        4 => link.jitter = micros(10 * percent),
        5 => link.duplicate_percent = percent,
        6 => world.ends[end].asleep_until = world.now + micros(500 * percent),
        7 => world.ends[end].probes_allowed = !world.ends[end].probes_allowed,
        _ => {
            world.ends[end].transport.leg_down(world.now, leg(number));
            world.leg_up(number);
        }
    }
}

#[test]
fn whatever_happens_everything_arrives_once_the_network_is_good_again() {
    for seed in 0..12 {
        let mut world = World::new(&polling(SCHEDULERS[seed as usize % 4]), seed, &[0, 1, 14]);
        for _ in 0..40 {
            fault(&mut world);
            let (gap, len) = (20 + world.random.below(100), world.random.below(3000) as usize);
            let time = micros(world.random.below(6000));
            world.stream(&[0, 1], micros(gap), len, time);
        }
        world.each_link(|link| *link = network::Link::default());
        for end in &mut world.ends {
            end.probes_allowed = true;
        }
        world.run_to_the_end(Duration::from_secs(2));
    }
}

use super::*;
use std::vec;
use std::vec::Vec;

const NOW: Instant = Instant::ZERO;
const SEED: u64 = 42;
const COUNT: u32 = 100_000;

fn stage(text: &str) -> FaultStage<u16> {
    let mut stage = FaultStage::new(SEED);
    stage.set(Direction::Egress, text.parse().unwrap());
    stage
}

/// Puts one numbered datagram of eight octets through the stage.
fn apply(stage: &mut FaultStage<u16>, now: Instant, number: u32, out: &mut Vec<u32>) {
    let mut datagram = [0; 8];
    datagram[..4].copy_from_slice(&number.to_le_bytes());
    stage.apply(now, Direction::Egress, 7, &mut datagram, |address, octets| {
        assert_eq!(address, 7);
        out.push(number_of(octets));
    });
}

fn number_of(octets: &[u8]) -> u32 {
    u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]])
}

fn due(stage: &mut FaultStage<u16>, now: Instant) -> Vec<u32> {
    let mut out = Vec::new();
    stage.poll_due(now, |direction, _, octets| {
        assert_eq!(direction, Direction::Egress);
        out.push(number_of(octets));
    });
    out
}

/// What leaves when `count` datagrams go in at once.
fn through(text: &str, count: u32) -> (Vec<u32>, FaultCounters) {
    let (mut stage, mut out) = (stage(text), Vec::new());
    (0..count).for_each(|number| apply(&mut stage, NOW, number, &mut out));
    (out, stage.counters(Direction::Egress))
}

fn lost(text: &str) -> Vec<u32> {
    let (out, _) = through(text, COUNT);
    let mut is_there = vec![false; COUNT as usize];
    out.iter().for_each(|number| is_there[*number as usize] = true);
    (0..COUNT).filter(|number| !is_there[*number as usize]).collect()
}

#[test]
fn nothing_happens_without_faults() {
    let (out, counters) = through("off", 1000);
    assert!(out.into_iter().eq(0..1000));
    assert_eq!(counters, FaultCounters { seen: 1000, passed: 1000, ..FaultCounters::default() });
    assert!(FaultStage::<u16>::new(SEED).is_idle());
    assert!(!stage("loss=1%").is_idle());
}

/// Five standard deviations of a count of so many hits among [`COUNT`].
fn assert_share(hits: u64, share: f64) {
    let (count, expected) = (f64::from(COUNT), f64::from(COUNT) * share);
    let deviation = (count * share * (1.0 - share)).sqrt();
    assert!((hits as f64 - expected).abs() <= 5.0 * deviation, "{hits} instead of {expected}");
}

#[test]
fn as_many_are_hit_as_were_asked_for() {
    for (text, share) in [("loss=5%", 0.05), ("loss=0.1%", 0.001), ("loss=50%", 0.5)] {
        let (_, counters) = through(text, COUNT);
        assert_share(counters.lost, share);
        assert_eq!(counters.seen, counters.lost + counters.passed);
    }
    assert_share(through("corrupt=1%", COUNT).1.corrupted, 0.01);
    assert_share(through("duplicate=2%", COUNT).1.duplicated, 0.02);
    assert_share(through("reorder=3%/5", COUNT).1.held_back, 0.03);
    assert_eq!(through("loss=100%", 1000).1.lost, 1000);
    assert_eq!(through("loss=0%", 1000).1.lost, 0);
    assert_eq!(through("corrupt=100%", 1000).1.corrupted, 1000);
}

#[test]
fn a_seed_gives_the_same_faults_each_time() {
    //= spec/leg-udp.md#faults-by-seed
    //= type=test
    //# Which datagrams a fault hits MUST follow from the seed, the number of the datagram and the fault alone.
    let alone = lost("loss=5%");
    assert_eq!(alone.len(), 5065, "the count that belongs to this seed");
    assert_eq!(alone[..4], [3, 33, 37, 45], "and the first of them");
    let among_others = lost("loss=5%,duplicate=10%,jitter=0us");
    assert_eq!(alone, among_others);
    let held = through("loss=5%,reorder=10%/2,delay=1ms", COUNT).1;
    assert_eq!(held.lost, alone.len() as u64);
    let (a, b) = (through("corrupt=10%,reorder=10%", 1000), through("corrupt=10%,reorder=10%", 1000));
    assert_eq!(a, b);
    let mut other = FaultStage::new(SEED + 1);
    other.set(Direction::Egress, "loss=5%".parse().unwrap());
    let mut out = Vec::new();
    (0..1000).for_each(|number| apply(&mut other, NOW, number, &mut out));
    assert_ne!(out, through("loss=5%", 1000).0);
}

#[test]
fn both_directions_have_faults_of_their_own() {
    let mut stage = stage("loss=100%");
    let mut passed = 0;
    for _ in 0..100 {
        stage.apply(NOW, Direction::Ingress, 3, &mut [0; 8], |_, _| passed += 1);
    }
    assert_eq!((passed, stage.counters(Direction::Egress).seen), (100, 0));
    stage.set(Direction::Ingress, "delay=1ms".parse().unwrap());
    stage.apply(NOW, Direction::Ingress, 3, &mut [0; 8], |_, _| panic!("it is delayed"));
    let mut seen = Vec::new();
    stage.poll_due(NOW + Duration::from_millis(1), |direction, address, _| seen.push((direction, address)));
    assert_eq!(seen, [(Direction::Ingress, 3)]);
}

#[test]
fn bursts_have_the_length_and_the_share_that_were_asked_for() {
    // A burst begins with 1 % of the datagrams outside of one and has ten on average: 1/11 of all.
    let lost = lost("burst=1%/10%");
    let bursts = 1 + lost.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!((lost.len(), bursts), (8978, 884), "the counts that belong to this seed");
    let (mean, share) = (lost.len() as f64 / bursts as f64, lost.len() as f64 / f64::from(COUNT));
    assert!((8.5..=11.5).contains(&mean), "{mean} datagrams in a burst");
    assert!((0.08..=0.102).contains(&share), "{share} of all are in a burst");
    // Half of those in bursts, and those outside of one that `loss` takes.
    let some = self::lost("burst=1%/10%/50%,loss=1%").len() as f64 / f64::from(COUNT);
    assert!((0.0475..=0.0615).contains(&some), "{some} of all are lost");
}

#[test]
fn a_corrupt_datagram_differs_in_one_bit() {
    let mut stage = stage("corrupt=100%");
    let mut bits = [0_u32; 64];
    for _ in 0..6400 {
        stage.apply(NOW, Direction::Egress, 7, &mut [0; 8], |_, octets| {
            let octets = u64::from_le_bytes(octets.try_into().unwrap());
            assert_eq!(octets.count_ones(), 1);
            bits[octets.trailing_zeros() as usize] += 1;
        });
    }
    assert!(bits.iter().all(|hits| (50..=150).contains(hits)), "every bit, about as often: {bits:?}");
    stage.apply(NOW, Direction::Egress, 7, &mut [], |_, octets| assert!(octets.is_empty()));
}

#[test]
fn a_copy_is_whole_whatever_happens_to_the_datagram() {
    let mut stage = stage("duplicate=100%,corrupt=100%");
    let mut seen = Vec::new();
    stage.apply(NOW, Direction::Egress, 7, &mut [0; 8], |_, octets| {
        seen.push(octets.iter().any(|octet| *octet != 0));
        octets.fill(0xff);
    });
    assert_eq!(seen, [true, false], "the first has its bit turned, the copy has not");
}

#[test]
fn a_datagram_is_overtaken_by_as_many_as_were_asked_for() {
    for (by, expected) in [(1, [1, 0, 2, 3, 4]), (2, [1, 2, 0, 3, 4]), (4, [1, 2, 3, 4, 0])] {
        let (mut stage, mut out) = (stage(&std::format!("reorder=100%/{by}")), Vec::new());
        apply(&mut stage, NOW, 0, &mut out);
        // What is lost or doubled behind it overtakes nothing; what it waits for does not change any more.
        stage.set(Direction::Egress, "loss=100%".parse().unwrap());
        apply(&mut stage, NOW, 9, &mut out);
        stage.set(Direction::Egress, Faults::NONE);
        (1..5).for_each(|number| apply(&mut stage, NOW, number, &mut out));
        assert_eq!(out, expected, "overtaken by {by}");
        assert!(stage.is_idle());
    }
}

#[test]
fn a_datagram_that_nothing_overtakes_goes_on_by_itself() {
    let (mut stage, mut out) = (stage("reorder=100%/3"), Vec::new());
    apply(&mut stage, NOW, 1, &mut out);
    assert_eq!(out, [0; 0]);
    assert_eq!(stage.poll_timeout(), Some(NOW + OVERTAKE_WAIT));
    assert_eq!(due(&mut stage, NOW), [0; 0]);
    assert_eq!(due(&mut stage, NOW + OVERTAKE_WAIT), [1]);
    assert_eq!(stage.poll_timeout(), None);
}

#[test]
fn a_delay_keeps_the_order_and_jitter_keeps_its_bounds() {
    let (mut delayed, mut out) = (stage("delay=2ms"), Vec::new());
    for number in 0..4 {
        apply(&mut delayed, NOW + Duration::from_micros(u64::from(number / 2)), number, &mut out);
    }
    assert_eq!(out, [0; 0]);
    assert_eq!(delayed.poll_timeout(), Some(NOW + Duration::from_millis(2)));
    assert_eq!(due(&mut delayed, NOW + Duration::from_micros(1999)), [0; 0]);
    assert_eq!(due(&mut delayed, NOW + Duration::from_millis(2)), [0, 1]);
    assert_eq!(due(&mut delayed, NOW + Duration::from_millis(3)), [2, 3]);

    let mut jittering = stage("delay=1ms,jitter=1ms");
    (0..1000).for_each(|number| apply(&mut jittering, NOW, number, &mut out));
    assert_eq!(due(&mut jittering, NOW + Duration::from_nanos(999_999)), [0; 0]);
    let first = due(&mut jittering, NOW + Duration::from_micros(1500));
    assert!((400..=600).contains(&first.len()), "{} in the first half", first.len());
    assert!(!first.is_sorted(), "jitter reorders");
    assert_eq!(due(&mut jittering, NOW + Duration::from_millis(2)).len(), 1000 - first.len());
}

#[test]
fn what_is_held_is_bounded() {
    //= spec/leg-udp.md#held-datagrams
    //= type=test
    //# A fault stage MUST hold a bounded number of datagrams and octets, and MUST drop and count what comes beyond.
    for text in ["delay=1ms", "reorder=100%/1024"] {
        let (mut stage, mut out) = (stage(text), Vec::new());
        (0..5000).for_each(|number| apply(&mut stage, NOW, number, &mut out));
        let counters = stage.counters(Direction::Egress);
        assert_eq!(counters.overflowed, 5000 - HELD_DATAGRAMS_MAX as u64);
        assert_eq!(due(&mut stage, NOW + OVERTAKE_WAIT).len(), HELD_DATAGRAMS_MAX);
        assert_eq!(stage.counters(Direction::Egress).passed, HELD_DATAGRAMS_MAX as u64);
    }
    let mut stage = stage("delay=1ms");
    let mut long = vec![0; 1 << 16];
    for _ in 0..300 {
        stage.apply(NOW, Direction::Egress, 7, &mut long, |_, _| {});
    }
    assert_eq!(stage.counters(Direction::Egress).overflowed, 300 - (HELD_OCTETS_MAX as u64 >> 16));
    assert_eq!(due(&mut stage, NOW + Duration::from_millis(1)).len(), HELD_OCTETS_MAX >> 16);
    stage.apply(NOW, Direction::Egress, 7, &mut long, |_, _| {});
    assert_eq!(due(&mut stage, NOW + Duration::from_millis(1)).len(), 1, "and room comes back");
}

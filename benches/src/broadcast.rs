//! Broadcast: one core runs the sender and all members, the other the control node, which copies each frame to every member or
//! writes it once into the LAN's arena.
//!
//! The members take a batch before the next one is sent, so that none is lost; the control node's time counts only while it has
//! something to do.

use std::time::{Duration, Instant as Clock};

use switch_node::Accept;
use vlan_core::Instant;
use vlan_core::wire::frame::Vnet;

use crate::frames::{Sink, Source};
use crate::process::{self, Meeting, Run, STOP};
use crate::world::{BROADCAST, VIF, World, mac};

const BATCH: usize = 32;
/// Turns of each way.
const TURNS: u32 = 8;
/// Place in the meeting page: nanoseconds that the control node has been busy.
const BUSY: usize = 9;

/// What one way of giving frames to members costs.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// Frames that members got.
    pub delivered: u64,
    /// Time that the control node was busy meanwhile.
    pub busy: Duration,
    pub elapsed: Duration,
    /// Frames that a member did not get, or not in order.
    pub lost: u64,
}

impl Finding {
    /// Nanoseconds of the control node for a frame that a member got.
    pub fn nanos(&self) -> f64 {
        self.busy.as_nanos() as f64 / self.delivered.max(1) as f64
    }
}

/// Copied, and written once: in turns, so that what else the machine does falls on both. Of each the turn that was disturbed least.
pub fn measure(run: &Run, members: u8) -> anyhow::Result<[Finding; 2]> {
    let (mut copied, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        copied.push(one_way(run, members, false)?);
        shared.push(one_way(run, members, true)?);
    }
    Ok([best(&copied), best(&shared)])
}

fn best(findings: &[Finding]) -> Finding {
    let lost = findings.iter().map(|finding| finding.lost).sum();
    let best = findings.iter().min_by(|one, other| one.nanos().total_cmp(&other.nanos()));
    Finding { lost, ..*best.expect("there are turns") }
}

fn one_way(run: &Run, members: u8, has_arena: bool) -> anyhow::Result<Finding> {
    let mut world = World::of(members + 1, run.legs, has_arena)?;
    world.raise_arena(run.size)?;
    let now = Instant::from_nanos(world.clock);
    let (mut control, mut nodes) = (world.control, world.nodes);
    process::pair(
        run,
        |meeting| {
            let mut busy = Duration::ZERO;
            while meeting.load(STOP) == 0 {
                let start = Clock::now();
                if control.pump(now, 4 * BATCH) > 0 {
                    busy += start.elapsed();
                    meeting.store(BUSY, busy.as_nanos() as u64);
                }
            }
        },
        |meeting| {
            let mut source = Source::new(run.size, BROADCAST, mac(1));
            let mut sinks: Vec<Sink> = nodes.iter().map(|_| Sink::new(BROADCAST)).collect();
            let mut round = || {
                let mut batch = nodes[0].batch(now, VIF);
                for _ in 0..BATCH {
                    let accept = batch.send(&Vnet::default(), source.next());
                    assert_eq!(accept, Accept::Taken, "everything before was taken");
                }
                drop(batch);
                nodes[0].publish(now);
                for (node, sink) in nodes.iter_mut().zip(&mut sinks).skip(1) {
                    let wanted = sink.received + BATCH as u64;
                    let late = Clock::now() + Duration::from_secs(1);
                    while sink.received < wanted && Clock::now() < late {
                        node.receive(now, 2 * BATCH, sink);
                    }
                    node.publish(now);
                }
                nodes[0].receive(now, BATCH, &mut Sink::new(BROADCAST));
                let lost = |sink: &Sink| sinks[1].received.abs_diff(sink.received) + sink.wrong;
                (
                    sinks.iter().map(|sink| sink.received).sum::<u64>(),
                    sinks[1..].iter().map(lost).sum::<u64>(),
                )
            };
            rounds(run, meeting, &mut round)
        },
    )
}

/// Warms up for a quarter of a second, and counts for the run's time.
fn rounds(run: &Run, meeting: &Meeting, round: &mut impl FnMut() -> (u64, u64)) -> Finding {
    let mut until = |time: Duration| {
        let end = Clock::now() + time;
        loop {
            let state = round();
            if Clock::now() >= end {
                return (state, meeting.load(BUSY));
            }
        }
    };
    let (before, busy_before) = until(Duration::from_millis(250));
    let start = Clock::now();
    let (after, busy_after) = until(Duration::from_secs(run.seconds) / TURNS);
    Finding {
        delivered: after.0 - before.0,
        busy: Duration::from_nanos(busy_after - busy_before),
        elapsed: start.elapsed(),
        lost: after.1,
    }
}

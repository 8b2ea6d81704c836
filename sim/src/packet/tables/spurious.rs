//! What is sent again, and what of it in vain, by how acknowledgements are sent.

use std::time::Duration;

use vlan_core::Channel;

use super::{Figure, Plot, Series, Table, in_percent};
use crate::checker::Violation;
use crate::packet::link::Conditions;
use crate::packet::plan::{PacketPlan, Wait};
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;
use rvi::packet::sender::PacketScheduler;

const ACK_EVERY: [u32; 4] = [4, 8, 16, 32];
const TIME: Duration = Duration::from_millis(150);

/// The two legs' ways, in microseconds.
const LEGS: [(&str, u64, u64); 2] = [("10 and 10", 10, 10), ("10 and 60", 10, 60)];

pub(super) fn measure() -> Result<Figure, Violation> {
    let mut table = Table::new(&[
        "wait",
        "legs, us",
        "loss, %",
        "ack every",
        "packets",
        "sent again, %",
        "in vain, %",
        "ack packets per data packet",
    ]);
    let mut series = Vec::new();
    for wait in [Wait::Poll, Wait::Interrupt] {
        for (name, first, second) in LEGS {
            for loss in [0, 5] {
                let mut points = Vec::new();
                for every in ACK_EVERY {
                    let run = run(wait, [first, second], loss, every)?;
                    points.push((f64::from(every), run.spurious as f64 * 100.0 / run.packets.max(1) as f64));
                    table.push(vec![
                        format!("{wait:?}").to_lowercase(),
                        name.to_string(),
                        loss.to_string(),
                        every.to_string(),
                        run.packets.to_string(),
                        in_percent(run.resent, run.packets),
                        in_percent(run.spurious, run.packets),
                        format!("{:.3}", run.acks as f64 / run.packets.max(1) as f64),
                    ]);
                }
                if wait == Wait::Poll {
                    series.push(Series { name: format!("{name} us, {loss} % loss"), points });
                }
            }
        }
    }
    let text = format!(
        "200,000 messages a second one way, alternating over two legs, for {} ms; acknowledgements come after so many packets, \
         or after 20 us (poll) or 200 us (interrupt) at the latest. \"In vain\" are packets that arrived although their pieces had \
         been sent again. The plot shows poll mode.",
        TIME.as_millis()
    );
    let plot = Plot { x: "packets per ack", y: "sent again in vain, %", is_log: false, series };
    Ok(Figure { name: "spurious", title: "Resending by ack policy", text, table, plot })
}

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    packets: u64,
    resent: u64,
    spurious: u64,
    acks: u64,
}

fn run(wait: Wait, ways: [u64; 2], loss: u32, every: u32) -> Result<Run, Violation> {
    let mut plan = PacketPlan::calm(5);
    plan.sources.retain(|source| source.channel != Channel::CONTROL);
    plan.set_sources(&[PacketPlan::steady(Side::A, Duration::from_micros(5), 64)]);
    plan.wait = wait;
    plan.ack_every = every;
    plan.scheduler = PacketScheduler::Alternate;
    for (leg, us) in plan.legs.iter_mut().zip(ways) {
        let way = Conditions::calm(Duration::from_micros(us)).with_jitter(Duration::from_micros(2));
        leg.ways = [way.with_loss(loss); 2];
    }
    let mut world = PacketWorld::new(plan, false);
    world.run_for(Duration::from_millis(10))?;
    world.start_sources();
    world.run_for(TIME)?;
    let mut run = Run::default();
    for leg in world.legs(Side::A) {
        run.packets += leg.tx_packets;
        run.resent += leg.resent;
        run.spurious += leg.spurious;
    }
    run.acks = world.legs(Side::B).iter().map(|leg| leg.tx_packets).sum();
    Ok(run)
}

//! What order costs: the same traffic in one lane, in many, and with everything behind everything.

use std::time::Duration;

use vlan_core::{Channel, Instant};

use super::{Figure, Plot, Series, Table, in_us};
use crate::checker::Violation;
use crate::packet::chance::Ppm;
use crate::packet::link::Conditions;
use crate::packet::metrics::per_mille;
use crate::packet::plan::{PacketPlan, SourcePlan};
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;
use rvi::packet::sender::PacketScheduler;

const TIME: Duration = Duration::from_millis(500);

/// What is kept in order: its name, how many lanes, and whether every message is a barrier.
const ORDERS: [(&str, u16, bool); 4] = [
    ("1024 lanes, next to no order", 1024, false),
    ("64 lanes", 64, false),
    ("one lane", 1, false),
    ("one lane, each message a barrier", 1, true),
];

/// Shares of the messages, in thousandths, that the plot has points for.
const SHARES: [usize; 9] = [500, 750, 900, 950, 980, 990, 995, 998, 999];

pub(super) fn measure() -> Result<Figure, Violation> {
    let mut table = Table::new(&[
        "loss, %",
        "legs, us",
        "order",
        "messages",
        "p50, us",
        "p99, us",
        "p99.9, us",
        "max, us",
    ]);
    let mut series = Vec::new();
    for loss in [0, 5] {
        for (legs, second) in [("10 and 10", 10), ("10 and 60", 60)] {
            for (name, lanes, is_barrier) in ORDERS {
                let sorted = run(loss, second, lanes, is_barrier)?;
                let us = |share| in_us(per_mille(&sorted, share));
                let count = sorted.len().to_string();
                table.push(vec![
                    loss.to_string(),
                    legs.into(),
                    name.into(),
                    count,
                    us(500),
                    us(990),
                    us(999),
                    us(1000),
                ]);
                if loss == 5 && second == 10 {
                    let point = |share: usize| {
                        (share as f64 / 10.0, per_mille(&sorted, share).as_nanos() as f64 / 1000.0)
                    };
                    series.push(Series { name: name.into(), points: SHARES.map(point).to_vec() });
                }
            }
        }
    }
    let text = format!(
        "200,000 messages a second one way, alternating over two legs, poll mode, for {} ms: the time from `send` to delivery. \
         The plot shows legs of 10 us at 5 % loss on each leg and direction.",
        TIME.as_millis()
    );
    let plot = Plot { x: "share of the messages, %", y: "delivered within, us", is_log: false, series };
    Ok(Figure { name: "order", title: "What order costs", text, table, plot })
}

fn run(loss: u32, second_us: u64, lanes: u16, is_barrier: bool) -> Result<Vec<Duration>, Violation> {
    let mut plan = PacketPlan::calm(11);
    plan.sources.retain(|source| source.channel != Channel::CONTROL);
    let after_all = if is_barrier { Ppm::ALL } else { Ppm(0) };
    let source = PacketPlan::steady(Side::A, Duration::from_micros(5), 64);
    plan.set_sources(&[SourcePlan { lanes, after_all, ..source }]);
    plan.scheduler = PacketScheduler::Alternate;
    for (leg, us) in plan.legs.iter_mut().zip([10, second_us]) {
        let way = Conditions::calm(Duration::from_micros(us)).with_jitter(Duration::from_micros(2));
        leg.ways = [way.with_loss(loss); 2];
    }
    let mut world = PacketWorld::new(plan, false);
    world.run_for(Duration::from_millis(10))?;
    world.start_sources();
    world.run_for(TIME)?;
    Ok(world.metrics.data_between(Instant::ZERO, world.now()))
}

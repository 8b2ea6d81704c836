//! How long messages take around the death of a leg.

use std::time::Duration;

use vlan_core::Instant;

use super::{Figure, Plot, Series, Table, in_ms, in_us};
use crate::checker::Violation;
use crate::packet::link::{Conditions, Overlay};
use crate::packet::metrics::{Health, per_mille};
use crate::packet::plan::PacketPlan;
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;

/// Runs of a row.
const SEEDS: u64 = 40;
/// Around the death: from so long before to so long after it.
const BEFORE: Duration = Duration::from_micros(500);
const AFTER: Duration = Duration::from_millis(5);
/// Width of a point of the plot.
const BUCKET_NS: u64 = 50_000;

/// Which direction dies, seen from the sender of the messages.
#[derive(Clone, Copy, Debug)]
enum Death {
    Both,
    Forward,
    Backward,
}

/// What the runs of a row came to.
#[derive(Default)]
struct Row {
    normal: Vec<Duration>,
    around: Vec<Duration>,
    downs: Vec<Duration>,
    /// The worst by time since the death, in buckets.
    worst: Vec<Duration>,
}

pub(super) fn measure() -> Result<Figure, Violation> {
    let mut table = Table::new(&[
        "loss on the survivor, %",
        "dies",
        "normal p50, us",
        "normal max, us",
        "around the death p99, us",
        "around the death max, us",
        "DOWN median, ms",
        "DOWN max, ms",
    ]);
    let mut series = Vec::new();
    for loss in [0, 5] {
        for death in [Death::Both, Death::Forward, Death::Backward] {
            let mut row = Row::default();
            for seed in 0..SEEDS {
                run(seed, loss, death, &mut row)?;
            }
            table.push(row.cells(loss, death));
            if matches!(death, Death::Both) {
                series.push(Series { name: format!("{loss} % loss on the survivor"), points: row.points() });
            }
        }
    }
    let text = format!(
        "Two legs of 10 to 12 us each way, poll mode, 20,000 messages a second each way over both legs by lane. One leg dies \
         at a random moment; {SEEDS} runs of each kind. \"Around the death\" are the messages accepted from 0.5 ms before it \
         to 5 ms after it. The plot shows the slowest message of all runs by the time at which it was accepted, when both \
         directions die."
    );
    let plot = Plot { x: "accepted, us after the death", y: "longest delivery, us", is_log: true, series };
    Ok(Figure { name: "recovery", title: "Recovery around the death of a leg", text, table, plot })
}

fn run(seed: u64, loss: u32, death: Death, row: &mut Row) -> Result<(), Violation> {
    let mut plan = PacketPlan::calm(seed);
    plan.set_sources(&Side::BOTH.map(|side| PacketPlan::steady(side, Duration::from_micros(50), 200)));
    let survivor =
        Conditions::calm(Duration::from_micros(10)).with_jitter(Duration::from_micros(2)).with_loss(loss);
    plan.legs[1].ways = [survivor; 2];
    let mut world = PacketWorld::new(plan, false);
    world.start_sources();
    let more = Duration::from_nanos(world.draw(1_000_000));
    world.run_for(Duration::from_millis(25) + more)?;
    let died = world.now();
    let way = match death {
        Death::Both => None,
        Death::Forward => Some(Side::A),
        Death::Backward => Some(Side::B),
    };
    world.lay(0, way, Overlay::Dead);
    world.run_for(Duration::from_millis(20))?;
    row.take(&world, died);
    Ok(())
}

impl Row {
    fn take(&mut self, world: &PacketWorld, died: Instant) {
        let from = Instant::ZERO + (died.since(Instant::ZERO) - BEFORE);
        for latency in world.metrics.latencies.iter().filter(|l| l.from == Side::A && l.channel.0 != 0) {
            if latency.accepted >= from && latency.accepted < died + AFTER {
                self.around.push(latency.took);
                let place = (latency.accepted.since(from).as_nanos() as u64 / BUCKET_NS) as usize;
                self.worst.resize(self.worst.len().max(place + 1), Duration::ZERO);
                self.worst[place] = self.worst[place].max(latency.took);
            } else if latency.accepted < from && latency.accepted > Instant::from_nanos(5_000_000) {
                self.normal.push(latency.took);
            }
        }
        let down = world.metrics.first(Side::A, 0, Health::Down, died);
        self.downs.extend(down.map(|at| at.since(died)));
    }

    fn cells(&mut self, loss: u32, death: Death) -> Vec<String> {
        self.normal.sort_unstable();
        self.around.sort_unstable();
        self.downs.sort_unstable();
        let dies = match death {
            Death::Both => "both directions",
            Death::Forward => "the way of the messages",
            Death::Backward => "the way of the acks",
        };
        let down =
            |share| if self.downs.is_empty() { "never".into() } else { in_ms(per_mille(&self.downs, share)) };
        vec![
            loss.to_string(),
            dies.to_string(),
            in_us(per_mille(&self.normal, 500)),
            in_us(per_mille(&self.normal, 1000)),
            in_us(per_mille(&self.around, 990)),
            in_us(per_mille(&self.around, 1000)),
            down(500),
            down(1000),
        ]
    }

    fn points(&self) -> Vec<(f64, f64)> {
        let at = |place: usize| (place as f64 * BUCKET_NS as f64 - BEFORE.as_nanos() as f64) / 1000.0;
        let us = |worst: &Duration| worst.as_nanos() as f64 / 1000.0;
        self.worst.iter().enumerate().map(|(place, worst)| (at(place), us(worst))).collect()
    }
}

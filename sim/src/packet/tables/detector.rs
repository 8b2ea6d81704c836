//! How soon a leg that loses so much is called DOWN, and that one that loses little never is.

use std::time::Duration;

use vlan_core::{Channel, Instant};

use super::{Figure, Plot, Series, Table, in_ms, in_percent};
use crate::checker::Violation;
use crate::packet::chance::Ppm;
use crate::packet::link::Overlay;
use crate::packet::metrics::{Health, per_mille};
use crate::packet::plan::PacketPlan;
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;
use rvi::packet::sender::PacketScheduler;

/// Packets a second on the leg, runs at each loss that is to be found, and simulated seconds at each that is not.
const RATES: [(u64, u64, u64); 3] = [(2_000, 60, 60), (20_000, 40, 20), (200_000, 10, 2)];
/// Losses that must be found.
const GREY: [u32; 7] = [100, 70, 50, 40, 30, 25, 20];
/// Losses that must not.
const INNOCENT: [u32; 3] = [5, 8, 10];
/// What is not found by then counts as not found.
const LIMIT: Duration = Duration::from_millis(400);

pub(super) fn measure() -> Result<Figure, Violation> {
    let mut table = Table::new(&[
        "packets/s on the leg",
        "loss, %",
        "runs",
        "found",
        "DOWN median, ms",
        "DOWN p99, ms",
        "DOWN max, ms",
        "simulated, s",
        "false DOWN",
        "time SUSPECT, %",
    ]);
    let mut series = Vec::new();
    for (rate, runs, seconds) in RATES {
        let mut points = Vec::new();
        for loss in GREY {
            let (row, median) = grey(rate, loss, runs)?;
            table.push(row);
            points.extend(median.map(|at| (f64::from(loss), at.as_nanos() as f64 / 1e6)));
        }
        points.reverse();
        series.push(Series { name: format!("{rate} packets/s"), points });
        for loss in INNOCENT {
            table.push(innocent(rate, loss, seconds)?);
        }
    }
    let text = format!(
        "One leg carries everything (scheduler `failover`) at a steady rate, poll mode; the other one is there and loses \
         nothing. From a random moment on the first loses packets at random, both ways. \"DOWN\" is the time from then to \
         the sender's verdict, in runs of at most {} ms. The last three columns belong to losses that are to be borne: false \
         verdicts, and the share of the time in which the leg was set aside.",
        LIMIT.as_millis()
    );
    let plot = Plot { x: "loss, %", y: "median time to DOWN, ms", is_log: true, series };
    Ok(Figure { name: "detector", title: "The failure detector's curve", text, table, plot })
}

fn plan(seed: u64, rate: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    plan.set_sources(&[PacketPlan::steady(Side::A, Duration::from_nanos(1_000_000_000 / rate), 64)]);
    plan.sources.retain(|source| source.channel != Channel::CONTROL);
    plan.scheduler = PacketScheduler::Failover;
    plan.promise.no_false_down = false;
    plan
}

/// Runs at a loss that must be found; the row and the median.
fn grey(rate: u64, loss: u32, runs: u64) -> Result<(Vec<String>, Option<Duration>), Violation> {
    let mut found = Vec::new();
    for seed in 0..runs {
        let mut world = PacketWorld::new(plan(seed, rate), false);
        world.start_sources();
        let more = Duration::from_nanos(world.draw(1_000_000));
        world.run_for(Duration::from_millis(20) + more)?;
        let from = world.now();
        world.lay(0, None, Overlay::Loss(Ppm::percent(loss)));
        while world.metrics.first(Side::A, 0, Health::Down, from).is_none() && world.now().since(from) < LIMIT
        {
            world.run_for(Duration::from_millis(5))?;
        }
        found.extend(world.metrics.first(Side::A, 0, Health::Down, from).map(|at| at.since(from)));
    }
    found.sort_unstable();
    let at = |share| if found.is_empty() { "-".into() } else { in_ms(per_mille(&found, share)) };
    let mut row = vec![rate.to_string(), loss.to_string(), runs.to_string(), found.len().to_string()];
    row.extend([at(500), at(990), at(1000), "-".into(), "-".into(), "-".into()]);
    let median = (found.len() as u64 * 2 > runs).then(|| per_mille(&found, 500));
    Ok((row, median))
}

/// One long run at a loss that must be borne.
fn innocent(rate: u64, loss: u32, seconds: u64) -> Result<Vec<String>, Violation> {
    let mut world = PacketWorld::new(plan(99, rate), false);
    world.start_sources();
    world.run_for(Duration::from_millis(20))?;
    let from = world.now();
    world.lay(0, None, Overlay::Loss(Ppm::percent(loss)));
    world.run_for(Duration::from_secs(seconds))?;
    let of_leg =
        || world.metrics.transitions.iter().filter(|t| t.side == Side::A && t.leg == 0 && t.at >= from);
    let downs = of_leg().filter(|t| t.to == Health::Down).count();
    let mut row = vec![rate.to_string(), loss.to_string(), "1".into()];
    row.extend(["-"; 4].map(String::from));
    let aside = time_aside(of_leg().map(|t| (t.at, t.to)), world.now());
    row.extend([
        seconds.to_string(),
        downs.to_string(),
        in_percent(aside.as_nanos() as u64, world.now().since(from).as_nanos() as u64),
    ]);
    Ok(row)
}

/// The time in which a leg was not GOOD.
fn time_aside(transitions: impl Iterator<Item = (Instant, Health)>, end: Instant) -> Duration {
    let (mut sum, mut since) = (Duration::ZERO, None);
    for (at, to) in transitions {
        match (to, since) {
            (Health::Good, Some(start)) => {
                sum += at.since(start);
                since = None;
            }
            (Health::Good, None) | (_, Some(_)) => {}
            (_, None) => since = Some(at),
        }
    }
    sum + since.map_or(Duration::ZERO, |start| end.since(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_aside_lasts_until_the_leg_is_good_again() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let story = [
            (at(1), Health::Suspect),
            (at(3), Health::Down),
            (at(5), Health::Good),
            (at(9), Health::Suspect),
        ];
        assert_eq!(time_aside(story.into_iter(), at(10)), Duration::from_millis(5));
    }
}

//! The menu of faults: what each does, for how long, and how it ends.

use std::time::Duration;

use rvi::packet::sender::PACKET_LEN_BASE;
use vlan_core::Instant;
use vlan_core::random::Random;

use super::super::chance::Ppm;
use super::super::coverage::Fault;
use super::super::link::{Bursts, Overlay, OverlayId};
use super::super::network::RELAY_LEG;
use super::super::side::Side;
use super::{Event, PacketWorld};
use crate::simulation::Simulation;

/// Late timers come up to so much late.
const TIMERS_LATE: Duration = Duration::from_millis(3);
/// Verdicts are shifted by so much at most (amendment 27).
const SHIFT_MAX: Duration = Duration::from_millis(20);

/// A lasting fault that ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relief {
    Lift(OverlayId),
    Uncross,
    TimersOnTime(Side),
    ConsumerQuick(Side),
    Settles(Side),
    LegBack { side: Side, leg: u8, overlay: OverlayId },
}

impl PacketWorld {
    // --- drawing ----------------------------------------------------------------------------------------------

    /// Spreads the plan's faults over its duration.
    pub fn start_faults(&mut self) {
        if self.plan.fault_menu.is_empty() {
            return;
        }
        self.faults_left = self.plan.faults;
        self.plan_next_fault();
    }

    fn plan_next_fault(&mut self) {
        if self.faults_left > 0 {
            let mean = self.plan.duration.as_nanos() as u64 / self.plan.faults.max(1) as u64;
            let at = self.now() + Duration::from_nanos(self.random.below(2 * mean + 1));
            self.queue.schedule(at, Event::Fault);
        }
    }

    pub(super) fn inject_next_fault(&mut self) {
        if self.faults_left == 0 {
            return;
        }
        self.faults_left -= 1;
        let place = self.random.below(self.plan.fault_menu.len() as u64) as usize;
        let fault = self.plan.fault_menu[place];
        let lasts = self.fault_length();
        self.inject(fault, lasts);
        self.plan_next_fault();
    }

    /// Most faults are short against a detector's verdict, some are long.
    fn fault_length(&mut self) -> Duration {
        let us = match self.random.below(4) {
            0 => 50 + self.random.below(2_000),
            1 | 2 => 1_000 + self.random.below(30_000),
            _ => 10_000 + self.random.below(150_000),
        };
        Duration::from_micros(us)
    }

    /// Injects one fault, somewhere, for about so long.
    pub fn inject(&mut self, fault: Fault, lasts: Duration) {
        let now = self.now();
        let side = Side::BOTH[self.random.below(2) as usize];
        let leg = self.any_leg();
        let way = [None, Some(Side::A), Some(Side::B)][self.random.below(3) as usize];
        let percent = |random: &mut Random, low: u64, high: u64| {
            Ppm::percent((low + random.below(high - low + 1)) as u32)
        };
        self.journal.line(now, format_args!("fault {fault:?} on leg {leg}, {side:?}, {way:?} for {lasts:?}"));
        match fault {
            Fault::Loss => {
                let loss = percent(&mut self.random, 5, 50);
                self.lay_for(fault, leg, way, Overlay::Loss(loss), lasts);
            }
            Fault::Bursts => {
                let bad = Duration::from_micros(50 + self.random.below(2000));
                let bursts = Bursts { good: bad * 19, bad, loss: Ppm::ALL };
                self.lay_for(fault, leg, way, Overlay::Bursts(bursts), lasts);
            }
            Fault::Corruption => {
                let share = percent(&mut self.random, 1, 50);
                self.lay_for(fault, leg, way, Overlay::Corruption(share), lasts);
            }
            Fault::Duplication => {
                let share = percent(&mut self.random, 5, 100);
                self.lay_for(fault, leg, way, Overlay::Duplication(share), lasts);
            }
            Fault::Reordering => {
                let by = Duration::from_micros(1 + self.random.below(300));
                let share = percent(&mut self.random, 1, 50);
                self.lay_for(fault, leg, way, Overlay::Reordering(share, by), lasts);
            }
            Fault::DelaySpike => {
                let more = Duration::from_micros(10 + self.random.below(10_000));
                self.lay_for(fault, leg, way, Overlay::Delay(more), lasts);
            }
            Fault::OneWayDeath => self.lay_for(fault, leg, Some(side), Overlay::Dead, lasts),
            Fault::LegDeath => self.lay_for(fault, leg, None, Overlay::Dead, lasts),
            Fault::RelayDeath => self.lay_for(fault, RELAY_LEG, None, Overlay::Dead, lasts),
            Fault::ShrunkPath => {
                let len = 300 + self.random.below(900) as usize;
                self.lay_for(fault, leg, None, Overlay::LenMax(len), lasts);
            }
            Fault::BlackHole => {
                let more = self.plan.packet_len_max(leg).saturating_sub(PACKET_LEN_BASE);
                let len = PACKET_LEN_BASE + self.random.below(more as u64 + 1) as usize;
                self.lay_for(fault, leg, way, Overlay::LenMax(len), lasts);
            }
            Fault::AllLegsDeath | Fault::Partition => {
                self.count_fault_at_both(fault);
                let all: Vec<_> = self.network.legs().map(|l| l.id).collect();
                let dies = |leg: &u8| fault == Fault::Partition || *leg < RELAY_LEG;
                for leg in all.into_iter().filter(dies) {
                    self.lay_until(leg, None, Overlay::Dead, now + lasts);
                }
            }
            Fault::Flapping => {
                self.count_fault_at_both(fault);
                self.queue.schedule(now, Event::Flap { leg, laid: None, until: now + lasts * 3 });
            }
            Fault::CrossedFabrics => self.cross_fabrics(lasts),
            Fault::LegRemoved => self.remove_leg(side, leg, lasts),
            Fault::ClockSkew => self.skew(side),
            Fault::LateTimers => self.delay_timers(side, lasts),
            Fault::Pause => {
                let lasts = lasts.clamp(Duration::from_millis(1), Duration::from_millis(200));
                self.pause(side, lasts);
            }
            Fault::Crash => self.crash(side, lasts.max(Duration::from_millis(1))),
            Fault::SlowConsumer => self.slow_consumer(side, Duration::from_millis(1), lasts),
            Fault::Withheld => self.withhold(side, lasts),
        }
    }

    fn any_leg(&mut self) -> u8 {
        let direct: Vec<_> = self.network.legs().filter(|l| !l.is_relay()).map(|l| l.id).collect();
        direct[self.random.below(direct.len() as u64) as usize]
    }

    fn lay_for(&mut self, fault: Fault, leg: u8, way: Option<Side>, overlay: Overlay, lasts: Duration) {
        match way {
            Some(side) => self.count_fault(fault, side),
            None => self.count_fault_at_both(fault),
        }
        self.lay_until(leg, way, overlay, self.now() + lasts);
    }

    // --- one by one, for scripts too ----------------------------------------------------------------------------

    /// Lays a fault over a leg (over the direction that `from` sends on, or both) until `until`.
    pub fn lay_until(&mut self, leg: u8, from: Option<Side>, overlay: Overlay, until: Instant) {
        let id = self.lay(leg, from, overlay);
        self.queue.schedule(until, Event::Relief(Relief::Lift(id)));
    }

    /// Lays a fault over a leg until it is lifted.
    pub fn lay(&mut self, leg: u8, from: Option<Side>, overlay: Overlay) -> OverlayId {
        let id = self.network.lay(leg, from, overlay);
        self.note_conditions();
        id
    }

    /// Takes a fault away.
    pub fn lift(&mut self, id: OverlayId) {
        self.network.lift(id);
        self.note_conditions();
    }

    /// A script makes long packets vanish.
    pub fn count_black_hole(&mut self, way: Option<Side>) {
        match way {
            Some(side) => self.count_fault(Fault::BlackHole, side),
            None => self.count_fault_at_both(Fault::BlackHole),
        }
    }

    /// Exchanges the cables of fabrics 0 and 1.
    pub fn cross_fabrics(&mut self, lasts: Duration) {
        self.count_fault_at_both(Fault::CrossedFabrics);
        self.network.is_crossed = true;
        self.note_conditions();
        self.queue.schedule(self.now() + lasts, Event::Relief(Relief::Uncross));
    }

    /// The host of `side` takes a leg away: its socket is closed.
    pub fn remove_leg(&mut self, side: Side, leg: u8, lasts: Duration) {
        self.count_fault(Fault::LegRemoved, side);
        let local = self.local(side);
        let Some(transport) = &mut self.ends[side.index()].transport else { return };
        transport.leg_down(local, super::super::packet_leg(leg));
        let overlay = self.lay(leg, None, Overlay::Dead);
        self.removed.push((side, leg));
        self.wake(side, self.now());
        self.queue.schedule(self.now() + lasts, Event::Relief(Relief::LegBack { side, leg, overlay }));
    }

    /// The clock of `side` runs at another rate from now on, up to 500 ppm off.
    pub fn skew(&mut self, side: Side) {
        self.count_fault(Fault::ClockSkew, side);
        let (now, ppm) = (self.now(), self.random.below(1001) as i32 - 500);
        self.ends[side.index()].clock.set_rate(now, ppm);
    }

    /// Timers of `side` come up to 3 ms late.
    pub fn delay_timers(&mut self, side: Side, lasts: Duration) {
        self.count_fault(Fault::LateTimers, side);
        self.ends[side.index()].timers_late = TIMERS_LATE;
        self.excuse(side, self.now() + lasts);
        self.note_conditions();
        self.queue.schedule(self.now() + lasts, Event::Relief(Relief::TimersOnTime(side)));
    }

    /// The process of `side` does not run for a while; its socket goes on filling.
    pub fn pause(&mut self, side: Side, lasts: Duration) {
        self.count_fault(Fault::Pause, side);
        let until = self.now() + lasts;
        let end = &mut self.ends[side.index()];
        if !end.runs() {
            return;
        }
        end.paused_until = Some(until);
        end.next_run = None;
        self.excuse(side, until);
        self.note_conditions();
        self.queue.schedule(until, Event::Resume { side, until });
    }

    /// An end runs late until `until`.
    fn excuse(&mut self, side: Side, until: Instant) {
        let end = &mut self.ends[side.index()];
        end.excused_until = end.excused_until.max(until + TIMERS_LATE + SHIFT_MAX);
    }

    /// Who takes messages at `side` needs `pause` for each.
    pub fn slow_consumer(&mut self, side: Side, pause: Duration, lasts: Duration) {
        self.count_fault(Fault::SlowConsumer, side);
        self.ends[side.index()].consumer.pause = Some(pause);
        self.note_conditions();
        self.queue.schedule(self.now() + lasts, Event::Relief(Relief::ConsumerQuick(side)));
    }

    /// Nothing that `side` delivers counts as settled.
    pub fn withhold(&mut self, side: Side, lasts: Duration) {
        self.count_fault(Fault::Withheld, side);
        self.ends[side.index()].settles = false;
        self.note_conditions();
        self.queue.schedule(self.now() + lasts, Event::Relief(Relief::Settles(side)));
    }

    pub(super) fn flap(&mut self, leg: u8, laid: Option<OverlayId>, until: Instant) {
        if let Some(id) = laid {
            self.lift(id);
        }
        let now = self.now();
        if now >= until || !self.sources_on {
            return;
        }
        let laid = if laid.is_none() { Some(self.lay(leg, None, Overlay::Dead)) } else { None };
        let next = now + Duration::from_micros(100 + self.random.below(8_000));
        self.queue.schedule(next, Event::Flap { leg, laid, until });
    }

    /// A leg dies and comes back, again and again.
    pub fn start_flapping(&mut self, leg: u8, lasts: Duration) {
        self.count_fault_at_both(Fault::Flapping);
        let now = self.now();
        self.queue.schedule(now, Event::Flap { leg, laid: None, until: now + lasts });
    }

    // --- relief -----------------------------------------------------------------------------------------------

    pub(super) fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Lift(id) => self.network.lift(id),
            Relief::Uncross => self.network.is_crossed = false,
            Relief::TimersOnTime(side) => self.ends[side.index()].timers_late = Duration::ZERO,
            Relief::ConsumerQuick(side) => self.quicken(side),
            Relief::Settles(side) => {
                self.ends[side.index()].settles = true;
                self.wake(side, self.now());
            }
            Relief::LegBack { side, leg, overlay } => {
                self.network.lift(overlay);
                self.give_leg_back(side, leg);
            }
        }
        self.note_conditions();
    }

    fn give_leg_back(&mut self, side: Side, leg: u8) {
        let Some(place) = self.removed.iter().position(|r| *r == (side, leg)) else { return };
        self.removed.swap_remove(place);
        // Taken away twice, it comes back with the second relief.
        if !self.removed.contains(&(side, leg)) {
            self.leg_up(side, leg);
            self.wake(side, self.now());
        }
    }

    fn quicken(&mut self, side: Side) {
        let end = &mut self.ends[side.index()];
        end.consumer.pause = None;
        if let Some(transport) = &mut end.transport {
            end.consumer.kept.drain(..).for_each(|buffer| transport.recycle(buffer));
        }
        self.wake(side, self.now());
    }

    /// Nothing goes wrong any more; a process that is paused or dead comes back by itself.
    pub(super) fn heal_everything(&mut self) {
        self.network.heal();
        for side in Side::BOTH {
            self.ends[side.index()].timers_late = Duration::ZERO;
            self.ends[side.index()].settles = true;
            self.quicken(side);
        }
        for (side, leg) in std::mem::take(&mut self.removed) {
            self.leg_up(side, leg);
        }
        self.note_conditions();
    }
}

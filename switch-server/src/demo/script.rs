//! What the demo does, in order: traffic, then one thing after another is killed or cut, and comes back.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use platform::management::{Rvi, RviDrill};
use platform::{Management, Platform};

use super::ledger::{Apart, FlowTally, Tally, has_arrived_since, tally};
use super::management_client::ManagementClient;
use super::screen::{self, Row, Screen};
use super::traffic::{Tenant, Traffic};
use crate::failure::{Doing, Failure};
use crate::lab::process::describe;
use crate::lab::{Lab, LabEvent};

/// The whole demo ends within this (DESIGN, section 6: within 45 s).
const TIME_MAX: Duration = Duration::from_secs(43);
/// Longest wait for one condition.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How long each state is held for people to see.
const HOLD: Duration = Duration::from_secs(2);
/// How long the control node stays dead.
const DEAD_CONTROL_NODE: Duration = Duration::from_secs(4);
/// How often conditions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Datagrams sent this long before a kill may still have been on their way through the killed process.
const ON_THE_WAY_US: u32 = 100_000;
/// Datagrams sent this long after a dead node's flows have resumed are expected to arrive again.
const RESUMED_US: u32 = 100_000;
/// How long is waited for what is on its way when sending has ended.
const DRAIN: Duration = Duration::from_millis(700);

/// A running demo.
pub struct Script {
    lab: Lab,
    client: ManagementClient,
    names: Vec<String>,
    addresses: Vec<[IpAddr; 2]>,
    fabric: String,
    traffic: Option<Traffic>,
    apart: Vec<Apart>,
    screen: Screen,
    start: Instant,
    killed: Vec<String>,
    sending_since: Option<Instant>,
    interrupted: bool,
}

impl Script {
    /// A demo on a lab that has been started.
    ///
    /// # Panics
    ///
    /// When the built-in platform is not as this script needs it: a management socket, and two addresses for
    /// each node.
    #[must_use]
    pub fn new(lab: Lab, platform: &Platform) -> Self {
        let Management::Unix(socket) = &platform.control_nodes[0].management else {
            panic!("the demo's control node has a management socket");
        };
        let addresses = platform.nodes.iter().map(|node| {
            let (_, member) =
                platform.memberships(node.number).next().expect("each node is on the demo's LAN");
            [member.addresses[0].address, member.addresses[1].address]
        });
        let start = Instant::now();
        Self {
            lab,
            client: ManagementClient::new(socket),
            names: platform.nodes.iter().map(|node| node.name.clone()).collect(),
            addresses: addresses.collect(),
            fabric: platform.fabrics[0].name.clone(),
            traffic: None,
            apart: Vec::new(),
            screen: Screen::new(start),
            start,
            killed: Vec::new(),
            sending_since: None,
            interrupted: false,
        }
    }

    /// Plays all of it and says the result.
    ///
    /// # Errors
    ///
    /// When something does not come back in time, or the result is not clean.
    pub fn play(&mut self) -> Result<(), Failure> {
        self.begin()?;
        self.kill_control_node()?;
        self.cut_leg()?;
        self.cut_rvi()?;
        self.kill_node(2)?;
        self.finish()
    }

    /// True when somebody asked the demo to end before it was over.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Ends every process and removes what the lab made.
    pub fn stop(mut self) {
        self.traffic = None;
        self.lab.stop();
    }

    // --- the acts -------------------------------------------------------------------------------------------

    fn begin(&mut self) -> Result<(), Failure> {
        self.say("starting");
        let names = self.names.clone();
        self.wait("every node to be ready", |script| names.iter().all(|name| script.lab.is_ready(name)))?;
        self.say("every node is ready; sending numbered datagrams between all pairs, IPv4 and IPv6");
        let tenants = self.names.iter().zip(&self.addresses).map(|(name, &addresses)| {
            let namespace = self.lab.namespace(name).as_ref().map(BorrowedFd::try_clone_to_owned);
            let namespace = namespace.transpose()?.ok_or(std::io::ErrorKind::NotFound)?;
            Ok(Tenant { namespace, addresses })
        });
        let tenants = tenants.collect::<std::io::Result<Vec<_>>>().doing("cannot find a node's namespace")?;
        self.traffic = Some(Traffic::start(tenants, self.start).doing("cannot send in a node's namespace")?);
        self.sending_since = Some(Instant::now());
        self.wait_all_direct("every pair to have a direct connection")?;
        self.say("every pair has a direct connection through both fabrics");
        self.hold(HOLD)
    }

    fn kill_control_node(&mut self) -> Result<(), Failure> {
        let direct_pairs = self.direct_pairs();
        self.begin_apart(None, direct_pairs);
        self.kill("cn-a");
        self.say("killed the control node (SIGKILL); direct traffic must not notice");
        self.hold(DEAD_CONTROL_NODE)?;
        self.start_again("cn-a")?;
        self.wait("the control node to be ready", |script| script.lab.is_ready("cn-a"))?;
        let nodes = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.wait("every node to attach again", |script| {
            script.client.status().is_ok_and(|status| status.nodes_attached == nodes)
        })?;
        self.end_apart();
        self.wait_all_direct("the control node to know every direct connection")?;
        self.say("the control node is back; every node attached again by itself");
        self.hold(HOLD)
    }

    fn cut_leg(&mut self) -> Result<(), Failure> {
        let drill = RviDrill { fabric: Some(self.fabric.clone()), ..self.first_pair() };
        self.client.cut(&drill).doing("cannot cut a leg")?;
        self.say(&format!("cut the leg of {} and {} through fabric {}", drill.a, drill.b, self.fabric));
        self.hold(HOLD)?;
        self.client.heal(&drill).doing("cannot heal a leg")?;
        self.wait_all_direct("the leg to come back")?;
        self.say("the leg is back");
        self.hold(HOLD / 2)
    }

    fn cut_rvi(&mut self) -> Result<(), Failure> {
        let drill = self.first_pair();
        self.client.cut(&drill).doing("cannot cut a direct connection")?;
        self.say(&format!(
            "cut the whole direct connection of {} and {}; the control node relays",
            drill.a, drill.b
        ));
        self.hold(HOLD)?;
        self.client.heal(&drill).doing("cannot heal a direct connection")?;
        self.wait_all_direct("the direct connection to come back")?;
        self.say("the pair is direct again");
        self.hold(HOLD / 2)
    }

    fn kill_node(&mut self, place: usize) -> Result<(), Failure> {
        let name = self.names[place].clone();
        self.begin_apart(Some(place), Vec::new());
        self.kill(&name);
        self.say(&format!("killed {name} (SIGKILL); the others must not notice"));
        self.hold(HOLD)?;
        self.start_again(&name)?;
        self.wait("the node to be ready", |script| script.lab.is_ready(&name))?;
        let since_us = self.now_us();
        self.wait("its traffic to flow again", |script| script.has_resumed(place, since_us))?;
        self.end_apart();
        self.wait_all_direct("its direct connections")?;
        self.say(&format!("{name} is back under the same addresses"));
        self.hold(HOLD)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Some(traffic) = &mut self.traffic {
            traffic.stop_sending();
        }
        let sending = self.sending_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.hold(DRAIN)?;
        if let Some(traffic) = &mut self.traffic {
            traffic.stop_receiving();
        }
        let rows = self.rows();
        let mut all = FlowTally::default();
        rows.iter().for_each(|row| {
            all.living += row.tally.living;
            all.apart += row.tally.apart;
        });
        let drops = self.traffic.as_ref().map_or(0, Traffic::socket_drops);
        self.screen.finish(&rows, sending, &summary(&all, drops, &self.killed, self.start.elapsed()));
        if all.living.is_clean() {
            return Ok(());
        }
        let failure = Failure::runtime("frames between living nodes were lost, duplicated or reordered");
        Err(match drops {
            0 => failure,
            drops => failure.hint(format_args!(
                "{drops} datagrams found a receiving program's buffer full: this machine is too busy, or \
                 `sysctl net.core.rmem_max` is small"
            )),
        })
    }

    // --- conditions -----------------------------------------------------------------------------------------

    /// True when every flow of the node has carried something that was sent since then.
    fn has_resumed(&self, place: usize, since_us: u32) -> bool {
        let traffic = self.traffic.iter();
        let mut mine = traffic.flat_map(Traffic::flows).filter(|flow| flow.from == place || flow.to == place);
        mine.all(|flow| has_arrived_since(&flow, since_us))
    }

    /// Pairs that go direct now, by place, lower first.
    fn direct_pairs(&self) -> Vec<(usize, usize)> {
        let rvis = self.client.rvis().unwrap_or_default();
        rvis.iter().filter(|rvi| rvi.state == "up").filter_map(|rvi| self.places(rvi)).collect()
    }

    fn places(&self, rvi: &Rvi) -> Option<(usize, usize)> {
        let place = |node: &str| self.names.iter().position(|name| name == node);
        let (a, b) = (place(&rvi.a.node)?, place(&rvi.b.node)?);
        Some((a.min(b), a.max(b)))
    }

    fn wait_all_direct(&mut self, what: &str) -> Result<(), Failure> {
        let pairs = self.names.len() * (self.names.len() - 1) / 2;
        self.wait(what, |script| {
            let rvis = script.client.rvis().unwrap_or_default();
            let whole = |rvi: &&Rvi| rvi.state == "up" && rvi.legs.iter().all(|leg| leg.state == "up");
            rvis.iter().filter(whole).count() == pairs
        })
    }

    // --- acting and waiting ---------------------------------------------------------------------------------

    fn kill(&mut self, name: &str) {
        self.lab.kill(name);
        self.killed.push(name.to_owned());
    }

    fn start_again(&mut self, name: &str) -> Result<(), Failure> {
        self.lab.start_again(name, Instant::now()).map(drop).doing(format_args!("cannot start {name} again"))
    }

    fn first_pair(&self) -> RviDrill {
        RviDrill { a: self.names[0].clone(), b: self.names[1].clone(), fabric: None }
    }

    fn begin_apart(&mut self, node: Option<usize>, direct_pairs: Vec<(usize, usize)>) {
        let from_us = self.now_us().saturating_sub(ON_THE_WAY_US);
        self.apart.push(Apart { node, direct_pairs, from_us, to_us: None });
    }

    fn end_apart(&mut self) {
        let now_us = self.now_us();
        if let Some(last) = self.apart.last_mut() {
            last.to_us = Some(now_us + RESUMED_US);
        }
    }

    fn now_us(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    fn say(&mut self, what: &str) {
        self.screen.say(Instant::now(), what);
    }

    /// Goes on for `time`.
    fn hold(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()).min(LOOK_EVERY))?;
        }
        Ok(())
    }

    /// Goes on until `is_so`.
    fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let end = (Instant::now() + WAIT_MAX).min(self.start + TIME_MAX);
        while !is_so(self) {
            if Instant::now() >= end {
                return Err(Failure::runtime(format_args!("waited in vain for {what}")));
            }
            self.turn(LOOK_EVERY)?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.lab.turn(timeout)?;
        while let Some(event) = self.lab.poll_event() {
            self.handle_event(event)?;
        }
        let now = Instant::now();
        if self.traffic.is_some() && self.screen.is_due(now) {
            let rows = self.rows();
            self.screen.show(now, &rows);
        }
        Ok(())
    }

    fn handle_event(&mut self, event: LabEvent) -> Result<(), Failure> {
        match event {
            LabEvent::Interrupted => {
                self.interrupted = true;
                Err(Failure::runtime("interrupted").hint("nothing is left behind"))
            }
            LabEvent::NotStarted { name, error } => {
                Err(Failure::runtime(format_args!("{name} could not be started: {error}")))
            }
            LabEvent::Ended { name, ended } if !self.killed.contains(&name) => {
                Err(Failure::runtime(format_args!("{name} {}", describe(ended.status))))
            }
            LabEvent::Ended { .. }
            | LabEvent::Started { .. }
            | LabEvent::Ready { .. }
            | LabEvent::Fabric { .. }
            | LabEvent::HostReady { .. }
            | LabEvent::AddressTaken { .. }
            | LabEvent::AllReady => Ok(()),
        }
    }

    fn rows(&self) -> Vec<Row> {
        let Some(traffic) = &self.traffic else { return Vec::new() };
        let now_us = traffic.now_us();
        let row = |flow| screen::row(&self.names, &flow, tally(&flow, &self.apart, now_us));
        traffic.flows().map(row).collect()
    }
}

/// The last words.
fn summary(all: &FlowTally, socket_drops: u64, killed: &[String], took: Duration) -> String {
    let verdict = if all.living.is_clean() { "clean" } else { "NOT clean" };
    let Tally { sent, received, lost, duplicated, reordered } = all.living;
    let apart = all.apart;
    let mut text = format!(
        "\nRESULT: {verdict}\n  between living nodes: {sent} datagrams sent, {received} received, \
         {lost} lost, {duplicated} duplicated, {reordered} reordered\n  counted apart (to or from a dead node, \
         or relayed while no control node lived): {} sent, {} lost\n",
        apart.sent, apart.lost
    );
    if socket_drops > 0 {
        text.push_str(&format!("  {socket_drops} datagrams found a receiving program's buffer full\n"));
    }
    text.push_str(&format!("  killed under load: {}; took {:.1} s\n", killed.join(", "), took.as_secs_f64()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_clean_only_when_living_nodes_lost_nothing() {
        let clean = Tally { sent: 5, received: 5, ..Tally::default() };
        let apart = Tally { sent: 3, lost: 3, ..Tally::default() };
        let text = summary(&FlowTally { living: clean, apart }, 0, &["cn-a".into()], Duration::from_secs(1));
        assert!(text.contains("RESULT: clean\n"), "{text}");
        let lossy = Tally { lost: 1, ..clean };
        let text = summary(&FlowTally { living: lossy, apart }, 2, &[], Duration::from_secs(1));
        assert!(text.contains("RESULT: NOT clean\n") && text.contains("buffer full"), "{text}");
    }
}

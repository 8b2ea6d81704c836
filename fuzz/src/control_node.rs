//! Three nodes that do as they like, against a control node: registrations and control messages of their
//! choice, frames right and wrong, legs that come and go at any time.
//!
//! With uplinks, outside does as it likes too.
//!
//! Checked: no panic, the ledger of each LAN closes, what a node is sent is right and of its own LANs only, a pair is granted a direct
//! RVI only on a LAN that both are on, and a filtered LAN shows no MAC of a member outside.

mod frames;
mod life;
mod outside;
mod platform;
mod player;
mod seeds;
mod taken;
mod words;

pub use seeds::seeds;

use rvi::{Part, ShmConfig};
use switch_server::control_node::{ControlNode, PortSecurity};
use vlan_core::{Channel, Instant, LanId, LegNumber, NodeNumber};

use crate::script::Script;
use platform::config;
use player::Player;
use words::control_message;

const CONFIG: ShmConfig = ShmConfig { slots_log2: 4, arena_len: 256 * 1024 };
/// On this LAN is every node with its interface 1.
const RED: LanId = LanId(10);
/// On this LAN are nodes 1 and 2 with their interface 2.
const BLUE: LanId = LanId(11);
/// Node 4 is known but a member of nothing.
const NODES: u8 = 4;
/// Fabrics, so legs of a node.
const LEGS: u8 = 2;
const OUTPUTS_MAX: usize = 10_000;

struct Run {
    control_node: ControlNode,
    players: Vec<Player>,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    let mut run = start(options);
    while let Some(()) = run.step(&mut script) {
        run.drain_outputs();
        run.goes_out();
        run.check();
    }
    run.finish();
}

fn start(options: u8) -> Run {
    let port_security = if options & 1 == 0 { PortSecurity::Mac } else { PortSecurity::Off };
    let control_node = ControlNode::new(config(port_security, options & 4 != 0));
    let players = (1..=NODES).map(|number| Player::new(NodeNumber(number.into()))).collect();
    let mut run = Run { control_node, players, now: Instant::from_nanos(1) };
    if options & 2 != 0 {
        for player in 0..usize::from(NODES) {
            run.leg_up(player, LegNumber(0));
            run.register(player);
        }
        run.control_node.pump(run.now, 100);
    }
    run
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let operation = script.below(23)?;
        let player = usize::from(script.below(NODES)?);
        match operation {
            0 => self.leg_up(player, LegNumber(script.below(LEGS)?)),
            1 => self.register(player),
            2 => self.leave(script, player)?,
            3 => self.restart(script, player)?,
            4 | 5 => {
                self.control_node.pump(self.now, usize::from(script.octet()?));
            }
            6 | 7 => self.take(player),
            8 | 9 => self.frame(script, player)?,
            10 => self.arp(script, player)?,
            11 => {
                let message = control_message(script, self.players[player].number)?;
                self.players[player].control(self.now, &message);
            }
            12 => {
                let octets = script.block()?;
                let _ = self.players[player].association.send_control(self.now, octets);
            }
            13 => {
                let channel = Channel(script.below(5)?);
                let octets = script.block()?;
                let part = [Part::Private(octets)];
                let association = &mut self.players[player].association;
                if channel != Channel::CONTROL {
                    let _ = association.send(self.now, channel, 0, 0, &part);
                } else if self.relay(&mut Script::new(octets), player).is_none() {
                    // Too short to say what packet it is to be: it is one itself.
                    let association = &mut self.players[player].association;
                    association.offer(self.now, Channel::RELAYED_PACKETS, 0, &part);
                }
            }
            14 => self.barrier(script, player)?,
            15 => self.command(script)?,
            16 => {
                script.advance(&mut self.now)?;
                self.control_node.handle_timeout(self.now);
            }
            17 => {
                // Long enough for heartbeats and for revocations to time out.
                self.now = self.now + core::time::Duration::from_millis(u64::from(script.octet()?) * 40);
                self.control_node.handle_timeout(self.now);
                self.players[player].association.handle_timeout(self.now);
            }
            18 => {
                if self.control_node.prepare_sleep() {
                    self.control_node.wake();
                }
                while self.control_node.poll_doorbell().is_some() {}
            }
            20 => self.comes_in(script)?,
            21 => self.device(script)?,
            22 => self.give_back(script, player)?,
            _ => {
                self.players[player].association.publish();
                while self.players[player].association.poll_doorbell().is_some() {}
            }
        }
        Some(())
    }

    fn drain_outputs(&mut self) {
        for count in 0.. {
            assert!(count < OUTPUTS_MAX, "outputs without end");
            if self.control_node.poll_output().is_none() {
                break;
            }
        }
    }

    fn check(&self) {
        for lan in self.control_node.status().lans {
            assert!(lan.ledger.closes(lan.drops.total()), "LAN {}: {:?} {:?}", lan.id, lan.ledger, lan.drops);
        }
    }

    /// Every leg hangs up: nobody is attached any more, and nothing is bound.
    fn finish(mut self) {
        for player in 0..self.players.len() {
            self.hang_up(player);
        }
        self.control_node.pump(self.now, usize::MAX);
        self.check();
        let status = self.control_node.status();
        for player in &self.players {
            let attached = status.nodes.iter().find(|n| n.number == player.number).and_then(|n| n.process);
            assert_ne!(attached, Some(player.process), "attached without a leg");
        }
    }
}

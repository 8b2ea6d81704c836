//! Legs and processes that come and go, registrations, and what the administrator commands.

use rvi::{Region, ShmLeg};
use switch_server::control_node::Command;
use vlan_core::wire::ControlMessage;
use vlan_core::wire::control::{Fault, FaultDirection, TLV_VERSION};
use vlan_core::{LegNumber, NodeNumber};

use super::player::Player;
use super::words::offered;
use super::{CONFIG, LEGS, Run};
use crate::script::Script;

impl Run {
    pub(super) fn leg_up(&mut self, player: usize, leg: LegNumber) {
        let who = &mut self.players[player];
        let regions = [Region::heap(CONFIG.region_len()), Region::heap(CONFIG.region_len())];
        regions.iter().for_each(|region| ShmLeg::format(region, &CONFIG));
        let [near, far] = regions;
        // A host sees the old leg of this number hang up first.
        if who.association.legs().any(|status| status.number == leg) {
            let _ = who.association.handle_leg_gone(self.now, leg);
            self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
            self.control_node.pump(self.now, usize::MAX);
        }
        let ends = (ShmLeg::new(near.clone(), far.clone()), ShmLeg::new(far, near));
        if let (Ok(ours), Ok(theirs)) = ends {
            let ask = |who: &Player| self.control_node.session_tag(who.number, who.process, who.session.0);
            let mut tag = ask(who);
            if tag.is_none_or(|tag| who.session.1.is_some_and(|joined| joined != tag.control_node)) {
                // The control node has given the session up.
                who.begin_session();
                tag = ask(who);
            }
            let tag = tag.expect("the player's latest session");
            who.session.1 = Some(tag.control_node);
            assert!(self.control_node.handle_leg_up(self.now, who.number, who.process, leg, tag, theirs));
            who.association.handle_leg_up(self.now, leg, ours);
        }
    }

    /// A leg goes, in order or not.
    pub(super) fn leave(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let leg = LegNumber(script.below(LEGS)?);
        let in_order = script.flag()?;
        let who = &mut self.players[player];
        if in_order {
            who.association.leave_leg(self.now, leg);
        }
        let _ = who.association.handle_leg_gone(self.now, leg);
        self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
        Some(())
    }

    /// Another process takes the node's place; the old one's legs hang up, or are left as they are.
    pub(super) fn restart(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let process = u64::from(script.octet()?) << 8 | player as u64;
        if script.flag()? {
            self.hang_up(player);
        }
        self.players[player].restart(process);
        Some(())
    }

    pub(super) fn command(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (a, b) = (NodeNumber(script.below(5)?.into()), NodeNumber(script.below(5)?.into()));
        let leg = script.flag()?.then_some(LegNumber(0));
        let command = match script.below(4)? {
            0 => Command::Cut { a, b, leg },
            1 => Command::Heal { a, b, leg },
            3 => {
                let fault = Fault::new(leg, FaultDirection::In, "loss=5%").expect("a short text");
                Command::Fault { node: (b.0 != 0).then_some(a), fault }
            }
            _ => Command::RequestReports { id: 1 },
        };
        self.control_node.handle_command(self.now, command);
        Some(())
    }

    pub(super) fn hang_up(&mut self, player: usize) {
        let who = &mut self.players[player];
        for leg in (0..LEGS).map(LegNumber) {
            let _ = who.association.handle_leg_gone(self.now, leg);
            self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
        }
    }

    pub(super) fn register(&mut self, player: usize) {
        let who = &mut self.players[player];
        let register = ControlMessage::Register {
            version: TLV_VERSION,
            node: who.number,
            process: who.process,
            interfaces: Vec::new(),
            direct: Vec::new(),
            associations: Vec::new(),
            legs: vec![offered(who.number.0 as u8, 0)],
        };
        who.control(self.now, &register);
        who.association.publish();
    }
}
